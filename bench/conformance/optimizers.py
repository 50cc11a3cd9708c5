"""torch's optimizer samples: parameters after several steps, state, flags, schedules, errors.

Invariant: both sides start from the same parameters and see gradients by the same formula.
"""

from __future__ import annotations

import types
from functools import partial
from typing import Any

import torch
from torch.testing._internal import common_optimizers
from torch.testing._internal.common_optimizers import (
    OptimizerErrorEnum,
    _get_optim_inputs_including_global_cliquey_kwargs,
    optim_db,
)

import tracejit
import tracejit.optim
from bench.conformance.convert import Skip, compare, fresh, to_tracejit
from bench.conformance.report import Missing, Report

STEPS = 6
SLACK = {"Muon": 1e5}  # torch rounds its iteration to bfloat16
SHAPES = ((3, 4), (4, 2))


def start(dtype: torch.dtype) -> list[Any]:
    """torch's parameters before the first step."""
    torch.manual_seed(0)
    return [torch.randn(s, dtype=torch.float64).to(dtype).requires_grad_() for s in SHAPES]


class Run:
    """One optimizer and its parameters on one side."""

    def __init__(self, module: Any, name: str, parameters: list[Any], kwargs: dict[str, Any]):
        self.parameters = parameters
        self.optimizer = getattr(module.optim, name)(parameters, **kwargs)

    def loss(self) -> Any:
        """A bowl that is not the same in all directions."""
        a, b = self.parameters
        return ((a @ b - 1.0) ** 2).sum() + 0.5 * (a * a).mean() + (b**4).mean()

    def step(self) -> Any:
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        self.optimizer.step()
        return loss

    def closure(self) -> Any:
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        return loss

    def step_closure(self) -> Any:
        return self.optimizer.step(self.closure)


def pair(info: Any, sample: Any, dtype: torch.dtype) -> tuple[Run, Run]:
    """torch's run and tracejit's."""
    if not hasattr(tracejit.optim, info.name):
        raise Missing(info.name)
    try:
        theirs = Run(torch, info.name, start(dtype), fresh(sample.kwargs))
        theirs.step_closure() if info.step_requires_closure else theirs.step()
    except Exception:
        raise Skip("torch itself refuses on a CPU") from None
    theirs = Run(torch, info.name, start(dtype), fresh(sample.kwargs))
    parameters = [to_tracejit(p) for p in start(dtype)]
    return theirs, Run(tracejit, info.name, parameters, to_tracejit(sample.kwargs))


def check_steps(info: Any, sample: Any, dtype: torch.dtype, compiled: bool) -> None:
    """Parameters after each of several steps equal torch's."""
    theirs, ours = pair(info, sample, dtype)
    if info.step_requires_closure:
        their_step, our_step = theirs.step_closure, ours.step_closure
    else:
        their_step, our_step = theirs.step, ours.step
    call = tracejit.compile(our_step) if compiled else our_step
    for step in range(STEPS):
        want, got = their_step(), call()
        compare(got.detach(), want.detach(), slack=SLACK.get(info.name, 10.0))
        for mine, other in zip(ours.parameters, theirs.parameters, strict=True):
            try:
                compare(mine.detach(), other.detach(), slack=SLACK.get(info.name, 10.0))
            except AssertionError as error:
                raise AssertionError(f"step {step}: {error}") from None
    if compiled:
        reasons = [m.reason for m in call.misses]
        assert call.eager_reason is None, f"runs eagerly: {call.eager_reason}"
        assert call.cache_info().hits, f"no replay: {reasons}"


def check_state(info: Any, sample: Any) -> None:
    """state_dict has torch's keys, and torch's own state loads into it."""
    theirs, ours = pair(info, sample, torch.float64)
    for run in (theirs, ours):
        run.step_closure() if info.step_requires_closure else run.step()
    want, got = theirs.optimizer.state_dict(), ours.optimizer.state_dict()
    group, other = got["param_groups"][0], want["param_groups"][0]
    assert set(group) == set(other), f"group keys differ: {sorted(set(group) ^ set(other))}"
    assert set(got["state"]) == set(want["state"]), "other parameters have state"
    for index, entry in want["state"].items():
        keys = {k for k, v in entry.items() if v is not None}
        mine = {k for k, v in got["state"][index].items() if v is not None}
        assert keys == mine, f"state keys differ: {sorted(keys ^ mine)}"
    ours.optimizer.load_state_dict(to_tracejit(want))
    for _ in range(2):
        for run in (theirs, ours):
            run.step_closure() if info.step_requires_closure else run.step()
    for mine, one in zip(ours.parameters, theirs.parameters, strict=True):
        compare(mine.detach(), one.detach(), slack=SLACK.get(info.name, 10.0))


