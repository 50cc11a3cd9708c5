"""Tools to test code built on tracejit, and tracejit itself; our own tests use nothing else.

Invariant: names here are public.
"""

from __future__ import annotations

from tracejit.jit.observe import Near, Observer, Tolerance, compare_logs, difference
from tracejit.testing.assert_close import assert_allclose, assert_close
from tracejit.testing.check_op import all_cases, check_op, on_device
from tracejit.testing.make_tensor import make_tensor
from tracejit.testing.samples import FUNCTIONS, NOT_FUNCTIONS, cases
