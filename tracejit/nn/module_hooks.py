"""Calling a module that has hooks.

Invariant: hooks run in the order they were registered (or prepended); without hooks none of this
runs.
"""

from __future__ import annotations

from typing import Any

from tracejit.errors import at_user_line
from tracejit.nn.backward_hooks import BackwardWatch


def call_with_hooks(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``module.forward`` between its hooks."""
    args, kwargs = _run_pre_hooks(module, args, kwargs)
    done: set[int] = set()
    try:
        watch = None
        if module._backward_hooks or module._backward_pre_hooks:
            watch = BackwardWatch(module)
            args = watch.enter(args)
        output = module.forward(*args, **kwargs)
        for key, (hook, with_kwargs, _) in list(module._forward_hooks.items()):
            done.add(key)
            extra = (kwargs,) if with_kwargs else ()
            result = hook(module, args, *extra, output)
            if result is not None:
                output = result
        return output if watch is None else watch.leave(output)
    except Exception:  # whatever forward raised goes on; hooks made with always_call run first
        _run_always_hooks(module, args, kwargs, done)
        raise


def _run_pre_hooks(
    module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    for hook, with_kwargs in list(module._forward_pre_hooks.values()):
        if with_kwargs:
            result = hook(module, args, kwargs)
            if result is not None:
                if not isinstance(result, tuple) or len(result) != 2:
                    raise RuntimeError(
                        at_user_line(
                            "a forward pre-hook with kwargs must return None or "
                            f"(args, kwargs), not {result!r}"
                        )
                    )
                args, kwargs = result
        else:
            result = hook(module, args)
            if result is not None:
                args = result if isinstance(result, tuple) else (result,)
    return args, kwargs


def _run_always_hooks(
    module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], done: set[int]
) -> None:
    for key, (hook, with_kwargs, always) in list(module._forward_hooks.items()):
        if always and key not in done:
            hook(module, args, *((kwargs,) if with_kwargs else ()), None)
