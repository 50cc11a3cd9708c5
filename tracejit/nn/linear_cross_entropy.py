"""``nn.LinearCrossEntropyLoss``: a linear layer and the cross entropy of its results.

Invariant: the layer's weight is stored with all outputs in one dimension, as in torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tracejit.errors import at_user_line
from tracejit.nn import functional as F
from tracejit.nn.linear import Linear
from tracejit.nn.loss import _WeightedLoss
from tracejit.tensor import Tensor


@dataclass
class LinearCrossEntropyOptions:
    """How torch splits the work over batches; here the loss is whole, so nothing depends on it."""

    allow_retain_graph: bool = False
    batch_chunk_size: int | None = None
    chunking_method: str | None = "auto"
    acc_policy: str = "auto"
    acc_dtype: Any = None


class LinearCrossEntropyLoss(_WeightedLoss):
    """Cross entropy of a linear layer's results: input [N, in_features] or [in_features].

    out_features  further dimensions (d1, ...) of the results, which are [N, classes, d1, ...].
    Raises RuntimeError for a weight that is not [num_classes].
    Example: ``nn.LinearCrossEntropyLoss(4, 9)(torch.ones(3, 4), tensor([0, 8, 3])).ndim`` is 0.
    """

    def __init__(
        self, in_features: int, num_classes: int, *, out_features: tuple[int, ...] = (),
        bias: bool = False, device: Any = None, dtype: Any = None, reduction: str = "mean",
        weight: Tensor | None = None, ignore_index: int | None = None,
        label_smoothing: float = 0.0, options: LinearCrossEntropyOptions | None = None,
    ) -> None:  # fmt: skip
        if weight is not None and tuple(weight.shape) != (num_classes,):
            raise RuntimeError(at_user_line(f"expected weight shape to be {(num_classes,)}, "
                               f"got {tuple(weight.shape)}"))  # fmt: skip
        if not 0.0 <= label_smoothing <= 1.0:
            raise RuntimeError(
                at_user_line(f"label_smoothing must be between 0 and 1, got {label_smoothing}")
            )
        super().__init__(weight, reduction=reduction)
        self.num_classes = num_classes
        self.out_features = out_features
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        count = math.prod(out_features, start=num_classes)
        self.linear = Linear(in_features, count, bias=bias, device=device, dtype=dtype)
        self.options = options

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        shape = (self.num_classes, *self.out_features)
        bias: Any = self.linear.bias
        return F.linear_cross_entropy(
            input, self.linear.weight.reshape(*shape, self.linear.in_features), target,
            linear_bias=None if bias is None else bias.reshape(shape), weight=self.weight,
            reduction=self.reduction, ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing, options=self.options,
        )  # fmt: skip

    def extra_repr(self) -> str:
        shown = {
            "in_features": self.linear.in_features, "num_classes": self.num_classes,
            "out_features": self.out_features, "bias": self.linear.bias is not None,
            "reduction": self.reduction, "ignore_index": self.ignore_index,
            "label_smoothing": self.label_smoothing, "options": self.options,
        }  # fmt: skip
        return ", ".join(f"{name}={value}" for name, value in shown.items())
