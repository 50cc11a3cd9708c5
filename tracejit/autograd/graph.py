"""``tracejit.autograd.graph``: torch's ways to say where values wait for the backward pass.

Invariant: results do not depend on it.
"""

from __future__ import annotations

from contextlib import nullcontext

__all__ = ["save_on_cpu"]


class save_on_cpu(nullcontext[None]):
    """A block whose saved values torch would move to the CPU; they stay where they are."""

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda"):
        super().__init__()
