"""Records of numbers, and frames for new sizes made from the record of another one's build.

Invariant tested: a frame that replays a record computes what a frame built for its sizes computes,
bit for bit, and a record whose decisions do not hold for a size is not replayed for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tracejit as torch
from tracejit.errors import ShapeError
from tracejit.ir.graph import Graph
from tracejit.ir.sizes import SymInt
from tracejit.runtime.builder import Builder
from tracejit.runtime.executable import build
from tracejit.runtime.recorded import Record, Recorded, at, call, plain

SIZES = (8, 5, 12, 1, 2, 0, 31, 32, 33, 64, 65, 40, 300, 257, 7, 3, 520)


def recorded(*numbers: int) -> tuple[Record, list[Any]]:
    record = Record(numbers)
    return record, list(record.leaves)


def test_numbers_follow_the_leaves():
    record, (a, b) = recorded(6, 4)
    made = [a + b, 2 * a - b, a * 8 // b, a % b, -a, (a + 0) * 1, 1 - b, 20 // b, 21 % b]
    record.close()
    values = record.replay([9, 5])
    assert values is not None
    assert [at(x, values) for x in made] == [14, 13, 14, 4, -9, 9, -4, 4, 1]
    assert list(map(plain, made)) == [10, 8, 12, 2, -6, 6, -3, 5, 1]


def test_constants_stay_numbers_and_equal_work_is_done_once():
    record, (a, _) = recorded(6, 4)
    assert a * 0 == 0 and type(a * 0) is int and a % 1 == 0 and a // 1 is a
    assert (a * 8).index == (a * 8).index and a * 8 == a * 8
    record.close()
    assert record.replay([7, 5]) is not None  # nothing was decided


@pytest.mark.parametrize(
    "decide",
    [lambda a: a > 5, lambda a: a == 6, lambda a: max(a, 5), lambda a: 0 in (a - 6, 1),
     lambda a: bool(a - 6), lambda a: (a, 2) == (6, 2), lambda a: np.int64(6) == a],
)  # fmt: skip
def test_decisions_are_facts(decide):
    record, (a, _) = recorded(6, 4)
    decide(a)
    record.close()
    assert record.replay([6, 7]) is not None and not record.is_fixed
    assert record.replay([4, 4]) is None


@pytest.mark.parametrize("use", [int, hash, float, lambda a: range(a), lambda a: np.zeros(a)])
def test_a_number_used_as_such_holds_for_itself_alone(use):
    record, (a, _) = recorded(6, 4)
    use(a + 1)
    record.close()
    assert record.is_fixed
    assert record.replay([7, 4]) is None and record.replay([6, 5]) is not None


def test_functions_are_called_again_and_arrays_are_new():
    record, (a, b) = recorded(6, 4)
    low, high = call(lambda x, pair: (min(x, *pair), max(x, *pair)), a, (b, 5))
    table = call(lambda n: np.arange(n), b)
    other = call(lambda n: np.arange(n), 3)
    record.close()
    values = record.replay([3, 8])
    assert values is not None and (at(low, values), at(high, values)) == (3, 8)
    assert at(table, values).tolist() == list(range(8)) and other.tolist() == [0, 1, 2]
    again = record.replay([3, 8])
    assert again is not None and at(table, again) is not at(table, values)


def test_sizes_far_away_are_another_matter():
    record, (a, b) = recorded(6, 4)
    a + b
    record.close()
    assert record.replay([12, 2]) is not None
    assert record.replay([13, 4]) is None and record.replay([6, 1]) is None
    assert record.replay([0, 4]) is None


def test_division_by_what_was_no_zero():
    record, (a, b) = recorded(6, 4)
    assert b - 4 == 0 and a // (b - 2) == 3
    record.close()
    assert record.replay([6, 2]) is None


def test_a_closed_record_gives_the_numbers_of_its_run():
    record, (a, _) = recorded(6, 4)
    made = a + 2
    record.close()
    assert made == 8 and made > 7 and int(made) == 8 and made * 2 == 16 and repr(made) == "<8>"
    assert type(made) is Recorded and not record.is_fixed


# --- frames --------------------------------------------------------------------------------------


def mixed(x, w, c):
    y = torch.tanh(x @ w + c)
    z = torch.softmax(y, -1) * y.mean(0) + torch.cat([y, y[:, :3]], 1)[:, 3:]
    return z.sum(0), (z.t() @ x).reshape(-1), z.transpose(0, 1).contiguous()


def attention(x, w, c):
    q = (x @ w).reshape(-1, 4, 6).transpose(0, 1)
    scores = torch.softmax(q @ q.transpose(1, 2) * 0.3, -1)
    return (scores @ q).transpose(0, 1).reshape(-1, 24) + c, scores.amax(0), torch.cumsum(q, 1)


def gradients(x, w, c):
    loss = torch.nn.functional.layer_norm(torch.nn.functional.gelu(x @ w), (24,), c).square().mean()
    return torch.autograd.grad(loss, (x, w, c))


def graph_of(function: Any) -> Graph:
    """The graph of a function of x, w and c whose first size varies."""
    compiled = torch.compile(function)
    for size in (8, 5, 6, 12):
        compiled(*map(needing_grad, arrays_of(size)))
    groups = [g for signature in compiled.signatures.values() for g in signature.groups]
    graphs = [g.tree.root.graph for g in groups]
    return next(g for g in graphs if type(g.inputs[0].shape[0]) is SymInt)


def arrays_of(size: int) -> list[np.ndarray]:
    rng = np.random.default_rng(size)
    return [rng.standard_normal(s).astype(np.float32) for s in ((size, 16), (16, 24), (24,))]


def needing_grad(array: np.ndarray) -> Any:
    return torch.tensor(array, requires_grad=True)


@pytest.mark.parametrize("function", [mixed, attention, gradients])
def test_replayed_frames_compute_what_built_frames_do(function, monkeypatch):
    graph = graph_of(function)
    assert [node.params["name"] for node in graph.inputs] == ["x", "w", "c"]
    program, built = build(graph), []
    build_frame = Builder.build
    for size in SIZES:
        arrays = arrays_of(size)
        with monkeypatch.context() as patch:
            patch.setattr(Builder, "build", lambda self: (built.append(1), build_frame(self)))
            own = program.run(arrays)
        for a, b in zip(own, build(graph).run(arrays), strict=True):
            assert a.shape == b.shape and a.tobytes() == b.tobytes(), size
    assert len(built) < len(SIZES) - 3
    assert all(blueprint.is_general for blueprint in program._blueprints[True])


def test_a_transposed_input_may_have_another_size():
    graph = graph_of(mixed)
    program = build(graph)
    for size in (8, 6, 7, 10, 5):
        x, w, c = arrays_of(size)
        x = np.asfortranarray(x)
        for a, b in zip(program.run([x, w, c]), build(graph).run([x, w, c]), strict=True):
            assert a.tobytes() == b.tobytes()
    assert len(program._blueprints[True]) == 1


def test_other_shapes_are_refused_as_before():
    program = build(graph_of(mixed))
    for size in (8, 6, 7):
        program.run(arrays_of(size))
    x, w, c = arrays_of(9)
    with pytest.raises(ShapeError, match="expected"):
        program.run([x, w[:, :20].copy(), c])
