"""How far eager tracejit agrees with torch: torch's own samples, op by op.

Needs torch and expecttest; not part of the test suite. For every OpInfo of torch and every dtype
that both have: values, dtypes and shapes; gradients and gradients of gradients in float64;
in-place and ``out=`` forms; and that tracejit refuses what torch refuses.

    python bench/torch_conformance.py [-k SUBSTRING] [-v] [--samples N] [--kinds value,grad,...]
"""

from __future__ import annotations

import argparse
import collections
import signal
import sys
import time
import traceback
import warnings
from typing import Any

import numpy as np
import torch
from torch.testing._internal.common_methods_invocations import op_db

import tracejit
import tracejit.eager.execute
import tracejit.linalg
import tracejit.special

try:
    import tracejit.nn.functional
except ImportError as missing:
    print(f"nn.functional is left out: {missing}")

DTYPES = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
KINDS = ("value", "method", "grad", "gradgrad", "inplace", "out", "error")
TOLERANCE = {"float64": (1e-7, 1e-7), "float32": (2e-5, 2e-5), "float16": (4e-3, 2e-3)}

# Out of scope: complex numbers, sparse and nested tensors, jiterator, torch-internal functions.
SKIPPED = (
    "fft.", "jiterator", "sparse", "to_sparse", "view_as_real", "view_as_complex", "complex", "polar",
    "cdouble", "cfloat", "chalf", "bfloat16", "stft", "istft", "torch._", "torch.ops", "_",
    "native_", "masked.", "linalg.eig", "linalg.eigvals", "hash_tensor", "grid_sampler_",
    "max_pool2d_with_indices_backward", "geqrf", "ormqr", "linalg.householder_product",
    "linalg.ldl", "imag", "nn.functional.silu.complex", "signal.",
)  # fmt: skip
KEPT = ("__", "linalg.eigh", "linalg.eigvalsh")
RANDOM = (
    "multinomial", "normal", "bernoulli", "rand", "randn", "randint", "uniform", "cauchy", "empty",
    "exponential", "geometric", "log_normal", "dropout", "rrelu", "new_empty", "fractional", "lowrank",
)  # fmt: skip


class Skip(Exception):
    """The sample uses what tracejit leaves out on purpose (complex, bfloat16, a sparse layout)."""


def to_tracejit(value: Any) -> Any:
    """torch tensors, dtypes and devices replaced by tracejit's, at any depth."""
    if isinstance(value, torch.Tensor):
        if value.is_sparse or value.layout != torch.strided:
            raise Skip("layout")
        if str(value.dtype).removeprefix("torch.") not in DTYPES:
            raise Skip(str(value.dtype))
        array = value.detach().resolve_conj().resolve_neg().numpy()
        result = tracejit.from_numpy(np.array(array, order="K"))
        return result.requires_grad_() if value.requires_grad else result
    if isinstance(value, torch.dtype):
        name = str(value).removeprefix("torch.")
        if name not in DTYPES:
            raise Skip(name)
        return getattr(tracejit, name)
    if isinstance(value, torch.device):
        return tracejit.device(value.type)
    if isinstance(value, torch.memory_format):
        raise Skip("memory_format")
    if isinstance(value, torch.layout):
        return "strided"
    if isinstance(value, torch.Generator):
        return tracejit.Generator().manual_seed(0)
    if isinstance(value, complex):
        raise Skip("complex")
    if isinstance(value, torch.Size):
        return tuple(value)
    if isinstance(value, (list, tuple)):
        items = [to_tracejit(v) for v in value]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, dict):
        return {k: to_tracejit(v) for k, v in value.items()}
    if isinstance(value, slice):
        return slice(*(to_tracejit(v) for v in (value.start, value.stop, value.step)))
    return value


def _wrapped(name: str, **fixed: Any) -> Any:
    return lambda *a, **k: getattr(tracejit, name)(*a, **{**fixed, **k})


