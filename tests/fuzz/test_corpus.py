"""Programs that once gave another result compiled than plain, and a few fresh random ones.

Each file of ``corpus/`` is a program: a function ``f`` and a generator ``run(f)`` whose values must
be the same with the compiled function. Invariant: what the fuzzer found stays found.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tracejit.testing.agree import check
from tracejit.testing.generate import generate

CORPUS = sorted(Path(__file__).with_name("corpus").glob("*.py"))
FRESH = range(52_000, 52_024)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_corpus(path: Path) -> None:
    failure = check(path.read_text()).failure
    assert failure is None, f"{failure.kind}: {failure.text}"


@pytest.mark.parametrize("seed", FRESH)
def test_random_program(seed: int) -> None:
    program = generate(seed)
    failure = check(program.source()).failure
    assert failure is None, f"{failure.kind}: {failure.text}\n{program.source()}"
