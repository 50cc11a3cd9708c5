"""Statistics: variance, quantiles, covariance, histograms, and integrals and differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tracejit import dtypes
from tracejit.eager.factories import tensor
from tracejit.eager.modes import state
from tracejit.eager.pointwise import check_tensors, where_of
from tracejit.eager.ranges import linspace
from tracejit.eager.reduce import count_of, reduce, safe_root, sum
from tracejit.eager.register import FUNCTIONS, public
from tracejit.eager.results import named
from tracejit.eager.scans import cumsum, searchsorted, sort
from tracejit.eager.shape import axes_of, axis_of, expand, reshape, sizes_of, slice_axis
from tracejit.errors import DTypeError, at_user_line
from tracejit.tensor import Tensor

# --- variance --------------------------------------------------------------------------------


def _variance(
    name: str, x: Tensor, dim: Any, unbiased: Any, keepdim: bool, correction: Any
) -> tuple[Tensor, Tensor]:
    """(variance, mean)."""
    check_tensors(name, x)
    if isinstance(dim, bool):  # var(x, unbiased)
        dim, unbiased = None, dim
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    if x.dtype.kind != "f":
        raise DTypeError(at_user_line(f"{name}: needs a floating dtype, got {x.dtype.name}"))
    axes = axes_of(dim, x.ndim, name)
    wide = x.float() if x.dtype is dtypes.float16 else x
    count = count_of(wide, axes)
    middle = reduce("reduce_sum", wide, axes, True) / count
    total = reduce("reduce_sum", (wide - middle).square(), axes, keepdim)
    rest = count - correction if correction else count
    rest = rest if rest >= 0 else 0
    shape = sizes_of(total)
    return (total / rest).to(x.dtype), reshape(middle, shape).to(x.dtype)


def _root(spread: Tensor) -> Tensor:
    recorded = spread._requires_grad or state.capture is not None
    return safe_root(spread, 0.5) if recorded else spread.sqrt()


@public(out=True)
def var(
    input: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
    correction: Any = None,
) -> Tensor:  # fmt: skip
    """The variance: squared distances from the mean over ``max(0, n - correction)``."""
    return _variance("var", input, dim, unbiased, keepdim, correction)[0]


@public(out=True)
def std(
    input: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
    correction: Any = None,
) -> Tensor:  # fmt: skip
    """The square root of `var`."""
    return _root(_variance("std", input, dim, unbiased, keepdim, correction)[0])


@public(method=False)
def var_mean(
    input: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
    correction: Any = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(`var`, `mean`)."""
    return _variance("var_mean", input, dim, unbiased, keepdim, correction)


