"""The tape: what is recorded, kept and freed; backward, hooks, gradient modes.

Invariant: expected gradients are worked out by hand.
"""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest

import tracejit as torch
from tracejit.runtime.buffers import memory_stats, reset_peak


def leaf(*values: float) -> torch.Tensor:
    return torch.tensor(values, requires_grad=True)


# --- what is recorded ------------------------------------------------------------------------


def test_nothing_is_recorded_without_grad() -> None:
    y = torch.ones(3) * 2
    assert y._node is None
    assert y.grad_fn is None
    assert y.is_leaf
    assert not y.requires_grad


def test_results_of_what_requires_grad_do_too_and_are_no_leaves() -> None:
    x = leaf(1.0, 2.0)
    y = x * 3
    assert (x.is_leaf, y.is_leaf) == (True, False)
    assert y.requires_grad
    assert y.grad_fn.name() == "MulBackward0"
    assert x.grad_fn is None
    assert not (y > 1).requires_grad
    assert not y.long().requires_grad
    assert not y.detach().requires_grad


def test_integers_cannot_require_grad() -> None:
    with pytest.raises(RuntimeError, match=r"only floating.*i64\[2\]"):
        torch.tensor([1, 2]).requires_grad_()


def test_the_record_of_a_dropped_result_is_dropped() -> None:
    x = leaf(*map(float, range(1000)))
    y = x.exp()
    array = weakref.ref(y._array)
    del y
    gc.collect()
    assert array() is None


def test_only_what_a_rule_reads_is_kept() -> None:
    x = leaf(1.0, 2.0)
    middle = x * 2  # read by neither addition's nor multiplication-by-a-number's rule
    array = weakref.ref(middle._array)
    y = middle + 1
    del middle
    gc.collect()
    assert array() is None
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


# --- backward --------------------------------------------------------------------------------


def test_gradients_of_several_uses_add_up() -> None:
    x = leaf(2.0, 3.0)
    (x * x + 5 * x).sum().backward()
    assert x.grad.tolist() == [9.0, 11.0]


def test_gradients_accumulate_over_backward_calls() -> None:
    x = leaf(1.0)
    for _ in range(3):
        (4 * x).backward()
    assert x.grad.tolist() == [12.0]
    x.grad = None
    (4 * x).backward()
    assert x.grad.tolist() == [4.0]


def test_broadcast_operands_get_gradients_of_their_own_shape() -> None:
    row, column = torch.ones(3, requires_grad=True), torch.ones(2, 1, requires_grad=True)
    (row * column * torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])).sum().backward()
    assert row.grad.tolist() == [5.0, 7.0, 9.0]
    assert column.grad.tolist() == [[6.0], [15.0]]


def test_a_given_gradient_weighs_the_outputs() -> None:
    x = leaf(1.0, 2.0)
    (x * x).backward(torch.tensor([1.0, 10.0]))
    assert x.grad.tolist() == [2.0, 40.0]


def test_backward_of_several_elements_needs_a_gradient_of_their_shape() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match=r"scalar outputs.*f32\[2\]"):
        (x * x).backward()
    with pytest.raises(RuntimeError, match=r"\(3,\).*\(2,\)"):
        (x * x).backward(torch.ones(3))


def test_backward_without_a_graph_raises() -> None:
    with pytest.raises(RuntimeError, match="does not require grad"):
        torch.ones(()).backward()


def test_a_second_backward_needs_retain_graph() -> None:
    x = leaf(3.0)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [12.0]
    with pytest.raises(RuntimeError, match=r"second time.*retain_graph=True"):
        y.backward()


def test_nodes_that_save_nothing_serve_several_backward_passes() -> None:
    x = leaf(3.0)
    y = x + 1
    (y * y).backward()
    y.backward()
    (y * 3).backward()
    assert x.grad.tolist() == [8.0 + 1.0 + 3.0]


def test_create_graph_gives_derivatives_of_any_order() -> None:
    x = torch.tensor(2.0, requires_grad=True)
    value, found = x**4, []
    for _ in range(5):
        (value,) = torch.autograd.grad(value, x, create_graph=True, materialize_grads=True)
        found.append(value.item())
        if not value.requires_grad:
            break
    assert found == [32.0, 48.0, 48.0, 24.0, 0.0]


def test_backward_with_create_graph_records_into_grad() -> None:
    x = torch.tensor(3.0, requires_grad=True)
    (x**3).backward(create_graph=True)
    assert x.grad.item() == 27.0
    (second,) = torch.autograd.grad(x.grad, x)
    assert second.item() == 18.0


