"""Losses of ``torch`` itself: as those of `nn.functional`, in another order of arguments.

Invariant: `reduction` is torch's number: 0 none, 1 mean, 2 sum.
"""

from __future__ import annotations

from typing import Any

from tracejit.errors import at_user_line
from tracejit.nn import functional as _F
from tracejit.tensor import Tensor

_REDUCTIONS = ("none", "mean", "sum")


def _word(name: str, reduction: Any) -> str:
    if isinstance(reduction, bool) or not isinstance(reduction, int) or not 0 <= reduction < 3:
        raise TypeError(at_user_line(
            f"torch.{name}: reduction must be 0 (none), 1 (mean) or 2 (sum), not {reduction!r}; "
            f"nn.functional.{name} takes the words"))  # fmt: skip
    return _REDUCTIONS[reduction]


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, pos_weight: Any = None, reduction: int = 1
) -> Tensor:
    """``nn.functional.binary_cross_entropy_with_logits``."""
    how = _word("binary_cross_entropy_with_logits", reduction)
    return _F.binary_cross_entropy_with_logits(
        input, target, weight, reduction=how, pos_weight=pos_weight
    )


def cosine_embedding_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: int = 1
) -> Tensor:
    """``nn.functional.cosine_embedding_loss``."""
    how = _word("cosine_embedding_loss", reduction)
    return _F.cosine_embedding_loss(input1, input2, target, margin, reduction=how)


def ctc_loss(
    log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, blank: int = 0,
    reduction: int = 1, zero_infinity: bool = False,
) -> Tensor:  # fmt: skip
    """``nn.functional.ctc_loss``."""
    how = _word("ctc_loss", reduction)
    return _F.ctc_loss(log_probs, targets, input_lengths, target_lengths, blank, how, zero_infinity)


def hinge_embedding_loss(
    input: Any, target: Any, margin: float = 1.0, reduction: int = 1
) -> Tensor:
    """``nn.functional.hinge_embedding_loss``."""
    how = _word("hinge_embedding_loss", reduction)
    return _F.hinge_embedding_loss(input, target, margin, reduction=how)


def kl_div(input: Any, target: Any, reduction: int = 1, *, log_target: bool = False) -> Tensor:
    """``nn.functional.kl_div``."""
    return _F.kl_div(input, target, reduction=_word("kl_div", reduction), log_target=log_target)


def margin_ranking_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: int = 1
) -> Tensor:
    """``nn.functional.margin_ranking_loss``."""
    how = _word("margin_ranking_loss", reduction)
    return _F.margin_ranking_loss(input1, input2, target, margin, reduction=how)


def poisson_nll_loss(
    input: Any, target: Any, log_input: bool, full: bool, eps: float, reduction: int
) -> Tensor:
    """``nn.functional.poisson_nll_loss``."""
    how = _word("poisson_nll_loss", reduction)
    return _F.poisson_nll_loss(input, target, log_input, full, eps=eps, reduction=how)


def triplet_margin_loss(
    anchor: Any, positive: Any, negative: Any, margin: float = 1.0, p: float = 2.0,
    eps: float = 1e-6, swap: bool = False, reduction: int = 1,
) -> Tensor:  # fmt: skip
    """``nn.functional.triplet_margin_loss``."""
    how = _word("triplet_margin_loss", reduction)
    return _F.triplet_margin_loss(anchor, positive, negative, margin, p, eps, swap, reduction=how)
