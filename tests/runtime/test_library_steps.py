"""Library steps without Python: values against NumPy's, bit for bit, in one native program."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from random_graphs import input_node

from tracejit import config, dtypes
from tracejit.ir.graph import Graph
from tracejit.ir.interpret import interpret
from tracejit.ir.node import Node, full_like
from tracejit.ir.op import OPS
from tracejit.runtime.executable import build
from tracejit.runtime.host_call import HostCall
from tracejit.transforms import joins

RNG = np.random.default_rng(3)
ZERO = np.array([0.0, -0.0, 1.5, -2.5], "f4")


def rand(*shape: int) -> np.ndarray:
    return RNG.choice(ZERO, shape) * RNG.integers(1, 9, shape).astype("f4")


def places(high: int, *shape: int) -> np.ndarray:
    return RNG.integers(0, high, shape)


def nodes(*arrays: np.ndarray) -> list[Node]:
    kinds = {np.dtype(d.numpy): d for d in (dtypes.float32, dtypes.int64, dtypes.int8)}
    made = enumerate(arrays)
    return [input_node(f"x{i}", a.shape, kinds[a.dtype]) for i, a in made]


def run(result: Node, inputs: list[Node], arrays: list[np.ndarray], native: bool = True) -> Any:
    """Compare with the interpreter; `native`: as one native program without host calls."""
    graph = Graph("g", tuple(inputs), (result,))
    executable = build(graph)
    frame = executable.own_frame(arrays)
    (wanted,), (got,) = interpret(graph, arrays), frame.call(arrays)
    assert got.dtype == wanted.dtype and got.shape == wanted.shape
    assert np.ascontiguousarray(wanted).tobytes() == got.tobytes()
    assert any(isinstance(s, HostCall) for s in frame.segments) != native
    assert len(frame.segments) <= 1
    return executable


def check(name: str, arrays: list[np.ndarray], native: bool = True, **params: Any) -> Any:
    inputs = nodes(*arrays)
    return run(OPS[name](*inputs, **params), inputs, arrays, native)


def test_writes_to_slices() -> None:
    how = {"starts": (1, 0), "stops": (6, 5), "steps": (2, 1)}
    check("slice_scatter", [rand(7, 5), rand(3, 5)], **how)
    check("slice_scatter", [rand(3, 5), rand(3, 5)], starts=(0, 0), stops=(3, 5), steps=(1, 1))
    check("slice_scatter", [rand(3, 5), rand(0, 5)], starts=(2, 0), stops=(2, 5), steps=(1, 1))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_concatenate(axis: int) -> None:
    shapes = [[2, 3, 4] for _ in range(3)]
    shapes[1][axis] = 0
    shapes[2][axis] = 5
    check("concatenate", [rand(*s) for s in shapes], axis=axis)


def test_concatenating_regrouped_views_copies_once() -> None:
    arrays = [rand(2, 4, 3, 5), rand(2, 3, 20)]
    x, y = inputs = nodes(*arrays)
    moved = OPS["reshape"](OPS["transpose"](x, perm=(0, 2, 1, 3)), shape=(2, 3, 20))
    done = run(OPS["concatenate"](moved, y, axis=2), inputs, arrays)
    assert len(done.own_frame(arrays).launches) == 2


def test_pad_and_diagonals() -> None:
    check("pad", [rand(3, 4)], low=(1, 0), high=(0, 2), value=-0.0)
    check("pad", [rand(3, 4)], low=(0, 0), high=(0, 0), value=1.0)
    for offset in (-2, 0, 1):
        where = {"offset": offset, "axis1": 2, "axis2": 0}
        check("diagonal", [rand(4, 2, 5)], **where)
        size = np.diagonal(np.empty((4, 2, 5)), offset, 2, 0).shape
        check("diagonal_scatter", [rand(4, 2, 5), rand(*size)], **where)
    check("as_strided", [rand(20)], shape=(3, 4), steps=(2, 3), offset=1)


@pytest.mark.parametrize("sizes, steps", [((2, 2), (2, 2)), ((3, 2), (1, 2)), ((9, 8), (1, 1))])
def test_windows_add(sizes: tuple[int, int], steps: tuple[int, int]) -> None:
    how = {"axes": (1, 2), "sizes": sizes, "steps": steps, "dilations": (1, 1)}
    windows = OPS["windows"](input_node("x", (2, 10, 10)), **how)
    array = rand(*windows.shape)
    check("windows_add", [array], shape=(2, 10, 10), **how)


@pytest.mark.parametrize("steps, gaps", [((2, 2), (1, 1)), ((1, 3), (2, 1)), ((1, 1), (1, 1))])
@pytest.mark.parametrize("sizes", [(2, 2), (3, 3), (5, 4)])
def test_window_maxima(sizes: tuple[int, int], steps: Any, gaps: Any) -> None:
    how = {"axes": (2, 3), "sizes": sizes, "steps": steps, "dilations": gaps}
    x = RNG.choice(np.array([0, -0.0, 1, 2, np.nan], "f4"), (2, 3, 11, 12))
    _, index = OPS["window_max"].numpy(x, **how)
    for flipped in (False, True):  # an operand whose axes are not in the order of memory
        node = input_node("x", x.shape)
        array = x if not flipped else np.ascontiguousarray(x.transpose(1, 0, 2, 3))
        node = node if not flipped else input_node("x", array.shape)
        seen = OPS["transpose"](node, perm=(1, 0, 2, 3)) if flipped else node
        found = OPS["window_max"](seen, **how)
        for part in range(2):
            run(OPS["get"](found, index=part), [node], [array])
    g = rand(*index.shape)
    places = input_node("index", index.shape, dtypes.uint8)
    inputs = [input_node("g", g.shape), places]
    run(OPS["window_put"](*inputs, shape=x.shape, **how), inputs, [g, index])


@pytest.mark.parametrize(
    "kind, shape, axis",
    [("f4", (5,), 0), ("i1", (5, 3), 0), ("i8", (4, 70), 1), ("f4", (2, 6, 130), 1)],
)
def test_scatter(kind: str, shape: tuple[int, ...], axis: int) -> None:
    index_shape = tuple(9 if i == axis else n for i, n in enumerate(shape))
    index = places(shape[axis], *index_shape)
    for name in ("scatter", "scatter_add"):
        check(name, [rand(*shape).astype(kind), index, rand(*index_shape).astype(kind)], axis=axis)
    arrays = [rand(*shape).astype(kind), index, rand(*index_shape).astype(kind)]
    check("scatter_reduce", arrays, axis=axis, reduce="prod")
    check("scatter_reduce", arrays, False, axis=axis, reduce="amax")


def test_a_scatter_into_a_corner_stays_a_call() -> None:
    check("scatter_add", [rand(5, 4), places(5, 3, 2), rand(3, 2)], False, axis=0)


@pytest.mark.parametrize("index_shape", [(), (0,), (40,), (5, 8)])
def test_take_add(index_shape: tuple[int, ...]) -> None:
    y = rand(3, *index_shape, 70)
    check("take_add", [rand(3, 6, 70), places(6, *index_shape), y], axis=1)


def test_take_add_is_the_same_on_one_thread_and_many() -> None:
    arrays = [np.zeros((65, 128), "f4"), places(65, 2000), RNG.random((2000, 128), "f4")]
    check("take_add", arrays, axis=0)
    with config.override(parallel_grain=1):
        check("take_add", arrays, axis=0)


@pytest.mark.parametrize("accumulate", [True, False])
def test_index_put(accumulate: bool) -> None:
    arrays = [rand(2, 4, 5, 3), rand(2, 6, 3), places(4, 6), places(5, 6)]
    check("index_put", arrays, axes=(1, 2), accumulate=accumulate)
    arrays = [rand(4, 2, 5), rand(6, 2), places(4, 6), places(5, 6)]
    check("index_put", arrays, False, axes=(0, 2), accumulate=accumulate)


@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
@pytest.mark.parametrize("shape, axis", [((70,), 0), ((4, 6), 1), ((3, 5, 200), 1), ((2, 0), 1)])
def test_running_sums(name: str, shape: tuple[int, ...], axis: int) -> None:
    check(name, [rand(*shape)], axis=axis)
    check(name, [rand(*shape).astype("i8")], axis=axis)


# sums of parts ------------------------------------------------------------------------------------


def written(x: Node, start: int, size: int, axis: int = 1) -> Node:
    shape = tuple(size if i == axis else n for i, n in enumerate(x.shape))
    low = tuple(start if i == axis else 0 for i in range(x.ndim))
    high = tuple(a + n for a, n in zip(low, x.shape, strict=True))
    zeros = OPS["full"](value=0.0, type=x.type.with_shape(shape))
    return OPS["slice_scatter"](zeros, x, starts=low, stops=high, steps=(1,) * x.ndim)


def ops_of(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes()]


@pytest.mark.parametrize("starts", [(0, 3, 6), (6, 3, 0), (7, 0, 3)])
def test_disjoint_slices_are_joined(starts: tuple[int, ...]) -> None:
    arrays = [rand(2, 3) for _ in starts]
    inputs = nodes(*arrays)
    a, b, c = (written(x, s, 10) for x, s in zip(inputs, starts, strict=True))
    done = run((a + b) + c, inputs, arrays)
    assert "sum_of_parts" in ops_of(done.graph) and "add" not in ops_of(done.graph)


def test_slices_that_overlap_or_are_needed_alone_are_not_joined() -> None:
    arrays = [rand(2, 3), rand(2, 3)]
    x, y = inputs = nodes(*arrays)
    for a, b in (
        (written(x, 0, 10), written(y, 2, 10)),
        (written(x, 0, 3), written(y, 0, 3)),
    ):
        assert "sum_of_parts" not in ops_of(run(a + b, inputs, arrays).graph)
    a, b = written(x, 0, 10), written(y, 3, 10)
    graph = Graph("g", (x, y), (a + b, a))
    assert "sum_of_parts" not in ops_of(joins.run(graph))
    other = OPS["slice_scatter"](full_like(a, -0.0), y, starts=(0, 3), stops=(2, 6), steps=(1, 1))
    assert "sum_of_parts" not in ops_of(joins.run(Graph("g", (x, y), (a + other,))))
