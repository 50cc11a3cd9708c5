"""torch's op samples run eagerly: values, methods, in-place, ``out=``, gradients, errors.

Invariant: a check raises on disagreement and returns on agreement; `Skip` counts as neither.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import numpy as np
import torch

import tracejit
from bench.conformance.convert import (
    Skip,
    compare,
    flatten,
    fresh,
    to_tracejit,
)
from bench.conformance.names import SPELLED, is_random
from bench.conformance.report import Missing


def samples_of(info: Any, dtype: torch.dtype, limit: int, requires_grad: bool = False) -> list[Any]:
    """Up to `limit` of torch's samples, spread evenly over the list."""
    torch.manual_seed(0)
    found = list(info.sample_inputs("cpu", dtype, requires_grad=requires_grad))
    if len(found) > limit:
        found = [found[i * len(found) // limit] for i in range(limit)]
    return found


def run_torch(function: Any, sample: Any) -> Any:
    try:
        return function(sample.input, *sample.args, **sample.kwargs)
    except Exception:
        raise Skip("torch itself refuses") from None


def check_value(info: Any, function: Any, sample: Any) -> None:
    arguments = to_tracejit((sample.input, sample.args, sample.kwargs))
    want = run_torch(info.op, fresh_sample(sample))
    got = function(arguments[0], *arguments[1], **arguments[2])
    compare_results(info, sample, got, want)


# Among equal elements torch's choice of index is its own affair.
AMBIGUOUS = ("topk", "kthvalue", "median", "nanmedian", "sort", "argsort", "mode")


def compare_results(info: Any, sample: Any, got: Any, want: Any) -> None:
    """`compare`, but for functions that pick one of several equal elements by what they pick."""
    if info.name not in AMBIGUOUS or (isinstance(want, torch.Tensor) and info.name != "argsort"):
        return compare(got, want, is_drawn(info, sample))
    index, theirs = flatten(got)[-1], flatten(want)[-1]
    if info.name != "argsort":
        compare(flatten(got)[0], flatten(want)[0])
    assert index.dtype is tracejit.int64 and tuple(index.shape) == tuple(theirs.shape)
    x, mine = sample.input, torch.from_numpy(index.numpy().copy())
    for dim in range(x.ndim):
        a, b = (i if i.ndim == x.ndim else i.unsqueeze(dim) for i in (mine, theirs))
        try:
            if torch.equal(x.gather(dim, a).nan_to_num(1e4), x.gather(dim, b).nan_to_num(1e4)):
                return None
        except RuntimeError:
            continue
    assert x.ndim == 0, "the indices point at other elements"
    return None


class Sample:
    def __init__(self, input: Any, args: Any, kwargs: Any):
        self.input, self.args, self.kwargs = input, args, kwargs


def fresh_sample(sample: Any) -> Sample:
    return Sample(fresh(sample.input), fresh(sample.args), fresh(sample.kwargs))


def check_method(info: Any, sample: Any) -> None:
    arguments = to_tracejit((sample.input, sample.args, sample.kwargs))
    want = run_torch(info.method_variant, fresh_sample(sample))
    name = info.method_variant.__name__
    name = info.name if name == "<lambda>" else name
    method = getattr(tracejit.Tensor, name, None)
    if method is None:
        raise Missing(f"Tensor.{name}")
    compare_results(info, sample, method(arguments[0], *arguments[1], **arguments[2]), want)


def floating(values: list[Any]) -> list[Any]:
    """The differentiable tensors among results."""
    return [v for v in values if hasattr(v, "requires_grad") and v.requires_grad]


def gradients(values: Any, arguments: Any, grad: Any, ones: Any, again: bool) -> list[Any]:
    """Gradients (and, if asked, gradients of their sum of squares) of weighted outputs."""
    outputs = floating(flatten(values))
    inputs = floating(flatten(arguments))
    if not outputs or not inputs:
        raise Skip("nothing to differentiate")
    seeds = [ones(o, i) for i, o in enumerate(outputs)]
    first = grad(outputs, inputs, seeds, create_graph=again, allow_unused=True)
    if not again:
        return list(first)
    seconds = floating([(g * g).sum() for g in first if g is not None])
    if not seconds:
        raise Skip("gradients do not depend on the inputs")
    return list(grad(seconds, inputs, allow_unused=True))


def weights(shape: Any, i: int) -> np.ndarray:
    """Cotangents that differ in each place, the same for torch and tracejit."""
    rng = np.random.default_rng(i)
    return rng.uniform(0.5, 1.5, tuple(shape))


def check_grad(info: Any, function: Any, sample: Any, again: bool) -> None:
    if is_drawn(info, sample):
        raise Skip("random")
    theirs = fresh_sample(sample)
    ours = to_tracejit((theirs.input, theirs.args, theirs.kwargs))
    process = sample.output_process_fn_grad
    try:
        value = process(info.op(theirs.input, *theirs.args, **theirs.kwargs))
        want = gradients(
            value, (theirs.input, theirs.args, theirs.kwargs), torch.autograd.grad,
            lambda o, i: torch.tensor(weights(o.shape, i), dtype=o.dtype), again,
        )  # fmt: skip
    except Skip:
        raise
    except Exception:
        raise Skip("torch itself refuses") from None
    got_value = process_ours(process, function(ours[0], *ours[1], **ours[2]), value)
    try:
        got = gradients(
            got_value, ours, tracejit.autograd.grad,
            lambda o, i: tracejit.tensor(weights(o.shape, i), dtype=o.dtype), again,
        )  # fmt: skip
    except Skip:
        got = [None] * len(want)
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        if w is None or not bool((w != 0).any()):
            if g is not None and not np.allclose(g.detach().numpy(), 0, atol=1e-6):
                raise AssertionError(f"gradient {i} should be zero")
        else:
            assert g is not None, f"gradient {i} is missing"
            compare(g, w, slack=100.0 if again else 10.0)


def process_ours(process: Any, got: Any, theirs: Any) -> Any:
    try:
        return process(got)
    except Exception:
        return got


def check_inplace(info: Any, function: Any, sample: Any) -> None:
    """The in-place method (or ``inplace=True``) writes torch's result into the tensor itself."""
    theirs = fresh_sample(sample)
    name = getattr(info.inplace_variant, "__name__", "<lambda>")
    arguments = to_tracejit((theirs.input, theirs.args, theirs.kwargs))
    try:
        want = info.inplace_variant(theirs.input, *theirs.args, **theirs.kwargs)
    except Exception:
        want = None
    if name == "<lambda>":
        method = functools.partial(function, inplace=True)
    else:
        method = getattr(tracejit.Tensor, name, None)
    if method is None:
        raise Missing(f"Tensor.{name}")
    if want is None:
        try:
            method(arguments[0], *arguments[1], **arguments[2])
        except (RuntimeError, TypeError, ValueError, IndexError):
            return
        raise AssertionError("did not raise")
    got = method(arguments[0], *arguments[1], **arguments[2])
    assert got is arguments[0], "the result is not the tensor itself"
    compare(got, want, is_random(info))


def keyword_names(info: Any) -> list[list[str]]:
    """The parameter names that torch gives the op, one list for each overload."""
    if info.name.startswith("__") or info.name in SPELLED:
        return []
    home = getattr(info.op, "__module__", None) or ""
    if inspect.isfunction(info.op):  # a wrapper in torch's tests has names of its own
        own = home.startswith("torch.") and not home.startswith("torch.testing")
        return [list(inspect.signature(info.op).parameters)] if own else []
    flat = info.name.replace(".", "_")
    packet = getattr(torch.ops.aten, flat, None)
    if packet is None:
        return []
    schemas = [getattr(packet, overload)._schema for overload in packet.overloads()]
    return [["input" if a.name == "self" else a.name for a in s.arguments] for s in schemas]


def check_keyword(info: Any, function: Any, sample: Any) -> None:
    """Every argument may be passed by torch's name for it."""
    values = (sample.input, *sample.args)
    for names in keyword_names(info):
        if len(names) < len(values):
            continue
        named = Sample(None, (), {**dict(zip(names, values)), **sample.kwargs})
        try:
            want = info.op(**fresh_sample(named).kwargs)
        except Exception:
            continue
        compare_results(info, sample, function(**to_tracejit(named.kwargs)), want)
        return
    raise Skip("torch has no such spelling")


def is_drawn(info: Any, sample: Any) -> bool:
    """Whether the result depends on random numbers (attention's does where it drops weights)."""
    return is_random(info) or bool(sample.kwargs.get("dropout_p"))


def check_out(info: Any, function: Any, sample: Any) -> None:
    arguments = to_tracejit((sample.input, sample.args, sample.kwargs))
    want = run_torch(info.op, fresh_sample(sample))
    if not all(isinstance(w, torch.Tensor) for w in flatten(want)):
        raise Skip("no tensors to write")
    to_tracejit(want)
    empty = [tracejit.empty(tuple(w.shape), dtype=to_tracejit(w.dtype)) for w in flatten(want)]
    out = empty[0] if isinstance(want, torch.Tensor) else tuple(empty)
    try:
        got = function(arguments[0], *arguments[1], **arguments[2], out=out)
    except TypeError as error:
        if "unexpected keyword argument 'out'" in str(error):
            raise Missing("out=") from None
        raise
    assert all(a is b for a, b in zip(flatten(got), empty)), "the result is not out"
    compare_results(info, sample, got, want)


LENIENT = ("unsupported operation", "Expected out tensor to have dtype",
           "multinomial expects Long tensor out")  # fmt: skip


def check_error(info: Any, function: Any, error: Any) -> None:
    sample = error.sample_input
    if info.name.startswith("__") or (
        sample.input.__class__ is torch.Tensor and sample.input.ndim > 64
    ):
        raise Skip("a descriptor called without a tensor; more dimensions than NumPy has")
    if error.error_regex in LENIENT:
        raise Skip("tracejit computes the result before it writes out=, so overlap does no harm")
    arguments = to_tracejit((sample.input, sample.args, sample.kwargs))
    try:
        info.op(sample.input, *sample.args, **sample.kwargs)
    except Exception as raised:
        family = type(raised)
    else:
        raise Skip("torch accepts it here")
    try:
        function(arguments[0], *arguments[1], **arguments[2])
    except Exception as raised:
        allowed: tuple[type, ...] = (family, RuntimeError)
        if family in (RuntimeError, NotImplementedError, torch.linalg.LinAlgError):
            allowed = (RuntimeError, TypeError, IndexError, ValueError)
        if not isinstance(raised, allowed):
            raise AssertionError(
                f"{type(raised).__name__} ({str(raised)[:80]}) instead of {family.__name__}"
            ) from None
        return
    raise AssertionError(f"did not raise {family.__name__} ({error.error_regex[:80]})")
