"""Batch normalisation folded into the layer before it, for inference; modules without drawn values.

Invariant: a fused module is a copy; the originals keep their parameters.
"""

from __future__ import annotations

import copy
from typing import Any

from tracejit.eager.modes import no_grad
from tracejit.errors import at_user_line
from tracejit.nn.parameter import Parameter
from tracejit.random import default_generator


def _scale_and_shift(
    bias: Any, mean: Any, var: Any, eps: float, weight: Any, offset: Any
) -> tuple[Any, Any]:
    """The factor of each output channel, and the bias that the two layers together have."""
    scale = (var + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    start = -mean if bias is None else bias - mean
    shift = start * scale
    return scale, shift if offset is None else shift + offset


def fuse_conv_bn_weights(
    conv_w: Any, conv_b: Any, bn_rm: Any, bn_rv: Any, bn_eps: float, bn_w: Any, bn_b: Any,
    transpose: bool = False,
) -> tuple[Parameter, Parameter]:  # fmt: skip
    """(weight, bias) of the convolution that equals a convolution and its batch norm in eval mode.

    transpose  the weight is that of a transposed convolution: its outputs are dim 1.
    """
    with no_grad():
        scale, shift = _scale_and_shift(conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b)
        lead = (1, -1) if transpose else (-1, 1)
        fused = conv_w * scale.reshape(*lead, *(1,) * (conv_w.ndim - 2))
        wanted = conv_w.requires_grad, conv_b is None or conv_b.requires_grad
        return (
            Parameter(fused.to(conv_w.dtype), wanted[0]),
            Parameter(shift.to(conv_w.dtype), wanted[1]),
        )


def fuse_linear_bn_weights(
    linear_w: Any, linear_b: Any, bn_rm: Any, bn_rv: Any, bn_eps: float, bn_w: Any, bn_b: Any
) -> tuple[Parameter, Parameter]:
    """(weight, bias) of the linear layer that equals one and its batch norm in eval mode."""
    return fuse_conv_bn_weights(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b)


def fuse_conv_bn_eval(conv: Any, bn: Any, transpose: bool = False) -> Any:
    """A copy of `conv` that computes ``bn(conv(x))``; both must be in eval mode."""
    return _fused(conv, bn, transpose)


def fuse_linear_bn_eval(linear: Any, bn: Any) -> Any:
    """A copy of `linear` that computes ``bn(linear(x))``; both must be in eval mode."""
    if linear.out_features != bn.num_features and bn.num_features != 1:
        raise AssertionError(at_user_line("To fuse, linear.out_features == bn.num_features or "
                             "bn.num_features == 1"))  # fmt: skip
    return _fused(linear, bn, False)


def _fused(layer: Any, bn: Any, transpose: bool) -> Any:
    if layer.training or bn.training:
        raise AssertionError(at_user_line("Fusion only for eval!"))
    if bn.running_mean is None or bn.running_var is None:
        raise AssertionError(
            at_user_line("Only support fusing BatchNorm with non-None running_var/running_mean")
        )
    fused = copy.deepcopy(layer)
    fused.weight, fused.bias = fuse_conv_bn_weights(
        layer.weight, layer.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias,
        transpose,
    )  # fmt: skip
    return fused


def skip_init(module_cls: type, *args: Any, **kwargs: Any) -> Any:
    """``module_cls(*args, **kwargs)`` whose values are arbitrary; the generator does not move."""
    before = default_generator.get_state()
    try:
        return module_cls(*args, **kwargs)
    finally:
        default_generator.set_state(before)
