"""Whose code a file is: a library's wherever it is installed, a package's, or the user's.

Invariant: the path decides, and whether an installer filled the folder it names.
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


def test_a_folder_that_an_installer_filled_is_known_by_what_lies_in_it(tmp_path):
    """``pip install --target`` puts packages into folders of any name."""
    assert is_user_file(str(tmp_path / "mine" / "rich" / "net.py"))
    (tmp_path / "vendor" / "rich-15.0.0.dist-info").mkdir(parents=True)
    assert not is_user_file(str(tmp_path / "vendor" / "rich" / "net.py"))
    assert is_user_file(str(tmp_path / "vendor" / "somebodys_models" / "net.py"))
