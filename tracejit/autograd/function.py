"""``tracejit.autograd.function``: what a custom function is made of."""

from tracejit.eager.custom import Function, FunctionCtx, once_differentiable

__all__ = ["Function", "FunctionCtx", "once_differentiable"]
