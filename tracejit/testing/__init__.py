"""Tools to test code built on tracejit, and tracejit itself; our own tests use nothing else.

Invariant: names here are public.
"""

from __future__ import annotations

from tracejit.testing.observe import Near, Observer, Tolerance, compare_logs, difference
