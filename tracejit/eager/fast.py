"""The short way of a pointwise op: operands of one dtype, nothing to promote, NumPy does the work.

Invariant: gives what `dispatch.pointwise` would give, records what it would record, or gives None
where the short way does not apply; it never raises.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit import config
from tracejit.eager.dispatch import NO_PARAMS, finish_node, record_pointwise
from tracejit.eager.execute import THREADED_SIZE
from tracejit.eager.modes import state
from tracejit.eager.quiet import quiet
from tracejit.eager.tape import NEEDS, autograd_node, rule_needs, save_value, type_of
from tracejit.errors import user_location
from tracejit.ir.node import Node
from tracejit.ir.op import OPS, Op
from tracejit.runtime.timing import PROFILERS
from tracejit.tensor import Tensor, new_tensor

_INPUT, _FULL = OPS["input"], OPS["full"]
_ndarray = np.ndarray
_WHOLE = frozenset({
    "add", "sub", "mul", "eq", "ne", "lt", "le", "gt", "ge", "bitwise_and", "bitwise_or",
    "bitwise_xor",
})  # fmt: skip
"""Ops that the short way takes for integers and bools too."""


def binary(op: Op, x: Any, y: Any) -> Tensor | None:
    """`op` of a tensor and a tensor of the same dtype, or a number that keeps the dtype."""
    if not op.exact or PROFILERS:
        return None
    try:
        a = x._array
    except AttributeError:
        return None
    given = type(y)
    kind = a.dtype.kind
    if given is float:
        if kind != "f":
            return None
        b = y
    elif given is int:
        if kind != "f" and (kind != "i" or op.name not in _WHOLE):
            return None
        b = y
    else:
        try:
            b = y._array
        except AttributeError:
            return None
        if kind != "f" and op.name not in _WHOLE:
            return None
        if b.dtype is not a.dtype or type(b) is not _ndarray or b.size >= THREADED_SIZE:
            return None
    if type(a) is not _ndarray or (a.size >= THREADED_SIZE and config.threads > 1):
        return None
    try:
        data = quiet(op.numpy, a, b)
    except (ValueError, TypeError, OverflowError):
        return None  # the long way says what is wrong
    result = new_tensor(data if type(data) is _ndarray else np.asarray(data))
    if state.capture is not None:
        _capture(op, (x, y), result)
    elif state.grad and (x._requires_grad or (b is not y and y._requires_grad)):
        _record_binary(op, x, y, b is y, result)
    return result


def _record_binary(op: Op, x: Tensor, y: Any, is_number: bool, result: Tensor) -> None:
    data = result._array
    if op.vjp is None or data.dtype.kind != "f" or x._array.shape != data.shape:
        return _record_slowly(op, (x, y), result)
    first = autograd_node(x) if x._requires_grad else _input_node(x)
    if is_number:
        second = Node(_FULL, (), {"value": float(y), "type": first.type}, first.type)
        mask = (x._requires_grad, False)
    elif y._array.shape == data.shape:
        second = autograd_node(y) if y._requires_grad else _input_node(y)
        mask = (x._requires_grad, y._requires_grad)
    else:
        return _record_slowly(op, (x, y), result)
    node = Node(op, (first, second), NO_PARAMS, first.type, user_location())
    inputs, output = _needs(op, mask, node)
    for i in inputs:
        if i == 0:
            save_value(first, x)
        elif not is_number:
            save_value(second, y)
    if output:
        save_value(node, result)
    elif inputs:
        node.saved = NEEDS
    result._requires_grad = True
    result._node = node


def _capture(op: Op, operands: tuple[Any, ...], result: Tensor) -> None:
    """Record in the capture in progress; sizes that only happen to be equal go the long way."""
    capture = state.capture
    first = capture.node_of(operands[0])
    kind = first.type
    if op.vjp is None or result._array.dtype.kind != "f" or len(kind.shape) != result._array.ndim:
        return _record_slowly(op, operands, result)
    inputs = [first]
    for operand in operands[1:]:
        if isinstance(operand, Tensor):
            node = capture.node_of(operand)
            if not _is_same(node.type.shape, kind.shape):
                return _record_slowly(op, operands, result)
        else:
            node = Node(_FULL, (), {"value": float(operand), "type": kind}, kind)
        inputs.append(node)
    node = Node(op, tuple(inputs), NO_PARAMS, kind, user_location())
    finish_node(node, operands, result)


def _is_same(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    """Whether two shapes are the same without a question asked of a symbolic size."""
    if first is second:
        return True
    return len(first) == len(second) and all(
        a is b or (type(a) is int and type(b) is int and a == b)
        for a, b in zip(first, second, strict=True)
    )


def _input_node(tensor: Tensor) -> Node:
    kind = type_of(tensor)
    return Node(_INPUT, (), {"type": kind, "name": "x"}, kind)


def _record_slowly(op: Op, operands: tuple[Any, ...], result: Tensor) -> None:
    dtype = operands[0].dtype
    record_pointwise(op, operands, result, NO_PARAMS, dtype)


_known_needs: dict[Any, tuple[tuple[int, ...], bool]] = {}


def _needs(op: Op, mask: tuple[bool, ...], node: Node) -> tuple[tuple[int, ...], bool]:
    key = (op, mask)
    found = _known_needs.get(key)
    if found is None:
        found = _known_needs[key] = rule_needs(node, mask)
    return found


def unary(op: Op, x: Any) -> Tensor | None:
    """`op` of one tensor, where NumPy's result is ours."""
    if not op.exact or PROFILERS:
        return None
    try:
        a = x._array
    except AttributeError:
        return None
    if a.dtype.kind != "f" or type(a) is not _ndarray or a.size >= THREADED_SIZE:
        return None
    try:
        data = quiet(op.numpy, a)
    except TypeError:  # an op of integers: the other way has an error to tell
        return None
    result = new_tensor(data if type(data) is _ndarray else np.asarray(data))
    if state.capture is not None:
        _capture(op, (x,), result)
    elif state.grad and x._requires_grad:
        if op.vjp is None or result._array.dtype.kind != "f":
            _record_slowly(op, (x,), result)
            return result
        first = autograd_node(x)
        node = Node(op, (first,), NO_PARAMS, first.type, user_location())
        inputs, output = _needs(op, (True,), node)
        if inputs:
            save_value(first, x)
        if output:
            save_value(node, result)
        elif inputs:
            node.saved = NEEDS
        result._requires_grad = True
        result._node = node
    return result
