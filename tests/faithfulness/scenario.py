"""A scenario: a program that runs twice, plain and compiled, and must show the same both times.

The program is a generator that takes `compile` and yields whatever a user could look at. Invariant:
the declared way of following Python (`does`) and the number of traces are checked by running, so
the table in docs/faithfulness.md, which is written from the declarations, cannot be wrong.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import tracejit as torch
from tracejit.errors import TraceWarning
from tracejit.testing import Near, Observer, Tolerance, compare_logs

Program = Callable[[Callable[..., Any]], Iterator[Any]]
WAYS = ("input", "guard", "branch", "eager")


class Scenario:
    """One row of the table."""

    def __init__(self, title: str, gives: str, does: str, traces: int, lost: int, program: Program):
        self.title = title
        self.gives = gives
        self.does = does
        self.traces = traces
        self.lost = lost
        self.code = program.__code__
        self.file = os.path.basename(self.code.co_filename)


SCENARIOS: list[Scenario] = []


def scenario(
    title: str, gives: str, does: str, traces: int | tuple[int, int], *, ulps: float = 0.0,
    atol: float = 0.0, strides: bool = False, lost: int = 0, fails: str = "",
) -> Callable[[Program], Callable[[], None]]:  # fmt: skip
    """Make a test of a program.

    title, gives  for the table: what changes, and what eager answers.
    does          how compiled follows: 'input', 'guard', 'branch' or 'eager'.
    traces        captures in all, the first one included; or (captures, lost).
    lost          captures among them that could not be kept (the call was answered eagerly).
    ulps, atol    how far floats may be apart; 0 means the same bits.
    strides       whether results must have eager's order in memory too.
    fails         the reason of a known fault; the test must then fail.
    """
    assert does in WAYS
    captures, lost = traces if isinstance(traces, tuple) else (traces, lost)

    def decorate(program: Program) -> Callable[[], None]:
        row = Scenario(title, gives, does, captures, lost, program)
        SCENARIOS.append(row)

        def test() -> None:
            check(program, row, Tolerance(ulps, atol), strides)

        test.__name__ = program.__name__
        test.__doc__ = title
        test.__module__ = program.__module__
        return pytest.mark.xfail(strict=True, reason=fails)(test) if fails else test

    return decorate


def check(program: Program, row: Scenario, tolerance: Tolerance, strides: bool) -> None:
    """Run plain and compiled; compare all that was seen, then how it was done."""
    plain, _ = observe(program, lambda function, **options: function, strides)
    made: list[Any] = []

    def compile(function: Any, **options: Any) -> Any:
        compiled = torch.compile(function, **options)
        made.append(getattr(compiled, "__func__", compiled))
        return compiled

    compiled, caught = observe(program, compile, strides)
    assert not plain.problems, f"eager is wrong: {plain.problems}"
    assert not compiled.problems, f"compiled is wrong: {compiled.problems}"
    found = compare_logs(plain.log, compiled.log, tolerance)
    assert found is None, f"eager against compiled: {found}"
    verify_way(row, made, [str(w.message) for w in caught if w.category is TraceWarning])


def observe(program: Program, compile: Any, strides: bool) -> tuple[Observer, Any]:
    """One run of the program."""
    torch.manual_seed(1234)
    observer = Observer(strides)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for value in program(compile):
            observer.see(value)
    observer.see((torch.default_generator.key, torch.default_generator.offset))
    observer.finish()
    return observer, caught


def verify_way(row: Scenario, made: list[Any], warned: list[str]) -> None:
    """Whether the compiled functions did what the row says."""
    reasons = [c.eager_reason for c in made if c.eager_reason is not None]
    story = [m.reason for c in made for m in c.misses]
    captures = sum(c.captures for c in made)
    leaves = [g.tree.leaves for c in made for s in c.signatures.values() for g in s.groups]
    lost = sum("not kept" in reason for reason in story)
    branched = any(n > 1 for n in leaves)
    if os.environ.get("TRACEJIT_ACCEPT"):
        does = "eager" if reasons else "branch" if branched else row.does
        if does in ("branch", "eager") and not (reasons or branched):
            does = "guard" if captures > 2 else "input"
        if (captures, lost, does) != (row.traces, row.lost, row.does):
            accept(row, does, captures, lost)
            return
    if row.does == "eager":
        assert reasons, f"expected to run eagerly, but: {captures} captures, {story}"
        assert len(warned) == len(reasons), warned
        assert all(".py:" in w for w in warned), f"no line named: {warned}"
    else:
        assert not reasons and not warned, f"runs eagerly: {reasons or warned}"
        assert lost == row.lost, f"captures not kept: {story}"
        assert branched == (row.does == "branch"), f"{leaves} paths: {story}"
    assert captures == row.traces, f"{captures} captures instead of {row.traces}: {story}"


def accept(row: Scenario, does: str, captures: int, lost: int) -> None:
    """Write the counts of a run into the declaration (TRACEJIT_ACCEPT=1)."""
    with open(row.code.co_filename) as file:
        lines = file.readlines()
    first = next((i for i, line in enumerate(lines) if f'"{row.title}"' in line),
                 row.code.co_firstlineno - 1)  # fmt: skip
    last = min(first + 6, len(lines))
    text = "".join(lines[first:last])
    is_call = not lines[first].startswith("@")  # of a helper, which takes the counts together
    counts = f"({captures}, {lost})" if is_call and lost and does != "eager" else f"{captures}"
    text = re.sub(rf'"{row.does}",\s*(\(\d+, \d+\)|\d+)', f'"{does}", {counts}', text, count=1)
    text = re.sub(r",\s*lost=\d+", "", text)
    if lost and does != "eager" and not is_call:
        text = re.sub(rf'("{does}",\s*\d+)', rf"\1, lost={lost}", text, count=1)
    lines[first:last] = text.splitlines(keepends=True)
    with open(row.code.co_filename, "w") as file:
        file.writelines(lines)


# --- what programs use ---------------------------------------------------------------------------


def near(value: Any, wanted: Any, rtol: float = 1e-5, atol: float = 1e-6) -> Near:
    """A value to log that must also be near an independent reference."""
    return Near(value, wanted, rtol, atol)


def error(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a call raises: the type, the message, the last line of the user's in the traceback."""
    try:
        value = function(*args, **kwargs)
    except Exception as caught:
        user = [f for f in traceback.extract_tb(caught.__traceback__)
                if "/tests/faithfulness/" in f.filename and not f.filename.endswith("scenario.py"
            )]  # fmt: skip
        return ("raised", type(caught).__name__, str(caught), user[-1].lineno if user else None)
    return ("returned", value)


def printed(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A call's result and what it printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        value = function(*args, **kwargs)
    return (value, out.getvalue())


def module(source: str, name: str = "user_module") -> types.ModuleType:
    """A module made from source, with its lines known to tracebacks."""
    import linecache

    made = types.ModuleType(name)
    made.__dict__["torch"] = torch
    filename = f"/tests/faithfulness/{name}_{abs(hash(source)) % 10**8}.py"
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    made.__file__ = filename
    exec(compile(source, filename, "exec"), made.__dict__)
    return made


def arange(*shape: int, dtype: Any = None, start: float = 0.0) -> Any:
    """Consecutive numbers in a shape."""
    count = 1
    for n in shape:
        count *= n
    kind = torch.float32 if dtype is None else dtype
    return (torch.arange(count, dtype=torch.float64) * 0.25 + start).to(kind).reshape(shape)
