"""Parametrized tensors, modules called with other parameters, and the alias of torch.

Invariant: expected numbers are computed with NumPy or by hand.
"""

import importlib
import sys

import numpy as np
import pytest

import tracejit as torch
import tracejit.nn as nn
from tracejit.errors import DTypeError
from tracejit.nn.utils import parametrizations, parametrize
from tracejit.utils.alias import install_alias, remove_alias


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).mT

    def right_inverse(self, x):
        return x.triu()


def test_a_parametrized_weight_is_computed_trained_assigned_and_removed():
    layer = nn.Linear(3, 3)
    start = layer.weight.detach().numpy().copy()
    parametrize.register_parametrization(layer, "weight", Symmetric())
    expected = np.triu(start) + np.triu(start, 1).T
    np.testing.assert_array_equal(layer.weight.detach().numpy(), expected)
    assert list(layer.state_dict()) == ["bias", "parametrizations.weight.original"]
    layer(torch.ones(2, 3)).sum().backward()
    gradient = layer.parametrizations.weight.original.grad.numpy()
    assert (np.tril(gradient, -1) == 0).all() and (np.diag(gradient) == 2).all()
    layer.weight = torch.eye(3)
    assert layer.weight.tolist() == np.eye(3).tolist()
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Linear and isinstance(layer.weight, nn.Parameter)
    with pytest.raises(ValueError, match="no parametrization"):
        parametrize.remove_parametrizations(layer, "weight")


def test_weight_norm_keeps_the_weight():
    layer = nn.Linear(3, 4)
    start = layer.weight.detach().numpy().copy()
    parametrizations.weight_norm(layer)
    names = [f"parametrizations.weight.original{i}" for i in (0, 1)]
    assert [n for n, _ in layer.named_parameters()] == ["bias", *names]
    np.testing.assert_allclose(layer.weight.detach().numpy(), start, rtol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_spectral_norm_divides_by_the_largest_singular_value(compiled):
    layer = parametrizations.spectral_norm(nn.Linear(4, 5))
    call = torch.compile(layer) if compiled else layer
    for _ in range(60):
        call(torch.ones(1, 4))
    original = layer.parametrizations.weight.original.detach().numpy()
    largest = np.linalg.svd(original)[1][0]
    np.testing.assert_allclose(layer.weight.detach().numpy(), original / largest, rtol=1e-4)


def test_functional_call_uses_the_tensors_given_and_leaves_the_module():
    net = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    own = net[0].weight
    weight = torch.full((2, 2), 0.5, requires_grad=True)

    def loss(w, x):
        return torch.func.functional_call(net, {"0.weight": w, "0.bias": torch.zeros(2)}, x).sum()

    x = torch.tensor([[1.0, 2.0]])
    for call in (loss, torch.compile(loss)):
        weight.grad = None
        value = call(weight, x)
        value.backward()
        np.testing.assert_allclose(value.item(), 2 * np.tanh(1.5), rtol=1e-6)
        slope = 1 - np.tanh(1.5) ** 2
        np.testing.assert_allclose(weight.grad.numpy(), [[slope, 2 * slope]] * 2, rtol=1e-5)
    assert net[0].weight is own and own.grad is None
    with pytest.raises(AttributeError, match="nope"):
        torch.func.functional_call(net, {"nope": weight}, x)


def test_an_ensemble_is_a_vmap_over_stacked_state():
    nets = [nn.Linear(2, 1) for _ in range(3)]
    params, buffers = torch.func.stack_module_state(nets)
    x = torch.ones(4, 2)

    def one(p, b):
        return torch.func.functional_call(nets[0], (p, b), (x,))

    found = torch.func.vmap(one)(params, buffers)
    expected = torch.stack([net(x) for net in nets])
    np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=1e-6)


def test_gradients_and_maps_take_dicts_of_tensors():
    params = {"w": torch.tensor([1.0, 2.0]), "b": torch.tensor(3.0)}

    def loss(p, x):
        return ((p["w"] * x).sum() + p["b"]) ** 2

    found, value = torch.func.value_and_grad(loss)(params, torch.tensor([1.0, 1.0]))
    assert value.item() == 36 and found["w"].tolist() == [12, 12] and found["b"].item() == 12
    xs = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(params, xs)
    assert each["w"].tolist() == [[12, 12], [0, 10]] and each["b"].tolist() == [12, 10]


@pytest.fixture
def alias():
    """tracejit under the name of a package that does not exist."""
    install_alias("torchlike")
    yield
    remove_alias("torchlike")


def test_an_alias_gives_the_same_modules(alias):
    assert importlib.import_module("torchlike") is torch
    conv = importlib.import_module("torchlike.nn.modules.conv")
    assert conv.Conv2d is nn.Conv2d
    assert importlib.import_module("torchlike.nn.functional") is nn.functional
    assert nn.functional.__spec__.name == "tracejit.nn.functional"
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("torchlike.nowhere")
    remove_alias("torchlike")
    assert not [name for name in sys.modules if name.startswith("torchlike")]


def test_old_tensor_types_are_names_of_dtypes():
    assert torch.Tensor(2, 3).shape == (2, 3) and torch.Tensor().shape == (0,)
    assert torch.Tensor(torch.zeros(4, 1).shape).shape == (4, 1)
    assert torch.LongTensor([1, 2]).dtype is torch.int64
    x = torch.FloatTensor([[1, 2]])
    assert x.type() == "torch.FloatTensor" and x.tolist() == [[1.0, 2.0]]
    assert isinstance(x, torch.FloatTensor) and not isinstance(x, torch.LongTensor)
    assert x.type("torch.DoubleTensor").dtype is x.type(torch.DoubleTensor).dtype is torch.float64


def test_a_dtype_that_holds_no_tensors_can_be_named():
    assert torch.zeros(1).dtype != torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (torch.ones(2) @ torch.ones(2)).dtype is torch.float32
    with pytest.raises(DTypeError, match="no tensors of bfloat16"):
        torch.zeros(1).to(torch.bfloat16)


def test_what_programs_ask_at_their_start():
    assert not torch.distributed.is_available() and not torch.jit.is_scripting()
    assert torch.jit.script(nn.Linear(1, 1)).training
    assert torch.utils.checkpoint.checkpoint(torch.sin, torch.zeros(1)).item() == 0
    with pytest.raises(RuntimeError, match="one process"):
        torch.distributed.get_rank()
    with pytest.raises(RuntimeError, match="downloads nothing"):
        torch.hub.load_state_dict_from_url("somewhere")
    wrapped = nn.DataParallel(nn.Linear(2, 2))
    assert list(wrapped.state_dict()) == ["module.weight", "module.bias"]
