"""``.backward()`` and ``autograd.grad``: take the recorded graph, add its gradient, run that.

The gradient graph reads forward nodes; those whose value was saved are read from the tape, the
others (casts, broadcasts, constants) are computed again. Invariant: a saved value that was
overwritten since raises, naming the line that did it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from tracejit.eager.evaluator import SECOND_TIME, Evaluator
from tracejit.eager.modes import state
from tracejit.eager.tape import (
    FREED,
    NEEDS,
    Constant,
    Leaf,
    Saved,
    SavedCall,
    leaf_nodes,
    node_of,
    nodes_read,
    type_of,
)
from tracejit.errors import ShapeError, at_user_line
from tracejit.ir.node import Node, topological
from tracejit.ir.op import OPS
from tracejit.ir.types import TupleType
from tracejit.runtime.device_array import filled_like
from tracejit.tensor import Tensor, new_tensor
from tracejit.transforms.grad import backpropagate, depends_on


def has_history(root: Node) -> bool:
    """Whether a node depends on a leaf of the tape, be it in a condition only: in one that a
    gradient rule made, for those of the forward pass are constants.
    """
    seen: set[int] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        if type(node.saved) is Leaf:  # in a capture a leaf may be a detached value
            return True
        seen.add(id(node))
        if node.op.name != "detach" and type(node.saved) is not Constant:
            stack.extend(node.inputs)
    return False


def as_tensor(node: Node, value: Any, create_graph: bool) -> Tensor:
    """A gradient as a tensor; under `create_graph` it continues the tape."""
    tensor = new_tensor(value)
    continues = create_graph and has_history(node)
    if continues:
        tensor._requires_grad = True
        tensor._node = node
    if state.capture is not None:
        state.capture.set_node(tensor, node if continues else OPS["detach"](node))
    return tensor


class _Walk:
    """One backward pass: hooks, custom rules, accumulation."""

    def __init__(self, create_graph: bool, targets: Sequence[Node] = ()):
        self.targets = {id(n) for n in targets}
        self.order: Sequence[Node] = ()
        self.evaluate = Evaluator()
        self.create_graph = create_graph

    def on_gradient(self, node: Node, g: Node) -> Node:
        if node.saved is FREED and id(node) not in self.targets and _reads_freed(node):
            raise RuntimeError(at_user_line(SECOND_TIME))
        watcher = node_watchers.get(node)
        if type(node.saved) is Leaf:
            tensor = node.saved.tensor()
            watcher = None if tensor is None else tensor._hooks
        if watcher is None:
            return g
        return watcher(self, g)

    def tensor(self, g: Node) -> Tensor:
        return as_tensor(g, self.evaluate(g), self.create_graph)

    def node(self, tensor: Tensor) -> Node:
        """The node of a gradient that code (a hook, a custom rule) gave."""
        node = node_of(tensor)
        if id(node) not in self.evaluate.values:
            self.evaluate.set(node, tensor._array)
        return node

    def call_rule(self, node: Node, g: Any) -> Sequence[Node | None]:
        return node.params["rule"].backward(self, node, g)


class _Running(threading.local):
    """The backward passes that this thread is in, the innermost last."""

    def __init__(self) -> None:
        self.walks: list[_Walk] = []


running = _Running()


class _Watchers:
    """Tensor hooks by node, held weakly by the tensors that own them."""

    def __init__(self) -> None:
        import weakref

        self.by_node: Any = weakref.WeakKeyDictionary()

    def get(self, node: Node) -> Any:
        return self.by_node.get(node) if self.by_node else None

    def of(self, node: Node, make: Callable[[], Any]) -> Any:
        """The watcher of a node, made if need be, for a hook that is about to be put there."""
        if state.capture is not None:
            state.capture.hooked.add(node)
        if node not in self.by_node:
            self.by_node[node] = make()
        return self.by_node[node]


node_watchers = _Watchers()


def initial_gradient(output: Tensor, gradient: Tensor | None) -> tuple[Node, Any]:
    """The cotangent node of `output` and its value."""
    if gradient is None:
        if output._array.size != 1:
            raise RuntimeError(at_user_line(
                f"grad can be implicitly created only for scalar outputs, not for "
                f"{type_of(output)}; pass gradient="))  # fmt: skip
        if state.capture is not None:
            state.capture.has_one_element(node_of(output))
        node = OPS["full"](value=1.0, type=node_of(output).type)
        return node, filled_like(output._array, 1)
    if gradient._array.shape != output._array.shape:
        raise ShapeError(at_user_line(
            f"the gradient has shape {tuple(gradient._array.shape)}, the output "
            f"{tuple(output._array.shape)}"))  # fmt: skip
    node = node_of(gradient)
    if gradient._array.dtype != output._array.dtype:
        node = OPS["cast"](node, dtype=output.dtype)
    return node, gradient._array.astype(output._array.dtype, copy=False)


def _check_differentiable(outputs: Sequence[Tensor]) -> None:
    for output in outputs:
        if not output._requires_grad:
            raise RuntimeError(at_user_line(
                "this tensor does not require grad and does not have a grad_fn"))  # fmt: skip


def run_backward(
    outputs: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    wrt: Sequence[Node],
    retain_graph: bool,
    create_graph: bool,
    order: Sequence[Node] | None = None,
) -> list[Tensor | None]:
    """The gradients with respect to the nodes `wrt` (None where there is no path).

    `order` are the nodes below the outputs, for callers that have them in topological order.
    """
    _check_differentiable(outputs)
    walk = _Walk(create_graph, wrt)
    nodes, seeds = [], []
    before, state.grad = state.grad, create_graph
    running.walks.append(walk)
    try:
        for output, gradient in zip(outputs, gradients, strict=True):
            seed, value = initial_gradient(output, gradient)
            walk.evaluate.set(seed, value)
            nodes.append(node_of(output))
            seeds.append(seed)
        _check_not_freed(nodes)
        if order is None:
            order = topological(nodes)
        walk.order = order
        found = backpropagate(nodes, seeds, wrt, walk.on_gradient, walk.call_rule, order)
        freed = [] if retain_graph else _freed_by(nodes, order)
        if not create_graph:
            walk.evaluate.run([g for g in found if g is not None], _may_free(freed, retain_graph))
        results = [None if g is None else walk.tensor(g) for g in found]
        _separate(found, results, create_graph)
        if create_graph:
            _save_for_second_order([g for g in found if g is not None], walk.evaluate)
    finally:
        state.grad = before
        running.walks.pop()
    if not retain_graph:
        if state.capture is None:
            walk.evaluate.free()
        for node in freed:
            _free_node(node, order)
    return results


def _freed_by(nodes: Sequence[Node], order: Sequence[Node]) -> list[Node]:
    """The nodes whose saved values the backward pass of `nodes` frees, read or not.

    On the tape every use of a value without gradient is a node of its own. In a capture such a
    node may serve other losses too, so only nodes that gradients passed through are freed.
    """
    if state.capture is None:
        is_plain = all(type(n.saved) is not SavedCall for n in order)
        return list(order) if is_plain else _below(nodes)
    passed = depends_on(order, [n for n in order if type(n.saved) is Leaf])
    found = []
    stack = [n for n in nodes if n in passed]
    while stack:
        node = stack.pop()
        passed.discard(node)
        if type(node.saved) is Leaf:
            continue
        found.append(node)
        for x in node.inputs:
            if x in passed:
                stack.append(x)
    return found


def _may_free(freed: Sequence[Node], retain_graph: bool) -> Callable[[Node], bool]:
    """Whether what a node saved is of no use once the backward pass has read it."""
    if retain_graph:
        return lambda node: False
    if state.capture is None:
        return lambda node: True
    return set(freed).__contains__


def _check_not_freed(nodes: Sequence[Node]) -> None:
    """Raise if an output's own node was freed by an earlier backward pass."""
    for node in nodes:
        if node.saved is FREED and _reads_freed(node):
            raise RuntimeError(at_user_line(SECOND_TIME))
        if any(x.saved is FREED for x in node.inputs if x.op.name == "call"):
            raise RuntimeError(at_user_line(SECOND_TIME))


