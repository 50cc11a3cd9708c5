"""torch's module samples: construction, state, forward, gradients, modes, compiled, errors.

Invariant: both modules hold the same parameters and buffers before they are compared.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch.testing._internal.common_modules import ModuleErrorEnum, module_db

import tracejit
import tracejit.nn
from bench.conformance.convert import Skip, compare, flatten, fresh, to_tracejit
from bench.conformance.ops import weights
from bench.conformance.report import Missing, Report

RANDOM = ("Dropout", "RReLU", "Fractional")


class Case:
    """One module sample, constructed on both sides with the same state."""

    def __init__(self, info: Any, sample: Any, dtype: torch.dtype, training: bool):
        made = sample.constructor_input
        self.inputs = fresh(sample.forward_input.args), fresh(sample.forward_input.kwargs)
        self.theirs = info.module_cls(*fresh(made.args), **fresh(made.kwargs))
        self.theirs = self.theirs.to(dtype).train(training)
        self.ours = build(info, made, getattr(tracejit, str(dtype).removeprefix("torch.")))
        self.ours.train(training)
        if info.is_lazy:
            self.theirs(*fresh(self.inputs[0]), **fresh(self.inputs[1]))
            self.ours(*self.our_inputs()[0], **self.our_inputs()[1])
        self.synchronise()
        self.is_random = any(r in info.name for r in RANDOM) and training

    def synchronise(self) -> None:
        """Copy torch's parameters and buffers over."""
        state = {k: to_tracejit(v.detach()) for k, v in self.theirs.state_dict().items()}
        self.ours.load_state_dict(state)

    def our_inputs(self) -> Any:
        return to_tracejit(self.inputs)


def build(info: Any, made: Any, dtype: Any) -> Any:
    """tracejit's module of the sample's constructor arguments."""
    factory = our_class(info)
    return factory(*module_arguments(made.args), **module_arguments(made.kwargs)).to(dtype)


def our_class(info: Any) -> Any:
    """tracejit's class of the name of torch's."""
    found = getattr(tracejit.nn, info.module_cls.__name__, None)
    if found is None:
        raise Missing(info.name)
    return found


def module_arguments(value: Any) -> Any:
    """Constructor arguments with torch's functions and modules replaced, too."""
    if isinstance(value, (list, tuple)):
        return type(value)(module_arguments(v) for v in value)
    if isinstance(value, dict):
        return {k: module_arguments(v) for k, v in value.items()}
    if isinstance(value, torch.nn.Module):
        return module_of(value)
    name = getattr(value, "__name__", None)
    if callable(value) and name is not None and not isinstance(value, type):
        found = getattr(tracejit.nn.functional, name, None)
        return value if found is None else found
    return to_tracejit(value)


def module_of(theirs: Any) -> Any:
    """The counterpart of a module that is an argument of another."""
    if isinstance(theirs, torch.nn.PairwiseDistance):
        return tracejit.nn.PairwiseDistance(theirs.norm, theirs.eps, theirs.keepdim)
    if isinstance(theirs, (torch.nn.TransformerEncoderLayer, torch.nn.TransformerDecoderLayer)):
        make = getattr(tracejit.nn, type(theirs).__name__)
        attention = theirs.self_attn
        return make(
            attention.embed_dim, attention.num_heads, theirs.linear1.out_features,
            theirs.dropout.p, activation=module_arguments(theirs.activation),
            batch_first=attention.batch_first, norm_first=theirs.norm_first,
            bias=theirs.linear1.bias is not None,
        )  # fmt: skip
    raise Skip(f"a {type(theirs).__name__} as an argument")


def check_state(case: Case) -> None:
    """Parameters and buffers have torch's names, order, shapes and dtypes."""
    ours, theirs = case.ours.state_dict(), case.theirs.state_dict()
    assert list(ours) == list(theirs), f"keys {list(ours)}, torch {list(theirs)}"
    for key, value in theirs.items():
        compare(ours[key], value)
    names = [n for n, _ in case.ours.named_parameters()]
    assert names == [n for n, _ in case.theirs.named_parameters()], f"parameters {names}"
    copied = copy.deepcopy(case.ours).state_dict()
    assert list(copied) == list(ours), "a copy has another state"


def check_forward(case: Case) -> None:
    """Results and buffers after the call are torch's."""
    (args, kwargs), (our_args, our_kwargs) = fresh(case.inputs), case.our_inputs()
    try:
        want = case.theirs(*args, **kwargs)
    except Exception:
        raise Skip("torch itself refuses") from None
    got = case.ours(*our_args, **our_kwargs)
    compare(got, want, case.is_random)
    check_buffers(case)


def check_buffers(case: Case) -> None:
    """Buffers (batch-norm statistics) hold what torch's hold."""
    buffers = dict(case.ours.named_buffers())
    for name, value in case.theirs.named_buffers():
        compare(buffers[name], value)


