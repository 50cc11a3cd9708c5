"""torch's samples as tracejit's arguments, and results of the two compared.

Invariant: nothing here changes a value on the way; `Skip` marks what is out of scope.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import tracejit
import tracejit.nn

DTYPES = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
TOLERANCE = {"float64": (1e-7, 1e-7), "float32": (2e-5, 2e-5), "float16": (4e-3, 2e-3)}


class Skip(Exception):
    """The sample uses what tracejit leaves out on purpose (complex, bfloat16, a sparse layout)."""


def to_tracejit(value: Any) -> Any:
    """torch tensors, dtypes and devices replaced by tracejit's, at any depth."""
    if isinstance(value, torch.Tensor):
        if value.is_sparse or value.layout != torch.strided or value.device.type == "meta":
            raise Skip("layout")
        if str(value.dtype).removeprefix("torch.") not in DTYPES:
            raise Skip(str(value.dtype))
        array = value.detach().resolve_conj().resolve_neg().numpy()
        result = tracejit.from_numpy(np.array(array, order="K"))
        return result.requires_grad_() if value.requires_grad else result
    if isinstance(value, torch.dtype):
        name = str(value).removeprefix("torch.")
        if name not in DTYPES:
            raise Skip(name)
        return getattr(tracejit, name)
    if isinstance(value, torch.device):
        return tracejit.device(value.type)
    if isinstance(value, torch.memory_format):
        raise Skip("memory_format")
    if isinstance(value, torch.layout):
        return "strided"
    if isinstance(value, torch.Generator):
        return tracejit.Generator().manual_seed(0)
    if isinstance(value, complex):
        raise Skip("complex")
    if isinstance(value, torch.Size):
        return tuple(value)
    if isinstance(value, (list, tuple)):
        items = [to_tracejit(v) for v in value]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, dict):
        return {k: to_tracejit(v) for k, v in value.items()}
    if value is torch.nn.functional.pairwise_distance:
        return tracejit.nn.functional.pairwise_distance
    if isinstance(value, torch.nn.PairwiseDistance):
        return tracejit.nn.PairwiseDistance(value.norm, value.eps, value.keepdim)
    if isinstance(value, slice):
        return slice(*(to_tracejit(v) for v in (value.start, value.stop, value.step)))
    return value


def flatten(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [x for v in value for x in flatten(v)]
    if isinstance(value, dict):
        return [x for v in value.values() for x in flatten(v)]
    return [value]


SIGN_FREE = [False]
"""Whether the op at hand (eigenvectors) leaves the signs of its results open."""


# torch's own error in float32 and float16 (float64 agrees): as many times the usual tolerance.
INEXACT = {"matrix_exp": 200, "polygamma": 3, "special.polygamma": 3, "addbmm": 15,
           "special.hermite_polynomial_he": 3}  # fmt: skip
NARROW_SLACK = [1]


def compare(got: Any, want: Any, random: bool = False, slack: float = 1.0) -> None:
    """Raise AssertionError where two results differ in structure, dtype, shape or value."""
    gots, wants = flatten(got), flatten(want)
    assert len(gots) == len(wants), f"{len(gots)} results, torch gives {len(wants)}"
    for g, w in zip(gots, wants, strict=True):
        if not isinstance(w, torch.Tensor):
            if isinstance(w, float):
                assert np.isclose(g, w, equal_nan=True), f"{g!r}, torch gives {w!r}"
            elif isinstance(w, torch.dtype):
                assert str(g).split(".")[-1] == str(w).split(".")[-1], f"{g}, torch gives {w}"
            else:
                assert g == w, f"{g!r}, torch gives {w!r}"
            continue
        assert isinstance(g, tracejit.Tensor), f"{type(g).__name__} instead of a tensor"
        name = str(w.dtype).removeprefix("torch.")
        assert g.dtype.name == name, f"dtype {g.dtype.name}, torch gives {name}"
        assert tuple(g.shape) == tuple(w.shape), f"shape {tuple(g.shape)}, torch {tuple(w.shape)}"
        if random:
            continue
        a, b = g.detach().numpy(), w.detach().numpy()
        if a.dtype.kind == "f":
            if SIGN_FREE[0]:
                a, b = np.abs(a), np.abs(b)
            rtol, atol = TOLERANCE[name]
            slack = slack if name == "float64" else slack * NARROW_SLACK[0]
            close = np.isclose(a, b, rtol * slack, atol * slack, equal_nan=True)
        else:
            close = np.asarray(a == b)
        if not close.all():
            where = tuple(int(i) for i in np.argwhere(~close)[0])
            count = int((~close).sum())
            raise AssertionError(
                f"{count}/{close.size} values differ, at {where}: {a[where]!r}, torch {b[where]!r}"
            )


def fresh(value: Any) -> Any:
    """A deep copy of torch arguments, with leaves of their own."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)([fresh(v) for v in value])
    if isinstance(value, dict):
        return {k: fresh(v) for k, v in value.items()}
    return value
