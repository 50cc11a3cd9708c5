"""Ops that read no tensor: graph inputs, constants; and the structural ops `get` and `detach`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.dtypes import int64
from tracejit.errors import ShapeError
from tracejit.ir.op import NONDIFF, Op
from tracejit.ir.sizes import hint_of
from tracejit.ir.types import Device, TensorType
from tracejit.ops.declare import ANY, check_arity, check_domain, check_same


def _typed(types: Sequence[TensorType], *, type: TensorType, **params: Any) -> TensorType:
    check_arity("source", types, 0)
    return type


def _not_computed(**params: Any) -> np.ndarray:
    raise RuntimeError(f"input {params.get('name')} was given no value")


input = Op("input", "source", _typed, _not_computed, NONDIFF, "A value that the graph is given.")

full = Op(
    "full",
    "source",
    _typed,
    lambda value, type: np.full(type.shape, np.asarray(value).astype(type.dtype.numpy)),
    NONDIFF,
    "A tensor with one value everywhere.",
)


def _nested_shape(values: Any) -> tuple[int, ...]:
    return (len(values), *_nested_shape(values[0])) if isinstance(values, tuple) and values else (
        (0,) if isinstance(values, tuple) else ()
    )  # fmt: skip


def _infer_constant(types: Sequence[TensorType], *, values: Any, type: TensorType) -> TensorType:
    check_arity("constant", types, 0)
    if 0 not in type.shape and _nested_shape(values) != type.shape:
        raise ShapeError(f"constant: values of shape {_nested_shape(values)} typed {type}")
    return type


constant = Op(
    "constant",
    "source",
    _infer_constant,
    lambda values, type: np.array(values, type.dtype.numpy).reshape(type.shape),
    NONDIFF,
    "A tensor written out element by element (nested tuples).",
)

iota = Op(
    "iota",
    "source",
    _typed,
    lambda type, axis=0: np.broadcast_to(
        np.arange(type.shape[axis]).reshape([-1 if i == axis else 1 for i in range(type.ndim)]),
        type.shape,
    ).astype(type.dtype.numpy),
    NONDIFF,
    "Each element is its own index along `axis`.",
)

size = Op(
    "size",
    "source",
    lambda types, value: TensorType(int64, ()),
    lambda value: np.int64(hint_of(value)),
    NONDIFF,
    "A size of the trace as a 0-d int64 tensor.",
)


def _infer_get(types: Sequence[Any], *, index: int) -> TensorType:
    check_arity("get", types, 1)
    return types[0].items[index]


get = Op(
    "get",
    "structure",
    _infer_get,
    lambda x, index: x[index],
    NONDIFF,  # the gradient transform routes projections itself
    "One result of an op with several.",
)


def _infer_detach(types: Sequence[TensorType]) -> TensorType:
    check_arity("alias or detach", types, 1)
    check_domain("alias or detach", types, ANY)
    return types[0]


detach = Op(
    "detach",
    "structure",
    _infer_detach,
    lambda x: x,
    NONDIFF,
    "The same value, through which no gradient flows.",
)


def _infer_with_value(types: Sequence[TensorType]) -> TensorType:
    check_arity("with_value", types, 2)
    check_same("with_value", types)
    return types[0]


with_value = Op(
    "with_value",
    "structure",
    _infer_with_value,
    lambda x, value: value,
    lambda g, out, x, value: (g, None),
    "The value of the second, the gradient of the first (a write that autograd must not see).",
    names=("x", "value"),
)

alias = Op(
    "alias",
    "structure",
    _infer_detach,
    lambda x: x,
    lambda g, out, x: (g,),
    "The same value under another name (a clone).",
)


def _infer_to_device(types: Sequence[TensorType], *, device: Device) -> TensorType:
    check_arity("to_device", types, 1)
    return TensorType(types[0].dtype, types[0].shape, device)


to_device: Op = Op(
    "to_device",
    "structure",
    _infer_to_device,
    lambda x, device: x,
    lambda g, out, x, *, device: (to_device(g, device=x.device),),
    "The same values on another device.",
)


def _infer_call(types: Sequence[TensorType], *, rule: Any, result: Any) -> Any:
    return result


def _not_replayed(*arrays: Any, rule: Any, result: Any) -> Any:
    raise RuntimeError("a call's value is known only to the code that made it")


call = Op(
    "call",
    "structure",
    _infer_call,
    _not_replayed,
    NONDIFF,  # its gradient is code: rule.backward(walk, node, g), see eager/backward.py
    "Results that other code computed from the inputs (a compiled function, a custom gradient).",
    multiple=True,
)
