"""Functions with gradients of one's own: ``autograd.Function``.

A call becomes one node of the tape (op ``call``) whose rule is the user's `backward`. Invariant:
forward and backward run with recording off, unless a backward pass is itself recorded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from tracejit.eager.modes import state
from tracejit.eager.tape import (
    FREED,
    Saved,
    bump_version,
    changed_message,
    node_of,
    storage_of,
    type_of,
)
from tracejit.errors import at_user_line, user_location
from tracejit.ir.node import Node
from tracejit.ir.op import OPS
from tracejit.ir.types import TensorType, TupleType
from tracejit.tensor import Tensor, new_tensor
from tracejit.transforms.grad import Cotangents

_SPENT = (
    "backward through the same graph a second time: the saved tensors of {} were freed; "
    "pass retain_graph=True to the first backward"
)


class FunctionCtx:
    """What forward leaves for backward; any attribute may be set on it."""

    needs_input_grad: tuple[bool, ...] = ()
    _to_save: tuple[Tensor | None, ...] = ()
    _dirty: tuple[Tensor, ...] = ()
    _constant: tuple[Tensor, ...] = ()
    _materialize = True
    _restored: Any = None
    _name = "a Function"

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors (inputs, outputs, others) for `saved_tensors` in backward."""
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(at_user_line(
                    f"save_for_backward takes tensors, got {type(t).__name__}"))  # fmt: skip
        self._to_save = tensors

    save_for_forward = save_for_backward

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """What `save_for_backward` kept; raises if it was changed or freed since."""
        if self._restored is None:
            raise RuntimeError(at_user_line(_SPENT.format(self._name)))
        return self._restored()

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Say which inputs forward has changed in place (they must be returned)."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Say which outputs have no gradient."""
        self._constant = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether backward gets zeros (True) or None for outputs without a gradient."""
        self._materialize = value


class Function:
    """A function with its own gradient: subclass it, define forward and backward, call `apply`.

    Example::

        class Square(Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x * x

            @staticmethod
            def backward(ctx, g):
                (x,) = ctx.saved_tensors
                return 2 * x * g

        y = Square.apply(x)
    """

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """``forward(ctx, *inputs)``, or ``forward(*inputs)`` beside `setup_context`."""
        raise NotImplementedError("a Function must define forward")

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: Any) -> None:
        """Prepare `ctx` after a forward that does not take it."""

    @staticmethod
    def backward(ctx: FunctionCtx, *grad_outputs: Any) -> Any:
        """The gradients of the inputs, given those of the outputs."""
        raise NotImplementedError("a Function must define backward (or vjp)")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run forward; the result's gradient is what backward says."""
        ctx = FunctionCtx()
        ctx._name = cls.__name__
        recorded = state.grad and any(isinstance(a, Tensor) and a._requires_grad for a in args)
        ctx.needs_input_grad = tuple(isinstance(a, Tensor) and a._requires_grad for a in args)
        before = state.grad
        state.grad = False
        try:
            if cls.setup_context is Function.setup_context:
                output = cls.forward(ctx, *args)
            else:
                output = cls.forward(*args)
                cls.setup_context(ctx, args, output)
        finally:
            state.grad = before
        return _attach(cls, ctx, args, output) if recorded else output


def _attach(cls: Any, ctx: FunctionCtx, args: tuple[Any, ...], output: Any) -> Any:
    """Put the call on the tape; the outputs as tensors that know their node."""
    several = isinstance(output, (tuple, list))
    outputs = list(output) if several else [output]
    tracked = [i for i, o in enumerate(outputs) if _is_differentiable(ctx, o)]
    if not tracked:
        return output
    rule = _Rule(cls, ctx, args)
    parents = [node_of(args[i]) for i in rule.parents]
    values = [node_of(outputs[i]) for i in tracked] if state.capture is not None else []
    for t in ctx._dirty:
        if t.is_leaf and t._requires_grad:
            raise RuntimeError(at_user_line("a leaf that requires grad cannot be changed in place"))
        if t._base is not None:
            raise RuntimeError(at_user_line("mark_dirty: a view cannot get a gradient of its own"))
    kinds = tuple(v.type for v in values) or tuple(type_of(outputs[i]) for i in tracked)
    call = OPS["call"](*parents, *values, rule=rule, result=TupleType(kinds))
    call.loc = user_location()
    originals = list(outputs)
    rule.results = [call[place] for place in range(len(tracked))]
    for place, i in enumerate(tracked):
        outputs[i] = _tracked(ctx, args, outputs[i], rule.results[place])
    if state.capture is not None:
        _tell_capture(ctx, cls.__name__, rule.results, values, [outputs[i] for i in tracked])
    call.saved = _save(ctx, originals, outputs, tracked)
    ctx._to_save, ctx._dirty, ctx._constant = (), (), ()
    return type(output)(outputs) if several else outputs[0]


def _tell_capture(
    ctx: FunctionCtx, name: str, results: Sequence[Node], values: Sequence[Node],
    outputs: Sequence[Tensor],
) -> None:  # fmt: skip
    """A replay computes the outputs as forward did: the rule was used by backward, in this run."""
    capture = state.capture
    assert capture is not None
    if ctx._dirty:
        capture.refuse(f"the custom gradient of {name}, which writes in place", user_location())
    for result, value, output in zip(results, values, outputs, strict=True):
        capture.custom[id(result)] = (result, value, storage_of(output), storage_of(output).version)
        capture.set_node(output, result)


def _is_differentiable(ctx: FunctionCtx, output: Any) -> bool:
    return (
        isinstance(output, Tensor)
        and output._array.dtype.kind == "f"
        and not any(output is t for t in ctx._constant)
    )


def _tracked(ctx: FunctionCtx, args: Sequence[Any], output: Tensor, node: Node) -> Tensor:
    """The output with its node: the tensor itself, or a fresh one over an input's memory."""
    if any(output is t for t in ctx._dirty):
        bump_version(output)
    elif output._base is not None or any(output is a for a in args):
        shared = new_tensor(output._array)
        shared._storage = storage_of(output)
        output = shared
    output._requires_grad = True
    output._node = node
    return output


class _SavedTensor:
    """One tensor kept for backward: itself, or (an output) its array and place."""

    __slots__ = ("tensor", "array", "storage", "version", "place")

    def __init__(self, tensor: Tensor, place: int | None):
        self.tensor = tensor if place is None else None
        self.array = tensor._array
        self.storage = storage_of(tensor)
        self.version = self.storage.version
        self.place = place

    def restore(self, call: Node, name: str) -> Tensor:
        if self.storage.version != self.version:
            stale = Saved(None, self.storage)
            stale.version = self.version
            raise RuntimeError(at_user_line(changed_message(stale, name)))
        if self.tensor is not None:
            return self.tensor
        tensor = new_tensor(self.array)
        tensor._storage, tensor._requires_grad = self.storage, True
        tensor._node = call.params["rule"].results[self.place]
        if state.capture is not None:
            state.capture.set_node(tensor, tensor._node)
        return tensor


def _save(ctx: FunctionCtx, originals: list[Any], outputs: list[Any], tracked: list[int]) -> Saved:
    kept: list[_SavedTensor | None] = []
    for t in ctx._to_save:
        place = next((p for p, i in enumerate(tracked) if originals[i] is t), None)
        held = t if place is None else outputs[tracked[place]]
        kept.append(None if held is None else _SavedTensor(held, place))
    return Saved(tuple(kept), None)


class _Rule:
    """The gradient rule of one call: runs the user's backward."""

    def __init__(self, cls: Any, ctx: FunctionCtx, args: tuple[Any, ...]):
        self.cls = cls
        self.ctx = ctx
        self.count = len(args)
        self.parents = [i for i, a in enumerate(args) if isinstance(a, Tensor) and a._requires_grad]
        self.kinds = {i: type_of(args[i]) for i in self.parents}
        self.is_tensor = [isinstance(a, Tensor) for a in args]
        self.results: list[Node] = []

    def backward(self, walk: Any, node: Node, g: Cotangents) -> list[Node | None]:
        ctx, name = self.ctx, self.cls.__name__
        if node.saved is not None and node.saved is not FREED:
            kept = node.saved.array
            ctx._restored = lambda: tuple(
                None if s is None else s.restore(node, name) for s in kept
            )
        absent = set() if ctx._materialize else set(range(len(g))) - g.given
        seeds = [None if i in absent else walk.tensor(part) for i, part in enumerate(g)]
        try:
            given = self.cls.backward(ctx, *seeds)
        finally:
            ctx._restored = None
        parts = given if isinstance(given, (tuple, list)) else (given,)
        found = self._checked(walk, list(parts))
        return found + [None] * (len(node.inputs) - len(found))  # none for a capture's values

    def _checked(self, walk: Any, parts: list[Any]) -> list[Node | None]:
        name = self.cls.__name__
        while len(parts) > self.count and parts[-1] is None:
            parts.pop()
        if len(parts) != self.count:
            raise RuntimeError(at_user_line(
                f"function {name} returned an incorrect number of gradients "
                f"(expected {self.count}, got {len(parts)})"))  # fmt: skip
        for i, part in enumerate(parts):
            if part is not None and not self.is_tensor[i]:
                raise RuntimeError(at_user_line(
                    f"function {name} returned a gradient for input {i}, which is no tensor"
                ))  # fmt: skip
        return [
            None if parts[i] is None else walk.node(_fitted(name, parts[i], self.kinds[i]))
            for i in self.parents
        ]


def _fitted(name: str, g: Any, kind: TensorType) -> Tensor:
    """A gradient in the shape and dtype of its input; RuntimeError if it cannot be."""
    if not isinstance(g, Tensor):
        raise TypeError(at_user_line(f"function {name} returned {type(g).__name__}, not a tensor"))
    if g._array.shape != kind.shape:
        try:
            g = g.sum_to_size(kind.shape)
        except RuntimeError:
            raise RuntimeError(at_user_line(
                f"function {name} returned an invalid gradient: shape {list(g._array.shape)}, "
                f"expected one compatible with {list(kind.shape)}")) from None  # fmt: skip
    return g if g.dtype is kind.dtype else g.to(kind.dtype)


class _NoSecond:
    """The gradient rule of results that may not be differentiated again."""

    def backward(self, walk: Any, node: Node, g: Any) -> list[Node | None]:
        raise RuntimeError(at_user_line(
            "trying to differentiate twice a function that was marked with @once_differentiable"
        ))  # fmt: skip


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of a backward whose own operations are not recorded: a second gradient raises."""

    @functools.wraps(backward)
    def wrapper(ctx: FunctionCtx, *grads: Any) -> Any:
        recorded = state.grad
        state.grad = False
        try:
            given = backward(ctx, *grads)
        finally:
            state.grad = recorded
        sources = [g for g in grads if isinstance(g, Tensor) and g._requires_grad]
        if not recorded or not sources:
            return given
        parts = given if isinstance(given, tuple) else (given,)
        sealed = tuple(_sealed(p, sources) if isinstance(p, Tensor) else p for p in parts)
        return sealed if isinstance(given, tuple) else sealed[0]

    return wrapper


def _sealed(part: Tensor, sources: Sequence[Tensor]) -> Tensor:
    kinds = TupleType((type_of(part),))
    call = OPS["call"](*(node_of(s) for s in sources), rule=_NoSecond(), result=kinds)
    result = new_tensor(part._array)
    result._requires_grad, result._node = True, call[0]
    return result
