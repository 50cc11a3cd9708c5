"""Partial results of reductions in the kernel language: 64 lanes per reduction, and block buffers.

`lanes_f32()` is memory for 64 lanes, `fill_lanes_f32(p, v)` sets them all, `sum_lanes_f32(p)` (and
prod, max, min) combines them as a tree: lane i with lane i + 32, then i + 16, down to one.
`block_f32()` is memory for a block of 4096 elements. Invariant: compiled code and the Python twin
combine in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types, typing
from numba.extending import lower_builtin, type_callable

from tracejit.codegen.language import NAMES, STORAGE, Pointer, PointerType
from tracejit.codegen.mathlib.core import NUMPY_TYPE
from tracejit.codegen.mathlib.define import NUMBA_TYPE

LANES = 64
BLOCK = 4096
_DTYPES = ("f64", "f32", "i64", "i32", "i16", "i8", "u8")
_INT = ir.IntType(32)


class _OwnedPointer(Pointer):
    """Python twin of memory on the kernel's stack."""

    __slots__ = ("array",)

    def __init__(self, count: int, dtype: str) -> None:
        self.array = np.zeros(count, dtype)
        super().__init__(self.array.ctypes.data, dtype)


def _name(function: Callable[..., Any], name: str, doc: str) -> Callable[..., Any]:
    function.__name__ = name
    function.__doc__ = doc
    NAMES[name] = function
    return function


def _define_memory(stem: str, count: int, dtype: str, pointer: PointerType) -> None:
    memory = ir.ArrayType(STORAGE[dtype][2], count)

    def make() -> Pointer:
        return _OwnedPointer(count, STORAGE[dtype][1])

    _name(make, f"{stem}_{dtype}", f"Return memory for {count} elements of {dtype}.")

    @type_callable(make)
    def typer(context: Any) -> Any:
        return lambda: typing.signature(pointer)

    @lower_builtin(make)
    def lower(context: Any, b: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        with b.goto_entry_block():  # not cgutils.alloca_once, which stores a zero aggregate
            slot = b.alloca(memory)
        slot.align = 64
        return b.bitcast(slot, ir.IntType(8).as_pointer())


def _define_fill(dtype: str, pointer: PointerType) -> None:
    kind, _, memory = STORAGE[dtype]
    vector = ir.VectorType(memory, LANES)

    def fill(p: Pointer, v: Any) -> None:
        for i in range(LANES):
            p.at(i)[()] = v

    _name(fill, f"fill_lanes_{dtype}", "Set all lanes to v.")

    @type_callable(fill)
    def typer(context: Any) -> Any:
        return lambda p, v: typing.signature(types.none, pointer, NUMBA_TYPE[kind])

    @lower_builtin(fill, pointer, NUMBA_TYPE[kind])
    def lower(context: Any, b: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        undefined = ir.Constant(vector, ir.Undefined)
        one = b.insert_element(undefined, args[1], _INT(0))
        mask = ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES)
        value = b.shuffle_vector(one, undefined, mask)
        b.store(value, b.bitcast(args[0], vector.as_pointer()), align=LANES)
        return context.get_dummy_value()


def _combined(b: ir.IRBuilder, op: str, kind: str, x: ir.Value, y: ir.Value) -> ir.Value:
    """Two vectors of partial results as one."""
    if op in ("sum", "prod"):
        if kind[0] == "f":
            return b.fadd(x, y) if op == "sum" else b.fmul(x, y)
        return b.add(x, y) if op == "sum" else b.mul(x, y)
    if kind[0] == "f":
        count = x.type.count
        name = f"llvm.{'maximum' if op == 'max' else 'minimum'}.v{count}{kind}"
        function = b.module.globals.get(name)
        if function is None:
            function = ir.Function(b.module, ir.FunctionType(x.type, [x.type] * 2), name)
        return b.call(function, [x, y])
    sign = ">" if op == "max" else "<"
    compare = b.icmp_unsigned if kind[0] == "u" else b.icmp_signed
    return b.select(compare(sign, x, y), x, y)


def _twin(op: str, x: Any, y: Any) -> Any:
    with np.errstate(all="ignore"):
        return {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}[op](x, y)


def _define_tree(op: str, dtype: str, pointer: PointerType) -> None:
    kind, _, memory = STORAGE[dtype]
    vector = ir.VectorType(memory, LANES)

    def tree(p: Pointer) -> Any:
        values = np.array([p.at(i)[()] for i in range(LANES)], NUMPY_TYPE[kind])
        while len(values) > 1:
            half = len(values) // 2
            values = _twin(op, values[:half], values[half:])
        return values[0]

    _name(tree, f"{op}_lanes_{dtype}", f"Combine all lanes by {op}, as a tree.")

    @type_callable(tree)
    def typer(context: Any) -> Any:
        return lambda p: typing.signature(NUMBA_TYPE[kind], pointer)

    @lower_builtin(tree, pointer)
    def lower(context: Any, b: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        value = b.load(b.bitcast(args[0], vector.as_pointer()), align=64)
        count = LANES
        while count > 1:
            half = count // 2
            undefined = ir.Constant(value.type, ir.Undefined)
            low = ir.Constant(ir.VectorType(_INT, half), list(range(half)))
            high = ir.Constant(ir.VectorType(_INT, half), list(range(half, count)))
            x = b.shuffle_vector(value, undefined, low)
            y = b.shuffle_vector(value, undefined, high)
            value = _combined(b, op, kind, x, y)
            count = half
        return b.extract_element(value, _INT(0))


for _dtype in _DTYPES:
    _pointer = PointerType(_dtype)
    _define_memory("lanes", LANES, _dtype, _pointer)
    _define_memory("block", BLOCK, _dtype, _pointer)
    _define_fill(_dtype, _pointer)
    for _op in ("sum", "prod", "max", "min"):
        _define_tree(_op, _dtype, _pointer)
