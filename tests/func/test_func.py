"""tracejit.func: first and higher derivatives of functions, against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tracejit as torch
from tracejit.func import grad, grad_and_value, hessian, jacrev, jvp, vjp, vmap


def test_gradients_of_any_order() -> None:
    x = torch.tensor(0.7)
    orders = [torch.sin]
    for _ in range(4):
        orders.append(grad(orders[-1]))
    values = [f(x).item() for f in orders]
    expected = [math.sin(0.7), math.cos(0.7), -math.sin(0.7), -math.cos(0.7), math.sin(0.7)]
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    assert x.grad is None and not x.requires_grad


def test_argnums_and_aux() -> None:
    def f(x, y):
        return (x * y).sum(), x + 1

    (gx, gy), (value, aux) = grad_and_value(f, (0, 1), has_aux=True)(
        torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    )
    assert gx.tolist() == [3.0, 4.0] and gy.tolist() == [1.0, 2.0]
    assert value.item() == 11.0 and aux.tolist() == [2.0, 3.0]


def test_jacobian_and_hessian() -> None:
    x = torch.tensor([1.0, 2.0], dtype=torch.float64)
    jacobian = jacrev(lambda v: torch.stack([v[0] * v[1], v[0] ** 2, v[1]]))(x)
    np.testing.assert_allclose(jacobian.numpy(), [[2, 1], [2, 0], [0, 1]])
    np.testing.assert_allclose(hessian(lambda v: (v**3).sum())(x).numpy(), [[6, 0], [0, 12]])


def test_jvp_is_the_transpose_of_vjp() -> None:
    def f(v):
        return torch.tanh(v) * v

    rng = np.random.default_rng(0)
    x, t, c = (torch.tensor(rng.standard_normal(5)) for _ in range(3))
    _, forward = jvp(f, (x,), (t,))
    _, pull = vjp(f, x)
    np.testing.assert_allclose(
        (forward * c).sum().item(), (pull(c)[0] * t).sum().item(), rtol=1e-12
    )


def test_vmap_over_chosen_dimensions() -> None:
    a, b = torch.randn(3, 4), torch.randn(4)
    result = vmap(torch.dot, in_dims=(0, None))(a, b)
    np.testing.assert_allclose(result.detach().numpy(), (a @ b).numpy(), rtol=1e-6)


def test_a_function_of_several_numbers_is_refused() -> None:
    with pytest.raises(RuntimeError, match="one number"):
        grad(lambda x: x * 2)(torch.ones(3))


def test_around_a_compiled_function() -> None:
    f = torch.compile(lambda x: (x.exp() * x).sum())
    x = torch.tensor([0.5, 1.0])
    for _ in range(3):
        np.testing.assert_allclose(grad(f)(x).numpy(), (x.exp() * (x + 1)).numpy(), rtol=1e-6)


def test_linearize_is_jvp_with_the_function_run_once() -> None:
    runs = []

    def f(x, y):
        runs.append(1)
        return x.sin() * y, {"total": (x * x).sum()}

    x, y, tx, ty = (torch.randn(3, dtype=torch.float64) for _ in range(4))
    output, push = torch.func.linearize(f, x, y)
    first, second = push(tx, ty)
    assert torch.allclose(first, x.cos() * tx * y + x.sin() * ty)
    assert torch.allclose(second["total"], 2 * (x * tx).sum())
    assert torch.allclose(push(2 * tx, ty)[1]["total"], 4 * (x * tx).sum())
    assert len(runs) == 1 and not output[0].requires_grad
    with pytest.raises(ValueError, match=r"\[\[2\], \[3\]\] are not the primals' \[\[3\], \[3\]\]"):
        push(tx[:2], ty)


def test_batch_norm_without_running_statistics() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    assert torch.func.replace_all_batch_norm_modules_(net) is net
    assert net[1].running_mean is None and not net[1].track_running_stats
    assert net.eval()(torch.randn(5, 3)).mean().abs() < 1e-6


def test_dual_numbers() -> None:
    import tracejit.autograd.forward_ad as fwAD

    x, t = torch.randn(3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    with fwAD.dual_level():
        dual = fwAD.make_dual(x, t)
        y = dual.sin() * 2
        value, tangent = fwAD.unpack_dual(y)
        assert torch.allclose(value, x.sin() * 2) and not value.requires_grad
        assert torch.allclose(tangent, 2 * x.cos() * t)
        assert torch.equal(fwAD.unpack_dual(dual).tangent, t)
        assert fwAD.unpack_dual(x).tangent is None
    w = x.clone().requires_grad_()
    with fwAD.dual_level():
        tangent = fwAD.unpack_dual((fwAD.make_dual(w, t) ** 3).sum()).tangent
        (second,) = torch.autograd.grad(tangent, w)
    assert torch.allclose(second, 6 * x * t)
    with pytest.raises(RuntimeError, match="no level exists"):
        fwAD.make_dual(x, t)
