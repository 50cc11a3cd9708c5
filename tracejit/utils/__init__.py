"""``tracejit.utils``: data loading, and small helpers."""

from tracejit.utils import data

__all__ = ["data"]
