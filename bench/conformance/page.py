"""docs/conformance.md: the tables as a page.

Invariant: the page holds only what the command measured, and how to measure it again.
"""

from __future__ import annotations

from bench.conformance.report import Report, table

HEADER = """# Conformance with torch

Written by `python -m bench.torch_conformance --write docs/conformance.md`; do not edit by hand.
"""


def write_page(path: str, report: Report) -> None:
    """Write the tables, then the names that do not agree wholly."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{HEADER}\n{table(report.rows())}\n")
