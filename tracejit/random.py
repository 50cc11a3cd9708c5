"""Random tensors from one counter-based stream: the same numbers eager, compiled and on CUDA.

Invariant: a draw of n elements uses the counters ``offset .. offset + n`` of its generator's key
and moves the offset on by n; nothing else touches the state.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tracejit import dtypes
from tracejit.dtypes import DType
from tracejit.eager.checks import is_on_device, require, require_later
from tracejit.eager.dispatch import apply
from tracejit.eager.execute import execute
from tracejit.eager.factories import as_device, finish, in_order_of
from tracejit.eager.inplace import deliver
from tracejit.eager.modes import state
from tracejit.eager.register import FUNCTIONS, public, with_out
from tracejit.eager.settings import ask
from tracejit.eager.shape import sizes_of, unpack_sizes
from tracejit.eager.tape import attach
from tracejit.eager.watched import WatchedClass
from tracejit.errors import ShapeError, at_user_line, user_location
from tracejit.ir.op import OPS
from tracejit.ir.sizes import hints_of, is_negative, product
from tracejit.ir.types import TensorType
from tracejit.tensor import Tensor, new_tensor

_MASK = (1 << 63) - 1


class Generator(metaclass=WatchedClass):
    """A stream of random numbers: a 63-bit key and an offset, both plain state.

    Example: ``g = Generator().manual_seed(0); rand(3, generator=g)``.
    """

    def __init__(self, device: Any = "cpu"):
        self.device = device
        self.key = 0
        self.offset = 0
        self.manual_seed(67280421310721)

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream of `seed` from its beginning."""
        if state.capture is not None:
            state.capture.refuse("manual_seed inside a compiled function", user_location())
        self.key = int(seed) & _MASK
        self.offset = 0
        return self

    def seed(self) -> int:
        """Start from a seed that the operating system gives; returns it."""
        value = int.from_bytes(os.urandom(8), "little") & _MASK
        self.manual_seed(value)
        return value

    def initial_seed(self) -> int:
        """The seed of the stream."""
        return int(ask(lambda: self.key))

    def get_state(self) -> Tensor:
        """The state as an int64 tensor of key and offset."""
        return new_tensor(np.array([self.key, self.offset], np.int64))

    def set_state(self, new_state: Tensor) -> None:
        """Continue from a state that `get_state` gave."""
        if state.capture is not None:
            state.capture.refuse("set_state of a generator inside a compiled function",
                                 user_location())  # fmt: skip
        key, offset = (int(v) for v in new_state._array)
        self.key, self.offset = key, offset

    def take(self, count: int) -> int:
        """Reserve `count` counters; returns the first."""
        first = self.offset
        self.offset = (first + count) & _MASK
        return first


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Seed the default generator."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Seed the default generator from the operating system; returns the seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed of the default generator."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """The default generator's state."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Restore a state of the default generator."""
    default_generator.set_state(new_state)


@contextmanager
def fork_rng(
    devices: Any = None, enabled: bool = True, _caller: str = "fork_rng", **ignored: Any
) -> Iterator[None]:
    """A block after which the default generator is where it was before.

    devices  accepted; there is one default generator for all devices.
    enabled  False makes the block do nothing.
    """
    before = get_rng_state() if enabled else None
    try:
        yield
    finally:
        if before is not None:
            set_rng_state(before)


def draw(
    op_name: str, shape: Any, dtype: DType, generator: Generator | None = None, device: Any = None
) -> Tensor:  # fmt: skip
    """One random op over `shape` from a generator's stream, made on `device`."""
    where = as_device(device)
    source = default_generator if generator is None else generator
    op = OPS[op_name]
    concrete = hints_of(shape)
    if any(map(is_negative, shape)):
        raise ShapeError(at_user_line(f"a size cannot be negative: {list(concrete)}"))
    key = source.key
    first = source.take(product(concrete))
    arrays = (np.array(key, np.int64), np.array(first, np.int64))
    kind = TensorType(dtype, concrete, where)
    if not product(concrete):  # nothing runs that would refuse the dtype
        number = TensorType(dtypes.int64, ())
        op.infer((number, number), type=kind)
    result = new_tensor(execute(op, arrays, {"type": kind}))
    if state.capture is not None:
        inputs = state.capture.random_inputs(source, key, first, product(shape))
        node = op(*inputs, type=TensorType(dtype, tuple(shape), where))
        node.loc = user_location()
        attach(result, node, False)
    return result


