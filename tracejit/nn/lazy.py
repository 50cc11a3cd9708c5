"""Modules that learn the number of input features from the first input: ``LazyLinear`` and kin.

Invariant: after the first call (or a loaded checkpoint) such a module is a plain Linear, Conv2d,
..., of that very class, with the parameters that an optimizer may already hold.
"""

from __future__ import annotations

from typing import Any

from tracejit import dtypes
from tracejit.eager.factories import tensor
from tracejit.errors import at_user_line
from tracejit.nn import batchnorm, convolution, linear
from tracejit.nn.parameter import UninitializedBuffer, UninitializedParameter, is_lazy


class LazyModuleMixin:
    """For modules that define ``initialize_parameters(*inputs)``, which the first call runs.

    cls_to_become  the class that the module then gets.
    """

    cls_to_become: type | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        module: Any = self
        self._first_call = module.register_forward_pre_hook(_infer, with_kwargs=True)
        self._on_load = module.register_load_state_dict_pre_hook(_fit_to_checkpoint)

    def initialize_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Give every uninitialized parameter a shape that fits the inputs."""
        raise NotImplementedError(
            at_user_line(f"initialize_parameters is not implemented for {type(self).__name__}")
        )

    def has_uninitialized_params(self) -> bool:
        """Whether a parameter or buffer has no shape yet."""
        module: Any = self
        return any(map(is_lazy, (*module._parameters.values(), *module._buffers.values())))

    def reset_parameters(self) -> None:
        """Draw the parameters anew, once they have shapes."""
        if not self.has_uninitialized_params():
            super().reset_parameters()  # type: ignore[misc]

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)  # type: ignore[misc]
        module: Any = self
        for name, value in (*module._parameters.items(), *module._buffers.items()):
            if is_lazy(value):
                destination[prefix + name] = value


def _infer(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Before the first call: shapes from its inputs, then the module is a plain one."""
    module.initialize_parameters(*args, **kwargs)
    if module.has_uninitialized_params():
        raise RuntimeError(
            at_user_line(f"module {module._get_name()} has not been fully initialized")
        )
    module._first_call.remove()
    module._on_load.remove()
    del module._first_call, module._on_load
    if module.cls_to_become is not None:
        module.__class__ = module.cls_to_become


def _fit_to_checkpoint(
    module: Any, state_dict: Any, prefix: str, local_metadata: Any, strict: bool,
    missing_keys: list[str], unexpected_keys: list[str], error_msgs: list[str],
) -> None:  # fmt: skip
    """Before loading: parameters without a shape take the one in the checkpoint."""
    for name, value in (*module._parameters.items(), *module._buffers.items()):
        saved = state_dict.get(prefix + name)
        if is_lazy(value) and saved is not None and not is_lazy(saved):
            value.materialize(saved.shape)


