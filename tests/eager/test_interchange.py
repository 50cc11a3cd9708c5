"""In and out: factories, NumPy, DLPack, Python numbers, copies, printing.

Invariant: memory is shared exactly where torch shares it; expected texts are torch's.
"""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import tracejit as torch

# --- factories -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "values", "dtype"),
    [
        (lambda: torch.tensor([[1, 2], [3, 4]]), [[1, 2], [3, 4]], "int64"),
        (lambda: torch.tensor([1, 2.5]), [1.0, 2.5], "float32"),
        (lambda: torch.tensor([True, False]), [True, False], "bool"),
        (lambda: torch.tensor(np.float64([1.5])), [1.5], "float64"),
        (lambda: torch.tensor([torch.tensor(1.5), torch.tensor(2.5)]), [1.5, 2.5], "float32"),
        (lambda: torch.tensor([]), [], "float32"),
        (lambda: torch.tensor(3, dtype=torch.int8), 3, "int8"),
        (lambda: torch.zeros(2, 1), [[0.0], [0.0]], "float32"),
        (lambda: torch.ones((2,), dtype=torch.uint8), [1, 1], "uint8"),
        (lambda: torch.full((2,), 7), [7, 7], "int64"),
        (lambda: torch.full((2,), True), [True, True], "bool"),
        (lambda: torch.arange(3), [0, 1, 2], "int64"),
        (lambda: torch.arange(1, 2, 0.25), [1.0, 1.25, 1.5, 1.75], "float32"),
        (lambda: torch.arange(5, 0, -2), [5, 3, 1], "int64"),
        (lambda: torch.linspace(0, 1, 5), [0.0, 0.25, 0.5, 0.75, 1.0], "float32"),
        (lambda: torch.logspace(0, 2, 3), [1.0, 10.0, 100.0], "float32"),
        (lambda: torch.eye(2, 3), [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], "float32"),
        (lambda: torch.zeros_like(torch.ones(2, dtype=torch.int16)), [0, 0], "int16"),
        (lambda: torch.ones_like(torch.arange(2), dtype=torch.float64), [1.0, 1.0], "float64"),
        (lambda: torch.full_like(torch.arange(2), 5), [5, 5], "int64"),
        (lambda: torch.ones(1, dtype=torch.float64).new_zeros(2), [0.0, 0.0], "float64"),
        (lambda: torch.arange(2).new_tensor([9, 8]), [9, 8], "int64"),
        (lambda: torch.tril_indices(2, 2), [[0, 1, 1], [0, 0, 1]], "int64"),
    ],
)
def test_factories(made, values, dtype) -> None:  # type: ignore[no-untyped-def]
    x = made()
    assert x.tolist() == values
    assert x.dtype.name == dtype


def test_empty_has_a_shape_and_a_dtype() -> None:
    x = torch.empty(2, 3, dtype=torch.int32)
    assert (x.shape, x.dtype) == (torch.Size([2, 3]), torch.int32)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: torch.zeros(-1), RuntimeError, "negative dimension"),
        (lambda: torch.zeros(2.5), TypeError, "int"),
        (lambda: torch.tensor([[1, 2], [3]]), ValueError, "length|shape|size"),
        (lambda: torch.tensor("a"), (TypeError, ValueError), "str|'a'"),
        (lambda: torch.arange(0, 5, 0), RuntimeError, "step"),
        (lambda: torch.full((1,), 300, dtype=torch.uint8), RuntimeError, "300.*overflow"),
        (lambda: torch.tensor([1], requires_grad=True), RuntimeError, "floating"),
        (lambda: torch.from_numpy([1.0]), TypeError, "ndarray.*list"),
    ],
)
def test_factories_refuse(make, error, text) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=text) as caught:
        make()
    assert "test_interchange.py:" in str(caught.value)


# --- NumPy and DLPack ------------------------------------------------------------------------


def test_from_numpy_and_numpy_share_memory_and_tensor_copies() -> None:
    a = np.zeros(3, np.float32)
    shared, copied = torch.from_numpy(a), torch.tensor(a)
    a[0] = 5.0
    assert (shared[0].item(), copied[0].item()) == (5.0, 0.0)
    shared[1] = 6.0
    assert a[1] == 6.0
    assert np.shares_memory(shared.numpy(), a)
    assert np.shares_memory(torch.as_tensor(a).numpy(), a)
    assert not np.shares_memory(torch.as_tensor(a, dtype=torch.float64).numpy(), a)


def test_strided_and_reversed_arrays() -> None:
    a = np.arange(6.0).reshape(2, 3)
    x = torch.from_numpy(a.T[::2])
    assert x.tolist() == [[0.0, 3.0], [2.0, 5.0]]
    assert (x * 2).sum().item() == 20.0
    assert not x.is_contiguous()


def test_arrays_of_other_byte_order_and_of_unknown_dtype() -> None:
    assert torch.from_numpy(np.array([1, 2], ">i4")).tolist() == [1, 2]
    with pytest.raises(TypeError, match=r"complex|dtype"):
        torch.from_numpy(np.zeros(1, complex))


def test_array_protocol() -> None:
    x = torch.tensor([1.0, 2.0])
    a = np.asarray(x)
    assert a.dtype == np.float32
    assert np.shares_memory(a, x.numpy())
    assert np.asarray(x, np.float64).dtype == np.float64
    assert not np.shares_memory(np.array(x), x.numpy())
    assert np.add(x.numpy(), 1).tolist() == [2.0, 3.0]
    with pytest.raises(RuntimeError, match=r"requires grad.*detach"):
        np.asarray(torch.ones(1, requires_grad=True))


