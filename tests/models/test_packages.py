"""What packages written for torch ask before and while they run: versions, names, small modules.

Invariant: none of these changes a number.
"""

import importlib.metadata
import importlib.util

import numpy as np
import pytest

import tracejit as torch
from tracejit.distributions import constraints
from tracejit.nn.attention import flex_attention as flex
from tracejit.utils import _pytree as pytree
from tracejit.utils import alias


@pytest.fixture
def aliased():
    alias.install_alias("torch_alias")
    yield
    alias.remove_alias("torch_alias")


def test_an_alias_answers_for_its_version(aliased):
    own = torch.__version__
    assert own.startswith(alias.TORCH_RELEASE)
    assert importlib.metadata.version("torch_alias") == own
    assert importlib.util.find_spec("torch_alias.utils.hooks") is not None
    assert importlib.util.find_spec("torch_alias.no_such_module") is None
    with pytest.raises(ModuleNotFoundError, match="no_such"):
        importlib.import_module("torch_alias.no_such")


def test_the_version_is_tracejits_own_without_an_alias():
    assert not torch.__version__.startswith(alias.TORCH_RELEASE)


@pytest.mark.parametrize("name", ["meta", "mps", "xpu:1"])
def test_devices_of_torch_can_be_named_but_hold_nothing(name):
    assert torch.device(name) == torch.device(name) != torch.device("cpu")
    with pytest.raises(RuntimeError, match=name.split(":")[0]):
        torch.zeros(2, device=name)


def test_dtypes_of_torch_can_be_named():
    assert torch.finfo(torch.float8_e4m3fn).max == 448.0
    assert torch.finfo(torch.bfloat16).eps == 0.0078125
    with pytest.raises(TypeError, match="float8_e5m2"):
        torch.zeros(2, dtype=torch.float8_e5m2)


def test_a_counter_of_one_element_loads_into_a_0d_buffer():
    norm = torch.nn.BatchNorm1d(2)
    state = norm.state_dict()
    norm.load_state_dict({**state, "num_batches_tracked": torch.tensor([3])})
    assert norm.num_batches_tracked.shape == () and norm.num_batches_tracked.item() == 3
    with pytest.raises(RuntimeError, match="size mismatch"):
        norm.load_state_dict({**state, "num_batches_tracked": torch.tensor([3, 4])})


def test_a_loading_hook_of_the_old_name_renames_in_a_copy():
    layer = torch.nn.Linear(2, 1, bias=False)

    def rename(state_dict, prefix, *args):
        state_dict[prefix + "weight"] = state_dict.pop(prefix + "gamma")

    layer._register_load_state_dict_pre_hook(rename)
    given = {"gamma": torch.ones(1, 2)}
    layer.load_state_dict(given)
    assert layer.weight.tolist() == [[1.0, 1.0]] and list(given) == ["gamma"]


def test_foreach_is_the_method_on_each():
    a, b = torch.tensor([1.0, 4.0]), torch.tensor([9.0])
    roots = torch._foreach_sqrt([a, b])
    assert [r.tolist() for r in roots] == [[1.0, 2.0], [3.0]]
    torch._foreach_mul_([a, b], 2.0)
    torch._foreach_addcdiv_([a, b], [b, b], [b, b], [1.0, 2.0])
    torch._foreach_lerp_([a, b], [a * 0, b * 0], 0.5)
    assert a.tolist() == [1.5, 4.5] and b.tolist() == [10.0]
    with pytest.raises(RuntimeError, match="same number of tensors"):
        torch._foreach_add_([a, b], [a])


def test_trees_come_back_as_they_were():
    tree = {"a": [torch.ones(2), 3], "b": (torch.zeros(1), None)}
    leaves, spec = pytree.tree_flatten(tree)
    assert len(leaves) == 4 and spec.num_leaves == 4
    back = pytree.tree_unflatten(leaves, spec)
    assert list(back) == ["a", "b"] and back["a"][0] is tree["a"][0] and back["b"][1] is None
    doubled = pytree.tree_map_only(torch.Tensor, lambda t: t * 2, tree)
    assert doubled["a"][0].tolist() == [2.0, 2.0] and doubled["a"][1] == 3


def test_constraints_say_where_values_belong():
    x = torch.tensor([[0.25, 0.75], [0.5, 0.6]])
    assert constraints.simplex.check(x).tolist() == [True, False]
    assert constraints.interval(0.3, 1.0).check(x)[0].tolist() == [False, True]
    assert constraints.independent(constraints.positive, 1).check(x).tolist() == [True, True]
    assert constraints.positive_definite.check(torch.eye(2)).item()
    assert constraints.is_dependent(constraints.dependent)


def test_flex_attention_is_attention_with_a_rule():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 4, 5, 8, requires_grad=True) for _ in range(3))
    mask = flex.create_block_mask(lambda b, h, i, j: i >= j, None, None, 5, 5)
    got = flex.flex_attention(q, k, v, block_mask=mask)
    want = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    np.testing.assert_allclose(got.detach().numpy(), want.detach().numpy(), atol=1e-6)
    biased = flex.flex_attention(q, k, v, lambda s, b, h, i, j: s * (h + 1) - (i - j).abs())
    biased.sum().backward()
    assert biased.shape == q.shape and bool(q.grad.isfinite().all())
    nobody = flex.create_block_mask(lambda b, h, i, j: i < 0 * j, None, None, 5, 5)
    assert flex.flex_attention(q, k, v, block_mask=nobody).abs().max().item() == 0


def test_a_part_of_the_data_for_each_process():
    made = [
        list(torch.utils.data.DistributedSampler(range(5), 2, rank, shuffle=False))
        for rank in (0, 1)
    ]
    assert made == [[0, 2, 4], [1, 3, 0]]
    whole = torch.utils.data.DistributedSampler(range(6))
    first = list(whole)
    assert sorted(first) == list(range(6)) == sorted(whole) and list(whole) == first
    with pytest.raises(ValueError, match="rank"):
        torch.utils.data.DistributedSampler(range(6), 2, 2)
