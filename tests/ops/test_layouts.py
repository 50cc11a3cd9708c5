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