def run_backward(module: Any, args: Any, kwargs: Any, tensor: Any, call: Any) -> list[Any]:
    """Gradients of the inputs and the parameters, by a weighted sum of the results."""
    result = call(*args, **kwargs)
    outputs = [v for v in flatten(result) if hasattr(v, "requires_grad") and v.requires_grad]
    if not outputs:
        raise Skip("nothing to differentiate")
    sum((o * tensor(weights(o.shape, i), o.dtype)).sum() for i, o in enumerate(outputs)).backward()
    leaves = [v for v in flatten((args, kwargs)) if hasattr(v, "requires_grad") and v.requires_grad]
    return [v.grad for v in (*leaves, *module.parameters())]


def check_grad(case: Case, call: Any, repeat: int = 1) -> None:
    """Gradients of inputs and parameters equal torch's."""
    if case.is_random:
        raise Skip("random")
    for _ in range(repeat):
        case.theirs.zero_grad()
        args, kwargs = fresh(case.inputs)
        want = run_backward(
            case.theirs, args, kwargs, lambda w, d: torch.tensor(w, dtype=d), case.theirs
        )
        case.ours.zero_grad()
        got = run_backward(
            case.ours, *case.our_inputs(), lambda w, d: tracejit.tensor(w).to(d), call
        )
    assert len(got) == len(want), f"{len(got)} gradients, torch gives {len(want)}"
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        if w is not None and bool((w != 0).any()):
            assert g is not None, f"gradient {i} is missing"
            compare(g, w, slack=10.0)
    check_buffers(case)


def check_compiled(case: Case) -> None:
    """A replay of the compiled module gives torch's results and buffers."""
    if case.is_random:
        raise Skip("random")
    call = tracejit.compile(case.ours)
    for _ in range(2):
        args, kwargs = fresh(case.inputs)
        try:
            want = case.theirs(*args, **kwargs)
        except Exception:
            raise Skip("torch itself refuses") from None
        our_args, our_kwargs = case.our_inputs()
        got = call(*our_args, **our_kwargs)
        compare(got, want)
        check_buffers(case)
    assert call.eager_reason is None, f"runs eagerly: {call.eager_reason}"
    assert call.cache_info().hits, f"no replay: {[m.reason for m in call.misses]}"


def check_repr(case: Case) -> None:
    """Prints as torch's module does."""
    ours, theirs = repr(case.ours), repr(case.theirs)
    assert ours == theirs, f"{ours!r}, torch {theirs!r}"


def check_error(info: Any, error: Any) -> None:
    """Where torch refuses, tracejit raises an error of the same class."""
    sample, family = error.module_error_input, error.error_type
    allowed = (family, RuntimeError) if family is not RuntimeError else (
        RuntimeError, TypeError, IndexError, ValueError)  # fmt: skip
    made = sample.constructor_input
    try:
        module = our_class(info)(*module_arguments(made.args), **module_arguments(made.kwargs))
        if error.error_on is ModuleErrorEnum.CONSTRUCTION_ERROR:
            raise AssertionError(f"did not raise ({error.error_regex[:80]})")
        inputs = sample.forward_input
        module(*to_tracejit(inputs.args), **to_tracejit(inputs.kwargs))
    except allowed:
        return
    raise AssertionError(f"did not raise {family.__name__} ({error.error_regex[:80]})")


def run(report: Report, options: Any) -> None:
    """All checks of every ModuleInfo."""
    for info in module_db:
        if not options.wants(info.name):
            continue
        for dtype in (torch.float64, torch.float32, torch.float16):
            if dtype in info.dtypes or dtype is torch.float16:
                for training in (True, False):
                    run_samples(report, info, dtype, training)
        report.save()
        if info.module_error_inputs_func is None:
            continue
        errors = info.module_error_inputs_func(
            info, device="cpu", dtype=torch.float32, requires_grad=False, training=False
        )
        for i, error in enumerate(errors):
            action = partial(check_error, info, error)
            report.check("modules", info.name, "error", f"#{i}", action)


def construct(holder: list[Case], *arguments: Any) -> None:
    """Put the case of a sample into `holder`."""
    holder.append(Case(*arguments))


def run_samples(report: Report, info: Any, dtype: torch.dtype, training: bool) -> None:
    """All checks of the samples of one dtype and mode."""
    try:
        samples = info.module_inputs_func(
            info, device="cpu", dtype=dtype, requires_grad=True, training=training
        )
    except Exception:
        return
    for i, sample in enumerate(samples):
        label = f"{dtype} {'train' if training else 'eval'} #{i} {sample.desc}"
        holder: list[Case] = []
        report.check(
            "modules", info.name, "construct", label,
            partial(construct, holder, info, sample, dtype, training),
        )  # fmt: skip
        if not holder:
            continue
        case = holder[0]
        checks = {
            "state": partial(check_state, case), "repr": partial(check_repr, case),
            "forward": partial(check_forward, case),
        }  # fmt: skip
        if dtype is not torch.float16:
            checks["grad"] = partial(check_grad, case, case.ours)
        if dtype is torch.float32:
            checks["compiled"] = partial(check_compiled, case)
            checks["compiled grad"] = partial(check_grad, case, tracejit.compile(case.ours), 2)
        for kind, action in checks.items():
            report.check("modules", info.name, kind, label, action)
