"""Makes a failing program small: takes out calls, statements, results, state while it fails.

Invariant: the small program fails in the same way (`kind`) as the one given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from tracejit.testing.agree import check
from tracejit.testing.programs import Program

MAX_TRIALS = 400


def minimize(
    program: Program, kind: str, fails: Callable[[Program], str | None] | None = None
) -> Program:
    """The smallest program found whose failure is of `kind`; `fails` gives a program's kind."""
    ask = fails or failure_kind
    trials = 0
    progress = True
    while progress and trials < MAX_TRIALS:
        progress = False
        for candidate in _smaller(program):
            trials += 1
            if trials >= MAX_TRIALS:
                break
            if ask(candidate) == kind:
                program, progress = candidate, True
                break
    return program


def failure_kind(program: Program) -> str | None:
    """How a program fails, or None; one that cannot be loaded (a part is missing) does not."""
    try:
        failure = check(program.source()).failure
    except (SyntaxError, NameError, AttributeError):
        return None
    if failure is None or "NameError" in failure.kind or "UnboundLocalError" in failure.kind:
        return None
    return failure.kind


def _smaller(program: Program) -> Iterator[Program]:
    """Programs with one part less, the most promising first."""
    for position in reversed(range(len(program.calls))):
        if len(program.calls) > 1:
            yield program.without("calls", position)
    if len(program.body) > 3:
        half = len(program.body) // 2
        yield replace(program, body=program.body[half:])
        yield replace(program, body=program.body[:half])
    for position in reversed(range(len(program.body))):
        yield program.without("body", position)
    for position in range(len(program.outputs)):
        if len(program.outputs) > 1:
            yield program.without("outputs", position)
    for position in range(len(program.state)):
        yield program.without("state", position)
    yield from _simpler_lines(program)


def _simpler_lines(program: Program) -> Iterator[Program]:
    """Calls with fewer lines, plainer tensors and fewer things looked at."""
    for i, block in enumerate(program.calls):
        lines = block.splitlines()
        for j in range(len(lines)):
            shorter = "\n".join(lines[:j] + lines[j + 1 :])
            if "attempt(f" in shorter:
                yield _with_call(program, i, shorter)
        for pattern, plain in (
            (r', "[tsfeo]"', ', "c"'), (r', "c"\)', ")"), (r', "c", True\)', ")"),
            (r"with torch\.\w+\(\):\n    ", ""), (r"k=", ""), (r"yield y, .*", "yield y"),
        ):  # fmt: skip
            simpler = re.sub(pattern, plain, block)
            if simpler != block:
                yield _with_call(program, i, simpler)


def _with_call(program: Program, position: int, block: str) -> Program:
    calls = list(program.calls)
    calls[position] = block
    return replace(program, calls=tuple(calls))
