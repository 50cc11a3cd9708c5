"""`DataLoader`: batches of a dataset, loaded here or by worker processes.

Invariant: batches come in the sampler's order whatever the number of workers (unless
``in_order=False``), and no worker outlives its loader's iterator (or, if persistent, its loader).
"""

from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tracejit.errors import at_user_line
from tracejit.random import Generator, randint
from tracejit.utils.data.collate import default_collate, default_convert, pinned
from tracejit.utils.data.dataset import IterableDataset
from tracejit.utils.data.sampler import (
    BatchSampler,
    RandomSampler,
    SequentialSampler,
)
from tracejit.utils.data.worker import Failure, Fetcher, Restart, StreamEnd, worker_loop

_POLL_SECONDS = 1.0


class _Endless:
    """The sampler of an iterable dataset: no indices, no end."""

    def __iter__(self) -> Iterator[None]:
        while True:
            yield None


class DataLoader:
    """Iterate over a dataset in batches.

    batch_size  items in a batch; None loads single items.
    shuffle     a new random order at each iteration.
    sampler / batch_sampler  an order (or batches) of one's own.
    num_workers  processes that load; 0 loads in this one.
    collate_fn  makes a batch of a list of items.
    drop_last   leave out an incomplete last batch.
    timeout     seconds to wait for a worker's batch; 0 waits.
    worker_init_fn  called with the worker's number in each worker.
    prefetch_factor  batches that each worker loads ahead (2).
    persistent_workers  keep the workers between iterations.
    pin_memory  batches in page-locked memory, for `non_blocking` copies to the GPU (or to
                `pin_memory_device`); nothing happens where there is no GPU.

    Example: ``for x, y in DataLoader(TensorDataset(a, b), batch_size=32, shuffle=True): ...``
    """

    def __init__(
        self, dataset: Any, batch_size: int | None = 1, shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None, batch_sampler: Iterable[Any] | None = None,
        num_workers: int = 0, collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False, drop_last: bool = False, timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None, multiprocessing_context: Any = None,
        generator: Generator | None = None, *, prefetch_factor: int | None = None,
        persistent_workers: bool = False, pin_memory_device: str = "", in_order: bool = True,
    ) -> None:  # fmt: skip
        self.dataset = dataset
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.pin_memory_device = pin_memory_device
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.generator = generator
        self.persistent_workers = persistent_workers
        self.in_order = in_order
        self._check(num_workers, timeout, prefetch_factor, persistent_workers)
        self.prefetch_factor = prefetch_factor if prefetch_factor or not num_workers else 2
        self._choose_order(batch_size, shuffle, sampler, batch_sampler, drop_last)
        batched = self.batch_sampler is not None
        self.collate_fn = collate_fn or (default_collate if batched else default_convert)
        self._workers: _Workers | None = None

    @staticmethod
    def _check(
        num_workers: int, timeout: float, prefetch_factor: int | None, persistent: bool
    ) -> None:
        if num_workers < 0:
            raise ValueError(
                at_user_line(
                    "num_workers option should be non-negative; use num_workers=0 to "
                    "disable multiprocessing"
                )
            )
        if timeout < 0:
            raise ValueError(at_user_line("timeout option should be non-negative"))
        if num_workers == 0 and prefetch_factor is not None:
            raise ValueError(at_user_line("prefetch_factor needs num_workers > 0"))
        if prefetch_factor is not None and prefetch_factor < 1:
            raise ValueError(at_user_line("prefetch_factor option should be positive"))
        if persistent and num_workers == 0:
            raise ValueError(at_user_line("persistent_workers option needs num_workers > 0"))

    def _choose_order(
        self, batch_size: int | None, shuffle: bool | None, sampler: Any, batch_sampler: Any,
        drop_last: bool,
    ) -> None:  # fmt: skip
        if isinstance(self.dataset, IterableDataset):
            if shuffle or sampler is not None or batch_sampler is not None:
                raise ValueError(
                    at_user_line(
                        "DataLoader with IterableDataset: shuffle, sampler and "
                        "batch_sampler are not possible"
                    )
                )
            sampler = _Endless()
        if sampler is not None and shuffle:
            raise ValueError(at_user_line("sampler option is mutually exclusive with shuffle"))
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError(
                    at_user_line(
                        "batch_sampler option is mutually exclusive with batch_size, "
                        "shuffle, sampler, and drop_last"
                    )
                )
            batch_size, drop_last = None, False
        elif batch_size is None and drop_last:
            raise ValueError(
                at_user_line(
                    "batch_size=None option disables auto-batching and is mutually "
                    "exclusive with drop_last"
                )
            )
        if sampler is None:
            sampler = (
                RandomSampler(self.dataset, generator=self.generator)
                if shuffle
                else SequentialSampler(self.dataset)
            )
        if batch_size is not None and batch_sampler is None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __len__(self) -> int:
        """The number of batches."""
        if isinstance(self.dataset, IterableDataset):
            items = len(self.dataset)  # type: ignore[arg-type]
            if self.batch_size is None:
                return items
            size = self.batch_size
            return items // size if self.drop_last else -(-items // size)
        return len(self.sampler if self.batch_sampler is None else self.batch_sampler)

    def _order(self) -> Iterator[Any]:
        return iter(self.sampler if self.batch_sampler is None else self.batch_sampler)

    def _base_seed(self) -> int:
        return int(randint(0, 1 << 62, (1,), generator=self.generator).item())

    def __iter__(self) -> Iterator[Any]:
        if self.pin_memory:
            device = self.pin_memory_device or None
            return (pinned(batch, device) for batch in self._batches())
        return self._batches()

    def _batches(self) -> Iterator[Any]:
        if self.num_workers == 0:
            return self._iterate_here()
        if not self.persistent_workers:
            return _iterate_once(_Workers(self), self._order())
        if self._workers is None or self._workers.closed:
            self._workers = _Workers(self)
        else:
            self._workers.restart(self._base_seed())
        return self._workers.batches(self._order())

    def _iterate_here(self) -> Iterator[Any]:
        fetch = Fetcher(self.dataset, self.collate_fn, self.batch_sampler is not None,
                        self.drop_last)  # fmt: skip
        for index in self._order():
            try:
                batch = fetch(index)
            except StopIteration:
                return
            yield batch


