"""Which of torch's OpInfos are in scope, and the tracejit function that answers each.

Invariant: a function found here takes the OpInfo's own arguments.
"""

from __future__ import annotations

from typing import Any

import tracejit
import tracejit.linalg
import tracejit.masked
import tracejit.nn.functional
import tracejit.special

# Out of scope: complex numbers, sparse and nested tensors, jiterator, torch-internal functions.
SKIPPED = (
    "fft.", "jiterator", "sparse", "to_sparse", "view_as_real", "view_as_complex", "complex",
    "polar", "cdouble", "cfloat", "chalf", "bfloat16", "stft", "istft", "torch._", "torch.ops", "_",
    "native_", "linalg.eig", "linalg.eigvals", "hash_tensor", "grid_sampler_",
    "max_pool2d_with_indices_backward",
    "linalg.ldl", "imag", "nn.functional.silu.complex", "signal.",
)  # fmt: skip
KEPT = ("__", "linalg.eigh", "linalg.eigvalsh")
RANDOM = (
    "multinomial", "normal", "bernoulli", "rand", "randn", "randint", "uniform", "cauchy", "empty",
    "exponential", "geometric", "log_normal", "dropout", "rrelu", "new_empty", "fractional",
    "lowrank", "multi_head_attention",
)  # fmt: skip


def _wrapped(name: str, **fixed: Any) -> Any:
    return lambda *a, **k: getattr(tracejit, name)(*a, **{**fixed, **k})


# torch's `op` is a lambda for these; here is the same in tracejit's terms.
SPELLED: dict[str, Any] = {
    "__rdiv__": lambda x, y: y / x,
    "__radd__": lambda x, y: y + x,
    "__rmul__": lambda x, y: y * x,
    "__rand__": lambda x, y: y & x,
    "__ror__": lambda x, y: y | x,
    "__rxor__": lambda x, y: y ^ x,
    "__rmod__": lambda x, y: y % x,
    "__rpow__": lambda x, y: y**x,
    "__rmatmul__": lambda x, y: y @ x,
    "__getitem__": lambda x, i: x[i],
    "slice": lambda x, *a, **k: tracejit.slice_copy(x, *a, **k),
    "where": lambda x, c, y, **k: tracejit.where(c, x, y, **k),
    "zero_": lambda x: x.clone().zero_(),
    "fill": lambda x, value: x.clone().fill_(value),
    "polygamma": lambda x, n, **k: tracejit.polygamma(n, x, **k),
    "special.polygamma": lambda x, n, **k: tracejit.special.polygamma(n, x, **k),
    "resize_": lambda x, *s, **k: x.clone().resize_(*s, **k),
    "resize_as_": lambda x, y, **k: x.clone().resize_as_(y, **k),
    "einsum": lambda xs, equation: tracejit.einsum(equation, xs),
    "normal.in_place": lambda x, *a, **k: x.normal_(*a, **k),
    **{n: (lambda x, *a, n=n, **k: getattr(x, f"{n}_")(*a, **k))
       for n in ("cauchy", "exponential", "geometric", "log_normal", "uniform")},
    "linalg.lstsq.grad_oriented": lambda a, b, driver: tracejit.linalg.lstsq(a, b,
    driver=driver)[:2],
    "linalg.pinv.singular": lambda a, b: tracejit.linalg.pinv(a @ b.mT),
    "svd_lowrank": lambda a, b, **k: tracejit.svd_lowrank(a @ b.mT, **k),
    "pca_lowrank": lambda a, b, **k: tracejit.pca_lowrank(a @ b.mT, **k),
    "__rsub__": lambda x, y: y - x,
    "nn.functional.embedding": lambda w, i, **k: tracejit.nn.functional.embedding(i, w, **k),
    "nn.functional.embedding_bag":
        lambda w, i, **k: tracejit.nn.functional.embedding_bag(i, w, **k),
    "unsafe_chunk": _wrapped("chunk"),
    "unsafe_split": _wrapped("split"),
}  # fmt: skip


def tracejit_function(info: Any) -> Any:
    """tracejit's function of the OpInfo's name, or None."""
    name = info.name
    if f"{name}.{info.variant_test_name}" in SPELLED:
        return SPELLED[f"{name}.{info.variant_test_name}"]
    if name in SPELLED:
        return SPELLED[name]
    scope: Any = tracejit
    *path, last = name.split(".")
    for part in path:
        scope = getattr(scope, part, None)
    found = getattr(scope, last, None) if scope is not None else None
    if found is None and not path:
        found = getattr(tracejit.Tensor, last, None)
        if isinstance(found, property):
            return found.fget
    elif name in ("bool", "byte", "char", "double", "float", "half", "int", "long", "short", "to"):
        found = getattr(tracejit.Tensor, last)
    return found


def is_random(info: Any) -> bool:
    return any(r in info.name for r in RANDOM)


def is_skipped(name: str) -> bool:
    """Whether the OpInfo is out of scope."""
    return name.startswith(SKIPPED) and not name.startswith(KEPT)
