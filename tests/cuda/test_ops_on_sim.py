"""Every op of the registry on the simulated device: the kernels that a GPU would run.

float32 is compared with the CPU's kernels bit for bit, reductions and random numbers included; the
other dtypes with the op's NumPy meaning. Every kernel that runs is compiled for sm_90, too. The
cases come from the registry, so a new op is tested without a line here. Invariant: which ops have
no device kernel is written down and cannot grow.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tracejit import dtypes
from tracejit.codegen.ptx import compile_ptx
from tracejit.eager.execute import execute
from tracejit.ir.op import OPS, Op
from tracejit.runtime import device_frame
from tracejit.runtime.sim_device import SimDevice
from tracejit.testing import FUNCTIONS, all_cases, check_op, on_device

LONG = {op.name for op in FUNCTIONS if op.cost >= 8 or op.kind == "composite"}
"""Ops of many steps: few shapes, and no float64, whose exact twins are slow."""
ON_THE_HOST = {
    "airy_ai", "bessel_j0", "bessel_j1", "bessel_y0", "bessel_y1", "cholesky", "cofactor",
    "det", "eigh", "geqrf", "igamma", "igammac", "logcumsumexp", "lu", "lu_pivots",
    "matrix_exp", "modified_bessel_k0", "modified_bessel_k1", "nextafter", "pinv", "qr",
    "random_binomial", "random_gamma", "random_gamma_slope", "random_poisson",
    "random_von_mises", "reduce_prod", "reduce_sum", "scaled_modified_bessel_k0",
    "scaled_modified_bessel_k1", "scatter_reduce", "slogdet", "solve", "svd",
    "triangular_solve", "zeta",
}  # fmt: skip
"""Ops whose arrays travel to the host and back (a wait that `forbid_sync` refuses).

Sums and products are among them for axes that are no single run, such as (0, 2), alone.
"""


IN_ANOTHER_ORDER = {"convolve_weight"}
"""Ops that the CPU adds up in an order of its own."""

run_on_sim = on_device("sim")


@pytest.fixture(autouse=True)
def compiled_for_a_gpu(monkeypatch) -> Iterator[None]:
    """Each kernel that the simulator was given gives PTX as well."""
    given: dict[tuple[str, int], str] = {}
    load = SimDevice.load

    def noted(self: SimDevice, name: str, source: str, words: int) -> Any:
        given[source, words] = name
        return load(self, name, source, words)

    monkeypatch.setattr(SimDevice, "load", noted)
    yield
    for (source, words), name in given.items():
        assert ".visible .entry" in compile_ptx(name, source, words, (9, 0))


def assert_same_bits(got: Any, want: Any) -> None:
    """Equal values of one dtype and shape, zeros with their signs; any NaN equals any other."""
    got, want = np.asarray(got), np.asarray(want)
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    np.testing.assert_array_equal(got, want)
    if want.dtype.kind == "f":
        known = ~np.isnan(want)
        np.testing.assert_array_equal(np.signbit(got[known]), np.signbit(want[known]))


@pytest.mark.parametrize("op", FUNCTIONS, ids=lambda op: op.name)
def test_float32_has_the_bits_of_the_cpu(op: Op, monkeypatch) -> None:
    host: set[str] = set()
    call = device_frame._HostCall.__call__
    monkeypatch.setattr(
        device_frame._HostCall, "__call__",
        lambda self, arguments: host.add(self.node.op.name) or call(self, arguments),
    )  # fmt: skip
    shapes = ((3, 4),) if op.name in LONG else ((3, 4), (2, 3, 3), (), (0, 3))
    for arrays, params in all_cases(op, dtypes.float32, shapes):
        want = execute(op, [np.asarray(a) for a in arrays], params)
        got = run_on_sim(op, arrays, params)
        pairs = zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]
        for g, w in pairs:
            if op.name in IN_ANOTHER_ORDER:
                np.testing.assert_allclose(g, w, 1e-5, 1e-5)
            else:
                assert_same_bits(g, w)
    assert host <= ON_THE_HOST


@pytest.mark.parametrize("op", [o for o in FUNCTIONS if o.name not in LONG], ids=lambda op: op.name)
def test_other_dtypes_have_numpys_meaning(op: Op) -> None:
    wide = (dtypes.float64,) if op.exact or op.kind == "reduction" else ()
    for dtype in (*wide, dtypes.float16, dtypes.int64, dtypes.uint8, dtypes.bool_):
        check_op(op, dtype, run_on_sim, ((3, 4),))


def test_the_list_of_host_ops_names_ops() -> None:
    assert set(OPS) >= ON_THE_HOST