def draw_from(op_name: str, *parameters: Tensor, generator: Generator | None = None) -> Tensor:
    """One draw for each element of `parameters` (of one shape and dtype): an op of ops/sampling."""
    source = default_generator if generator is None else generator
    count = product(sizes_of(parameters[0]))
    key = source.key
    first = source.take(product(parameters[0]._array.shape))
    numbers = [new_tensor(np.array(n, np.int64)) for n in (key, first)]
    if state.capture is not None:
        nodes = state.capture.random_inputs(source, key, first, count)
        for number, node in zip(numbers, nodes, strict=True):
            attach(number, node, False)
    result: Tensor = apply(OPS[op_name], (*numbers, *parameters))
    return result


def _kind(dtype: Any) -> DType:
    return dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)


def _finish(result: Tensor, requires_grad: bool, device: Any, out: Tensor | None) -> Tensor:
    if out is not None:
        return deliver(result, out)
    return finish(result, requires_grad, device)


def _define_sampler(name: str, op_name: str, doc: str) -> Any:
    def function(
        *size: Any, generator: Generator | None = None, out: Tensor | None = None,
        dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False,
        pin_memory: bool = False, **named_size: Any,
    ) -> Tensor:  # fmt: skip
        sizes = size or (named_size.pop("size", None),)
        if named_size or sizes == (None,):
            raise TypeError(at_user_line(f"{name}: needs a size; unknown: {list(named_size)}"))
        sizes = unpack_sizes(sizes)
        kind = out.dtype if out is not None and dtype is None else _kind(dtype)
        return _finish(draw(op_name, sizes, kind, generator, device), requires_grad, device, out)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


rand = _define_sampler("rand", "random_uniform", "Uniform in [0, 1).")
randn = _define_sampler("randn", "random_normal", "Normal with mean 0 and variance 1.")


def randint(
    low: Any = None, high: Any = None, size: Any = None, *, generator: Generator | None = None,
    out: Tensor | None = None, dtype: Any = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False, pin_memory: bool = False,
) -> Tensor:  # fmt: skip
    """Integers in [low, high): ``randint(high, size)`` or ``randint(low, high, size)``."""
    if size is None:
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    elif low is None:
        low = 0
    if high <= low:
        raise RuntimeError(at_user_line(f"randint: expects low < high, got {low}, {high}"))
    bits = draw("random_bits", tuple(size), dtypes.int64, generator, device)
    kind = dtypes.int64 if dtype is None else dtypes.as_dtype(dtype)
    kind = out.dtype if out is not None else kind
    return _finish((bits % (high - low) + low).to(kind), requires_grad, device, out)


def randperm(
    n: int, *, generator: Generator | None = None, out: Tensor | None = None, dtype: Any = None,
    layout: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False,
) -> Tensor:  # fmt: skip
    """A random order of ``0 .. n - 1``."""
    bits = draw("random_bits", (n,), dtypes.int64, generator, device)
    kind = dtypes.int64 if dtype is None else dtypes.as_dtype(dtype)
    return _finish(FUNCTIONS["argsort"](bits).to(kind), requires_grad, device, out)


def normal(
    mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None,
    out: Tensor | None = None, dtype: Any = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False, pin_memory: bool = False,
) -> Tensor:  # fmt: skip
    """Normal with the given mean(s) and deviation(s)."""
    tensors = [x for x in (mean, std) if isinstance(x, Tensor)]
    is_negative = (std._array < 0).any() if isinstance(std, Tensor) else std < 0
    if is_negative:
        raise RuntimeError(at_user_line("normal: expects every std >= 0"))
    if size is None:
        size = np.broadcast_shapes(*(x._array.shape for x in tensors))
    kind = tensors[0].dtype if tensors and dtype is None else _kind(dtype)
    result = (draw("random_normal", tuple(size), kind, generator) * std + mean).to(kind)
    return _finish(result, requires_grad, device, out)


@public(method=False)
def rand_like(
    input: Tensor, *, dtype: Any = None, layout: Any = None, device: Any = None,
    pin_memory: bool = False, requires_grad: bool = False, memory_format: Any = None,
    generator: Any = None,
) -> Tensor:  # fmt: skip
    """Uniform in [0, 1), of the shape, dtype and device of `input`."""
    kind, where = dtype or input.dtype, input.device if device is None else device
    made = rand(sizes_of(input), dtype=kind, generator=generator, device=where,
                requires_grad=requires_grad)  # fmt: skip
    return in_order_of(input, made)


