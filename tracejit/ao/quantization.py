"""``tracejit.ao.quantization``: every public name is a class that cannot be made.

Invariant: nothing is quantized.
"""

from __future__ import annotations

from typing import Any

from tracejit.errors import at_user_line

__all__: list[str] = []


def __getattr__(name: str) -> type:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def refuse(self: Any, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError(at_user_line(f"{name}: tracejit does not quantize"))

    made = type(name, (), {"__init__": refuse, "__module__": __name__})
    globals()[name] = made
    return made
