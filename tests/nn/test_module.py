"""Modules: registration, state, modes, hooks, copies, and the version that compiled code guards.

Invariant: every change that a trace could depend on moves the version; nothing else does.
"""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict

import numpy as np
import pytest

import tracejit as torch
import tracejit.nn as nn
from tracejit.nn.module import VERSION


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)
        self.scale = nn.Parameter(torch.ones(2))
        self.register_buffer("offset", torch.zeros(2))
        self.register_buffer("scratch", torch.zeros(1), persistent=False)

    def forward(self, x):
        return self.norm(self.fc(x)) * self.scale + self.offset


def test_names_follow_the_order_of_registration():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == [
        "scale", "fc.weight", "fc.bias", "norm.weight", "norm.bias",
    ]  # fmt: skip
    assert [n for n, _ in net.named_modules()] == ["", "fc", "norm"]
    assert list(net.state_dict()) == [
        "scale", "offset", "fc.weight", "fc.bias", "norm.weight", "norm.bias",
        "norm.running_mean", "norm.running_var", "norm.num_batches_tracked",
    ]  # fmt: skip
    assert isinstance(net.scale, nn.Parameter) and isinstance(net.scale, torch.Tensor)
    assert net.get_parameter("fc.weight") is net.fc.weight
    assert net.get_submodule("norm") is net.norm


def test_a_shared_parameter_is_listed_once():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    assert len(list(net.parameters())) == 3
    assert len(list(net.named_parameters(remove_duplicate=False))) == 4
    assert len(net.state_dict()) == 4


def test_assignment_before_init_and_of_wrong_kinds_raises():
    class Early(nn.Module):
        def __init__(self):
            self.w = nn.Parameter(torch.ones(1))

    with pytest.raises(AttributeError, match=r"super\(\).__init__"):
        Early()
    net = Net()
    with pytest.raises(TypeError, match="parameter 'scale'"):
        net.scale = torch.ones(2)
    with pytest.raises(TypeError, match="child 'fc'"):
        net.fc = 3
    with pytest.raises(KeyError, match="dot"):
        net.register_buffer("a.b", torch.ones(1))
    with pytest.raises(KeyError, match="already exists"):
        net.register_buffer("fc", torch.ones(1))
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = net.absent


def test_load_state_dict_restores_and_reports():
    a, b = Net(), Net()
    b(torch.randn(4, 3))  # moves the running statistics
    assert repr(a.load_state_dict(b.state_dict())) == "<All keys matched successfully>"
    a.eval(), b.eval()
    x = torch.randn(5, 3)
    assert torch.equal(a(x), b(x))
    state = b.state_dict()
    state["extra"] = state.pop("offset")
    with pytest.raises(RuntimeError, match=r"missing keys: 'offset'\n  unexpected keys: 'extra'"):
        a.load_state_dict(state)
    keys = a.load_state_dict(state, strict=False)
    assert keys.missing_keys == ["offset"] and keys.unexpected_keys == ["extra"]
    with pytest.raises(RuntimeError, match=r"size mismatch for fc.weight.*\[1, 1\]"):
        a.load_state_dict({**b.state_dict(), "fc.weight": torch.ones(1, 1)})


def test_state_dict_shares_memory_and_load_with_assign_takes_the_tensors():
    net = nn.Linear(2, 1)
    state = net.state_dict()
    with torch.no_grad():
        net.weight.fill_(7.0)
    assert state["weight"].tolist() == [[7.0, 7.0]]
    other = nn.Linear(2, 1)
    wide = {"weight": torch.ones(1, 2).double(), "bias": torch.zeros(1)}
    other.load_state_dict(wide, assign=True)
    assert other.weight.dtype is torch.float64 and isinstance(other.weight, nn.Parameter)


def test_train_and_eval_reach_every_child():
    net = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.BatchNorm1d(2)))
    net.eval()
    assert not any(m.training for m in net.modules())
    assert net.train() is net and all(m.training for m in net.modules())


def test_conversion_keeps_parameters_the_same_objects():
    net = Net()
    before = dict(net.named_parameters())
    net.double()
    assert all(p.dtype is torch.float64 for p in net.parameters())
    assert net.norm.num_batches_tracked.dtype is torch.int64
    assert dict(net.named_parameters()) == before
    assert net(torch.randn(4, 3).double()).dtype is torch.float64
    net.to(torch.float32)
    assert net.offset.dtype is torch.float32


def test_zero_grad_and_requires_grad():
    net = nn.Linear(2, 1)
    net(torch.ones(1, 2)).sum().backward()
    net.zero_grad(set_to_none=False)
    assert net.weight.grad.tolist() == [[0.0, 0.0]]
    net.zero_grad()
    assert net.weight.grad is None
    net.requires_grad_(False)
    assert not net(torch.ones(1, 2)).requires_grad


def test_forward_hooks_see_and_replace():
    net, seen = nn.Linear(2, 1, bias=False), []
    with torch.no_grad():
        net.weight.fill_(1.0)
    pre = net.register_forward_pre_hook(lambda m, args: (args[0] * 2,))
    post = net.register_forward_hook(lambda m, args, out: seen.append(out.item()) or out + 1)
    assert net(torch.ones(1, 2)).item() == 5.0 and seen == [4.0]
    pre.remove()
    assert net(torch.ones(1, 2)).item() == 3.0
    post.remove()
    assert net(torch.ones(1, 2)).item() == 2.0