def _reads_freed(node: Node) -> bool:
    """Whether the rule of a node with freed values reads any: another's may have been freed."""
    return bool(nodes_read(node, {x for x in node.inputs if has_history(x)}))


def _separate(
    nodes: Sequence[Node | None], results: Sequence[Tensor | None], create_graph: bool
) -> None:
    """Give each gradient memory of its own: not another's, not that of a value on the tape."""
    seen: set[int] = set()
    for node, result in zip(nodes, results, strict=True):
        if node is None or result is None:
            continue
        held = create_graph or node.saved is not None or node.op.name == "input"
        if held or result._array.base is not None or id(result._array) in seen:
            result._array = result._array.copy()
        seen.add(id(result._array))


def _save_for_second_order(gradients: Sequence[Node], evaluate: Evaluator) -> None:
    """The gradient graph joins the tape: keep the values a second backward may read."""
    for node in topological(gradients):
        held = node.inputs or node.op.name == "input"
        unsaved = node.saved is None or node.saved is NEEDS
        if unsaved and held and id(node) in evaluate.values:
            value = evaluate.values[id(node)]
            if not isinstance(node.type, TupleType):
                node.saved = Saved(value, None)


def _below(roots: Sequence[Node]) -> list[Node]:
    """The nodes that the roots depend on: of a compiled call's inputs those of the results used."""
    found: dict[Node, None] = {}
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in found:
            continue
        found[node] = None
        call = node.inputs[0] if node.op.name == "get" else node
        if type(call.saved) is SavedCall:
            found[call] = None
            stack.extend(call.params["rule"].inputs_of(call, node.params["index"]))
        else:
            stack.extend(node.inputs)
    return list(found)


