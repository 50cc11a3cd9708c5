"""Sequences of different lengths: padded, and packed without padding.

Invariant: packed data is ordered by time step, then by falling length; `batch_sizes[t]` sequences
are longer than t.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tracejit import dtypes
from tracejit.eager.factories import arange, as_tensor, from_numpy, full
from tracejit.eager.joining import cat, stack
from tracejit.errors import at_user_line
from tracejit.tensor import Tensor


class PackedSequence(NamedTuple):
    """Several sequences without padding: data, batch sizes, and the order they were sorted in."""

    data: Any
    batch_sizes: Any = None
    sorted_indices: Any = None
    unsorted_indices: Any = None

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The data converted or moved."""
        return self._replace(data=self.data.to(*args, **kwargs))

    @property
    def is_cuda(self) -> bool:
        return bool(self.data.is_cuda)

    def is_pinned(self) -> bool:
        """Whether the data lies in page-locked memory."""
        return bool(self.data.is_pinned())

    def pin_memory(self) -> PackedSequence:
        """The data in page-locked memory."""
        return self._replace(data=self.data.pin_memory())

    def double(self) -> PackedSequence:
        """The data in float64."""
        return self.to(dtypes.float64)

    def float(self) -> PackedSequence:
        """The data in float32."""
        return self.to(dtypes.float32)

    def half(self) -> PackedSequence:
        """The data in float16."""
        return self.to(dtypes.float16)

    def long(self) -> PackedSequence:
        """The data in int64."""
        return self.to(dtypes.int64)

    def cpu(self) -> PackedSequence:
        """The data on the CPU."""
        return self.to("cpu")

    def cuda(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The data on a GPU."""
        return self._replace(data=self.data.cuda(*args, **kwargs))


def _lengths(batch_sizes: Any) -> list[int]:
    """The length of each (sorted) sequence."""
    sizes = np.asarray(batch_sizes.tolist())
    return [int((sizes > i).sum()) for i in range(int(sizes[0]) if len(sizes) else 0)]


def invert_permutation(permutation: Any) -> Any:
    """The permutation that undoes `permutation` (None stays None)."""
    return None if permutation is None else permutation.argsort()


def _flat_places(lengths: Sequence[int], batch: int) -> tuple[Any, list[int]]:
    """Where in [T * N] each packed element lies, and the batch size of each step."""
    steps = max(lengths, default=0)
    sizes = [sum(n > t for n in lengths) for t in range(steps)]
    rows = [t * batch + np.arange(s) for t, s in enumerate(sizes)]
    places = np.concatenate(rows or [np.arange(0)])
    return from_numpy(places.astype(np.int64)), sizes


def pack_padded_sequence(
    input: Any, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Pack [T, N, *] (or [N, T, *]); `enforce_sorted` wants falling lengths."""
    counts = [int(n) for n in (lengths.tolist() if isinstance(lengths, Tensor) else lengths)]
    if any(n <= 0 for n in counts):
        raise RuntimeError(at_user_line("length of all samples has to be greater than 0"))
    x = input.transpose(0, 1) if batch_first else input
    if len(counts) != x.shape[1]:
        raise RuntimeError(at_user_line(f"expected {x.shape[1]} lengths, got {len(counts)}"))
    order = None
    if enforce_sorted:
        if any(a < b for a, b in zip(counts, counts[1:])):
            raise RuntimeError(
                at_user_line(
                    "lengths must be sorted in decreasing order when enforce_sorted is "
                    "True; pass enforce_sorted=False"
                )
            )
    else:
        ranks = sorted(range(len(counts)), key=lambda i: -counts[i])
        order = as_tensor(np.asarray(ranks, np.int64))
        counts = [counts[i] for i in ranks]
        x = x.index_select(1, order)
    places, sizes = _flat_places(counts, len(counts))
    data = x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]).index_select(0, places)
    batch_sizes = from_numpy(np.asarray(sizes, np.int64))
    return PackedSequence(data, batch_sizes, order, invert_permutation(order))


def pad_to_lengths(packed: PackedSequence) -> tuple[Any, list[int], Any]:
    """[T, N, *] in sorted order with zeros, the lengths, and a mask [T, N, 1] of real elements."""
    lengths = _lengths(packed.batch_sizes)
    places, sizes = _flat_places(lengths, len(lengths))
    rest = packed.data.shape[1:]
    flat = packed.data.new_zeros(len(sizes) * len(lengths), *rest).index_add(0, places, packed.data)
    steps: Any = arange(len(sizes))
    valid = steps.unsqueeze(1) < from_numpy(np.asarray(lengths, np.int64)).unsqueeze(0)
    return flat.reshape(len(sizes), len(lengths), *rest), lengths, valid.unsqueeze(-1)


def pack_by_lengths(padded: Any, like: PackedSequence) -> PackedSequence:
    """[T, N, *] in sorted order packed as `like` is."""
    lengths = _lengths(like.batch_sizes)
    places, _ = _flat_places(lengths, len(lengths))
    flat = padded.reshape(padded.shape[0] * padded.shape[1], *padded.shape[2:])
    return like._replace(data=flat.index_select(0, places))


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The inverse of `pack_padded_sequence`: ([T, N, *], lengths)."""
    x, counts, valid = pad_to_lengths(sequence)
    if total_length is not None:
        missing = total_length - len(x)
        if missing < 0:
            raise ValueError(
                at_user_line(
                    "expected total_length to be at least the length of the longest "
                    f"sequence, but got {total_length}"
                )
            )
        x = cat([x, x.new_zeros(missing, *x.shape[1:])])
        valid = cat([valid, valid.new_zeros(missing, *valid.shape[1:])])
    if padding_value != 0.0:
        keep = valid.reshape(*valid.shape[:2], *(1,) * (x.ndim - 2))
        x = x.masked_fill(~keep, padding_value)
    lengths: Any = from_numpy(np.asarray(counts, np.int64))
    if sequence.unsorted_indices is not None:
        x = x.index_select(1, sequence.unsorted_indices)
        lengths = lengths.index_select(0, sequence.unsorted_indices)
    return (x.transpose(0, 1) if batch_first else x), lengths


def pad_sequence(
    sequences: Sequence[Any], batch_first: bool = False, padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:  # fmt: skip
    """Sequences [T_i, *] as one tensor [T, N, *] (or [N, T, *])."""
    if padding_side not in ("left", "right"):
        raise ValueError(at_user_line(f"padding_side must be left or right, not {padding_side!r}"))
    items = list(sequences)
    longest = max(int(s.shape[0]) for s in items)
    rows = []
    for s in items:
        fill = full((longest - int(s.shape[0]), *s.shape[1:]), padding_value, dtype=s.dtype)
        rows.append(cat([s, fill] if padding_side == "right" else [fill, s]))
    return stack(rows, 0 if batch_first else 1)


def unpad_sequence(padded_sequences: Any, lengths: Any, batch_first: bool = False) -> list[Tensor]:
    """The sequences of a padded tensor, each of its own length."""
    x = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [row[: int(n)] for row, n in zip(x, lengths.tolist(), strict=True)]


def pack_sequence(sequences: Sequence[Any], enforce_sorted: bool = True) -> PackedSequence:
    """Pack sequences [T_i, *]."""
    lengths = [int(s.shape[0]) for s in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences of a `PackedSequence`."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)


__all__ = [
    "PackedSequence", "invert_permutation", "pack_padded_sequence", "pack_sequence",
    "pad_packed_sequence", "pad_sequence", "unpack_sequence", "unpad_sequence",
]  # fmt: skip