# torch's `op` is a lambda for these; here is the same in tracejit's terms.
SPELLED: dict[str, Any] = {
    "__rdiv__": lambda x, y: y / x,
    "__radd__": lambda x, y: y + x,
    "__rmul__": lambda x, y: y * x,
    "__rand__": lambda x, y: y & x,
    "__ror__": lambda x, y: y | x,
    "__rxor__": lambda x, y: y ^ x,
    "__rmod__": lambda x, y: y % x,
    "__rpow__": lambda x, y: y**x,
    "__rmatmul__": lambda x, y: y @ x,
    "__getitem__": lambda x, i: x[i],
    "slice": lambda x, *a, **k: tracejit.slice_copy(x, *a, **k),
    "where": lambda x, c, y, **k: tracejit.where(c, x, y, **k),
    "zero_": lambda x: x.clone().zero_(),
    "fill": lambda x, value: x.clone().fill_(value),
    "polygamma": lambda x, n, **k: tracejit.polygamma(n, x, **k),
    "special.polygamma": lambda x, n, **k: tracejit.special.polygamma(n, x, **k),
    "resize_": lambda x, *s, **k: x.clone().resize_(*s, **k),
    "resize_as_": lambda x, y, **k: x.clone().resize_as_(y, **k),
    "einsum": lambda xs, equation: tracejit.einsum(equation, xs),
    "normal.in_place": lambda x, *a, **k: x.normal_(*a, **k),
    **{n: (lambda x, *a, n=n, **k: getattr(x, f"{n}_")(*a, **k))
       for n in ("cauchy", "exponential", "geometric", "log_normal", "uniform")},
    "linalg.lstsq.grad_oriented": lambda a, b, driver: tracejit.linalg.lstsq(a, b, driver=driver)[:2],
    "linalg.pinv.singular": lambda a, b: tracejit.linalg.pinv(a @ b.mT),
    "svd_lowrank": lambda a, b, **k: tracejit.svd_lowrank(a @ b.mT, **k),
    "pca_lowrank": lambda a, b, **k: tracejit.pca_lowrank(a @ b.mT, **k),
    "__rsub__": lambda x, y: y - x,
    "unsafe_chunk": _wrapped("chunk"),
    "unsafe_split": _wrapped("split"),
}


def tracejit_function(info: Any) -> Any:
    """tracejit's function of the OpInfo's name, or None."""
    name = info.name
    if f"{name}.{info.variant_test_name}" in SPELLED:
        return SPELLED[f"{name}.{info.variant_test_name}"]
    if name in SPELLED:
        return SPELLED[name]
    scope: Any = tracejit
    *path, last = name.split(".")
    for part in path:
        scope = getattr(scope, part, None)
    found = getattr(scope, last, None) if scope is not None else None
    if found is None and not path:
        found = getattr(tracejit.Tensor, last, None)
        if isinstance(found, property):
            return found.fget
    elif name in ("bool", "byte", "char", "double", "float", "half", "int", "long", "short", "to"):
        found = getattr(tracejit.Tensor, last)
    return found