@public(method=False)
def std_mean(
    input: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
    correction: Any = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(`std`, `mean`)."""
    spread, middle = _variance("std_mean", input, dim, unbiased, keepdim, correction)
    return _root(spread), middle


@public()
def cov(
    input: Tensor, *, correction: int = 1, fweights: Tensor | None = None,
    aweights: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Covariances of variables (rows) over observations (columns)."""
    if input.ndim > 2:
        raise RuntimeError(at_user_line("cov: expects at most 2 dimensions"))
    if input.dtype.kind == "b":
        raise DTypeError(at_user_line("cov: not defined for bool"))
    x = reshape(input, 1, -1) if input.ndim < 2 else input
    weights = _weights(x, fweights, aweights)
    if weights is None:
        total: Any = sizes_of(x)[1]
        average = x.sum(1) / total
        rest: Any = total - correction
    else:
        total = weights.sum()
        average = (x * weights).sum(1) / total
        heavy = aweights is not None and correction != 0
        rest = total - (correction * (weights * aweights).sum() / total if heavy else correction)
    if isinstance(rest, Tensor):
        rest = rest.clamp(min=0)
    else:
        rest = max(rest, 0)
    centred = x - average.unsqueeze(1)
    right = centred if weights is None else centred * weights
    products = FUNCTIONS["mm"](centred, right.t().to(centred.dtype)) / rest
    return products.squeeze()


def _weights(x: Tensor, counts: Tensor | None, importance: Tensor | None) -> Tensor | None:
    for name, w in (("fweights", counts), ("aweights", importance)):
        if w is None:
            continue
        if w.ndim > 1 or w.numel() != sizes_of(x)[1]:
            raise RuntimeError(at_user_line(f"cov: {name} must hold one weight per observation"))
        if (w.dtype.kind == "f") is not (name == "aweights"):
            raise DTypeError(at_user_line(f"cov: {name} has dtype {w.dtype.name}"))
        if bool((w < 0).any()):
            raise RuntimeError(at_user_line(f"cov: {name} must not be negative"))
    if counts is None or importance is None:
        return importance if counts is None else counts
    return counts * importance


@public()
def corrcoef(input: Tensor) -> Tensor:
    """Pearson correlations of variables (rows)."""
    if input.ndim > 2:
        raise RuntimeError(at_user_line("corrcoef: expects at most 2 dimensions"))
    c = cov(input)
    if c.ndim == 0:
        return c / c
    d = c.diagonal().sqrt()
    return (c / d.unsqueeze(1) / d.unsqueeze(0)).clamp(-1, 1)


# --- quantiles -------------------------------------------------------------------------------

_INTERPOLATIONS = ("linear", "lower", "higher", "nearest", "midpoint")


def _quantile(
    name: str, input: Tensor, q: Any, dim: int | None, keepdim: bool, interpolation: str
) -> Tensor:
    check_tensors(name, input)
    if interpolation not in _INTERPOLATIONS:
        raise RuntimeError(at_user_line(f"{name}: unknown interpolation {interpolation!r}"))
    if input.dtype not in (dtypes.float32, dtypes.float64):
        raise DTypeError(at_user_line(f"{name}: needs float or double, got {input.dtype.name}"))
    if input.numel() == 0:
        raise RuntimeError(at_user_line(f"{name}: the input must not be empty"))
    levels = q if isinstance(q, Tensor) else tensor(q, dtype=input.dtype)
    if levels.ndim > 1:
        raise RuntimeError(at_user_line(f"{name}: q must be a number or 1-d"))
    if levels.dtype is not input.dtype:
        raise DTypeError(at_user_line(f"{name}: q must have the dtype of the input"))
    if levels.numel() and bool(((levels < 0) | (levels > 1)).any()):
        raise RuntimeError(at_user_line(f"{name}: q must be in [0, 1]"))
    at = 0 if dim is None else axis_of(dim, input.ndim, name)
    x = reshape(input, -1) if dim is None or input.ndim == 0 else input
    result = _at_levels(x.movedim(at, -1), reshape(levels, -1), interpolation, name[:3] == "nan")
    result = result.movedim(-1, 0)  # the levels first
    if keepdim:
        shape = [1] * input.ndim if dim is None else list(sizes_of(input))
        if dim is not None and shape:
            shape[at] = 1
        result = reshape(result, sizes_of(result)[0], *shape)
    return result if levels.ndim else result.squeeze(0)


def _at_levels(x: Tensor, levels: Tensor, interpolation: str, skip_nan: bool) -> Tensor:
    """Quantiles over the last dimension, which the levels replace."""
    values = sort(x, -1).values
    numbers = sum(~x.isnan(), -1, True)
    last = sizes_of(x)[-1] - 1
    if skip_nan:
        ranks = levels * (numbers - 1).clamp(min=0)
    else:  # a NaN is the last element, and the result
        ranks = where_of(numbers <= last, last, levels * last, levels.dtype)
    if interpolation in ("lower", "higher", "nearest"):
        how = {"lower": "floor", "higher": "ceil", "nearest": "round"}[interpolation]
        return values.gather(-1, getattr(ranks, how)().to(dtypes.int64))
    low = ranks.floor()
    below = values.gather(-1, low.to(dtypes.int64))
    above = values.gather(-1, ranks.ceil().to(dtypes.int64))
    return below.lerp(above, 0.5 if interpolation == "midpoint" else ranks - low)


@public(out=True)
def quantile(
    input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *,
    interpolation: str = "linear",
) -> Tensor:  # fmt: skip
    """The q-quantiles along `dim`; NaN where there is a NaN."""
    return _quantile("quantile", input, q, dim, keepdim, interpolation)


@public(out=True)
def nanquantile(
    input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *,
    interpolation: str = "linear",
) -> Tensor:  # fmt: skip
    """The q-quantiles of the elements that are not NaN."""
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation)


