"""Division, remainders, integer powers and shifts with torch's meaning; nothing here ever traps.

Integer division by zero gives 0: whoever promises an error checks the divisors and raises. 8- to
32-bit integers divide in f64, which is exact for them and vectorises. Invariant: fmod is exact for
every pair of floats, whatever their quotient.
"""

from __future__ import annotations

from tracejit.codegen.mathlib import core
from tracejit.codegen.mathlib.core import (
    BITS,
    Scalar,
    bits,
    convert,
    copysign,
    fabs,
    fma,
    integer_divide,
    is_float,
    iterate,
    kind_of,
    number,
    rint,
    select,
    through_f64,
    unbits,
)
from tracejit.codegen.mathlib.define import Kinds, common, math_function

INF = float("inf")
NAN = float("nan")


def _numeric(kinds: Kinds) -> tuple[Kinds, str] | None:
    outcome = common(kinds)
    return None if outcome is None or outcome[1] == "b1" else outcome


def _integral(kinds: Kinds) -> tuple[Kinds, str] | None:
    outcome = _numeric(kinds)
    return None if outcome is None or is_float(outcome[1]) else outcome


def _divide(x: Scalar, y: Scalar) -> tuple[Scalar, Scalar]:
    """Return quotient toward zero and remainder; (0, 0) for y = 0, wrapping for lowest / -1."""
    kind = kind_of(x)
    zero = number(0, kind)
    by_zero = y == 0
    if BITS[kind] <= 32:
        wide = convert(x, "f64") / convert(select(by_zero, number(1, kind), y), "f64")
        quotient = convert(convert(wide, "i64"), kind)
        quotient = select(by_zero, zero, quotient)
        return quotient, select(by_zero, zero, x - quotient * y)
    negated = y == -1 if kind[0] == "i" else by_zero
    quotient, rest = integer_divide(x, select(by_zero | negated, number(1, kind), y))
    if kind[0] == "i":
        quotient = select(negated, zero - x, quotient)
    return select(by_zero, zero, quotient), select(by_zero | negated, zero, rest)


def _fmod_by_f64(x: Scalar, y: Scalar) -> Scalar:
    """Compute fmod of f32 values held in f64: each step takes 50 bits off the quotient, exactly."""
    a, b = fabs(x), fabs(y)
    inverse, rest = 1.0 / b, a
    for power in (250, 200, 150, 100, 50, 0):
        quotient = rint(rest * (inverse * 2.0**-power))
        rest = fma(-quotient, b * 2.0**power, rest)
    rest = select(rest < 0.0, rest + b, rest)
    return select((b == INF) & (a < INF), x, copysign(rest, x))


def _split(a: Scalar) -> tuple[Scalar, Scalar]:
    """Split a >= 0 in f64 as m * 2**e: m an integer in [2**52, 2**53), e an i64."""
    subnormal = a < 2.0**-1022
    word = bits(select(subnormal, a * 2.0**54, a))
    exponent = (word >> 52) - select(subnormal, number(1075 + 54, "i64"), number(1075, "i64"))
    return unbits((word & ((1 << 52) - 1)) | (1075 << 52)), exponent


def _power_of_two(n: Scalar) -> Scalar:
    """Return 2.0**n for an i64 n in the normal range."""
    return unbits((n + 1023) << 52)


def _fmod64(x: Scalar, y: Scalar) -> Scalar:
    """Compute fmod in f64 on integer mantissas, 50 bits of the quotient a step, exactly."""
    a, b = fabs(x), fabs(y)
    m, exponent_a = _split(a)
    modulus, exponent_b = _split(b)

    def goes_on(rest: Scalar, missing: Scalar) -> Scalar:
        return missing > 0

    def step(rest: Scalar, missing: Scalar) -> tuple[Scalar, Scalar]:
        taken = select(missing < 50, missing, number(50, "i64"))
        scaled = rest * _power_of_two(taken)
        left = fma(-core.trunc(scaled / modulus), modulus, scaled)
        left = select(left < 0.0, left + modulus, left)
        return select(left >= modulus, left - modulus, left), missing - taken

    first = select(m >= modulus, m - modulus, m)
    rest, _ = iterate(goes_on, step, first, exponent_a - exponent_b)
    half = exponent_b >> 1  # 2**exponent_b itself may be subnormal
    rest = rest * _power_of_two(half) * _power_of_two(exponent_b - half)
    result = copysign(select(a < b, a, rest), x)
    return select((b > 0.0) & (a < INF) & (y == y), result, number(NAN, "f64"))


