"""``python -m bench``: tracejit beside NumPy, PyTorch, torch.compile and JAX, in one run.

One file per kind of question: `kernels` (fused chains), `training` (whole steps), `overhead` (cost
of a call and of a new size), `process` (import, cold and warm compile, memory; one process each).
Invariant: every number that is printed belongs to a result that was checked against NumPy float64.
"""
