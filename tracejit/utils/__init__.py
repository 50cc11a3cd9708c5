"""``tracejit.utils``: data loading, checkpointing, and running programs written for torch."""

from tracejit.utils import alias, checkpoint, data

__all__ = ["alias", "checkpoint", "data"]
