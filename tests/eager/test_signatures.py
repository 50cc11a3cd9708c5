"""Arguments that torch's functions take: names, defaults, positions.

Invariant: an argument that is accepted is obeyed, or the docstring says why nothing depends on it.
"""

from __future__ import annotations

import io

import pytest

import tracejit as torch
from tracejit import nn
from tracejit.nn import functional as F


def test_factories_like_another_tensor() -> None:
    x = torch.zeros(2, 3)
    for make in (torch.rand_like, torch.randn_like):
        made = make(x, dtype=torch.float64, device="sim", requires_grad=True)
        assert made.dtype is torch.float64 and made.device.type == "sim" and made.requires_grad
    with pytest.raises(TypeError):
        torch.rand_like(x, colour="red")
    generator = torch.Generator().manual_seed(1)
    first = torch.randint_like(x, 5, generator=generator)
    generator.manual_seed(1)
    assert torch.equal(first, torch.randint_like(x, high=5, generator=generator))
    assert torch.eye(2, pin_memory=False).shape == (2, 2)


def test_losses_of_the_top_level_take_torch_s_order_and_numbers() -> None:
    x, y, w = torch.randn(4), torch.rand(4), torch.rand(4)
    got = torch.binary_cross_entropy_with_logits(x, y, None, w, 2)
    want = F.binary_cross_entropy_with_logits(x, y, pos_weight=w, reduction="sum")
    assert torch.equal(got, want)
    p = torch.rand(4).log()
    assert torch.equal(torch.kl_div(p, y, 0), F.kl_div(p, y, reduction="none"))
    a, b, c = (torch.randn(3, 4) for _ in range(3))
    got = torch.triplet_margin_loss(a, b, c, 0.5, 2.0, 1e-6, True, 2)
    assert torch.equal(got, F.triplet_margin_loss(a, b, c, 0.5, swap=True, reduction="sum"))
    with pytest.raises(TypeError, match=r"reduction must be 0 .*nn\.functional\.kl_div takes"):
        torch.kl_div(p, y, "sum")


def test_other_names() -> None:
    x = torch.arange(6.0)
    assert len(torch.split(tensor=x, split_size_or_sections=2)) == 3 == len(x.split(split_size=2))
    assert torch.device(type="cuda", index=1) == torch.device("cuda:1")
    assert torch.can_cast(from_=torch.int8, to=torch.float32)
    assert torch.promote_types(type1=torch.int8, type2=torch.uint8) is torch.int16
    assert torch.is_tensor(obj=x)
    assert torch.from_dlpack(ext_tensor=x.numpy(), copy=True).data_ptr() != x.data_ptr()
    assert float(torch.chain_matmul(x[None], x[:, None], out=torch.zeros(1, 1))) == 55
    mask = nn.Transformer.generate_square_subsequent_mask(sz=3, device="sim")
    assert mask.device.type == "sim"
    assert torch.compile(model=nn.Linear(2, 2))(torch.ones(1, 2)).shape == (1, 2)
    assert len(list(nn.Sequential(*[nn.ReLU()] * 2).modules(remove_duplicate=False))) == 3
    layer = nn.ReLU()
    assert float(torch.func.functional_call(layer, {}, None, {"input": torch.ones(())})) == 1
    buffer = io.BytesIO()
    torch.save({"x": x}, buffer, pickle_protocol=4)
    buffer.seek(0)
    assert torch.equal(torch.load(buffer, weights_only=False, mmap=None)["x"], x)


def test_parameter_dict_is_a_dict() -> None:
    table = nn.ParameterDict({"a": torch.ones(1)})
    assert table.setdefault("b", torch.zeros(2)) is table["b"]
    assert list(table.copy().keys()) == ["a", "b"] and table.popitem()[0] == "b"
    assert list(table.fromkeys(["p", "q"], torch.ones(1)).keys()) == ["p", "q"]
    assert list((table | nn.ParameterDict({"z": torch.ones(1)})).keys()) == ["a", "z"]


def test_functional_transforms_with_more_results() -> None:
    def f(x):
        return x.sin() * 2, x.cos()

    x = torch.randn(3, dtype=torch.float64)
    for transform in (torch.func.jacrev, torch.func.jacfwd):
        jacobian, aux = transform(f, has_aux=True)(x)
        assert torch.allclose(jacobian, torch.diag(2 * x.cos())) and torch.equal(aux, x.cos())
    _, pull, aux = torch.func.vjp(f, x, has_aux=True)
    assert torch.allclose(pull(torch.ones_like(x))[0], 2 * x.cos())
    _, tangent, aux = torch.func.jvp(f, (x,), (torch.ones_like(x),), has_aux=True)
    assert torch.allclose(tangent, 2 * x.cos()) and torch.equal(aux, x.cos())
    x.requires_grad_()
    assert torch.autograd.gradcheck(torch.sin, (x,), check_forward_ad=True)


@pytest.mark.parametrize("mistake, kind, text", [
    (lambda: torch.ones(2, 3).gather(1, torch.tensor([[5], [0]])), RuntimeError, "index 5 is out"),
    (lambda: torch.zeros(3).scatter_(0, torch.tensor([4]), 1.0), RuntimeError, "index 4 is out"),
    (lambda: float(torch.ones(2)), ValueError, "2 elements"),
    (lambda: torch.randn(-1), RuntimeError, r"negative: \[-1\]"),
    (lambda: torch.ones(2).retain_grad(), RuntimeError, "requires grad"),
    (lambda: setattr(torch.ones(2), "data", "a"), TypeError, "has to be a tensor, not str"),
    (lambda: torch.optim.LBFGS([torch.ones(2, requires_grad=True)]).step(), TypeError, "closure"),
    (lambda: nn.MultiheadAttention(4, 2)(*(torch.ones(2, 1, n) for n in (4, 5, 4))),
     AssertionError, r"key shape \[2, 1, 5\] does not match value shape \[2, 1, 4\]"),
    (lambda: nn.LSTM(4, 5)(torch.ones(2, 3, 6)), RuntimeError, "Expected 4, got 6"),
    (lambda: nn.BatchNorm2d(3)(torch.ones(2, 3)), ValueError, "expected 4D input"),
    (lambda: nn.Linear(2, 3).load_state_dict({"bais": torch.ones(3)}), RuntimeError, "bais"),
])  # fmt: skip
def test_mistakes_raise_torch_s_class_and_name_the_line(mistake, kind, text) -> None:
    with pytest.raises(kind, match=rf"(?s){text}.*at .*test_signatures\.py:\d+"):
        mistake()
