"""Fusion: groups, convexity, what is stored and what recomputed, in-place effects, views."""

from __future__ import annotations

import numpy as np
import pytest

from tracejit import dtypes, ops  # noqa: F401  (registers the ops)
from tracejit.errors import VerifyError
from tracejit.ir.graph import Graph
from tracejit.ir.node import Node
from tracejit.ir.op import OPS
from tracejit.ir.plan import Plan, verify_plan
from tracejit.ir.types import TensorType
from tracejit.ops.reduction import expand_reduced
from tracejit.transforms import fuse, memory, pipeline
from tracejit.transforms.views import (
    Layout,
    apply_view,
    axis_map,
    contiguous,
    reshape_layout,
)


def inp(name: str, *shape: int) -> Node:
    return OPS["input"](name=name, type=TensorType(dtypes.float32, shape))


def plan_of(inputs: tuple[Node, ...], *outputs: Node, effects: tuple = ()) -> Plan:
    return verify_plan(fuse.run(pipeline.run(Graph("g", inputs, outputs, effects))))


def shapes(plan: Plan) -> list[str]:
    return [s.shape if hasattr(s, "shape") else s.name for s in plan.steps]


def test_a_group_never_depends_on_itself_through_an_outsider() -> None:
    x, w = inp("x", 4, 4), inp("w", 4, 4)
    a = OPS["exp"](x)
    b = OPS["matmul"](a, w)
    plan = plan_of((x, w), OPS["tanh"](a) + b)  # a and the sum must not be one kernel
    assert shapes(plan) == ["map", "matmul", "map"]
    assert any("another input depends" in line for line in plan.why_not)


def test_siblings_that_read_the_same_value_are_one_kernel() -> None:
    x = inp("x", 4, 5)
    plan = plan_of((x,), OPS["exp"](x), OPS["tanh"](x), OPS["reduce_sum"](x, axes=(1,)))
    assert shapes(plan) == ["row"]


def test_siblings_with_a_detour_between_them_stay_apart() -> None:
    x, w = inp("x", 4, 4), inp("w", 4, 4)
    a = OPS["exp"](x)
    b = OPS["matmul"](a, w)
    plan = plan_of((x, w), a, OPS["mul"](b, x))
    assert shapes(plan) == ["map", "matmul", "map"]


def test_row_and_column_reductions_of_one_value() -> None:
    x = inp("x", 4, 5)
    y = OPS["exp"](x)
    plan = plan_of((x,), OPS["reduce_sum"](y, axes=(1,)), OPS["reduce_sum"](y, axes=(0,)))
    assert shapes(plan) == ["row", "column"]
    assert any("reduces other axes" in line for line in plan.why_not)


def test_what_needs_the_whole_reduction_waits() -> None:
    x = inp("x", 64)
    total = OPS["reduce_sum"](x, axes=(0,))
    assert shapes(plan_of((x,), x * expand_reduced(total, x, (0,)))) == ["full", "map"]


def test_cheap_values_are_recomputed_and_costly_ones_stored() -> None:
    x, w = inp("x", 4, 4), inp("w", 4, 4)
    cheap = x * 2.0
    plan = plan_of((x, w), cheap + OPS["matmul"](w, w), OPS["reduce_sum"](cheap, axes=(0,)))
    assert all(cheap.op.name != n.op.name for s in plan.kernels for n in s.stores)
    costly = OPS["exp"](OPS["tanh"](x))
    plan = plan_of((x, w), costly + OPS["matmul"](w, w), OPS["reduce_sum"](costly, axes=(0,)))
    assert [n.op.name for s in plan.kernels for n in s.body].count("tanh") == 1


def test_of_a_costly_chain_the_costly_value_is_stored_once() -> None:
    x, w = inp("x", 4, 4), inp("w", 4, 4)
    t = OPS["tanh"](x * x * x + x)
    hidden = OPS["matmul"](x * (t + 1.0), w)
    after = hidden * (1.0 - t * t) + hidden * ((t + 1.0) * 0.5)
    plan = plan_of((x, w), OPS["matmul"](after, w))
    first, last = plan.kernels
    assert sum(n.op.name == "tanh" for s in plan.kernels for n in s.body) == 1
    assert t in first.stores and len(first.stores) == 2
    assert {n.op.name for n in last.body} >= {"sub", "mul", "add"}


def test_random_numbers_are_drawn_once() -> None:
    key, offset = (
        OPS["input"](name=n, type=TensorType(dtypes.int64, ()), role="scalar") for n in "ko"
    )
    noise = OPS["random_uniform"](key, offset, type=TensorType(dtypes.float32, (4, 5)))
    turned = OPS["transpose"](noise, perm=(1, 0)) * 2.0
    plan = plan_of((key, offset), noise, turned)
    assert [n.op.name for s in plan.kernels for n in s.body].count("random_uniform") == 1


