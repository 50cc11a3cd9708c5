"""`save` and `load`, and safetensors files: everything comes back, and no damage goes unnoticed."""

from __future__ import annotations

import io
import json
import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest

import tracejit as torch
import tracejit.nn as nn
from tracejit import safetensors
from tracejit.serialization import FileFormatError


def _roundtrip(value):
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file)


def test_plain_values_and_containers(tmp_path):
    value = {
        "a": [1, -2.5, None, True, "text", (1, [2])], 3: float("inf"), ("k", 1): b"\x00\xff",
        "o": OrderedDict(z=1, a=2), "s": {1, 2}, "d": torch.float16, "i": 2**70, "e": {},
    }  # fmt: skip
    path = tmp_path / "value.tjt"
    torch.save(value, path)
    back = torch.load(path)
    assert back == value and list(back) == list(value)
    assert isinstance(back["o"], OrderedDict) and type(back["a"][0]) is int
    assert np.isnan(_roundtrip(float("nan"))) and str(_roundtrip(-0.0)) == "-0.0"


_DTYPES = ["float64", "float32", "float16", "int64", "int8", "uint8", "bool"]


@pytest.mark.parametrize("dtype", _DTYPES)
def test_tensors_of_every_dtype_and_shape(dtype):
    for shape in ((), (0, 3), (2, 3)):
        x = torch.ones(*shape).to(getattr(torch, dtype)) if shape else torch.tensor(1.0).to(
            getattr(torch, dtype)
        )  # fmt: skip
        y = _roundtrip(x)
        assert y.dtype is x.dtype and y.shape == x.shape and torch.equal(x, y)
    x = torch.arange(12).reshape(3, 4).t()[1:]
    assert torch.equal(_roundtrip(x), x) and _roundtrip(np.arange(3)).tolist() == [0, 1, 2]


def test_parameters_and_gradients_asked_for():
    p = _roundtrip(nn.Parameter(torch.ones(2)))
    assert isinstance(p, nn.Parameter) and p.requires_grad
    assert _roundtrip(torch.ones(2, requires_grad=True)).requires_grad
    assert not _roundtrip(torch.ones(2)).requires_grad


def test_shared_memory_is_stored_once_and_stays_shared():
    x = torch.zeros(1000)
    file = io.BytesIO()
    torch.save([x, x], file)
    assert len(file.getvalue()) < 5000
    file.seek(0)
    a, b = torch.load(file)
    a[0] = 5.0
    assert b[0].item() == 5.0


def test_a_checkpoint_of_model_and_optimizer(tmp_path):
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    torch.save({"net": net.state_dict(), "opt": optimizer.state_dict(), "epoch": 2}, tmp_path / "c")
    saved = torch.load(tmp_path / "c")
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    other.load_state_dict(saved["net"])
    again = torch.optim.Adam(other.parameters())
    again.load_state_dict(saved["opt"])
    x = torch.randn(5, 3)
    assert torch.equal(other(x), net(x)) and saved["epoch"] == 2
    assert again.state_dict()["state"][0]["step"].item() == 1.0


def test_what_cannot_be_saved_is_named():
    with pytest.raises(TypeError, match=r"\['a'\]\[1\] is a object"):
        torch.save({"a": [1, object()]}, io.BytesIO())
    with pytest.raises(TypeError, match="state_dict"):
        torch.save(nn.Linear(1, 1), io.BytesIO())


def _file(value) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def test_every_truncation_is_noticed():
    data = _file({"w": torch.arange(20.0), "n": 3})
    for length in range(len(data)):
        with pytest.raises(FileFormatError):
            torch.load(io.BytesIO(data[:length]))


def test_every_flipped_byte_is_noticed():
    data = _file({"w": torch.arange(20.0), "n": 3})
    for i in range(len(data)):
        damaged = bytearray(data)
        damaged[i] ^= 0x41
        with pytest.raises(FileFormatError):
            torch.load(io.BytesIO(bytes(damaged)))


def test_a_pickle_is_refused_with_advice():
    for data in (pickle.dumps({"w": 1}), b"PK\x03\x04" + b"\x00" * 60):
        with pytest.raises(FileFormatError, match=r"safetensors\.torch\.save_file"):
            torch.load(io.BytesIO(data))
    with pytest.raises(FileFormatError, match="neither"):
        torch.load(io.BytesIO(b"hello, this is no checkpoint at all, only text"))


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "c.tjt"
    torch.save(1, path)
    with pytest.raises(TypeError):
        torch.save(object(), path)
    assert torch.load(path) == 1 and [p.name for p in tmp_path.iterdir()] == ["c.tjt"]


# --- safetensors -----------------------------------------------------------------------------


def _safetensors(header: dict, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_safetensors_round_trip(tmp_path):
    tensors = {
        "w": torch.randn(3, 2), "b": torch.tensor([True, False]), "n": torch.tensor(5),
        "e": torch.zeros(0, 4), "h": torch.ones(3).half(),
    }  # fmt: skip
    path = tmp_path / "m.safetensors"
    torch.save(tensors, path)
    for back in (torch.load(path), safetensors.load_file(path)):
        assert back.keys() == tensors.keys()
        assert all(torch.equal(back[k], v) and back[k].dtype is v.dtype for k, v in tensors.items())
    safetensors.save_file(tensors, path, {"format": "pt"})
    assert safetensors.read_metadata(path) == {"format": "pt"}


def test_safetensors_layout_is_the_published_one():
    header = {
        "__metadata__": {"k": "v"},
        "x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "y": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [8, 12]},
    }
    data = np.array([1.5, -2.0], "<f4").tobytes() + np.array([0x3FC0, 0xC000], "<u2").tobytes()
    found = torch.load(io.BytesIO(_safetensors(header, data)))
    assert found["x"].tolist() == [1.5, -2.0] and found["y"].tolist() == [[1.5, -2.0]]
    assert found["y"].dtype is torch.float32


@pytest.mark.parametrize(
    "entry, words",
    [
        ({"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}, "do not hold"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 16]}, "truncated"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "follow the last"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}, "gaps"),
        ({"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}, "not supported"),
        ({"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}, "impossible shape"),
        ({"shape": [2], "data_offsets": [0, 8]}, "damaged"),
    ],
)
def test_damaged_safetensors(entry, words):
    with pytest.raises(FileFormatError, match=words):
        torch.load(io.BytesIO(_safetensors({"x": entry}, bytes(8))))
