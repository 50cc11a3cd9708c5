"""Scalar building blocks of the math library: one source, two meanings.

A math function is straight-line Python over abstract scalars. Run with NumPy scalars or arrays it
is the reference twin; run with `Value` operands it emits LLVM instructions. Invariant: both
meanings use the same IEEE operations in the same order, so they give the same bits. No branch may
depend on a value (use `select`), hence every function vectorises inside a loop.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from llvmlite import ir

Scalar = Any  # a NumPy scalar, a NumPy array or a Value
BITS = {"b1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64, "u8": 8, "u16": 16, "u32": 32,
        "u64": 64, "f32": 32, "f64": 64}  # fmt: skip
LLVM_TYPE: dict[str, ir.Type] = {
    name: {"f32": ir.FloatType(), "f64": ir.DoubleType()}.get(name, ir.IntType(bits))
    for name, bits in BITS.items()
}
NUMPY_TYPE = {
    name: np.dtype("bool" if name == "b1" else f"{name[0]}{bits // 8}")
    for name, bits in BITS.items()
}
DTYPE_NAME = {dtype: name for name, dtype in NUMPY_TYPE.items()}


def is_float(kind: str) -> bool:
    """Say whether `kind` names a floating type."""
    return kind[0] == "f"


class Value:
    """An LLVM value of a named kind ("f32", "i64", "b1", ...) and the builder that extends it.

    Operators emit instructions. Python numbers take the other operand's kind, as NumPy's weak
    scalars do. Mixed kinds are an error: convert explicitly.
    """

    __slots__ = ("builder", "kind", "ref")
    __array_ufunc__ = None  # NumPy scalars leave mixed arithmetic to this class

    def __init__(self, builder: ir.IRBuilder, ref: ir.Value, kind: str) -> None:
        self.builder, self.ref, self.kind = builder, ref, kind

    def like(self, other: Scalar) -> Value:
        """Turn a constant into a Value of this kind; check the kind of a Value."""
        if isinstance(other, Value):
            if other.kind != self.kind:
                raise TypeError(f"mixed kinds {self.kind} and {other.kind}")
            return other
        return constant(self.builder, other, self.kind)

    def _binary(self, other: Scalar, names: str, swap: bool = False) -> Value:
        a, b = (self.like(other), self) if swap else (self, self.like(other))
        float_op, signed_op, unsigned_op = names.split()
        name = (
            float_op if is_float(self.kind) else (signed_op if self.kind[0] == "i" else unsigned_op)
        )
        return Value(self.builder, getattr(self.builder, name)(a.ref, b.ref), self.kind)

    def __add__(self, other: Scalar) -> Value:
        return self._binary(other, "fadd add add")

    def __radd__(self, other: Scalar) -> Value:
        return self._binary(other, "fadd add add", swap=True)

    def __sub__(self, other: Scalar) -> Value:
        return self._binary(other, "fsub sub sub")

    def __rsub__(self, other: Scalar) -> Value:
        return self._binary(other, "fsub sub sub", swap=True)

    def __mul__(self, other: Scalar) -> Value:
        return self._binary(other, "fmul mul mul")

    def __rmul__(self, other: Scalar) -> Value:
        return self._binary(other, "fmul mul mul", swap=True)

    def __truediv__(self, other: Scalar) -> Value:
        return self._binary(other, "fdiv - -")

    def __rtruediv__(self, other: Scalar) -> Value:
        return self._binary(other, "fdiv - -", swap=True)

    def __and__(self, other: Scalar) -> Value:
        return self._binary(other, "- and_ and_")

    def __or__(self, other: Scalar) -> Value:
        return self._binary(other, "- or_ or_")

    def __xor__(self, other: Scalar) -> Value:
        return self._binary(other, "- xor xor")

    def __lshift__(self, other: Scalar) -> Value:
        return self._binary(other, "- shl shl")

    def __rshift__(self, other: Scalar) -> Value:
        return self._binary(other, "- ashr lshr")

    def __invert__(self) -> Value:
        return Value(self.builder, self.builder.not_(self.ref), self.kind)

    def __neg__(self) -> Value:
        if is_float(self.kind):
            return Value(self.builder, self.builder.fneg(self.ref), self.kind)
        return Value(self.builder, self.builder.neg(self.ref), self.kind)

    def _compare(self, other: Scalar, op: str) -> Value:
        b, rhs = self.builder, self.like(other).ref
        if is_float(self.kind):
            emit = b.fcmp_unordered if op == "!=" else b.fcmp_ordered
        else:
            emit = b.icmp_signed if self.kind[0] == "i" else b.icmp_unsigned
        return Value(b, emit(op, self.ref, rhs), "b1")

    def __lt__(self, other: Scalar) -> Value:
        return self._compare(other, "<")

    def __le__(self, other: Scalar) -> Value:
        return self._compare(other, "<=")

    def __gt__(self, other: Scalar) -> Value:
        return self._compare(other, ">")

    def __ge__(self, other: Scalar) -> Value:
        return self._compare(other, ">=")

    def __eq__(self, other: object) -> Value:  # type: ignore[override]
        return self._compare(other, "==")

    def __ne__(self, other: object) -> Value:  # type: ignore[override]
        return self._compare(other, "!=")

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise TypeError("a math function must not branch on a value; use select")


def constant(builder: ir.IRBuilder, number: Scalar, kind: str) -> Value:
    """Return the Value of a Python or NumPy number rounded to `kind`."""
    if is_float(kind):
        with np.errstate(over="ignore"):
            number = float(NUMPY_TYPE[kind].type(number))
    else:
        number = int(number)
    return Value(builder, ir.Constant(LLVM_TYPE[kind], number), kind)


def number(value: float, kind: str) -> Any:
    """Return a constant of `kind`, for places where no operand tells the kind."""
    return NUMPY_TYPE[kind].type(value)


def kind_of(x: Scalar) -> str:
    """Return the kind of a Value, NumPy scalar or NumPy array, e.g. "f32"."""
    return x.kind if isinstance(x, Value) else DTYPE_NAME[x.dtype]


def intrinsic(name: str, *args: Value, result: str | None = None) -> Value:
    """Call the LLVM intrinsic `name` overloaded on the first operand's type."""
    b, kind = args[0].builder, args[0].kind
    fnty = ir.FunctionType(LLVM_TYPE[kind], [LLVM_TYPE[a.kind] for a in args])
    fn = b.module.declare_intrinsic(name, [LLVM_TYPE[kind]], fnty=fnty)
    return Value(b, b.call(fn, [a.ref for a in args]), result or kind)


