"""The safetensors format: a JSON header and raw arrays, read and written without running code.

Layout (as published by the format's authors): 8 bytes little-endian header length, the header
``{name: {"dtype", "shape", "data_offsets"}, "__metadata__": {...}}``, then the arrays. Invariant:
a file is checked in full before any tensor is made.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tracejit.errors import TracejitError
from tracejit.tensor import Tensor, new_tensor

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
    "I8": "|i1", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
_NAMES = {np.dtype(v).newbyteorder("="): k for k, v in _DTYPES.items()}
_MAX_HEADER = 100_000_000


class FileFormatError(TracejitError, ValueError):
    """A file that is damaged, truncated, or of another format."""


def little_endian(array: np.ndarray) -> np.ndarray:
    """The array in row-major order and little-endian bytes."""
    kind = array.dtype.newbyteorder("<")
    return np.ascontiguousarray(array.astype(kind, copy=False)).reshape(array.shape)


def write_atomically(path: str | os.PathLike[str], chunks: list[bytes | memoryview]) -> None:
    """Write a file so that it appears complete or not at all."""
    target = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent or ".")
    try:
        with os.fdopen(handle, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _usual_mode())
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _usual_mode() -> int:
    """The permissions a file made by `open` would have."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def save_file(
    tensors: Mapping[str, Tensor], filename: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Write named tensors to a ``.safetensors`` file, atomically.

    Raises TypeError for a value that is no tensor or a metadata entry that is no string.
    """
    write_atomically(filename, encode(tensors, metadata))


def encode(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> list[bytes | memoryview]:
    """The file's contents in pieces."""
    header: dict[str, Any] = {}
    if metadata is not None:
        if not all(isinstance(k, str) and isinstance(v, str) for k, v in metadata.items()):
            raise TypeError("safetensors metadata must map strings to strings")
        header["__metadata__"] = dict(metadata)
    arrays, end = [], 0
    order = sorted(tensors, key=lambda n: (-tensors[n]._array.itemsize, n)) if tensors else []
    for name in order:
        tensor = tensors[name]
        if not isinstance(name, str) or name == "__metadata__":
            raise TypeError(f"a tensor cannot be saved under the name {name!r}")
        if not isinstance(tensor, Tensor):
            raise TypeError(f"safetensors holds tensors only; {name!r} is {type(tensor).__name__}")
        array = little_endian(tensor.detach().cpu()._array)
        header[name] = {
            "dtype": _NAMES[array.dtype.newbyteorder("=")],
            "shape": list(array.shape),
            "data_offsets": [end, end + array.nbytes],
        }
        end += array.nbytes
        arrays.append(array)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    pieces: list[bytes | memoryview] = [struct.pack("<Q", len(text)), text]
    return pieces + [a.tobytes() for a in arrays]


def load_file(filename: str | os.PathLike[str], device: Any = "cpu") -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file by name; bfloat16 becomes float32 (exactly).

    Raises FileFormatError for a damaged file.
    """
    with open(filename, "rb") as file:
        return decode(file, os.fspath(filename), device)


def read_metadata(filename: str | os.PathLike[str]) -> dict[str, str]:
    """The file's own notes, ``{}`` if it has none."""
    with open(filename, "rb") as file:
        header, _ = _read_header(file, os.fspath(filename))
    notes = header.get("__metadata__", {})
    return dict(notes)


def _read_header(file: BinaryIO, name: str) -> tuple[dict[str, Any], bytes]:
    start = file.read(8)
    if len(start) < 8:
        raise FileFormatError(f"{name}: too short to be a safetensors file")
    (length,) = struct.unpack("<Q", start)
    if length > _MAX_HEADER:
        raise FileFormatError(f"{name}: not a safetensors file (header of {length} bytes)")
    text = file.read(length)
    if len(text) < length:
        raise FileFormatError(f"{name}: truncated inside the header")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{name}: the header is not valid JSON ({error})") from None
    if not isinstance(header, dict):
        raise FileFormatError(f"{name}: the header is not a table of tensors")
    return header, text


def decode(file: BinaryIO, name: str, device: Any = "cpu") -> dict[str, Tensor]:
    """The tensors of an open file; `name` is for messages."""
    header, _ = _read_header(file, name)
    header.pop("__metadata__", None)
    data = file.read()
    _check_layout(header, len(data), name)
    found = {}
    for key, entry in header.items():
        low, high = entry["data_offsets"]
        tensor = new_tensor(_array(entry, data[low:high], f"{name}: tensor {key!r}"))
        found[key] = tensor if str(device) == "cpu" else tensor.to(device)
    return found


def _check_layout(header: dict[str, Any], size: int, name: str) -> None:
    """The arrays must follow each other without gaps and fill the file."""
    spans = []
    for key, entry in header.items():
        try:
            low, high = entry["data_offsets"]
            entry["dtype"], list(entry["shape"])
            spans.append((int(low), int(high)))
        except (KeyError, TypeError, ValueError):
            raise FileFormatError(f"{name}: the entry of tensor {key!r} is damaged") from None
    end = 0
    for low, high in sorted(spans):
        if low != end or high < low:
            raise FileFormatError(f"{name}: the tensors' places overlap or leave gaps")
        end = high
    if end > size:
        raise FileFormatError(f"{name}: truncated: {end} bytes of data expected, {size} found")
    if end < size:
        raise FileFormatError(f"{name}: {size - end} bytes follow the last tensor")


def _array(entry: dict[str, Any], data: bytes, what: str) -> np.ndarray:
    shape, code = entry["shape"], entry["dtype"]
    if not all(isinstance(n, int) and n >= 0 for n in shape):
        raise FileFormatError(f"{what}: impossible shape {shape}")
    kind = np.dtype("<u2") if code == "BF16" else np.dtype(_DTYPES.get(code, "V1"))
    if kind.kind == "V":
        raise FileFormatError(f"{what}: dtype {code} is not supported")
    count = 1
    for n in shape:
        count *= n
    if count * kind.itemsize != len(data):
        raise FileFormatError(f"{what}: {len(data)} bytes do not hold {code}{shape}")
    array = np.frombuffer(data, kind).reshape(shape)
    if code == "BF16":  # the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(kind.newbyteorder("="))