def test_inputs_limit_where_gradients_accumulate() -> None:
    x, y = leaf(2.0), leaf(5.0)
    (x * y).backward(inputs=[x])
    assert x.grad.tolist() == [5.0]
    assert y.grad is None


def test_grad_of_an_unused_input() -> None:
    x, y = leaf(1.0), leaf(1.0)
    with pytest.raises(RuntimeError, match="allow_unused"):
        torch.autograd.grad(x.sum(), [x, y])
    gx, gy = torch.autograd.grad(x.sum(), [x, y], allow_unused=True)
    assert (gx.tolist(), gy) == ([1.0], None)


def test_gradients_own_their_memory() -> None:
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    seed = torch.ones(2)
    (x + y).backward(seed)
    x.grad.mul_(7)
    assert y.grad.tolist() == [1.0, 1.0]
    assert seed.tolist() == [1.0, 1.0]


def test_the_gradient_has_the_dtype_of_its_leaf() -> None:
    x = torch.ones(2, dtype=torch.float16, requires_grad=True)
    (x.double() * 3).sum().backward()
    assert x.grad.dtype is torch.float16
    assert x.grad.tolist() == [3.0, 3.0]


def test_a_long_chain_needs_no_recursion() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(5000):
        y = y + 0.5
    y.backward()
    assert (y.item(), x.grad.item()) == (2501.0, 1.0)


# --- hooks -----------------------------------------------------------------------------------


def test_hooks_see_and_replace_gradients_until_removed() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    seen = []
    y.register_hook(lambda g: seen.append(g.tolist()))
    handle = y.register_hook(lambda g: g * 10)
    y.sum().backward(retain_graph=True)
    assert seen == [[1.0, 1.0]]
    assert x.grad.tolist() == [20.0, 20.0]
    handle.remove()
    handle.remove()
    y.sum().backward()
    assert x.grad.tolist() == [22.0, 22.0]


def test_a_leafs_hook_and_what_runs_after_accumulation() -> None:
    x = leaf(3.0)
    x.register_hook(lambda g: g + 1)
    after = []
    x.register_post_accumulate_grad_hook(lambda t: after.append(t.grad.item()))
    (x * 2).backward()
    (x * 2).backward()
    assert after == [3.0, 6.0]


def test_retain_grad_keeps_the_gradient_of_a_result() -> None:
    x = leaf(2.0)
    y = x * x
    y.retain_grad()
    (y * 5).backward()
    assert (y.grad.item(), x.grad.item()) == (5.0, 20.0)


def test_hooks_need_grad() -> None:
    with pytest.raises(RuntimeError, match="requires grad"):
        torch.ones(2).register_hook(print)


# --- modes -----------------------------------------------------------------------------------


def test_no_grad_as_block_and_decorator_and_enable_grad_within() -> None:
    x = leaf(1.0)
    with torch.no_grad():
        assert not (x * 2).requires_grad
        with torch.enable_grad():
            assert (x * 2).requires_grad
        assert not torch.is_grad_enabled()

    @torch.no_grad()
    def called() -> torch.Tensor:
        return x * 2

    @torch.no_grad
    def bare() -> torch.Tensor:
        return x * 2

    assert not called().requires_grad
    assert not bare().requires_grad
    assert torch.is_grad_enabled()


def test_modes_come_back_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), torch.no_grad():
        raise ZeroDivisionError
    assert torch.is_grad_enabled()
    with pytest.raises(ZeroDivisionError), torch.inference_mode():
        raise ZeroDivisionError
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_set_grad_enabled_as_call_and_block() -> None:
    x = leaf(1.0)
    with torch.set_grad_enabled(False):
        assert not (x * 2).requires_grad
    torch.set_grad_enabled(False)
    assert not (x * 2).requires_grad
    torch.set_grad_enabled(True)
    assert (x * 2).requires_grad


def test_inference_mode_says_so() -> None:
    x = leaf(1.0)
    with torch.inference_mode():
        assert torch.is_inference_mode_enabled()
        assert not (x * 2).requires_grad
        with torch.inference_mode(False):
            assert not torch.is_inference_mode_enabled()
    assert (x * 2).requires_grad


