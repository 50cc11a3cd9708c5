"""Convolution and its two gradients, three ops of one geometry that are each other's gradients.

`x` is [N, C, spatial...], `w` [O, C / groups, taps...], `g` (a gradient, or the input of a
transposed convolution) [N, O, windows...]. `sizes`, `steps` and `dilations` describe windows as in
`windows`; `low` and `high` are the zeros around x. Invariant: kernels see x already padded and
gradients of x as convolutions, so a runtime needs no more than `convolve` and `convolve_weight`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as every
from typing import Any

import numpy as np

from tracejit.dtypes import float32
from tracejit.errors import DTypeError, ShapeError
from tracejit.ir.node import Node
from tracejit.ir.op import OPS, Op
from tracejit.ir.sizes import SymInt, is_one, product
from tracejit.ir.types import TensorType
from tracejit.ops.contraction import matmul
from tracejit.ops.declare import NUMERIC, check_arity, check_domain, uniform
from tracejit.ops.movement import (
    concatenate,
    flip,
    pad,
    reshape,
    slice_,
    slice_scatter,
    transpose,
    window_view,
    windows,
    windows_add,
    zeros,
)

Shape = tuple[Any, ...]


# types and meanings ------------------------------------------------------------------------------


def _window_counts(op: str, x: Shape, how: dict[str, Any]) -> Shape:
    """How many windows lie along each spatial axis of size `x` before padding."""
    counts = []
    for n, k, s, d, a, b in zip(x, *_geometry(how), strict=True):
        span, whole = d * (k - 1) + 1, n + a + b
        if type(whole) is not SymInt and span > whole:
            raise ShapeError(f"{op}: windows of {span} elements do not fit {whole}")
        counts.append((whole - span) // s + 1)
    return tuple(counts)


def _geometry(how: dict[str, Any]) -> list[tuple[int, ...]]:
    return [how[key] for key in ("sizes", "steps", "dilations", "low", "high")]


def _check(op: str, types: Sequence[TensorType], sizes: Shape) -> tuple[TensorType, TensorType]:
    check_arity(op, types, 2)
    check_domain(op, types, NUMERIC)
    a, b = types
    if a.dtype is not b.dtype:
        raise DTypeError(f"{op}: dtypes differ: {a}, {b}")
    if a.ndim != b.ndim or a.ndim != len(sizes) + 2:
        raise ShapeError(f"{op}: {a} and {b} do not fit windows of {len(sizes)} dimensions")
    return a, b


def _infer(types: Sequence[TensorType], *, groups: int, **how: Any) -> TensorType:
    x, w = _check("convolve", types, how["sizes"])
    if w.shape[1] * groups != x.shape[1] or w.shape[2:] != how["sizes"]:
        raise ShapeError(f"convolve: filters {w} in {groups} groups do not fit {x}")
    counts = _window_counts("convolve", x.shape[2:], how)
    return x.with_shape((x.shape[0], w.shape[0], *counts))


def _infer_input(
    types: Sequence[TensorType], *, shape: Shape, groups: int, **how: Any
) -> TensorType:
    g, w = _check("convolve_input", types, how["sizes"])
    counts = _window_counts("convolve_input", shape, how)
    if g.shape[1:] != (w.shape[0], *counts) or w.shape[2:] != how["sizes"]:
        raise ShapeError(f"convolve_input: {g} and filters {w} do not fit spatial sizes {shape}")
    return g.with_shape((g.shape[0], w.shape[1] * groups, *shape))


def _infer_weight(
    types: Sequence[TensorType], *, channels: Any, groups: int, **how: Any
) -> TensorType:
    x, g = _check("convolve_weight", types, how["sizes"])
    counts = _window_counts("convolve_weight", x.shape[2:], how)
    if g.shape[0] != x.shape[0] or g.shape[2:] != counts or channels * groups != x.shape[1]:
        raise ShapeError(f"convolve_weight: {x} in {groups} groups does not fit {g}")
    return x.with_shape((g.shape[1], channels, *how["sizes"]))


def _wide(x: np.ndarray) -> np.ndarray:
    """Halves are summed in float32."""
    return x.astype(np.float32) if x.dtype == np.float16 else x


def _grouped_windows(x: np.ndarray, groups: int, how: dict[str, Any]) -> np.ndarray:
    """[groups, N, windows..., C / groups, taps...] of the padded x."""
    sizes, steps, dilations, low, high = _geometry(how)
    rank = len(sizes)
    padded = np.pad(_wide(x), ((0, 0), (0, 0), *zip(low, high, strict=True)))
    seen = window_view(padded, tuple(range(2, 2 + rank)), sizes, steps, dilations)
    parts = seen.reshape(
        x.shape[0], groups, -1 if x.size else x.shape[1] // groups, *seen.shape[2:]
    )
    return np.moveaxis(np.moveaxis(parts, 1, 0), 2, 2 + rank)


def _numpy(x: np.ndarray, w: np.ndarray, groups: int, **how: Any) -> np.ndarray:
    rank = len(how["sizes"])
    parts = _grouped_windows(x, groups, how)
    filters = _wide(w).reshape(groups, w.shape[0] // groups, *w.shape[1:])
    axes = list(range(1 + rank, 2 + 2 * rank)), list(range(1, 2 + rank))
    made = [np.tensordot(p, f, axes) for p, f in zip(parts, filters, strict=True)]
    whole = np.moveaxis(np.concatenate(made, -1), -1, 1)
    return np.ascontiguousarray(whole).astype(x.dtype, copy=False)


def _numpy_input(g: np.ndarray, w: np.ndarray, shape: Shape, groups: int, **how: Any) -> np.ndarray:
    sizes, steps, dilations, low, high = _geometry(how)
    rank, per_group = len(sizes), w.shape[0] // groups
    made = []
    for i in range(groups):
        mine = slice(i * per_group, (i + 1) * per_group)
        made.append(np.tensordot(_wide(g[:, mine]), _wide(w[mine]), ([1], [0])))
    parts = np.moveaxis(np.concatenate(made, 1 + rank), 1 + rank, 1)
    whole = tuple(n + a + b for n, a, b in zip(shape, low, high, strict=True))
    total = windows_add.numpy(parts, (*parts.shape[:2], *whole), tuple(range(2, 2 + rank)), sizes,
                              steps, dilations)  # fmt: skip
    inside = tuple(slice(a, a + n) for a, n in zip(low, shape, strict=True))
    return np.ascontiguousarray(total[(..., *inside)]).astype(g.dtype, copy=False)


def _numpy_weight(
    x: np.ndarray, g: np.ndarray, channels: int, groups: int, **how: Any
) -> np.ndarray:
    rank, per_group = len(how["sizes"]), g.shape[1] // groups
    axes = [0, *range(2, 2 + rank)], list(range(1 + rank))
    made = []
    for i, part in enumerate(_grouped_windows(x, groups, how)):
        mine = _wide(g[:, i * per_group : (i + 1) * per_group])
        made.append(np.tensordot(mine, part, axes))
    return np.ascontiguousarray(np.concatenate(made)).astype(x.dtype, copy=False)


# what the compiler makes of them -----------------------------------------------------------------


def _is_native(x: Node) -> bool:
    """Whether the runtime of the CPU has kernels for the values."""
    return x.dtype.short in ("f32", "f64")


def _in_float32(op: Op, a: Node, b: Node, params: dict[str, Any]) -> Node:
    wide = (OPS["cast"](x, dtype=float32) for x in (a, b))
    return OPS["cast"](op(*wide, **params), dtype=a.dtype)


def _padded(x: Node, low: Shape, high: Shape) -> Node:
    """x with zeros around it; negative numbers cut."""
    if any(n < 0 for n in (*low, *high)):
        starts = (0, 0, *(max(-n, 0) for n in low))
        ends = (0, 0, *(max(-n, 0) for n in high))
        stops = tuple(n - e for n, e in zip(x.shape, ends, strict=True))
        x = slice_(x, starts=starts, stops=stops, steps=(1,) * x.ndim)
    before, after = (tuple(max(n, 0) for n in side) for side in (low, high))
    if not any((*before, *after)):
        return x
    value = 0.0 if x.dtype.kind == "f" else 0
    return pad(x, low=(0, 0, *before), high=(0, 0, *after), value=value)


def _unpadded(how: dict[str, Any]) -> dict[str, Any]:
    none = (0,) * len(how["sizes"])
    return {**how, "low": none, "high": none}


def _columns(x: Node, groups: int, how: dict[str, Any]) -> Node:
    """The windows of x as matrices [groups, C / groups * taps, N * windows]."""
    sizes, steps, dilations, low, high = _geometry(how)
    rank = len(sizes)
    parts = windows(_padded(x, low, high), axes=tuple(range(2, 2 + rank)), sizes=sizes,
                    steps=steps, dilations=dilations)  # fmt: skip
    order = (1, *range(2 + rank, 2 + 2 * rank), 0, *range(2, 2 + rank))
    taps = x.shape[1] * product(sizes) // groups
    places = product((parts.shape[0], *parts.shape[2 : 2 + rank]))
    return reshape(transpose(parts, perm=order), shape=(groups, taps, places))


def _matrices(w: Node, groups: int) -> Node:
    """Filters as matrices [groups, O / groups, C / groups * taps]."""
    return reshape(w, shape=(groups, w.shape[0] // groups, product(w.shape[1:])))


def _batch_last(g: Node, groups: int) -> Node:
    """g as matrices [groups, O / groups, N * windows]."""
    turned = transpose(g, perm=(1, 0, *range(2, g.ndim)))
    return reshape(turned, shape=(groups, g.shape[1] // groups, product(turned.shape[1:])))


def _batch_first(parts: Node, batch: Any, spatial: Shape) -> Node:
    """[groups, channels, N * spatial] as [N, groups * channels, spatial...]."""
    channels = parts.shape[0] * parts.shape[1]
    whole = reshape(parts, shape=(channels, batch, *spatial))
    return transpose(whole, perm=(1, 0, *range(2, whole.ndim)))


def _decompose(x: Node, w: Node, *, groups: int, **how: Any) -> Node | None:
    if x.dtype.short == "f16":
        return _in_float32(convolve, x, w, {"groups": groups, **how})
    if not _is_native(x) or not any((*how["low"], *how["high"])):
        return None
    return convolve(_padded(x, how["low"], how["high"]), w, groups=groups, **_unpadded(how))


def _by_product(x: Node, w: Node, *, groups: int, **how: Any) -> Node:
    """By one product of matrices; a sum, which fuses, where filters meet single channels."""
    if x.dtype.short == "f16":
        return _in_float32(convolve, x, w, {"groups": groups, **how})
    columns = _columns(x, groups, how)
    if groups == w.shape[0] and groups > 1:
        spread = reshape(w, shape=(groups, columns.shape[1], 1))
        parts = OPS["mul"](OPS["broadcast_to"](spread, shape=columns.shape), columns)
        sums = OPS["reduce_sum"](parts, axes=(1,))
        result = reshape(sums, shape=(groups, 1, columns.shape[2]))
    else:
        result = matmul(_matrices(w, groups), columns)
    return _batch_first(result, x.shape[0], _window_counts("convolve", x.shape[2:], how))


def _decompose_weight(x: Node, g: Node, *, channels: Any, groups: int, **how: Any) -> Node | None:
    if x.dtype.short == "f16":
        return _in_float32(convolve_weight, x, g, {"channels": channels, "groups": groups, **how})
    if not _is_native(x) or not any((*how["low"], *how["high"])):
        return None
    padded = _padded(x, how["low"], how["high"])
    return convolve_weight(padded, g, channels=channels, groups=groups, **_unpadded(how))


def _weight_by_product(x: Node, g: Node, *, channels: Any, groups: int, **how: Any) -> Node:
    if x.dtype.short == "f16":
        return _in_float32(convolve_weight, x, g, {"channels": channels, "groups": groups, **how})
    columns = transpose(_columns(x, groups, how), perm=(0, 2, 1))
    result = matmul(_batch_last(g, groups), columns)
    return reshape(result, shape=(g.shape[1], channels, *how["sizes"]))


def _decompose_input(g: Node, w: Node, *, shape: Shape, groups: int, **how: Any) -> Node:
    if g.dtype.short == "f16":
        return _in_float32(convolve_input, g, w, {"shape": shape, "groups": groups, **how})
    far = any(s > 1 and d > 1 for s, d in zip(how["steps"], how["dilations"], strict=True))
    if not _is_native(g) or far:
        return _input_of_products(g, w, shape, groups, how)
    reach = [d * (k - 1) for k, d in zip(how["sizes"], how["dilations"], strict=True)]
    if any(s > 1 for s in how["steps"]):
        inside = all(r >= max(a, b) for r, a, b in zip(reach, how["low"], how["high"], strict=True))
        fixed = not any(type(n) is SymInt for n in g.shape[2:])  # gaps ask for more than phases
        if is_one(w.shape[1]) and groups > 1 and inside and fixed:
            return _input_of_gaps(g, w, shape, groups, how)
        return _input_of_phases(g, w, shape, groups, how)
    low, high = (tuple(r - p for r, p in zip(reach, how[side], strict=True))
                 for side in ("low", "high"))  # fmt: skip
    return convolve(_padded(g, low, high), _turned(w, groups), groups=groups, **_unpadded(how))


def _turned(w: Node, groups: int) -> Node:
    """The filters of the way back: taps reversed, channels in and out exchanged."""
    out, channels = w.shape[0] // groups, w.shape[1]
    sizes = w.shape[2:]
    parts = reshape(w, shape=(groups, out, channels, *sizes))
    turned = transpose(parts, perm=(0, 2, 1, *range(3, parts.ndim)))
    back = reshape(turned, shape=(groups * channels, out, *sizes))
    return flip(back, axes=tuple(range(2, back.ndim))) if any(n != 1 for n in sizes) else back


def _input_of_products(g: Node, w: Node, shape: Shape, groups: int, how: dict[str, Any]) -> Node:
    """Every window's share by a product, then the sums over windows."""
    sizes, steps, dilations, low, high = _geometry(how)
    rank, batch, spatial = len(sizes), g.shape[0], g.shape[2:]
    filters = transpose(_matrices(w, groups), perm=(0, 2, 1))
    parts = matmul(filters, _batch_last(g, groups))
    channels = w.shape[1] * groups
    parts = reshape(parts, shape=(channels, *sizes, batch, *spatial))
    order = (1 + rank, 0, *range(2 + rank, 2 + 2 * rank), *range(1, 1 + rank))
    whole = tuple(n + a + b for n, a, b in zip(shape, low, high, strict=True))
    total = windows_add(transpose(parts, perm=order), shape=(batch, channels, *whole),
                        axes=tuple(range(2, 2 + rank)), sizes=sizes, steps=steps,
                        dilations=dilations)  # fmt: skip
    return _inside(total, low, shape)


