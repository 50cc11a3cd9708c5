"""Modules that are imported when something of them is first used: they keep `import tracejit`
short.

Invariant: a name read from a late module is what the module itself holds, read once.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class LateModule:
    """Stands for the module `name`: ``single = LateModule("tracejit.runtime.single")``, then
    ``single.run_op(...)``.

    Only for functions and constants: what was read once is not read again.
    """

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(import_module(self._name), attribute)
        self.__dict__[attribute] = value
        return value

    def __repr__(self) -> str:
        return f"<late module {self._name}>"
