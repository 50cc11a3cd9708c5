"""``compile``: a function that records itself once and then runs as fused kernels.

A call tries the guards of each tree of traces; if one fits, its programs run. If none fits, or a
branch goes a new way, the function runs eagerly under a capture and the tree grows. What cannot be
captured runs eagerly, with one warning that names the line. Invariant: a call returns what eager
would have returned, and effects take place once.
"""

from __future__ import annotations

import copy
import functools
import sys
import threading
import time
import types
import warnings
import weakref
from collections.abc import Callable
from typing import Any

from tracejit import config
from tracejit.config import DISABLED
from tracejit.eager.capture import Capture
from tracejit.eager.modes import state
from tracejit.eager.settings import changed_settings, settings_now
from tracejit.eager.tape import root_of
from tracejit.eager.watched import WHEN_REPLACED
from tracejit.errors import (
    CaptureError,
    CheckFailed,
    CompileError,
    Location,
    TraceWarning,
    user_stacklevel,
)
from tracejit.jit import report
from tracejit.jit.describe import Miss, why_missed
from tracejit.jit.differentiate import differentiable
from tracejit.jit.effects import Effects
from tracejit.jit.foresee import Foresight, first_line
from tracejit.jit.group import Group, NewBranch, modes_now
from tracejit.jit.guards import MISS, are_apart
from tracejit.jit.identity import identity_entries
from tracejit.jit.lift import LiftedCall, Numbers, drop_lifted
from tracejit.jit.missing import MissingNames
from tracejit.jit.prints import PrintHook
from tracejit.jit.readset import ReadSet, Refusal
from tracejit.jit.scrub import plain, scrub_state
from tracejit.jit.shapes import Shapes
from tracejit.jit.trace import PathBuilder
from tracejit.jit.tree import Conflict, Leaf, Segment, has_many_outcomes
from tracejit.jit.watch import Watcher
from tracejit.runtime.buffers import drop_spare
from tracejit.runtime.timing import PROFILERS, timed

_MAX_FAILURES = 3
"""Captures that may fail in a row before a function stays eager for good."""

_MAX_PASSING = 64
"""Captures that may go because the run set something up for later ones, as a cache."""


def _no_call(*args: Any) -> Any:
    return MISS


class TracedFunction:
    """One signature (count of positional arguments, names of keywords) of a compiled function."""

    def __init__(self, owner: CompiledFunction, count: int, keywords: tuple[str, ...]):
        self.owner = owner
        self.count = count
        self.keywords = keywords
        self.groups: list[Group] = []
        self.ready: list[Callable[..., Any]] = []  # the generated calls of all groups
        self.dropped = 0  # groups that had to go for newer ones

    @property
    def names(self) -> tuple[str, ...]:
        code = getattr(self.owner.function, "__code__", None)
        given = code.co_varnames[: min(code.co_argcount, self.count)] if code is not None else ()
        others = (f"x{i}" for i in range(len(given), self.count))
        return (*given, *others, *self.keywords)


