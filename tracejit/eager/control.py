"""Structured control flow with torch's names: `cond`, `while_loop`, `scan`.

Eager they are an ``if``, a ``while`` and a ``for``. In a capture `cond` is a branch of the trace
tree, `scan` is unrolled, and `while_loop` is one node whose condition and body are graphs, however
many rounds it makes. Invariant: every function is called exactly as often as in plain Python while
a trace is made, and what a node cannot repeat makes the compiled function run eagerly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracejit.dtypes import bool_
from tracejit.eager.capture import Capture
from tracejit.eager.joining import stack
from tracejit.eager.modes import state
from tracejit.eager.register import FUNCTIONS
from tracejit.eager.tape import root_of, type_of
from tracejit.errors import at_user_line, user_location
from tracejit.ir.graph import Graph
from tracejit.ir.node import Node, topological
from tracejit.ir.op import OPS
from tracejit.ir.sizes import SymInt
from tracejit.ir.types import TensorType
from tracejit.tensor import Tensor, new_tensor

__all__ = ["cond", "scan", "while_loop"]


def cond(
    pred: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any], *operands: Any
) -> Any:
    """``true_fn(*operands)`` if `pred` holds, else ``false_fn(*operands)``.

    pred      a bool, or a tensor of one element.
    operands  what the functions take; a single tuple or list of them, as in torch, is unpacked.

    Under ``compile`` the two are branches of the trace tree: only the one taken is computed, and
    each is traced when it is first taken. Gradients are those of the branch taken.
    Example: ``cond(x.sum() > 0, torch.sin, torch.cos, x)``.
    """
    if len(operands) == 1 and type(operands[0]) in (tuple, list):
        operands = tuple(operands[0])
    return true_fn(*operands) if bool(pred) else false_fn(*operands)


def scan(
    fn: Callable[[Any, Any], tuple[Any, Any]], init: Any, xs: Any, dim: int = 0,
    reverse: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    """Carry a value along `dim` of `xs`: ``carry, y = fn(carry, x)``; the last carry and all ys.

    fn    takes the carry and one slice of `xs` (a tensor, or a tuple of tensors of one length),
          gives the next carry and a tensor (or tuple of tensors), which are stacked along `dim`.
    Raises ValueError if `xs` has no slices. Under ``compile`` the rounds are one trace, made for
    the length; gradients flow through it.
    Example: ``scan(lambda c, x: (c + x, c * x), zeros(()), arange(4.0))``.
    """
    several = isinstance(xs, (tuple, list))
    parts = [x.unbind(dim) for x in (xs if several else (xs,))]
    if not parts or not len(parts[0]):
        raise ValueError(at_user_line("scan: xs has no slices"))
    rounds = list(zip(*parts, strict=True))
    carry, found = init, []
    for part in reversed(rounds) if reverse else rounds:
        carry, y = fn(carry, tuple(part) if several else part[0])
        found.append(y)
    if reverse:
        found.reverse()
    if isinstance(found[0], (tuple, list)):
        return carry, tuple(stack(list(ys), dim) for ys in zip(*found, strict=True))
    return carry, stack(found, dim)


def while_loop(
    cond_fn: Callable[..., Any], body_fn: Callable[..., Any], carried_inputs: Sequence[Any]
) -> tuple[Any, ...]:
    """``carried = body_fn(*carried)`` for as long as ``cond_fn(*carried)`` holds.

    carried_inputs  the first carried tensors; `body_fn` gives a tuple of as many, of the same
                    shapes and dtypes. Raises TypeError if it gives others.

    Under ``compile`` the loop is one node: its condition and body are compiled once, and the number
    of rounds is never traced. That needs tensors without gradients and functions that only compute;
    with gradients each number of rounds is a path of the trace tree.
    Example: ``while_loop(lambda n, x: n > 0, lambda n, x: (n - 1, x * 2), (tensor(3), ones(2)))``.
    """
    carried = tuple(carried_inputs)
    if not bool(cond_fn(*carried)):
        return carried
    outer = state.capture
    tensors = all(isinstance(x, Tensor) for x in carried)
    if outer is None or not tensors or (state.grad and any(x._requires_grad for x in carried)):
        while True:
            carried = _checked(body_fn(*carried), carried)
            if not bool(cond_fn(*carried)):
                return carried
    return _Loop(outer, carried).run(cond_fn, body_fn)


def _checked(results: Any, carried: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a body gave, as a tuple; TypeError if it cannot be carried on."""
    results = tuple(results) if isinstance(results, (tuple, list)) else (results,)
    if len(results) != len(carried):
        counts = f"{len(results)} values for {len(carried)}"
        raise TypeError(at_user_line(f"while_loop: the body gave {counts} carried"))
    for new, old in zip(results, carried, strict=True):
        if isinstance(new, Tensor) and isinstance(old, Tensor) and type_of(new) != type_of(old):
            kinds = f"{type_of(new)} for a carried {type_of(old)}"
            raise TypeError(at_user_line(f"while_loop: the body gave {kinds}"))
    return results


