"""The kernel language: everything that generated kernel source may name.

A kernel is Python source `def kernel(t, lo, hi):` where `t` is the address of a table of 64-bit
words (pointers, sizes, strides, scalar bits). The same source runs compiled with Numba's rules
(`lowering`) and un-jitted in Python on the same addresses. Invariant: every name here
means the same in both, bit for bit; nothing checks bounds, the generator proves them.

    >>> import numpy as np
    >>> x, y = np.ones(3, "f4"), np.empty(3, "f4")
    >>> table = np.array([x.ctypes.data, y.ctypes.data], np.uintp)
    >>> source = '''def kernel(t, lo, hi):
    ...     x, y = ptr_f32(word(t, 0)), ptr_f32(word(t, 1))
    ...     for i in range(lo, hi):
    ...         store_f32(y, i, m.exp(load_f32(x, i)))'''
    >>> exec(source, namespace := kernel_namespace())
    >>> namespace["kernel"](table.ctypes.data, 0, 3)
    >>> y
    array([2.7182817, 2.7182817, 2.7182817], dtype=float32)
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types, typing
from numba.extending import lower_builtin, models, register_model, type_callable

from tracejit.codegen import mathlib
from tracejit.codegen.mathlib import core
from tracejit.codegen.mathlib.core import Scalar, Value
from tracejit.codegen.mathlib.define import KIND, NUMBA_TYPE, Kinds, math_function

I8, I64 = ir.IntType(8), ir.IntType(64)
# storage dtype name -> (kind of the loaded value, NumPy dtype in memory, LLVM type in memory)
STORAGE: dict[str, tuple[str, str, ir.Type]] = {
    "f64": ("f64", "f8", ir.DoubleType()), "f32": ("f32", "f4", ir.FloatType()),
    "f16": ("f32", "f2", ir.HalfType()), "i64": ("i64", "i8", I64),
    "i32": ("i32", "i4", ir.IntType(32)), "i16": ("i16", "i2", ir.IntType(16)),
    "i8": ("i8", "i1", I8), "u8": ("u8", "u1", I8), "b1": ("b1", "?", I8),
    "u16": ("u16", "u2", ir.IntType(16)), "u32": ("u32", "u4", ir.IntType(32)),
    "u64": ("u64", "u8", I64),
}  # fmt: skip
NAMES: dict[str, Any] = {}
TAKES_LITERALS: set[Any] = set()  # functions whose types depend on literal operands
SCOPES = 24  # kinds of memory told apart in one kernel


def _name(function: Any, name: str = "") -> Any:
    """Put a function into the language's namespace."""
    if name:
        function.__name__ = name
    NAMES[function.__name__] = function
    return function


# --- the table ---------------------------------------------------------------------------------


@_name
def word(t: int, k: int) -> np.int64:
    """Return the 64-bit word k of the table at address t."""
    return np.int64(ctypes.c_int64.from_address(int(t) + 8 * int(k)).value)


@_name
def fword(t: int, k: int) -> np.float64:
    """Return word k of the table at address t, its bits read as a float64."""
    return np.float64(ctypes.c_double.from_address(int(t) + 8 * int(k)).value)


@_name
def call_kernel(address: int, t: int, lo: int, hi: int) -> None:
    """Call the compiled kernel at `address` on table t for the range [lo, hi)."""
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_size_t, ctypes.c_int64, ctypes.c_int64)
    kernel(int(address))(int(t), int(lo), int(hi))


