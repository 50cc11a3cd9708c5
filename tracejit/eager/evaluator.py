"""Values of the nodes of the tape and of gradient graphs, computed when asked for.

Invariant: a value is computed once. `run`, which knows all that will be asked for, lets go of each
after its last use, of those that the forward pass saved too: a backward pass needs room for what
the forward pass left and a few gradients, not for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracejit.eager.execute import beside_constants, execute
from tracejit.eager.modes import state
from tracejit.eager.tape import FREED, Constant, Leaf, Saved, changed_message
from tracejit.errors import at_user_line
from tracejit.ir.interpret import concrete_params
from tracejit.ir.node import Node
from tracejit.runtime.device_array import DeviceArray

SECOND_TIME = (
    "backward through the same graph a second time: its saved values were freed; "
    "pass retain_graph=True to the first backward"
)


class Evaluator:
    """Computes values of nodes of the tape and of gradient graphs, each once."""

    def __init__(self) -> None:
        self.values: dict[int, Any] = {}
        self.alive: list[Node] = []  # ids in `values` stay valid while their nodes live
        self.read: list[Node] = []

    def set(self, node: Node, value: Any) -> None:
        self.values[id(node)] = value
        self.alive.append(node)

    def __call__(self, root: Node) -> Any:
        """The value of one node; all that it took is kept."""
        self._evaluate(root, self._keep)
        return self.values[id(root)]

    def _keep(self, node: Node) -> None:
        """A use of a value that may not have been the last."""

    def run(self, roots: Sequence[Node], may_free: Callable[[Node], bool]) -> None:
        """Compute the values of `roots`, dropping others after their last use; of what the tape
        saved, that of the nodes which `may_free` allows.

        The last root comes first: `roots` in the order of the forward pass take the least memory.
        """
        uses = self._uses(roots)
        for key in self.values.keys() - uses.keys():
            del self.values[key]

        def used(node: Node) -> None:
            uses[id(node)] -= 1
            if not uses[id(node)]:
                del self.values[id(node)]
                if type(node.saved) is Saved and may_free(node):
                    node.saved = FREED

        for root in reversed(roots):
            self._evaluate(root, used)

    def _uses(self, roots: Sequence[Node]) -> dict[int, int]:
        """How often the values that `roots` depend on will be read; one more for a root."""
        uses: dict[int, int] = {}
        stack = list(roots)
        while stack:
            node = stack.pop()
            known = uses.get(id(node), 0)
            uses[id(node)] = known + 1
            if known or id(node) in self.values:
                continue
            if node.saved is None or not self._load(node):
                stack.extend(node.inputs)
        return uses

    def _evaluate(self, root: Node, used: Callable[[Node], None]) -> None:
        """Make sure that the value of `root` is there; `used` is told of every value read."""
        values = self.values
        stack = [root]
        while stack:
            node = stack[-1]
            if id(node) in values or (node.saved is not None and self._load(node)):
                stack.pop()
                continue
            missing = [x for x in node.inputs if id(x) not in values]
            if missing:
                stack.extend(missing)
                continue
            self.set(node, self._compute(node))
            for x in node.inputs:
                used(x)
            stack.pop()

    def _load(self, node: Node) -> bool:
        saved: Saved = node.saved
        if saved is FREED:
            raise RuntimeError(at_user_line(SECOND_TIME))
        array = saved.array
        if array is None:
            if type(saved) is Leaf and node.op.name == "input":
                tensor = saved.tensor()
                array = None if tensor is None else tensor._array
            if array is None:
                return False
        elif not saved.is_current:
            raise RuntimeError(at_user_line(changed_message(saved, node.op.name)))
        elif state.capture is not None and saved.was_changed:
            state.capture.refuse("a value that a gradient needs was changed through .data", None)
        self.set(node, array)
        self.read.append(node)
        return True

    def _compute(self, node: Node) -> Any:
        if node.op.name == "input":
            raise RuntimeError(at_user_line("the value of a tensor needed by backward is gone"))
        arrays = [self.values[id(x)] for x in node.inputs]
        if any(type(a) is DeviceArray for a in arrays):
            arrays = beside_constants(arrays, node.inputs)
        return execute(node.op, arrays, concrete_params(node.params))

    def free(self) -> None:
        """Drop what the tape saved for the nodes that were read (leaves keep their tensors)."""
        for node in self.read:
            if type(node.saved) is Leaf:
                node.saved.array = None
            elif type(node.saved) is not Constant:  # which a capture let several gradients read
                node.saved = FREED
