"""Settings of the library, its functions replaced, and memory that came in through NumPy.

Invariant: every program puts back what it has set.
"""

from __future__ import annotations

import contextlib

import numpy as np
from scenario import arange, scenario

import tracejit as torch
from tracejit.nn import functional as F


@scenario("inference_mode and no_grad around calls", "what is_inference_mode_enabled says",
          "guard", 3)  # fmt: skip
def test_inference_mode(compile):
    f = compile(lambda x: x * 2 if torch.is_inference_mode_enabled() else x * 3)
    for mode in (torch.no_grad(), torch.inference_mode(), torch.no_grad(), torch.inference_mode(),
                 contextlib.nullcontext()):  # fmt: skip
        with mode:
            yield f(arange(3))


@scenario("autocast around calls", "full precision, as without", "input", 1)
def test_autocast(compile):
    f = compile(lambda x: x @ x.T)
    for mode in (contextlib.nullcontext(), torch.autocast("cpu", dtype=torch.bfloat16)):
        with mode:
            yield f(arange(2, 3))


@scenario("get_num_threads() used as a number", "the number now", "guard", 2)
def test_number_of_threads(compile):
    f, before = compile(lambda x: x * torch.get_num_threads()), torch.get_num_threads()
    for count in (1, 2, 1, 2):
        torch.set_num_threads(count)
        yield f(arange(3))
    torch.set_num_threads(before)


@scenario("set_default_dtype inside", "set from then on", "eager", 1)
def test_sets_default_dtype(compile):
    def run(x):
        torch.set_default_dtype(torch.float64)
        return torch.ones(2) * x

    f = compile(run)
    for _ in range(3):
        yield f(arange(2)), torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)


@scenario("set_grad_enabled(False) inside, as a call", "off from then on", "eager", 1)
def test_sets_grad_mode(compile):
    def run(x):
        torch.set_grad_enabled(False)
        return x * 2

    f = compile(run)
    for _ in range(3):
        yield f(arange(2).requires_grad_()), torch.is_grad_enabled()
        torch.set_grad_enabled(True)


@scenario("initial_seed() used as a number", "the seed now", "guard", 3)
def test_initial_seed(compile):
    f = compile(lambda x: x * torch.initial_seed() + torch.rand(3))
    for seed in (1, 2, 3, 2):
        torch.manual_seed(seed)
        yield f(arange(3))


@scenario("get_rng_state and set_rng_state inside", "the numbers drawn again", "eager", 1)
def test_rng_state_inside(compile):
    def run(x):
        state = torch.get_rng_state()
        first = torch.rand(3)
        torch.set_rng_state(state)
        return x + first, torch.rand(3)

    f = compile(run)
    for _ in range(3):
        yield f(arange(3))


@scenario("a switch of torch.backends read inside", "the switch now", "guard", 2)
def test_backends(compile):
    f = compile(lambda x: x * 2 if torch.backends.cudnn.benchmark else x)
    for value in (False, True, False, True):
        torch.backends.cudnn.benchmark = value
        yield f(arange(2))
    torch.backends.cudnn.benchmark = False


@scenario("tracejit.exp and functional.relu replaced", "the new function, then the old", "guard", 1)
def test_library_replaced(compile):
    f, exp, relu = compile(lambda x: torch.exp(x) + F.relu(x)), torch.exp, F.relu
    yield f(arange(3)), f(arange(3))
    torch.exp = lambda x: x * 100
    yield f(arange(3)), f(arange(3))
    torch.exp, F.relu = exp, torch.neg
    yield f(arange(3)), f(arange(3))
    F.relu = relu
    yield f(arange(3))


@scenario("a method of the library's own class replaced", "the new, then the old", "guard", 1)
def test_library_method_replaced(compile):
    net, forward = torch.nn.Linear(2, 2, bias=False), torch.nn.Linear.forward
    f = compile(lambda x: net(x) + 1)
    yield f(arange(2)), f(arange(2))
    torch.nn.Linear.forward = lambda self, x: x * 7
    yield f(arange(2)), f(arange(2))
    torch.nn.Linear.forward = forward
    yield f(arange(2)), f(arange(2))


@scenario("two tensors of one NumPy array, one written to", "the other sees the write", "eager", 4)
def test_shared_through_numpy(compile):
    def run(x, y):
        x.mul_(2)
        return x + y, y * 3

    f = compile(run)
    for first, second in ((0, 4), (0, 4), (0, 0), (0, 2), (4, 0), (1, 0), (0, 0)):
        a = np.arange(8, dtype=np.float32)
        x, y = torch.from_numpy(a[first : first + 4]), torch.from_numpy(a[second : second + 4])
        yield f(x, y), x, y, a.tolist()


@scenario("a tensor and its own array brought back in", "one memory", "eager", 4)
def test_array_of_tensor(compile):
    def run(x, y):
        x.add_(1)
        return y * 2

    f = compile(run)
    yield f(arange(4), arange(4))
    for _ in range(4):
        x = arange(4)
        yield f(x, torch.from_numpy(x.numpy()[::-1])), x
