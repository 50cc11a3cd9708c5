"""Fits the Chebyshev tables of `tracejit/ops/special_tables.py` with mpmath.

    python bench/chebyshev.py > tracejit/ops/special_tables.py

Each table is c0/2 + c1 T1(t) + ... over t in [-1, 1], until the terms fall below 1e-18.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp

mp.mp.dps = 40


def coefficients(f: Callable[[Any], Any], low: Any, high: Any, nodes: int = 90) -> list[Any]:
    """Chebyshev coefficients of f on [low, high] from values at the nodes."""
    angles = [mp.pi * (k + mp.mpf(1) / 2) / nodes for k in range(nodes)]
    values = [f((mp.cos(a) * (high - low) + high + low) / 2) for a in angles]
    found = [
        2 * mp.fsum(v * mp.cos(j * a) for v, a in zip(values, angles, strict=True)) / nodes
        for j in range(nodes)
    ]
    size = max(abs(c) for c in found)
    while abs(found[-1]) < size * mp.mpf(10) ** -18:
        found.pop()
    return found


def inverse_normal(p: Any) -> Any:
    """x with normal distribution function p (p small)."""
    guess = -mp.sqrt(-2 * mp.log(p)) + mp.mpf(1) / 2
    return mp.findroot(lambda x: mp.log(mp.erfc(-x / mp.sqrt(2)) / 2) - mp.log(p), guess)


def scaled_erfc(t: Any) -> Any:
    """(1 + 2x) exp(x^2) erfc(x) at t = (x - 3.75) / (x + 3.75)."""
    if t == 1:
        return 2 / mp.sqrt(mp.pi)
    x = mp.mpf("3.75") * (1 + t) / (1 - t)
    if x > 1e4:
        total, term = mp.mpf(1), mp.mpf(1)
        for k in range(1, 20):
            term *= -(2 * k - 1) / (2 * x * x)
            total += term
        return (1 + 2 * x) * total / (x * mp.sqrt(mp.pi))
    return (1 + 2 * x) * mp.exp(x * x) * mp.erfc(x)


def tail(u: Any) -> Any:
    """-x / r at u = 1 / r, where r = sqrt(-log p) and x is the p-quantile of the normal."""
    r = 1 / u
    return -inverse_normal(mp.exp(-r * r)) / r


def central(s: Any) -> Any:
    """x / (p - 1/2) at s = (p - 1/2)^2."""
    if s == 0:
        return mp.sqrt(2 * mp.pi)
    q = mp.sqrt(s)
    return mp.sqrt(2) * mp.erfinv(2 * q) / q


def large(order: int) -> Callable[[Any], Any]:
    """sqrt(x) exp(-x) I(x) at u = 1 / x."""
    return lambda u: mp.sqrt(1 / u) * mp.exp(-1 / u) * mp.besseli(order, 1 / u)


TABLES = {
    "I0_SMALL": ("exp(-x) I0(x), x in [0, 8]", lambda x: mp.exp(-x) * mp.besseli(0, x), 0, 8),
    "I0_LARGE": ("sqrt(x) exp(-x) I0(x), 1 / x in [0, 1/8]", large(0), mp.mpf(0), mp.mpf(1) / 8),
    "I1_SMALL": ("exp(-x) I1(x) / x, x in [0, 8]",
                 lambda x: mp.exp(-x) * (mp.besseli(1, x) / x if x else mp.mpf(1) / 2), 0, 8),
    "I1_LARGE": ("sqrt(x) exp(-x) I1(x), 1 / x in [0, 1/8]", large(1), mp.mpf(0), mp.mpf(1) / 8),
    "ERFCX": ("(1 + 2x) exp(x^2) erfc(x), (x - 3.75) / (x + 3.75) in [-1, 1]", scaled_erfc, -1, 1),
    "NDTRI_CENTRAL": ("x / (p - 1/2), (p - 1/2)^2 in [0, 0.425^2]", central, mp.mpf(0),
                      mp.mpf("0.425") ** 2),
    "NDTRI_TAIL": ("-x / r, r = sqrt(-log p), 1 / r in [1/28, 1/1.6]", tail, mp.mpf(1) / 28,
                   1 / mp.mpf("1.6")),
}  # fmt: skip


def main() -> None:
    print('"""Chebyshev tables of special functions; made by bench/chebyshev.py, not by hand.\n')
    print('Invariant: f = c[0]/2 + c[1] T1(t) + ... with t in [-1, 1] over the range given.\n"""\n')
    for name, (what, f, low, high) in TABLES.items():
        print(f"# {what}\n{name} = (")
        found = [float(c) for c in coefficients(f, low, high)]
        for i in range(0, len(found), 3):
            print("    " + ", ".join(repr(c) for c in found[i : i + 3]) + ",")
        print(")  # fmt: skip\n")


if __name__ == "__main__":
    main()
