"""tracejit: a tracing JIT for dynamic graphs that feels like PyTorch.

``import tracejit as torch`` runs ordinary model code. Invariant: this file holds public names only.
"""

from __future__ import annotations

from math import e, inf, nan, pi

from builtins import bool as _bool

from tracejit import autograd, config, random
from tracejit import ops as _ops
from tracejit.dtypes import (
    bool_ as bool,
)
from tracejit.dtypes import (
    can_cast,
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
from tracejit.dtypes import DType as dtype
from tracejit.dtypes import float32 as float
from tracejit.dtypes import int32 as int
from tracejit.eager import indexing as _indexing
from tracejit.eager import linalg as _linalg
from tracejit.eager import methods as _methods
from tracejit.eager import reduce as _reduce
from tracejit.eager.methods import from_dlpack
from tracejit.eager.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from tracejit.eager.register import FUNCTIONS as _FUNCTIONS
from tracejit.ir.types import Device as device
from tracejit.random import Generator, default_generator
from tracejit.tensor import Size, Tensor

__version__ = "0.1.0"
strided = "strided"
contiguous_format = "contiguous_format"
preserve_format = "preserve_format"
globals().update(_FUNCTIONS)


def is_tensor(value: object) -> _bool:
    """Whether `value` is a tensor."""
    return isinstance(value, Tensor)
