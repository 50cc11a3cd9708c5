"""Checks of one op of the registry: what whoever computes it gives, against its NumPy meaning.

A backend is checked by a function ``run(op, arrays, params)``; the cases come from `samples`.
Invariant: a check takes nothing from the op but its stanza, so a new op is covered unasked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

import tracejit
from tracejit.dtypes import DType
from tracejit.eager.dispatch import apply, pointwise
from tracejit.ir.op import OPS, Op
from tracejit.ir.types import Device
from tracejit.runtime.device import backend_of
from tracejit.runtime.device_array import from_host, host_copy
from tracejit.runtime.target import run_on_device
from tracejit.testing.samples import Case, Shape, cases

SHAPES: tuple[Shape, ...] = ((3, 4), (2, 3, 3), (5,), (), (0, 3), (3, 0))
"""Shapes that every op is tried on where they suit it: stacks, 0-d and empty ones among them."""

SIGN_FREE = ("svd", "eigh", "qr")
"""Ops whose results carry an arbitrary sign."""

_TOLERANCE = {"float64": 1e-12, "float32": 2e-6, "float16": 2e-3}
_LONG_FORMULA = 50
"""Cost from which an op is a formula of many roundings: 20 times the tolerance."""

Run = Callable[[Op, list[Any], dict[str, Any]], Any]


def all_cases(op: Op, dtype: DType, shapes: Iterable[Shape] = SHAPES) -> list[Case]:
    """The cases of an op for a dtype over `shapes`, the same at every call."""
    rng = np.random.default_rng(len(op.name))
    return [case for shape in shapes for case in cases(op, shape, dtype, rng)]


def reference(op: Op, arrays: list[Any], params: dict[str, Any]) -> Any:
    """The op's meaning in NumPy: an array, or a tuple of arrays."""
    with np.errstate(all="ignore"):
        return op.numpy(*arrays, **params)


def run_eager(op: Op, arrays: list[Any], params: dict[str, Any]) -> Any:
    """The op through eager dispatch, as arrays."""
    tensors = [tracejit.from_numpy(a) for a in arrays]
    same = len({a.dtype for a in arrays}) == 1
    if op.kind == "elementwise" and same and op.name != "cast":
        return pointwise(op, tensors, params).numpy()
    result = apply(op, tensors, params)
    return tuple(t.numpy() for t in result) if isinstance(result, tuple) else result.numpy()


def on_device(name: str) -> Run:
    """A runner of ops by the kernels of a device: ``check_op(op, dtype, on_device("sim"))``."""
    device = Device(name, 0)

    def run(op: Op, arrays: list[Any], params: dict[str, Any]) -> Any:
        held = [from_host(np.asarray(a), device) for a in arrays]
        result = run_on_device(op, held, params, backend_of(device))
        if isinstance(result, tuple):
            return tuple(map(host_copy, result))
        return host_copy(result)

    return run


def agree(got: Any, want: Any, name: str) -> None:
    """Assert equal dtypes and shapes, values to the last few digits; NaN and infinities alike."""
    if isinstance(want, tuple):
        for g, w in zip(got, want, strict=True):
            agree(g, w, name)
        return
    want = np.asarray(want)
    assert got.dtype == want.dtype, f"{name}: dtype {got.dtype}, NumPy gives {want.dtype}"
    assert got.shape == want.shape, f"{name}: shape {got.shape}, NumPy gives {want.shape}"
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(got, want, err_msg=name)
        return
    if name in SIGN_FREE:
        got, want = np.abs(got), np.abs(want)
    limit = _TOLERANCE[want.dtype.name] * (20 if OPS[name].cost > _LONG_FORMULA else 1)
    np.testing.assert_allclose(got, want, rtol=limit, atol=limit, err_msg=name)


def check_op(op: Op, dtype: DType, run: Run = run_eager, shapes: Iterable[Shape] = SHAPES) -> int:
    """Assert that `run` gives the op's NumPy meaning in every case; the number of cases tried.

    >>> from tracejit import dtypes, testing
    >>> from tracejit.ir.op import OPS
    >>> testing.check_op(OPS["add"], dtypes.float32, shapes=[(3, 4), ()])
    2
    """
    tried = all_cases(op, dtype, shapes)
    for arrays, params in tried:
        agree(run(op, arrays, params), reference(op, arrays, params), op.name)
    return len(tried)
