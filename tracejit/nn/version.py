"""The counter of module changes, and the dictionaries that advance it.

Invariant: it only grows; writes into tensors do not touch it.
"""

from __future__ import annotations

from typing import Any

from tracejit.eager.modes import MODULE_VERSION

VERSION = MODULE_VERSION
"""How often any module changed: attributes, registrations, train/eval."""


def bump() -> None:
    """Note a change of some module."""
    VERSION[0] += 1


class Registry(dict[str, Any]):
    """A module's table of parameters, buffers or children: a dict whose changes are counted."""

    def __setitem__(self, key: str, value: Any) -> None:
        if key not in self or dict.__getitem__(self, key) is not value:
            bump()
        dict.__setitem__(self, key, value)

    def __delitem__(self, key: str) -> None:
        dict.__delitem__(self, key)
        bump()

    def pop(self, key: str, *default: Any) -> Any:
        bump()
        return dict.pop(self, key, *default)

    def popitem(self) -> tuple[str, Any]:
        bump()
        return dict.popitem(self)

    def clear(self) -> None:
        bump()
        dict.clear(self)

    def update(self, *args: Any, **kwargs: Any) -> None:
        bump()
        dict.update(self, *args, **kwargs)

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return dict.__getitem__(self, key)

    def __reduce__(self) -> tuple[Any, ...]:
        return Registry, (), None, None, iter(self.items())