def flatten(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [x for v in value for x in flatten(v)]
    if isinstance(value, dict):
        return [x for v in value.values() for x in flatten(v)]
    return [value]


def is_random(info: Any) -> bool:
    return any(r in info.name for r in RANDOM)


SIGN_FREE = [False]
"""Whether the op at hand (eigenvectors) leaves the signs of its results open."""


# torch's own error in float32 and float16 (float64 agrees): as many times the usual tolerance.
INEXACT = {"matrix_exp": 200, "polygamma": 3, "special.polygamma": 3, "addbmm": 15,
           "special.hermite_polynomial_he": 3}  # fmt: skip
NARROW_SLACK = [1]


def compare(got: Any, want: Any, random: bool = False, slack: float = 1.0) -> None:
    """Raise AssertionError where two results differ in structure, dtype, shape or value."""
    gots, wants = flatten(got), flatten(want)
    assert len(gots) == len(wants), f"{len(gots)} results, torch gives {len(wants)}"
    for g, w in zip(gots, wants, strict=True):
        if not isinstance(w, torch.Tensor):
            if isinstance(w, float):
                assert np.isclose(g, w, equal_nan=True), f"{g!r}, torch gives {w!r}"
            elif isinstance(w, torch.dtype):
                assert str(g).split(".")[-1] == str(w).split(".")[-1], f"{g}, torch gives {w}"
            else:
                assert g == w, f"{g!r}, torch gives {w!r}"
            continue
        assert isinstance(g, tracejit.Tensor), f"{type(g).__name__} instead of a tensor"
        name = str(w.dtype).removeprefix("torch.")
        assert g.dtype.name == name, f"dtype {g.dtype.name}, torch gives {name}"
        assert tuple(g.shape) == tuple(w.shape), f"shape {tuple(g.shape)}, torch {tuple(w.shape)}"
        if random:
            continue
        a, b = g.detach().numpy(), w.detach().numpy()
        if a.dtype.kind == "f":
            if SIGN_FREE[0]:
                a, b = np.abs(a), np.abs(b)
            rtol, atol = TOLERANCE[name]
            slack = slack if name == "float64" else slack * NARROW_SLACK[0]
            close = np.isclose(a, b, rtol * slack, atol * slack, equal_nan=True)
        else:
            close = np.asarray(a == b)
        if not close.all():
            where = tuple(int(i) for i in np.argwhere(~close)[0])
            count = int((~close).sum())
            raise AssertionError(
                f"{count}/{close.size} values differ, at {where}: {a[where]!r}, torch {b[where]!r}"
            )


class Report:
    """Passes and failures by op and kind."""

    def __init__(self, verbose: bool):
        self.verbose = verbose
        self.passed: dict[Any, int] = collections.Counter()
        self.failed: dict[Any, int] = collections.Counter()
        self.first: dict[Any, str] = {}

    def check(self, op: str, kind: str, label: str, action: Any) -> None:
        """Run `action`; Skip does not count, any other exception is a failure."""
        try:
            signal.alarm(20)
            action()
        except Skip:
            return
        except Exception as error:
            self.failed[op, kind] += 1
            text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            self.first.setdefault((op, kind), f"[{label}] {text[:200]}")
            if self.verbose:
                print(f"--- {op} {kind} {label}\n{text}")
                if not isinstance(error, AssertionError):
                    traceback.print_exc(limit=-3)
        else:
            self.passed[op, kind] += 1
        finally:
            signal.alarm(0)

    def table(self) -> None:
        ops = sorted({op for op, _ in (*self.passed, *self.failed)})
        for op in ops:
            if not any(self.failed[op, kind] for kind in KINDS):
                continue
            cells = []
            for kind in KINDS:
                good, bad = self.passed[op, kind], self.failed[op, kind]
                if bad:
                    cells.append(f"{kind} {good}/{good + bad} {self.first[op, kind]}")
            print(f"{op}: " + "\n    ".join(cells))
        print()
        for kind in KINDS:
            good = sum(n for (_, k), n in self.passed.items() if k == kind)
            bad = sum(n for (_, k), n in self.failed.items() if k == kind)
            clean = sum(1 for op in ops if self.passed[op, kind] and not self.failed[op, kind])
            some = sum(1 for op in ops if self.passed[op, kind] or self.failed[op, kind])
            print(f"{kind:9s} {good:6d} of {good + bad:6d} samples; {clean:4d} of {some:4d} ops clean")
        whole = [op for op in ops if not any(self.failed[op, k] for k in KINDS)]
        print(f"ops without any failure: {len(whole)} of {len(ops)}")


def samples_of(info: Any, dtype: torch.dtype, limit: int, requires_grad: bool = False) -> list[Any]:
    """Up to `limit` of torch's samples, spread evenly over the list."""
    torch.manual_seed(0)
    found = list(info.sample_inputs("cpu", dtype, requires_grad=requires_grad))
    if len(found) > limit:
        found = [found[i * len(found) // limit] for i in range(limit)]
    return found


def fresh(value: Any) -> Any:
    """A deep copy of torch arguments, with leaves of their own."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)([fresh(v) for v in value])
    if isinstance(value, dict):
        return {k: fresh(v) for k, v in value.items()}
    return value


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
    if info.name not in AMBIGUOUS or isinstance(want, torch.Tensor) and info.name != "argsort":
        return compare(got, want, is_random(info))
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
    method = getattr(tracejit.Tensor, info.name if name == "<lambda>" else name)
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


def _weights(shape: Any, i: int) -> np.ndarray:
    rng = np.random.default_rng(i)
    return rng.uniform(0.5, 1.5, tuple(shape))


def check_grad(info: Any, function: Any, sample: Any, again: bool) -> None:
    theirs = fresh_sample(sample)
    ours = to_tracejit((theirs.input, theirs.args, theirs.kwargs))
    process = sample.output_process_fn_grad
    try:
        value = process(info.op(theirs.input, *theirs.args, **theirs.kwargs))
        want = gradients(
            value, (theirs.input, theirs.args, theirs.kwargs), torch.autograd.grad,
            lambda o, i: torch.tensor(_weights(o.shape, i), dtype=o.dtype), again,
        )  # fmt: skip
    except Skip:
        raise
    except Exception:
        raise Skip("torch itself refuses") from None
    got_value = process_ours(process, function(ours[0], *ours[1], **ours[2]), value)
    try:
        got = gradients(
            got_value, ours, tracejit.autograd.grad,
            lambda o, i: tracejit.tensor(_weights(o.shape, i), dtype=o.dtype), again,
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


def check_inplace(info: Any, sample: Any) -> None:
    theirs = fresh_sample(sample)
    name = info.inplace_variant.__name__
    arguments = to_tracejit((theirs.input, theirs.args, theirs.kwargs))
    try:
        want = info.inplace_variant(theirs.input, *theirs.args, **theirs.kwargs)
    except Exception:
        want = None
    method = getattr(tracejit.Tensor, name, None)
    assert method is not None, f"no method {name}"
    if want is None:
        try:
            method(arguments[0], *arguments[1], **arguments[2])
        except (RuntimeError, TypeError, ValueError, IndexError):
            return
        raise AssertionError("did not raise")
    got = method(arguments[0], *arguments[1], **arguments[2])
    assert got is arguments[0], "the result is not the tensor itself"
    compare(got, want, is_random(info))


def check_out(info: Any, function: Any, sample: Any) -> None:
    arguments = to_tracejit((sample.input, sample.args, sample.kwargs))
    want = run_torch(info.op, fresh_sample(sample))
    if not all(isinstance(w, torch.Tensor) for w in flatten(want)):
        raise Skip("no tensors to write")
    to_tracejit(want)
    empty = [tracejit.empty(tuple(w.shape), dtype=to_tracejit(w.dtype)) for w in flatten(want)]
    out = empty[0] if isinstance(want, torch.Tensor) else tuple(empty)
    got = function(arguments[0], *arguments[1], **arguments[2], out=out)
    assert all(a is b for a, b in zip(flatten(got), empty)), "the result is not out"
    compare_results(info, sample, got, want)


LENIENT = ("unsupported operation", "Expected out tensor to have dtype",
           "multinomial expects Long tensor out")  # fmt: skip


def check_error(info: Any, function: Any, error: Any) -> None:
    sample = error.sample_input
    if info.name.startswith("__") or sample.input.__class__ is torch.Tensor and sample.input.ndim > 64:
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


def run_op(info: Any, report: Report, options: argparse.Namespace) -> None:
    name = info.name + (f".{info.variant_test_name}" if info.variant_test_name else "")
    function = tracejit_function(info)
    if function is None:
        report.failed[name, "value"] += 1
        report.first[name, "value"] = "missing"
        return
    kinds = options.kinds
    NARROW_SLACK[0] = INEXACT.get(info.name, 1)
    SIGN_FREE[0] = name in ("svd", "linalg.svd", "linalg.eigh")
    for dtype_name in DTYPES:
        dtype = getattr(torch, dtype_name)
        if not info.supports_dtype(dtype, "cpu"):
            continue
        try:
            samples = samples_of(info, dtype, options.samples)
        except Exception:
            continue
        for i, sample in enumerate(samples):
            label = f"{dtype_name} #{i}"
            if "value" in kinds:
                report.check(name, "value", label, lambda: check_value(info, function, sample))
            if "method" in kinds and info.method_variant is not None and i < 4:
                report.check(name, "method", label, lambda: check_method(info, sample))
            if "inplace" in kinds and info.inplace_variant is not None and i < 8:
                report.check(name, "inplace", label, lambda: check_inplace(info, sample))
            if "out" in kinds and info.supports_out and i < 2:
                report.check(name, "out", label, lambda: check_out(info, function, sample))
    if "grad" in kinds and info.supports_autograd and info.supports_dtype(torch.float64, "cpu"):
        check_gradients(info, function, name, report, options)
    if "error" in kinds and info.error_inputs_func is not None:
        for i, error in enumerate(info.error_inputs("cpu")):
            report.check(name, "error", f"#{i}", lambda: check_error(info, function, error))


def check_gradients(info: Any, function: Any, name: str, report: Report, options: Any) -> None:
    if is_random(info):
        return
    try:
        samples = samples_of(info, torch.float64, options.samples, True)
    except Exception:
        return
    for i, sample in enumerate(samples):
        label = f"#{i}"
        report.check(name, "grad", label, lambda: check_grad(info, function, sample, False))
        if "gradgrad" in options.kinds and info.supports_gradgrad and i % 4 == 0:
            report.check(name, "gradgrad", label, lambda: check_grad(info, function, sample, True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-k", default="", help="only ops whose name holds this (comma separated)")
    parser.add_argument("-x", action="store_true", help="-k means the exact name")
    parser.add_argument("-v", action="store_true", help="print every failure")
    parser.add_argument("--samples", type=int, default=16, help="samples of one op and dtype")
    parser.add_argument("--numpy", action="store_true", help="NumPy instead of compiled kernels")
    parser.add_argument("--no-nn", action="store_true", help="leave nn.functional out")
    parser.add_argument("--kinds", default=",".join(KINDS))
    options = parser.parse_args()
    options.kinds = options.kinds.split(",")
    if options.numpy:
        tracejit.eager.execute.run_op = on_numpy
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _timed_out)
    wanted = [k for k in options.k.split(",") if k]
    report = Report(options.v)
    started = time.time()
    for info in op_db:
        name = info.name
        if name.startswith(SKIPPED) and not name.startswith(KEPT):
            continue
        if options.no_nn and name.startswith("nn."):
            continue
        if wanted and not any(name == k if options.x else k in name for k in wanted):
            continue
        run_op(info, report, options)
    report.table()
    print(f"{time.time() - started:.0f} s", file=sys.stderr)


def on_numpy(op: Any, arrays: Any, params: Any, *rest: Any) -> Any:
    """The reference meaning of an op in the place of its kernel (to tell the two apart)."""
    with np.errstate(all="ignore"):
        result = op.numpy(*arrays, **params)
    return tuple(map(np.asarray, result)) if isinstance(result, tuple) else np.asarray(result)


def _timed_out(signum: int, frame: Any) -> None:
    raise TimeoutError("took more than 20 s")


if __name__ == "__main__":
    main()
