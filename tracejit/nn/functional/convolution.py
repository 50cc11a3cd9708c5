"""Convolutions, their transposes, and windows as columns.

Invariant: arguments are checked here and in torch's words; what is computed is the business of the
ops `convolve` and `convolve_input`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.eager.dispatch import apply
from tracejit.eager.pointwise import check_tensors
from tracejit.eager.tape import type_of
from tracejit.errors import DTypeError, ShapeError, at_user_line
from tracejit.ir.op import OPS
from tracejit.nn.functional.padding import pad
from tracejit.nn.functional.windows import repeated, windows, windows_add
from tracejit.tensor import Tensor


def _check(
    name: str, input: Any, weight: Any, bias: Any, groups: int, channels: Any, rank: int
) -> Any:
    """The input with a batch axis.

    Raises TypeError for what is no tensor, ShapeError where sizes do not fit.
    """
    check_tensors(name, input, weight)
    if input.ndim not in (rank + 1, rank + 2):
        raise RuntimeError(at_user_line(
            f"{name}: expected {rank + 1}-d (single) or {rank + 2}-d (batched) input, "
            f"got {type_of(input)}"))  # fmt: skip
    if weight.ndim != rank + 2:
        what = f"expected a {rank + 2}-d weight, got {type_of(weight)}"
        raise RuntimeError(at_user_line(f"{name}: {what}"))
    if input.dtype is not weight.dtype:
        raise DTypeError(at_user_line(
            f"{name}: input {type_of(input)} and weight {type_of(weight)} "
            "differ in dtype"))  # fmt: skip
    if weight.shape[0] < groups or groups <= 0:
        raise RuntimeError(at_user_line(
            f"{name}: {weight.shape[0]} filters do not make {groups} groups"))  # fmt: skip
    if bias is not None and bias.dtype is not input.dtype:
        raise DTypeError(at_user_line(
            f"{name}: input {type_of(input)} and bias {type_of(bias)} differ in dtype"
        ))  # fmt: skip
    x = input if input.ndim == rank + 2 else input.unsqueeze(0)
    if x.shape[1] != channels:
        raise ShapeError(at_user_line(
            f"{name}: weight {type_of(weight)} with groups={groups} expects {channels} channels, "
            f"got {type_of(input)}"))  # fmt: skip
    if weight.shape[0] % groups:
        raise RuntimeError(at_user_line(f"{name}: {weight.shape[0]} filters for {groups} groups"))
    return x


def _sides(padding: Any, kernel: Sequence[int], dilation: Sequence[int]) -> tuple[Any, Any]:
    """Zeros before and after each spatial axis."""
    if padding == "same":
        totals = [gap * (size - 1) for size, gap in zip(kernel, dilation, strict=True)]
        return tuple(n // 2 for n in totals), tuple(n - n // 2 for n in totals)
    amounts = (0,) * len(kernel) if padding == "valid" else repeated(
        padding, len(kernel), "padding")  # fmt: skip
    return amounts, amounts


def _padded(x: Any, padding: Any, kernel: Sequence[int], dilation: Sequence[int]) -> Any:
    sides = [n for pair in zip(*_sides(padding, kernel, dilation), strict=True) for n in pair[::-1]]
    return pad(x, sides[::-1]) if any(sides) else x


def _convolve(
    name: str, rank: int, input: Any, weight: Any, bias: Any, stride: Any, padding: Any,
    dilation: Any, groups: int,
) -> Tensor:  # fmt: skip
    x = _check(name, input, weight, bias, groups, weight.shape[1] * groups, rank)
    kernel = tuple(int(n) for n in weight.shape[2:])
    steps, gaps = repeated(stride, rank, "stride"), repeated(dilation, rank, "dilation")
    amounts = () if isinstance(padding, str) else repeated(padding, rank, "padding")
    if min(steps) <= 0 or min(gaps) <= 0 or min(amounts, default=0) < 0:
        raise RuntimeError(at_user_line(
            f"{name}: needs positive stride and dilation and non-negative padding, got "
            f"stride={list(steps)}, dilation={list(gaps)}, padding={list(amounts)}"
        ))  # fmt: skip
    if padding == "same" and any(s != 1 for s in steps):
        raise RuntimeError(at_user_line(f"{name}: padding='same' is not supported with stride"))
    if isinstance(padding, str) and padding not in ("same", "valid"):
        raise RuntimeError(at_user_line(f"{name}: padding must be 'same', 'valid' or numbers"))
    low, high = _sides(padding, kernel, gaps)
    spans = [d * (k - 1) + 1 for d, k in zip(gaps, kernel, strict=True)]
    if any(n + a + b < span for n, a, b, span in zip(x.shape[2:], low, high, spans, strict=True)):
        raise ShapeError(at_user_line(
            f"{name}: kernel {list(kernel)} (dilation {list(gaps)}) is larger than the padded "
            f"input ({type_of(x)}, padding {list(low)})"))  # fmt: skip
    how = {"sizes": kernel, "steps": steps, "dilations": gaps, "low": low, "high": high}
    result: Any = apply(OPS["convolve"], (x, weight), {"groups": groups, **how})
    if bias is not None:
        result = result + bias.reshape(-1, *(1,) * rank)
    return result if input.ndim == rank + 2 else result.squeeze(0)


def conv1d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """Convolution of [N, C, L] with weight [out, C / groups, k]."""
    return _convolve("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """Convolution of [N, C, H, W] with weight [out, C / groups, kh, kw].

    padding  numbers, 'valid' (none) or 'same' (the input's size; stride 1).
    """
    return _convolve("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """Convolution of [N, C, D, H, W] with weight [out, C / groups, kd, kh, kw]."""
    return _convolve("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def _transpose(
    name: str, rank: int, input: Any, weight: Any, bias: Any, stride: Any, padding: Any,
    output_padding: Any, groups: int, dilation: Any,
) -> Tensor:  # fmt: skip
    x = _check(name, input, weight, bias, groups, weight.shape[0], rank)
    kernel = tuple(int(n) for n in weight.shape[2:])
    steps, gaps = repeated(stride, rank, "stride"), repeated(dilation, rank, "dilation")
    cuts = repeated(padding, rank, "padding")
    extra = repeated(output_padding, rank, "output_padding")
    if any(e >= max(s, d) for e, s, d in zip(extra, steps, gaps, strict=True)):
        raise RuntimeError(at_user_line(
            f"{name}: output padding must be smaller than either stride or dilation"))  # fmt: skip
    # whole steps of output padding would make room for one more window: they lessen the cut
    whole = [e // s * s for e, s in zip(extra, steps, strict=True)]
    high = tuple(max(c - e, 0) for c, e in zip(cuts, whole, strict=True))
    beyond = tuple(max(e - c, 0) for c, e in zip(cuts, whole, strict=True))
    shape = tuple((n - 1) * s + d * (k - 1) + 1 + e - 2 * c - b for n, s, d, k, e, c, b in zip(
        x.shape[2:], steps, gaps, kernel, extra, cuts, beyond, strict=True))  # fmt: skip
    how = {"sizes": kernel, "steps": steps, "dilations": gaps, "low": cuts, "high": high}
    result: Any = apply(
        OPS["convolve_input"], (x, weight), {"shape": shape, "groups": groups, **how}
    )
    if any(beyond):
        result = pad(result, [n for b in reversed(beyond) for n in (0, b)])
    if bias is not None:
        result = result + bias.reshape(-1, *(1,) * rank)
    return result if input.ndim == rank + 2 else result.squeeze(0)


def conv_transpose1d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """The transpose of `conv1d`; weight [C, out / groups, k]."""
    return _transpose("conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding,
                      groups, dilation)  # fmt: skip


def conv_transpose2d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """The transpose of `conv2d`; weight [C, out / groups, kh, kw]."""
    return _transpose("conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding,
                      groups, dilation)  # fmt: skip


def conv_transpose3d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """The transpose of `conv3d`; weight [C, out / groups, kd, kh, kw]."""
    return _transpose("conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding,
                      groups, dilation)  # fmt: skip


def unfold(
    input: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """The windows of [N, C, H, W] as columns: [N, C * kh * kw, places] (im2col)."""
    x = input if input.ndim == 4 else input.unsqueeze(0)
    kernel, gaps = repeated(kernel_size, 2, "kernel_size"), repeated(dilation, 2, "dilation")
    parts: Any = windows(_padded(x, padding, kernel, gaps), (2, 3), kernel,
                         repeated(stride, 2, "stride"), gaps)  # fmt: skip
    n, c, rows, columns = parts.shape[:4]
    result = parts.permute(0, 1, 4, 5, 2, 3).reshape(n, c * kernel[0] * kernel[1], rows * columns)
    return result if input.ndim == 4 else result.squeeze(0)


def fold(
    input: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0,
    stride: Any = 1,
) -> Tensor:  # fmt: skip
    """Columns of windows added up to an image (the transpose of `unfold`)."""
    x = input if input.ndim == 3 else input.unsqueeze(0)
    size, kernel = repeated(output_size, 2, "output_size"), repeated(kernel_size, 2, "kernel_size")
    gaps, border = repeated(dilation, 2, "dilation"), repeated(padding, 2, "padding")
    steps = repeated(stride, 2, "stride")
    full = tuple(n + 2 * p for n, p in zip(size, border, strict=True))
    places = [(n - d * (k - 1) - 1) // s + 1
              for n, d, k, s in zip(full, gaps, kernel, steps, strict=True)]  # fmt: skip
    channels = x.shape[1] // (kernel[0] * kernel[1])
    if x.shape[1] % (kernel[0] * kernel[1]) or x.shape[2] != places[0] * places[1]:
        raise ShapeError(at_user_line(
            f"fold: {type_of(input)} does not hold windows {list(kernel)} of an image "
            f"{list(size)} ({places[0] * places[1]} places)"))  # fmt: skip
    parts = x.reshape(x.shape[0], channels, *kernel, *places).permute(0, 1, 4, 5, 2, 3)
    result: Any = windows_add(parts, (x.shape[0], channels, *full), (2, 3), kernel, steps, gaps)
    if any(border):
        result = pad(result, (-border[1], -border[1], -border[0], -border[0]))
    return result if input.ndim == 3 else result.squeeze(0)
