"""Views, writes in place and version counters: who sees a write, what backward makes of it.

Invariant: expected contents and gradients are written out by hand.
"""

from __future__ import annotations

import re
import warnings

import pytest

import tracejit as torch
from tracejit.errors import TraceWarning


def square(n: int = 3) -> torch.Tensor:
    """0, 1, 2, ... as an n x n matrix."""
    return torch.arange(float(n * n)).reshape(n, n)


VIEWS = {
    "transpose": (lambda x: x.t(), (0, 1), (1, 0)),
    "row": (lambda x: x[1], (2,), (1, 2)),
    "slice": (lambda x: x[::2, 1:], (1, 0), (2, 1)),
    "reshape": (lambda x: x.reshape(9), (5,), (1, 2)),
    "view": (lambda x: x.view(-1, 1), (4, 0), (1, 1)),
    "unsqueeze": (lambda x: x.unsqueeze(0), (0, 2, 1), (2, 1)),
    "diagonal": (lambda x: x.diagonal(1), (1,), (1, 2)),
    "narrow": (lambda x: x.narrow(1, 1, 2), (0, 1), (0, 2)),
    "select": (lambda x: x.select(1, 2), (1,), (1, 2)),
    "detach": (lambda x: x.detach(), (2, 0), (2, 0)),
    "chained": (lambda x: x.t()[1:].unsqueeze(1), (0, 0, 2), (2, 1)),
    "chunk": (lambda x: x.chunk(3, 1)[2], (1, 0), (1, 2)),
    "unbind": (lambda x: x.unbind(1)[0], (2,), (2, 0)),
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_write_through_a_view_is_seen_by_its_base_and_the_reverse(name: str) -> None:
    make, inside, outside = VIEWS[name]
    x = square()
    view = make(x)
    view[inside] = -1.0
    assert x[outside].item() == -1.0
    assert (x == -1).sum().item() == 1
    x[outside] = 50.0
    assert view[inside].item() == 50.0
    assert x.data_ptr() <= view.data_ptr() < x.data_ptr() + x.nbytes


def test_copies_share_nothing() -> None:
    x = square()
    for copy in (x.clone(), x[[0, 1]], x[x > 2], x.t().contiguous(), x + 0, x.t().reshape(9),
                 x.flip(0), x.repeat(1, 1), x.repeat(1, 1, 1), x[0].tile(2, 1, 1)):  # fmt: skip
        for part in copy:
            part.fill_(-1.0)
    assert x.tolist() == square().tolist()


def test_expanded_memory_is_written_only_where_no_elements_share_a_place() -> None:
    x = torch.zeros(3)
    for write in (lambda v: v.add_(1), lambda v: v.__setitem__(0, 1.0)):
        with pytest.raises(RuntimeError, match="share one memory location"):
            write(x.expand(2, 3))
    x.expand(2, 3)[0].add_(1)
    x.expand(1, 3).mul_(3)
    assert x.tolist() == [3.0, 3.0, 3.0]


def test_gradients_can_be_written() -> None:
    x = torch.ones(3, requires_grad=True)
    (g,) = torch.autograd.grad(x.sum(), x)
    g[0] += 1
    assert g.tolist() == [2.0, 1.0, 1.0]


def test_view_needs_the_order_of_memory() -> None:
    with pytest.raises(RuntimeError, match="view"):
        square().t().view(9)
    with pytest.raises(RuntimeError, match=r"f32\[3,3\]"):
        square().reshape(2, 4)


def test_versions_count_writes_of_all_views() -> None:
    x = torch.zeros(4)
    before = x._version
    x.add_(1)
    x[1:].mul_(2)
    x.reshape(2, 2)[0, 0] = 5
    assert x._version - before == 3
    assert x.tolist() == [5.0, 2.0, 2.0, 2.0]


def test_in_place_methods_return_the_tensor_itself() -> None:
    x = torch.ones(3)
    assert x.add_(1).mul_(3).clamp_(max=5).neg_() is x
    assert x.tolist() == [-5.0, -5.0, -5.0]


def test_augmented_assignment_writes_in_place() -> None:
    x = torch.ones(3)
    alias = x
    x += 1
    x *= 4
    x -= 2
    x /= 3
    x **= 2
    assert alias is x
    assert alias.tolist() == [4.0, 4.0, 4.0]


def test_in_place_keeps_the_dtype_or_raises() -> None:
    x = torch.tensor([1, 2])
    x += 1
    assert x.dtype is torch.int64
    with pytest.raises(RuntimeError, match=r"float.*int64|int64.*float"):
        x += 0.5
    with pytest.raises(RuntimeError):
        x /= 2


def test_in_place_cannot_grow_the_shape() -> None:
    with pytest.raises(RuntimeError, match=r"\b3\b"):
        torch.ones(3).add_(torch.ones(2, 3))


# --- with gradients --------------------------------------------------------------------------


def test_a_write_is_part_of_the_graph() -> None:
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x * 2
    y[1] = 0.0
    y[2] *= 5
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 0.0, 10.0]


