"""Twenty end-to-end facts in about two seconds: if one of these fails, look here first.

Invariant: public names only, as a user writes them; expected values are written out or NumPy's.
"""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest

import tracejit as torch
import tracejit.nn as nn


def test_a_shape_prints_as_torchs_does():
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert str(x.shape) in ("Size([2, 2])", "torch.Size([2, 2])")


def test_python_numbers_become_float32():
    assert torch.tensor([1.0]).dtype is torch.float32
    assert (torch.tensor([1, 2]) / 2).dtype is torch.float32


def test_gradient_of_a_polynomial_at_three():
    x = torch.tensor(3.0, requires_grad=True)
    y = x**2 + 2 * x + 1
    y.backward()
    assert x.grad.item() == 8.0


def test_gradient_of_a_one_element_vector():
    x = torch.tensor([2.0], requires_grad=True)
    y = x**2 + 3 * x
    y.backward()
    assert x.grad.tolist() == [7.0]


def test_second_derivative():
    x = torch.tensor(2.0, requires_grad=True)
    (first,) = torch.autograd.grad(x**3, x, create_graph=True)
    (second,) = torch.autograd.grad(first, x)
    assert (first.item(), second.item()) == (12.0, 12.0)


def test_two_layer_module_gives_its_shape():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1 = nn.Linear(784, 256)
            self.fc2 = nn.Linear(256, 10)

        def forward(self, x):
            return self.fc2(torch.relu(self.fc1(x)))

    assert list(Net()(torch.randn(32, 784)).shape) == [32, 10]


def test_softmax_rows_sum_to_one():
    total = torch.softmax(torch.randn(5, 7), dim=1).sum(1)
    assert torch.allclose(total, torch.ones(5))


def test_a_view_shares_memory():
    x = torch.zeros(2, 3)
    x.t()[1, 0] = 5.0
    assert x.tolist() == [[0.0, 5.0, 0.0], [0.0, 0.0, 0.0]]


def test_indexing_out_of_range_raises():
    with pytest.raises(IndexError, match="index 3"):
        torch.arange(3)[3]


def test_wrong_shapes_name_both_types():
    with pytest.raises(RuntimeError, match=r"f32\[2,3\].*f32\[2,3\]"):
        torch.ones(2, 3) @ torch.ones(2, 3)


def test_a_changed_saved_value_raises_in_backward():
    x = torch.ones(3, requires_grad=True)
    y = x.exp()
    y.add_(1.0)
    with pytest.raises(RuntimeError, match=r"in-place|inplace|changed"):
        y.sum().backward()


def test_compiled_equals_eager_bit_for_bit():
    def f(x, w):
        return torch.tanh(x * 0.5) * w + x.exp()

    x, w = torch.randn(33, 17), torch.randn(17)
    compiled = torch.compile(f)
    for _ in range(2):
        assert np.array_equal(compiled(x, w).numpy(), f(x, w).numpy())


def test_a_pointwise_chain_is_one_kernel():
    f = torch.compile(lambda x, w: torch.sigmoid(x) * w + 1.0)
    f(torch.randn(8), torch.randn(8))
    f(torch.randn(8), torch.randn(8))
    assert len(f.kernels) == 1


def test_a_branch_on_data_takes_both_ways():
    def f(x):
        if x.sum() > 0:
            return x * 2
        return x - 1

    compiled = torch.compile(f)
    for sign in (1.0, -1.0, 1.0, -1.0):
        x = torch.full((4,), sign)
        assert compiled(x).tolist() == f(x).tolist()


_scale = 2.0


def test_a_global_that_changes_is_seen(monkeypatch):
    compiled = torch.compile(lambda x: x * _scale)
    x = torch.ones(2)
    assert compiled(x).tolist() == [2.0, 2.0]
    monkeypatch.setattr(sys.modules[__name__], "_scale", 3.0)
    assert compiled(x).tolist() == [3.0, 3.0]


def test_gradients_flow_through_a_compiled_function():
    compiled = torch.compile(lambda x: (x * x).sum())
    for _ in range(2):
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        compiled(x).backward()
        assert x.grad.tolist() == [2.0, 4.0]


def test_a_compiled_training_step_learns_as_the_eager_one():
    def train(wrap):
        torch.manual_seed(1)
        model = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        x = torch.randn(16, 3)
        y = x.sum(1, keepdim=True)

        def step():
            optimizer.zero_grad()
            loss = ((model(x) - y) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        step = wrap(step)
        return [step().item() for _ in range(20)]

    eager, compiled = train(lambda f: f), train(torch.compile)
    assert eager[-1] < 0.1 * eager[0]
    np.testing.assert_allclose(compiled, eager, rtol=1e-5)


def test_random_numbers_repeat_with_their_seed():
    torch.manual_seed(7)
    first = torch.rand(5)
    torch.manual_seed(7)
    assert torch.equal(first, torch.rand(5))


def test_the_ir_is_text_with_types_and_lines():
    def f(x):
        return (x * 2).exp()

    compiled = torch.compile(f)
    compiled(torch.ones(3))
    text = compiled.ir()
    assert "exp(" in text and "f32[3]" in text and "test_tiny.py" in text


def test_no_warning_and_no_numba_on_import():
    program = "import sys, tracejit; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "error", "-c", program]).returncode == 0


def test_what_cannot_be_captured_runs_eagerly_with_one_warning():
    def f(x):
        return torch.tensor(x.numpy() * 2)

    compiled = torch.compile(f)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        results = [compiled(torch.ones(2)).tolist() for _ in range(4)]
    assert results == [[2.0, 2.0]] * 4
    assert len(seen) == 1 and "test_tiny.py" in str(seen[0].message)
