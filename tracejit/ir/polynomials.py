"""Polynomials with whole coefficients over symbols and over ``//`` and ``%`` of polynomials.

They are what sizes that vary are made of (see `sizes`). Invariant: no term has the coefficient 0,
and the atoms of a term are sorted, so that equal polynomials have equal keys.
"""

from __future__ import annotations

from typing import Any

Atom = tuple[Any, ...]
Monomial = tuple[Atom, ...]
Poly = dict[Monomial, int]
ONE: Monomial = ()


def add(a: Poly, b: Poly, factor: int = 1) -> Poly:
    """a + factor * b."""
    total = dict(a)
    for mono, coefficient in b.items():
        total[mono] = total.get(mono, 0) + factor * coefficient
    return {m: c for m, c in total.items() if c}


def multiply(a: Poly, b: Poly) -> Poly:
    """a * b."""
    terms: Poly = {}
    for ma, ca in a.items():
        for mb, cb in b.items():
            mono = tuple(sorted(ma + mb, key=repr))
            terms[mono] = terms.get(mono, 0) + ca * cb
    return {m: c for m, c in terms.items() if c}


def freeze(poly: Poly) -> tuple[tuple[Monomial, int], ...]:
    """A hashable key: equal ones mean equal polynomials."""
    return tuple(sorted(poly.items(), key=repr))


def source_of(poly: Poly) -> str:
    """A Python expression over the symbols."""
    terms = []
    for mono, coefficient in sorted(poly.items(), key=repr):
        factors = [_atom_source(a) for a in mono]
        if coefficient != 1 or not factors:
            factors.insert(0, str(coefficient))
        terms.append("*".join(factors))
    return " + ".join(terms) if terms else "0"


def _atom_source(atom: Atom) -> str:
    if atom[0] == "sym":
        return str(atom[1])
    left, right = source_of(dict(atom[1])), source_of(dict(atom[2]))
    return f"(({left}){'//' if atom[0] == 'div' else '%'}({right}))"


def exact_quotient(a: Poly, b: Poly) -> Poly | None:
    """a / b where b is one term and divides every term of a."""
    if len(b) != 1:
        return {ONE: 1} if a == b else None
    ((divisor, factor),) = b.items()
    quotient: Poly = {}
    for mono, coefficient in a.items():
        rest = list(mono)
        for atom in divisor:
            if atom not in rest:
                return None
            rest.remove(atom)
        if factor == 0 or coefficient % factor:
            return None
        quotient[tuple(rest)] = coefficient // factor
    return quotient


def always_alike(relation: str, poly: Poly) -> bool:
    """Whether ``poly relation 0`` is known to have one outcome for all sizes (none is negative)."""
    above, below = is_never_negative(poly), is_never_negative(add({}, poly, -1))
    positive = is_never_negative(add(poly, {ONE: 1}, -1))
    negative = is_never_negative(add({ONE: -1}, poly, -1))
    if relation in (">=", "<"):
        return above or negative
    if relation in ("<=", ">"):
        return below or positive
    return positive or negative


def is_never_negative(poly: Poly) -> bool:
    """Whether a polynomial is shown to be 0 or more where no symbol is negative. False may only
    mean that it is not shown.
    """
    least: Poly = {}
    for mono, factor in poly.items():
        least = add(least, _lower_bound(mono, factor))
    return all(factor >= 0 and all(a[0] == "sym" for a in m) for m, factor in least.items())


def _lower_bound(mono: Monomial, factor: int) -> Poly:
    """What ``factor * mono`` is not less than: quotients by numbers n are at least
    ``(a - n + 1) / n``.
    """
    if len(mono) != 1 or mono[0][0] != "div" or factor < 0:
        return {mono: factor}
    above, by = dict(mono[0][1]), dict(mono[0][2])
    n = by.get(ONE, 0)
    if len(by) != 1 or n <= 0:
        return {mono: factor}
    if factor % n == 0:
        return multiply({ONE: factor // n}, add(above, {ONE: n - 1} if n > 1 else {}, -1))
    least: Poly = {}
    for part, own in above.items():
        least = add(least, _lower_bound(part, own))
    if any(m != ONE and (own < 0 or any(a[0] != "sym" for a in m)) for m, own in least.items()):
        return {mono: factor}
    value = factor * (least.get(ONE, 0) // n)
    return {ONE: value} if value else {}


def evaluate_polynomial(poly: Poly, values: dict[str, int]) -> int:
    """The number for these values of the symbols."""
    total = 0
    for mono, coefficient in poly.items():
        term = coefficient
        for atom in mono:
            if atom[0] == "sym":
                term *= values[atom[1]]
            else:
                left = evaluate_polynomial(dict(atom[1]), values)
                right = evaluate_polynomial(dict(atom[2]), values)
                term *= left // right if atom[0] == "div" else left % right
        total += term
    return total