@public(method=False)
def randn_like(
    input: Tensor, *, dtype: Any = None, layout: Any = None, device: Any = None,
    pin_memory: bool = False, requires_grad: bool = False, memory_format: Any = None,
    generator: Any = None,
) -> Tensor:  # fmt: skip
    """Standard normal, of the shape, dtype and device of `input`."""
    kind, where = dtype or input.dtype, input.device if device is None else device
    made = randn(sizes_of(input), dtype=kind, generator=generator, device=where,
                 requires_grad=requires_grad)  # fmt: skip
    return in_order_of(input, made)


@public(method=False)
def randint_like(
    input: Tensor, low: Any = None, high: Any = None, *, dtype: Any = None, layout: Any = None,
    device: Any = None, pin_memory: bool = False, requires_grad: bool = False,
    memory_format: Any = None, generator: Any = None,
) -> Tensor:  # fmt: skip
    """Integers in [low, high), of the shape, dtype and device of `input`."""
    kind, where = dtype or input.dtype, input.device if device is None else device
    made = randint(low, high, sizes_of(input), dtype=kind, generator=generator, device=where,
                   requires_grad=requires_grad)  # fmt: skip
    return in_order_of(input, made)


@public(out=True)
def bernoulli(input: Tensor, p: Any = None, *, generator: Generator | None = None) -> Tensor:
    """1 with the probability that the element (or `p`) gives, else 0."""
    chance = input if p is None else p
    if input.dtype.kind != "f" and p is None:
        raise RuntimeError(at_user_line("bernoulli: probabilities must be floating"))
    if not _are_chances(chance):
        raise RuntimeError(at_user_line("bernoulli: probabilities must be in [0, 1]"))
    kind = input.dtype if input.dtype.kind == "f" else dtypes.float32
    u = draw("random_uniform", sizes_of(input), kind, generator, input.device)
    return (u < chance).to(input.dtype)


def _are_chances(chance: Any) -> bool:
    """Whether numbers lie in [0, 1]: a replay asks that again, a device tells it later."""
    if not isinstance(chance, Tensor):
        return bool(0 <= chance <= 1)
    if not chance._array.size and state.capture is None:
        return True
    message = "bernoulli: probabilities must be in [0, 1]"
    if is_on_device(chance):
        require_later((chance >= 0) & (chance <= 1), RuntimeError, message)
        return True
    require(lambda: ((chance >= 0) & (chance <= 1)).all(), message)
    return bool(((chance._array >= 0) & (chance._array <= 1)).all())


def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *,
    generator: Generator | None = None,
) -> Tensor:  # fmt: skip
    """Indices drawn with the (unnormalised) probabilities of each row."""
    if input.dtype.kind != "f" or input._array.ndim not in (1, 2):
        raise RuntimeError(at_user_line("multinomial: needs floating weights of 1 or 2 dimensions"))
    if num_samples <= 0:
        raise RuntimeError(at_user_line(f"multinomial: cannot draw {num_samples} samples"))
    rows = input if input._array.ndim == 2 else input.unsqueeze(0)
    weights = rows.to(dtypes.float64)
    if bool((weights < 0).any()) or not bool(weights.isfinite().all()):
        raise RuntimeError(at_user_line("multinomial: probabilities must be finite and >= 0"))
    if bool((weights.sum(1) <= 0).any()):
        raise RuntimeError(at_user_line("multinomial: a row's probabilities sum to zero"))
    if not replacement:  # exponential race (Efraimidis and Spirakis, 2006)
        if bool(((weights > 0).sum(1) < num_samples).any()):
            raise RuntimeError(at_user_line("multinomial: fewer nonzero weights than samples"))
        u = draw("random_uniform", sizes_of(weights), dtypes.float64, generator, input.device)
        race = (1 - u).log() / weights
        picked = race.topk(num_samples, dim=1).indices
    else:
        count = (*sizes_of(weights)[:1], num_samples, 1)
        u = draw("random_uniform", count, dtypes.float64, generator, input.device)
        cumulative = (weights / weights.sum(1, keepdim=True)).cumsum(1).unsqueeze(1)
        picked = (u >= cumulative[:, :, :-1]).sum(2)
    return picked if input._array.ndim == 2 else picked.squeeze(0)


FUNCTIONS["multinomial"] = with_out(multinomial)
Tensor.multinomial = multinomial