def test_backward_hooks_get_input_and_output_gradients():
    net, seen = nn.Linear(2, 1, bias=False), []
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[2.0, 3.0]]))
    net.register_full_backward_hook(
        lambda m, gi, go: seen.append((gi[0].tolist(), go[0].tolist())) or (gi[0] * 10,)
    )
    net.register_full_backward_pre_hook(lambda m, go: (go[0] * 2,))
    x = torch.ones(1, 2).requires_grad_()
    net(x).sum().backward()
    assert seen == [([[4.0, 6.0]], [[2.0]])]
    assert x.grad.tolist() == [[40.0, 60.0]]
    assert net.weight.grad.tolist() == [[2.0, 2.0]]


def test_deepcopy_and_pickle_are_independent():
    net = Net()
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert twin.fc.weight is not net.fc.weight
        with torch.no_grad():
            twin.fc.weight.fill_(9.0)
        assert not torch.equal(twin.fc.weight, net.fc.weight)
        assert isinstance(twin.scale, nn.Parameter) and twin.scale.requires_grad


def test_repr_is_torchs():
    assert repr(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Sequential(nn.Dropout(0.1)))) == (
        "Sequential(\n"
        "  (0): Linear(in_features=4, out_features=8, bias=True)\n"
        "  (1): ReLU()\n"
        "  (2): Sequential(\n"
        "    (0): Dropout(p=0.1, inplace=False)\n"
        "  )\n"
        ")"
    )
    assert repr(nn.ModuleList([nn.ReLU(), nn.ReLU()])) == "ModuleList(\n  (0-1): 2 x ReLU()\n)"


def test_containers():
    items = nn.ModuleList([nn.Linear(1, 1) for _ in range(3)])
    items.insert(1, nn.ReLU())
    assert isinstance(items[1], nn.ReLU) and len(items) == 4 and items[-1] is items[3]
    del items[1]
    assert list(items._modules) == ["0", "1", "2"] and len(items[1:]) == 2
    named = nn.Sequential(OrderedDict(a=nn.Linear(1, 2), b=nn.ReLU()))
    assert list(named.state_dict()) == ["a.weight", "a.bias"] and named[0] is named.a
    table = nn.ModuleDict({"x": nn.ReLU()})
    table["y"] = nn.Tanh()
    assert list(table) == ["x", "y"] and "x" in table
    params = nn.ParameterList([torch.ones(1), torch.ones(2)])
    assert len(list(params.parameters())) == 2 and params[-1].shape == (2,)
    pairs = nn.ParameterDict({"a": torch.ones(1)})
    assert list(dict(pairs.named_parameters())) == ["a"] and pairs["a"].requires_grad
    with pytest.raises(IndexError):
        items[5]


def _moves(change) -> bool:
    before = VERSION[0]
    change()
    return VERSION[0] != before


def test_the_version_moves_with_every_change_and_only_then():
    net = Net()
    assert _moves(lambda: setattr(net, "flag", 1))
    assert not _moves(lambda: setattr(net, "flag", 1))
    assert _moves(lambda: setattr(net, "flag", True))  # equal to 1, yet another value
    assert _moves(lambda: delattr(net, "flag"))
    assert _moves(lambda: net.eval()) and not _moves(lambda: net.eval())
    assert _moves(lambda: setattr(net, "scale", nn.Parameter(torch.ones(2))))
    assert not _moves(lambda: setattr(net, "scale", net.scale))
    assert _moves(lambda: setattr(net, "offset", torch.ones(2)))
    assert _moves(lambda: net.add_module("more", nn.ReLU()))
    assert _moves(lambda: net.register_forward_hook(lambda *a: None))
    assert _moves(lambda: net._modules.pop("more"))
    net.train()
    assert not _moves(lambda: net(torch.randn(4, 3)))
    state = Net().state_dict()
    assert not _moves(lambda: net.load_state_dict(state))


def test_a_module_compiled_in_place_follows_its_parameters():
    net = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    x = torch.randn(4, 3)
    eager = net(x)
    net.compile()
    assert torch.allclose(net(x), eager) and torch.allclose(net(x), eager)
    with torch.no_grad():
        net[0].weight.zero_()
    assert torch.allclose(net(x), net[0].bias.tanh().expand(4, 2))
    assert torch.allclose(copy.deepcopy(net)(x), net(x))


def test_submodules_by_path():
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU()))
    net.set_submodule("1.0", nn.Tanh())
    assert isinstance(net.get_submodule("1.0"), nn.Tanh)
    with pytest.raises(AttributeError, match="no submodule '7'"):
        net.set_submodule("1.7", nn.Tanh(), strict=True)


def test_weight_norm_splits_size_and_direction():
    layer = nn.utils.weight_norm(nn.Linear(3, 2))
    assert sorted(n for n, _ in layer.named_parameters()) == ["bias", "weight_g", "weight_v"]
    with torch.no_grad():
        layer.weight_g.copy_(torch.tensor([[2.0], [3.0]]))
    layer(torch.ones(1, 3)).sum().backward()
    assert layer.weight.norm(dim=1).tolist() == pytest.approx([2.0, 3.0])
    assert layer.weight_v.grad is not None and layer.weight_g.grad.shape == (2, 1)
    nn.utils.remove_weight_norm(layer)
    assert isinstance(layer.weight, nn.Parameter)
    assert layer.weight.norm(dim=1).tolist() == pytest.approx([2.0, 3.0])
    with pytest.raises(ValueError, match="not found"):
        nn.utils.remove_weight_norm(layer)


def test_spectral_norm_makes_the_largest_singular_value_one():
    layer = nn.utils.spectral_norm(nn.Linear(5, 4), n_power_iterations=50)
    layer(torch.ones(1, 5))
    assert np.linalg.svd(layer.weight.detach().numpy())[1][0] == pytest.approx(1.0, rel=1e-4)
    nn.utils.remove_spectral_norm(layer)
    assert isinstance(layer.weight, nn.Parameter) and list(layer.state_dict()) == ["bias", "weight"]