def fma(a: Scalar, b: Scalar, c: Scalar) -> Scalar:
    """Return a*b + c rounded once, for f32 or f64."""
    lead = next((v for v in (a, b, c) if isinstance(v, Value)), None)
    if lead is not None:
        return intrinsic("llvm.fma", lead.like(a), lead.like(b), lead.like(c))
    kind = next(kind_of(v) for v in (a, b, c) if hasattr(v, "dtype"))
    return _fma32(a, b, c) if kind == "f32" else _fma64(a, b, c)


def _fma32(a: Scalar, b: Scalar, c: Scalar) -> Scalar:
    """Exact product in f64, sum rounded to odd (Boldo & Melquiond), then to f32."""
    a, b, c = (
        np.float32(v).astype(np.float64) if np.ndim(v) == 0 else v.astype(np.float64)
        for v in (a, b, c)
    )
    p = a * b
    s = p + c
    t = s - p
    error = (p - (s - t)) + (c - t)
    word = np.asarray(s).view(np.int64)
    inexact = np.isfinite(s) & (error != 0) & ((word & 1) == 0)
    toward = np.where((error > 0) == (s > 0), 1, -1)
    odd = np.asarray(np.where(inexact, word + toward, word))
    return odd.view(np.float64).astype(np.float32)[()]


def _fma64_one(a: float, b: float, c: float) -> float:
    if np.isfinite(a) and np.isfinite(b) and not np.isfinite(c):
        return c
    if not (np.isfinite(a) and np.isfinite(b)):
        return float(np.float64(a) * np.float64(b) + np.float64(c))
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        return float(np.float64(a) * np.float64(b) + np.float64(c)) if a * b == 0 else 0.0
    try:
        return float(exact)
    except OverflowError:
        return float(np.copysign(np.inf, float(exact > 0) - 0.5))


