"""``tracejit.utils.data.dataloader``: torch's file name of the loader.

Invariant: the names are those of ``tracejit.utils.data``.
"""

from tracejit.utils.data.collate import default_collate
from tracejit.utils.data.loader import DataLoader
from tracejit.utils.data.worker import get_worker_info

__all__ = ["DataLoader", "default_collate", "get_worker_info"]
