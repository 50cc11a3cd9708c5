"""``tracejit.linalg``: matrix factorisations, solvers, norms, with torch's names.

Invariant: this file holds public names only; the functions are in `eager.decompositions` and
`eager.matrix_functions`.
"""

from __future__ import annotations

from tracejit.eager.decompositions import LINALG as _LINALG
from tracejit.eager.linalg import matmul
from tracejit.errors import LinAlgError

globals().update(_LINALG)
__all__ = ["LinAlgError", "matmul", *_LINALG]
