"""Where numbers of a trace can stand in for Python's own: which code takes them for the number.

A `LiftedInt`, a `SymFloat` or a size looks like a number to Python code and to C code that asks for
its value by ``__index__`` or ``__float__``, which the trace then depends on. Invariant: code that
looks at the type of the object itself (``type(n)``, ``json.dumps(n)``) gets plain numbers.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

from tracejit.jit.objects import is_library_module

_TAKE = {
    "abc", "array", "ast", "asyncio", "atexit", "bisect", "builtins", "cmath", "collections",
    "concurrent", "contextlib", "contextvars", "copy", "copyreg", "dataclasses", "dis", "einops",
    "enum", "fractions", "functools", "gc", "glob", "hashlib", "heapq", "importlib", "inspect",
    "io", "itertools", "keyword", "linecache", "logging", "math", "multiprocessing", "numbers",
    "numpy", "operator", "os", "pathlib", "platform", "posixpath", "pytest", "queue", "random",
    "re", "secrets", "shutil", "socket", "sre", "string", "struct", "subprocess", "sys",
    "sysconfig", "tempfile", "textwrap", "thread", "threading", "time", "timeit", "token",
    "traceback", "tracejit", "types", "typing", "typing_extensions", "unicodedata", "unittest",
    "uuid", "warnings", "weakref", "tqdm", "rich", "posix", "frozen_importlib",
    "frozen_importlib_external", "sitebuiltins", "distutils_hack",
}  # fmt: skip
"""Libraries that use numbers by their operators, ``isinstance`` and C's conversions, or not at
all."""


def takes_stand_ins(value: Any) -> bool:
    """Whether a module, class, function or object may be given a number of a trace."""
    if isinstance(value, types.ModuleType):
        name = value.__name__
    else:
        named = isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType))
        name = getattr(value if named else type(value), "__module__", None) or "builtins"
    return module_takes_stand_ins(str(name))


def module_takes_stand_ins(name: str) -> bool:
    """Whether the functions of a module may be given a number of a trace."""
    return name.partition(".")[0].lstrip("_") in _TAKE or not is_library_module(name)


def identities(objects: Sequence[Any]) -> tuple[int, ...]:
    """For each object the position of the first that is the same one."""
    first: dict[int, int] = {}
    return tuple(first.setdefault(id(x), i) for i, x in enumerate(objects))