# --- counting --------------------------------------------------------------------------------


@public()
def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often (or with what total weight) each of 0, 1, ... occurs in a vector."""
    if input.ndim != 1 or input.dtype.kind not in "iu":
        raise RuntimeError(at_user_line("bincount: expects a 1-d tensor of whole numbers"))
    if minlength < 0:
        raise RuntimeError(at_user_line("bincount: minlength must not be negative"))
    size = minlength
    if input.numel():
        if int(input.min()) < 0:
            raise RuntimeError(at_user_line("bincount: expects non-negative numbers"))
        size = max(int(input.max()) + 1, minlength)
    if weights is None:
        return input.new_zeros(size, dtype=dtypes.int64).index_add(
            0, input.to(dtypes.int64), input.new_ones(sizes_of(input), dtype=dtypes.int64)
        )
    if sizes_of(weights) != sizes_of(input):
        raise RuntimeError(at_user_line("bincount: weights and input must have equal length"))
    wide = weights if weights.dtype is dtypes.float32 else weights.to(dtypes.float64)
    return wide.new_zeros(size).index_add(0, input.to(dtypes.int64), wide)


def _range_of(name: str, x: Tensor, low: float, high: float, margin: float) -> tuple[float, float]:
    if low == high and x.numel():
        low, high = float(x.min()), float(x.max())
    if low == high and not x.numel():
        return (0.0, 1.0) if name == "histogram" else (low - margin, high + margin)
    if low == high:
        low, high = low - margin, high + margin
    if not (math.isfinite(low) and math.isfinite(high)) or low > high:
        raise RuntimeError(at_user_line(f"{name}: the range [{low}, {high}] is not usable"))
    return low, high


@public(out=True)
def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """Counts of elements in `bins` equal parts of ``[min, max]`` (equal: of the data's range)."""
    if input.dtype.kind == "b":
        raise DTypeError(at_user_line("histc: not defined for bool"))
    if bins <= 0:
        raise RuntimeError(at_user_line("histc: bins must be positive"))
    low, high = _range_of("histc", input, min, max, 1.0)
    x = reshape(input.detach(), -1)
    inside = (x >= low) & (x <= high)
    place = ((x.double() - low) / (high - low) * bins).floor().clamp(0, bins - 1)
    place = where_of(inside, place, 0, dtypes.int64)
    return input.new_zeros(bins).index_add(0, place, inside.to(input.dtype))


@public(out=True)
def histogram(
    input: Tensor, bins: Any = 100, *, range: Any = None, weight: Tensor | None = None,
    density: bool = False,
) -> Any:  # fmt: skip
    """(counts or weights per bin, bin edges); `bins` is a number or the edges."""
    x = reshape(input, -1)
    if isinstance(bins, Tensor):
        edges = bins
    else:
        low, high = range if range is not None else (0.0, 0.0)
        low, high = _range_of("histogram", x, low, high, 0.5)
        edges = linspace(low, high, bins + 1, dtype=input.dtype)
    count = edges.numel() - 1
    place = searchsorted(edges.contiguous(), x, right=True) - 1
    inside = (x >= edges[0]) & (x <= edges[-1])
    place = where_of(inside, place.clamp(0, count - 1), 0, dtypes.int64)
    amount = inside.to(input.dtype)
    if weight is not None:
        amount = amount * reshape(weight, -1)
    total = x.new_zeros(count).index_add(0, place, amount)
    if density:
        total = total / total.sum() / (edges[1:] - edges[:-1])
    return named("histogram", "hist bin_edges")(total, edges)


def _edges_of(input: Tensor, bins: Any, range: Any) -> list[Tensor]:
    """The edges of `histogramdd` along each of the last dimension's columns."""
    flat, count = reshape(input, -1, sizes_of(input)[-1]), int(sizes_of(input)[-1])
    if isinstance(bins, int):
        bins = [bins] * count
    if len(bins) != count:
        raise RuntimeError(at_user_line(
            f"histogramdd: {count} columns need as many bins, got {len(bins)}"))  # fmt: skip
    if isinstance(bins[0], Tensor):
        return list(bins)
    edges = []
    for i, number in enumerate(bins):
        low, high = (0.0, 0.0) if range is None else range[2 * i : 2 * i + 2]
        low, high = _range_of("histogram", flat[:, i], low, high, 0.5)
        edges.append(linspace(low, high, number + 1, dtype=input.dtype))
    return edges


@public()
def histogramdd(
    input: Tensor, bins: Any, range: Any = None, weight: Tensor | None = None,
    density: bool = False,
) -> Any:  # fmt: skip
    """(counts or weights per cell, edges of each dimension) of points ``input[..., D]``.

    bins   a number for all dimensions, one for each, or each dimension's edges.
    range  low and high of each dimension, one after another; else of the data.
    """
    check_tensors("histogramdd", input)
    if input.ndim < 2 or input.dtype.kind != "f":
        raise RuntimeError(at_user_line(
            f"histogramdd: expects floating points [..., D], got {input.dtype.name}"
            f"{list(sizes_of(input))}"))  # fmt: skip
    edges = _edges_of(input, bins, range)
    points = reshape(input.detach(), -1, len(edges))
    place: Any = 0
    inside: Any = None
    for i, edge in enumerate(edges):
        x, cells = points[:, i].contiguous(), edge.numel() - 1
        here = (x >= edge[0]) & (x <= edge[-1])
        at = (searchsorted(edge.contiguous(), x, right=True) - 1).clamp(0, cells - 1)
        place, inside = place * cells + at, here if inside is None else inside & here
    amount = inside.to(input.dtype)
    if weight is not None:
        amount = amount * reshape(weight, -1)
    shape = [edge.numel() - 1 for edge in edges]
    flat_place = where_of(inside, place, 0, dtypes.int64)
    total = points.new_zeros(math.prod(shape)).index_add(0, flat_place, amount).reshape(shape)
    if density:
        total = total / total.sum()
        for i, edge in enumerate(edges):
            total = total / reshape(diff(edge), -1, *(1,) * (len(edges) - 1 - i))
    return named("histogramdd", "hist bin_edges")(total, tuple(edges))


# --- differences and integrals ----------------------------------------------------------------


@public(out=True)
def diff(
    input: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None,
    append: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The n-th differences of neighbours along `dim`."""
    if input.ndim == 0:
        raise RuntimeError(at_user_line("diff: expects at least one dimension"))
    if n < 0:
        raise RuntimeError(at_user_line(f"diff: order {n} must not be negative"))
    at = axis_of(dim, input.ndim, "diff")
    ends = [t for t in (prepend, input, append) if t is not None]
    if any(t.ndim != input.ndim for t in ends):
        raise RuntimeError(at_user_line("diff: prepend and append need the input's dimensions"))
    x = FUNCTIONS["cat"](ends, at) if len(ends) > 1 and n else input
    for _ in range(min(n, int(sizes_of(x)[at]))):
        size = sizes_of(x)[at]
        later = slice_axis(x, at, 1, size, 1)
        earlier = slice_axis(x, at, 0, size - 1, 1)
        x = later ^ earlier if x.dtype.kind == "b" else later - earlier
    return x.clone() if x is input else x


def _steps(name: str, x: Tensor, y: Tensor, at: int) -> Tensor:
    """Distances between points `x` (one axis or the shape of `y`), aligned with `y`."""
    if x.ndim == 1 and y.ndim != 1:
        if sizes_of(x)[0] != sizes_of(y)[at]:
            raise RuntimeError(at_user_line(
                f"{name}: there must be one x value for each sample point"))  # fmt: skip
        return reshape(diff(x), -1, *(1,) * (y.ndim - at - 1))
    aligned = reshape(x, *(1,) * (y.ndim - x.ndim), *sizes_of(x)) if x.ndim < y.ndim else x
    return diff(aligned, dim=at)


def _areas(name: str, y: Tensor, x: Tensor | None, dx: Any, dim: int) -> tuple[Tensor, int]:
    if y.ndim == 0:
        raise RuntimeError(at_user_line(f"{name}: expects at least one dimension"))
    if y.dtype.kind == "b":
        raise DTypeError(at_user_line(f"{name}: not defined for bool"))
    if isinstance(dx, bool) or (x is not None and x.dtype.kind == "b"):
        raise DTypeError(at_user_line(f"{name}: bool distances"))
    at = axis_of(dim, y.ndim, name)
    size = sizes_of(y)[at]
    if size == 0:
        return y, at
    heights = slice_axis(y, at, 1, size, 1) + slice_axis(y, at, 0, size - 1, 1)
    step = dx if x is None else _steps(name, x, y, at)
    return heights * step / 2.0, at


@public(aliases=("trapz",), method=False)
def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = 1, dim: int = -1) -> Tensor:
    """The integral along `dim` by the trapezoidal rule, at points `x` or `dx` apart."""
    areas, at = _areas("trapezoid", y, x, dx, dim)
    return sum(areas, at) if sizes_of(y)[at] else sum(y, at)


@public(method=False)
def cumulative_trapezoid(
    y: Tensor, x: Tensor | None = None, *, dx: Any = 1, dim: int = -1
) -> Tensor:
    """The running integral along `dim` by the trapezoidal rule."""
    areas, at = _areas("cumulative_trapezoid", y, x, dx, dim)
    return cumsum(areas, at)


def _slopes(y: Tensor, at: int, spacing: Any, edge_order: int) -> Tensor:
    """First derivatives along one axis (Fornberg's weights for uneven points)."""
    n = int(sizes_of(y)[at])
    if n < edge_order + 1:
        raise RuntimeError(at_user_line(f"gradient: needs at least {edge_order + 1} points"))

    def part(low: int, high: int) -> Tensor:
        return slice_axis(y, at, low, high, 1)

    steps = _step_tensor(spacing, y, at, n)
    a, b = slice_axis(steps, at, 0, n - 2, 1), slice_axis(steps, at, 1, n - 1, 1)
    inner = (part(2, n) * (a / (b * (a + b))) + part(1, n - 1) * ((b - a) / (a * b))
             - part(0, n - 2) * (b / (a * (a + b))))  # fmt: skip
    first, last = (slice_axis(steps, at, i, i + 1, 1) for i in (0, n - 2))
    if edge_order == 1:
        left = (part(1, 2) - part(0, 1)) / first
        right = (part(n - 1, n) - part(n - 2, n - 1)) / last
    else:
        second, third = (slice_axis(steps, at, i, i + 1, 1) for i in (1, n - 3))
        left = _edge(part(0, 1), part(1, 2), part(2, 3), first, second)
        right = -_edge(part(n - 1, n), part(n - 2, n - 1), part(n - 3, n - 2), last, third)
    return FUNCTIONS["cat"]([left, inner, right], at)


def _edge(y0: Tensor, y1: Tensor, y2: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The derivative at the first of three points, `a` and `b` apart, to second order."""
    return -(2 * a + b) / (a * (a + b)) * y0 + (a + b) / (a * b) * y1 - a / (b * (a + b)) * y2


def _step_tensor(spacing: Any, y: Tensor, at: int, n: int) -> Tensor:
    shape = [n - 1 if i == at else 1 for i in range(y.ndim)]
    if isinstance(spacing, Tensor) and spacing.ndim == 1:
        return reshape(diff(spacing), *shape)
    step = spacing if isinstance(spacing, Tensor) else tensor(float(spacing), dtype=dtypes.float64)
    wide = y.dtype if y.dtype.kind == "f" else dtypes.get_default_dtype()
    return expand(step.to(wide), *shape)


@public(method=False)
def gradient(
    input: Tensor, *, spacing: Any = 1, dim: Any = None, edge_order: int = 1
) -> tuple[Tensor, ...]:
    """Derivatives along each of `dim` by central differences; `spacing`: numbers or coordinates."""
    spacing = 1 if spacing is None else spacing
    if edge_order not in (1, 2):
        raise RuntimeError(at_user_line("gradient: edge_order must be 1 or 2"))
    dims = range(input.ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
    axes = [axis_of(d, input.ndim, "gradient") for d in dims]
    if len(set(axes)) != len(axes):
        raise RuntimeError(at_user_line("gradient: a dim appears twice"))
    given: Sequence[Any] = spacing if isinstance(spacing, (list, tuple)) else [spacing] * len(axes)
    if len(given) != len(axes):
        raise RuntimeError(at_user_line("gradient: one spacing for each dim is needed"))
    x = input if input.dtype.kind == "f" else input.to(dtypes.get_default_dtype())
    return tuple(_slopes(x, at, s, edge_order) for at, s in zip(axes, given, strict=True))
