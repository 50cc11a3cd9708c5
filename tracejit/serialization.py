"""`save` and `load`: nested containers of tensors and plain values, in a file that runs no code.

Layout: the magic bytes, the lengths of header and data and their CRC-32s, a JSON header that
describes the object as a tree, then the arrays (little-endian, 64-byte aligned). Invariant: nothing
in a file is executed or imported by name; a damaged file raises before anything is returned.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import math
import os
import struct
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tracejit.dtypes import DType, dtype_named
from tracejit.ir.types import Device
from tracejit.nn.parameter import Parameter
from tracejit.safetensors import (
    FileFormatError,
    decode,
    encode,
    little_endian,
    write_atomically,
)
from tracejit.tensor import Size, Tensor, new_tensor

_MAGIC = b"TRACEJIT\x00\x01\r\n\x1a\n\x00\x00"
_START = struct.Struct("<16sQQII")  # magic, header bytes, data bytes, CRC of header, CRC of data
_ALIGN = 64
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80")


# --- writing ---------------------------------------------------------------------------------


class _Writer:
    """Turns an object into a JSON tree and a list of arrays; equal memory is stored once."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []
        self.places: list[dict[str, Any]] = []
        self.known: dict[tuple[Any, ...], int] = {}
        self.end = 0

    def array(self, array: np.ndarray) -> int:
        """The number under which an array is stored."""
        key = (array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str)
        if array.size and key in self.known:
            return self.known[key]
        data = little_endian(array)
        start = -(-self.end // _ALIGN) * _ALIGN
        self.places.append({"dtype": data.dtype.str, "shape": list(data.shape), "start": start})
        self.end = start + data.nbytes
        self.arrays.append(data)
        self.known[key] = len(self.arrays) - 1
        return len(self.arrays) - 1

    def node(self, value: Any, path: str) -> Any:
        """The JSON form of a value; `path` is for messages."""
        if value is None or isinstance(value, (bool, str)) or type(value) is int:
            return value
        if isinstance(value, float):
            plain = float(value)
            return plain if math.isfinite(plain) else {"float": repr(plain)}
        if isinstance(value, Tensor):
            return self._tensor(value)
        for kinds, name, convert in _CONTAINERS:
            if type(value) in kinds:
                return {name: convert(self, value, path)}
        for kinds, name, convert in _VALUES:
            if isinstance(value, kinds):
                return {name: convert(self, value)}
        raise TypeError(
            f"save: {path or 'the object'} is a {type(value).__name__}, which the file format does "
            "not hold; save state_dict(), or tensors, numbers, strings, lists, tuples and dicts"
        )

    def _tensor(self, value: Tensor) -> dict[str, Any]:
        kind = "parameter" if isinstance(value, Parameter) else "tensor"
        form: dict[str, Any] = {kind: self.array(value.detach().cpu()._array)}
        if value._requires_grad and value.is_leaf:
            form["requires_grad"] = True
        return form

    def pairs(self, value: dict[Any, Any], path: str) -> list[Any]:
        return [
            [self.node(k, f"a key of {path or 'the object'}"), self.node(v, f"{path}[{k!r}]")]
            for k, v in value.items()
        ]

    def items(self, value: Any, path: str) -> list[Any]:
        return [self.node(v, f"{path}[{i}]") for i, v in enumerate(value)]


_CONTAINERS: list[tuple[tuple[type, ...], str, Callable[..., Any]]] = [
    ((dict,), "dict", _Writer.pairs),
    ((OrderedDict,), "ordered_dict", _Writer.pairs),
    ((list,), "list", _Writer.items),
    ((tuple,), "tuple", _Writer.items),
    ((Size,), "size", _Writer.items),
    ((set,), "set", _Writer.items),
    ((frozenset,), "frozenset", _Writer.items),
]
_VALUES: list[tuple[Any, str, Callable[..., Any]]] = [
    (np.ndarray, "array", lambda w, v: w.array(v)),
    (np.generic, "scalar", lambda w, v: w.array(np.asarray(v))),
    (DType, "dtype", lambda w, v: v.name),
    (Device, "device", lambda w, v: str(v)),
    (bytes, "bytes", lambda w, v: base64.b64encode(v).decode()),
]


def save(
    obj: Any, f: str | os.PathLike[str] | BinaryIO, pickle_module: Any = None,
    pickle_protocol: int = 2, _use_new_zipfile_serialization: bool = True,
) -> None:  # fmt: skip
    """Write an object made of tensors, numbers, strings, lists, tuples, sets and dicts.

    f  a path, written atomically, or a file open for binary writing. A path that ends in
       ``.safetensors`` takes a dict of tensors and writes that format.
    pickle_module, pickle_protocol  accepted: nothing is pickled.

    Raises TypeError, naming the place, for anything else (a Module: save its ``state_dict()``).
    Example: ``save({"model": net.state_dict(), "epoch": 3}, "checkpoint.tjt")``.
    """
    if isinstance(f, (str, os.PathLike)) and Path(f).suffix == ".safetensors":
        if not isinstance(obj, dict):
            raise TypeError("save: a .safetensors file holds a dict of tensors")
        write_atomically(f, encode(obj))
        return
    chunks = _encode(obj)
    if isinstance(f, (str, os.PathLike)):
        write_atomically(f, chunks)
    else:
        for chunk in chunks:
            f.write(chunk)


def _encode(obj: Any) -> list[bytes | memoryview]:
    writer = _Writer()
    tree = writer.node(obj, "")
    header = json.dumps({"tree": tree, "arrays": writer.places}, separators=(",", ":")).encode()
    header += b" " * (-(_START.size + len(header)) % _ALIGN)
    data: list[bytes | memoryview] = []
    at = checksum = 0
    for place, array in zip(writer.places, writer.arrays, strict=True):
        for piece in (b"\x00" * (place["start"] - at), array.tobytes()):
            checksum = zlib.crc32(piece, checksum)
            data.append(piece)
        at = place["start"] + array.nbytes
    start = _START.pack(_MAGIC, len(header), at, zlib.crc32(header), checksum)
    return [start, header, *data]


# --- reading ---------------------------------------------------------------------------------


def load(
    f: str | os.PathLike[str] | BinaryIO, map_location: Any = None, pickle_module: Any = None, *,
    weights_only: bool | None = None, mmap: bool | None = None, **pickle_load_args: Any,
) -> Any:  # fmt: skip
    """Read what `save` wrote, or a safetensors file.

    map_location  the device of the tensors (default: the CPU), or a dict or function from the CPU.
    weights_only, mmap, pickle_module  accepted; nothing in a file is ever executed.

    Raises FileFormatError for a damaged file, and for a PyTorch pickle, which would run code.
    """
    device = _device_of(map_location)
    if isinstance(f, (str, os.PathLike)):
        with open(f, "rb") as file:
            return _load(file, os.fspath(f), device)
    return _load(f, getattr(f, "name", "the file"), device)


def _device_of(map_location: Any) -> Any:
    if callable(map_location):
        map_location = map_location(None, "cpu")
    if isinstance(map_location, dict):
        map_location = map_location.get("cpu")
    return "cpu" if map_location is None else map_location


def _load(file: BinaryIO, name: str, device: Any) -> Any:
    start = file.read(_START.size)
    if start.startswith(_PICKLE_STARTS):
        raise FileFormatError(
            f"{name}: a PyTorch or pickle file, which could run code when opened; in PyTorch, "
            "write it with safetensors.torch.save_file(model.state_dict(), 'model.safetensors') "
            "and load that"
        )
    if not start.startswith(_MAGIC[: len(start)]) or not start:
        if len(start) >= 9 and start[8:9] in (b"{", b" "):
            return decode(_Rejoined(start, file), name, device)  # type: ignore[arg-type]
        raise FileFormatError(f"{name}: neither a tracejit file nor a safetensors file")
    if len(start) < _START.size:
        raise FileFormatError(f"{name}: truncated at its very start")
    _, header_size, data_size, header_crc, data_crc = _START.unpack(start)
    header = _read(file, header_size)
    if len(header) < header_size or zlib.crc32(header) != header_crc:
        raise FileFormatError(f"{name}: the header is truncated or damaged")
    data = _read(file, data_size)
    if len(data) < data_size:
        raise FileFormatError(f"{name}: truncated: {data_size} bytes of data expected, "
                              f"{len(data)} found")  # fmt: skip
    if zlib.crc32(data) != data_crc:
        raise FileFormatError(f"{name}: the data is damaged (its checksum differs)")
    try:
        content = json.loads(header)
        return _Reader(content["arrays"], data, device).value(content["tree"])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise FileFormatError(f"{name}: the header makes no sense ({error})") from None


def _read(file: BinaryIO, size: int) -> bytes:
    """`size` bytes, or all there are; a damaged size allocates no more than the file holds."""
    pieces = []
    while size > 0 and (piece := file.read(min(size, 1 << 26))):
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class _Rejoined(io.RawIOBase):
    """A file of which some bytes have been read already."""

    def __init__(self, start: bytes, file: BinaryIO):
        self.start = start
        self.file = file

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            head, self.start = self.start, b""
            return head + self.file.read()
        head, self.start = self.start[:size], self.start[size:]
        return head + (self.file.read(size - len(head)) if len(head) < size else b"")


class _Reader:
    """Turns a JSON tree and the data back into an object; shared arrays stay shared."""

    def __init__(self, places: list[dict[str, Any]], data: bytes, device: Any):
        self.places = places
        self.data = data
        self.device = device
        self.arrays: dict[int, np.ndarray] = {}
        self.tensors: dict[int, Tensor] = {}

    def array(self, number: int) -> np.ndarray:
        held = self.arrays.get(number)
        if held is None:
            place = self.places[number]
            kind = np.dtype(place["dtype"])
            if kind.kind not in "fiub":
                raise ValueError(f"dtype {place['dtype']!r}")
            count = math.prod(place["shape"])
            if min([0, place["start"], *place["shape"]]) < 0:
                raise ValueError("a negative size")
            array = np.frombuffer(self.data, kind, count, place["start"]) if count else (
                np.empty(0, kind)
            )  # fmt: skip
            held = array.reshape(place["shape"]).astype(kind.newbyteorder("="))
            self.arrays[number] = held
        return held

    def tensor(self, number: int) -> Tensor:
        held = self.tensors.get(number)
        if held is None:
            held = new_tensor(self.array(number))
            if str(self.device) != "cpu":
                held = held.to(self.device)
            self.tensors[number] = held
            return held
        return held.detach()

    def value(self, form: Any) -> Any:
        if not isinstance(form, dict):
            return form
        requires_grad = form.pop("requires_grad", False)
        ((kind, content),) = form.items()
        if kind == "tensor":
            tensor = self.tensor(content)
            return tensor.requires_grad_() if requires_grad else tensor
        if kind == "parameter":
            return Parameter(self.tensor(content), requires_grad)
        return _READ[kind](self, content)

    def items(self, content: list[Any]) -> list[Any]:
        return [self.value(item) for item in content]

    def pairs(self, content: list[Any]) -> list[tuple[Any, Any]]:
        return [(self.value(key), self.value(value)) for key, value in content]


_READ: dict[str, Callable[[_Reader, Any], Any]] = {
    "dict": lambda r, c: dict(r.pairs(c)),
    "ordered_dict": lambda r, c: OrderedDict(r.pairs(c)),
    "list": lambda r, c: r.items(c),
    "tuple": lambda r, c: tuple(r.items(c)),
    "size": lambda r, c: Size(r.items(c)),
    "set": lambda r, c: set(r.items(c)),
    "frozenset": lambda r, c: frozenset(r.items(c)),
    "float": lambda r, c: float(c),
    "array": lambda r, c: r.array(c).copy(),
    "scalar": lambda r, c: r.array(c)[()],
    "dtype": lambda r, c: dtype_named(c),
    "device": lambda r, c: Device(c),
    "bytes": lambda r, c: base64.b64decode(c),
}

_safe_globals: list[Any] = []


def add_safe_globals(safe_globals: list[Any]) -> None:
    """Kept for `get_safe_globals`: a file names no class, so there is none to allow."""
    _safe_globals.extend(safe_globals)


def get_safe_globals() -> list[Any]:
    """What `add_safe_globals` was given."""
    return list(_safe_globals)


def clear_safe_globals() -> None:
    """Forget what `add_safe_globals` was given."""
    _safe_globals.clear()


@contextlib.contextmanager
def safe_globals(safe_globals: list[Any]) -> Iterator[None]:
    """`add_safe_globals` for a block."""
    before = get_safe_globals()
    add_safe_globals(safe_globals)
    try:
        yield
    finally:
        _safe_globals[:] = before


__all__ = [
    "FileFormatError", "add_safe_globals", "clear_safe_globals", "get_safe_globals", "load",
    "safe_globals", "save",
]  # fmt: skip
