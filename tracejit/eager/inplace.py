"""Writing into tensors: the data, the version, the tape and the capture, in that order.

Invariant: after a write the node of the written tensor, of its base and of every other view of
the base stands for what is in memory now (views notice by the storage's version and are replayed).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit import dtypes
from tracejit.eager.modes import MODULE_VERSION, state
from tracejit.eager.tape import (
    Constant,
    Saved,
    bump_version,
    node_of,
    replay_views,
    storage_of,
    type_of,
)
from tracejit.errors import DTypeError, ShapeError, at_user_line, user_location
from tracejit.ir.node import Node, full_like
from tracejit.ir.op import OPS
from tracejit.ir.types import TensorType
from tracejit.ops.movement import strided_index
from tracejit.runtime.device_array import copy_array
from tracejit.tensor import Tensor


def check_writable(target: Tensor, name: str) -> None:
    """Raise if an in-place operation on `target` has no meaning."""
    if state.grad and target._requires_grad and target.is_leaf:
        raise RuntimeError(at_user_line(
            f"{name}: a leaf that requires grad cannot be changed in place; "
            "do it under no_grad()"))  # fmt: skip
    base = target._base
    if state.grad and target._requires_grad and base is not None and base.is_leaf:
        raise RuntimeError(at_user_line(
            f"{name}: a view of a leaf that requires grad cannot be changed in place; "
            "do it under no_grad()"))  # fmt: skip
    array = target._array
    if array.size > 1 and 0 in [s for s, n in zip(array.strides, array.shape) if n > 1]:
        raise RuntimeError(at_user_line(
            f"{name}: several elements of this expanded tensor share one memory location; "
            "clone() it first"))  # fmt: skip


def keeping_own(
    target: Tensor, function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
) -> Any:
    """``function(target, ...)``, about to overwrite `target`.

    Values of the target that this very call saves for its gradient are saved as copies.
    """
    before, state.saving = state.saving, []
    try:
        result = function(target, *args, **kwargs)
        storage = target._storage
        if storage is not None:
            for node in state.saving:
                held = node.saved
                if type(held) in (Saved, Constant) and held.storage is storage:
                    node.saved = type(held)(copy_array(held.array), None)
    finally:
        state.saving = before
    return result


def write_into(target: Tensor, value: Tensor, name: str) -> Tensor:
    """Write `value` (of the target's shape, castable to its dtype) into `target`."""
    check_writable(target, name)
    source, array = value._array, target._array
    if source.shape != array.shape:
        raise ShapeError(at_user_line(
            f"{name}: the result has shape {list(source.shape)}, which does not fit "
            f"{type_of(target)}"))  # fmt: skip
    kind = dtypes.from_numpy(source.dtype)
    if not dtypes.can_cast(kind, target.dtype):
        raise DTypeError(at_user_line(
            f"{name}: result type {kind.name} can't be cast to {target.dtype.name}"))  # fmt: skip
    return store(target, value)


def deliver(result: Any, out: Any) -> Any:
    """`result` (a tensor or several) written into `out`, which takes its shape; returns `out`."""
    if out is None:
        return result
    if isinstance(out, (tuple, list)):
        if not isinstance(result, (tuple, list)) or len(result) != len(out):
            raise TypeError(at_user_line("out=: as many tensors as there are results are needed"))
        items = [deliver(r, o) for r, o in zip(result, out, strict=True)]
        return type(result)(*items) if hasattr(result, "_fields") else tuple(items)
    if not isinstance(result, Tensor) or not isinstance(out, Tensor):
        raise TypeError(at_user_line(f"out= must be a tensor, not {type(out).__name__}"))
    if state.grad and (result._requires_grad or out._requires_grad):
        raise RuntimeError(at_user_line(
            "out= does not support automatic differentiation, but an argument requires grad"
        ))  # fmt: skip
    check_writable(out, "out=")
    if out._array.shape != result._array.shape:
        resize(out, result._array.shape)
    return write_into(out, result, "out=")


def resize(target: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Give a tensor another shape; elements keep their place in memory order, new ones are 0."""
    if target._requires_grad:
        raise RuntimeError(at_user_line("a tensor that requires grad cannot be resized"))
    if state.capture is not None:
        state.capture.refuse("a tensor was resized", user_location())
    old = target._array.reshape(-1)
    data = np.zeros(shape, old.dtype)
    count = min(old.size, data.size)
    data.reshape(-1)[:count] = old[:count]
    bump_version(target)
    MODULE_VERSION[0] += 1
    target._array, target._base, target._view, target._storage = data, None, (), None
    if state.capture is not None:  # refused, but the run goes on: its node must have the new shape
        state.capture.set_node(target, OPS["input"](type=type_of(target), name="resized"))
    return target


def store(target: Tensor, value: Tensor) -> Tensor:
    """Write `value` into `target`, converting its dtype, and record the write."""
    recording = _is_recorded(target, value)
    node = _value_node(target, value) if recording else None
    if recording and target._base is not None:
        node_of(target._base)  # the base's value before the write
    with np.errstate(all="ignore"):
        np.copyto(target._array, value._array, casting="unsafe")
    if node is not None:
        record_write(target, node, value._requires_grad)
    else:
        bump_version(target)
    return target


def _is_recorded(target: Tensor, value: Tensor) -> bool:
    if state.capture is not None:
        return True
    if not state.grad:
        return False
    base = target._base
    return (
        value._requires_grad or target._requires_grad or (base is not None and base._requires_grad)
    )


def _value_node(target: Tensor, value: Tensor) -> Node:
    node = node_of(value)
    if value._requires_grad and not state.grad:
        node = OPS["detach"](node)
    if node.type.dtype is not target.dtype:
        node = OPS["cast"](node, dtype=target.dtype)
    shape = type_of(target).shape if state.capture is None else node_of(target).type.shape
    if node.type.shape != shape:
        node = OPS["broadcast_to"](node, shape=shape)
    return node


def record_write(target: Tensor, node: Node, tracked: bool) -> None:
    """The node of `target` becomes `node`; its base and sibling views follow."""
    if state.capture is not None and state.capture.picks:
        state.capture.settle_picks(target)
    base = target._base
    tracked = tracked and state.grad  # a capture records writes under no_grad() too
    if base is None:
        if target._requires_grad and state.grad:
            node = _overwritten(node_of(target), node)
        bump_version(target)
        _replace_node(target, node, tracked)
        return
    whole = _embedded(base, target, node, tracked)
    hidden = any(op.name == "detach" for op, _ in target._view)
    if base._requires_grad and state.grad and not hidden:
        whole = _overwritten(node_of(base), whole)
    bump_version(target)
    if hidden:  # autograd must not see this write
        before, state.grad = state.grad, False
        try:
            _replace_node(base, whole, False)
        finally:
            state.grad = before
        if state.capture is not None:
            state.capture.set_node(target, node)
        target._seen = storage_of(target).version
        return
    _replace_node(base, whole, tracked)
    if base._requires_grad and (state.grad or target._requires_grad):
        target._requires_grad = True
        target._node = replay_views(target, base._node)
    if state.capture is not None:
        state.capture.set_node(target, replay_views(target, node_of(base)))
    target._seen = storage_of(target).version


class _Overlap(RuntimeError):
    """Elements of a view share memory: no node says what a write through it leaves."""


def _embedded(base: Tensor, target: Tensor, node: Node, tracked: bool) -> Node:
    """The base's value after the write. A capture that cannot say goes on, and is not kept."""
    try:
        return embed(node_of(base), target._view, node)
    except _Overlap as error:
        needed = tracked or target._requires_grad or base._requires_grad
        if state.capture is None or (state.grad and needed):
            raise RuntimeError(str(error)) from None
        state.capture.refuse("a write through a view whose elements overlap", user_location())
        return node_of(base)


_NEAR = 64  # nodes of a value to look at for what it overwrites


def _overwritten(before: Node, value: Node) -> Node:
    """`value` with `before` among what it depends on: the gradient of what a value overwrites
    without reading it is zero, not absent.
    """
    near = [value]
    for node in near:
        if node is before:
            return value
        if len(near) < _NEAR:
            near.extend(node.inputs)
    never = OPS["full"](value=False, type=TensorType(dtypes.bool_, value.type.shape))
    return OPS["where"](never, before, value)


def _replace_node(root: Tensor, node: Node, tracked: bool) -> None:
    capture = state.capture
    if not state.grad and root._requires_grad:
        if capture is None:
            return
        if root.is_leaf:
            capture.new_leaf(root, node)
            return
        node = OPS["with_value"](node_of(root), node)
        root._node = node
    elif tracked or root._requires_grad:
        was_tracked = root._requires_grad
        root._requires_grad = True
        root._node = node
        if not was_tracked and root._views:
            _track_views(root)
    if capture is not None:
        capture.write(root, node)


def _track_views(root: Tensor) -> None:
    """`root` now requires grad: so do the views made before."""
    for reference in root._views or ():
        view = reference()
        if view is not None and all(op.name != "detach" for op, _ in view._view):
            view._requires_grad = True
            view._node = replay_views(view, root._node)
            view._seen = storage_of(root).version


def embed(base: Node, chain: tuple[Any, ...], part: Node) -> Node:
    """The value of `base` after its view `chain` was overwritten with `part`."""
    if not chain:
        return part
    (op, params), rest = chain[0], chain[1:]
    inner = embed(op(base, **params), rest, part)
    return _EMBED[op.name](base, inner, params)


def _embed_transpose(base: Node, part: Node, params: dict[str, Any]) -> Node:
    perm = params["perm"]
    return OPS["transpose"](part, perm=tuple(perm.index(i) for i in range(len(perm))))


def _refuse(base: Node, part: Node, params: dict[str, Any]) -> Node:
    raise _Overlap(at_user_line(
        "in-place write through a view whose elements overlap (expand, unfold); clone() it first"
    ))  # fmt: skip


def _embed_windows(base: Node, part: Node, params: dict[str, Any]) -> Node:
    spans = [(n - 1) * d + 1 for n, d in zip(params["sizes"], params["dilations"], strict=True)]
    if any(step < span for step, span in zip(params["steps"], spans, strict=True)):
        return _refuse(base, part, params)
    spread = OPS["windows_add"](part, shape=base.type.shape, **params)
    ones = OPS["windows_add"](full_like(part, 1), shape=base.type.shape, **params)
    return OPS["where"](OPS["ne"](ones, full_like(ones, 0)), spread, base)


_EMBED: dict[str, Any] = {
    "reshape": lambda base, part, params: OPS["reshape"](part, shape=base.type.shape),
    "transpose": _embed_transpose,
    "slice": lambda base, part, params: OPS["slice_scatter"](base, part, **params),
    "flip": lambda base, part, params: OPS["flip"](part, **params),
    "diagonal": lambda base, part, params: OPS["diagonal_scatter"](base, part, **params),
    "detach": lambda base, part, params: part,
    "broadcast_to": lambda base, part, params: (
        OPS["reshape"](part, shape=base.type.shape)
        if part.type.size == base.type.size
        else _refuse(base, part, params)
    ),
    "windows": _embed_windows,
    "as_strided": lambda base, part, params: OPS["index_put"](
        base, part, strided_index(**params), axes=(0,), accumulate=False
    ),
}
