"""The fast call path: guards, native call and what follows it, in one generated function.

Made after a tree's replay when its one path is a single program. Invariant: it applies only where
every guard of its group holds and shapes and strides are those of its frame; in all other cases
the slow path decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.eager.scalars import CallNumber
from tracejit.eager.tape import note_writes
from tracejit.errors import CheckFailed
from tracejit.ir.sizes import evaluate
from tracejit.jit.layouts import inverse
from tracejit.jit.replay import chain_at, replay_chain
from tracejit.jit.trace import SourceNumber
from tracejit.runtime.program import Expected
from tracejit.tensor import Tensor


def build_fast(group: Any, tensors: tuple[Tensor, ...], sizes: dict[str, int]) -> Any:
    """A function of the call's arguments that gives its result or MISS; None if not possible."""
    segment = group.tree.root
    if (
        segment.leaf is None
        or segment.leaf.finish.prints
        or segment.leaf.finish.constants
        or any(kind != "input" for kind, _ in segment.reads)
    ):
        return None
    values: dict[int, Any] = {
        id(n): t._array for n, t in zip(group.inputs.nodes, tensors, strict=True)
    }
    for read, node in group.inputs.scalars:
        values[id(node)] = (
            node.type.dtype.numpy.type(0) if isinstance(read, CallNumber) else read(sizes)
        )
    arguments = [values[id(node)] for _, node in segment.reads]
    return _Writer(group, segment, tensors, sizes, arguments).write()


class _Writer:
    """Writes one fast call."""

    def __init__(
        self, group: Any, segment: Any, tensors: tuple[Tensor, ...], sizes: dict[str, int],
        arguments: Sequence[Any],
    ):  # fmt: skip
        self.frame = segment.program.own_frame(arguments)
        self.guards, _ = group.write_guards(tensors, self._expect(group, segment, arguments))
        self.segment = segment
        self.finish = segment.leaf.finish
        self.sizes = sizes
        self.tensors = self.guards.tensor_names
        self.lines: list[str] = self.guards.after
        self.constant = self.guards.constant
        self.names = {id(n): f"{t}._array" for n, t in zip(group.inputs.nodes, self.tensors)}
        self.arguments = "".join(f"a{i}, " for i in range(self.guards.count))
        self.numbers: list[str] = []
        for i, (read, node) in enumerate(group.inputs.scalars):
            self.numbers.append(f"n{i}")
            number = f"{self.constant(read)}({self.constant(sizes)})"
            if isinstance(read, SourceNumber):
                number = read.source.expression(self.constant)
            elif isinstance(read, CallNumber):
                number = f"{self.constant(read.read)}(({self.arguments}))"
            self.lines.append(f"    n{i} = {number}")
            self.names[id(node)] = f"n{i}"
        self.table = self.guards.table
        self.table.update(new=object.__new__, note_writes=note_writes, CheckFailed=CheckFailed)
        self.made: dict[int, str] = {}

    def _expect(self, group: Any, segment: Any, arguments: Sequence[Any]) -> list[int]:
        """Let the native call check the layouts of inputs; the positions of those it checks."""
        if self.frame.straight is None:
            return []
        argument_of = {id(node): i for i, (_, node) in enumerate(segment.reads)}
        inputs = enumerate(zip(group.inputs.nodes, group.inputs.tensors, strict=True))
        positions = [
            i for i, (node, wanted) in inputs
            if id(node) in argument_of and not wanted.is_module and not wanted.is_held
        ]  # fmt: skip
        layouts = []
        for position in positions:
            argument = argument_of[id(group.inputs.nodes[position])]
            array = arguments[argument]
            layouts.append(Expected(argument, array.dtype, array.shape, array.strides))
        self.frame.expect(layouts)
        return positions

    def write(self) -> Any:
        """The function."""
        self._run()
        for i, order in self.segment.leaf.orders.items():
            self.lines.append(f"    o{i} = o{i}.transpose({inverse(order)})")
        finish = self.finish
        for i, (_, read) in enumerate(finish.counters):
            self.lines.append(f"    c{i} = {self.constant(read)}(({self.arguments}))")
        for draw in finish.draws:
            count = evaluate(draw.count, self.sizes)
            self.lines.append(f"    {self.constant(draw.generator)}.take({self.constant(count)})")
        if finish.written:
            written = "".join(f"{self.tensors[i]}, " for i in finish.written)
            places = self.constant(tuple(finish.written_at))
            self.lines.append(f"    note_writes(({written}), {places})")
        if finish.backward is not None:
            tracked = "".join(f"{self._result(r)}, " for r in finish.tracked)
            groups = ["".join(f"{n}, " for n in names)
                      for names in (self.tensors, self.numbers, self.outputs)]  # fmt: skip
            self.lines.append(
                f"    {self.constant(finish.backward)}.attach"
                f"(({groups[0]}), ({groups[1]}), ({groups[2]}), ({tracked}))"
            )
        leaves = [self._result(r) for r in finish.results]
        for position, result in finish.grads:
            value = "None" if result is None else self._result(result)
            self.lines.append(f"    {self.tensors[position]}._grad = {value}")
        for source, result in finish.assigns:
            target = self.constant(source)
            self.lines.append(f"    {target}.write(({self.arguments}), {self._result(result)})")
        for i, (source, _) in enumerate(finish.counters):
            self.lines.append(f"    {self.constant(source)}.write(({self.arguments}), c{i})")
        self.lines.append(f"    {self.constant(self.segment)}.hits += 1")
        if finish.is_single:
            return self.guards.build(leaves[0])
        return self.guards.build(f"{self.constant(finish.build)}([{', '.join(leaves)}])")

    def _run(self) -> None:
        """Take a frame, make the outputs, run, put the frame back."""
        inputs = [self.names[id(node)] for _, node in self.segment.reads]
        frame = self.frame
        self.outputs = [f"o{i}" for i in range(len(self.segment.graph.outputs))]
        idle = self.constant([frame.call if frame.straight is None else frame.straight])
        self.lines += [
            "    try:", f"        run = {idle}.pop()", "    except IndexError:",
            "        return MISS",
        ]  # fmt: skip
        if frame.straight is not None:
            for name, (make, shape) in zip(self.outputs, frame.makers, strict=True):
                self.lines.append(f"    {name} = {self.constant(make)}({self.constant(shape)})")
            self.lines += [
                f"    status = run({', '.join([*inputs, *self.outputs])})",
                f"    {idle}.append(run)",
                "    if status:", "        return MISS",
            ]  # fmt: skip
            return
        targets = f"{', '.join(self.outputs)}, = " if self.outputs else ""
        self.lines += [
            "    try:",
            f"        {targets}run(({''.join(f'{x}, ' for x in inputs)}))",
            "    except CheckFailed:",
            "        return MISS",
            "    finally:",
            f"        {idle}.append(run)",
        ]

    def _result(self, result: Any) -> str:
        """The expression of one result; outputs are made once."""
        if result.kind == "input":
            return self.tensors[result.index]
        if result.kind == "number":
            return f"{self.constant(result.convert)}(o{result.index}.item())"
        held = self.made.get(id(result))
        if held is not None:
            return held
        name = self.made[id(result)] = f"r{len(self.made)}"
        if result.kind == "output":
            self.lines += [f"    {name} = new(Tensor)", f"    {name}._array = o{result.index}"]
            return name
        base = self._result(result.base)
        self.table["replay_chain"] = replay_chain
        chain = self.constant(chain_at(result.chain, self.sizes))
        self.lines.append(f"    {name} = replay_chain({base}, {chain}, {result.requires_grad})")
        return name
