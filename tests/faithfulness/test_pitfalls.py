"""The table of pitfalls names tests that exist, and docs/faithfulness.md lists what is tested.

Invariant: cheap; nothing is run but imports.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from pitfalls import CLAUSES, Clause, named_by

from bench.faithfulness import PAGE, cell, page, scenarios_by_file

TESTS = Path(__file__).parent.parent


@pytest.mark.parametrize("clause", [c for group in CLAUSES.values() for c in group],
                         ids=lambda c: c.text)  # fmt: skip
def test_clause_has_its_tests(clause: Clause) -> None:
    """Each clause of the list names at least one test, and all that it names exist."""
    named = named_by(clause)
    assert named
    for file, name in named:
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        assert name in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, (file, name)


def test_page_is_up_to_date() -> None:
    """docs/faithfulness.md is what ``python -m bench.faithfulness --write`` would write."""
    is_same = PAGE.read_text(encoding="utf-8") == page()
    assert is_same, "scenarios have changed: run python -m bench.faithfulness --write"


def test_every_scenario_is_in_the_page() -> None:
    """No row is lost on the way from the declarations to the table."""
    text = PAGE.read_text(encoding="utf-8")
    for rows in scenarios_by_file().values():
        for row in rows:
            assert cell(row.title) in text
