"""``tracejit.multiprocessing``: Python's own module under torch's name.

Invariant: tensors are sent by copy; there is no shared memory, so no strategy to choose.
"""

import multiprocessing as _multiprocessing
from multiprocessing import *  # noqa: F403

__all__ = list(_multiprocessing.__all__)
