"""``nn.modules``: the places where torch keeps its modules, by torch's file names.

Invariant: nothing is defined here. ``tracejit.nn.modules.conv`` is ``tracejit.nn.convolution``, and
so on, so that code which imports from torch's files finds the same classes.
"""

import sys
from typing import Any

from tracejit import nn as _nn
from tracejit.nn import (
    activation,
    attention,
    batchnorm,
    containers,
    convolution,
    distance,
    dropout,
    embedding,
    linear,
    loss,
    normalization,
    padding,
    pooling,
    rnn,
    shape,
    transformer,
)
from tracejit.nn import module as module
from tracejit.nn.modules import utils as utils

_BY_TORCH_NAME = {
    "activation": activation, "adaptive": activation, "batchnorm": batchnorm,
    "container": containers, "conv": convolution, "distance": distance, "dropout": dropout,
    "flatten": shape, "fold": shape, "instancenorm": batchnorm, "linear": linear, "loss": loss,
    "module": module, "normalization": normalization, "padding": padding, "pixelshuffle": shape,
    "pooling": pooling, "rnn": rnn, "sparse": embedding, "transformer": transformer,
    "upsampling": shape,
}  # fmt: skip
for _name, _module in _BY_TORCH_NAME.items():
    sys.modules[f"{__name__}.{_name}"] = _module
    globals()[_name] = _module


def __getattr__(name: str) -> Any:
    """``nn.modules.Linear`` is ``nn.Linear``."""
    if name.startswith("_") or name not in _nn.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_nn, name)