def _inside(x: Node, low: Shape, shape: Shape) -> Node:
    stops = (*x.shape[:2], *(a + n for a, n in zip(low, shape, strict=True)))
    return slice_(x, starts=(0, 0, *low), stops=stops, steps=(1,) * x.ndim)


def _input_of_gaps(g: Node, w: Node, shape: Shape, groups: int, how: dict[str, Any]) -> Node:
    """A convolution of step 1 over g with zeros between its elements: where filters meet single
    channels, products with zeros cost less than putting phases together.
    """
    sizes, steps, dilations, low, _ = _geometry(how)
    reach = tuple(d * (k - 1) for k, d in zip(sizes, dilations, strict=True))
    starts = tuple(r - a for r, a in zip(reach, low, strict=True))
    stops = tuple(a + (n - 1) * s + 1
                  for a, n, s in zip(starts, g.shape[2:], steps, strict=True))  # fmt: skip
    whole = tuple(n + r for n, r in zip(shape, reach, strict=True))
    spread = slice_scatter(
        zeros(g.type.with_shape((*g.shape[:2], *whole))), g, starts=(0, 0, *starts),
        stops=(*g.shape[:2], *stops), steps=(1, 1, *steps),
    )  # fmt: skip
    once = {**_unpadded(how), "steps": (1,) * len(sizes)}
    return convolve(spread, _turned(w, groups), groups=groups, **once)