def test_a_written_value_gets_its_gradient() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = torch.zeros(4)
    y[1:3] = x * 3
    assert y.requires_grad
    (y * torch.tensor([1.0, 10.0, 100.0, 1000.0])).sum().backward()
    assert x.grad.tolist() == [30.0, 300.0]


def test_a_write_through_a_view_reaches_the_base_and_other_views() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    y = x.clone()
    row, column = y[0], y[:, 1]
    row.mul_(10)
    assert column.tolist() == [20.0, 4.0]
    column.sum().backward()
    assert x.grad.tolist() == [[0.0, 10.0], [0.0, 1.0]]


def test_a_leaf_that_requires_grad_is_not_written_in_place() -> None:
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf"):
        x.add_(1)
    with pytest.raises(RuntimeError, match="leaf"):
        x[0] = 1
    with torch.no_grad():
        x.add_(1)
    assert x.tolist() == [2.0, 2.0]


def test_backward_names_the_line_that_overwrote_a_saved_value() -> None:
    x = torch.ones(2, requires_grad=True)
    y = x.exp()
    z = y * y
    y.zero_()  # the culprit
    with pytest.raises(RuntimeError) as caught:
        z.sum().backward()
    assert re.search(
        r"test_views_and_writes\.py:\d+  y\.zero_\(\)  # the culprit", str(caught.value)
    )
    assert re.search(r"version 1, expected 0", str(caught.value))


def test_a_write_after_the_last_reader_is_harmless() -> None:
    x = torch.ones(2, requires_grad=True)
    y = x * 3  # multiplication by a number reads nothing
    y.zero_()
    assert y.requires_grad
    (y + x).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_a_saved_value_changed_under_no_grad_still_raises() -> None:
    w = torch.ones(2, requires_grad=True)
    y = (w * w).sum()
    with torch.no_grad():
        w.mul_(2)
    with pytest.raises(RuntimeError, match="in-place"):
        y.backward()


def test_writes_of_data_without_a_trace() -> None:
    w = torch.ones(2, requires_grad=True)
    w.data = torch.tensor([5.0, 6.0])
    assert w.requires_grad
    (w * w).sum().backward()
    assert w.grad.tolist() == [10.0, 12.0]


def test_out_arguments_are_written() -> None:
    out = torch.zeros(2)
    assert torch.add(torch.ones(2), 2, out=out) is out
    assert out.tolist() == [3.0, 3.0]


def test_backward_does_not_notice_writes_through_data():
    x = torch.tensor([2.0, 3.0], requires_grad=True)
    y = (x * x).sum()
    before = x._version
    x.data.mul_(10)
    assert x._version == before and x.tolist() == [20.0, 30.0]
    y.backward()
    assert x.grad.tolist() == [40.0, 60.0], "the gradient reads the memory as it is, as in torch"
    values, w = x.data, torch.ones(2, requires_grad=True)
    z = (values * w).sum()
    values.add_(1)
    with pytest.raises(RuntimeError, match="in-place"):
        z.backward()


def test_a_compiled_step_that_writes_through_data_before_backward_runs_eagerly():
    def run(x):
        y = (x * x).sum()
        x.data.mul_(10)
        y.backward()

    gradients = []
    for function in (run, torch.compile(run)):
        x = torch.tensor([2.0, 3.0], requires_grad=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TraceWarning)
            function(x)
        gradients.append(x.grad.tolist())
    assert gradients[0] == gradients[1] == [40.0, 60.0]


def test_a_view_of_a_leaf_is_no_way_around_its_protection() -> None:
    x = torch.arange(4.0).requires_grad_()
    for write in (lambda: x[1:3].mul_(2), lambda: x.view(2, 2).add_(1), lambda: x[0].fill_(1)):
        with pytest.raises(RuntimeError, match="view of a leaf that requires grad"):
            write()
    assert x.tolist() == [0.0, 1.0, 2.0, 3.0]
    with torch.no_grad():
        x[1:3].mul_(2)
    x.detach()[0] = 7.0
    assert x.tolist() == [7.0, 2.0, 4.0, 3.0] and x.is_leaf