def check_schedule(info: Any, makers: Any) -> None:
    """Learning rates of 12 steps under torch's sample schedulers."""
    theirs = Run(torch, info.name, start(torch.float64), {"lr": 0.05})
    ours = Run(tracejit, info.name, [to_tracejit(p) for p in start(torch.float64)], {"lr": 0.05})
    schedules = [(make(theirs.optimizer), translated(make)(ours.optimizer)) for make in makers]
    for step in range(12):
        if info.step_requires_closure:
            theirs.step_closure(), ours.step_closure()
        else:
            theirs.step(), ours.step()
        for one, mine in schedules:
            plateau = isinstance(one, torch.optim.lr_scheduler.ReduceLROnPlateau)
            one.step(*([1.0] if plateau else [])), mine.step(*([1.0] if plateau else []))
        want, got = (float(r.optimizer.param_groups[0]["lr"]) for r in (theirs, ours))
        assert abs(want - got) < 1e-12, f"step {step}: lr {got}, torch {want}"


def translated(make: Any) -> Any:
    """torch's lambda that makes a scheduler, with tracejit's classes in its globals."""
    names = {n: getattr(tracejit.optim.lr_scheduler, n, None) for n in make.__code__.co_names}
    return types.FunctionType(make.__code__, {**vars(common_optimizers), **names})


def check_error(info: Any, error: Any) -> None:
    """Where torch refuses, tracejit raises an error of the same class."""
    sample, family = error.optimizer_error_input, error.error_type
    if not hasattr(tracejit.optim, info.name):
        raise Missing(info.name)
    if "sparse" in sample.desc or "complex" in sample.desc:
        raise Skip("sparse")
    allowed = (family, RuntimeError) if family is not RuntimeError else (
        RuntimeError, TypeError, IndexError, ValueError)  # fmt: skip
    torch_class = info.optim_cls
    try:
        theirs = sample.params
        if theirs is None:
            theirs = [torch.ones(2, 2, requires_grad=True)]
        optimizer = torch_class(theirs, **sample.kwargs)
        if error.error_on is OptimizerErrorEnum.STEP_ERROR:
            optimizer.step()
    except Exception:
        pass
    else:
        raise Skip("torch accepts it here")
    known: dict[int, Any] = {}
    params = shared(sample.params, known) if sample.params is not None else [
        tracejit.ones(2, 2, requires_grad=True)]  # fmt: skip
    if family is UserWarning:
        raise Skip("a warning")
    try:
        optimizer = getattr(tracejit.optim, info.name)(params, **to_tracejit(sample.kwargs))
        if error.error_on is OptimizerErrorEnum.STEP_ERROR:
            optimizer.step()
    except allowed:
        return
    raise AssertionError(f"did not raise {family.__name__} ({error.error_regex[:80]})")


def shared(value: Any, known: dict[int, Any]) -> Any:
    """`to_tracejit`, with one tensor for each of torch's."""
    if isinstance(value, torch.Tensor):
        return known.setdefault(id(value), to_tracejit(value))
    if isinstance(value, dict):
        return {k: shared(v, known) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(shared(v, known) for v in value)
    return value


def run(report: Report, options: Any) -> None:
    """All checks of every OptimizerInfo but the sparse one."""
    for info in optim_db:
        if info.only_supports_sparse_grads or not options.wants(info.name):
            continue
        run_samples(report, info)
        for i, makers in enumerate(info.scheduler_inputs):
            action = partial(check_schedule, info, makers)
            report.check("optimizers", info.name, "schedule", f"#{i}", action)
        if info.optim_error_inputs_func is not None:
            for error in info.optim_error_inputs_func("cpu", torch.float32):
                action = partial(check_error, info, error)
                desc = error.optimizer_error_input.desc
                report.check("optimizers", info.name, "error", desc, action)


def run_samples(report: Report, info: Any) -> None:
    """Steps and state of every combination of arguments, with the flags on and off."""
    samples = _get_optim_inputs_including_global_cliquey_kwargs("cpu", torch.float64, info)
    if "foreach" in info.supported_impls:
        samples += [common_optimizers.OptimizerInput(None, {"foreach": True}, "foreach")]
    for sample in samples:
        flags = [f for f in ("foreach", "fused", "differentiable") if sample.kwargs.get(f)]
        label = f"{sample.desc} {flags}"
        for dtype in (torch.float64, torch.float32):
            for compiled in (False, True):
                if compiled and (flags or dtype is torch.float32 or info.name == "LBFGS"):
                    continue  # L-BFGS steers by values at every turn, so it runs eagerly
                kind = "compiled steps" if compiled else "steps with a flag" if flags else "steps"
                action = partial(check_steps, info, sample, dtype, compiled)
                report.check("optimizers", info.name, kind, f"{label} {dtype}", action)
        if not flags:
            action = partial(check_state, info, sample)
            report.check("optimizers", info.name, "state_dict", label, action)
