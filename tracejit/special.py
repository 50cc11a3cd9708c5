"""``tracejit.special``: special functions, with torch's names.

Invariant: this file holds public names only; the functions are in `eager.special`.
"""

from __future__ import annotations

from tracejit.eager.special import SPECIAL as _SPECIAL

globals().update(_SPECIAL)
__all__ = [*_SPECIAL]
