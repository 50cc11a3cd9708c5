"""Making tensors: from data, constants and ranges.

Invariant: data that comes from Python or NumPy is copied, except by `from_numpy`/`as_tensor`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tracejit import dtypes
from tracejit.dtypes import DType
from tracejit.eager.inplace import deliver
from tracejit.eager.modes import state
from tracejit.eager.register import FUNCTIONS, public
from tracejit.eager.scalars import SymFloat, as_float
from tracejit.eager.shape import sizes_of, unpack_sizes
from tracejit.eager.tape import attach, node_of, type_of
from tracejit.errors import DTypeError, ShapeError, at_user_line, user_location
from tracejit.ir.op import OPS
from tracejit.ir.sizes import SymInt, hints_of, is_negative
from tracejit.ir.types import CPU, Device, TensorType
from tracejit.ops.reference import nested
from tracejit.runtime.device_array import filled
from tracejit.tensor import Tensor, new_tensor

DEFAULT_DEVICE = [CPU]
"""Where factories make tensors that are not told where; see `default_device`."""


def as_device(device: Any) -> Device:
    """A Device from a Device, a string, an index (of CUDA) or None (the default device)."""
    if device is None:
        return DEFAULT_DEVICE[0]
    if isinstance(device, int):
        return Device("cuda", device)
    found = device if isinstance(device, Device) else Device(device)
    return CPU if found.type == "cpu" else found


def finish(tensor: Tensor, requires_grad: bool, device: Any) -> Tensor:
    """Last steps of a factory."""
    where = as_device(device)
    if where.type != "cpu" or tensor._device.type != "cpu":
        tensor = tensor.to(where)
    if requires_grad:
        tensor.requires_grad_()
    return tensor


def _source(tensor: Tensor, op_name: str, **params: Any) -> Tensor:
    """Record in a capture how a constant came about."""
    if state.capture is not None:
        node = OPS[op_name](**params)
        node.loc = user_location()
        attach(tensor, node, False)
    return tensor


def constant_tensor(array: np.ndarray) -> Tensor:
    """A fresh tensor whose contents the program wrote out (a constant of a capture)."""
    tensor = new_tensor(array)
    if state.capture is not None:
        value = nested(array)
        _source(tensor, "constant", values=value, type=type_of(tensor))
    return tensor


# --- from data -------------------------------------------------------------------------------

_MOST_NUMBERS = 64
"""Numbers of a trace in one sequence: each is a node of its own."""


def _array_from(data: Any, dtype: DType | None) -> np.ndarray:
    if isinstance(data, (np.ndarray, np.generic)):
        array = np.array(data)
        wanted = dtypes.from_numpy(array.dtype) if dtype is None else dtype
        return array.astype(wanted.numpy)
    if dtype is None and isinstance(data, (list, tuple)) and data:
        if isinstance(data[0], np.generic):  # NumPy's numbers bring their dtype
            return _array_from(np.array(data), None)
    try:
        array = np.array(_plain(data))
    except ValueError as error:
        raise ShapeError(at_user_line(f"tensor: ragged nested sequence ({error})")) from None
    except OverflowError as error:
        raise DTypeError(at_user_line(f"tensor: {error}")) from None
    if array.dtype == object and _kind(data) == "int":
        raise ValueError(at_user_line("tensor: a whole number does not fit int64"))
    if array.dtype == object or array.dtype.kind in "USOmM":
        raise DTypeError(at_user_line(f"tensor: cannot make a tensor of {_kind(data)}"))
    if array.dtype.kind == "c":
        raise DTypeError(at_user_line("tensor: complex numbers are not supported"))
    if dtype is None:
        if (array.size == 0 and array.dtype.kind == "f") or array.dtype.kind == "f":
            dtype = dtypes.get_default_dtype()
        elif array.dtype.kind == "b":
            dtype = dtypes.bool_
        else:
            dtype = dtypes.int64
    with np.errstate(all="ignore"):
        return np.asarray(array, order="C").astype(dtype.numpy)


def _plain(data: Any) -> Any:
    if isinstance(data, Tensor):
        return data._array
    if isinstance(data, (list, tuple)):
        return [_plain(x) for x in data]
    if isinstance(data, range):
        return list(data)
    return int(data) if type(data) is SymInt else data


def _kind(data: Any) -> str:
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return type(data).__name__


def _contains_tensor(data: Any) -> bool:
    if isinstance(data, (list, tuple)):
        return any(map(_contains_tensor, data))
    return isinstance(data, (Tensor, np.ndarray))


def from_traced(number: Any, kind: DType | None) -> Tensor:
    """A 0-d tensor of a number that a capture does not fix."""
    is_int = isinstance(number, int)
    wide = dtypes.int64 if is_int else dtypes.float64
    natural = dtypes.int64 if is_int else dtypes.get_default_dtype()
    # an op of its own, so that a kernel makes it: 0 + n and 1 * n are folded to the number, and the
    # larger one of -inf and -0.0 keeps the sign, as 0.0 + -0.0 does not
    least = -(2**63) if is_int else -math.inf
    made = FUNCTIONS["clamp"](make_full(((),), least, wide, False, None), min=number)
    return made.to(natural if kind is None else kind)


def _from_traced_sequence(data: Any, kind: DType | None) -> Tensor | None:
    """A tensor of nested sequences of floats some of which a capture does not fix; else None."""
    if not isinstance(data, (list, tuple)) or not _holds_traced(data):
        return None
    if all(isinstance(item, (list, tuple)) for item in data):
        rows = [_from_traced_sequence(x, kind) if _holds_traced(x) else tensor(x, dtype=kind)
                for x in data]  # fmt: skip
        same = None not in rows and len({(r.shape, r.dtype) for r in rows if r is not None}) == 1
        return FUNCTIONS["stack"](rows) if same else None
    numbers = all(type(x) in (SymFloat, float) or (type(x) is int and abs(x) < 2**53) for x in data)
    if not numbers or len(data) > _MOST_NUMBERS or (kind is not None and kind.kind != "f"):
        return None
    return FUNCTIONS["stack"]([tensor(as_float(x), dtype=kind) for x in data])


def _without_traced(data: Any) -> Any:
    """Nested sequences with the traced numbers in them fixed to what they are."""
    if isinstance(data, (list, tuple)) and any(map(_holds_traced, data)):
        return [_without_traced(item) for item in data]
    return data.pinned() if hasattr(data, "scalar_node") else data


def _holds_traced(data: Any) -> bool:
    if isinstance(data, (list, tuple)):
        return any(map(_holds_traced, data))
    return hasattr(data, "scalar_node")


def tensor(
    data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:  # fmt: skip
    """A new tensor with a copy of `data` (nested sequences, numbers, arrays).

    Python floats become the default dtype, ints int64. Raises ShapeError for ragged sequences
    and DTypeError for what is no number. Example: ``tensor([[1.0, 2.0], [3.0, 4.0]])``.
    """
    kind = None if dtype is None else dtypes.as_dtype(dtype)
    if isinstance(data, Tensor):
        result = data.detach().clone()
        result = result if kind is None else result.to(kind)
        return finish(result, requires_grad, data.device if device is None else device)
    if hasattr(data, "scalar_node") and kind is not dtypes.bool_:
        result = from_traced(data, kind)
        return finish(result, requires_grad, device)
    made = _from_traced_sequence(data, kind)
    if made is not None:
        return finish(made, requires_grad, device)
    data = _without_traced(data)
    array = _array_from(data, kind)
    if requires_grad and array.dtype.kind != "f":
        raise RuntimeError(at_user_line("only floating tensors can require gradients"))
    if state.capture is not None and _contains_tensor(data):
        state.capture.foreign_data()
    result = constant_tensor(array)
    return finish(result, requires_grad, device)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """`data` as a tensor, sharing memory if it is a tensor or array of that dtype already."""
    if isinstance(data, Tensor):
        result = data if dtype is None else data.to(dtypes.as_dtype(dtype))
        return result if device is None else result.to(as_device(device))
    if isinstance(data, np.ndarray):
        result = from_numpy(data)
        result = result if dtype is None else result.to(dtypes.as_dtype(dtype))
        return finish(result, False, device)
    return tensor(data, dtype=dtype, device=device)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory."""
    if not isinstance(array, np.ndarray):
        raise TypeError(at_user_line(f"from_numpy: expected ndarray, got {type(array).__name__}"))
    dtypes.from_numpy(array.dtype)
    result = new_tensor(
        array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    )
    result._is_foreign = True
    if state.capture is not None:
        state.capture.foreign_array(result)
    return result


