"""Users' programs as modules: from a file, or from text that belongs to no file.

Invariant: what is loaded counts as the user's own code, for guards and for file:line.
"""

from __future__ import annotations

import importlib.util
import linecache
import os
import sys
from types import ModuleType
from typing import Any


def load_file(path: str) -> ModuleType:
    """The module that a Python file defines; FileNotFoundError if there is none."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no file {path}")
    name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(name, os.path.abspath(path))
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if before is not None:
            sys.modules[name] = before
        else:
            del sys.modules[name]
        raise
    finally:
        sys.path.pop(0)
    return module


def load_text(text: str, filename: str) -> ModuleType:
    """The module that `text` defines, under a name of its own; `linecache` knows its lines."""
    name = os.path.splitext(filename)[0]
    linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
    module = ModuleType(name)
    sys.modules[name] = module
    exec(compile(text, filename, "exec"), module.__dict__)
    return module


def load_function(place: str) -> Any:
    """What ``FILE.py:NAME`` names; ValueError or AttributeError say what is wrong with it."""
    path, _, name = place.rpartition(":")
    if not path or not name.isidentifier():
        raise ValueError(f"{place!r}: expected FILE.py:FUNCTION")
    module = load_file(path)
    if not hasattr(module, name):
        raise AttributeError(f"{path} defines no {name!r}")
    return getattr(module, name)