def test_operators_with_arrays_on_either_side_give_tensors() -> None:
    x, a = torch.tensor([1.0, 2.0]), np.float32(3.0)
    assert isinstance(x * a, torch.Tensor)
    assert isinstance(a * x, torch.Tensor)
    assert (a * x).tolist() == [3.0, 6.0]


def test_dlpack_to_and_from_numpy_shares_memory() -> None:
    x = torch.arange(6, dtype=torch.float64).reshape(2, 3).t()
    a = np.from_dlpack(x)
    assert a.tolist() == x.tolist()
    assert np.shares_memory(a, x.numpy())
    b = np.arange(4, dtype=np.int16)
    y = torch.from_dlpack(b)
    y[0] = 9
    assert (b[0], y.dtype) == (9, torch.int16)
    z = torch.utils.dlpack.from_dlpack(torch.utils.dlpack.to_dlpack(y)) if hasattr(
        torch.utils, "dlpack") else torch.from_dlpack(y)  # fmt: skip
    z[1] = 8
    assert b[1] == 8


def test_dlpack_device_and_grad() -> None:
    assert torch.ones(1).__dlpack_device__() == (1, 0)
    with pytest.raises(BufferError, match="detach"):
        torch.ones(1, requires_grad=True).__dlpack__()


# --- Python numbers --------------------------------------------------------------------------


def test_single_elements_leave_as_python_numbers() -> None:
    assert (float(torch.tensor(2)), int(torch.tensor(2.9)), bool(torch.tensor([0.0]))) == (
        2.0,
        2,
        False,
    )
    assert type(torch.tensor(1).item()) is int
    assert type(torch.tensor(True).item()) is bool
    assert type(torch.tensor(1.0, dtype=torch.float16).item()) is float
    for leave in (bool, int, float, lambda t: t.item()):
        with pytest.raises((RuntimeError, ValueError, TypeError), match="2 elements"):
            leave(torch.ones(2))


def test_format_of_numbers() -> None:
    assert f"{torch.tensor(1.23456):.2f}" == "1.23"
    assert f"{torch.tensor(7):03d}" == "007"


# --- copies ----------------------------------------------------------------------------------


def test_deepcopy_and_pickle_keep_values_and_flags() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    for y in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert y.tolist() == [1.0, 2.0]
        assert y.requires_grad
        assert y.is_leaf
        assert not np.shares_memory(y.detach().numpy(), x.detach().numpy())
    with pytest.raises(RuntimeError, match="leaf"):
        copy.deepcopy(x * 2)


def test_conversions_return_the_tensor_itself_where_nothing_changes() -> None:
    x = torch.ones(2)
    assert x.to(torch.float32) is x
    assert x.float() is x
    assert x.contiguous() is x
    assert x.cpu() is x
    assert x.to(torch.float32, copy=True) is not x
    assert x.to("cpu", torch.float64).dtype is torch.float64
    assert torch.tensor([1.9, -1.9]).int().tolist() == [1, -1]


# --- printing --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (lambda: torch.tensor([1.0, 2.5]), "tensor([1.0000, 2.5000])"),
        (lambda: torch.tensor([1.0, 20.0]), "tensor([ 1., 20.])"),
        (lambda: torch.tensor([[1, -2], [30, 4]]), "tensor([[ 1, -2],\n        [30,  4]])"),
        (lambda: torch.tensor(3.5), "tensor(3.5000)"),
        (lambda: torch.tensor([True, False]), "tensor([ True, False])"),
        (lambda: torch.tensor([]), "tensor([])"),
        (lambda: torch.zeros(0, 3), "tensor([], size=(0, 3))"),
        (lambda: torch.tensor([1e-6, 1.0]), "tensor([1.0000e-06, 1.0000e+00])"),
        (lambda: torch.tensor([float("nan"), 1.0, float("-inf")]), "tensor([nan, 1., -inf])"),
        (lambda: torch.tensor([1.0], dtype=torch.float64), "tensor([1.], dtype=tracejit.float64)"),
        (lambda: torch.ones(1, requires_grad=True), "tensor([1.], requires_grad=True)"),
        (lambda: torch.ones(1, requires_grad=True) * 2, "tensor([2.], grad_fn=<MulBackward0>)"),
        (lambda: torch.arange(2000), "tensor([   0,    1,    2,  ..., 1997, 1998, 1999])"),
    ],
)
def test_repr(x, text) -> None:  # type: ignore[no-untyped-def]
    assert repr(x()) == text


def test_repr_of_a_stack_separates_matrices() -> None:
    assert repr(torch.zeros(2, 1, 2)) == "tensor([[[0., 0.]],\n\n        [[0., 0.]]])"


def test_printing_options() -> None:
    try:
        torch.set_printoptions(precision=2, sci_mode=False)
        assert repr(torch.tensor([1.23456])) == "tensor([1.23])"
    finally:
        torch.set_printoptions(profile="default")
    assert repr(torch.tensor([1.23456])) == "tensor([1.2346])"


def test_html_names_the_type_and_escapes() -> None:
    html = (torch.ones(2, 2, requires_grad=True) * 2)._repr_html_()
    assert "f32[2,2]" in html
    assert "&lt;MulBackward0&gt;" in html
    assert "<MulBackward0>" not in html


def test_shapes_print_and_behave_as_tuples() -> None:
    size = torch.zeros(2, 3).shape
    assert repr(size) == "Size([2, 3])"
    assert size == (2, 3)
    assert size.numel() == 6
    assert size[1:] == torch.Size([3])
    assert torch.zeros(2, 3).size(-1) == 3