def _input_of_phases(g: Node, w: Node, shape: Shape, groups: int, how: dict[str, Any]) -> Node:
    """Elements of x that lie at the same place between two windows meet the same taps: each such
    phase is a convolution of step 1, and x is made of the phases in turn.
    """
    sizes, steps, dilations, low, _ = _geometry(how)
    rank = len(sizes)
    depth = tuple(-(-k // s) if s > 1 else d * (k - 1) + 1
                  for k, s, d in zip(sizes, steps, dilations, strict=True))  # fmt: skip
    lengths = tuple(n + t - 1 for n, t in zip(g.shape[2:], depth, strict=True))
    around = tuple(n - 1 for n in depth)
    wide = _padded(g, around, around)
    phases = [_phase(wide, w, at, depth, groups, how) for at in every(*map(range, steps))]
    stacked = concatenate(*(reshape(p, shape=(1, *p.shape)) for p in phases), axis=0)
    parts = reshape(stacked, shape=(*steps, *phases[0].shape))
    order = [rank, rank + 1]
    for axis in range(rank):
        order += [rank + 2 + axis, axis]
    turned = transpose(parts, perm=tuple(order))
    whole = tuple(n * s for n, s in zip(lengths, steps, strict=True))
    total = reshape(turned, shape=(*phases[0].shape[:2], *whole))
    short = [a + n - m for a, n, m in zip(low, shape, whole, strict=True)]
    more = tuple(s - 1 if type(n) is SymInt else max(n, 0)
                 for n, s in zip(short, steps, strict=True))  # fmt: skip
    return _inside(_padded(total, (0,) * rank, more), low, shape)


def _phase(
    g: Node, w: Node, phase: Shape, depth: Shape, groups: int, how: dict[str, Any]
) -> Node:  # fmt: skip
    """One phase of the gradient of the padded x, as long as the longest; `g` is padded for that."""
    sizes, steps, dilations = _geometry(how)[:3]
    taps = tuple(len(range(a, k, s)) for a, k, s in zip(phase, sizes, steps, strict=True))
    lengths = tuple(n - t + 1 for n, t in zip(g.shape[2:], depth, strict=True))
    if 0 in taps:
        like = g.type.with_shape((g.shape[0], w.shape[1] * groups, *lengths))
        return OPS["full"](value=0.0, type=like)
    stops = (*w.shape[:2], *sizes)
    own = slice_(w, starts=(0, 0, *phase), stops=stops, steps=(1, 1, *steps))
    reach = tuple(d * (t - 1) for t, d in zip(taps, dilations, strict=True))
    before = tuple(n - 1 - r for n, r in zip(depth, reach, strict=True))
    none = (0,) * len(taps)
    return convolve(
        _inside(g, before, tuple(n + r for n, r in zip(lengths, reach, strict=True))),
        _turned(own, groups), sizes=taps, steps=(1,) * len(taps), dilations=dilations, low=none,
        high=none, groups=groups,
    )  # fmt: skip


# the ops -----------------------------------------------------------------------------------------

convolve: Op = Op(
    "convolve", "contraction", _infer, _numpy,
    lambda g, out, x, w, *, groups, **how: (
        convolve_input(g, w, shape=x.shape[2:], groups=groups, **how),
        convolve_weight(x, g, channels=w.shape[1], groups=groups, **how),
    ),
    "Each window of x, C / groups channels deep, times each filter of its group.",
    names=("x", "w"), sample=uniform(-2, 2), decompose=_decompose,
    on_devices=_by_product, cost=100,
)  # fmt: skip

convolve_input: Op = Op(
    "convolve_input", "contraction", _infer_input, _numpy_input,
    lambda h, out, g, w, *, shape, groups, **how: (
        convolve(h, w, groups=groups, **how),
        convolve_weight(h, g, channels=w.shape[1], groups=groups, **how),
    ),
    "The gradient of `convolve` by x, whose spatial sizes are `shape`: a transposed convolution.",
    names=("g", "w"), sample=uniform(-2, 2), decompose=_decompose_input,
    on_devices=_decompose_input, cost=100,
)  # fmt: skip

convolve_weight: Op = Op(
    "convolve_weight", "contraction", _infer_weight, _numpy_weight,
    lambda h, out, x, g, *, channels, groups, **how: (
        convolve_input(g, h, shape=x.shape[2:], groups=groups, **how),
        convolve(x, h, groups=groups, **how),
    ),
    "The gradient of `convolve` by its filters, which have `channels` channels each.",
    names=("x", "g"), sample=uniform(-2, 2), decompose=_decompose_weight,
    on_devices=_weight_by_product, cost=100,
)  # fmt: skip
