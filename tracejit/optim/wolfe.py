"""A line search for the strong Wolfe conditions (Nocedal and Wright, algorithms 3.5 and 3.6).

Invariant: the point it returns was evaluated, and has the lowest loss of the final bracket.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class Point:
    """A length along the direction, the loss and gradient there, and the slope."""

    length: float
    loss: float
    gradient: Any
    slope: float


@dataclass
class Found:
    """What the search ended with."""

    loss: float
    gradient: Any
    length: float
    evaluations: int


def cubic_minimum(a: Point, b: Point, bounds: tuple[float, float] | None = None) -> float:
    """The minimum of the cubic through two points with their slopes, within `bounds`."""
    low, high = bounds if bounds is not None else sorted((a.length, b.length))
    if a.length == b.length:
        return (low + high) / 2.0
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.length - b.length)
    square = d1**2 - a.slope * b.slope
    if not square >= 0:
        return (low + high) / 2.0
    d2 = math.sqrt(square)
    left, right = (a, b) if a.length <= b.length else (b, a)
    width = right.length - left.length
    place = right.length - width * (
        (right.slope + d2 - d1) / (right.slope - left.slope + 2 * d2)
    )  # fmt: skip
    return min(max(place, low), high)


class _Search:
    def __init__(
        self, evaluate: Callable[[float], tuple[float, Any]], direction: Any, start: Point,
        c1: float, c2: float,
    ):  # fmt: skip
        self.evaluate = evaluate
        self.direction = direction
        self.start = start
        self.c1 = c1
        self.c2 = c2
        self.evaluations = 0

    def at(self, length: float) -> Point:
        """The point at a length."""
        loss, gradient = self.evaluate(length)
        self.evaluations += 1
        return Point(length, loss, gradient, float(gradient.dot(self.direction)))

    def too_high(self, p: Point) -> bool:
        """Whether the loss has not decreased enough (the Armijo condition)."""
        return p.loss > self.start.loss + self.c1 * p.length * self.start.slope

    def flat(self, p: Point) -> bool:
        """Whether the slope has become flat enough (the curvature condition)."""
        return abs(p.slope) <= -self.c2 * self.start.slope


def line_search(
    evaluate: Callable[[float], tuple[float, Any]], direction: Any, length: float, loss: float,
    gradient: Any, slope: float, scale: float, c1: float = 1e-4, c2: float = 0.9,
    tolerance: float = 1e-9, most: int = 25,
) -> Found:  # fmt: skip
    """A length along `direction` that meets the strong Wolfe conditions, if one is found.

    evaluate  gives loss and gradient at a length; scale: the direction's largest element.
    """
    start = Point(0.0, loss, gradient, slope)
    search = _Search(evaluate, direction, start, c1, c2)
    bracket, done, rounds = _bracket(search, length, most)
    if not done:
        bracket = _zoom(search, bracket, scale, tolerance, most - rounds)
    best = min(bracket, key=lambda p: p.loss) if len(bracket) > 1 else bracket[0]
    return Found(best.loss, best.gradient, best.length, search.evaluations)


def _bracket(search: _Search, length: float, most: int) -> tuple[list[Point], bool, int]:
    """Grow the length until an acceptable point lies between two others (or is found)."""
    previous = search.start
    point = search.at(length)
    for rounds in range(most):
        if search.too_high(point) or (rounds > 0 and point.loss >= previous.loss):
            return [previous, point], False, rounds
        if search.flat(point):
            return [point], True, rounds
        if point.slope >= 0:
            return [previous, point], False, rounds
        low = point.length + 0.01 * (point.length - previous.length)
        following = cubic_minimum(previous, point, (low, point.length * 10))
        previous, point = point, search.at(following)
    return [search.start, point], False, most


def _zoom(
    search: _Search, bracket: list[Point], scale: float, tolerance: float, most: int
) -> list[Point]:
    """Narrow the bracket until a point meets both conditions."""
    low, high = sorted(bracket, key=lambda p: p.loss)
    stuck = False
    for _ in range(most):
        width = abs(high.length - low.length)
        if width * scale < tolerance:
            break
        ends = sorted((low.length, high.length))
        place = cubic_minimum(low, high)
        margin = 0.1 * width
        near = min(ends[1] - place, place - ends[0]) < margin
        if near and (stuck or place >= ends[1] or place <= ends[0]):
            away_from_top = abs(place - ends[1]) < abs(place - ends[0])
            place = ends[1] - margin if away_from_top else ends[0] + margin
            stuck = False
        else:
            stuck = near
        point = search.at(place)
        if search.too_high(point) or point.loss >= low.loss:
            low, high = sorted((low, point), key=lambda p: p.loss)
            continue
        if search.flat(point):
            return [point]
        if point.slope * (high.length - low.length) >= 0:
            high = low
        low = point
    return [low, high]