class _Part(Capture):
    """The capture of one round; the tensors that it meets get their traces back afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.before: list[tuple[Tensor, Any]] = []

    def add_input(self, tensor: Tensor) -> Node:
        self.before.append((tensor, tensor._trace))
        return super().add_input(tensor)

    def give_back(self) -> None:
        """Undo what this capture noted on tensors of the outer one."""
        self.finish()
        for tensor, trace in self.before:
            tensor._trace = trace

    @property
    def only_computes(self) -> bool:
        """Whether a node can repeat it: nothing was written, drawn, printed, decided or checked."""
        noted = (self.writes, self.grads, self.scalars, self.branches, self.checks, self.prints,
                 self.draws, self.unsound, self.new_leaves)  # fmt: skip
        return not any(noted)


class _Loop:
    """A `while_loop` in a capture: runs it, and records it as one node."""

    def __init__(self, outer: Capture, init: tuple[Tensor, ...]):
        self.outer = outer
        self.init = init
        self.constants: dict[int, Node] = {}  # id of a node of the outer trace -> it
        self.is_pure = True

    def run(self, cond_fn: Callable[..., Any], body_fn: Callable[..., Any]) -> tuple[Any, ...]:
        """All rounds, the first of them and the check after it as graphs."""
        body, roots = self._trace(body_fn, self.init)
        carried = _checked(roots, self.init)
        ask, (goes_on, *_) = self._trace(cond_fn, carried)
        state.capture = None
        try:
            more = bool(goes_on)
            while more:
                carried = _checked(body_fn(*carried), self.init)
                more = bool(cond_fn(*carried))
        finally:
            state.capture = self.outer
        if not self.is_pure or any(x._requires_grad for x in carried):
            self.outer.refuse("while_loop with gradients or with functions that do more than "
                              "compute", user_location())  # fmt: skip
            return carried
        return self._record(ask, body, carried)

    def _trace(
        self, function: Callable[..., Any], carried: tuple[Any, ...]
    ) -> tuple[tuple[list[Node], list[Node], dict[int, Node]], tuple[Any, ...]]:
        """Run a function once: ((its inputs, its results, constants by id), the results)."""
        part = _Part()
        given = tuple(new_tensor(x._array) for x in carried)
        state.capture = part
        try:
            inputs = [part.node_of(x) for x in given]
            results = function(*given)
            results = tuple(results) if isinstance(results, (tuple, list)) else (results,)
            nodes = [part.node_of(x) for x in results if isinstance(x, Tensor)]
        finally:
            part.give_back()
            state.capture = self.outer
        self.outer.conditions += part.conditions
        met = {id(n): self.outer.node_of(t) for t, n in part.inputs[len(given) :]}
        place = {id(x): i for i, x in enumerate(given)}
        self.is_pure &= part.only_computes and len(nodes) == len(results) and all(
            id(x) in place or part.owns(root_of(x)) for x in results
        )  # fmt: skip
        self.is_pure &= all(place.get(id(x), i) == i for i, x in enumerate(results))
        back = tuple(carried[place[id(x)]] if id(x) in place else x for x in results)
        return (inputs, nodes, met), back

    def _record(self, ask: Any, body: Any, carried: tuple[Any, ...]) -> tuple[Any, ...]:
        """The loop as a node of the outer trace, and its results as tensors of it."""
        for inputs, nodes, met in (ask, body):
            known = {id(n) for n in inputs}
            for node in topological(nodes):
                if node.op.name == "input" and id(node) not in known:
                    outside = met.get(id(node), node)
                    self.constants.setdefault(id(outside), outside)
        texts = [self._text(name, part) for name, part in (("condition", ask), ("body", body))]
        operands = [self.outer.node_of(x) for x in self.init]
        for operand in operands:
            _plain(operand.type)  # the texts have the sizes that these have now
        node = OPS["while_loop"](
            *operands, *self.constants.values(),
            condition=texts[0], body=texts[1], count=len(operands),
        )  # fmt: skip
        node.loc = user_location()
        for i, (tensor, first) in enumerate(zip(carried, self.init, strict=True)):
            if tensor is not first:
                self.outer.set_node(tensor, node[i])
        return carried

    def _text(self, name: str, part: Any) -> str:
        """A graph over the carried values and all constants, as IR text."""
        inputs, nodes, met = part
        known: dict[int, Node] = {}
        fresh: list[Node] = []
        for i, node in enumerate(inputs):
            known[id(node)] = OPS["input"](type=_plain(node.type), name=f"c{i}")
            fresh.append(known[id(node)])
        for i, outside in enumerate(self.constants.values()):
            known[id(outside)] = OPS["input"](type=_plain(outside.type), name=f"k{i}")
            fresh.append(known[id(outside)])
        for inner, outside in met.items():
            known[inner] = known.get(id(outside), outside)
        results = []
        for node in topological(nodes):
            if id(node) not in known:
                params = {k: _plain(v) for k, v in node.params.items()}
                below = [known[id(x)] for x in node.inputs]
                known[id(node)] = node.op(*below, **params)
        for node in nodes:
            result = known[id(node)]
            if name == "condition" and result.type.shape:
                result = OPS["reshape"](result, shape=())
            if name == "condition" and result.type.dtype is not bool_:
                result = OPS["cast"](result, dtype=bool_)
            results.append(OPS["alias"](result) if result.op.name == "input" else result)
        return str(Graph(name, tuple(fresh), tuple(results)))


def _plain(value: Any) -> Any:
    """A parameter without symbols: the sizes that the loop meets are fixed (and guarded)."""
    if type(value) is SymInt:
        return int(value)
    if type(value) is tuple:
        return tuple(map(_plain, value))
    if isinstance(value, TensorType):
        return value.with_shape(tuple(map(_plain, value.shape)))
    return value


for _function in (cond, scan, while_loop):
    FUNCTIONS[_function.__name__] = _function