# --- constants and ranges --------------------------------------------------------------------


def make_full(
    sizes: tuple[Any, ...], value: Any, dtype: Any, requires_grad: bool, device: Any,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    kind = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    if out is not None and dtype is None:
        kind = out.dtype
    shape = unpack_sizes(sizes)
    for n in shape:
        if not isinstance(n, int) and not hasattr(n, "__index__"):
            raise TypeError(at_user_line(f"a size must be an int, not {n!r}"))
    if any(map(is_negative, shape)):
        raise RuntimeError(at_user_line(f"negative dimension in {list(shape)}"))
    if kind.kind == "f" and out is None and hasattr(value, "scalar_node"):
        one = from_traced(value, kind)
        return finish(one.expand(*shape).clone() if shape else one, requires_grad, device)
    if kind.kind in "iu" and not isinstance(value, float):
        check_integer(value, kind)
        value = np.int64(value).astype(kind.numpy) if kind.kind == "u" else value
    where = as_device(device) if out is None else CPU
    if where.type == "cpu":
        array: Any = np.full(hints_of(shape), value, kind.numpy)
    else:
        array = filled(hints_of(shape), np.asarray(value).astype(kind.numpy), where)
    result = _source(new_tensor(array), "full", value=_python(value, kind),
                     type=TensorType(kind, tuple(shape), where))  # fmt: skip
    return finish(result, requires_grad, device) if out is None else deliver(result, out)


def check_integer(value: Any, kind: DType) -> None:
    """Raise RuntimeError for an integer that `kind` cannot hold (an unsigned one: its size)."""
    info = np.iinfo(kind.numpy)
    if not (info.min or -info.max) <= value <= info.max:
        raise DTypeError(at_user_line(
            f"value {value} cannot be converted to {kind.name} without overflow"))  # fmt: skip


def _python(value: Any, kind: DType) -> Any:
    if kind.kind == "f":
        return float(value)
    return bool(value) if kind.kind == "b" else int(value)


def _constant_factory(name: str, value: int, doc: str) -> Any:
    def factory(
        *size: Any, out: Tensor | None = None, dtype: Any = None, layout: Any = None,
        device: Any = None, pin_memory: bool = False, requires_grad: bool = False,
        memory_format: Any = None, **named_size: Any,
    ) -> Tensor:  # fmt: skip
        sizes = size or (named_size.pop("size", None),)
        if named_size or sizes == (None,):
            raise TypeError(at_user_line(f"{name}: needs a size; unknown: {list(named_size)}"))
        return make_full(sizes, value, dtype, requires_grad, device, out)

    factory.__name__ = factory.__qualname__ = name
    factory.__doc__ = doc
    return factory


zeros = _constant_factory("zeros", 0, "Zeros of a shape: ``zeros(2, 3)`` or ``zeros((2, 3))``.")
ones = _constant_factory("ones", 1, "Ones of a shape.")
empty = _constant_factory(
    "empty", 0, "A tensor whose contents mean nothing (zeros here, so that runs are repeatable)."
)


def full(
    size: Any, fill_value: Any, *, out: Tensor | None = None, dtype: Any = None,
    layout: Any = None, device: Any = None, pin_memory: bool = False, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """One value everywhere; the dtype is the value's unless given."""
    if isinstance(fill_value, Tensor):
        fill_value = fill_value.item()
    kind = dtypes.scalar_dtype(fill_value) if dtype is None and out is None else dtype
    sizes = (size,) if isinstance(size, int) else (tuple(size),)
    return make_full(sizes, fill_value, kind, requires_grad, device, out)


def _like(input: Tensor, value: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    kind = input.dtype if dtype is None else dtype
    where = input.device if device is None else device
    return in_order_of(
        input, make_full((tuple(sizes_of(input)),), value, kind, requires_grad, where)
    )


def in_order_of(input: Tensor, result: Tensor) -> Tensor:
    """A new tensor of the shape of `input`, its axes in the same order in memory."""
    if state.capture is not None:
        state.capture.ordering.append(node_of(input))
    given, made = input._array, result._array
    if type(given) is np.ndarray and type(made) is np.ndarray and not given.flags.c_contiguous:
        if 0 not in given.strides:
            order = sorted(range(given.ndim), key=lambda i: -abs(given.strides[i]))
            made = np.ascontiguousarray(made.transpose(order))
            result._array = made.transpose(np.argsort(order))
    return result


@public(method=False)
def zeros_like(
    input: Tensor, *, dtype: Any = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False, pin_memory: bool = False, memory_format: Any = None,
) -> Tensor:  # fmt: skip
    """Zeros of the shape and dtype of `input`."""
    return _like(input, 0, dtype, device, requires_grad)


@public(method=False)
def ones_like(
    input: Tensor, *, dtype: Any = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False, pin_memory: bool = False, memory_format: Any = None,
) -> Tensor:  # fmt: skip
    """Ones of the shape and dtype of `input`."""
    return _like(input, 1, dtype, device, requires_grad)


@public(method=False)
def empty_like(
    input: Tensor, *, dtype: Any = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False, pin_memory: bool = False, memory_format: Any = None,
) -> Tensor:  # fmt: skip
    """A tensor of the shape and dtype of `input` whose contents mean nothing."""
    return _like(input, 0, dtype, device, requires_grad)


@public(method=False)
def full_like(
    input: Tensor, fill_value: Any, *, dtype: Any = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False, pin_memory: bool = False, memory_format: Any = None,
) -> Tensor:  # fmt: skip
    """One value everywhere, of the shape and dtype of `input`."""
    return _like(input, fill_value, dtype, device, requires_grad)


def _new(make: Any) -> Any:
    def method(self: Tensor, *size: Any, dtype: Any = None, device: Any = None, **how: Any) -> Any:
        kind = self.dtype if dtype is None else dtype
        where = self.device if device is None else device
        return make(*size, dtype=kind, device=where, **how)

    return method


Tensor.new_zeros = _new(zeros)
Tensor.new_ones = _new(ones)
Tensor.new_empty = _new(empty)
Tensor.new_full = _new(full)
Tensor.new_tensor = _new(tensor)


def arange(
    start: Any = 0, end: Any = None, step: Any = 1, *, out: Tensor | None = None,
    dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """``start, start + step, ...`` below `end`; int64 if all are ints."""
    if end is None:
        start, end = 0, start
    start, end, step = (x.item() if isinstance(x, Tensor) else x for x in (start, end, step))
    kind = dtypes.as_dtype(dtype) if dtype is not None else (
        dtypes.get_default_dtype() if any(isinstance(x, float) for x in (start, end, step))
        else dtypes.int64
    )  # fmt: skip
    if out is not None and dtype is None:
        kind = out.dtype
    if not all(math.isfinite(x) for x in (start, end, step) if type(x) is float):
        raise RuntimeError(at_user_line(f"arange: unsupported range {start} to {end} by {step}"))
    if kind is dtypes.int64:
        start, end, step = (int(x) if type(x) is float else x for x in (start, end, step))
    if step == 0 or (end - start) * step < 0:
        raise RuntimeError(at_user_line(f"arange: bounds {start}, {end} do not fit step {step}"))
    if isinstance(step, int) and isinstance(start, int) and isinstance(end, int):
        count = (end - start + step - 1) // step if step > 0 else (start - end - step - 1) // -step
    else:
        count = math.ceil((end - start) / step)
        if kind.kind != "f":  # torch counts in floats, but adds up in the result's dtype
            start, step = int(start), int(step)
    (whole,) = hints_of((count,))
    low = start if isinstance(start, float) else hints_of((start,))[0]
    wide = np.float64 if kind.kind == "f" else np.int64
    values = (np.arange(whole, dtype=wide) * step + low).astype(kind.numpy)
    result = new_tensor(values)
    if state.capture is not None:
        result = _record_arange(result, count, start, step, kind)
    return finish(result, requires_grad, device) if out is None else deliver(result, out)


def _record_arange(result: Tensor, count: Any, start: Any, step: Any, kind: DType) -> Tensor:
    wide = dtypes.float64 if kind.kind == "f" else dtypes.int64
    whole = TensorType(wide, (count,))
    node = OPS["iota"](type=whole, axis=0)
    if step != 1:
        node = node * _python(step, wide)
    if type(start) is SymInt:
        node = node + OPS["broadcast_to"](OPS["size"](value=start), shape=(count,))
    elif start != 0:
        node = node + _python(start, wide)
    if kind is not wide:
        node = OPS["cast"](node, dtype=kind)
    node.loc = user_location()
    attach(result, node, False)
    return result


FUNCTIONS.update({
    "tensor": tensor, "as_tensor": as_tensor, "asarray": as_tensor, "from_numpy": from_numpy,
    "zeros": zeros, "ones": ones, "empty": empty, "full": full, "arange": arange,
    "scalar_tensor": lambda s, **how: tensor(s, **how),
})  # fmt: skip
