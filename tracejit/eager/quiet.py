"""`quiet`: a NumPy call without floating-point warnings, at little cost.

Invariant: NumPy's error state is as it was when the call has ended, however it ended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

try:  # what np.errstate sets, without the cost of making one for every op
    from numpy._core.umath import _extobj_contextvar, _make_extobj

    _QUIET = _make_extobj(all="ignore")

    def quiet(function: Callable[..., Any], *arrays: Any, **params: Any) -> Any:
        """``function(*arrays, **params)`` without NumPy's floating-point warnings."""
        token = _extobj_contextvar.set(_QUIET)
        try:
            return function(*arrays, **params)
        finally:
            _extobj_contextvar.reset(token)

except ImportError:

    def quiet(function: Callable[..., Any], *arrays: Any, **params: Any) -> Any:
        """``function(*arrays, **params)`` without NumPy's floating-point warnings."""
        with np.errstate(all="ignore"):
            return function(*arrays, **params)