def _free_node(node: Node, used: Sequence[Node]) -> None:
    """Free what a node saved; of a compiled call only what the results in `used` need."""
    if type(node.saved) is Constant:
        return  # a capture let other gradients read it too
    if type(node.saved) is SavedCall:
        node.params["rule"].free(node, [
            x.params["index"] for x in used if x.op.name == "get" and x.inputs[0] is node
        ])  # fmt: skip
    elif node.saved is not None and type(node.saved) is not Leaf:
        node.saved = FREED


def leaves_below(nodes: Sequence[Node]) -> list[tuple[Node, Tensor]]:
    """The leaf nodes (and their tensors) that the nodes depend on, in a deterministic order."""
    return _leaves_in(topological(nodes))


def _leaves_in(order: Sequence[Node]) -> list[tuple[Node, Tensor]]:
    found = []
    for node in order:
        if type(node.saved) is Leaf:
            tensor = node.saved.tensor()
            if tensor is not None:
                found.append((node, tensor))
    return found


def backward(
    tensors: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Sequence[Tensor] | None = None,
) -> None:
    """Accumulate the gradients of `tensors` in the ``.grad`` of the leaves (or of `inputs`)."""
    retain = create_graph if retain_graph is None else retain_graph
    _check_differentiable(tensors)
    order = topological([node_of(t) for t in tensors])
    if inputs is None:
        targets = _leaves_in(order)
    else:
        targets = [(n, t) for t in inputs for n in leaf_nodes(t)]
    wrt = [n for n, _ in targets]
    results = run_backward(tensors, gradients, wrt, retain, create_graph, order)
    for (_, tensor), g in zip(targets, results, strict=True):
        if g is not None:
            accumulate_grad(tensor, g, create_graph)
            if tensor._hooks is not None:
                for hook in list(tensor._hooks.after.values()):
                    hook(tensor)


def accumulate_grad(tensor: Tensor, g: Tensor, create_graph: bool) -> None:
    """``tensor.grad += g``; the first time, ``tensor.grad = g``."""
    if state.capture is not None:
        state.capture.touch_grad(tensor)
    held = tensor._grad
    if held is None:
        if not create_graph and (g._array.base is not None or not g._array.flags.writeable):
            array = g._array.copy()
            trace = g._trace
            g = new_tensor(array)
            g._trace = trace
        tensor._grad = g
    elif create_graph:
        tensor._grad = held + g
    else:
        before = state.grad
        state.grad = False
        try:
            tensor._grad = held.add_(g)
        finally:
            state.grad = before


def _total(parts: Sequence[Tensor | None]) -> Tensor | None:
    given = [g for g in parts if g is not None]
    total = given[0] if given else None
    for g in given[1:]:
        total = total + g
    return total


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of `outputs` with respect to `inputs`, without touching ``.grad``.

    Raises RuntimeError for an input that the outputs do not depend on, unless `allow_unused`
    (None) or `materialize_grads` (zeros).
    """
    if not only_inputs or is_grads_batched:
        raise NotImplementedError(at_user_line(
            "grad() supports neither only_inputs=False nor is_grads_batched=True"))  # fmt: skip
    outs = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
    ins = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    if grad_outputs is None or isinstance(grad_outputs, Tensor):
        grad_outputs = (grad_outputs,) * len(outs)
    for tensor in ins:
        if not tensor._requires_grad:
            raise RuntimeError(at_user_line("one of the inputs does not require grad"))
    retain = create_graph if retain_graph is None else retain_graph
    nodes = [leaf_nodes(t) for t in ins]
    found = iter(run_backward(
        outs, tuple(grad_outputs), [n for group in nodes for n in group], retain, create_graph
    ))  # fmt: skip
    results = [_total([next(found) for _ in group]) for group in nodes]
    final: list[Tensor | None] = []
    for tensor, g in zip(ins, results, strict=True):
        if g is None and materialize_grads:
            g = new_tensor(filled_like(tensor._array, 0))
        elif g is None and not allow_unused:
            raise RuntimeError(at_user_line(
                "one of the inputs was not used in the graph; pass allow_unused=True "
                "if that is meant"))  # fmt: skip
        final.append(g)
    return tuple(final)
