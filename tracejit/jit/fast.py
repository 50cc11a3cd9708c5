"""The fast call path: guards and the native call in one generated function.

Made after a tree's first replay when its one path is a straight program: no branch, no effect on
Python, plain outputs. Invariant: it applies only where every guard of its group holds and shapes
and strides are those of its frame; in all other cases the slow path decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.tensor import Tensor


def build_fast(group: Any, tensors: tuple[Tensor, ...]) -> Any:
    """A function of the call's arguments that gives its result or MISS; None if not possible."""
    segment = group.tree.root
    leaf = segment.leaf
    if leaf is None or leaf.effects or leaf.checks or group.inputs.scalars:
        return None
    finish = leaf.finish
    if finish.grads or finish.assigns or finish.draws or finish.backward is not None:
        return None
    if any(r.kind != "output" or r.requires_grad for r in finish.results):
        return None
    if any(kind != "input" for kind, _ in segment.reads):
        return None
    arrays = {id(n): t._array for n, t in zip(group.inputs.nodes, tensors, strict=True)}
    straight = segment.program.straight_calls([arrays[id(node)] for _, node in segment.reads])
    return None if straight is None else _write(group, segment, tensors, *straight)


def _write(
    group: Any, segment: Any, tensors: tuple[Tensor, ...], idle: list[Any], makers: Sequence[Any]
) -> Any:
    """The function: `idle` holds the native calls of free frames, `makers` make the outputs."""
    writer, _ = group.write_guards(like=tensors)
    finish = segment.leaf.finish
    names = {id(n): f"{t}._array" for n, t in zip(group.inputs.nodes, writer.tensor_names)}
    body = writer.after
    free = writer.constant(idle)
    body += ["    try:", f"        run = {free}.pop()", "    except IndexError:", "        return MISS"]
    outputs = []
    for i, (make, shape) in enumerate(makers):
        outputs.append(f"o{i}")
        body.append(f"    o{i} = {writer.constant(make)}({shape!r})")
    arguments = ", ".join([*(names[id(node)] for _, node in segment.reads), *outputs])
    body += [f"    run({arguments})", f"    {free}.append(run)"]
    writer.table["new"] = object.__new__
    leaves = []
    for i, result in enumerate(finish.results):
        body += [f"    r{i} = new(Tensor)", f"    r{i}._array = o{result.index}"]
        leaves.append(f"r{i}")
    if finish.is_single:
        return writer.build("r0")
    return writer.build(f"{writer.constant(finish.build)}([{', '.join(leaves)}])")
