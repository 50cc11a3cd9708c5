"""``tracejit.ao``: the place of torch's quantization, which does not exist here.

Invariant: its names can be imported, as packages do at their start, and none can be used.
"""

from tracejit.ao import quantization

__all__ = ["quantization"]
