"""Datasets: what has items to load.

Invariant: a map-style dataset is indexed by integers below its length; an iterable one is iterated.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Generic, TypeVar

from tracejit.errors import at_user_line
from tracejit.random import Generator, randperm
from tracejit.tensor import Tensor

T = TypeVar("T", covariant=True)


class Dataset(Generic[T]):
    """A dataset with ``__getitem__`` (and usually ``__len__``), both defined by a subclass."""

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError(at_user_line(f"{type(self).__name__} defines no __getitem__()"))

    def __add__(self, other: Dataset[Any]) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T]):
    """A dataset that is iterated; a subclass defines ``__iter__``."""

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(at_user_line(f"{type(self).__name__} defines no __iter__()"))

    def __add__(self, other: Any) -> ChainDataset:  # type: ignore[override]
        return ChainDataset([self, other])


class TensorDataset(Dataset[Any]):
    """Tuples of the rows of tensors that share their first size."""

    def __init__(self, *tensors: Tensor) -> None:
        if not tensors:
            raise ValueError(at_user_line("TensorDataset needs at least one tensor"))
        sizes = {int(t._array.shape[0]) for t in tensors}
        if len(sizes) != 1:
            raise AssertionError(at_user_line(f"size mismatch between tensors: {sorted(sizes)}"))
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Any, ...]:
        tensors: Any = self.tensors
        return tuple(t[index] for t in tensors)

    def __len__(self) -> int:
        return int(self.tensors[0]._array.shape[0])


class StackDataset(Dataset[Any]):
    """Tuples (or dicts, from keywords) of the items of several datasets."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if bool(args) == bool(kwargs):
            raise ValueError(
                at_user_line("StackDataset takes either positional or keyword datasets")
            )
        self.datasets: Any = args if args else kwargs
        lengths = {len(d) for d in (args if args else kwargs.values())}
        if len(lengths) != 1:
            raise ValueError(at_user_line("size mismatch between datasets"))
        (self._length,) = lengths

    def __getitem__(self, index: int) -> Any:
        if isinstance(self.datasets, dict):
            return {name: d[index] for name, d in self.datasets.items()}
        return tuple(d[index] for d in self.datasets)

    def __len__(self) -> int:
        return self._length


class ConcatDataset(Dataset[Any]):
    """Datasets one after the other."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise AssertionError(at_user_line("datasets should not be an empty iterable"))
        if any(isinstance(d, IterableDataset) for d in self.datasets):
            raise AssertionError(at_user_line("ConcatDataset does not support IterableDataset"))
        self.cumulative_sizes = list(accumulate(len(d) for d in self.datasets))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> Any:
        total = len(self)
        if not -total <= index < total:
            raise IndexError(at_user_line(f"index {index} is out of range for {total} items"))
        at = index % total
        which = bisect.bisect_right(self.cumulative_sizes, at)
        before = self.cumulative_sizes[which - 1] if which else 0
        return self.datasets[which][at - before]


class ChainDataset(IterableDataset[Any]):
    """Iterable datasets one after the other."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)

    def __iter__(self) -> Iterator[Any]:
        for dataset in self.datasets:
            yield from dataset

    def __len__(self) -> int:
        return sum(len(d) for d in self.datasets)


class Subset(Dataset[Any]):
    """The items of a dataset at `indices`."""

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)


def random_split(
    dataset: Any, lengths: Sequence[int | float], generator: Generator | None = None
) -> list[Subset]:
    """Split at random into parts of the given lengths, or of the given fractions (summing to 1).

    Items left over by rounding fractions go to the parts in turn.
    """
    total = len(dataset)
    sizes = [int(n) for n in lengths]
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        if any(not 0 <= f <= 1 for f in lengths):
            raise ValueError(at_user_line("a fraction must be between 0 and 1"))
        sizes = [math.floor(total * f) for f in lengths]
        for i in range(total - sum(sizes)):
            sizes[i % len(sizes)] += 1
    if sum(sizes) != total:
        raise ValueError(
            at_user_line("sum of input lengths does not equal the length of the input dataset")
        )
    order = randperm(total, generator=generator).tolist()
    ends = list(accumulate(sizes))
    return [Subset(dataset, order[end - n : end]) for n, end in zip(sizes, ends, strict=True)]
