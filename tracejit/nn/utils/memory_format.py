"""``nn.utils.convert_conv2d_weight_memory_format`` and its 3-d form.

Invariant: tensors are stored row by row here whatever format is named, so modules stay as they are.
"""

from __future__ import annotations

from typing import Any, TypeVar

M = TypeVar("M")


def convert_conv2d_weight_memory_format(module: M, memory_format: Any) -> M:
    """`module` itself: a memory format changes no value, and there is one."""
    return module


convert_conv3d_weight_memory_format = convert_conv2d_weight_memory_format
