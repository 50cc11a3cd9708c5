"""What runs in a loader's worker process.

Invariant: every request gets exactly one answer, a batch, an error or the end of the worker's
stream; batches travel as NumPy arrays.
"""

from __future__ import annotations

import os
import queue
import random as python_random
import traceback
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracejit.random import manual_seed
from tracejit.utils.data.dataset import IterableDataset


@dataclass(frozen=True)
class WorkerInfo:
    """What `get_worker_info` tells: this worker's number, their count, its seed, its dataset."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


@dataclass(frozen=True)
class Failure:
    """An exception of a worker, as text and (if it could be named) by class."""

    kind: type[BaseException]
    text: str

    def reraise(self, worker: int) -> None:
        """Raise it in the main process."""
        message = f"Caught {self.kind.__name__} in DataLoader worker process {worker}.\n{self.text}"
        try:
            error = self.kind(message)
        except TypeError:  # an exception class with required arguments
            error = RuntimeError(message)
        raise error


class StreamEnd:
    """The answer of a worker whose iterable dataset has no more items."""


class Restart:
    """The request to begin a new epoch (persistent workers), with its seed."""

    def __init__(self, seed: int):
        self.seed = seed


_info: list[WorkerInfo | None] = [None]


def get_worker_info() -> WorkerInfo | None:
    """In a worker: its `WorkerInfo`; in the main process: None."""
    return _info[0]


def _seed(seed: int) -> None:
    python_random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    manual_seed(seed)


class Fetcher:
    """Loads one batch (or one item, without batching) of a dataset."""

    def __init__(self, dataset: Any, collate: Any, batched: bool, drop_last: bool):
        self.dataset = dataset
        self.collate = collate
        self.batched = batched
        self.drop_last = drop_last
        self.iterator = iter(dataset) if isinstance(dataset, IterableDataset) else None

    def __call__(self, index: Any) -> Any:
        """The batch for `index`; StopIteration at the end of an iterable dataset."""
        if self.iterator is not None:
            return self._from_stream(len(index) if self.batched else 1)
        if not self.batched:
            return self.collate(self.dataset[index])
        getitems = getattr(self.dataset, "__getitems__", None)
        items = getitems(index) if getitems else [self.dataset[i] for i in index]
        return self.collate(items)

    def _from_stream(self, count: int) -> Any:
        assert self.iterator is not None
        if not self.batched:
            return self.collate(next(self.iterator))
        items = [item for _, item in zip(range(count), self.iterator)]
        if not items or (self.drop_last and len(items) < count):
            raise StopIteration
        return self.collate(items)


def worker_loop(
    worker_id: int, num_workers: int, base_seed: int, dataset: Any, collate: Any, batched: bool,
    drop_last: bool, init: Any, requests: Any, answers: Any,
) -> None:  # fmt: skip
    """Answer requests until None arrives or the parent is gone."""
    parent = os.getppid()
    seed = base_seed + worker_id
    _seed(seed)
    _info[0] = WorkerInfo(worker_id, num_workers, seed, dataset)
    fetch: Any = None
    failure = None
    try:
        if init is not None:
            init(worker_id)
        fetch = Fetcher(dataset, collate, batched, drop_last)
    except Exception as error:
        failure = Failure(type(error), traceback.format_exc())
    while True:
        try:
            request = requests.get(timeout=5.0)
        except queue.Empty:
            if os.getppid() != parent:
                return
            continue
        if request is None:
            return
        if isinstance(request, Restart):
            _seed(request.seed + worker_id)
            fetch = Fetcher(dataset, collate, batched, drop_last) if failure is None else None
            continue
        number, index = request
        answers.put((number, worker_id, failure or _answer(fetch, index)))


def _answer(fetch: Fetcher, index: Any) -> Any:
    try:
        return fetch(index)
    except StopIteration:
        return StreamEnd()
    except Exception as error:
        return Failure(type(error), traceback.format_exc())
