"""What device kernels may name besides the kernel language: threads, lanes, vectors of elements.

`thread()`, `block()`, `threads()` and `blocks()` are CUDA's indices as 64-bit integers;
`swap_f32(v, k)` is the value of the lane whose number differs in the bits of `k`; `load4_f32(p, i)`
reads elements i..i+3 in one access (i a multiple of 4, the pointer aligned to it) and
`store4_f32(p, i, a, b, c, d)` writes them. These names have no plain Python meaning: one thread
knows nothing of the others. `codegen.simt` gives them theirs, for all threads at once.
Invariant: nothing here compares threads by time; a value that crosses threads does so by `swap`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from llvmlite import ir
from numba.core import types, typing
from numba.extending import lower_builtin, type_callable

from tracejit.codegen.language import (
    NAMES,
    STORAGE,
    PointerType,
    element_pointer,
    set_scope,
)
from tracejit.codegen.mathlib.core import BITS
from tracejit.codegen.mathlib.define import NUMBA_TYPE

WARP = 32
_I32, _I64 = ir.IntType(32), ir.IntType(64)
WIDTHS = (2, 4, 8)  # elements of a vector access; 16 bytes are the most
_REGISTERS = {"thread": "tid.x", "block": "ctaid.x", "threads": "ntid.x", "blocks": "nctaid.x"}


def _declare(name: str, doc: str) -> Callable[..., Any]:
    def function(*args: Any) -> NoReturn:
        raise RuntimeError(f"{name}() has a meaning in device kernels only")

    function.__name__ = name
    function.__doc__ = doc
    NAMES[name] = function
    return function


def _intrinsic(b: ir.IRBuilder, name: str, kind: ir.FunctionType) -> ir.Function:
    found = b.module.globals.get(name)
    return ir.Function(b.module, kind, name) if found is None else found


# --- threads -----------------------------------------------------------------------------------


def _define_register(name: str, register: str) -> None:
    function = _declare(name, f"CUDA's {register} as a 64-bit integer.")

    @type_callable(function)
    def typer(context: Any) -> Any:
        return lambda: typing.signature(types.int64)

    @lower_builtin(function)
    def lower(context: Any, b: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        kind = ir.FunctionType(_I32, [])
        value = b.call(_intrinsic(b, f"llvm.nvvm.read.ptx.sreg.{register}", kind), [])
        return b.zext(value, _I64)


for _name, _register in _REGISTERS.items():
    _define_register(_name, _register)


# --- lanes -------------------------------------------------------------------------------------


def _swap_word(b: ir.IRBuilder, word: ir.Value, mask: ir.Value) -> ir.Value:
    """The 32-bit word of the lane `mask` away; all lanes of the warp take part."""
    kind = ir.FunctionType(_I32, [_I32] * 4)
    swap = _intrinsic(b, "llvm.nvvm.shfl.sync.bfly.i32", kind)
    return b.call(swap, [_I32(-1), word, mask, _I32(WARP - 1)])


def _define_swap(kind: str) -> None:
    function = _declare(f"swap_{kind}", f"The {kind} of the lane whose number is ours xor k.")
    bits = BITS[kind]

    @type_callable(function)
    def typer(context: Any) -> Any:
        return lambda v, k: typing.signature(NUMBA_TYPE[kind], NUMBA_TYPE[kind], types.int64)

    @lower_builtin(function, NUMBA_TYPE[kind], types.int64)
    def lower(context: Any, b: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value, mask = args[0], b.trunc(args[1], _I32)
        original = value.type
        if kind[0] == "f":
            value = b.bitcast(value, ir.IntType(bits))
        if bits == 64:
            pair = b.bitcast(value, ir.VectorType(_I32, 2))
            for i in range(2):
                word = _swap_word(b, b.extract_element(pair, _I32(i)), mask)
                pair = b.insert_element(pair, word, _I32(i))
            value = b.bitcast(pair, _I64)
        elif bits == 32:
            value = _swap_word(b, value, mask)
        else:
            value = b.trunc(_swap_word(b, b.zext(value, _I32), mask), value.type)
        return b.bitcast(value, original) if kind[0] == "f" else value


for _kind in BITS:
    _define_swap(_kind)


# --- vectors of elements -------------------------------------------------------------------------


def _vector_place(context: Any, b: ir.IRBuilder, sig: Any, args: Any, count: int) -> ir.Value:
    memory = STORAGE[sig.args[0].storage][2]
    place = element_pointer(context, b, sig.args[0], args[0], args[1], memory)
    space = context.address_space if sig.args[0].scope >= 0 else 0
    return b.bitcast(place, ir.VectorType(memory, count).as_pointer(space))


def _alignment(storage: str, count: int) -> int:
    return STORAGE_BYTES[storage] * count


STORAGE_BYTES = {name: 1 if name == "b1" else int(name[1:]) // 8 for name in STORAGE}


def _define_vector_load(storage: str, count: int) -> None:
    kind = STORAGE[storage][0]
    function = _declare(
        f"load{count}_{storage}", f"{count} {storage} elements from i on, in one access."
    )
    result = types.UniTuple(NUMBA_TYPE[kind], count)

    @type_callable(function)
    def typer(context: Any) -> Any:
        def typed(p: Any, i: Any) -> Any:
            if not isinstance(p, PointerType) or p.storage != storage:
                return None
            return typing.signature(result, p, types.int64)

        return typed

    @lower_builtin(function, PointerType, types.int64)
    def lower(context: Any, b: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        vector = b.load(
            _vector_place(context, b, sig, args, count), align=_alignment(storage, count)
        )
        set_scope(b, vector, sig.args[0].scope)
        items = [b.extract_element(vector, _I32(k)) for k in range(count)]
        if storage == "f16":
            items = [b.fpext(x, ir.FloatType()) for x in items]
        elif storage == "b1":
            items = [b.icmp_unsigned("!=", x, x.type(0)) for x in items]
        return context.make_tuple(b, sig.return_type, items)


def _define_vector_store(storage: str, count: int) -> None:
    kind, _, memory = STORAGE[storage]
    function = _declare(
        f"store{count}_{storage}", f"Write {count} {storage} elements from i on in one access."
    )

    def typed(p: Any, i: Any, *values: Any) -> Any:
        if not isinstance(p, PointerType) or p.storage != storage or len(values) != count:
            return None
        return typing.signature(types.none, p, types.int64, *[NUMBA_TYPE[kind]] * count)

    names = ", ".join(f"v{k}" for k in range(count))
    scope: dict[str, Any] = {"typed": typed}
    exec(f"def exact(p, i, {names}): return typed(p, i, {names})", scope)  # Numba reads the names
    exact = scope["exact"]

    @type_callable(function)
    def typer(context: Any) -> Any:
        return exact

    @lower_builtin(function, PointerType, types.int64, *[NUMBA_TYPE[kind]] * count)
    def lower(context: Any, b: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        vector = ir.Constant(ir.VectorType(memory, count), ir.Undefined)
        for k, value in enumerate(args[2:]):
            if storage == "f16":
                value = b.fptrunc(value, memory)
            elif storage == "b1":
                value = b.zext(value, memory)
            vector = b.insert_element(vector, value, _I32(k))
        place = _vector_place(context, b, sig, args, count)
        stored = b.store(vector, place, align=_alignment(storage, count))
        set_scope(b, stored, sig.args[0].scope)
        return context.get_dummy_value()


for _storage in STORAGE:
    for _count in WIDTHS:
        if STORAGE_BYTES[_storage] * _count <= 16:
            _define_vector_load(_storage, _count)
            _define_vector_store(_storage, _count)
