"""``tracejit.utils.hooks``: the handle that registering a hook returns.

Invariant: the class is the one that tensors and modules give.
"""

from tracejit.eager.methods import RemovableHandle

__all__ = ["RemovableHandle"]