@public(method=False, out=True)
def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Poisson variables, one for each rate in `input`; not differentiable."""
    if input.dtype.kind != "f":
        raise RuntimeError(at_user_line("poisson: rates must be floating"))
    if input._array.size and float(input.detach().min()) < 0:
        raise RuntimeError(at_user_line("poisson: expects all rates to be non-negative"))
    return draw_from("random_poisson", input.detach(), generator=generator)


@public(method=False, out=True)
def binomial(count: Tensor, prob: Tensor, generator: Generator | None = None) -> Tensor:
    """Successes among `count` trials of probability `prob`; shapes broadcast."""
    if count.dtype.kind != "f" or prob.dtype is not count.dtype:
        raise RuntimeError(at_user_line(
            f"binomial: count and prob must be floating, of one dtype; got {count.dtype.name} "
            f"and {prob.dtype.name}"))  # fmt: skip
    both = FUNCTIONS["broadcast_tensors"](count.detach(), prob.detach())
    return draw_from("random_binomial", *both, generator=generator)


# --- in place --------------------------------------------------------------------------------


@public(function=False)
def uniform_(
    self: Tensor, from_: float = 0.0, to: float = 1.0, *, generator: Any = None, **how: Any
) -> Tensor:
    """Overwritten with uniform numbers in [from, to)."""
    from_ = how.get("from", from_)
    if from_ > to:
        raise RuntimeError(at_user_line(f"uniform_: expects from <= to, got {from_} > {to}"))
    u = draw("random_uniform", sizes_of(self), self.dtype, generator, self.device)
    return self.copy_(u * (to - from_) + from_)


@public(function=False)
def normal_(self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> Tensor:
    """Overwritten with normal numbers."""
    if std < 0:
        raise RuntimeError(at_user_line(f"normal_: expects std >= 0, got {std}"))
    z = draw("random_normal", sizes_of(self), self.dtype, generator, self.device)
    return self.copy_(z * std + mean)


@public(function=False)
def bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Any = None) -> Tensor:
    """Overwritten with 1 (probability p) and 0."""
    u = draw("random_uniform", sizes_of(self), dtypes.float32, generator, self.device)
    return self.copy_((u < p).to(self.dtype))


@public(function=False)
def exponential_(self: Tensor, lambd: float = 1.0, *, generator: Any = None) -> Tensor:
    """Overwritten with exponential numbers of rate `lambd`."""
    if lambd <= 0:
        raise RuntimeError(at_user_line(f"exponential_: expects lambd > 0, got {lambd}"))
    u = draw("random_uniform", sizes_of(self), self.dtype, generator, self.device)
    return self.copy_((1 - u).log() * (-1.0 / lambd))


@public(function=False)
def cauchy_(
    self: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Any = None
) -> Tensor:
    """Overwritten with Cauchy numbers."""
    if sigma <= 0:
        raise RuntimeError(at_user_line(f"cauchy_: expects sigma > 0, got {sigma}"))
    u = draw("random_uniform", sizes_of(self), dtypes.float64, generator, self.device)
    return self.copy_(((u - 0.5) * math.pi).tan() * sigma + median)


@public(function=False)
def geometric_(self: Tensor, p: float, *, generator: Any = None) -> Tensor:
    """Overwritten with the number of trials up to the first success (probability `p`)."""
    if not 0 < p < 1:
        raise RuntimeError(at_user_line(f"geometric_: expects p in (0, 1), got {p}"))
    u = draw("random_uniform", sizes_of(self), dtypes.float64, generator, self.device)
    return self.copy_(((1 - u).log() / math.log1p(-p)).ceil().clamp(min=1))


@public(function=False)
def log_normal_(
    self: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Any = None
) -> Tensor:
    """Overwritten with numbers whose logarithms are normal."""
    if std <= 0:
        raise RuntimeError(at_user_line(f"log_normal_: expects std > 0, got {std}"))
    z = draw("random_normal", sizes_of(self), dtypes.float64, generator, self.device)
    return self.copy_((z * std + mean).exp())


@public(function=False)
def random_(self: Tensor, low: int = 0, high: Any = None, *, generator: Any = None) -> Tensor:
    """Overwritten with integers in [low, high)."""
    if high is None:
        low, high = (0, low) if low else (0, 1 << 24)
    return self.copy_(randint(low, high, sizes_of(self), generator=generator).to(self.dtype))


FUNCTIONS.update({
    "rand": rand, "randn": randn, "randint": randint, "randperm": randperm, "normal": normal,
    "manual_seed": manual_seed, "seed": seed, "initial_seed": initial_seed,
    "get_rng_state": get_rng_state, "set_rng_state": set_rng_state,
})  # fmt: skip
