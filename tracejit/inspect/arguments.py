"""Arguments from text: ``f32[32,784]`` is a tensor of random numbers, ``0.5`` a number.

Invariant: the same text gives the same value after the same `manual_seed`.
"""

from __future__ import annotations

import re
from typing import Any

from tracejit import dtypes
from tracejit.random import randint, randn

_TYPE = re.compile(r"([a-z]+\d*)\[((?:\d+(?:,\d+)*)?)\]")
_NUMBERS = {"True": True, "False": False, "None": None}
_DIGITS = 10


def make(text: str, requires_grad: bool = False) -> Any:
    """The value that `text` stands for.

    A floating-point type gives normal random values, integers 0 to 9, ``b1`` coin flips.
    Raises ValueError for text that is neither a type nor a number.

    Example: ``make("f32[2,3]").shape`` is ``Size([2, 3])``; ``make("0.5")`` is 0.5.
    """
    if text in _NUMBERS:
        return _NUMBERS[text]
    match = _TYPE.fullmatch(text.replace(" ", ""))
    if match is None:
        return _number(text)
    dtype = dtypes.BY_SHORT.get(match[1])
    if dtype is None:
        known = ", ".join(dtypes.BY_SHORT)
        raise ValueError(f"{text!r}: no dtype {match[1]!r}; there are {known}")
    shape = tuple(int(n) for n in match[2].split(",")) if match[2] else ()
    if dtype.kind == "f":
        return randn(*shape).to(dtype).requires_grad_(requires_grad)
    high = 2 if dtype.kind == "b" else _DIGITS
    return randint(0, high, shape).to(dtype)


def _number(text: str) -> int | float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise ValueError(f"{text!r}: expected a type such as f32[32,784], or a number")
