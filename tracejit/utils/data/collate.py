"""From a list of items to one batch.

Invariant: the structure of an item (dicts, tuples, named tuples, lists) is the batch's structure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tracejit import dtypes
from tracejit.eager.factories import as_tensor, from_numpy, tensor
from tracejit.eager.joining import stack
from tracejit.errors import at_user_line
from tracejit.tensor import Tensor


def default_collate(batch: Sequence[Any]) -> Any:
    """Tensors stacked, numbers as a tensor, strings as they are, containers item by item.

    Python floats become float64 and ints int64, as in torch.
    """
    first = batch[0]
    if isinstance(first, Tensor):
        return stack(list(batch))
    if isinstance(first, np.ndarray):
        return stack([as_tensor(x) for x in batch])
    if isinstance(first, np.generic):
        return from_numpy(np.array(batch))
    if isinstance(first, float):
        return tensor(list(batch), dtype=dtypes.float64)
    if isinstance(first, int):
        return tensor(list(batch))
    if isinstance(first, (str, bytes)):
        return list(batch)
    if isinstance(first, Mapping):
        return {key: default_collate([item[key] for item in batch]) for key in first}
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(default_collate(column) for column in _columns(batch)))
    if isinstance(first, tuple):
        return [default_collate(column) for column in _columns(batch)]
    if isinstance(first, Sequence):
        return [default_collate(column) for column in _columns(batch)]
    raise TypeError(
        at_user_line(
            "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or "
            f"lists; found {type(first)}"
        )
    )


def _columns(batch: Sequence[Any]) -> list[tuple[Any, ...]]:
    if len({len(item) for item in batch}) != 1:
        raise RuntimeError(at_user_line("each element in list of batch should be of equal size"))
    return list(zip(*batch, strict=True))


def default_convert(data: Any) -> Any:
    """NumPy arrays (also inside containers) as tensors, everything else as it is."""
    if isinstance(data, np.ndarray) and data.dtype.kind in "fiub":
        return as_tensor(data)
    if isinstance(data, np.generic) and data.dtype.kind in "fiub":
        return as_tensor(np.array(data))
    if isinstance(data, Mapping):
        return {key: default_convert(value) for key, value in data.items()}
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*map(default_convert, data))
    if isinstance(data, (list, tuple)):
        return [default_convert(item) for item in data]
    return data


def pinned(batch: Any, device: Any = None) -> Any:
    """A batch with its tensors, also inside containers, in page-locked memory.

    An object with a method `pin_memory` of its own is asked for it.
    """
    if isinstance(batch, Tensor):
        return batch.pin_memory(device)
    if isinstance(batch, (str, bytes)):
        return batch
    if isinstance(batch, Mapping):
        return {key: pinned(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(pinned(item, device) for item in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(pinned(item, device) for item in batch)
    return batch.pin_memory() if hasattr(batch, "pin_memory") else batch
