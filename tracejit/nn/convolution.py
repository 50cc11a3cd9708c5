"""Convolution layers and their transposes.

Invariant: weights are [out, in / groups, ...] ([in, out / groups, ...] when transposed).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tracejit.eager.factories import empty
from tracejit.errors import at_user_line
from tracejit.nn import functional as F
from tracejit.nn import init
from tracejit.nn.functional.windows import repeated
from tracejit.nn.module import Module
from tracejit.nn.parameter import Parameter
from tracejit.tensor import Tensor


class _ConvBase(Module):
    """Arguments, parameters and repr of all convolutions."""

    rank: int
    transposed = False
    weight: Any
    bias: Any

    def _setup(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any, padding: Any,
        dilation: Any, groups: int, bias: bool, padding_mode: str, output_padding: Any,
        device: Any, dtype: Any,
    ) -> None:  # fmt: skip
        if groups <= 0:
            raise ValueError(at_user_line("groups must be a positive integer"))
        if in_channels % groups:
            raise ValueError(at_user_line("in_channels must be divisible by groups"))
        if out_channels % groups:
            raise ValueError(at_user_line("out_channels must be divisible by groups"))
        if padding_mode not in ("zeros", "reflect", "replicate", "circular"):
            raise ValueError(
                at_user_line(
                    f"padding_mode {padding_mode!r} is not zeros, reflect, replicate or circular"
                )
            )
        if isinstance(padding, str) and padding not in ("same", "valid"):
            raise ValueError(
                at_user_line(f"Invalid padding string {padding!r}, should be one of same, valid")
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = repeated(kernel_size, self.rank, "kernel_size")
        self.stride = repeated(stride, self.rank, "stride")
        if padding == "same" and any(s != 1 for s in self.stride):
            raise ValueError(
                at_user_line("padding='same' is not supported for strided convolutions")
            )
        same = isinstance(padding, str)
        self.padding = padding if same else repeated(padding, self.rank, "padding")
        self.dilation = repeated(dilation, self.rank, "dilation")
        self.output_padding = repeated(output_padding, self.rank, "output_padding")
        self.groups = groups
        self.padding_mode = padding_mode
        first, second = (
            (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        )
        shape = (first, second // groups, *self.kernel_size)
        self.weight = Parameter(empty(*shape, device=device, dtype=dtype))
        if bias:
            self.bias = Parameter(empty(out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init._calculate_fan_in_and_fan_out(self.weight)
            if fan_in:
                bound = 1 / math.sqrt(fan_in)
                init.uniform_(self.bias, -bound, bound)

    def _border(self) -> list[int]:
        """The amounts of `F.pad` that the padding stands for."""
        if self.padding == "valid":
            return [0] * (2 * self.rank)
        sides: list[int] = []
        for i in reversed(range(self.rank)):
            if self.padding == "same":
                total = self.dilation[i] * (self.kernel_size[i] - 1)
                sides += [total // 2, total - total // 2]
            else:
                sides += [self.padding[i]] * 2
        return sides

    def extra_repr(self) -> str:
        text = (f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
                f"stride={self.stride}")  # fmt: skip
        if self.padding != (0,) * self.rank:
            text += f", padding={self.padding}"
        if self.dilation != (1,) * self.rank:
            text += f", dilation={self.dilation}"
        if self.output_padding != (0,) * self.rank:
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


class _Conv(_ConvBase):
    function: Callable[..., Tensor]

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1,
        padding: Any = 0, dilation: Any = 1, groups: int = 1, bias: bool = True,
        padding_mode: str = "zeros", device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self._setup(in_channels, out_channels, kernel_size, stride, padding, dilation, groups,
                    bias, padding_mode, 0, device, dtype)  # fmt: skip

    def forward(self, input: Tensor) -> Tensor:
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._border(), mode=self.padding_mode)
            padding = 0
        return type(self).function(input, self.weight, self.bias, self.stride, padding,
                                   self.dilation, self.groups)  # fmt: skip


class Conv1d(_Conv):
    """Convolution of [N, C, L]."""

    rank = 1
    function = staticmethod(F.conv1d)


class Conv2d(_Conv):
    """Convolution of [N, C, H, W].

    padding  numbers, 'valid' or 'same'; `padding_mode` says what is beyond the border.
    """

    rank = 2
    function = staticmethod(F.conv2d)


class Conv3d(_Conv):
    """Convolution of [N, C, D, H, W]."""

    rank = 3
    function = staticmethod(F.conv3d)


class _ConvTranspose(_ConvBase):
    transposed = True
    function: Callable[..., Tensor]

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1,
        padding: Any = 0, output_padding: Any = 0, groups: int = 1, bias: bool = True,
        dilation: Any = 1, padding_mode: str = "zeros", device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if padding_mode != "zeros":
            raise ValueError(
                at_user_line("only zeros padding_mode is supported for transposed convolutions")
            )
        self._setup(in_channels, out_channels, kernel_size, stride, padding, dilation, groups,
                    bias, padding_mode, output_padding, device, dtype)  # fmt: skip

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        extra = self._extra(input, output_size)
        return type(self).function(input, self.weight, self.bias, self.stride, self.padding,
                                   extra, self.groups, self.dilation)  # fmt: skip

    def _extra(self, input: Any, output_size: Any) -> tuple[int, ...]:
        """The output padding that gives `output_size`."""
        if output_size is None:
            return self.output_padding
        wanted = tuple(int(n) for n in output_size)[-self.rank :]
        found = []
        for i, n in enumerate(wanted):
            size = int(input.shape[i - self.rank])
            least = ((size - 1) * self.stride[i] - 2 * self.padding[i]
                     + self.dilation[i] * (self.kernel_size[i] - 1) + 1)  # fmt: skip
            if not least <= n < least + self.stride[i]:
                raise ValueError(
                    at_user_line(
                        f"requested an output size of {list(wanted)}, but valid sizes of "
                        f"dimension {i} range from {least} to "
                        f"{least + self.stride[i] - 1}"
                    )
                )
            found.append(n - least)
        return tuple(found)


class ConvTranspose1d(_ConvTranspose):
    """The transpose of `Conv1d`."""

    rank = 1
    function = staticmethod(F.conv_transpose1d)


class ConvTranspose2d(_ConvTranspose):
    """The transpose of `Conv2d`."""

    rank = 2
    function = staticmethod(F.conv_transpose2d)


class ConvTranspose3d(_ConvTranspose):
    """The transpose of `Conv3d`."""

    rank = 3
    function = staticmethod(F.conv_transpose3d)
