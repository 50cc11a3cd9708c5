"""The frameworks that are compared, behind one small interface.

Invariant: a framework is offered only if it can be imported; what it lacks is said, not hidden.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np


class Framework:
    """`name` as printed; `api` its module (None for NumPy and JAX)."""

    name = ""
    packages: tuple[str, ...] = ()
    is_jax = False
    whole_step = False
    """Whether `compile` takes a whole training step, backward and update included."""
    api: Any = None

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function as this framework would run it."""
        return function

    def tensor(self, array: np.ndarray, requires_grad: bool = False) -> Any:
        """A tensor of the framework with a copy of the array."""
        tensor = self.api.tensor(array)
        return tensor.requires_grad_() if requires_grad else tensor

    def array(self, value: Any) -> np.ndarray:
        """A result as a NumPy array."""
        return np.asarray(value.detach().numpy())

    def wait(self, value: Any) -> Any:
        """Block until a result is there."""
        return value

    def why_missing(self) -> str | None:
        """Why the framework cannot take part, or None."""
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                return f"{package} is not installed"
        return None

    def versions(self) -> str:
        """Its packages with their versions."""
        return ", ".join(f"{p} {importlib.metadata.version(p)}" for p in self.packages)


class NumPy(Framework):
    name = "numpy"
    packages = ("numpy",)

    def tensor(self, array: np.ndarray, requires_grad: bool = False) -> np.ndarray:
        return array

    def array(self, value: Any) -> np.ndarray:
        return np.asarray(value)


class TracejitEager(Framework):
    name = "eager"

    def __init__(self) -> None:
        import tracejit

        self.api = tracejit

    def versions(self) -> str:
        return f"tracejit {self.api.__version__}"


class Tracejit(TracejitEager):
    name = "tracejit"
    whole_step = True

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return self.api.compile(function)  # type: ignore[no-any-return]


class Torch(Framework):
    name = "torch"
    packages = ("torch",)

    def __init__(self) -> None:
        if self.why_missing() is None:
            import torch

            self.api = torch


class Inductor(Torch):
    name = "inductor"

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return self.api.compile(function)  # type: ignore[no-any-return]

    def why_missing(self) -> str | None:
        if super().why_missing() is None and not any(map(shutil.which, ("g++", "clang++", "c++"))):
            return "torch.compile needs a C++ compiler, and there is none"
        return super().why_missing()


class Jax(Framework):
    name = "jax"
    packages = ("jax",)
    is_jax = True

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        import jax

        return jax.jit(function)  # type: ignore[no-any-return]

    def tensor(self, array: np.ndarray, requires_grad: bool = False) -> Any:
        import jax.numpy

        return jax.numpy.asarray(array)

    def array(self, value: Any) -> np.ndarray:
        return np.asarray(value)

    def wait(self, value: Any) -> Any:
        import jax

        return jax.block_until_ready(value)


OWN: tuple[type[Framework], ...] = (Tracejit, TracejitEager)
PEERS: dict[str, type[Framework]] = {
    "numpy": NumPy, "torch": Torch, "inductor": Inductor, "jax": Jax
}  # fmt: skip
