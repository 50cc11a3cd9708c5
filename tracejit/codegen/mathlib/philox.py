"""Philox-4x32-10: random words as a pure function of a key and a counter, and numbers made of them.

Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). The
64-bit counter fills the low half of Philox's 128 bits. Invariant: element i of a random tensor is a
function of (key, offset + i), one Philox call each, so threads, splits and fusion cannot change it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tracejit.codegen.mathlib import core
from tracejit.codegen.mathlib.core import Scalar, convert, fma, kind_of, poly, rint, select
from tracejit.codegen.mathlib.define import Kinds, math_function
from tracejit.codegen.mathlib.exp_log import log
from tracejit.codegen.mathlib.trig import COS, SIN

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = 0xFFFFFFFF


def _words_rule(kinds: Kinds) -> tuple[Kinds, Kinds] | None:
    return ("i64", "i64"), ("u32",) * 4


def _round(state: tuple[Scalar, ...], key: tuple[Scalar, Scalar]) -> tuple[Scalar, ...]:
    """One round on four 32-bit words held in u64."""
    c0, c1, c2, c3 = state
    first, second = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
    return ((second >> 32) ^ c1 ^ key[0], second & MASK, (first >> 32) ^ c3 ^ key[1], first & MASK)


def _rounds(state: tuple[Scalar, ...], key: tuple[Scalar, Scalar]) -> tuple[Scalar, ...]:
    for _ in range(10):
        state = _round(state, key)
        key = ((key[0] + WEYL[0]) & MASK, (key[1] + WEYL[1]) & MASK)
    return state


def _words(key: Scalar, counter: Scalar) -> tuple[Scalar, ...]:
    """Return the four words of one call, each in the low half of a u64."""
    k, c = convert(key, "u64"), convert(counter, "u64")
    zero = c ^ c
    return _rounds((c & MASK, c >> 32, zero, zero), (k & MASK, k >> 32))


def philox_numpy(key: int, counters: Any) -> tuple[np.ndarray[Any, Any], ...]:
    """Return the four uint32 words of every counter, counters an array of 64-bit integers."""
    counters = np.asarray(counters).astype(np.uint64)
    with np.errstate(over="ignore"):
        words = _words(np.uint64(key % 2**64), counters)
    return tuple(w.astype(np.uint32) for w in words)


@math_function(_words_rule)
def philox(key: Scalar, counter: Scalar) -> tuple[Scalar, ...]:
    """Return the four u32 words of Philox-4x32-10 for a 64-bit key and counter."""
    return tuple(convert(w, "u32") for w in _words(key, counter))


def _unit64(high: Scalar, low: Scalar) -> Scalar:
    """Return the top 53 bits of two words as an f64 in [0, 1)."""
    return convert(convert(((high << 32) | low) >> 11, "i64"), "f64") * 2.0 ** -53


def _unit32(word: Scalar) -> Scalar:
    """Return the top 24 bits of a word as an f32 in [0, 1)."""
    return convert(convert(word >> 8, "i32"), "f32") * 2.0 ** -24


def _result(kind: str) -> Any:
    return math_function(lambda kinds: (("i64", "i64"), kind))


@_result("f32")
def uniform_f32(key: Scalar, counter: Scalar) -> Scalar:
    """Return a float32 in [0, 1): the top 24 bits of word 0."""
    return _unit32(_words(key, counter)[0])


@_result("f64")
def uniform_f64(key: Scalar, counter: Scalar) -> Scalar:
    """Return a float64 in [0, 1): the top 53 bits of words 0 and 1."""
    return _unit64(*_words(key, counter)[:2])


@_result("f32")
def uniform_f16(key: Scalar, counter: Scalar) -> Scalar:
    """Return a half in [0, 1), as float32: the top 11 bits of word 0."""
    return convert(convert(_words(key, counter)[0] >> 21, "i32"), "f32") * 2.0 ** -11


@_result("i64")
def random_i64(key: Scalar, counter: Scalar) -> Scalar:
    """Return 63 random bits of words 0 and 1 as a non-negative int64."""
    high, low = _words(key, counter)[:2]
    return convert(((high << 32) | low) >> 1, "i64")


def _cos_turns(u: Scalar) -> Scalar:
    """Return cos(2*pi*u) for u in [0, 1), reduced exactly."""
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
    """Return sqrt(-2 log(1 - u1)) * cos(2 pi u2)."""
    return core.sqrt(log.body(1.0 - u1) * -2.0) * _cos_turns(u2)


@_result("f32")
def normal_f32(key: Scalar, counter: Scalar) -> Scalar:
    """Return a standard normal float32 (Box-Muller) from 24 bits each of words 0 and 1."""
    w0, w1, _, _ = _words(key, counter)
    return _box_muller(_unit32(w0), _unit32(w1))


@_result("f64")
def normal_f64(key: Scalar, counter: Scalar) -> Scalar:
    """Return a standard normal float64 (Box-Muller) from 53 bits each of words 0-1 and 2-3."""
    w0, w1, w2, w3 = _words(key, counter)
    return _box_muller(_unit64(w0, w1), _unit64(w2, w3))
