"""``tracejit.onnx``: what model code asks about export to ONNX, which does not exist here.

Invariant: nothing is exported.
"""

from __future__ import annotations

from typing import Any, NoReturn

from tracejit.errors import at_user_line

__all__ = ["export", "is_in_onnx_export", "register_custom_op_symbolic"]


def is_in_onnx_export() -> bool:
    """Whether the model is being exported: False."""
    return False


def export(*args: Any, **kwargs: Any) -> NoReturn:
    """Raises RuntimeError."""
    raise RuntimeError(at_user_line("onnx.export: tracejit cannot export to ONNX"))


def register_custom_op_symbolic(symbolic_name: str, symbolic_fn: Any, opset_version: int) -> None:
    """Nothing: how an operator would be exported is not asked."""
