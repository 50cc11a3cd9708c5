"""tracejit: a tracing JIT for dynamic graphs that feels like PyTorch.

``import tracejit as torch`` runs ordinary model code. Invariant: this file holds public names only.
"""

from __future__ import annotations

import typing as _typing
from builtins import bool as _bool
from importlib import import_module as _import_module
from math import e, inf, nan, pi

from tracejit import autograd, config, random
from tracejit import ops as _ops
from tracejit.dtypes import NAMED_ONLY as _NAMED_ONLY
from tracejit.dtypes import DType as dtype
from tracejit.dtypes import (
    bfloat16,
    can_cast,
    complex64,
    complex128,
    double,
    finfo,
    float16,
    float32,
    float64,
    get_default_dtype,
    half,
    iinfo,
    int8,
    int16,
    int32,
    int64,
    long,
    promote_types,
    set_default_dtype,
    short,
    uint8,
)
from tracejit.dtypes import (
    bool_ as bool,
)
from tracejit.dtypes import complex64 as cfloat
from tracejit.dtypes import complex128 as cdouble
from tracejit.dtypes import float32 as float
from tracejit.dtypes import int32 as int
from tracejit.eager import functions as _functions
from tracejit.eager.methods import from_dlpack
from tracejit.eager.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from tracejit.eager.register import FUNCTIONS as _FUNCTIONS
from tracejit.eager.settings import is_inference_mode_enabled
from tracejit.eager.watched import watch_module as _watch_module
from tracejit.ir.types import Device as device
from tracejit.random import Generator, default_generator
from tracejit.tensor import Size, Tensor

__version__ = "0.1.0"
strided = "strided"
contiguous_format = "contiguous_format"
preserve_format = "preserve_format"
channels_last = "channels_last"
channels_last_3d = "channels_last_3d"
sparse_coo, sparse_csr, sparse_csc = "sparse_coo", "sparse_csr", "sparse_csc"  # no tensor is
layout = memory_format = str
newaxis = None
globals().update(_FUNCTIONS)
globals().update(_NAMED_ONLY)

if _typing.TYPE_CHECKING:  # for type checkers; all other names come to them by `__getattr__`
    from tracejit.eager.factories import tensor

    __all__ = [
        "Generator", "Size", "Tensor", "autograd", "bfloat16", "bool", "can_cast",
        "cdouble", "cfloat", "channels_last", "channels_last_3d", "complex128", "complex64",
        "config", "contiguous_format", "default_generator", "device", "double", "dtype",
        "e", "enable_grad", "finfo", "float", "float16", "float32", "float64",
        "from_dlpack", "get_default_dtype", "half", "iinfo", "inf", "inference_mode", "int",
        "int16", "int32", "int64", "int8", "is_grad_enabled", "is_inference_mode_enabled",
        "is_tensor", "long", "nan", "newaxis", "no_grad", "pi", "preserve_format",
        "promote_types", "random", "set_default_dtype", "set_grad_enabled", "short",
        "strided", "tensor", "uint8",
    ]  # fmt: skip

