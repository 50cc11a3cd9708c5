"""Random numbers in the kernel language: Philox-4x32-10, one generator call per element.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). The
64-bit counter fills the low half of Philox's 128 bits. Invariant: bit for bit the words of
`ops.philox`, the reference; element i of a stream depends on the key and on offset + i alone, so
threads, splits and fusion cannot change it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tracejit.codegen.language import NAMES
from tracejit.codegen.mathlib import log
from tracejit.codegen.mathlib.core import Scalar, convert, fma, kind_of, poly, rint, select, sqrt
from tracejit.codegen.mathlib.define import Kinds, math_function
from tracejit.codegen.mathlib.trig import COS, SIN

_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_MASK = 0xFFFFFFFF
_ROUNDS = 10

Words = tuple[Scalar, Scalar, Scalar, Scalar]


def rounds(counter: Words, key: tuple[Scalar, Scalar]) -> Words:
    """The ten rounds on four 32-bit words under a key of two, all held in u64."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        p0, p1 = c0 * _M0, c2 * _M1
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & _MASK, (p0 >> 32) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    return c0, c1, c2, c3


def _words(key: Scalar, counter: Scalar) -> Words:
    """Four 32-bit words (as u64) for a 64-bit counter under a 64-bit key."""
    k, c = convert(key, "u64"), convert(counter, "u64")
    zero = c ^ c
    return rounds((c & _MASK, c >> 32, zero, zero), (k & _MASK, k >> 32))


def _unit_f32(word: Scalar, bits: int = 24) -> Scalar:
    """The top `bits` bits of a word as a float32 in [0, 1)."""
    return convert(convert(word >> (32 - bits), "i32"), "f32") * 2.0**-bits


def _unit_f64(high: Scalar, low: Scalar) -> Scalar:
    """53 bits of two words as a float64 in [0, 1)."""
    return convert(convert(((high << 32) | low) >> 11, "i64"), "f64") * 2.0**-53


def _uniform_f32(key: Scalar, counter: Scalar) -> Scalar:
    return _unit_f32(_words(key, counter)[0])


def _uniform_f16(key: Scalar, counter: Scalar) -> Scalar:
    return _unit_f32(_words(key, counter)[0], 11)


def _uniform_f64(key: Scalar, counter: Scalar) -> Scalar:
    return _unit_f64(*_words(key, counter)[:2])


def _cos_turns(u: Scalar) -> Scalar:
    """cos(2 pi u) for u in [0, 1), reduced exactly to an eighth of a turn about 0."""
    kind = kind_of(u)
    quarters = u * 4.0
    n = rint(quarters)
    r = (quarters - n) * (math.pi / 2)
    z = r * r
    sine = fma(r * z, poly(z, *SIN[kind]), r)
    cosine = fma(z * z, poly(z, *COS[kind]), fma(z, -0.5, 1.0))
    odd = (n == 1.0) | (n == 3.0)
    value = select(odd, sine, cosine)
    return select((n == 1.0) | (n == 2.0), -value, value)


def _box_muller(u1: Scalar, u2: Scalar) -> Scalar:
    """sqrt(-2 log(1 - u1)) cos(2 pi u2), a normal number from u1, u2 in [0, 1)."""
    return sqrt(log.body(1.0 - u1) * -2.0) * _cos_turns(u2)


def _normal_f32(key: Scalar, counter: Scalar) -> Scalar:
    first, second, _, _ = _words(key, counter)
    return _box_muller(_unit_f32(first), _unit_f32(second))


def _normal_f64(key: Scalar, counter: Scalar) -> Scalar:
    words = _words(key, counter)
    return _box_muller(_unit_f64(*words[:2]), _unit_f64(*words[2:]))


def _bits_i64(key: Scalar, counter: Scalar) -> Scalar:
    high, low, _, _ = _words(key, counter)
    return convert(((high << 32) | low) >> 1, "i64")


def _define(name: str, body: Callable[..., Any], result: str, doc: str) -> None:
    def rule(kinds: Kinds) -> tuple[Kinds, str] | None:
        return (("i64", "i64"), result) if len(kinds) == 2 else None

    def function(key: Scalar, counter: Scalar) -> Scalar:
        return body(key, counter)

    function.__name__ = name
    function.__doc__ = doc
    NAMES[name] = math_function(rule)(function)


for _dtype, _body in (("f32", _uniform_f32), ("f16", _uniform_f16), ("f64", _uniform_f64)):
    _kind = "f64" if _dtype == "f64" else "f32"
    _define(f"philox_uniform_{_dtype}", _body, _kind, f"Return a uniform {_dtype} in [0, 1).")
for _dtype, _body in (("f32", _normal_f32), ("f16", _normal_f32), ("f64", _normal_f64)):
    _kind = "f64" if _dtype == "f64" else "f32"
    _define(f"philox_normal_{_dtype}", _body, _kind, f"Return a normal {_dtype}; halves unrounded.")
_define("philox_bits_i64", _bits_i64, "i64", "Return 63 random bits as a non-negative i64.")