class LazyLinear(LazyModuleMixin, linear.Linear):
    """`Linear` whose in_features is the size of the first input's last dimension."""

    cls_to_become = linear.Linear

    def __init__(
        self, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(0, 0, False, device, dtype)
        self.weight = UninitializedParameter(dtype=dtype)
        self.out_features = out_features
        if bias:
            self.bias = UninitializedParameter(dtype=dtype)

    def initialize_parameters(self, input: Any) -> None:
        if self.has_uninitialized_params():
            self.in_features = int(input.shape[-1])
            self.weight.materialize((self.out_features, self.in_features))
            if self.bias is not None:
                self.bias.materialize((self.out_features,))
            self.reset_parameters()


class _LazyConv(LazyModuleMixin):
    """What the six lazy convolutions share; a subclass names its plain class second."""

    def __init__(
        self, out_channels: int, kernel_size: Any, *args: Any, bias: bool = True,
        dtype: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(0, 0, kernel_size, *args, bias=False, dtype=dtype, **kwargs)
        module: Any = self
        module.weight = UninitializedParameter(dtype=dtype)
        module.out_channels = out_channels
        if bias:
            module.bias = UninitializedParameter(dtype=dtype)

    def initialize_parameters(self, input: Any, *args: Any, **kwargs: Any) -> None:
        module: Any = self
        if not self.has_uninitialized_params():
            return
        if input.ndim not in (module.rank + 1, module.rank + 2):
            raise RuntimeError(at_user_line(
                f"{module._get_name()}: needs {module.rank + 1} or {module.rank + 2} dimensions, "
                f"got {input.ndim}"))  # fmt: skip
        module.in_channels = int(input.shape[input.ndim - module.rank - 1])
        if module.in_channels % module.groups:
            raise ValueError(at_user_line("in_channels must be divisible by groups"))
        sizes = (module.out_channels, module.in_channels)
        first, second = reversed(sizes) if module.transposed else sizes
        module.weight.materialize((first, second // module.groups, *module.kernel_size))
        if module.bias is not None:
            module.bias.materialize((module.out_channels,))
        module.reset_parameters()


class _LazyNorm(LazyModuleMixin):
    """What lazy batch and instance normalisation share."""

    def __init__(
        self, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool | None = None,
        track_running_stats: bool | None = None, device: Any = None, dtype: Any = None, *,
        bias: bool = True,
    ) -> None:  # fmt: skip
        usual = issubclass(type(self), batchnorm._BatchNorm)  # instance norms have neither
        super().__init__(0, eps, momentum, False, False, device, dtype)
        module: Any = self
        module.affine = usual if affine is None else affine
        module.track_running_stats = usual if track_running_stats is None else track_running_stats
        if module.affine:
            module.weight = UninitializedParameter(dtype=dtype)
            if bias:
                module.bias = UninitializedParameter(dtype=dtype)
        if module.track_running_stats:
            module.register_buffer("running_mean", UninitializedBuffer(dtype=dtype))
            module.register_buffer("running_var", UninitializedBuffer(dtype=dtype))
            module.register_buffer("num_batches_tracked", tensor(0, dtype=dtypes.int64))

    def reset_running_stats(self) -> None:
        """Mean 0, variance 1, no batch seen, once the shapes are known."""
        if not self.has_uninitialized_params():
            super().reset_running_stats()  # type: ignore[misc]

    def initialize_parameters(self, input: Any) -> None:
        module: Any = self
        if not self.has_uninitialized_params():
            return
        single = isinstance(self, batchnorm._InstanceNorm) and input.ndim == min(module.dims)
        module._check_input_dim(input)
        module.num_features = int(input.shape[0 if single else 1])
        for value in (*module._parameters.values(), *module._buffers.values()):
            if is_lazy(value):
                value.materialize((module.num_features,))
        module.reset_parameters()


def _define(base: type, plain: type) -> Any:
    """The lazy counterpart of a plain module class."""
    text = f"`{plain.__name__}` whose number of input channels is that of the first input."
    body = {"cls_to_become": plain, "__doc__": text, "__module__": __name__}
    return type(f"Lazy{plain.__name__}", (base, plain), body)


LazyConv1d = _define(_LazyConv, convolution.Conv1d)
LazyConv2d = _define(_LazyConv, convolution.Conv2d)
LazyConv3d = _define(_LazyConv, convolution.Conv3d)
LazyConvTranspose1d = _define(_LazyConv, convolution.ConvTranspose1d)
LazyConvTranspose2d = _define(_LazyConv, convolution.ConvTranspose2d)
LazyConvTranspose3d = _define(_LazyConv, convolution.ConvTranspose3d)
LazyBatchNorm1d = _define(_LazyNorm, batchnorm.BatchNorm1d)
LazyBatchNorm2d = _define(_LazyNorm, batchnorm.BatchNorm2d)
LazyBatchNorm3d = _define(_LazyNorm, batchnorm.BatchNorm3d)
LazyInstanceNorm1d = _define(_LazyNorm, batchnorm.InstanceNorm1d)
LazyInstanceNorm2d = _define(_LazyNorm, batchnorm.InstanceNorm2d)
LazyInstanceNorm3d = _define(_LazyNorm, batchnorm.InstanceNorm3d)

__all__ = [
    "LazyBatchNorm1d", "LazyBatchNorm2d", "LazyBatchNorm3d", "LazyConv1d", "LazyConv2d",
    "LazyConv3d", "LazyConvTranspose1d", "LazyConvTranspose2d", "LazyConvTranspose3d",
    "LazyInstanceNorm1d", "LazyInstanceNorm2d", "LazyInstanceNorm3d", "LazyLinear",
    "LazyModuleMixin",
]  # fmt: skip
