"""Whose code a file is: a library's wherever it is installed, a package's, or the user's.

Invariant: only the path is looked at.
"""

import pytest

from tracejit.jit.source import is_user_file


@pytest.mark.parametrize("folder", ["/opt/env/lib/python3.11/site-packages",
                                    "/usr/lib/python3/dist-packages"])  # fmt: skip
def test_libraries_are_known_in_any_folder_of_packages(folder):
    assert not is_user_file(f"{folder}/llvmlite/binding/ffi.py")
    assert not is_user_file(f"{folder}/numba/core/ir.py")
    assert is_user_file(f"{folder}/somebodys_models/net.py")
    assert is_user_file("/home/user/project/numba_tricks.py")