def _fma64(a: Scalar, b: Scalar, c: Scalar) -> Scalar:
    """Exact rational arithmetic for single and extreme numbers, see `_fma64_tame` for arrays.

    A product with 0 is exact, and a sum of 0 to a product that neither over- nor underflows.
    """
    if max(np.ndim(a), np.ndim(b), np.ndim(c)) == 0:
        return np.float64(_fma64_one(float(a), float(b), float(c)))
    a, b, c = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in (a, b, c)))
    result = _fma64_tame(a, b, c)
    wild = np.zeros(result.shape, bool)
    for v, limit in ((a, 2.0**400), (b, 2.0**400), (c, 2.0**900)):
        size = np.abs(v)
        inside = (size < limit) & (size > 1 / limit)
        wild |= ~(inside if v is not c else inside | (c == 0))
    easy = (a == 0) | (b == 0) | ((c == 0) & ~wild)
    if easy.any():
        result[easy] = a[easy] * b[easy] + c[easy]
        wild &= ~easy
    if wild.any():
        result[wild] = [_fma64_one(*map(float, v)) for v in zip(a[wild], b[wild], c[wild])]
    return result


def _two_sum(x: Any, y: Any) -> tuple[Any, Any]:
    """The rounded sum and its error, exactly (Knuth)."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def _fma64_tame(a: Any, b: Any, c: Any) -> Any:
    """fma by error-free transformations, for operands far from overflow and underflow.

    Source: Boldo and Melquiond, "Emulation of FMA and correctly rounded sums" (2008): the error
    terms are added with rounding to odd; the product's halves are Dekker's.
    """
    halves = []
    for v in (a, b):
        spread = v * 134217729.0  # 2**27 + 1, Veltkamp's splitting
        high = spread - (spread - v)
        halves += [high, v - high]
    a_high, a_low, b_high, b_low = halves
    product = a * b
    rest = a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)
    upper, lower = _two_sum(c, rest)
    total, error = _two_sum(product, upper)
    tail, beyond = _two_sum(lower, error)
    word = np.asarray(tail).view(np.int64)
    inexact = (beyond != 0) & ((word & 1) == 0)
    odd = np.where(inexact, word + np.where((beyond > 0) == (tail > 0), 1, -1), word)
    return np.asarray(total + odd.view(np.float64))


def select(c: Scalar, a: Scalar, b: Scalar) -> Scalar:
    """Return a where c else b, evaluating both."""
    if isinstance(c, Value):
        kind = kind_of(a if hasattr(a, "kind") or hasattr(a, "dtype") else b)
        a, b = (v if isinstance(v, Value) else constant(c.builder, v, kind) for v in (a, b))
        return Value(c.builder, c.builder.select(c.ref, a.ref, a.like(b).ref), kind)
    chosen: Any = np.where(c, a, b)
    return chosen[()]


def _unary(name: str, twin: Callable[[Any], Any]) -> Callable[[Scalar], Scalar]:
    def call(x: Scalar) -> Scalar:
        return intrinsic(name, x) if isinstance(x, Value) else twin(x)

    call.__name__ = name.removeprefix("llvm.")
    call.__doc__ = f"Apply {name} to f32 or f64."
    return call


rint = _unary("llvm.roundeven", np.rint)
floor = _unary("llvm.floor", np.floor)
ceil = _unary("llvm.ceil", np.ceil)
trunc = _unary("llvm.trunc", np.trunc)
sqrt = _unary("llvm.sqrt", np.sqrt)
fabs = _unary("llvm.fabs", np.abs)


def copysign(x: Scalar, s: Scalar) -> Scalar:
    """Return |x| with the sign of s."""
    if isinstance(s, Value):
        return intrinsic("llvm.copysign", s.like(x), s)
    return np.copysign(type(s)(x) if np.ndim(s) == 0 else x, s)


def bits(x: Scalar) -> Scalar:
    """Reinterpret a float as the signed integer of its width."""
    kind = "i" + kind_of(x)[1:]
    if isinstance(x, Value):
        return Value(x.builder, x.builder.bitcast(x.ref, LLVM_TYPE[kind]), kind)
    return x.view(NUMPY_TYPE[kind])


def unbits(x: Scalar) -> Scalar:
    """Reinterpret a 32- or 64-bit integer as the float of its width."""
    kind = "f" + kind_of(x)[1:]
    if isinstance(x, Value):
        return Value(x.builder, x.builder.bitcast(x.ref, LLVM_TYPE[kind]), kind)
    return x.view(NUMPY_TYPE[kind])


def convert(x: Scalar, kind: str) -> Scalar:
    """Convert to `kind`; a float must be in range of an integer kind (see `language` for casts)."""
    if not isinstance(x, Value):
        return x.astype(NUMPY_TYPE[kind])
    source, b, to = x.kind, x.builder, LLVM_TYPE[kind]
    if source == kind:
        return x
    if is_float(source) and is_float(kind):
        ref = b.fpext(x.ref, to) if kind == "f64" else b.fptrunc(x.ref, to)
    elif is_float(source):
        ref = b.fptosi(x.ref, to) if kind[0] == "i" else b.fptoui(x.ref, to)
    elif is_float(kind):
        ref = b.sitofp(x.ref, to) if source[0] == "i" else b.uitofp(x.ref, to)
    elif kind == "b1":
        return x != 0
    elif BITS[kind] > BITS[source]:
        ref = b.sext(x.ref, to) if source[0] == "i" else b.zext(x.ref, to)
    else:
        ref = x.ref if BITS[kind] == BITS[source] else b.trunc(x.ref, to)
    return Value(b, ref, kind)


def poly(x: Scalar, *coefficients: float) -> Scalar:
    """Evaluate a polynomial by Horner's rule with fma, highest coefficient first."""
    result: Scalar = coefficients[0]
    for c in coefficients[1:]:
        result = fma(result, x, c)
    return result


