"""What tests of native programs share.

Invariant: a fixture leaves the number of threads as it was.
"""

from __future__ import annotations

from typing import Any

import pytest

from tracejit.runtime.threads import get_num_threads, set_num_threads


@pytest.fixture(params=[1, 2, 4])
def each_number_of_threads(request: Any) -> Any:
    """The test runs with one, two and four threads."""
    before = get_num_threads()
    set_num_threads(request.param)
    yield
    set_num_threads(before)
