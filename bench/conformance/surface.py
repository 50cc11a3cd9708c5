"""Which of torch's public names tracejit has, namespace by namespace.

Invariant: a name counts only if torch documents it as public and it is in scope (`OUT_OF_SCOPE`).
"""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

import torch

import tracejit
from bench.conformance.report import Missing, Report

NAMESPACES = (
    "", "Tensor", "nn", "nn.functional", "nn.init", "nn.utils", "nn.utils.rnn",
    "nn.utils.parametrizations", "nn.parameter", "linalg", "special", "optim", "optim.lr_scheduler",
    "optim.swa_utils", "autograd", "autograd.functional", "func", "utils.data", "amp", "random",
    "distributions", "masked", "signal.windows", "fft", "cuda",
)  # fmt: skip

# Complex numbers, sparse, quantised, nested, named tensors, TorchScript, other devices, storages.
OUT_OF_SCOPE = (
    "complex", "sparse", "quant", "qint", "quint", "fbgemm", "mkldnn", "miopen", "cudnn", "script",
    "jit", "fft", "storage", "nested", "named", "rename", "align_", "refine_names", "names",
    "vulkan",
    "xpu", "mtia", "mps", "hpu", "ipu", "xla", "vmap_", "view_as_real", "view_as_complex", "conj",
    "real", "imag",
    "cfloat", "cdouble", "chalf", "coalesce", "crow", "ccol", "col_indices", "row_indices", "csr",
    "csc", "bsr", "bsc", "coo",
    "Storage", "_cpu", "int_repr", "q_", "fake_", "choose_qparams", "native_", "batch_norm_",
    "bits", "uint1", "uint2", "uint3", "uint4", "uint5", "uint6", "uint7", "int1", "int2", "int4",
    "float8", "float4",
)  # fmt: skip


def public_names(scope: Any, path: str) -> list[str]:
    """What torch offers in a namespace."""
    names = getattr(scope, "__all__", None) or dir(scope)
    if path == "Tensor":
        names = dir(scope)
    kept = []
    for name in names:
        value = getattr(scope, name, None)
        if name.startswith("_") or any(
            o in name for o in OUT_OF_SCOPE if name not in ("int16", "int1")
        ):
            continue
        home = getattr(value, "__module__", None) or ""
        if isinstance(value, type(torch)) or home.startswith(("typing", "collections", "enum")):
            continue
        if path not in ("", "Tensor") and home and not home.startswith(("torch", "_")):
            continue
        if path in ("nn.functional", "nn.init", "nn.utils") and isinstance(value, type):
            continue
        kept.append(name)
    return kept


def find(path: str) -> Any:
    """tracejit's namespace of that path, or None."""
    if path == "Tensor":
        return tracejit.Tensor
    try:
        return importlib.import_module(f"tracejit.{path}".rstrip("."))
    except ImportError:
        scope: Any = tracejit
        for part in path.split("."):
            scope = getattr(scope, part, None)
        return scope


def check_name(scope: Any, name: str) -> None:
    """Raise Missing unless the namespace has the name."""
    if scope is None or not hasattr(scope, name):
        raise Missing(name)


def run(report: Report, options: Any) -> None:
    """Every public name of every namespace."""
    for path in NAMESPACES:
        theirs: Any = torch
        if path == "Tensor":
            theirs = torch.Tensor
        elif path:
            theirs = importlib.import_module(f"torch.{path}")
        ours = find(path)
        for name in public_names(theirs, path):
            if options.wants(name):
                title = f"torch.{path}.{name}".replace("..", ".")
                report.check(
                    f"names in {'torch.' + path if path else 'torch'}",
                    title,
                    "exists",
                    "",
                    partial(check_name, ours, name),
                )
