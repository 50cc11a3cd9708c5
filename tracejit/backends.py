"""``tracejit.backends``: torch's switches of libraries that tracejit does not use.

Invariant: the switches can be read and set, and none of them changes a result; whatever is asked
for, ``is_available()`` is False.
"""

from __future__ import annotations

from types import SimpleNamespace

__all__ = ["Library", "cpu", "cuda", "cudnn", "mkl", "mkldnn", "mps", "openmp"]


class Library(SimpleNamespace):
    """One library's switches, plain attributes; it is never available.

    Example: ``backends.cudnn.benchmark = True``.
    """

    def is_available(self) -> bool:
        """False."""
        return False

    def is_built(self) -> bool:
        """False."""
        return False

    def version(self) -> None:
        """None: the library is not used."""
        return None


cudnn = Library(
    enabled=False, benchmark=False, deterministic=False, allow_tf32=False, benchmark_limit=10
)
cuda = Library(matmul=SimpleNamespace(
    allow_tf32=False,
    allow_fp16_reduced_precision_reduction=False,
    allow_bf16_reduced_precision_reduction=False,
))  # fmt: skip
mps = Library()
mkl = Library()
mkldnn = Library(enabled=False)
openmp = Library()
cpu = SimpleNamespace(get_cpu_capability=lambda: "DEFAULT")
