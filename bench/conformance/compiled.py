"""torch's op samples run through ``tracejit.compile``: values and gradients of a replay.

The first call of a compiled function is an eager run with recording on, so every check calls twice
and judges the second result. Invariant: a function that fell back to eager code never counts as
compiled, it counts under the kind "captured".
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import tracejit
from bench.conformance.convert import Skip, compare, flatten, to_tracejit
from bench.conformance.names import is_random
from bench.conformance.ops import (
    compare_results,
    fresh_sample,
    gradients,
    process_ours,
    run_torch,
    weights,
)

SAME_BITS = [True]
"""Whether a replay must have the bits of eager code (not if the interpreter runs it)."""


def converted(sample: Any) -> tuple[Any, Any, Any]:
    """Fresh tracejit arguments of a sample."""
    return to_tracejit((sample.input, sample.args, sample.kwargs))


def compiled(function: Any) -> Any:
    """`function` of one sample's arguments, compiled."""
    return tracejit.compile(lambda x, args, kwargs: function(x, *args, **kwargs))


def check_compiled(info: Any, function: Any, sample: Any, calls: list[Any]) -> None:
    """A replay gives torch's values, and the bits that eager code gives; `calls` gets the call."""
    want = run_torch(info.op, fresh_sample(sample))
    tracejit.manual_seed(0)
    x, args, kwargs = converted(sample)
    eager = function(x, *args, **kwargs)
    call = compiled(function)
    for _ in range(2):
        tracejit.manual_seed(0)
        got = call(*converted(sample))
        if not is_random(info):
            compare_results(info, sample, got, want)
        same_bits(got, eager)
    calls.append(call)


def same_bits(got: Any, eager: Any) -> None:
    """Raise AssertionError unless both hold the same values, NaN in the same places."""
    for a, b in zip(flatten(got), flatten(eager), strict=True):
        if isinstance(b, tracejit.Tensor):
            assert a.dtype is b.dtype and a.shape == b.shape, "type differs from eager"
            a, b = a.detach().numpy(), b.detach().numpy()
            if SAME_BITS[0] and not np.array_equal(a, b, equal_nan=b.dtype.kind == "f"):
                raise AssertionError(f"{int((a != b).sum())}/{a.size} values differ from eager")


def check_captured(calls: list[Any]) -> None:
    """The second call replayed a trace rather than running eagerly."""
    if not calls:
        raise Skip("not compiled")
    (call,) = calls
    assert call.eager_reason is None, call.eager_reason
    reasons = [m.reason for m in call.misses]
    replayed = call.cache_info().hits > 0 or len(reasons) == 1  # counted or not: docs of explain
    assert replayed, reasons[-1]


def check_compiled_grad(info: Any, function: Any, sample: Any, inside: bool) -> None:
    """Gradients with ``backward`` outside or inside the compiled function equal torch's."""
    theirs = fresh_sample(sample)
    try:
        process = sample.output_process_fn_grad
        value = process(info.op(theirs.input, *theirs.args, **theirs.kwargs))
        want = gradients(
            value, (theirs.input, theirs.args, theirs.kwargs), torch.autograd.grad,
            lambda o, i: torch.tensor(weights(o.shape, i), dtype=o.dtype), False,
        )  # fmt: skip
    except Skip:
        raise
    except Exception:
        raise Skip("torch itself refuses") from None
    seeds = [
        tracejit.tensor(weights(w.shape, i)).to(to_tracejit(w.dtype))
        for i, w in enumerate(w for w in flatten(value) if w.requires_grad and w.numel())
    ]

    def loss(x: Any, args: Any, kwargs: Any) -> Any:
        result = process_ours(process, function(x, *args, **kwargs), value)
        outputs = [v for v in flatten(result) if v.requires_grad and v.numel()]
        if not outputs:
            raise Skip("nothing to differentiate")
        total = sum((v * s).sum() for v, s in zip(outputs, seeds, strict=True))
        if inside:
            total.backward()
        return total

    call = tracejit.compile(loss)
    for _ in range(2):
        ours = converted(theirs)
        total = call(*ours)
        if not inside:
            total.backward()
    leaves = [v for v in flatten(ours) if isinstance(v, tracejit.Tensor) and v.requires_grad]
    for i, (x, w) in enumerate(zip(leaves, want, strict=True)):
        if w is not None and bool((w != 0).any()):
            assert x.grad is not None, f"gradient {i} is missing"
            compare(x.grad, w, slack=10.0)
