"""Random words and numbers: known answers, ranges, moments, independence of the split."""

from __future__ import annotations

import numpy as np
import pytest
from mathlib_tools import kernel, run, same

from tracejit.codegen.language import NAMES, call_kernel
from tracejit.codegen.philox import rounds
from tracejit.ops.philox import philox_numpy

# Random123's kat_vectors for philox4x32 with 10 rounds: counter, key, output.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
     (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]  # fmt: skip
COUNTERS = np.concatenate([np.arange(500), 2**32 - 3 + np.arange(6), [2**63 - 1, -1, -(2**63)]])
KEY = -7234567890123456789
SHIFT = np.uint64(32)


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_known_answers(
    counter: tuple[int, ...], key: tuple[int, ...], words: tuple[int, ...]
) -> None:
    with np.errstate(over="ignore"):
        got = rounds(tuple(map(np.uint64, counter)), tuple(map(np.uint64, key)))
    assert tuple(map(int, got)) == words


def test_compiled_words_are_those_of_the_reference() -> None:
    """Whole words of the 64-bit integers and floats that kernels make of them."""
    w = philox_numpy(KEY, COUNTERS)
    assert [int(x[0]) for x in philox_numpy(0, np.zeros(1, np.int64))] == list(KNOWN[0][2])
    integers = run(f"philox_bits_i64({KEY}, a)", ("i64",), "i64", COUNTERS)
    assert np.array_equal(integers, (((w[0] << SHIFT) | w[1]) >> np.uint64(1)).astype(np.int64))
    single = run(f"philox_uniform_f32({KEY}, a)", ("i64",), "f32", COUNTERS)
    assert np.array_equal(single, (w[0] >> np.uint64(8)).astype("f4") * np.float32(2**-24))
    double = run(f"philox_uniform_f64({KEY}, a)", ("i64",), "f64", COUNTERS)
    exact = (((w[0] << SHIFT) | w[1]) >> np.uint64(11)).astype("f8") * 2.0**-53
    assert np.array_equal(double, exact)


@pytest.mark.parametrize(("name", "out"), [
    ("uniform_f32", "f32"), ("uniform_f64", "f64"), ("uniform_f16", "f32"), ("bits_i64", "i64"),
    ("normal_f32", "f32"), ("normal_f64", "f64"),
])  # fmt: skip
def test_numbers_equal_their_twins(name: str, out: str) -> None:
    counters = COUNTERS[-40:] if name == "normal_f64" else COUNTERS
    got = run(f"philox_{name}({KEY}, a)", ("i64",), out, counters)
    assert same(got, NAMES[f"philox_{name}"](KEY, counters)).all()


def test_ranges_and_moments() -> None:
    counters = np.arange(200_000)
    for name, out in (("uniform_f32", "f32"), ("uniform_f64", "f64"), ("uniform_f16", "f32")):
        u = run(f"philox_{name}(5, a)", ("i64",), out, counters)
        assert u.min() >= 0 and u.max() < 1
        assert abs(u.mean() - 0.5) < 0.003 and abs(u.var() - 1 / 12) < 0.001
    for out in ("f32", "f64"):
        z = run(f"philox_normal_{out}(5, a)", ("i64",), out, counters).astype(np.float64)
        assert np.isfinite(z).all()
        assert abs(z.mean()) < 0.01 and abs(z.std() - 1) < 0.01
        assert abs((z**3).mean()) < 0.03 and abs((z**4).mean() - 3) < 0.1
        assert abs(np.corrcoef(z[:-1], z[1:])[0, 1]) < 0.01
    integers = run("philox_bits_i64(5, a)", ("i64",), "i64", counters)
    assert integers.min() >= 0 and len(np.unique(integers)) == counters.size


def test_normal_follows_box_muller() -> None:
    w = [v.astype(np.float64) for v in philox_numpy(KEY, COUNTERS)]
    u1, u2 = (v // 256 * 2.0**-24 for v in w[:2])
    exact = np.sqrt(-2 * np.log(1 - u1)) * np.cos(2 * np.pi * u2)
    assert np.allclose(NAMES["philox_normal_f32"](KEY, COUNTERS), exact, rtol=1e-5, atol=1e-6)


def test_an_element_depends_on_key_and_counter_alone() -> None:
    compiled = kernel("philox_normal_f32(9, a)", ("i64",), "f32")
    x, whole, parts = np.arange(1000), np.zeros(1000, "f4"), np.zeros(1000, "f4")
    for out, cuts in ((whole, [0, 1000]), (parts, [0, 3, 250, 251, 999, 1000])):
        table = np.array([x.ctypes.data, out.ctypes.data], np.uintp)
        for lo, hi in zip(cuts, cuts[1:]):
            call_kernel(compiled.address, table.ctypes.data, lo, hi)
    assert same(whole, parts).all()


def test_random_kernels_vectorise() -> None:
    for name in ("uniform_f32", "normal_f32"):
        asm = kernel(f"a * philox_{name}(3, i)", ("f32",), "f32").asm
        assert "call" not in asm
        assert "vpmuludq\t%ymm" in asm or "vpmuludq\t%zmm" in asm