_LAZY = {  # name -> (module, attribute or None): loaded at first use, to keep the import short
    "nn": ("tracejit.nn", None),
    "optim": ("tracejit.optim", None),
    "utils": ("tracejit.utils", None),
    "func": ("tracejit.func", None),
    "linalg": ("tracejit.linalg", None),
    "special": ("tracejit.special", None),
    "testing": ("tracejit.testing", None),
    "cuda": ("tracejit.cuda", None),
    "amp": ("tracejit.amp", None),
    "backends": ("tracejit.backends", None),
    "compiler": ("tracejit.compiler", None),
    "distributions": ("tracejit.distributions", None),
    "distributed": ("tracejit.distributed", None),
    "fx": ("tracejit.fx", None),
    "masked": ("tracejit.masked", None),
    **{
        name: (f"tracejit.{name}", None)
        for name in (
            "_C", "_dynamo", "ao", "library", "multiprocessing", "onnx", "profiler", "types",
            "version",
        )
    },
    **{name: ("tracejit.backends", name) for name in ("accelerator", "mps", "xpu")},
    "hub": ("tracejit.hub", None),
    "jit": ("tracejit.jit", None),
    **{
        name: ("tracejit.nn.functional", name)
        for name in (
            "adaptive_avg_pool1d", "avg_pool1d", "bilinear", "celu", "celu_", "channel_shuffle",
            "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
            "conv_transpose3d", "cosine_similarity", "hardshrink", "max_pool1d", "max_pool2d",
            "max_pool3d", "pairwise_distance", "pdist", "pixel_shuffle", "pixel_unshuffle",
            "prelu", "rms_norm", "rrelu", "rrelu_", "selu", "selu_", "threshold", "threshold_",
        )
    },
    **{
        name: ("tracejit.nn.functional.toplevel", name)
        for name in (
            "adaptive_max_pool1d", "affine_grid_generator", "alpha_dropout", "alpha_dropout_",
            "batch_norm", "conv_tbc", "convolution", "dropout", "dropout_", "embedding",
            "feature_alpha_dropout", "feature_alpha_dropout_", "feature_dropout",
            "feature_dropout_", "frobenius_norm", "grid_sampler", "grid_sampler_2d",
            "grid_sampler_3d", "group_norm", "gru_cell", "instance_norm", "layer_norm",
            "lstm_cell", "max_pool1d_with_indices", "norm_except_dim", "rnn_relu_cell",
            "rnn_tanh_cell",
        )
    },
    **{
        name: ("tracejit.nn.functional.toplevel_losses", name)
        for name in (
            "binary_cross_entropy_with_logits", "cosine_embedding_loss", "ctc_loss",
            "hinge_embedding_loss", "kl_div", "margin_ranking_loss", "poisson_nll_loss",
            "triplet_margin_loss",
        )
    },
    **{
        name: ("tracejit.nn.functional.stacked", name)
        for name in ("gru", "lstm", "rnn_relu", "rnn_tanh")
    },
    **{name: ("tracejit.toggles", name) for name in (
        "get_deterministic_debug_mode", "get_num_interop_threads", "is_anomaly_check_nan_enabled",
        "is_anomaly_enabled", "is_deterministic_algorithms_warn_only_enabled",
        "is_warn_always_enabled", "set_anomaly_enabled", "set_deterministic_debug_mode",
        "set_flush_denormal", "set_num_interop_threads", "set_warn_always",
    )},
    **{name: ("tracejit.cuda", name) for name in ("Event", "OutOfMemoryError", "Stream")},
    **{
        f"{name}_window": ("tracejit.signal.windows", f"{name}_window")
        for name in ("bartlett", "blackman", "hamming", "hann", "kaiser")
    },
    "signal": ("tracejit.signal", None),
    "vmap": ("tracejit.func", "vmap"),
    **{
        name: ("tracejit.backends", name)
        for name in (
            "are_deterministic_algorithms_enabled", "get_float32_matmul_precision",
            "set_float32_matmul_precision", "use_deterministic_algorithms",
        )
    },
    **{name: ("tracejit.amp", name) for name in (
        "GradScaler", "autocast", "clear_autocast_cache", "get_autocast_dtype",
        "is_autocast_cache_enabled", "is_autocast_enabled", "set_autocast_cache_enabled",
        "set_autocast_dtype", "set_autocast_enabled",
    )},
    "compile": ("tracejit.jit.compile", "compile"),
    "save": ("tracejit.serialization", "save"),
    "load": ("tracejit.serialization", "load"),
    "compare": ("tracejit.inspect", "compare"),
    "record": ("tracejit.inspect", "record"),
    "history": ("tracejit.inspect", "history"),
    "set_num_threads": ("tracejit.runtime.threads", "set_num_threads"),
    "get_num_threads": ("tracejit.eager.settings", "get_num_threads"),
}  # fmt: skip


def __getattr__(name: str) -> _typing.Any:
    try:
        module, attribute = _LAZY[name]
    except KeyError:
        if name.startswith("_foreach_"):
            found = _import_module("tracejit.eager.foreach").FOREACH.get(name)
            if found is not None:
                return found
        why = "" if name[:1] == "_" else _import_module("tracejit.left_out").LEFT_OUT.get(name)
        more = f": {why} (docs/names.md)" if why else ""
        raise AttributeError(f"module 'tracejit' has no attribute {name!r}{more}") from None
    value: _typing.Any = _import_module(module)
    if attribute is not None:
        value = getattr(value, attribute)
    globals()[name] = value
    return value


_watch_module(__name__)


def is_tensor(obj: object) -> _bool:
    """Whether `obj` is a tensor."""
    return isinstance(obj, Tensor)


def _assert(condition: object, message: str) -> None:
    """``assert condition, message``."""
    assert condition, message
