"""Minimax polynomial fits with mpmath, for deriving the math library's coefficients.

Remez exchange on a dense Chebyshev grid (Cheney, Introduction to Approximation Theory, ch. 3).
Coefficients are rounded to the working precision from the lowest degree up, refitting the rest
after each rounding, so the rounded polynomial stays near-optimal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mpmath as mp
import numpy as np

Real = mp.mpf
mp.mp.dps = 40


def _grid(a: Real, b: Real, count: int) -> list[Real]:
    return [
        (a + b) / 2 + (b - a) / 2 * mp.cos(mp.pi * (count - 1 - i) / (count - 1))
        for i in range(count)
    ]


def _solve(
    points: Sequence[int], basis: list[list[Real]], f: list[Real], w: list[Real]
) -> list[Real]:
    """Solve sum c_j b_j(x) + (-1)^i E / w(x) = f(x) on the reference points."""
    n = len(points)
    a = mp.matrix(n, n)
    rhs = mp.matrix(n, 1)
    for row, i in enumerate(points):
        for col in range(n - 1):
            a[row, col] = basis[col][i]
        a[row, n - 1] = (-1) ** row / w[i]
        rhs[row] = f[i]
    return list(mp.lu_solve(a, rhs))


def _extrema(error: np.ndarray, count: int) -> list[int]:
    """Pick `count` alternating local extrema of the weighted error, dropping the smallest ends."""
    groups: list[int] = []
    for i in range(len(error)):
        if groups and (error[i] > 0) == (error[groups[-1]] > 0):
            if abs(error[i]) > abs(error[groups[-1]]):
                groups[-1] = i
        else:
            groups.append(i)
    while len(groups) > count:
        if len(groups) == count + 1:
            groups.pop(0 if abs(error[groups[0]]) < abs(error[groups[-1]]) else -1)
        else:
            drop = min(
                range(len(groups) - 1),
                key=lambda k: max(abs(error[groups[k]]), abs(error[groups[k + 1]])),
            )
            del groups[drop : drop + 2]
    return groups


def remez(
    f: Sequence[Real], basis: list[list[Real]], weight: Sequence[Real]
) -> tuple[list[Real], Real]:
    """Fit sum c_j basis_j to f on grid values, minimising max |weight * error|; (c, max)."""
    size, n = len(f), len(basis) + 1
    points = [round((size - 1) * (1 - np.cos(np.pi * i / (n - 1))) / 2) for i in range(n)]
    points = [max(p, k) for k, p in enumerate(points)]
    best: tuple[list[Real], Real] = ([], mp.inf)
    table = np.array(basis, dtype=object)
    for _ in range(30):
        *c, _level = _solve(points, basis, list(f), list(weight))
        error = (np.array(c, dtype=object) @ table - np.array(f, dtype=object)) * np.array(
            weight, dtype=object
        )
        worst = max(abs(e) for e in error)
        if worst < best[1]:
            best = (c, worst)
        new = _extrema(error, n)
        if len(new) < n or new == points:
            break
        points = new
    return best


def fit(
    f: Callable[[Real], Real],
    a: float,
    b: float,
    powers: Sequence[int],
    weight: Callable[[Real], Real] = lambda x: mp.mpf(1),
    single: bool = False,
    exact: dict[int, float] | None = None,
    count: int = 600,
) -> tuple[list[float], float]:
    """Fit sum c_p x**p to f on [a, b]; return coefficients (in the order of powers) and error.

    `weight` multiplies the error (1/f for relative error). With `single` coefficients are rounded
    to float32, else to float64. `exact` fixes coefficients of given powers.
    """
    xs = _grid(mp.mpf(a), mp.mpf(b), count)
    values, weights = [f(x) for x in xs], [max(abs(weight(x)), mp.mpf(10) ** -12) for x in xs]
    columns = {p: [x**p for x in xs] for p in powers}
    fixed = {p: mp.mpf(c) for p, c in (exact or {}).items()}
    worst = mp.mpf(0)
    while True:
        free = [p for p in powers if p not in fixed]
        rest = [v - sum(c * columns[p][i] for p, c in fixed.items()) for i, v in enumerate(values)]
        if not free:
            worst = max(abs(r * w) for r, w in zip(rest, weights))
            break
        c, _ = remez(rest, [columns[p] for p in free], weights)
        fixed[free[0]] = mp.mpf(float(np.float32(float(c[0]))) if single else float(c[0]))
    return [float(fixed[p]) for p in powers], float(mp.log(worst, 2))


def show(name: str, result: tuple[list[float], float], single: bool) -> None:
    """Print coefficients, highest power first, as shortest round-trip decimals."""
    cs = [str(np.float32(c)) if single else repr(c) for c in reversed(result[0])]
    print(f"{name}: error 2**{result[1]:.2f}\n    {', '.join(cs)}")
