"""The public table of scenarios: what changes, what eager gives, what compiled does.

    python -m bench.faithfulness            # print the page
    python -m bench.faithfulness --write    # write docs/faithfulness.md
    python -m pytest tests/faithfulness     # run what the rows declare

Invariant: rows come from the declarations in tests/faithfulness, which the tests check by running.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "tests" / "faithfulness"
PAGE = ROOT / "docs" / "faithfulness.md"

_WAYS = {
    "input": "read afresh at every call; nothing is traced again",
    "guard": "a guard: another state is traced, and both traces are kept",
    "branch": "a branch of the trace tree: another outcome is traced once",
    "eager": "runs eagerly, with one warning that names the line",
}
_INTRODUCTION = """# Compiled equals eager: the scenarios

Each row is a program of several calls. It runs plain and under `@compile`, and everything a user
could look at is compared call by call: results and their dtypes, `.grad`s, arguments written to,
errors and the lines they name, what was printed, the state of the generator. Pointwise results must
have the same bits.

*compiled* says how a compiled function follows what changes:

{ways}

*traces* counts the captures of the whole program, the first included; a number in brackets is
how many of them were answered eagerly and could not be kept.

This page is written by `python -m bench.faithfulness --write` from the declarations in
`tests/faithfulness`, which `python -m pytest tests/faithfulness` checks by running.
"""


def scenarios_by_file() -> dict[str, list[Any]]:
    """The declared scenarios by the title (first words of the docstring) of their file."""
    if str(TESTS) not in sys.path:
        sys.path.insert(0, str(TESTS))
    found: dict[str, list[Any]] = {}
    for path in sorted(TESTS.glob("test_*.py")):
        if path.name == "test_pitfalls.py":  # imports this file
            continue
        module = importlib.import_module(path.stem)
        rows = [s for s in importlib.import_module("scenario").SCENARIOS if s.file == path.name]
        if rows:
            title = str(module.__doc__).partition("\n")[0].rstrip(".")
            found[title] = list({(row.code, row.title): row for row in rows}.values())
    return found


def page() -> str:
    """The whole page as Markdown."""
    groups = scenarios_by_file()
    ways = "\n".join(f"- **{name}**: {text}." for name, text in _WAYS.items())
    rows = [row for group in groups.values() for row in group]
    counts = Counter(row.does for row in rows)
    total = ", ".join(f"{counts[way]} {way}" for way in _WAYS)
    parts = [_INTRODUCTION.format(ways=ways), f"{len(rows)} scenarios: {total}.\n"]
    for title, group in groups.items():
        header = ["what changes, or is done", "eager gives", "compiled", "traces"]
        parts.append(f"## {title}\n\n" + _table(header, [_row(r) for r in group]))
    parts.append(_pitfalls())
    return "\n".join(parts)


def _row(row: Any) -> list[str]:
    traces = f"{row.traces} ({row.lost})" if row.lost else str(row.traces)
    return [row.title, row.gives, row.does, traces]


def _pitfalls() -> str:
    """Clause by clause, where the tests are."""
    listed = importlib.import_module("pitfalls")
    parts = [
        "## Pitfalls of other systems, and the tests\n\nThe numbers are those of public issues"
        " (pt pytorch, jax, tg tinygrad, nb numba, lt lightning-thunder, mlx, tvm).\n"
    ]
    for title, clauses in listed.CLAUSES.items():
        rows = []
        for clause in clauses:
            names = ", ".join(f"`{name}`" for _, name in listed.named_by(clause))
            rows.append([clause.text, clause.met, names])
        parts.append(f"### {title}\n\n" + _table(["must hold", "met in", "tests"], rows))
    return "\n".join(parts)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(
        "| " + " | ".join(text if text.startswith("`") else cell(text) for text in line) + " |\n"
        for line in lines
    )


def cell(text: str) -> str:
    """A cell of a table: what Markdown would take for its own is escaped."""
    for mark in ("|", "*", "__"):
        text = text.replace(mark, "".join("\\" + letter for letter in mark))
    return text


def main() -> int:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(prog="python -m bench.faithfulness", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    if parser.parse_args().write:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        print(page())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
