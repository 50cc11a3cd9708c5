"""Unchanged programs and libraries that say ``import torch``: here that name can mean tracejit.

Invariant: ``torch.a.b`` and ``tracejit.a.b`` are one module object, so a class has one identity
whichever name it was imported by. A submodule that tracejit lacks raises ModuleNotFoundError.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, DistributionFinder
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any

import tracejit

__all__ = ["TORCH_RELEASE", "install_alias", "remove_alias"]

TORCH_RELEASE = "2.13.0"  # what libraries compare ``torch.__version__`` with
_OWN_VERSION = tracejit.__version__


class _AliasFinder(DistributionFinder, Loader):
    """Answers imports of ``name`` and ``name.x`` by the modules ``tracejit`` and ``tracejit.x``."""

    def __init__(self, name: str):
        self.name = name
        self._own_specs: dict[str, ModuleSpec | None] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.name and not fullname.startswith(f"{self.name}."):
            return None
        if importlib.util.find_spec(f"tracejit{fullname[len(self.name) :]}") is None:
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def find_distributions(
        self, context: DistributionFinder.Context | None = None
    ) -> Iterable[Distribution]:
        """What ``importlib.metadata.version("torch")`` asks, as libraries do before they import."""
        wanted = context.name if context is not None else None
        return [_AliasDistribution(self.name)] if wanted == self.name else []

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        rest = spec.name[len(self.name) :]
        module = importlib.import_module(f"tracejit{rest}")
        self._own_specs[spec.name] = module.__spec__  # the import system is about to replace it
        return module

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        if spec is not None:
            module.__spec__ = self._own_specs.pop(spec.name)


class _AliasDistribution(Distribution):
    """The installed package that ``name`` seems to be: tracejit, at torch's version."""

    def __init__(self, name: str):
        self._text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {_torch_version()}\n"

    def read_text(self, filename: str) -> str | None:
        return self._text if filename == "METADATA" else None

    def locate_file(self, path: str | PathLike[str]) -> Any:
        return Path(sys.modules["tracejit"].__file__ or "").parent.parent / path


def _torch_version() -> str:
    """The release of torch whose names and meanings these are, and whose they are not."""
    return f"{TORCH_RELEASE}+tracejit.{_OWN_VERSION}"


def install_alias(name: str = "torch") -> None:
    """From now on ``import torch`` and ``import torch.nn.functional as F`` give tracejit's modules.

    Call it before anything else imports `name`; raises ImportError if another package of that name
    has been imported. Calling it again changes nothing. Until `remove_alias`, ``__version__`` (and
    what ``importlib.metadata`` says of `name`) is torch's release followed by tracejit's own, as in
    ``2.13.0+tracejit.0.1.0``, because libraries compare it.

    Example::

        import tracejit.utils.alias
        tracejit.utils.alias.install_alias()
        import torch.nn as nn       # tracejit.nn
    """
    if any(isinstance(f, _AliasFinder) and f.name == name for f in sys.meta_path):
        return
    if name in sys.modules and sys.modules[name] is not sys.modules["tracejit"]:
        raise ImportError(f"install_alias: another {name!r} is imported already")
    sys.meta_path.insert(0, _AliasFinder(name))
    tracejit.__version__ = _torch_version()


def remove_alias(name: str = "torch") -> None:
    """Undo `install_alias`: forget every module that is known by the other name."""
    sys.meta_path[:] = [
        f for f in sys.meta_path if not (isinstance(f, _AliasFinder) and f.name == name)
    ]
    for known in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
        if sys.modules[known].__name__.split(".")[0] == "tracejit":
            del sys.modules[known]
    if not any(isinstance(f, _AliasFinder) for f in sys.meta_path):
        tracejit.__version__ = _OWN_VERSION
