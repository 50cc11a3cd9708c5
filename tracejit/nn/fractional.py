"""``nn.FractionalMaxPool2d`` and ``3d``.

Invariant: no parameters; each calls the function of the same name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracejit.errors import at_user_line
from tracejit.nn import functional as F
from tracejit.nn.module import Module
from tracejit.nn.pooling import _repeat
from tracejit.tensor import Tensor


class _FractionalMaxPool(Module):
    function: Callable[..., Any]
    rank: int

    def __init__(
        self, kernel_size: Any, output_size: Any = None, output_ratio: Any = None,
        return_indices: bool = False, _random_samples: Tensor | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        name = type(self).__name__
        if (output_size is None) == (output_ratio is None):
            raise ValueError(
                at_user_line(f"{name}: give output_size or output_ratio, and only one of them")
            )
        self.kernel_size = _repeat(kernel_size, self.rank)
        self.return_indices = return_indices
        self.register_buffer("_random_samples", _random_samples)
        self.output_size = None if output_size is None else _repeat(output_size, self.rank)
        ratio = (output_ratio,) * self.rank if isinstance(output_ratio, float) else output_ratio
        self.output_ratio = ratio
        if ratio is not None and not all(0 < r < 1 for r in ratio):
            raise ValueError(
                at_user_line(f"{name}: output_ratio must be between 0 and 1, got {output_ratio}")
            )

    def forward(self, input: Tensor) -> Any:
        return type(self).function(input, self.kernel_size, self.output_size, self.output_ratio,
                                   self.return_indices, self._random_samples)  # fmt: skip


class FractionalMaxPool2d(_FractionalMaxPool):
    """Maxima over windows of [N, C, H, W] that start at pseudo-random places (Graham, 2014)."""

    rank = 2
    function = staticmethod(F.fractional_max_pool2d)


class FractionalMaxPool3d(_FractionalMaxPool):
    """Maxima over windows of [N, C, T, H, W] that start at pseudo-random places."""

    rank = 3
    function = staticmethod(F.fractional_max_pool3d)
