"""``DistributedSampler``: the part of a data set that one of several processes goes through.

Invariant: all parts have one length, and with a seed and an epoch they are the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from tracejit.errors import at_user_line
from tracejit.random import Generator
from tracejit.utils.data.sampler import RandomSampler, Sampler

__all__ = ["DistributedSampler"]


class DistributedSampler(Sampler[int]):
    """Every `num_replicas`-th index from `rank` on; shuffled anew after each `set_epoch`.

    The order is repeated from its start until it divides evenly, or cut with `drop_last`. Raises
    ValueError for a `rank` outside ``[0, num_replicas)``.

    Example: ``list(DistributedSampler(range(5), 2, 0, shuffle=False))`` is ``[0, 2, 4]``.
    """

    def __init__(
        self, dataset: Any, num_replicas: int | None = None, rank: int | None = None,
        shuffle: bool = True, seed: int = 0, drop_last: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_replicas = 1 if num_replicas is None else num_replicas
        self.rank = 0 if rank is None else rank
        if not 0 <= self.rank < self.num_replicas:
            raise ValueError(
                at_user_line(
                    f"Invalid rank {rank}, rank should be in the interval "
                    f"[0, {self.num_replicas - 1}]"
                )
            )
        self.dataset, self.shuffle, self.seed, self.drop_last = dataset, shuffle, seed, drop_last
        self.epoch = 0
        count = len(dataset) / self.num_replicas
        self.num_samples = math.floor(count) if drop_last else math.ceil(count)
        self.total_size = self.num_samples * self.num_replicas

    def __iter__(self) -> Iterator[int]:
        order = list(range(len(self.dataset)))
        if self.shuffle:
            generator = Generator()
            generator.manual_seed(self.seed + self.epoch)
            order = list(RandomSampler(order, generator=generator))
        if not self.drop_last and order:
            order = (order * math.ceil(self.total_size / len(order)))[: self.total_size]
        return iter(order[self.rank : self.total_size : self.num_replicas])

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Number the pass over the data that comes next, so that it has another order."""
        self.epoch = epoch