def test_a_plan_that_reads_too_early_is_refused() -> None:
    x, w = inp("x", 4, 4), inp("w", 4, 4)
    plan = plan_of((x, w), OPS["exp"](OPS["matmul"](x, w)))
    plan.steps.reverse()
    with pytest.raises(VerifyError, match="not stored yet"):
        verify_plan(plan)


def test_effects_in_place() -> None:
    x, y = inp("x", 8), inp("y", 8)
    plan = plan_of((x, y), effects=((x, x + y),))
    assert [n.params["name"] for n in memory.in_place(plan).values()] == ["x"]


@pytest.mark.parametrize("case", ["read later", "turned", "output", "check"])
def test_effects_not_in_place(case: str) -> None:
    x, y = inp("x", 4, 4), inp("y", 4, 4)
    new = x + y
    outputs: tuple[Node, ...] = ()
    if case == "read later":
        outputs = (OPS["exp"](OPS["matmul"](new, y)) + x,)
    elif case == "turned":
        new = OPS["transpose"](x, perm=(1, 0)) + y
    elif case == "output":
        outputs = (new,)
    graph = Graph("g", (x, y), outputs, ((x, new),))
    if case == "check":
        good = OPS["reduce_all"](OPS["lt"](OPS["matmul"](new, y), y), axes=(0, 1))
        graph = Graph("g", (x, y), outputs, ((x, new),), ((good, "no"),))
    assert memory.in_place(fuse.run(pipeline.run(graph))) == {}


def test_what_a_check_needs_runs_before_all_else_and_apart() -> None:
    x, y = inp("x", 8), inp("y", 8)
    good = OPS["reduce_all"](OPS["lt"](x, y), axes=(0,))
    graph = Graph("g", (x, y), (OPS["exp"](x),), ((x, x + y),), ((good, "no"),))
    plan = fuse.run(pipeline.run(graph))
    assert [len(s.domain) for s in plan.kernels] == [1, 0, 1]  # the check, its cast, the rest
    assert [n.params["name"] for n in memory.in_place(plan).values()] == ["x"]
    free = fuse.run(pipeline.run(Graph("g", (x, y), (OPS["exp"](x), good), ((x, x + y),))))
    assert len(free.kernels) < 3


def test_axis_maps() -> None:
    x = inp("x", 3, 4)
    total = OPS["reduce_sum"](x, axes=(1,))
    spread = expand_reduced(total, x, (1,))
    assert axis_map((3,), (spread.inputs[0], spread)) == (0, None)
    turned = OPS["transpose"](x, perm=(1, 0))
    assert axis_map(x.shape, (turned,)) == (1, 0)
    assert axis_map(x.shape, (OPS["reshape"](x, shape=(12,)),)) is None
    assert axis_map(x.shape, (OPS["flip"](x, axes=(0,)),)) is None


def test_reshapes_are_views_where_numpys_are() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        shape = tuple(int(n) for n in rng.choice([1, 2, 3, 4, 6], rng.integers(1, 4)))
        array = np.arange(int(np.prod(shape))).reshape(shape).transpose(rng.permutation(len(shape)))
        target = tuple(int(n) for n in rng.permutation(shape))
        view = array.view()
        strides = tuple(s // 8 for s in array.strides)
        layout = reshape_layout(Layout(array.shape, strides), target)
        try:
            view.shape = target
        except AttributeError:
            assert layout is None
            continue
        assert layout is not None
        lain = np.lib.stride_tricks.as_strided(array, target, [8 * s for s in layout.strides])
        np.testing.assert_array_equal(lain, view)


@pytest.mark.parametrize("view", [
    lambda x: OPS["slice"](x, starts=(1, 0), stops=(5, 4), steps=(2, 3)),
    lambda x: OPS["flip"](x, axes=(0, 1)),
    lambda x: OPS["broadcast_to"](x, shape=(2, 5, 4)),
    lambda x: OPS["windows"](x, axes=(0,), sizes=(2,), steps=(2,), dilations=(2,)),
])  # fmt: skip
def test_layouts_of_views(view: object) -> None:
    x = inp("x", 5, 4)
    node = view(x)  # type: ignore[operator]
    array = np.arange(20.0)
    layout = apply_view(contiguous((5, 4)), node, int)
    assert layout is not None
    strides = [8 * s for s in layout.strides]
    lain = np.lib.stride_tricks.as_strided(array[layout.offset :], layout.shape, strides)
    np.testing.assert_array_equal(lain, node.op.numpy(array.reshape(5, 4), **node.params))


def test_a_residual_stream_is_stored_rather_than_summed_again_by_every_reader() -> None:
    x, w = start, weight = inp("x", 2, 4, 8), inp("w", 8, 8)
    outputs = []
    for _ in range(4):
        flat = OPS["reshape"](x, shape=(8, 8))
        x = x + OPS["reshape"](OPS["matmul"](flat, w), shape=(2, 4, 8))
        outputs.append(OPS["reduce_max"](x, axes=(2,)))
    plan = plan_of((start, weight), *outputs)
    adds = [sum(n.op.name == "add" for n in k.body) for k in plan.kernels]
    assert adds == [1, 1, 1, 1]
