"""``nn.parallel``: `DataParallel`, which on one device is the module it holds.

Invariant: there is one process and one device, so nothing is split and nothing is copied.
"""

from __future__ import annotations

from typing import Any

from tracejit.nn.module import Module

__all__ = ["DataParallel"]


class DataParallel(Module):
    """Calls ``self.module``, as torch's does where there is no GPU to spread the batch over.

    Parameter names get the prefix ``module.``. Example: ``nn.DataParallel(nn.Linear(4, 2))``.
    """

    def __init__(
        self, module: Module, device_ids: Any = None, output_device: Any = None, dim: int = 0
    ) -> None:
        super().__init__()
        self.dim = dim
        self.module = module
        self.device_ids: list[int] = []

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """What the module gives."""
        return self.module(*inputs, **kwargs)
