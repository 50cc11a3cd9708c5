"""``einsum``: products of tensors summed over the axes that a formula names.

The operands are contracted from left to right, each pair as one batched matrix product.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

from tracejit import dtypes
from tracejit.eager.linalg import matmul
from tracejit.eager.reduce import sum
from tracejit.eager.register import FUNCTIONS
from tracejit.eager.shape import permute, reshape, sizes_of
from tracejit.errors import at_user_line
from tracejit.ir.sizes import product
from tracejit.tensor import Tensor

_LETTERS = string.ascii_uppercase + string.ascii_lowercase


def _error(message: str) -> RuntimeError:
    return RuntimeError(at_user_line(f"einsum: {message}"))


def _from_sublists(args: Sequence[Any]) -> tuple[str, list[Tensor]]:
    """``einsum(a, [0, 1], b, [1, 2], [0, 2])`` as a formula and operands."""

    def text(axes: Sequence[Any]) -> str:
        if any(a is not Ellipsis and not 0 <= a < len(_LETTERS) for a in axes):
            raise _error("subscripts must be in [0, 52)")
        return "".join("..." if a is Ellipsis else _LETTERS[a] for a in axes)

    pairs = len(args) // 2
    operands = [args[2 * i] for i in range(pairs)]
    terms = [text(args[2 * i + 1]) for i in range(pairs)]
    arrow = f"->{text(args[-1])}" if len(args) % 2 else ""
    return ",".join(terms) + arrow, operands


def _parse_term(term: str, operand: Tensor | None) -> list[Any]:
    """Letters and numbers: axes under the ellipsis are numbered -1, -2, ... from the last."""
    head, dots, tail = term.partition("...")
    for letter in head + tail:
        if letter not in _LETTERS:
            raise _error(f"invalid subscript {letter!r}; expected letters and at most one '...'")
    if operand is None:
        return [*head, Ellipsis, *tail] if dots else [*head]
    hidden = operand.ndim - len(head) - len(tail)
    if hidden < 0 or (hidden and not dots):
        raise _error(f"{term!r} does not name the {operand.ndim} dimensions of an operand")
    return [*head, *range(-hidden, 0), *tail]


def _unique_axes(operand: Tensor, axes: list[Any]) -> tuple[Tensor, list[Any]]:
    """Repeated letters become the diagonal."""
    for letter in dict.fromkeys(axes):
        while axes.count(letter) > 1:
            first = axes.index(letter)
            second = axes.index(letter, first + 1)
            if sizes_of(operand)[first] != sizes_of(operand)[second]:
                raise _error(f"{letter!r} is repeated with different sizes")
            operand = operand.diagonal(0, first, second)
            axes = [a for i, a in enumerate(axes) if i not in (first, second)] + [letter]
    return operand, axes


def _output_axes(formula: str | None, terms: list[list[Any]]) -> list[Any]:
    named = [a for axes in terms for a in axes if isinstance(a, str)]
    hidden = max((-a for axes in terms for a in axes if not isinstance(a, str)), default=0)
    dots = list(range(-hidden, 0))
    if formula is None:  # letters that occur once, in alphabetical order
        return dots + sorted(a for a in set(named) if named.count(a) == 1)
    output: list[Any] = []
    for a in _parse_term(formula, None):
        output += dots if a is Ellipsis else [a]
    for a in output:
        if isinstance(a, str) and (output.count(a) > 1 or a not in named):
            raise _error(f"output subscript {a!r} is repeated or in no operand")
    return output


def _sizes(operands: list[Tensor], terms: list[list[Any]]) -> dict[Any, Any]:
    sizes: dict[Any, Any] = {}
    for operand, axes in zip(operands, terms, strict=True):
        for a, n in zip(axes, sizes_of(operand), strict=True):
            known = sizes.get(a, 1)
            if known == 1:
                sizes[a] = n
            elif n != known and n != 1:
                raise _error(f"axis {a!r} has sizes {known} and {n}, which do not broadcast")
    return sizes


def _drop(operand: Tensor, axes: list[Any], needed: set[Any]) -> tuple[Tensor, list[Any]]:
    """Sum over the axes that nobody else needs."""
    gone = [i for i, a in enumerate(axes) if a not in needed]
    if gone:
        operand = sum(operand, gone)
        axes = [a for a in axes if a in needed]
    return operand, axes


def _arrange(x: Tensor, axes: list[Any], groups: Sequence[list[Any]], sizes: Any) -> Tensor:
    """The operand with its axes in groups, each group joined to one axis, sizes of 1 expanded."""
    order = [axes.index(a) for group in groups for a in group]
    x = permute(x, *order)
    wanted = [[sizes[a] for a in group] for group in groups]
    return reshape(x.expand(*(n for ns in wanted for n in ns)), *(product(ns) for ns in wanted))


def _contract(
    x: Tensor, xs: list[Any], y: Tensor, ys: list[Any], needed: set[Any], sizes: dict[Any, Any]
) -> tuple[Tensor, list[Any]]:
    """One pair of operands; the axes of the result."""
    x, xs = _drop(x, xs, needed | set(ys))
    y, ys = _drop(y, ys, needed | set(xs))
    shared = [a for a in xs if a in ys]
    batch = [a for a in shared if a in needed]
    inner = [a for a in shared if a not in needed]
    left = [a for a in xs if a not in ys]
    right = [a for a in ys if a not in xs]
    if inner and not left and not right and x.dtype in (dtypes.float32, dtypes.float64):
        a, b = (_arrange(o, axes, (batch, inner), sizes) for o, axes in ((x, xs), (y, ys)))
        return reshape(sum(a * b, 1), *(sizes[i] for i in batch)), batch
    a = _arrange(x, xs, (batch, left, inner), sizes)
    b = _arrange(y, ys, (batch, inner, right), sizes)
    result = matmul(a, b) if inner else a * b
    axes = batch + left + right
    return reshape(result, *(sizes[i] for i in axes)), axes


def einsum(equation: Any, *operands: Any) -> Tensor:
    """Products of the operands summed over the axes that the output does not name.

    Example: ``einsum("bij,bjk->bik", a, b)`` multiplies stacks of matrices; ``...`` stands for
    axes that broadcast; operands may also come with lists of axis numbers.
    """
    if isinstance(equation, str):
        items = list(operands[0]) if len(operands) == 1 and isinstance(
            operands[0], (list, tuple)) else list(operands)  # fmt: skip
    else:
        equation, items = _from_sublists((equation, *operands))
    if not items:
        raise _error("at least one operand is needed")
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    names = inputs.split(",")
    if len(names) != len(items):
        raise _error(f"{len(names)} terms for {len(items)} operands")
    terms = [_parse_term(t, x) for t, x in zip(names, items, strict=True)]
    wanted = _output_axes(output if arrow else None, terms)
    for i, (x, axes) in enumerate(zip(items, terms, strict=True)):
        items[i], terms[i] = _unique_axes(x, axes)
    sizes = _sizes(items, terms)
    result, axes = items[0], terms[0]
    for i in range(1, len(items)):
        needed = set(wanted).union(*terms[i + 1 :])
        result, axes = _contract(result, axes, items[i], terms[i], needed, sizes)
    result, axes = _drop(result, axes, set(wanted))
    return permute(result, *(axes.index(a) for a in wanted)) if wanted else result


FUNCTIONS["einsum"] = einsum