def _fmod(x: Scalar, y: Scalar) -> Scalar:
    if kind_of(x) == "f64":
        return _fmod64(x, y)
    return through_f64(_fmod_by_f64, x, y)


@math_function(_numeric)
def fmod(x: Scalar, y: Scalar) -> Scalar:
    """Return x - y*trunc(x/y), exactly, with the sign of x; for y = 0 NaN, or the integer 0."""
    return _fmod(x, y) if is_float(kind_of(x)) else _divide(x, y)[1]


def _differ_in_sign(rest: Scalar, y: Scalar) -> Scalar:
    return (rest != 0) & ((rest < 0) != (y < 0))


@math_function(_numeric)
def remainder(x: Scalar, y: Scalar) -> Scalar:
    """Return x - y*floor(x/y) with the sign of y, as Python and torch; NaN or 0 for y = 0."""
    rest = fmod.body(x, y)
    return select(_differ_in_sign(rest, y), rest + y, rest)


@math_function(_numeric)
def floor_divide(x: Scalar, y: Scalar) -> Scalar:
    """Return floor(x/y) from the exact remainder, as torch; for y = 0 x/y, or the integer 0."""
    if not is_float(kind_of(x)):
        quotient, rest = _divide(x, y)
        return select(_differ_in_sign(rest, y), quotient - 1, quotient)
    rest = _fmod(x, y)
    quotient = (x - rest) / y
    quotient = select(_differ_in_sign(rest, y), quotient - 1.0, quotient)
    whole = core.floor(quotient)
    whole = select(quotient - whole > 0.5, whole + 1.0, whole)
    whole = select(quotient == 0.0, copysign(number(0.0, kind_of(x)), x / y), whole)
    return select(y == 0.0, x / y, whole)


def integer_power(x: Scalar, n: Scalar) -> Scalar:
    """Return x**n wrapping around; a negative n gives 1/x**-n rounded toward zero, 0 for x = 0."""
    kind = kind_of(x)
    one, zero = number(1, kind), number(0, kind)

    def step(result: Scalar, base: Scalar, left: Scalar) -> tuple[Scalar, ...]:
        return select((left & 1) != 0, result * base, result), base * base, left >> 1

    start = select(x == x, one, zero)
    power, _, _ = iterate(lambda result, base, left: left > 0, step, start, x, n)
    if kind[0] == "u":
        return power
    reciprocal = select(x == -1, select((n & 1) != 0, x, one), zero)
    return select(n < 0, select(x == 1, one, reciprocal), power)


@math_function(_integral)
def shift_left(x: Scalar, n: Scalar) -> Scalar:
    """Return x * 2**n wrapping around; 0 for n negative or beyond the width."""
    inside, safe = _shift_count(n)
    return select(inside, x << safe, number(0, kind_of(x)))


@math_function(_integral)
def shift_right(x: Scalar, n: Scalar) -> Scalar:
    """Return floor(x / 2**n); for n negative or beyond the width -1 for x < 0, else 0."""
    inside, safe = _shift_count(n)
    kind = kind_of(x)
    filled = x >> (BITS[kind] - 1) if kind[0] == "i" else number(0, kind)
    return select(inside, x >> safe, filled)


def _shift_count(n: Scalar) -> tuple[Scalar, Scalar]:
    inside = (n >= 0) & (n < BITS[kind_of(n)])
    return inside, select(inside, n, number(0, kind_of(n)))


@math_function(_integral)
def gcd(x: Scalar, y: Scalar) -> Scalar:
    """Return the greatest common divisor, not negative (the lowest integer wraps)."""
    kind = kind_of(x)
    unsigned = "u" + kind[1:]
    if kind[0] == "i":
        x, y = (convert(select(v < 0, number(0, kind) - v, v), unsigned) for v in (x, y))

    def step(a: Scalar, b: Scalar) -> tuple[Scalar, Scalar]:
        return b, integer_divide(a, select(b == 0, number(1, unsigned), b))[1]

    a, _ = iterate(lambda a, b: b != 0, step, x, y)
    return convert(a, kind)
