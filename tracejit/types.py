"""``tracejit.types``: torch's names for the types of arguments.

Invariant: only names for annotations and ``isinstance``.
"""

from __future__ import annotations

import os
from typing import Any

import tracejit
from tracejit.dtypes import DType
from tracejit.ir.types import Device as _Device

__all__ = ["Device", "FileLike", "Number", "Storage"]

Number = (int, float, bool)
Device = _Device | str | int | None
FileLike = str | os.PathLike[str] | Any
Storage = Any
_dtype = DType
_device = _Device
_size = tracejit.Size | list[int] | tuple[int, ...]
_int, _float, _bool = int, float, bool
