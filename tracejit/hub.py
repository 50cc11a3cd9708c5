"""``tracejit.hub``: torch's download helpers, which refuse.

Invariant: nothing is downloaded, and no pickled file is opened.
"""

from __future__ import annotations

import os
import re
from typing import Any, NoReturn
from urllib.parse import urlparse

from tracejit.errors import at_user_line

__all__ = [
    "HASH_REGEX", "download_url_to_file", "get_dir", "load", "load_state_dict_from_url",
    "load_url", "set_dir", "urlparse",
]  # fmt: skip

HASH_REGEX = re.compile(r"-([a-f0-9]*)\.")  # the hash in a file's name, as in resnet-0676ba61.pth

_folder: list[str | None] = [None]


def get_dir() -> str:
    """The folder for downloads: what `set_dir` was given, or ``hub`` below $TORCH_HOME."""
    if _folder[0] is not None:
        return _folder[0]
    return os.path.join(_get_torch_home(), "hub")


def _get_torch_home() -> str:
    return os.environ.get("TORCH_HOME") or os.path.join(os.path.expanduser("~"), ".cache", "torch")


def set_dir(d: str | os.PathLike[str]) -> None:
    """What `get_dir` gives from now on."""
    _folder[0] = os.fspath(d)


def _refuse(name: str) -> NoReturn:
    raise RuntimeError(at_user_line(
        f"hub.{name}: tracejit downloads nothing; save the weights as safetensors and read them "
        "with tracejit.load"))  # fmt: skip


def load_state_dict_from_url(*args: Any, **kwargs: Any) -> Any:
    """Raises RuntimeError."""
    _refuse("load_state_dict_from_url")


load_url = load_state_dict_from_url


def download_url_to_file(*args: Any, **kwargs: Any) -> None:
    """Raises RuntimeError."""
    _refuse("download_url_to_file")


def load(*args: Any, **kwargs: Any) -> Any:
    """Raises RuntimeError."""
    _refuse("load")
