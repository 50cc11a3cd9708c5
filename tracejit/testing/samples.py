"""Arguments for every op of the registry: one table for ops that need more than their domain.

Whoever runs ops (eager, a backend) checks itself against `FUNCTIONS` and `cases`; see `check_op`.
Invariant: `cases(op, shape, dtype, rng)` gives arrays and params that the op's type rule accepts;
none where the op does not take that dtype or shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from tracejit import dtypes
from tracejit.dtypes import DType
from tracejit.ir.op import OPS, Op
from tracejit.ir.types import TensorType
from tracejit.ops.declare import uniform

Array = np.ndarray[Any, Any]
Case = tuple[list[Array], dict[str, Any]]
Shape = tuple[int, ...]

NOT_FUNCTIONS = ("input", "get", "call", "size", "to_device", "while_loop")
"""Ops whose value is not a function of arrays and params alone: tested where they are used."""

_ANYTHING = uniform(-3, 3)


def _draw(op: Op, rng: np.random.Generator, shape: Shape, dtype: DType) -> Array:
    return np.asarray((op.sample or _ANYTHING)(rng, shape, dtype))


def _index(rng: np.random.Generator, size: int, shape: Shape) -> Array:
    return rng.integers(0, max(size, 1), shape if size else (*shape[:-1], 0)).astype(np.int64)


def _axes(shape: Shape) -> list[dict[str, Any]]:
    every = tuple(range(len(shape)))
    return [{"axes": axes} for axes in dict.fromkeys([every, every[:1], every[-1:], ()])]


def _last_axis(shape: Shape) -> list[dict[str, Any]]:
    return [{"axes": (len(shape) - 1,)}] if shape else []


def _plain(op: Op, arity: int) -> Callable[..., Iterator[Case]]:
    def cases(rng: np.random.Generator, shape: Shape, dtype: DType) -> Iterator[Case]:
        yield [_draw(op, rng, shape, dtype) for _ in range(arity)], {}

    return cases


def _with_params(op: Op, params: Callable[[Shape], list[dict[str, Any]]]) -> Any:
    def cases(rng: np.random.Generator, shape: Shape, dtype: DType) -> Iterator[Case]:
        for chosen in params(shape):
            yield [_draw(op, rng, shape, dtype)], chosen

    return cases


def _along(**extra: Any) -> Callable[[Shape], list[dict[str, Any]]]:
    return lambda shape: [{"axis": i, **extra} for i in range(len(shape))]


def _slices(shape: Shape) -> list[dict[str, Any]]:
    whole = {"starts": (0,) * len(shape), "stops": shape, "steps": (1,) * len(shape)}
    if not shape or shape[-1] < 3:
        return [whole]
    part = {"starts": (*(0,) * (len(shape) - 1), 1), "stops": shape,
            "steps": (*(1,) * (len(shape) - 1), 2)}  # fmt: skip
    return [whole, part]


def _windows(shape: Shape) -> list[dict[str, Any]]:
    if not shape or shape[-1] < 3:
        return []
    last = len(shape) - 1
    return [{"axes": (last,), "sizes": (2,), "steps": (s,), "dilations": (d,)}
            for s, d in ((1, 1), (2, 1), (1, 2))]  # fmt: skip


def _diagonals(shape: Shape) -> list[dict[str, Any]]:
    if len(shape) < 2:
        return []
    return [{"offset": o, "axis1": 0, "axis2": len(shape) - 1} for o in (0, 1, -1)]


def _scatter_part(op: Op, params: Callable[[Shape], list[dict[str, Any]]], view: str) -> Any:
    """The operands of a write where op `view` would read."""

    def cases(rng: np.random.Generator, shape: Shape, dtype: DType) -> Iterator[Case]:
        for chosen in params(shape):
            x = _draw(op, rng, shape, dtype)
            part = np.asarray(OPS[view].numpy(x, **chosen))
            yield [x, _draw(op, rng, part.shape, dtype)], chosen

    return cases


def _gathers(op: Op, writes: bool, params: tuple[dict[str, Any], ...] = ({},)) -> Any:
    def cases(rng: np.random.Generator, shape: Shape, dtype: DType) -> Iterator[Case]:
        for axis in range(len(shape)):
            for extra in params:
                # each place at most once: writes have one meaning, extremes one derivative
                order = np.argsort(rng.random(shape), axis).astype(np.int64)
                arrays = [_draw(op, rng, shape, dtype), order]
                arrays += [_draw(op, rng, shape, dtype)] if writes else []
                yield arrays, {"axis": axis, **extra}

    return cases


def _takes(op: Op, writes: bool) -> Any:
    def cases(rng: np.random.Generator, shape: Shape, dtype: DType) -> Iterator[Case]:
        for axis in range(len(shape)):
            index = _index(rng, shape[axis], (2,))
            arrays = [_draw(op, rng, shape, dtype), index]
            wide = (*shape[:axis], *index.shape, *shape[axis + 1 :])
            arrays += [_draw(op, rng, wide, dtype)] if writes else []
            yield arrays, {"axis": axis}

    return cases


def _indexing(op: Op, writes: bool) -> Any:
    def cases(rng: np.random.Generator, shape: Shape, dtype: DType) -> Iterator[Case]:
        if not shape or 0 in shape:
            return
        for accumulate in (False, True) if writes else (None,):
            index = rng.permutation(shape[0])[:2].astype(np.int64)
            x = _draw(op, rng, shape, dtype)
            if accumulate is None:
                yield [x, index], {"axes": (0,)}
                continue
            part = _draw(op, rng, (len(index), *shape[1:]), dtype)
            yield [x, part, index], {"axes": (0,), "accumulate": accumulate}

    return cases


def _matrices(
    op: Op, make: Callable[[np.random.Generator, Array], list[Array]], **params: Any
) -> Any:
    """Well-conditioned square matrices for float32 and float64 only."""

    def cases(rng: np.random.Generator, shape: Shape, dtype: DType) -> Iterator[Case]:
        if len(shape) < 2 or 0 in shape or dtype not in (dtypes.float32, dtypes.float64):
            return
        n = shape[-1]
        a = rng.uniform(-1, 1, (*shape[:-2], n, n)) + 2 * np.eye(n)
        yield [x.astype(dtype.numpy) for x in make(rng, a)], params

    return cases


def _symmetric(rng: np.random.Generator, a: Array) -> list[Array]:
    return [a @ np.swapaxes(a, -1, -2)]


def _system(rng: np.random.Generator, a: Array) -> list[Array]:
    return [a, rng.uniform(-1, 1, (*a.shape[:-1], 2))]


def _matmul(rng: np.random.Generator, shape: Shape, dtype: DType) -> Iterator[Case]:
    if len(shape) >= 2:
        other = (*shape[:-2], shape[-1], 2)
        yield [_draw(OPS["matmul"], rng, s, dtype) for s in (shape, other)], {}


def _where(rng: np.random.Generator, shape: Shape, dtype: DType) -> Iterator[Case]:
    op = OPS["where"]
    sides = [_draw(op, rng, shape, dtype) for _ in range(2)]
    yield [np.asarray(rng.random(shape) < 0.5), *sides], {}


def _typed(**params: Any) -> Any:
    def cases(rng: np.random.Generator, shape: Shape, dtype: DType) -> Iterator[Case]:
        yield [], {"type": TensorType(dtype, shape), **params}

    return cases


def _iota(rng: np.random.Generator, shape: Shape, dtype: DType) -> Iterator[Case]:
    for axis in range(len(shape)):
        yield [], {"type": TensorType(dtype, shape), "axis": axis}


def _constant(rng: np.random.Generator, shape: Shape, dtype: DType) -> Iterator[Case]:
    values = _draw(OPS["constant"], rng, shape, dtype).tolist()

    def freeze(v: Any) -> Any:
        return tuple(map(freeze, v)) if isinstance(v, list) else v

    yield [], {"values": freeze(values), "type": TensorType(dtype, shape)}


def _random(rng: np.random.Generator, shape: Shape, dtype: DType) -> Iterator[Case]:
    yield [np.array(7), np.array(2**40)], {"type": TensorType(dtype, shape)}


def _sampler(op: Op) -> Callable[..., Iterator[Case]]:
    """Keys, and parameters of a distribution."""

    def cases(rng: np.random.Generator, shape: Shape, dtype: DType) -> Iterator[Case]:
        if dtype.kind == "f":
            given = [_draw(op, rng, shape, dtype) for _ in op.names[2:]]
            if op.names[-1] == "probs":
                given[-1] = np.asarray(given[-1] / 4, dtype.numpy)
            yield [np.array(7), np.array(2**40), *given], {}

    return cases


def _concatenate(rng: np.random.Generator, shape: Shape, dtype: DType) -> Iterator[Case]:
    op = OPS["concatenate"]
    for axis in range(len(shape)):
        other = tuple(2 if i == axis else n for i, n in enumerate(shape))
        yield [_draw(op, rng, s, dtype) for s in (shape, other)], {"axis": axis}


def _sum_of_parts(rng: np.random.Generator, shape: Shape, dtype: DType) -> Iterator[Case]:
    op = OPS["sum_of_parts"]
    for axis, n in enumerate(shape):
        other = tuple(2 if i == axis else m for i, m in enumerate(shape))
        parts = [_draw(op, rng, s, dtype) for s in (shape, other)]
        yield parts, {"axis": axis, "starts": (0, n), "size": n + 3}


def _searchsorted(rng: np.random.Generator, shape: Shape, dtype: DType) -> Iterator[Case]:
    op = OPS["searchsorted"]
    for right in (False, True):
        rows = np.sort(_draw(op, rng, (5,), dtype))
        yield [rows, _draw(op, rng, shape, dtype)], {"right": right}


def _strided(rng: np.random.Generator, shape: Shape, dtype: DType) -> Iterator[Case]:
    if shape and min(shape) > 1:
        x = _draw(OPS["as_strided"], rng, (12,), dtype)
        yield [x], {"shape": (2, 3), "steps": (3, 2), "offset": 1}


def _windows_add(rng: np.random.Generator, shape: Shape, dtype: DType) -> Iterator[Case]:
    for how in _windows(shape):
        x = _draw(OPS["windows"], rng, shape, dtype)
        windows = OPS["windows"].numpy(x, **how)
        yield [_draw(OPS["windows_add"], rng, windows.shape, dtype)], {"shape": shape, **how}


def _window_places(op: Op, rng: np.random.Generator, shape: Shape, dtype: DType) -> Iterator[Case]:
    for how in _windows(shape):
        x = _draw(op, rng, shape, dtype)
        values, index = OPS["window_max"].numpy(x, **how)
        if op.name == "window_pick":
            yield [x, index], how
        else:
            yield [values, index], {"shape": shape, **how}


def _convolutions(op: Op, rng: np.random.Generator, shape: Shape, dtype: DType) -> Iterator[Case]:
    """Images of the last two sizes (or one), padded, in one group, in two, and one each."""
    if not shape or min(shape[-2:]) < 2 or dtype.kind == "b":
        return
    spatial, rank = shape[-2:], len(shape[-2:])
    for groups, step, dilation in ((1, 1, 1), (2, 2, 1), (4, 2, 2), (4, 1, 1)):
        how = {"sizes": (2, 3)[:rank], "steps": (step,) * rank, "dilations": (dilation,) * rank,
               "low": (2,) * rank, "high": (1,) * rank}  # fmt: skip
        x = _draw(op, rng, (2, 4, *spatial), dtype)
        w = _draw(op, rng, (4, 4 // groups, *how["sizes"]), dtype)
        g = OPS["convolve"].numpy(x, w, groups, **how)
        if op.name == "convolve":
            yield [x, w], {"groups": groups, **how}
        elif op.name == "convolve_input":
            yield [g, w], {"shape": spatial, "groups": groups, **how}
        else:
            yield [x, g], {"channels": 4 // groups, "groups": groups, **how}


def _of(make: Callable[..., Any], name: str, *args: Any, **params: Any) -> Any:
    """The cases that `make` gives for the op of that name."""
    return make(OPS[name], *args, **params)


_OWN: dict[str, Any] = {
    "where": _where, "matmul": _matmul, "full": _typed(value=1), "constant": _constant,
    "iota": _iota, "concatenate": _concatenate, "sum_of_parts": _sum_of_parts,
    "searchsorted": _searchsorted, "as_strided": _strided, "windows_add": _windows_add,
    **{n: partial(_convolutions, OPS[n])
       for n in ("convolve", "convolve_input", "convolve_weight")},
    "window_put": lambda *args: _window_places(OPS["window_put"], *args),
    "window_pick": lambda *args: _window_places(OPS["window_pick"], *args),
    "random_uniform": _random, "random_normal": _random, "random_bits": _random,
    **{n: _of(_sampler, n)
       for n in ("random_gamma", "random_poisson", "random_binomial", "random_von_mises")},
}  # fmt: skip

_PARAMS: dict[str, Callable[[Shape], list[dict[str, Any]]]] = {
    "cast": lambda s: [{"dtype": d} for d in dtypes.ALL],
    "reshape": lambda s: [{"shape": s[::-1]}],
    "transpose": lambda s: [{"perm": tuple(range(len(s)))[::-1]}],
    "broadcast_to": lambda s: [{"shape": (2, *s)}],
    "flip": _axes,
    "pad": lambda s: [{"low": (1,) * len(s), "high": (0,) * len(s), "value": 0}],
    "slice": _slices, "diagonal": _diagonals, "windows": _windows, "window_max": _windows,
    "window_sum": _windows,
    "cumextreme": _along(largest=True), "sort": _along(descending=False),
    "topk": lambda s: [
        {"axis": i, "k": min(2, n), "largest": bool(i % 2)} for i, n in enumerate(s)
    ],
    **dict.fromkeys(("softmax", "log_softmax", "cumsum", "cumprod", "logcumsumexp"), _along()),
    **dict.fromkeys(("argmax", "argmin"), _last_axis),
}  # fmt: skip


def _writes() -> dict[str, Any]:
    """Ops that read or write at indices, and at the places of a view."""
    ways = tuple({"reduce": r} for r in ("prod", "amax", "amin"))
    return {
        "slice_scatter": _of(_scatter_part, "slice_scatter", _slices, "slice"),
        "diagonal_scatter": _of(_scatter_part, "diagonal_scatter", _diagonals, "diagonal"),
        "gather": _of(_gathers, "gather", False),
        "scatter": _of(_gathers, "scatter", True),
        "scatter_add": _of(_gathers, "scatter_add", True),
        "scatter_reduce": _of(_gathers, "scatter_reduce", True, ways),
        "take": _of(_takes, "take", False),
        "take_add": _of(_takes, "take_add", True),
        "index": _of(_indexing, "index", False),
        "index_put": _of(_indexing, "index_put", True),
    }


def _of_matrices() -> dict[str, Any]:
    """Factorisations and solvers."""

    def same(rng: np.random.Generator, a: Array) -> list[Array]:
        return [a]

    plain = ("det", "cofactor", "slogdet", "lu", "lu_pivots", "matrix_exp")
    return {
        "solve": _of(_matrices, "solve", _system),
        "triangular_solve": _of(_matrices, "triangular_solve", _system, lower=True, unit=False),
        "cholesky": _of(_matrices, "cholesky", _symmetric),
        "eigh": _of(_matrices, "eigh", _symmetric, lower=True),
        "qr": _of(_matrices, "qr", same, complete=False),
        "svd": _of(_matrices, "svd", same, full=False),
        "pinv": _of(_matrices, "pinv", same, atol=0.0, rtol=1e-6),
        **{name: _of(_matrices, name, same) for name in plain},
    }


_TABLE = {**_OWN, **_writes(), **_of_matrices()}


def _row(op: Op) -> Callable[..., Iterator[Case]]:
    """The cases of an op: its own row, or what its kind and its domain say."""
    if op.name in _TABLE:
        return _TABLE[op.name]
    params = _PARAMS.get(op.name, _axes if op.kind == "reduction" else None)
    return _plain(op, len(op.names)) if params is None else _with_params(op, params)


def cases(op: Op, shape: Shape, dtype: DType, rng: np.random.Generator) -> list[Case]:
    """Arrays and params of the shape and dtype that the op's type rule accepts."""
    accepted = []
    for arrays, params in _row(op)(rng, shape, dtype):
        types = tuple(TensorType(dtypes.from_numpy(a.dtype), a.shape) for a in arrays)
        try:
            op.infer(types, **params)
        except (TypeError, IndexError, RuntimeError):
            continue
        accepted.append((arrays, params))
    return accepted


FUNCTIONS = [op for op in OPS.values() if op.name not in NOT_FUNCTIONS]
