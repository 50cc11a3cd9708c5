"""Unchanged programs and libraries that say ``import torch``: here that name can mean tracejit.

Invariant: ``torch.a.b`` and ``tracejit.a.b`` are one module object, so a class has one identity
whichever name it was imported by. A submodule that tracejit lacks raises ModuleNotFoundError.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["install_alias", "remove_alias"]


class _AliasFinder(MetaPathFinder, Loader):
    """Answers imports of ``name`` and ``name.x`` by the modules ``tracejit`` and ``tracejit.x``."""

    def __init__(self, name: str):
        self.name = name
        self._own_specs: dict[str, ModuleSpec | None] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.name and not fullname.startswith(f"{self.name}."):
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        rest = spec.name[len(self.name) :]
        module = importlib.import_module(f"tracejit{rest}")
        self._own_specs[spec.name] = module.__spec__  # the import system is about to replace it
        return module

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        if spec is not None:
            module.__spec__ = self._own_specs.pop(spec.name)


def install_alias(name: str = "torch") -> None:
    """From now on ``import torch`` and ``import torch.nn.functional as F`` give tracejit's modules.

    Call it before anything else imports `name`; raises ImportError if another package of that name
    has been imported. Calling it again changes nothing.

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


def remove_alias(name: str = "torch") -> None:
    """Undo `install_alias`: forget every module that is known by the other name."""
    sys.meta_path[:] = [
        f for f in sys.meta_path if not (isinstance(f, _AliasFinder) and f.name == name)
    ]
    for known in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
        if sys.modules[known].__name__.split(".")[0] == "tracejit":
            del sys.modules[known]
