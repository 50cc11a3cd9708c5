"""How a tensor prints: ``tensor([1., 2.])``, as in torch.

Invariant: printing reads values, which a capture notes as values that leave its sight.
"""

from __future__ import annotations

import html
from typing import Any

import numpy as np

from tracejit import dtypes
from tracejit.eager.modes import state
from tracejit.errors import user_location
from tracejit.tensor import Tensor

PRECISION = 4
THRESHOLD = 1000
EDGE_ITEMS = 3
LINE_WIDTH = 80


def format_tensor(tensor: Tensor) -> str:
    """The tensor as text, with dtype, device and grad_fn where they are not the usual."""
    if state.capture is not None:  # a replay would show the numbers of this run
        state.capture.refuse("a tensor is turned into text", user_location())
    array = tensor._array if isinstance(tensor._array, np.ndarray) else tensor._array.get()
    prefix = "Parameter containing:\n" if tensor._is_parameter else ""
    body = _body(array)
    extras = _extras(tensor, array)
    return f"{prefix}tensor({body}{''.join(', ' + e for e in extras)})"


def _extras(tensor: Tensor, array: np.ndarray) -> list[str]:
    extras = []
    if array.size == 0 and array.shape != (0,):
        extras.append(f"size={tuple(array.shape)}")
    kind = tensor.dtype
    usual = (dtypes.get_default_dtype(), dtypes.int64, dtypes.bool_)
    if kind not in usual or (array.size == 0 and kind is not usual[0]):
        extras.append(f"dtype={kind!r}")
    if tensor._device.type != "cpu":
        extras.append(f"device='{tensor._device}'")
    if tensor._requires_grad:
        extras.append("requires_grad=True" if tensor.is_leaf else f"grad_fn={tensor.grad_fn!r}")  # type: ignore[attr-defined]
    return extras


def _body(array: np.ndarray) -> str:
    if array.size == 0:
        return "[]"
    formatter = _formatter(array)
    if array.ndim == 0:
        return formatter(array[()]).strip()
    return np.array2string(
        array, separator=", ", prefix="tensor(", formatter={"all": formatter},
        threshold=THRESHOLD, edgeitems=EDGE_ITEMS, max_line_width=LINE_WIDTH,
    )  # fmt: skip


def _formatter(array: np.ndarray) -> Any:
    if array.dtype.kind == "b":
        width = 5 if array.ndim and not array.all() else 4
        return lambda v: str(bool(v)).rjust(width if array.ndim else 0)
    if array.dtype.kind != "f":
        width = max(len(str(array.min())), len(str(array.max())))
        return lambda v: str(int(v)).rjust(width)
    return _float_formatter(array.astype(np.float64))


def _float_formatter(values: np.ndarray) -> Any:
    finite = values[np.isfinite(values)]
    nonzero = np.abs(finite[finite != 0])
    whole = bool((finite == np.round(finite)).all())
    high = nonzero.max() if nonzero.size else 0.0
    low = nonzero.min() if nonzero.size else 1.0
    if whole:
        spec = f".{PRECISION}e" if high > 1e8 else ".0f"
    else:
        scientific = high / low > 1000 or high > 1e8 or low < 1e-4
        spec = f".{PRECISION}e" if scientific else f".{PRECISION}f"

    def text(v: Any) -> str:
        if not np.isfinite(v):
            return str(float(v))
        shown = format(float(v), spec)
        return shown + "." if spec == ".0f" else shown

    width = max((len(text(v)) for v in _visible(values)), default=0)
    return lambda v: text(v).rjust(width)


def _visible(values: np.ndarray) -> Any:
    flat = values.reshape(-1)
    return flat if flat.size <= THRESHOLD else np.concatenate([flat[:100], flat[-100:]])


def html_tensor(tensor: Tensor) -> str:
    """A table for notebooks: type line and the printed contents."""
    kind = f"{tensor.dtype.short}[{', '.join(map(str, tensor._array.shape))}]"
    text = html.escape(format_tensor(tensor))
    return (
        f"<div><b>Tensor</b> <code>{kind}</code> on {html.escape(str(tensor._device))}"
        f"<pre>{text}</pre></div>"
    )
