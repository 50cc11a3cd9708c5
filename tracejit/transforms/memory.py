"""Effects written in place: which stored values may go straight into the input that they replace.

Invariant: the old value of an input is never read after the kernel that overwrites it, and no input
is written before all checks are known to hold.
"""

from __future__ import annotations

from collections import Counter

from tracejit.ir.node import Node
from tracejit.ir.plan import KernelStep, Plan, Step
from tracejit.ir.sizes import size_key
from tracejit.transforms.views import base_and_views


def in_place(plan: Plan) -> dict[int, Node]:
    """Map from the id of a stored value to the input whose memory it may take.

    Whether the arrays of a call overlap is not known here: the frame checks that at every call.
    """
    graph = plan.graph
    checked = {id(condition) for condition, _ in graph.checks}
    decided = [i for i, s in enumerate(plan.steps) if any(id(n) in checked for n in s.stores)]
    first = max(decided, default=-1) + 1
    outputs = {id(n) for n in graph.outputs}
    uses = Counter(id(value) for _, value in graph.effects)
    writers: dict[int, int] = {}
    readers: dict[int, int] = {}  # the last step that reads a value
    for number, step in enumerate(plan.steps):
        for node in step.stores:
            writers.setdefault(id(node), number)
        for node in step.reads:
            readers[id(node)] = number
    chosen: dict[int, Node] = {}
    for target, value in graph.effects:
        if id(value) in outputs or uses[id(value)] > 1:
            continue
        writer = writers.get(id(value))
        if writer is None or writer < first or readers.get(id(target), -1) > writer:
            continue
        if _may_write(plan.steps[writer], target, value):
            chosen[id(value)] = target
    return chosen


def _may_write(step: Step, target: Node, value: Node) -> bool:
    """Whether the step may store `value` where it reads `target`, which no later one reads."""
    if not isinstance(step, KernelStep) or step.shape != "map":
        return False
    if [size_key(n) for n in step.domain] != [size_key(n) for n in value.shape]:
        return False
    for node in step.body:
        for x in node.inputs:
            base, views = base_and_views(x)
            elsewhere = views or base_and_views(node)[1] or node.op.name == "gather"
            if base is target and elsewhere:
                return False
    return _reads_in_step(step, target)


def _reads_in_step(step: KernelStep, target: Node) -> bool:
    """Whether the step reads `target` at the very element that it writes (or not at all)."""
    domain = [size_key(n) for n in step.domain]
    inside = set(step.body)
    for node in step.body:
        moved = [size_key(n) for n in node.shape] != domain
        if moved and any(base_and_views(x)[0] is target for x in node.inputs):
            return False
        for x in node.inputs:
            base, views = base_and_views(x)
            if views and base in inside and _depends(base, target, inside):
                return False
    return True


def _depends(node: Node, target: Node, inside: set[Node]) -> bool:
    """Whether `node` is computed in the step from `target`."""
    stack, seen = [node], {id(node)}
    while stack:
        for x in stack.pop().inputs:
            base, _ = base_and_views(x)
            if base is target:
                return True
            if id(base) not in seen and base in inside:
                seen.add(id(base))
                stack.append(base)
    return False
