"""Which of torch's public names tracejit has, namespace by namespace.

Invariant: a name counts only if torch documents it as public and it is in scope (`OUT_OF_SCOPE`).
"""

from __future__ import annotations

import importlib
import re
from functools import partial
from typing import Any

import torch

import tracejit
from bench.conformance.report import Missing, Report

NAMESPACES = (
    "", "Tensor", "nn", "nn.functional", "nn.init", "nn.utils", "nn.utils.rnn",
    "nn.utils.parametrizations", "nn.parameter", "linalg", "special", "optim",
    "optim.lr_scheduler", "optim.swa_utils", "autograd", "autograd.functional", "func",
    "utils.data", "amp", "random", "distributions", "signal.windows",
)  # fmt: skip

# Complex numbers, sparse, quantised, nested and named tensors, TorchScript, other devices,
# storages, symbolic sizes, and what is there for torch's own machinery.
OUT_OF_SCOPE = re.compile(
    "complex|sparse|quant|qint|mkldnn|cudnn|script|jit|fft|storage|nested|names|rename|align_|"
    "vulkan|xpu|mtia|mps|hpu|ipu|xla|conj|^real$|imag|cfloat|cdouble|chalf|coalesce|_indices|cs[rc]|"
    "bs[rc]|coo|int_repr|^q_|^qscheme|fake_|choose_q|native_|batch_norm_|^u?int[1-7]$|float[48]|"
    "^sym_|^Sym|"
    "polar$|^stft|^istft|DataPipe|datapipe|_validation|DFIter|DataChunk|deterministic$|"
    "torch_function|BroadcastingList|boolean_dispatch|_notes$|^Warning|interop|is_distributed|"
    "^view_as_|^eig(vals)?$|^symeig|fbgemm|miopen|hash_tensor|dynamo|profiler|^library|vmap_"
)


def public_names(scope: Any, path: str) -> list[str]:
    """What torch offers, with a docstring, in a namespace."""
    if path == "":
        functions = [n for n in dir(torch._C._VariableFunctions) if hasattr(torch, n)]
        names = sorted({*torch.__all__, *functions})
    elif path == "Tensor":
        names = dir(scope)
    else:
        names = getattr(scope, "__all__", None) or dir(scope)
    return [name for name in names if is_public(getattr(scope, name, None), name, path)]


def is_public(value: Any, name: str, path: str) -> bool:
    """Whether a name is documented, in scope, and torch's own."""
    if name.startswith("_") or OUT_OF_SCOPE.search(name) or isinstance(value, type(torch)):
        return False
    home = getattr(value, "__module__", None) or ""
    if home.startswith(("typing", "collections", "enum", "builtins")) and path:
        return False
    if path in ("nn.functional", "nn.init", "nn.utils"):
        return callable(value) and not isinstance(value, type) and bool(value.__doc__)
    return bool(getattr(value, "__doc__", None))


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
                section = f"names in torch.{path}".rstrip(".")
                action = partial(check_name, ours, name)
                report.check(section, title, "exists", "", action)
