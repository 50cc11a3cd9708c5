"""`build`: values against the interpreter, kernel counts, effects, checks, threads, shapes."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from random_graphs import assert_equal, input_node, random_graph

from tracejit import config, dtypes
from tracejit.codegen.compiler import kernel_history
from tracejit.errors import CheckFailed, CompileError, DTypeError, ShapeError
from tracejit.ir.graph import Graph
from tracejit.ir.interpret import interpret
from tracejit.ir.node import Node, full_like
from tracejit.ir.op import OPS
from tracejit.ir.sizes import SizeEnv
from tracejit.ops.reduction import expand_reduced
from tracejit.runtime.executable import build
from tracejit.runtime.threads import set_num_threads

F32 = dtypes.float32


@pytest.fixture(autouse=True)
def _checked() -> Any:
    with config.override(check=1):
        yield


def rand(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype("f4")


def same_as_interpreter(graph: Graph, arrays: list[Any]) -> Any:
    with np.errstate(all="ignore"):
        wanted = interpret(graph, arrays)
    executable = build(graph)
    assert_equal(wanted[: len(graph.outputs)], executable.run(arrays))
    return executable


def gelu(x: Node) -> Node:
    inner = (x + x * x * x * 0.044715) * 0.7978845608
    return x * 0.5 * (OPS["tanh"](inner) + 1.0)


def layer_norm(x: Node, eps: float = 1e-5) -> Node:
    axes, n = (x.ndim - 1,), float(x.shape[-1])
    centred = x - expand_reduced(OPS["reduce_sum"](x, axes=axes) / n, x, axes)
    variance = OPS["reduce_sum"](OPS["square"](centred), axes=axes) / n
    return centred * expand_reduced(OPS["rsqrt"](variance + eps), x, axes)


@pytest.mark.parametrize("seed", range(8))
def test_random_graphs(seed: int) -> None:
    graph, arrays = random_graph(seed)
    same_as_interpreter(graph, arrays)


def test_gelu_is_one_map_kernel() -> None:
    x, w = input_node("x", (40, 9)), input_node("w", (40, 9))
    done = same_as_interpreter(Graph("g", (x, w), (gelu(x) * w,)), [rand(40, 9), rand(40, 9)])
    assert [k.shape for k in done.kernels] == ["map"]


@pytest.mark.parametrize("rows, n", [(5, 7), (3, 64), (2, 130), (1, 1)])
def test_softmax_and_its_gradient_are_one_row_kernel_each(rows: int, n: int) -> None:
    x, g = input_node("x", (rows, n)), input_node("g", (rows, n))
    forward = Graph("f", (x,), (OPS["softmax"](x, axis=1),))
    assert [k.shape for k in same_as_interpreter(forward, [rand(rows, n)]).kernels] == ["row"]
    (backward,) = OPS["softmax"].vjp(g, x, x, axis=1)
    done = same_as_interpreter(Graph("b", (x, g), (backward,)), [rand(rows, n), rand(rows, n)])
    assert [k.shape for k in done.kernels] == ["row"]


def test_layer_norm_is_one_row_kernel() -> None:
    x, w, b = input_node("x", (6, 33)), input_node("w", (33,)), input_node("b", (33,))
    y = layer_norm(gelu(x) + x)
    y = y * OPS["broadcast_to"](w, shape=(6, 33)) + OPS["broadcast_to"](b, shape=(6, 33))
    done = same_as_interpreter(Graph("ln", (x, w, b), (y,)), [rand(6, 33), rand(33), rand(33)])
    assert [k.shape for k in done.kernels] == ["row"]


@pytest.mark.parametrize("op", ["reduce_sum", "reduce_prod", "reduce_max", "reduce_min"])
@pytest.mark.parametrize("shape, axes", [
    ((300, 5), (0,)), ((3, 300, 4), (1,)), ((5000,), (0,)), ((70, 90), (0, 1)), ((4, 3, 5), (0, 2)),
    ((0, 3), (0,)), ((3, 0), (1,)), ((20000, 1), (0,)),
])  # fmt: skip
def test_reductions(op: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    if 0 in shape and op in ("reduce_max", "reduce_min"):
        pytest.skip("refused by the type rule")
    x = input_node("x", shape, dtypes.float64)
    array = np.random.default_rng(1).uniform(0.99, 1.01, shape)
    same_as_interpreter(Graph("r", (x,), (OPS[op](x * x, axes=axes),)), [array])


def test_a_full_reduction_adds_in_the_same_order_however_its_operand_lies() -> None:
    x, w = input_node("x", (130, 77)), input_node("w", (77,))
    product = x * OPS["broadcast_to"](w, shape=(130, 77))
    fused = build(Graph("f", (x, w), (OPS["reduce_sum"](product, axes=(0, 1)),)))
    plain = build(Graph("p", (x,), (OPS["reduce_sum"](x, axes=(0, 1)),)))
    a, b = rand(130, 77), rand(77, seed=1)
    assert fused.run([a, b])[0] == plain.run([a * b])[0]
    assert fused.run([np.asfortranarray(a), b])[0] == plain.run([a * b])[0]


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_bits_do_not_depend_on_the_number_of_threads(axes: tuple[int, ...]) -> None:
    x = input_node("x", (700, 300))
    graph = Graph("t", (x,), (gelu(x), OPS["reduce_sum"](OPS["exp"](x), axes=axes)))
    array = rand(700, 300)
    before = config.threads
    try:
        with config.override(parallel_grain=1000):
            set_num_threads(1)
            alone = build(graph).run([array])
            set_num_threads(4)
            shared = build(graph).run([array])
    finally:
        set_num_threads(before)
    for a, b in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(a, b)


def test_batch_sizes_share_kernels() -> None:
    env = SizeEnv()
    n = env.symbol(64)
    x, w = input_node("x", (n, 10)), input_node("w", (10,))
    y = OPS["softmax"](gelu(x) * OPS["broadcast_to"](w, shape=(n, 10)), axis=1)
    graph = Graph("s", (x, w), (y, OPS["reduce_sum"](y, axes=(0,)), OPS["matmul"](
        x, OPS["reshape"](w, shape=(10, 1)))))  # fmt: skip
    done = build(graph)
    facts = len(env.facts)
    for rows in (64, 0, 1, 2, 7, 64, 3):
        arrays = [rand(rows, 10), rand(10)]
        y0 = done.run(arrays)
        assert y0[0].shape == (rows, 10)
        assert y0[1].shape == (10,)
        product = arrays[0] @ arrays[1].reshape(10, 1)
        np.testing.assert_allclose(y0[2], product, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(y0[0].sum(1), np.ones(rows), rtol=1e-5)
    assert len(done.kernels) == 2
    assert len(env.facts) == facts


def test_scalars_never_recompile() -> None:
    x, lr = input_node("x", (8,)), input_node("lr", (), role="scalar")
    k = input_node("k", (), dtypes.int64, role="scalar")
    spread = OPS["broadcast_to"](lr, shape=(8,))
    count = OPS["cast"](OPS["broadcast_to"](k, shape=(8,)), dtype=F32)
    done = build(Graph("lr", (x, lr, k), (x * spread + count,)))
    array = rand(8)
    for step in range(20):
        rate = 0.1 / (step + 1)
        wanted = array * np.float32(rate) + np.float32(step)
        np.testing.assert_array_equal(done.run([array, rate, step])[0], wanted)
    assert len(done.kernels) == 1


def test_effects_are_committed_together() -> None:
    a, b = input_node("a", (5,)), input_node("b", (5,))
    graph = Graph("swap", (a, b), (a + b,), ((a, b * 2.0), (b, a)))
    x, y = rand(5), rand(5, seed=1)
    before = x.copy(), y.copy()
    (total,) = build(graph).run([x, y])
    np.testing.assert_array_equal(total, before[0] + before[1])
    np.testing.assert_array_equal(x, before[1] * 2)
    np.testing.assert_array_equal(y, before[0])


def test_effects_on_overlapping_inputs_read_the_old_values() -> None:
    a, b = input_node("a", (4,)), input_node("b", (4,))
    graph = Graph("shift", (a, b), (OPS["exp"](b),), ((a, b + 1.0),))
    memory = np.zeros(5, "f4")
    (result,) = build(graph).run([memory[1:], memory[:4]])
    np.testing.assert_array_equal(result, np.ones(4))
    np.testing.assert_array_equal(memory, [0, 1, 1, 1, 1])


def test_effects_reach_strided_inputs() -> None:
    a = input_node("a", (3, 4))
    whole = np.zeros((4, 6), "f4")
    build(Graph("e", (a,), (), ((a, a + 1.0),))).run([whole.T[1:4, :4].T.T])
    assert whole.sum() == 12


def test_checks_come_before_effects() -> None:
    a = input_node("a", (4,))
    good = OPS["reduce_all"](OPS["lt"](a, a * 0.0 + 10.0), axes=(0,))
    graph = Graph("c", (a,), (), ((a, a + 100.0),), ((good, "too large"),))
    x = np.ones(4, "f4")
    done = build(graph)
    done.run([x])
    with pytest.raises(CheckFailed, match="too large"):
        done.run([x])
    np.testing.assert_array_equal(x, np.full(4, 101, "f4"))


def test_outputs_stay_valid_and_own_their_memory() -> None:
    x = input_node("x", (3, 4))
    y = x + 1.0
    graph = Graph("o", (x,), (y, OPS["transpose"](y, perm=(1, 0)), x, y, OPS["exp"](x)))
    done, array = build(graph), rand(3, 4)
    first = done.run([array])
    copies = [a.copy() for a in first]
    done.run([rand(3, 4, seed=5)])
    for a, b in zip(first, copies, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not any(np.shares_memory(a, b) for a in first for b in [array])
    assert len({a.ctypes.data for a in first}) == len(first)


def test_wrong_arguments_are_refused() -> None:
    x = input_node("x", (3,))
    done = build(Graph("w", (x,), (x + 1.0,)))
    with pytest.raises(DTypeError, match="x: expected"):
        done.run([np.zeros(3)])
    with pytest.raises(TypeError, match="takes 1 inputs"):
        done.run([])
    with pytest.raises(ValueError, match="got size 4"):
        done.run([np.zeros(4, "f4")])


def test_threads_run_one_executable_at_once() -> None:
    x = input_node("x", (200, 30))
    done = build(Graph("t", (x,), (OPS["softmax"](x, axis=1), OPS["reduce_sum"](x, axes=(0,)))))
    faults: list[str] = []

    def work(seed: int) -> None:
        array = rand(200, 30, seed=seed)
        wanted = array.sum(0)
        for _ in range(20):
            p, total = done.run([array])
            if abs(p.sum() - 200) > 1e-2 or not np.allclose(total, wanted, atol=1e-3):
                faults.append(str(seed))

    threads = [threading.Thread(target=work, args=(s,)) for s in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not faults


def embedding_graph() -> tuple[Graph, list[np.ndarray]]:
    rng = np.random.default_rng(0)
    w, p = input_node("w", (50, 16)), input_node("p", (7, 16))
    i = input_node("i", (4, 7), dtypes.int64)
    y = OPS["take"](w, i, axis=0) + OPS["broadcast_to"](p, shape=(4, 7, 16))
    return Graph("e", (w, i, p), (y,)), [rand(50, 16), rng.integers(0, 50, (4, 7)), rand(7, 16)]


def test_embedding_with_positions_is_one_kernel() -> None:
    graph, arrays = embedding_graph()
    done = same_as_interpreter(graph, arrays)
    assert [k.shape for k in done.kernels] == ["map"]


def test_negative_log_likelihood_needs_no_library_call() -> None:
    x, t = input_node("x", (6, 10)), input_node("t", (6,), dtypes.int64)
    picked = OPS["gather"](OPS["log_softmax"](x, axis=1), OPS["reshape"](t, shape=(6, 1)), axis=1)
    loss = -OPS["reduce_sum"](picked, axes=(0, 1)) / 6.0
    target = np.random.default_rng(0).integers(0, 10, 6)
    done = same_as_interpreter(Graph("nll", (x, t), (loss,)), [rand(6, 10), target])
    assert len(done.plan.kernels) == len(done.plan.steps)
    zeros = OPS["full"](value=0.0, type=x.type)
    one = OPS["reshape"](t, shape=(6, 1))
    total = OPS["reshape"](OPS["reduce_sum"](x, axes=(1,)), shape=(6, 1))
    spread = OPS["scatter_add"](zeros, one, total, axis=1)
    done = same_as_interpreter(Graph("back", (x, t), (spread,)), [rand(6, 10), target])
    assert [k.shape for k in done.kernels] == ["row"]


@pytest.mark.parametrize("axes", [(1, 2), (0, 1), (0,), (2,), (0, 1, 2)])
@pytest.mark.parametrize("what", ["positions", "gather"])
def test_reductions_of_what_has_no_strides(axes: tuple[int, ...], what: str) -> None:
    x, i = input_node("x", (3, 4, 5)), input_node("i", (3, 4, 5), dtypes.int64)
    place = OPS["cast"](OPS["iota"](type=i.type, axis=2), dtype=F32)
    y = x * place if what == "positions" else OPS["gather"](x, i, axis=1) * 2.0
    index = np.random.default_rng(0).integers(0, 4, (3, 4, 5))
    graph = Graph("r", (x, i), (OPS["reduce_sum"](y, axes=axes),))
    same_as_interpreter(graph, [rand(3, 4, 5), index])


def test_random_numbers_are_those_of_the_reference() -> None:
    key = input_node("key", (), dtypes.int64, role="scalar")
    offset = input_node("offset", (), dtypes.int64, role="scalar")
    x = input_node("x", (30, 7))
    noise = OPS["random_uniform"](key, offset, type=x.type)
    done = build(Graph("d", (x, key, offset), (OPS["where"](noise < 0.5, x, x * 0.0), noise)))
    array = rand(30, 7)
    for start in (0, 210):
        kept, drawn = done.run([array, 1234567890123, start])
        wanted = OPS["random_uniform"].numpy(1234567890123, start, type=x.type)
        np.testing.assert_array_equal(drawn, wanted)
        np.testing.assert_array_equal(kept, np.where(wanted < 0.5, array, array * 0))
    assert len(done.kernels) == 1


def test_optimizer_update_is_in_place_and_one_kernel() -> None:
    n = 1000
    p, g, m = (input_node(name, (n,)) for name in "pgm")
    lr = input_node("lr", (), role="scalar")
    momentum = m * 0.9 + g
    new = p - OPS["broadcast_to"](lr, shape=(n,)) * momentum
    graph = Graph("sgd", (p, g, m, lr), (), ((p, new), (m, momentum)))
    done = build(graph)
    arrays = [rand(n, seed=s) for s in range(3)]
    wanted = interpret(graph, [*arrays, np.float32(0.25)])
    done.run([*arrays, 0.25])
    np.testing.assert_array_equal(arrays[0], wanted[0])
    np.testing.assert_array_equal(arrays[2], wanted[1])
    assert [k.shape for k in done.kernels] == ["map"]
    assert len(done.in_place) == 2


def test_host_steps_split_segments() -> None:
    x = input_node("x", (6, 5))
    values = OPS["sort"](x * 2.0, axis=1, descending=False)
    graph = Graph("h", (x,), (values[0] + 1.0, values[1], OPS["cumsum"](values[0], axis=0)))
    same_as_interpreter(graph, [rand(6, 5)])


def test_a_second_call_compiles_nothing() -> None:
    x = input_node("x", (10, 3))
    done = build(Graph("n", (x,), (gelu(x), OPS["reduce_max"](x, axes=(0,)))))
    done.run([rand(10, 3)])
    count = len(kernel_history())
    done.run([rand(10, 3)])
    assert len(kernel_history()) == count
    assert "def kernel" in done.kernels[0].source
    assert str(done.plan).startswith("# ")
    assert list(done.stages)[:2] == ["captured", "decompose"]
    assert list(done.stages)[-1] == "plan"


def test_faults_of_the_compiler_are_compile_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    x = input_node("x", (4,))
    executable = build(Graph("g", (x,), (x + x,)))

    def broken(*arguments: Any) -> None:
        raise KeyError("a fault")

    monkeypatch.setattr("tracejit.runtime.builder.Builder.build", broken)
    with pytest.raises(CompileError, match="KeyError: 'a fault'") as caught:
        executable.run([rand(4)])
    assert isinstance(caught.value.__cause__, KeyError)
    monkeypatch.setattr("tracejit.transforms.fuse.run", broken)
    with pytest.raises(CompileError, match="compiling g"):
        build(Graph("g", (x,), (x + x,)))


def test_errors_about_arrays_stay_what_they_are() -> None:
    x = input_node("x", (4,))
    executable = build(Graph("g", (x,), (x + x,)))
    with pytest.raises(ShapeError, match="got size 5"):
        executable.run([rand(5)])


def test_outputs_twice_checks_and_effects_are_one_native_call() -> None:
    x, y = input_node("x", (4,)), input_node("y", (4,))
    holds = OPS["reduce_all"](OPS["gt"](y, full_like(y, 0.0)), axes=(0,))
    total = x + y
    graph = Graph("g", (x, y), (total, total), ((x, total * y),), ((holds, "y is positive"),))
    executable, arrays = build(graph), [rand(4), np.ones(4, "f4")]
    frame, before = executable.own_frame(arrays), arrays[0].copy()
    assert frame.straight is not None
    assert list(executable.in_place.values()) == [x]
    first, second = frame.call(arrays)
    assert first is not second and (first == before + 1).all() and (second == first).all()
    assert (arrays[0] == before + 1).all()
    arrays[1][2] = -1.0
    before = arrays[0].copy()
    with pytest.raises(CheckFailed, match="y is positive"):
        frame.call(arrays)
    assert (arrays[0] == before).all()


def test_checks_come_before_what_is_written_in_place() -> None:
    x, y = input_node("x", (4,)), input_node("y", (4,))
    holds = OPS["reduce_all"](OPS["gt"](y, full_like(y, 0.0)), axes=(0,))
    graph = Graph("g", (x, y), (), ((x, x * y),), ((holds, "y is positive"),))
    executable = build(graph)
    assert list(executable.in_place.values()) == [x]
    good, bad = np.ones(4, "f4"), np.array([1, 1, -1, 1], "f4")
    array = rand(4)
    before = array.copy()
    with pytest.raises(CheckFailed, match="y is positive"):
        executable.run([array, bad])
    assert (array == before).all()
    executable.run([array, good * 2])
    assert (array == before * 2).all()
    both = np.ones(5, "f4")
    executable.run([both[:4], both[1:]])  # they overlap: as if all was read first
    assert (both == 1).all()


def test_a_caller_of_its_own_takes_the_frame_of_the_run_before() -> None:
    x = input_node("x", (4,))
    executable, array = build(Graph("g", (x,), (x + x,))), rand(4)
    executable.run([array])
    (held,) = executable._frames.values()
    (frame,) = held
    assert executable.own_frame([array]) is frame and not held
    assert executable.own_frame([array]) is not frame
    np.testing.assert_array_equal(executable.run([array])[0], array + array)


def test_idle_frames_of_many_sizes_hold_a_bounded_amount_of_memory(monkeypatch: Any) -> None:
    for limit in ("MAX_ARENA_BYTES", "MAX_REPLAYED_BYTES"):
        monkeypatch.setattr(f"tracejit.runtime.executable.{limit}", 20_000)
    env = SizeEnv()
    n = env.symbol(5)
    x, w = input_node("x", (n, 16)), input_node("w", (16, 16))
    hidden = OPS["tanh"](OPS["matmul"](x, w))
    done = build(Graph("g", (x, w), (OPS["matmul"](hidden, w),)))
    for rows in range(5, 60):
        done.run([rand(rows, 16), rand(16, 16)])
        assert done._idle_bytes() <= 20_000 + 2 * (64 * 16 * 4 + 64)
    assert 1 < len(done._frames) < 55
