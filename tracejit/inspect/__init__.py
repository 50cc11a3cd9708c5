"""Ways to look inside: `compare` eager with compiled, `record` eager code, kernel `history`."""

from __future__ import annotations

from tracejit.inspect.compare import Comparison, compare
from tracejit.inspect.history import History, history
from tracejit.inspect.record import Recording, record

__all__ = ["Comparison", "History", "Recording", "compare", "history", "record"]
