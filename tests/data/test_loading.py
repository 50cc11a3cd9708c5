"""Datasets, samplers, collation and the loader, with and without worker processes.

Invariant: batches come in the sampler's order whatever the number of workers.
"""

from __future__ import annotations

import os
import signal
from collections import namedtuple

import numpy as np
import pytest

import tracejit as torch
from tracejit.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    StackDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    get_worker_info,
    random_split,
)

Point = namedtuple("Point", "x y")


class Squares(Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, index):
        return {"x": torch.full((2,), float(index)), "square": index * index}


class Failing(Squares):
    def __getitem__(self, index):
        if index == 5:
            raise ValueError("item 5 is broken")
        return super().__getitem__(index)


class Dying(Squares):
    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGKILL)


class Count(IterableDataset):
    def __iter__(self):
        info = get_worker_info()
        start, step = (info.id, info.num_workers) if info else (0, 1)
        return iter(range(start, 10, step))


class Seeds(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return float(torch.rand(1).item()), get_worker_info().id


def _initialise(worker_id):
    os.environ["TEST_WORKER"] = str(worker_id)


class Environment(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return os.environ["TEST_WORKER"]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_in_order(workers):
    loader = DataLoader(Squares(), batch_size=4, num_workers=workers)
    batches = list(loader)
    assert len(loader) == 3 and [len(b["square"]) for b in batches] == [4, 4, 2]
    assert torch.cat([b["square"] for b in batches]).tolist() == [i * i for i in range(10)]
    assert batches[0]["x"].shape == (4, 2) and batches[0]["square"].dtype is torch.int64


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_the_dataset_is_raised_here(workers):
    with pytest.raises(ValueError, match="item 5 is broken"):
        list(DataLoader(Failing(), batch_size=2, num_workers=workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_iterable_datasets(workers):
    batches = [b.tolist() for b in DataLoader(Count(), batch_size=3, num_workers=workers)]
    assert sorted(i for b in batches for i in b) == list(range(10))
    dropped = list(DataLoader(Count(), batch_size=4, num_workers=workers, drop_last=True))
    assert all(len(b) == 4 for b in dropped)


def test_workers_have_their_own_seeds_and_initialisation():
    loader = DataLoader(Seeds(), batch_size=None, num_workers=2)
    first, second = list(loader), list(loader)
    assert {worker for _, worker in first} == {0, 1}
    assert len({value for value, _ in first + second}) == 8
    loader = DataLoader(Environment(), batch_size=None, num_workers=2, worker_init_fn=_initialise)
    assert sorted(loader) == ["0", "0", "1", "1"]


def test_persistent_workers_survive_an_abandoned_epoch():
    loader = DataLoader(Squares(), 3, shuffle=True, num_workers=2, persistent_workers=True)
    next(iter(loader))
    for _ in range(2):
        squares = torch.cat([b["square"] for b in loader])
        assert sorted(squares.tolist()) == [i * i for i in range(10)]


def test_a_killed_worker_is_reported():
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        list(DataLoader(Dying(), num_workers=1))


def test_shuffle_follows_the_generator():
    data = TensorDataset(torch.arange(20))

    def order(seed):
        g = torch.Generator().manual_seed(seed)
        return torch.cat([x for (x,) in DataLoader(data, 6, shuffle=True, generator=g)]).tolist()

    assert order(0) == order(0) != order(1) and sorted(order(0)) == list(range(20))
    loader = DataLoader(data, 20, shuffle=True)
    assert next(iter(loader))[0].tolist() != next(iter(loader))[0].tolist()


def test_tensor_dataset_and_drop_last():
    data = TensorDataset(torch.arange(10), torch.arange(10) * 2)
    batches = list(DataLoader(data, 4, drop_last=True))
    assert len(batches) == 2 and batches[1][1].tolist() == [8, 10, 12, 14]
    assert data[3][1].item() == 6
    with pytest.raises(AssertionError, match="size mismatch"):
        TensorDataset(torch.ones(2), torch.ones(3))


def test_datasets_of_datasets():
    data = TensorDataset(torch.arange(6))
    both = data + TensorDataset(torch.arange(10, 13))
    assert isinstance(both, ConcatDataset) and len(both) == 9
    assert both[7][0].item() == 11 and both[-1][0].item() == 12
    with pytest.raises(IndexError):
        both[9]
    assert [Subset(data, [4, 1])[i][0].item() for i in range(2)] == [4, 1]
    assert StackDataset(a=data, b=data)[2]["b"][0].item() == 2
    parts = random_split(data, [0.5, 0.3, 0.2])
    assert [len(p) for p in parts] == [4, 1, 1]
    assert sorted(x.item() for p in parts for (x,) in p) == list(range(6))
    with pytest.raises(ValueError, match="sum of input lengths"):
        random_split(data, [1, 2])


def test_samplers():
    assert list(SequentialSampler(range(3))) == [0, 1, 2]
    assert sorted(RandomSampler(range(5))) == [0, 1, 2, 3, 4]
    drawn = list(RandomSampler(range(3), replacement=True, num_samples=50))
    assert len(drawn) == 50 and set(drawn) == {0, 1, 2}
    assert sorted(SubsetRandomSampler([4, 7])) == [4, 7]
    assert set(WeightedRandomSampler([0.0, 1.0, 0.0], 5)) == {1}
    assert list(BatchSampler(range(5), 2, False)) == [[0, 1], [2, 3], [4]]
    assert len(BatchSampler(range(5), 2, True)) == 2


def test_collation_keeps_the_structure():
    batch = default_collate([
        {"p": Point(1, 2.0), "s": "a", "l": [torch.ones(2), np.float32(3)]},
        {"p": Point(3, 4.0), "s": "b", "l": [torch.zeros(2), np.float32(5)]},
    ])  # fmt: skip
    assert batch["p"].x.tolist() == [1, 3] and batch["p"].y.dtype is torch.float64
    assert batch["s"] == ["a", "b"] and batch["l"][1].dtype is torch.float32
    assert batch["l"][0].tolist() == [[1, 1], [0, 0]]
    with pytest.raises(RuntimeError, match="equal size"):
        default_collate([[1], [1, 2]])
    with pytest.raises(TypeError, match="found"):
        default_collate([object()])


def test_items_without_batches_and_own_collation():
    assert [x.tolist() for x in DataLoader(np.arange(3.0), batch_size=None)] == [0.0, 1.0, 2.0]
    assert list(DataLoader(range(4), 2, collate_fn=sum)) == [1, 5]
    pairs = DataLoader(range(4), batch_sampler=[[3, 0], [1]])
    assert [b.tolist() for b in pairs] == [[3, 0], [1]]


def test_arguments_that_exclude_each_other():
    for options in (
        {"shuffle": True, "sampler": [0]}, {"batch_sampler": [[0]], "batch_size": 2},
        {"num_workers": -1}, {"persistent_workers": True}, {"prefetch_factor": 2},
        {"batch_size": None, "drop_last": True},
    ):  # fmt: skip
        with pytest.raises(ValueError):
            DataLoader(range(3), **options)
