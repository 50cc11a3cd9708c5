"""The lane of a real GPU: ``pytest -m gpu``. Elsewhere every test here is skipped with the reason.

Invariant: no test of this folder counts as passed where no GPU ran it.
"""

from __future__ import annotations

import pytest

from tracejit import cuda


def why_not() -> str | None:
    """Why no GPU can be used, or None."""
    if cuda.is_available():
        return None
    return "no NVIDIA GPU, driver or CuPy here (see docs/cuda.md)"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = why_not()
    for item in items:
        if "tests/gpu/" in item.path.as_posix():
            item.add_marker(pytest.mark.gpu)
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason=reason))
