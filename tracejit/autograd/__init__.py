"""``tracejit.autograd``: gradients as a function, and functions with gradients of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from tracejit.autograd import forward_ad, function, functional, graph
from tracejit.autograd.gradcheck import GradcheckError, gradcheck, gradgradcheck
from tracejit.eager.backward import backward as _backward
from tracejit.eager.backward import grad
from tracejit.eager.custom import Function
from tracejit.eager.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from tracejit.tensor import Tensor

__all__ = [
    "Function", "GradcheckError", "Variable", "backward", "detect_anomaly", "enable_grad",
    "forward_ad", "function", "functional", "grad", "gradcheck", "gradgradcheck", "inference_mode",
    "is_grad_enabled", "no_grad", "set_detect_anomaly", "set_grad_enabled",
]  # fmt: skip


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Accumulate the gradients of several tensors at once in the leaves' ``.grad``."""
    outputs = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if grad_tensors is None or isinstance(grad_tensors, Tensor):
        grad_tensors = [grad_tensors] * len(outputs)
    chosen: Sequence[Tensor] | None = [inputs] if isinstance(inputs, Tensor) else inputs
    _backward(outputs, grad_tensors, retain_graph, create_graph, chosen)


class set_detect_anomaly:
    """Accepted, as a call or a context; a backward error names its line in any case."""

    def __init__(self, mode: bool = True, check_nan: bool = True) -> None:
        self.mode = mode
        self.check_nan = check_nan

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: object) -> None:
        return None


detect_anomaly = set_detect_anomaly


def Variable(data: Tensor, requires_grad: bool = False) -> Tensor:
    """The tensor itself over the same memory (a name from PyTorch's past)."""
    return data.detach().requires_grad_(requires_grad)


class set_multithreading_enabled:
    """Accepted, as a call or a context: a backward pass runs in the thread that asks for it."""

    def __init__(self, mode: bool) -> None:
        self.mode = mode

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: object) -> None:
        return None


def __getattr__(name: str) -> Any:
    """``autograd.profiler``, loaded at first use to keep the import short."""
    if name == "profiler":
        return import_module("tracejit.autograd.profiler")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def is_multithreading_enabled() -> bool:
    """False: a backward pass runs in the thread that asks for it (its kernels in several)."""
    return False
