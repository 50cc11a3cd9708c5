"""Batch and instance normalisation, which keep running statistics as buffers.

Invariant: the buffers are written in place, so a compiled step updates the very same tensors.
"""

from __future__ import annotations

from typing import Any

from tracejit import dtypes
from tracejit.eager.factories import ones, tensor, zeros
from tracejit.eager.modes import no_grad
from tracejit.errors import at_user_line
from tracejit.nn import functional as F
from tracejit.nn import init
from tracejit.nn.module import Module
from tracejit.nn.normalization import add_affine
from tracejit.tensor import Tensor


class _Norm(Module):
    """Arguments, parameters and buffers shared by batch and instance normalisation."""

    weight: Any
    bias: Any
    running_mean: Any
    running_var: Any
    num_batches_tracked: Any
    dims: tuple[int, ...] = ()

    def __init__(
        self, num_features: int, eps: float, momentum: float | None, affine: bool,
        track_running_stats: bool, device: Any, dtype: Any, bias: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        add_affine(self, (num_features,), affine, affine and bias, device, dtype)
        track = track_running_stats
        how = {"device": device, "dtype": dtype}
        self.register_buffer("running_mean", zeros(num_features, **how) if track else None)
        self.register_buffer("running_var", ones(num_features, **how) if track else None)
        count = tensor(0, dtype=dtypes.int64, device=device) if track else None
        self.register_buffer("num_batches_tracked", count)

    def reset_running_stats(self) -> None:
        """Mean 0, variance 1, no batch seen."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Fresh statistics, weight 1, bias 0."""
        self.reset_running_stats()
        if self.affine:
            init.ones_(self.weight)
            if self.bias is not None:
                init.zeros_(self.bias)

    def _check_input_dim(self, input: Tensor) -> None:
        if self.dims and input.ndim not in self.dims:
            wanted = " or ".join(f"{n}D" for n in self.dims)
            raise ValueError(at_user_line(f"expected {wanted} input (got {input.ndim}D input)"))

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool,
        missing_keys: list[str], unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        key = prefix + "num_batches_tracked"
        if self.track_running_stats and key not in state_dict:  # checkpoints from before it existed
            state_dict = {**state_dict, key: tensor(0, dtype=dtypes.int64)}
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys,
                                      unexpected_keys, error_msgs)  # fmt: skip

    def extra_repr(self) -> str:
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
                f"affine={self.affine}, bias={self.bias is not None}, "
                f"track_running_stats={self.track_running_stats}")  # fmt: skip


class _BatchNorm(_Norm):
    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1,
        affine: bool = True, track_running_stats: bool = True, device: Any = None,
        dtype: Any = None, *, bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype,
                         bias)  # fmt: skip

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        tracking = self.training and self.track_running_stats
        factor: Any = 0.0 if self.momentum is None else self.momentum
        if tracking:
            with no_grad():
                self.num_batches_tracked.add_(1)
                if self.momentum is None:  # the plain average of all batches
                    factor = 1.0 / self.num_batches_tracked.to(dtypes.float64)
        by_batch = self.training or self.running_mean is None
        mean = self.running_mean if not self.training or self.track_running_stats else None
        var = self.running_var if not self.training or self.track_running_stats else None
        return F.batch_norm(input, mean, var, self.weight, self.bias, by_batch, factor, self.eps)


class BatchNorm1d(_BatchNorm):
    """Normalised over the batch for each feature of [N, C] or [N, C, L]."""

    dims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Normalised over the batch for each channel of [N, C, H, W]."""

    dims = (4,)


class BatchNorm3d(_BatchNorm):
    """Normalised over the batch for each channel of [N, C, D, H, W]."""

    dims = (5,)


class SyncBatchNorm(_BatchNorm):
    """Batch normalisation of any rank; there is one process, so nothing to synchronise."""

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1,
        affine: bool = True, track_running_stats: bool = True, process_group: Any = None,
        device: Any = None, dtype: Any = None, *, bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype,
                         bias=bias)  # fmt: skip

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(at_user_line(f"expected at least 2D input (got {input.ndim}D input)"))

    @classmethod
    def convert_sync_batchnorm(cls, module: Any, process_group: Any = None) -> Any:
        """`module` with a `SyncBatchNorm` of the same state for every batch norm in it."""
        result = module
        if isinstance(module, _BatchNorm):
            result = cls(module.num_features, module.eps, module.momentum, module.affine,
                         module.track_running_stats, process_group)  # fmt: skip
            result._parameters.update(module._parameters)
            result._buffers.update(module._buffers)
            result.train(module.training)
        for name, child in module.named_children():
            result.add_module(name, cls.convert_sync_batchnorm(child, process_group))
        return result


class _InstanceNorm(_Norm):
    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = False,
        track_running_stats: bool = False, device: Any = None, dtype: Any = None, *,
        bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype,
                         bias)  # fmt: skip

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        single = input.ndim == min(self.dims)
        x: Any = input.unsqueeze(0) if single else input
        if self.affine and x.shape[1] != self.num_features:
            raise ValueError(at_user_line(f"expected input's channels to match num_features "
                             f"({self.num_features}), but got {x.shape[1]}"))  # fmt: skip
        result: Any = F.instance_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias,
            self.training or not self.track_running_stats, self.momentum or 0.0, self.eps,
        )  # fmt: skip
        return result.squeeze(0) if single else result


class InstanceNorm1d(_InstanceNorm):
    """Normalised over the length of each channel of [N, C, L] or [C, L]."""

    dims = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """Normalised over the area of each channel of [N, C, H, W] or [C, H, W]."""

    dims = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """Normalised over the volume of each channel of [N, C, D, H, W] or [C, D, H, W]."""

    dims = (4, 5)
