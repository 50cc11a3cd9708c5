"""Arguments by torch's names for them, found with torch's own samples.

Invariant: a name that torch documents is accepted, whatever the function calls it inside.
"""

from __future__ import annotations

import pytest

import tracejit as torch

V, M = torch.tensor([1.0, 2.0]), torch.tensor([[2.0, 0.0], [1.0, 3.0]])

CALLS = {
    "dot": lambda: (torch.dot(input=V, tensor=V), torch.dot(V, V)),
    "vdot": lambda: (torch.vdot(input=V, other=V), torch.vdot(V, V)),
    "mv": lambda: (torch.mv(input=M, vec=V), torch.mv(M, V)),
    "mm": lambda: (torch.mm(input=M, mat2=M), M @ M),
    "det": lambda: (torch.det(input=M), torch.linalg.det(A=M)),
    "matrix_exp": lambda: (torch.matrix_exp(input=M), torch.linalg.matrix_exp(M)),
    "matrix_power": lambda: (torch.matrix_power(input=M, n=2), M @ M),
    "cholesky_inverse": lambda: (torch.cholesky_inverse(input=M), torch.cholesky_inverse(M)),
    "cholesky_solve": lambda: (
        torch.cholesky_solve(input=M, input2=M), torch.cholesky_solve(M, M)
    ),
    "reshape": lambda: (torch.reshape(input=M, shape=(4,)), M.reshape(shape=(4,))),
    "split": lambda: (torch.split(tensor=V, split_size_or_sections=1)[1], V[1:]),
    "hsplit": lambda: (torch.hsplit(M, sections=2)[1], M[:, 1:]),
    "vsplit": lambda: (torch.vsplit(M, indices=[1])[0], M[:1]),
    "linalg.norm": lambda: (torch.linalg.norm(input=V), torch.linalg.norm(V)),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_keywords(name: str) -> None:
    got, want = CALLS[name]()
    assert torch.allclose(got, want)
