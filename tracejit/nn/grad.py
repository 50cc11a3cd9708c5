"""``nn.grad``: the gradients of convolutions as functions.

Invariant: each is the gradient that `autograd.grad` gives; nothing is derived here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracejit.eager.backward import grad
from tracejit.eager.modes import enable_grad
from tracejit.nn import functional as F
from tracejit.tensor import Tensor

__all__ = [
    "conv1d_input", "conv1d_weight", "conv2d_input", "conv2d_weight", "conv3d_input",
    "conv3d_weight",
]  # fmt: skip


def _gradient(convolution: Callable[..., Any], place: int, doc: str) -> Callable[..., Tensor]:
    def function(
        first: Any, second: Any, grad_output: Tensor, stride: Any = 1, padding: Any = 0,
        dilation: Any = 1, groups: Any = 1,
    ) -> Tensor:  # fmt: skip
        with enable_grad():
            if place == 0:  # (input_size, weight)
                wanted: Any = second.new_zeros(first).requires_grad_()
                operands = wanted, second
            else:  # (input, weight_size)
                wanted = first.new_zeros(second).requires_grad_()
                operands = first, wanted
            result = convolution(*operands, None, stride, padding, dilation, groups)
            found: Any = grad(result, wanted, grad_output, create_graph=True)
            return found[0]

    function.__name__ = f"{convolution.__name__}_{'weight' if place else 'input'}"
    function.__qualname__ = function.__name__
    function.__doc__ = doc
    return function


_INPUT = "The gradient of the input: (input_size, weight, grad_output, ...)."
_WEIGHT = "The gradient of the weight: (input, weight_size, grad_output, ...)."
conv1d_input, conv1d_weight = (_gradient(F.conv1d, i, d) for i, d in enumerate((_INPUT, _WEIGHT)))
conv2d_input, conv2d_weight = (_gradient(F.conv2d, i, d) for i, d in enumerate((_INPUT, _WEIGHT)))
conv3d_input, conv3d_weight = (_gradient(F.conv3d, i, d) for i, d in enumerate((_INPUT, _WEIGHT)))