def _register_word(function: Callable[..., Any], result: Any, element: ir.Type) -> None:
    @type_callable(function)
    def typer(context: Any) -> Any:
        return lambda t, k: typing.signature(result, types.uintp, types.int64)

    @lower_builtin(function, types.uintp, types.int64)
    def lower(context: Any, b: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        base = b.inttoptr(args[0], element.as_pointer())
        load = b.load(b.gep(base, [args[1]], inbounds=True))
        # The table does not change while a kernel runs, so loads may move out of loops.
        load.set_metadata("invariant.load", b.module.add_metadata([]))
        return load


_register_word(word, types.int64, I64)
_register_word(fword, types.float64, ir.DoubleType())


@type_callable(call_kernel)
def _type_call_kernel(context: Any) -> Any:
    sig = typing.signature(types.none, types.uintp, types.uintp, types.int64, types.int64)
    return lambda address, t, lo, hi: sig


@lower_builtin(call_kernel, types.uintp, types.uintp, types.int64, types.int64)
def _lower_call_kernel(context: Any, b: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    fnty = ir.FunctionType(ir.VoidType(), [I64, I64, I64])
    b.call(b.inttoptr(args[0], fnty.as_pointer()), args[1:])
    return context.get_dummy_value()


# --- pointers ----------------------------------------------------------------------------------


class Pointer:
    """Python twin of a typed pointer: an address and the NumPy dtype of its elements."""

    __slots__ = ("address", "dtype")

    def __init__(self, address: int, dtype: str) -> None:
        self.address, self.dtype = int(address), np.dtype(dtype)

    def at(self, i: int) -> np.ndarray[Any, Any]:
        """Return element i as a writable 0-d array over the memory itself."""
        size = self.dtype.itemsize
        raw: Any = (ctypes.c_char * size).from_address(self.address + int(i) * size)
        return np.frombuffer(raw, self.dtype).reshape(())


class PointerType(types.Type):
    """Numba's type of a pointer to elements of one storage dtype.

    `scope` tells LLVM what may overlap: memory of different scopes does not, and scope 0 is only
    read. Without a scope (-1) nothing is promised.
    """

    def __init__(self, storage: str, scope: int = -1) -> None:
        self.storage = storage
        self.scope = scope
        super().__init__(name=f"ptr_{storage}" if scope < 0 else f"ptr_{storage}_{scope}")


register_model(PointerType)(models.OpaqueModel)


def _define_pointer(storage: str, pointer: PointerType) -> None:
    dtype = STORAGE[storage][1]

    def ptr(address: int, scope: int = -1) -> Pointer:
        return Pointer(address, dtype)

    ptr.__doc__ = (
        f"Return the pointer to {storage} elements at an address. Pointers of different "
        "scopes (literals) never overlap; those of scope 0 are only read."
    )
    _name(ptr, f"ptr_{storage}")
    TAKES_LITERALS.add(ptr)

    @type_callable(ptr)
    def typer(context: Any) -> Any:
        def typed(address: Any, scope: Any = None) -> Any:
            if scope is None:
                return typing.signature(pointer, types.uintp)
            if not isinstance(scope, types.IntegerLiteral):
                return None
            scoped = PointerType(storage, min(scope.literal_value, SCOPES - 1))
            return typing.signature(scoped, types.uintp, scope)

        return typed

    @lower_builtin(ptr, types.uintp)
    @lower_builtin(ptr, types.uintp, types.IntegerLiteral)
    def lower(context: Any, b: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return b.inttoptr(args[0], I8.as_pointer())


def set_scope(b: ir.IRBuilder, access: Any, scope: int) -> None:
    """Mark a load or store as one of its scope, of no other, and of no constant table."""
    own, others = _scope_lists(b.module, scope)
    if own is not None:
        access.set_metadata("alias.scope", own)
    access.set_metadata("noalias", others)


def _scope_lists(module: ir.Module, scope: int) -> tuple[Any, Any]:
    """The metadata of one scope and of all that are apart from it, made once a module."""
    made = module.__dict__.setdefault("tracejit_scopes", {})
    if scope not in made:
        own, others = None, list(core.table_scope(module).operands)
        if scope >= 0:
            domain = module.add_metadata(["tracejit.memory"])
            count = getattr(module, "tracejit_scope_count", SCOPES)
            scopes = [module.add_metadata([f"tracejit.{i}", domain]) for i in range(count)]
            own = module.add_metadata([scopes[scope]])
            others += scopes[:scope] + scopes[scope + 1 :]
        made[scope] = own, module.add_metadata(others)
    found: tuple[Any, Any] = made[scope]
    return found


def element_pointer(
    context: Any, b: ir.IRBuilder, kind: PointerType, pointer: ir.Value, index: ir.Value,
    memory: ir.Type,
) -> ir.Value:  # fmt: skip
    """The LLVM pointer to element `index`; a scoped one is in the target's address space."""
    space = context.address_space if kind.scope >= 0 else 0
    if space:
        pointer = b.addrspacecast(pointer, I8.as_pointer(space))
    return b.gep(b.bitcast(pointer, memory.as_pointer(space)), [index], inbounds=True)


def _define_load(storage: str) -> None:
    kind, _, memory = STORAGE[storage]
    loaded = core.NUMPY_TYPE[kind]

    def load(p: Pointer, i: int) -> Any:
        return p.at(i)[()].astype(loaded)

    load.__doc__ = f"Return element i of a {storage} pointer as {kind}."
    _name(load, f"load_{storage}")

    @type_callable(load)
    def typer(context: Any) -> Any:
        def typed(p: Any, i: Any) -> Any:
            if not _points_to(p, storage):
                return None
            return typing.signature(NUMBA_TYPE[kind], p, types.int64)

        return typed

    @lower_builtin(load, PointerType, types.int64)
    def lower(context: Any, b: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value = b.load(element_pointer(context, b, sig.args[0], args[0], args[1], memory))
        set_scope(b, value, sig.args[0].scope)
        if storage == "f16":
            return b.fpext(value, ir.FloatType())
        return b.icmp_unsigned("!=", value, I8(0)) if storage == "b1" else value


def _define_store(storage: str) -> None:
    kind, _, memory = STORAGE[storage]

    def store(p: Pointer, i: int, v: Any) -> None:
        with np.errstate(over="ignore"):  # a float above the half range rounds to inf
            p.at(i)[()] = np.asarray(v).astype(core.NUMPY_TYPE[kind]).astype(p.dtype)

    store.__doc__ = (
        f"Store v into element i of a {storage} pointer: floats round, integers wrap; "
        "float to integer or to bool needs an explicit cast."
    )
    _name(store, f"store_{storage}")

    @type_callable(store)
    def typer(context: Any) -> Any:
        def typed(p: Any, i: Any, v: Any) -> Any:
            if not _points_to(p, storage) or not _storable(v, kind):
                return None
            return typing.signature(types.none, p, types.int64, NUMBA_TYPE[kind])

        return typed

    @lower_builtin(store, PointerType, types.int64, NUMBA_TYPE[kind])
    def lower(context: Any, b: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value = args[2]
        if storage == "f16":
            value = b.fptrunc(value, memory)
        elif storage == "b1":
            value = b.zext(value, memory)
        place = element_pointer(context, b, sig.args[0], args[0], args[1], memory)
        stored = b.store(value, place)
        set_scope(b, stored, sig.args[0].scope)
        return context.get_dummy_value()


def _points_to(p: Any, storage: str) -> bool:
    return isinstance(p, PointerType) and p.storage == storage


def _storable(value: Any, kind: str) -> bool:
    source = KIND.get(types.unliteral(value), "")
    if core.is_float(kind):
        return source[:1] == "f"
    return source == kind if kind == "b1" else source[:1] in ("i", "u", "b")


for _storage in STORAGE:
    _pointer = PointerType(_storage)
    _define_pointer(_storage, _pointer)
    _define_load(_storage)
    _define_store(_storage)


# --- hints, without effect on values ------------------------------------------------------------


LINE = 64  # bytes


def _define_prefetch(storage: str) -> None:
    memory = STORAGE[storage][2]
    step = LINE // np.dtype(STORAGE[storage][1]).itemsize

    def prefetch(p: Pointer, i: int, count: int) -> None:
        """Python twin: nothing to do."""

    _name(prefetch, f"prefetch_{storage}")
    prefetch.__doc__ = (
        f"Ask for the cache lines of elements [i, i + count) of a {storage} "
        "pointer; they may lie outside its memory. `count` is a literal."
    )
    TAKES_LITERALS.add(prefetch)

    @type_callable(prefetch)
    def typer(context: Any) -> Any:
        def typed(p: Any, i: Any, count: Any) -> Any:
            if not _points_to(p, storage) or not isinstance(count, types.IntegerLiteral):
                return None
            return typing.signature(types.none, p, types.int64, count)

        return typed

    @lower_builtin(prefetch, PointerType, types.int64, types.IntegerLiteral)
    def lower(context: Any, b: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        word, byte, name = ir.IntType(32), I8.as_pointer(), "llvm.prefetch.p0i8"
        function = b.module.globals.get(name) or ir.Function(
            b.module, ir.FunctionType(ir.VoidType(), [byte, word, word, word]), name
        )
        start = b.bitcast(b.gep(b.bitcast(args[0], memory.as_pointer()), [args[1]]), byte)
        for line in range(-(-sig.args[2].literal_value // step)):
            b.call(function, [b.gep(start, [I64(LINE * line)]), word(0), word(3), word(1)])
        return context.get_dummy_value()


for _storage in STORAGE:
    _define_prefetch(_storage)


@_name
def interleave(count: int) -> None:
    """Last statement of an innermost loop: work on `count` vectors at a time."""


@type_callable(interleave)
def _type_interleave(context: Any) -> Any:
    return lambda count: typing.signature(types.none, types.int64)


@lower_builtin(interleave, types.int64)
def _lower_interleave(context: Any, b: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    b.block.interleave = args[0].constant  # `frontend` marks the branch that ends this block
    return context.get_dummy_value()


@_name
def masked_tail() -> None:
    """Last statement of an innermost loop over few elements: the last vector has a mask, where
    else what is left over would go one by one.
    """


@type_callable(masked_tail)
def _type_masked_tail(context: Any) -> Any:
    return lambda: typing.signature(types.none)


@lower_builtin(masked_tail)
def _lower_masked_tail(context: Any, b: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    b.block.masked_tail = True  # as above
    return context.get_dummy_value()


# --- casts -------------------------------------------------------------------------------------


def _cast(x: Scalar, kind: str) -> Scalar:
    """Cast as C and torch do; NaN and out-of-range floats give the lowest i32 or i64 as on x86."""
    source = core.kind_of(x)
    if kind == "b1":
        return x != 0
    if not core.is_float(source) or core.is_float(kind):
        return core.convert(x, kind)
    wide = kind if kind in ("i32", "i64") else "i64" if kind in ("u32", "u64") else "i32"
    limit = 2.0 ** (core.BITS[wide] - 1)
    inside = (x >= -limit) & (x < limit)
    if not isinstance(x, Value):  # NumPy warns on, and leaves open, what LLVM's select drops
        x = core.select(inside, x, 0.0)
        x = x.astype(core.NUMPY_TYPE[source])
    lowest = -(2 ** (core.BITS[wide] - 1))
    return core.convert(core.select(inside, core.convert(x, wide), lowest), kind)


def _define_cast(kind: str) -> None:
    def rule(kinds: Kinds) -> tuple[Kinds, str] | None:
        return (kinds, kind) if len(kinds) == 1 else None

    def body(x: Scalar) -> Scalar:
        return _cast(x, kind)

    body.__name__ = f"to_{kind}"
    body.__doc__ = (
        f"Cast to {kind}: floats truncate toward zero, integers wrap, to bool is != 0. "
        "NaN or a float outside i32 (i64 for 64-bit and u32) gives its lowest value."
    )
    _name(math_function(rule)(body))


for _kind in core.BITS:
    _define_cast(_kind)


def _round_f16_rule(kinds: Kinds) -> tuple[Kinds, str] | None:
    return (kinds if kinds == ("f64",) else ("f32",), "f32") if len(kinds) == 1 else None


@_name
@math_function(_round_f16_rule)
def round_f16(x: Scalar) -> Scalar:
    """Round a float to the nearest half (ties to even), as float32; overflow gives inf."""
    if isinstance(x, Value):
        single = x if x.kind == "f32" else _to_odd_f32(x)
        half = x.builder.fptrunc(single.ref, ir.HalfType())
        return Value(x.builder, x.builder.fpext(half, ir.FloatType()), "f32")
    return x.astype(np.float16).astype(np.float32)


def _to_odd_f32(x: Scalar) -> Scalar:
    """A float64 as float32, cut off and made odd where digits are lost: rounding that to half is
    rounding once (Boldo and Melquiond, "When double rounding is odd", 2005).
    """
    near = core.convert(x, "f32")
    back = core.convert(near, "f64")
    pattern = core.bits(near) - core.convert(core.fabs(back) > core.fabs(x), "i32")
    return core.unbits(pattern | core.convert(back != x, "i32"))


def _bit_cast(name: str, source: str, target: str) -> None:
    def rule(kinds: Kinds) -> tuple[Kinds, str] | None:
        return ((source,), target) if kinds == (source,) else None

    body: Callable[..., Any] = (lambda x: core.bits(x)) if target[0] == "i" else core.unbits
    function: Callable[[Scalar], Scalar] = lambda x: body(x)  # noqa: E731
    function.__name__ = name
    function.__doc__ = f"Reinterpret the bits of an {source} as {target}."
    _name(math_function(rule)(function))


_bit_cast("bits_f32", "f32", "i32")
_bit_cast("bits_f64", "f64", "i64")
_bit_cast("f32_from_bits", "i32", "f32")
_bit_cast("f64_from_bits", "i64", "f64")


def _select_rule(kinds: Kinds) -> tuple[Kinds, str] | None:
    if len(kinds) != 3:
        return None
    outcome = mathlib.define.common(kinds[1:])
    return None if outcome is None else (("b1", *outcome[0]), outcome[1])


@_name
@math_function(_select_rule)
def select(c: Scalar, a: Scalar, b: Scalar) -> Scalar:
    """Return a where c else b, without a branch."""
    return core.select(c, a, b)


def _define_fma(name: str, kind: str) -> None:
    def body(a: Scalar, b: Scalar, c: Scalar) -> Scalar:
        return core.fma(a, b, c)

    body.__name__ = name
    body.__doc__ = f"Return a*b + c rounded once, in {kind}."
    _name(math_function(lambda kinds: ((kind,) * 3, kind) if len(kinds) == 3 else None)(body))


_define_fma("fma32", "f32")
_define_fma("fma64", "f64")


def kernel_namespace() -> dict[str, Any]:
    """Return fresh globals of kernel source, compiled or run as Python (math library as `m`)."""
    return {**NAMES, "m": mathlib, "np": np, "__builtins__": {"range": range}}


from tracejit.codegen import lanes as _lanes  # noqa: E402, F401  (add their names to NAMES)
from tracejit.codegen import philox as _philox  # noqa: E402, F401
