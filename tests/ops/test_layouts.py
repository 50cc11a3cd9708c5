"""How results lie in memory: `view` works on what torch gives in row-major order.

Invariant: strides are torch 2.13's for these ops of transposed operands.
"""

import pytest

import tracejit as torch
import tracejit.nn.functional as F


@pytest.mark.parametrize(("function", "strides"), [
    (lambda t: torch.stack([t, t]), (6, 2, 1)),
    (lambda t: torch.stack([t, t], 1), (4, 2, 1)),
    (lambda t: torch.cat([t, t], 1), (4, 1)),
    (lambda t: t.cumsum(0), (2, 1)),
    (lambda t: F.pad(t, (1, 1)), (4, 1)),
    (lambda t: t.scatter(0, torch.zeros(3, 2, dtype=torch.int64), t), (2, 1)),
    (lambda t: t.scatter_add(0, torch.zeros(3, 2, dtype=torch.int64), t), (2, 1)),
])  # fmt: skip
def test_results_of_transposed_operands_are_row_major(function, strides) -> None:
    x = torch.arange(6.0).reshape(2, 3)
    for t in (x.T, x.bool().T.to(torch.int32)):
        assert function(t).stride() == strides
        function(t).view(-1)


KEEPS = [
    lambda t: t + 1, lambda t: -t, lambda t: t.exp(), lambda t: t.clamp(0, 2), lambda t: t > 1,
    lambda t: torch.maximum(t, t + 1), lambda t: F.gelu(t), lambda t: t.double(),
    lambda t: t.clone(), lambda t: t.flip(0), lambda t: torch.zeros_like(t),
    lambda t: torch.rand_like(t), lambda t: torch.full_like(t, 2.0), lambda t: t.sort(0)[0],
    lambda t: torch.where(t > 1, t, 0.0), lambda t: torch.addcmul(t, t, t), lambda t: t ** 1.5,
]  # fmt: skip
ROW_MAJOR = [
    lambda t: F.layer_norm(t, t.shape[-1:]), lambda t: F.rms_norm(t, t.shape[-1:]),
    lambda t: t.masked_fill(t > 1, 0.0), lambda t: t.softmax(0), lambda t: t.contiguous(),
    lambda t: t.clone(memory_format=torch.contiguous_format), lambda t: t.tril(),
    lambda t: torch.rot90(t, 1, (0, 2)).permute(2, 1, 0).contiguous(),
]  # fmt: skip


@pytest.mark.parametrize("threads", ["small", "large"])
def test_pointwise_results_keep_the_order_of_their_operand(threads) -> None:
    shape = (2, 3, 4) if threads == "small" else (40, 60, 80)
    t = torch.ones(shape).cumsum(-1).permute(2, 0, 1)
    for function in KEEPS:
        assert function(t).stride() == t.stride()
    for function in ROW_MAJOR:
        assert function(t).is_contiguous()
