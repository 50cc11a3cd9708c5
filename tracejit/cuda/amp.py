"""``tracejit.cuda.amp``: the older names of ``tracejit.amp`` for CUDA.

Invariant: as in ``tracejit.amp``, nothing here changes a number.
"""

from __future__ import annotations

from typing import Any

from tracejit import amp
from tracejit.dtypes import DType, float16

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd"]

custom_bwd, custom_fwd = amp.custom_bwd, amp.custom_fwd


class autocast(amp.autocast):
    """``amp.autocast("cuda", ...)``.

    Example: ``with cuda.amp.autocast(enabled=False): y = model(x)``.
    """

    def __init__(self, enabled: bool = True, dtype: DType = float16, cache_enabled: bool = True):
        super().__init__("cuda", dtype, enabled, cache_enabled)


class GradScaler(amp.GradScaler):
    """``amp.GradScaler("cuda", ...)``; torch's positional order.

    Example: ``scaler = cuda.amp.GradScaler()``.
    """

    def __init__(self, init_scale: float = 65536.0, *args: Any, **kwargs: Any):
        super().__init__("cuda", init_scale, *args, **kwargs)
