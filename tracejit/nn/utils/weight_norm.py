"""Weights recomputed before every forward: weight normalisation and spectral normalisation.

Invariant: the module's plain attribute `name` holds the computed weight; the parameters are
``name_g`` and ``name_v``, or ``name_orig``.
"""

from __future__ import annotations

from typing import Any, TypeVar

from tracejit.eager.modes import no_grad
from tracejit.errors import at_user_line
from tracejit.nn.functional.linear import normalize
from tracejit.nn.parameter import Parameter

M = TypeVar("M")


def norm_except(v: Any, dim: int | None) -> Any:
    """The norm over all dimensions but one (over all, if None)."""
    axes = tuple(i for i in range(v.ndim) if dim is None or i != dim % v.ndim)
    return v.square().sum(axes, keepdim=dim is not None).sqrt()


class _WeightNorm:
    def __init__(self, name: str, dim: int | None):
        self.name = name
        self.dim = dim

    def weight(self, module: Any) -> Any:
        """``g * v / |v|``."""
        g, v = getattr(module, f"{self.name}_g"), getattr(module, f"{self.name}_v")
        return v * (g / norm_except(v, self.dim))

    def __call__(self, module: Any, args: Any) -> None:
        setattr(module, self.name, self.weight(module))


def _find(module: Any, kind: type, name: str) -> int:
    for key, (hook, _) in module._forward_pre_hooks.items():
        if isinstance(hook, kind) and hook.name == name:  # type: ignore[attr-defined]
            return int(key)
    raise ValueError(at_user_line(f"{kind.__name__.strip('_')} of {name!r} not found in {module}"))


def weight_norm(module: M, name: str = "weight", dim: int | None = 0) -> M:
    """Split a weight into a size `name_g` and a direction `name_v` (Salimans, Kingma, 2016).

    dim  the dimension along which there is a size for each index; None: one size.
    """
    target: Any = module
    rule = _WeightNorm(name, dim)
    weight = getattr(target, name)
    del target._parameters[name]
    target.register_parameter(f"{name}_g", Parameter(norm_except(weight.detach(), dim)))
    target.register_parameter(f"{name}_v", Parameter(weight.detach()))
    setattr(target, name, rule.weight(target))
    target.register_forward_pre_hook(rule)
    return module


def remove_weight_norm(module: M, name: str = "weight") -> M:
    """Make the weight a plain parameter again."""
    target: Any = module
    key = _find(target, _WeightNorm, name)
    rule = target._forward_pre_hooks.pop(key)[0]
    weight = rule.weight(target).detach()
    for part in (f"{name}_g", f"{name}_v"):
        del target._parameters[part]
    delattr(target, name)
    setattr(target, name, Parameter(weight))
    return module


class _SpectralNorm:
    def __init__(self, name: str, iterations: int, dim: int, eps: float):
        self.name = name
        self.iterations = iterations
        self.dim = dim
        self.eps = eps

    def matrix(self, weight: Any) -> Any:
        """The weight with `dim` first and the rest as one."""
        order = (self.dim, *(i for i in range(weight.ndim) if i != self.dim))
        return weight.permute(*order).reshape(weight.shape[self.dim], -1)

    def weight(self, module: Any, iterate: bool) -> Any:
        """The weight over its largest singular value, found by power iteration."""
        original = getattr(module, f"{self.name}_orig")
        u, v = getattr(module, f"{self.name}_u"), getattr(module, f"{self.name}_v")
        matrix = self.matrix(original)
        if iterate:
            with no_grad():
                for _ in range(self.iterations):
                    v.copy_(normalize(matrix.t().mv(u), dim=0, eps=self.eps))
                    u.copy_(normalize(matrix.mv(v), dim=0, eps=self.eps))
            u, v = u.clone(), v.clone()
        return original / u.dot(matrix.mv(v))

    def __call__(self, module: Any, args: Any) -> None:
        setattr(module, self.name, self.weight(module, module.training))


def spectral_norm(
    module: M, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12,
    dim: int | None = None,
) -> M:  # fmt: skip
    """Divide a weight by its largest singular value (Miyato et al., 2018).

    dim  the output dimension (default 0; 1 for transposed convolutions).
    """
    if n_power_iterations <= 0:
        raise ValueError(
            at_user_line(f"n_power_iterations should be positive, got {n_power_iterations}")
        )
    target: Any = module
    axis = int(getattr(target, "transposed", False)) if dim is None else dim
    rule = _SpectralNorm(name, n_power_iterations, axis, eps)
    weight = target._parameters.pop(name)
    target.register_parameter(f"{name}_orig", weight)
    rows, columns = rule.matrix(weight.detach()).shape
    for part, size in (("u", rows), ("v", columns)):
        start = normalize(weight.detach().new_empty(size).normal_(), dim=0, eps=eps)
        target.register_buffer(f"{name}_{part}", start)
    setattr(target, name, weight.detach())
    target.register_forward_pre_hook(rule)
    return module


def remove_spectral_norm(module: M, name: str = "weight") -> M:
    """Make the weight a plain parameter again."""
    target: Any = module
    key = _find(target, _SpectralNorm, name)
    rule = target._forward_pre_hooks.pop(key)[0]
    weight = rule.weight(target, False).detach()
    del target._parameters[f"{name}_orig"]
    for part in ("u", "v"):
        del target._buffers[f"{name}_{part}"]
    delattr(target, name)
    setattr(target, name, Parameter(weight))
    return module
