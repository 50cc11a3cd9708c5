"""``tracejit.profiler``: torch's marks in profiles, as marks that record nothing.

Invariant: one class here and in ``tracejit.autograd.profiler``.
"""

from tracejit.autograd.profiler import record_function

__all__ = ["record_function"]