def test_a_generator_records_as_its_decorator_says() -> None:
    x = leaf(1.0)

    @torch.no_grad()
    def steps():  # type: ignore[no-untyped-def]
        yield x * 2
        yield x * 3

    found = []
    for y in steps():
        found.append(y.requires_grad)
        assert torch.is_grad_enabled()
    assert found == [False, False]


def test_each_thread_has_its_own_mode() -> None:
    seen = []
    with torch.no_grad():
        thread = threading.Thread(target=lambda: seen.append(torch.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_detach_shares_memory_and_cuts_the_graph() -> None:
    x = leaf(1.0, 2.0)
    y = (x * 2).detach()
    y[0] = 9.0
    assert not y.requires_grad
    z = x.detach()
    z[0] = 7.0
    assert x.tolist() == [7.0, 2.0]
    assert np.shares_memory(z.numpy(), x.detach().numpy())


def test_square_records_one_op_eager_and_compiled() -> None:
    """As a product of two equal operands its gradient would be added up in another order."""

    def f(x):
        y = x * 3.0
        return (torch.square(y) * 0.1 + y * 0.7 + y / 3.0).sum()

    grads = []
    for run in (f, torch.compile(f)):
        x = torch.randn(64, requires_grad=True, generator=torch.Generator().manual_seed(1))
        run(x).backward()
        grads.append(x.grad.tolist())
    assert grads[0] == grads[1]


def grown(run) -> int:
    """By how many results of 64 KB the pool's peak passes what it holds when `run` begins."""
    before = memory_stats()["in_use"]
    reset_peak()
    run()
    return (memory_stats()["peak"] - before) // 65536


def test_a_backward_pass_takes_little_more_memory_than_the_forward_pass_left():
    weights = [torch.ones(128, 128, requires_grad=True) for _ in range(20)]

    def forward():
        x = torch.ones(128, 128)
        for weight in weights:
            x = torch.tanh(x @ weight)
        return x.sum()

    forward().backward()  # gradients exist from here on
    loss = forward()
    assert grown(lambda: loss.backward(retain_graph=True)) < 30  # a gradient for each weight
    kept = [w.grad.clone() for w in weights]
    for w in weights:
        w.grad = None
    assert grown(loss.backward) < 8  # what is saved goes as gradients come
    assert all(torch.equal(w.grad * 2, g) for w, g in zip(weights, kept))


def test_a_hook_on_several_gradients_runs_once_in_a_pass() -> None:
    """As torch's: with None where the pass does not reach, or with the first of them."""
    a, b, other = (torch.ones(2, requires_grad=True) for _ in range(3))
    seen: list[object] = []
    every = torch.autograd.graph.register_multi_grad_hook(
        (a, b, other), lambda grads: seen.append([g is not None for g in grads])
    )
    first = torch.autograd.graph.register_multi_grad_hook(
        (a, b), lambda g: seen.append(g.tolist()), mode="any"
    )
    (a * b * 3).sum().backward()
    assert len(seen) == 2 and [True, True, False] in seen and [3.0, 3.0] in seen
    first.remove()
    (a * 2).sum().backward()
    assert seen[2:] == [[True, False, False]]
    every.remove()
    (a * b).sum().backward()
    assert len(seen) == 3


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_keeps_its_input_only(approximate: str) -> None:
    x = torch.ones(128, 128, requires_grad=True)
    torch.nn.functional.gelu(x.exp(), approximate=approximate).sum().backward()
    before = memory_stats()["in_use"]
    loss = torch.nn.functional.gelu(x.exp(), approximate=approximate).sum()
    assert memory_stats()["in_use"] - before == 65536  # what exp gave
    del loss


def test_a_leaf_that_was_initialised_through_data_has_its_gradient() -> None:
    """As DCGAN's `weights_init` does: writes through ``.data`` are not autograd's business."""
    w = torch.nn.Parameter(torch.ones(3))
    torch.nn.init.constant_(w.data, 2.0)
    (w * w).sum().backward()
    assert w.grad.tolist() == [4.0, 4.0, 4.0]
    kernel = torch.nn.Parameter(torch.ones(1, 1, 1, 1))
    kernel.data.fill_(3.0)
    x = torch.ones(1, 1, 2, 2, requires_grad=True)
    torch.nn.functional.conv2d(x, kernel).sum().backward()
    assert x.grad.flatten().tolist() == [3.0] * 4
    y = w * w
    with torch.no_grad():
        w.add_(1.0)
    with pytest.raises(RuntimeError, match="changed by an in-place"):
        y.sum().backward()
