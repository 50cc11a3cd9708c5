"""``tracejit.signal``: window functions."""

from tracejit.signal import windows

__all__ = ["windows"]