def lookup(table: np.ndarray[Any, Any], index: Scalar) -> Scalar:
    """Return table[index] from a constant 1-d float64 array; index is an i64 in range."""
    if not isinstance(index, Value):
        return table[index]
    b, array = index.builder, ir.ArrayType(LLVM_TYPE["f64"], len(table))
    name = "tracejit.table." + hashlib.sha256(table.tobytes()).hexdigest()[:16]
    if name not in b.module.globals:
        constants = ir.GlobalVariable(b.module, array, name)
        constants.linkage, constants.global_constant = "internal", True
        constants.initializer = ir.Constant(array, [float(v) for v in table])
    place = b.gep(b.module.globals[name], [ir.IntType(64)(0), index.ref], inbounds=True)
    load = b.load(place)
    load.set_metadata("alias.scope", table_scope(b.module))
    return Value(b, load, "f64")


def table_scope(module: ir.Module) -> Any:
    """Return the alias scope of constant tables.

    Loads and stores marked `noalias` with it never touch a table, so that a lookup does not keep a
    loop from vectorising.
    """
    domain = module.add_metadata(["tracejit.memory"])
    return module.add_metadata([module.add_metadata(["tracejit.tables", domain])])


def through_f64(body: Callable[..., Scalar], *operands: Scalar) -> Scalar:
    """Compute an f32 function by a body in f64 and round its result to f32."""
    return convert(body(*(convert(x, "f64") for x in operands)), "f32")


def integer_divide(x: Scalar, y: Scalar) -> tuple[Scalar, Scalar]:
    """Return quotient and remainder truncated toward zero; y is not 0, x/y does not overflow."""
    signed = kind_of(x)[0] == "i"
    if isinstance(x, Value):
        b = x.builder
        quotient = (b.sdiv if signed else b.udiv)(x.ref, y.ref)
        return Value(b, quotient, x.kind), x - Value(b, quotient, x.kind) * y
    quotient = np.asarray(x // y)
    rest = np.asarray(x - quotient * y)
    up = (rest != 0) & ((rest < 0) != (x < 0)) if signed else np.zeros(rest.shape, bool)
    quotient = (quotient + up.astype(quotient.dtype))[()]
    return quotient, x - quotient * y


def iterate(
    goes_on: Callable[..., Scalar], step: Callable[..., tuple[Scalar, ...]], *state: Scalar
) -> tuple[Scalar, ...]:
    """Apply `step` to the state while `goes_on` holds; the one loop, and it does not vectorise."""
    if not any(isinstance(v, Value) for v in state):
        while np.any(active := goes_on(*state)):
            state = tuple(select(active, n, s) for n, s in zip(step(*state), state))
        return state
    b = state[0].builder
    before = b.block
    test, body, after = (b.append_basic_block(f"iterate.{part}") for part in ("", "body", "end"))
    b.branch(test)
    b.position_at_end(test)
    phis = [b.phi(v.ref.type) for v in state]
    current = [Value(b, phi, v.kind) for phi, v in zip(phis, state)]
    b.cbranch(goes_on(*current).ref, body, after)
    b.position_at_end(body)
    following = step(*current)
    for phi, first, later in zip(phis, state, following):
        phi.add_incoming(first.ref, before)
        phi.add_incoming(later.ref, b.block)
    b.branch(test)
    b.position_at_end(after)
    return tuple(current)