class CompiledFunction:
    """What `compile` returns: call it as the function; ask it what happened.

    ``fn.explain()`` tells what was fused and why it re-traced, ``fn.ir(stage)`` gives the IR as
    text, ``fn.kernels`` the kernels, ``fn.reset()`` forgets all traces.
    """

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]):
        if isinstance(function, types.FunctionType):
            functools.update_wrapper(self, function)
        else:
            self.__name__ = self.__qualname__ = getattr(
                function, "__qualname__", type(function).__name__
            )
        self.function = function
        self.__wrapped__ = function
        self.options = options
        self._lock = threading.RLock()
        self.reset()
        _ALL.add(self)

    def reset(self) -> None:
        """Forget all traces and programs."""
        with self._lock:
            self.signatures: dict[Any, TracedFunction] = {}
            self._first: Callable[..., Any] = _no_call
            self.misses: list[Miss] = []
            self.failures = self.passing = 0
            self.eager_reason: str | None = None
            self.foresight = Foresight(self.function)
            self.lift_items: set[Any] = set()
            self.numbers = Numbers()
            self.shapes = Shapes()
            self.captures = 0

    def ir(self, stage: str = "captured", *, backward: bool = False) -> str:
        """The IR of every trace as text.

        stage     "captured", a pass by name ("decompose", "simplify", "cse", "dce"), "plan", or
                  "all".
        backward  the graph of the gradients instead.
        Raises RuntimeError if there is no trace (the message says why), ValueError for a stage
        that does not exist.
        """
        return report.ir(self, stage, backward)

    @property
    def kernels(self) -> list[Any]:
        """The kernels that ran so far, each with `.name .source .llvm .asm`."""
        return report.kernels(self)

    def explain(self) -> Any:
        """Traces, guards, branches, misses, fusion: prints as text; `.json()` for programs."""
        return report.explain(self)

    def cache_info(self) -> Any:
        """``(hits, misses, traces)``: replays, captures, and traces kept."""
        return report.cache_info(self)

    def __getattr__(self, name: str) -> Any:
        """A compiled Module offers what the Module offers (parameters, train, state_dict...)."""
        is_module = hasattr(self.__dict__.get("function"), "_modules")
        if name in ("function", "__wrapped__") or not is_module:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.function, name)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        binds = hasattr(type(self.function), "__get__")
        if instance is None or not binds or isinstance(self.function, types.MethodType):
            return self
        return types.MethodType(self, instance)

    def __reduce__(self) -> Any:
        """Pickled by reference if a module has it under its name, else as what it compiles."""
        here: Any = sys.modules.get(getattr(self.function, "__module__", None) or "")
        for name in self.__qualname__.split("."):
            here = getattr(here, name, None)
        if here is self:
            return self.__qualname__
        return CompiledFunction, (self.function, self.options)

    def __deepcopy__(self, memo: dict[int, Any]) -> CompiledFunction:
        """Functions are shared by copies; a Module or another callable is copied."""
        if isinstance(self.function, types.FunctionType):
            return self
        return CompiledFunction(copy.deepcopy(self.function, memo), self.options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not (kwargs or DISABLED[0] or PROFILERS):
            result = self._first(*args)
            if result is not MISS:
                return result
        return self._call(args, kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call that the first generated function does not serve."""
        if DISABLED[0]:
            return self.function(*args, **kwargs)
        if PROFILERS:
            with timed(f"compiled {self.__qualname__.rpartition('.')[2]}", native=True):
                return self._find(args, kwargs)
        return self._find(args, kwargs)

    def _find(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The call's result by the trace that serves it, or by a capture."""
        signature = self.signatures.get((len(args), *kwargs))
        if signature is not None:
            flat = args if not kwargs else (*args, *kwargs.values())
            for call in signature.ready:
                result = call(*flat)
                if result is not MISS:
                    return result
            for group in signature.groups:
                found = group.guard(*flat)
                if found is not MISS:
                    result = self._replay(group, flat, found, args, kwargs)
                    self._collect_ready()
                    return result
        return self._miss(args, kwargs)

    def _collect_ready(self) -> None:
        """Bring up to date which generated calls there are, and which is tried first."""
        with self._lock:
            for signature in self.signatures.values():
                signature.ready = [call for group in signature.groups for call in group.fast]
            positional = [
                s.ready[0] for s in self.signatures.values() if s.ready and not s.keywords
            ]
            self._first = positional[0] if positional else _no_call

    def _replay(
        self, group: Group, flat: tuple[Any, ...], found: Any, args: Any, kwargs: Any
    ) -> Any:
        try:
            result = group.run(flat, found)
        except CheckFailed:
            return self.function(*args, **kwargs)  # eager raises the error at the user's line
        except CompileError as error:
            self._give_up(f"code generation failed: {error}", None, final=True)
            return self.function(*args, **kwargs)
        if type(result) is NewBranch:
            return self._new_branch(group, result.segment, args, kwargs)
        return result

    def _new_branch(self, group: Group, segment: Segment, args: Any, kwargs: Any) -> Any:
        """A value went a way not seen before. A float that came from `.item()` and varies is
        traced as a number from now on; anything else grows the tree."""
        location = segment.location
        if segment.kind == "item" and location is not None and self._is_float(segment):
            site = (location.code, location.offset)
            if site not in self.lift_items:
                self.lift_items.add(site)
                for signature in self.signatures.values():
                    if group in signature.groups:
                        signature.groups.remove(group)
                return self._miss(args, kwargs)
        return self._miss(args, kwargs, group)

    @staticmethod
    def _is_float(segment: Segment) -> bool:
        return segment.condition is not None and segment.condition.dtype.kind == "f"

    # --- misses -----------------------------------------------------------------------------

    def _miss(self, args: Any, kwargs: Any, group: Group | None = None) -> Any:
        if state.capture is not None or self.eager_reason is not None:
            return self.function(*args, **kwargs)
        with self._lock:
            try:
                return self._capture(args, kwargs, group)
            finally:
                self._collect_ready()

    def _capture(self, args: Any, kwargs: Any, group: Group | None) -> Any:
        started = time.perf_counter()
        reason = why_missed(self, args, kwargs, group)
        try:
            readset = self.foresight.read_set((*args, *kwargs.values()))
        except Refusal as refusal:
            self._give_up(str(refusal), None, final=True)
            return self.function(*args, **kwargs)
        if readset is None:
            self.misses.append(Miss(f"{reason}; not kept: a look at which code runs", 0.0))
            return self.foresight.look(args, kwargs)
        value, reason = self._record(readset, args, kwargs, group, reason)
        self.misses.append(Miss(reason, (time.perf_counter() - started) * 1e3))
        self._bound_traces(reason)
        if config.debug >= 1:
            report.say_miss(self)
        return value

    def _record(
        self, readset: ReadSet, args: Any, kwargs: Any, group: Group | None, reason: str
    ) -> tuple[Any, str]:
        """Run the function under a capture and keep it if possible; its value, and what to say."""
        misses = len(self.misses)
        self.shapes.note(readset)
        known = {} if group is None else group.inputs.types()
        lifted_items = self.lift_items if readset.stand_ins else ()
        capture = Capture(self.shapes.symbolic_for(readset, known), lifted_items)
        lifted = LiftedCall(self.numbers, capture, readset, args, kwargs)
        modes, settings = modes_now(), settings_now()
        state.capture = capture
        try:
            with PrintHook(), MissingNames(readset, capture) as missing, lifted, \
                    Watcher() as watcher:  # fmt: skip
                value = self.function(*lifted.args, **lifted.kwargs)
        finally:
            state.capture = None
            capture.finish()
            if capture.has_numbers:
                scrub_state(readset)
        self.captures += 1
        drop_spare()  # replays need less, and of other sizes
        try:
            lifted.check()
            self._check_settings(settings)
            readset.entries.extend(missing.entries())
            self._grow(capture, readset, watcher, value, args, kwargs, group, modes)
        except Refusal as refusal:
            lifted.settle()
            self.shapes.fixed |= refusal.fixed
            self._give_up(str(refusal), None, is_passing=refusal.is_passing)
        except CompileError as error:
            self._give_up(f"code generation failed: {error}", None, final=True)
        if len(self.misses) > misses:
            reason = f"{reason}; not kept: {self.misses.pop().reason}"
        return plain(value) if capture.has_numbers else value, reason

    def _grow(
        self, capture: Capture, readset: ReadSet, watcher: Watcher, value: Any, args: Any,
        kwargs: Any, group: Group | None, modes: dict[str, Any],
    ) -> None:  # fmt: skip
        """Add what was captured to the tree, if a replay could repeat it."""
        for found in (watcher.entries, readset.answered(), identity_entries(capture, readset)):
            readset.entries.extend(found)
        self._check_watched(capture, readset, watcher)
        effects = Effects(readset)
        key = (len(args), *kwargs)
        signature = self.signatures.get(key)
        if signature is None:
            signature = TracedFunction(self, len(args), tuple(kwargs))
        if group is not None and not group.inputs.fit(capture, readset):
            group = None  # a path of its own tree
        fresh = group is None
        if group is None:
            group = Group(readset, modes)
        drop_lifted(readset, capture)
        builder = PathBuilder(capture, readset, group.inputs, group.tree.nodes, signature.names)
        branches, leaf = builder.build(value, effects)
        self._differentiate(capture, group, builder, leaf, value)
        self._aliasing(capture, builder, group, readset.args)
        for fact in capture.env.guards():
            group.facts[fact] = None
        group.conditions += capture.conditions
        if not fresh:
            group.readset.absorb(readset)
        try:
            group.tree.insert(branches, leaf)
        except Conflict as conflict:
            raise Refusal(f"the same state led to different ways at {conflict}") from None
        if has_many_outcomes(group.tree.root):
            place = branches[-1][1].location if branches else None
            self._give_up("a branch took too many different values", place, final=True)
            return
        group.rebuild_guard()
        group.prepare(builder)
        self.failures = 0
        if fresh:
            signature.groups.insert(0, group)
            signature.dropped += len(signature.groups[config.max_traces :])
            del signature.groups[config.max_traces :]
            self.signatures[key] = signature

    def _check_settings(self, before: dict[str, Any]) -> None:
        """A replay would not leave a setting of the library changed, as the run did."""
        for name in changed_settings(before):
            self._give_up(f"changes {name}", None, final=True)
            raise Refusal("")

    def _check_watched(self, capture: Capture, readset: ReadSet, watcher: Watcher) -> None:
        unforeseen = {c: g for c, g in watcher.codes.items() if c not in readset.codes}
        if unforeseen:
            self.foresight.note(unforeseen)
            names = ", ".join(sorted({f"{c.co_name} of {c.co_filename}" for c in unforeseen}))
            raise Refusal(f"code ran that could not be foreseen ({names})")
        for what, location in watcher.impure:
            self._give_up(f"calls {what}, whose result a replay could not repeat", location,
                          final=True)  # fmt: skip
            raise Refusal("")
        for reason, location in capture.unsound:
            self._give_up(reason, location, final=True)
            raise Refusal("")

    def _differentiate(
        self, capture: Capture, group: Group, builder: PathBuilder, leaf: Leaf, value: Any
    ) -> None:
        """Outputs that require grad: the path gets a backward graph."""
        finish = leaf.finish
        tracked = builder.tracked_values()
        if not tracked:
            return
        finish.tracked = [r for _, r in tracked]
        wrt = [i for i, t in enumerate(group.inputs.tensors) if t.requires_grad]
        nodes = [*group.inputs.nodes, *(n for _, n in group.inputs.scalars)]
        spent = [builder.reads_freed(t) for t, _ in tracked]
        kept = [t for (t, _), gone in zip(tracked, spent, strict=True) if not gone]
        if builder.has_stale_saves(kept):
            raise Refusal("changes a value in place that its gradient needs: backward would raise")
        positions = [r.index for r in finish.tracked]
        backward = differentiable(
            nodes, wrt, leaf.outputs, positions, finish.written, spent, builder.new_leaves(),
            builder.eager_saves([t for t, _ in tracked]),
        )  # fmt: skip
        leaf.outputs = (*leaf.outputs, *backward.extra)
        finish.backward = backward

    def _aliasing(
        self, capture: Capture, builder: PathBuilder, group: Group, args: tuple[Any, ...]
    ) -> None:
        """If memory is written, inputs that were distinct must be distinct again."""
        if capture.writes or capture.grads or group.distinct:
            inputs = group.inputs
            held = {id(builder.known[id(node)]): tensor for tensor, node in capture.inputs}
            found = [held[id(node)] if id(node) in held else t.source.read(args)
                     for node, t in zip(inputs.nodes, inputs.tensors, strict=True)]  # fmt: skip
            if any(t is None for t in found):
                raise Refusal("writes to a tensor that was a view in another call, and is none now")
            group.distinct = found
            if not are_apart([root_of(t) for t in group.distinct]):
                raise Refusal("writes to memory that two tensors share through a NumPy array")
        for tensor in capture.writes.values():
            if tensor._requires_grad and state.grad and not tensor.is_leaf:
                raise Refusal("changes in place a tensor with a gradient history from outside")

    # --- falling back -----------------------------------------------------------------------

    def _bound_traces(self, reason: str) -> None:
        """A function that no trace fits for long costs more to trace than to run."""
        dropped = sum(s.dropped for s in self.signatures.values())
        if dropped > config.max_traces and not self.options.get("fullgraph"):
            self._give_up(f"{self.captures} traces, the last because {reason}", None, final=True)

    def _give_up(
        self, reason: str, location: Location | None, final: bool = False, is_passing: bool = False
    ) -> None:
        """Note a failed capture; after several (or a final one) stay eager, and say so once."""
        if not reason:
            return
        if is_passing and self.passing < _MAX_PASSING:
            self.passing += 1
            self.misses.append(Miss(reason, 0.0))
            return
        self.failures += 1
        location = location or first_line(self.function)
        place = f" at {location.full()}" if location is not None else ""
        if self.options.get("fullgraph"):
            raise CaptureError(f"{self.__qualname__} cannot be compiled: {reason}{place}")
        self.misses.append(Miss(reason + place, 0.0))
        if not final and self.failures < _MAX_FAILURES:
            return
        self.eager_reason = reason + place
        warnings.warn(
            f"tracejit: {self.__qualname__} runs eagerly: {reason}{place}", TraceWarning,
            stacklevel=user_stacklevel(),
        )  # fmt: skip


_ALL: weakref.WeakSet[CompiledFunction] = weakref.WeakSet()


def _forget_traces() -> None:
    """A function of the library was replaced: no trace knows what it calls any more."""
    for function in list(_ALL):
        function.reset()


WHEN_REPLACED.append(_forget_traces)


def compile(model: Any = None, **options: Any) -> Any:
    """Compile a function, method or Module: ``@compile`` or ``compile(model)``.

    fullgraph  raise CaptureError instead of running eagerly where a capture is not sound.
    check      "first" (the first replays of every path) or a fraction of the replays: these run
               eagerly too; DivergenceError names the first node that differs, and a test file.
    audit      trace twice at every capture; a function whose traces differ runs eagerly, with a
               warning that shows the first line in which they do.
    Other options of ``torch.compile`` (mode, dynamic, backend) are accepted and not needed.

    Example: ``f = compile(lambda x: (x * 2).tanh()); f(tensor([1.0]))``.
    """
    function = model
    if function is None:
        return lambda target: compile(target, **options)
    if isinstance(function, CompiledFunction):
        return function
    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(compile(function.__func__, **options))
    if options.get("check") is not None or options.get("audit"):
        from tracejit.jit.check import CheckedFunction  # which is made of what is here

        return CheckedFunction(function, options)
    return CompiledFunction(function, options)
