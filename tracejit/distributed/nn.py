"""``tracejit.distributed.nn``: communication that has gradients; there is nobody to talk to.

Invariant: everything here raises RuntimeError.
"""

from tracejit.distributed import all_gather, all_reduce, broadcast

__all__ = ["all_gather", "all_reduce", "broadcast"]
