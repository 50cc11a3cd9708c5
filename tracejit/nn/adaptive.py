"""`AdaptiveLogSoftmaxWithLoss`: a softmax over many classes whose rare ones share small layers.

Source: Grave et al., "Efficient softmax approximation for GPUs" (2017). Invariant: no shape depends
on the targets (every cluster sees every row), so a training step is one trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tracejit.eager.checks import is_on_device, require
from tracejit.eager.register import FUNCTIONS
from tracejit.errors import at_user_line
from tracejit.nn.containers import ModuleList, Sequential
from tracejit.nn.linear import Linear
from tracejit.nn.module import Module
from tracejit.tensor import Tensor

__all__ = ["AdaptiveLogSoftmaxWithLoss"]


class _ASMoutput(NamedTuple):
    output: Any
    loss: Any


class AdaptiveLogSoftmaxWithLoss(Module):
    """The log-probabilities of targets, and their mean loss, with classes sorted by frequency.

    cutoffs    where clusters of rarer classes begin, increasing, below `n_classes`.
    div_value  each cluster's layer has so many times fewer features than the one before.
    Calling it with ``input [N, in_features]`` and ``target [N]`` (or one row and one number) gives
    ``(output, loss)``. Raises ValueError for bad cutoffs, RuntimeError for shapes that do not fit.
    """

    head: Any
    tail: Any

    def __init__(
        self, in_features: int, n_classes: int, cutoffs: Sequence[int], div_value: float = 4.0,
        head_bias: bool = False, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        cuts = list(cutoffs)
        if not cuts:
            raise ValueError(at_user_line("cutoffs should be a sequence of length larger than 0"))
        increasing = cuts == sorted(set(cuts)) and cuts[0] > 0 and cuts[-1] <= n_classes - 1
        if not increasing or any(int(c) != c for c in cuts):
            raise ValueError(
                at_user_line(
                    "cutoffs should be a sequence of unique, positive integers sorted in an "
                    "increasing order, where each value is between 1 and n_classes-1"
                )
            )
        self.in_features, self.n_classes = in_features, n_classes
        self.cutoffs = [*cuts, n_classes]
        self.div_value, self.head_bias = div_value, head_bias
        self.shortlist_size, self.n_clusters = cuts[0], len(cuts)
        self.head_size = self.shortlist_size + self.n_clusters
        how = {"device": device, "dtype": dtype}
        self.head = Linear(in_features, self.head_size, bias=head_bias, **how)
        self.tail = ModuleList()
        for i in range(self.n_clusters):
            narrow = int(in_features // div_value ** (i + 1))
            size = self.cutoffs[i + 1] - self.cutoffs[i]
            self.tail.append(Sequential(Linear(in_features, narrow, bias=False, **how),
                                        Linear(narrow, size, bias=False, **how)))  # fmt: skip

    def reset_parameters(self) -> None:
        """Draw new weights."""
        self.head.reset_parameters()
        for first, second in self.tail:
            first.reset_parameters()
            second.reset_parameters()

    def _check(self, input: Any, target: Any) -> None:
        if target.dim() not in (0, 1) or input.dim() != target.dim() + 1:
            raise RuntimeError(
                at_user_line(
                    "0D or 1D target tensor expected, with one more dimension in the input"
                )
            )
        if target.dim() and input.size(0) != target.size(0):
            raise RuntimeError(
                at_user_line("Input and target should have the same size in the batch dimension.")
            )
        if is_on_device(target):
            return
        last, values = self.n_classes - 1, target._array
        text = f"Target values should be in [0, {last}]"
        if ((values < 0) | (values > last)).any():
            raise RuntimeError(
                at_user_line(
                    f"{text}, but values in range [{values.min()}, {values.max()}] were found."
                )
            )
        require(lambda: ((target >= 0) & (target <= last)).all(), text)

    def forward(self, input: Tensor, target: Tensor) -> Any:
        self._check(input, target)
        rows, wanted = (input, target) if target.dim() else (input.unsqueeze(0),
                                                             target.unsqueeze(0))  # fmt: skip
        head = self.head(rows).log_softmax(1)
        first = wanted.clamp(max=self.shortlist_size - 1)
        found = head.gather(1, first.unsqueeze(1)).squeeze(1)
        for i, cluster in enumerate(self.tail):
            low, high = self.cutoffs[i], self.cutoffs[i + 1]
            place = (wanted - low).clamp(0, high - low - 1).unsqueeze(1)
            inner = cluster(rows).log_softmax(1).gather(1, place).squeeze(1)
            value = head[:, self.shortlist_size + i] + inner
            found = FUNCTIONS["where"]((wanted >= low) & (wanted < high), value, found)
        loss = -found.mean()
        return _ASMoutput(found if target.dim() else found.squeeze(0), loss)

    def log_prob(self, input: Tensor) -> Any:
        """Log-probabilities of all classes, ``[N, n_classes]``."""
        head = self.head(input).log_softmax(1)
        parts = [head[:, : self.shortlist_size]]
        for i, cluster in enumerate(self.tail):
            share = head[:, self.shortlist_size + i].unsqueeze(1)
            parts.append(cluster(input).log_softmax(1) + share)
        return FUNCTIONS["cat"](parts, 1)

    def predict(self, input: Tensor) -> Any:
        """The most probable class of each row."""
        return self.log_prob(input).argmax(1)