def _iterate_once(workers: _Workers, order: Iterator[Any]) -> Iterator[Any]:
    try:
        yield from workers.batches(order)
    finally:
        workers.close()


class _Workers:
    """The worker processes of one loader, one request queue each and one queue of answers."""

    def __init__(self, loader: DataLoader):
        context = loader.multiprocessing_context
        if context is None or isinstance(context, str):
            context = multiprocessing.get_context(context)
        self.count = loader.num_workers
        self.ahead = loader.prefetch_factor or 2
        self.timeout = loader.timeout
        self.in_order = loader.in_order
        self.closed = False
        self.sent = 0
        self.pending: dict[int, int] = {}  # number of a request without answer -> its worker
        self.answers: Any = context.Queue()
        self.requests: list[Any] = [context.Queue() for _ in range(self.count)]
        seed = loader._base_seed()
        batched = loader.batch_sampler is not None
        self.processes = [
            context.Process(
                target=worker_loop, daemon=True,
                args=(i, self.count, seed, loader.dataset, loader.collate_fn, batched,
                      loader.drop_last, loader.worker_init_fn, self.requests[i], self.answers),
            )
            for i in range(self.count)
        ]  # fmt: skip
        for process in self.processes:
            process.start()

    def restart(self, seed: int) -> None:
        """Begin a new epoch in every worker."""
        self._drain()
        for requests in self.requests:
            requests.put(Restart(seed))

    def _drain(self) -> None:
        """Take the answers that an abandoned epoch left behind."""
        while self.pending:
            number, _, _ = self.receive()
            self.pending.pop(number, None)

    def send(self, worker: int, index: Any) -> None:
        """Ask a worker for the batch of `index`."""
        self.requests[worker].put((self.sent, index))
        self.pending[self.sent] = worker
        self.sent += 1

    def batches(self, order: Iterator[Any]) -> Iterator[Any]:
        """The batches of one epoch."""
        epoch = _Epoch(self, order)
        while (ready := epoch.next_answer()) is not None:
            worker, answer = ready
            if isinstance(answer, Failure):
                answer.reraise(worker)
            if not isinstance(answer, StreamEnd):
                yield answer

    def receive(self) -> Any:
        """The next answer: (number, worker, batch or failure or end)."""
        waited = 0.0
        while True:
            step = min(self.timeout - waited, _POLL_SECONDS) if self.timeout else _POLL_SECONDS
            try:
                return self.answers.get(timeout=step)
            except queue.Empty:
                waited += step
            dead = [p.pid for p in self.processes if not p.is_alive()]
            if dead:
                self.close()
                raise RuntimeError(
                    at_user_line(
                        f"DataLoader worker (pid {', '.join(map(str, dead))}) exited unexpectedly"
                    )
                )
            if self.timeout and waited >= self.timeout:
                self.close()
                raise RuntimeError(
                    at_user_line(f"DataLoader timed out after {self.timeout} seconds")
                )

    def close(self) -> None:
        """Stop the workers."""
        if self.closed:
            return
        self.closed = True
        for requests in self.requests:
            requests.cancel_join_thread()
            requests.put(None)
        for process in self.processes:
            process.join(timeout=1.0)
            if process.is_alive():
                process.terminate()
                process.join(timeout=1.0)
        for channel in (*self.requests, self.answers):
            channel.cancel_join_thread()
            channel.close()


class _Epoch:
    """One pass over an order of indices: what was asked for, what came early, what is due."""

    def __init__(self, workers: _Workers, order: Iterator[Any]):
        self.workers = workers
        self.order = order
        self.more = True
        self.alive = list(range(workers.count))
        self.turn = 0
        self.due = workers.sent
        self.early: dict[int, tuple[int, Any]] = {}

    def next_answer(self) -> tuple[int, Any] | None:
        """(worker, answer) in the order asked for; None when there are no more."""
        self._ask()
        while (number := self._ready()) is None:
            if not self.workers.pending:
                return None
            number, worker, answer = self.workers.receive()
            self.workers.pending.pop(number, None)
            if isinstance(answer, StreamEnd) and worker in self.alive:
                self.alive.remove(worker)
            self.early[number] = (worker, answer)
        self.due += 1
        return self.early.pop(number)

    def _ready(self) -> int | None:
        if self.workers.in_order:
            return self.due if self.due in self.early else None
        return next(iter(self.early), None)

    def _ask(self) -> None:
        limit = self.workers.ahead * len(self.alive)
        while self.more and self.alive and len(self.workers.pending) + len(self.early) < limit:
            index = next(self.order, _END)
            if index is _END:
                self.more = False
                return
            self.workers.send(self.alive[self.turn % len(self.alive)], index)
            self.turn += 1


_END = object()
