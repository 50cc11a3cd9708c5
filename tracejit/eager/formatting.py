"""How a tensor prints: ``tensor([1., 2.])``, as in torch.

Invariant: printing reads values and records nothing; in a capture the values steer the trace.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracejit import dtypes
from tracejit.eager.modes import state
from tracejit.tensor import Tensor


@dataclass
class PrintOptions:
    """What `set_printoptions` sets."""

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


OPTIONS = PrintOptions()
_PROFILES = {
    "default": PrintOptions(),
    "short": PrintOptions(precision=2, edgeitems=2),
    "full": PrintOptions(threshold=math.inf),
}


def set_printoptions(
    precision: int | None = None, threshold: float | None = None, edgeitems: int | None = None,
    linewidth: int | None = None, profile: str | None = None, sci_mode: bool | None = None,
) -> None:  # fmt: skip
    """How tensors print.

    precision  digits after the point.        threshold  elements above which a tensor is cut.
    edgeitems  elements kept at each end.     linewidth  columns of a line.
    profile    default, short or full.        sci_mode   scientific notation on or off (None: as
                                                         the values ask for it).
    """
    if profile is not None:
        OPTIONS.__dict__.update(_PROFILES[profile].__dict__)
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems,
             "linewidth": linewidth}  # fmt: skip
    OPTIONS.__dict__.update({k: v for k, v in given.items() if v is not None})
    OPTIONS.sci_mode = sci_mode


def history_of(tensor: Tensor) -> str:
    """What the text of a tensor says about gradients: nothing, that it is a leaf, or its op."""
    if not tensor._requires_grad:
        return ""
    return "requires_grad=True" if tensor.is_leaf else f"grad_fn={tensor.grad_fn!r}"


def format_tensor(tensor: Tensor, history: str | None = None) -> str:
    """The tensor as text, with dtype, device and grad_fn where they are not the usual.

    history  what to say about gradients instead of what the tensor itself has.
    """
    if state.capture is not None:
        state.capture.leave_text(tensor)
        options = tuple(OPTIONS.__dict__.values())
        state.capture.conditions.append((lambda args: tuple(OPTIONS.__dict__.values()), options))
    array = tensor._array if isinstance(tensor._array, np.ndarray) else tensor.cpu()._array
    prefix = "tensor("
    body = _body(array, len(prefix)) if array.size else "[]"
    text = prefix + body
    width = len(text) - text.rfind("\n") + 1
    if history is None:
        history = history_of(tensor)
    for extra in (*_extras(tensor, array), *([history] if history else [])):
        if width + len(extra) + 2 > OPTIONS.linewidth:
            text += ",\n" + " " * len(prefix) + extra
            width = len(prefix) + len(extra)
        else:
            text += ", " + extra
            width += len(extra) + 2
    start = "Parameter containing:\n" if tensor._is_parameter else ""
    return f"{start}{text})"


def _extras(tensor: Tensor, array: np.ndarray) -> list[str]:
    extras = []
    kind, default = tensor.dtype, dtypes.get_default_dtype()
    if tensor._device.type != "cpu":
        extras.append(f"device='{tensor._device}'")
    if array.size == 0:
        if array.ndim != 1:
            extras.append(f"size={tuple(array.shape)}")
        if kind is not default:
            extras.append(f"dtype={kind!r}")
    elif kind not in (default, dtypes.int64, dtypes.bool_):
        extras.append(f"dtype={kind!r}")
    return extras


# --- elements --------------------------------------------------------------------------------


class _Formatter:
    """Gives every element of an array the same width; chooses the notation for all."""

    def __init__(self, values: np.ndarray):
        self.floating = values.dtype.kind == "f"
        self.scientific = self.whole = False
        flat = values.reshape(-1)
        if not self.floating:
            self.width = max((len(str(v)) for v in flat.tolist()), default=1)
            return
        wide = flat.astype(np.float64)
        finite = wide[np.isfinite(wide) & (wide != 0)]
        self.whole = bool((finite == np.ceil(finite)).all())
        if finite.size:
            sizes = np.abs(finite)
            low, high = sizes.min(), sizes.max()
            self.scientific = high / low > 1000 or high > 1e8 or (not self.whole and low < 1e-4)
        if OPTIONS.sci_mode is not None:
            self.scientific = OPTIONS.sci_mode
        # as in torch, zeros, NaN and infinities do not count
        self.width = max((len(self.plain(v)) for v in finite.tolist()), default=1)

    def plain(self, value: Any) -> str:
        """One element, not padded."""
        if not self.floating:
            return str(value)
        if self.scientific:
            return f"{value:.{OPTIONS.precision}e}"
        if self.whole:
            return f"{value:.0f}" + ("." if math.isfinite(value) else "")
        return f"{value:.{OPTIONS.precision}f}"

    def __call__(self, value: Any) -> str:
        return self.plain(value).rjust(self.width)


def _visible(array: np.ndarray) -> np.ndarray:
    """The elements that a cut print shows."""
    edge = OPTIONS.edgeitems
    for axis, n in enumerate(array.shape):
        if n > 2 * edge:
            ends = [*range(edge), *range(n - edge, n)]
            array = np.take(array, ends, axis)
    return array


def _body(array: np.ndarray, indent: int) -> str:
    cut = array.size > OPTIONS.threshold
    return _block(array, indent, cut, _Formatter(_visible(array) if cut else array))


def _block(array: np.ndarray, indent: int, cut: bool, formatter: _Formatter) -> str:
    if array.ndim == 0:
        return formatter(array.item())
    if array.ndim == 1:
        return _line(array, indent, cut, formatter)
    edge = OPTIONS.edgeitems
    if cut and len(array) > 2 * edge:
        parts = [_block(a, indent + 1, cut, formatter) for a in array[:edge]]
        parts.append("...")
        parts += [_block(a, indent + 1, cut, formatter) for a in array[len(array) - edge :]]
    else:
        parts = [_block(a, indent + 1, cut, formatter) for a in array]
    return "[" + ("," + "\n" * (array.ndim - 1) + " " * (indent + 1)).join(parts) + "]"


def _line(array: np.ndarray, indent: int, cut: bool, formatter: _Formatter) -> str:
    edge = OPTIONS.edgeitems
    if cut and array.size > 2 * edge:
        items = [formatter(v) for v in array[:edge].tolist()]
        items.append(" ...")
        items += [formatter(v) for v in array[array.size - edge :].tolist()]
    else:
        items = [formatter(v) for v in array.tolist()]
    count = max(1, (OPTIONS.linewidth - indent) // (formatter.width + 2))
    lines = [", ".join(items[i : i + count]) for i in range(0, len(items), count)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def html_tensor(tensor: Tensor) -> str:
    """A table for notebooks: type line and the printed contents."""
    import html  # notebooks have it, others need not wait for it

    kind = f"{tensor.dtype.short}[{','.join(map(str, tensor._array.shape))}]"
    text = html.escape(format_tensor(tensor))
    return (
        f"<div><b>Tensor</b> <code>{kind}</code> on {html.escape(str(tensor._device))}"
        f"<pre>{text}</pre></div>"
    )
