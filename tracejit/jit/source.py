"""Paths to values: where a trace reads what it depends on, and how to read it again.

Invariant: a path is a root (an argument, or an object the trace holds) and steps; user strings
reach generated source as constants only.
"""

from __future__ import annotations

import collections
import functools
import glob
import os
import sysconfig
from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.tensor import Tensor

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_LIBRARIES = tuple(
    os.path.abspath(p) + os.sep
    for p in (sysconfig.get_paths()["stdlib"], os.path.dirname(np.__file__))
)
STDLIB = _LIBRARIES[0]
_SITE = os.path.abspath(sysconfig.get_paths()["purelib"]) + os.sep
KNOWN_LIBRARIES = {
    "numpy", "numba", "llvmlite", "scipy", "torch", "jax", "jaxlib", "pandas", "matplotlib", "PIL",
    "pytest", "_pytest", "pluggy", "hypothesis", "tqdm", "rich", "IPython", "cupy", "sympy",
    "numba_cuda", "safetensors", "mpmath", "cuda",
}  # fmt: skip
_user_code: dict[str, bool] = {}
_ASSIGNABLE = (dict, list, collections.deque)
"""Containers whose items a replay may assign; the attributes of an object are a dict."""


def is_user_file(filename: str) -> bool:
    """Whether code of this file is the user's, rather than Python's, NumPy's or ours."""
    found = _user_code.get(filename)
    if found is None:
        path = os.path.abspath(filename)
        package = _installed_package(path)
        if package is not None:
            library = package in KNOWN_LIBRARIES
        else:
            library = path.startswith(_LIBRARIES) or filename.startswith(("<frozen", "<tracejit"))
        found = _user_code[filename] = not library and not path.startswith(_PACKAGE)
    return found


def _installed_package(path: str) -> str | None:
    """The package that a file was installed with, in whatever folder of packages it lies."""
    if path.startswith(_SITE):
        return path[len(_SITE) :].split(os.sep)[0]
    for folder in ("site-packages", "dist-packages"):
        _, found, rest = path.rpartition(f"{os.sep}{folder}{os.sep}")
        if found:
            return rest.split(os.sep)[0]
    parts = path.split(os.sep)
    for i, part in enumerate(parts[1:-1], 1):
        if part in KNOWN_LIBRARIES and _holds_packages(os.sep.join(parts[:i])):
            return part
    return None


@functools.cache
def _holds_packages(folder: str) -> bool:
    """Whether an installer filled this folder (``pip install --target``)."""
    return bool(glob.glob(os.path.join(glob.escape(folder), "*.dist-info")))


def is_own_file(filename: str) -> bool:
    """Whether code of this file is tracejit's."""
    return filename.startswith(_PACKAGE)


def own_names(tensor: Any) -> tuple[str, ...]:
    """The names of the attributes that a user gave a tensor."""
    return tuple(k for k in tensor.__dict__ if k != "_array" and not hasattr(Tensor, k))


def is_stdlib_file(filename: str) -> bool:
    """Whether code of this file belongs to Python's own library."""
    inside = filename.startswith(STDLIB) and not filename.startswith(_SITE)
    return inside or filename.startswith("<frozen")


class Refusal(Exception):
    """The state cannot be guarded; the message says why.

    fixed  keys of inputs whose sizes must be fixed in the next capture, which may then succeed.
    is_passing  whether the run set something up that later ones will find.
    """

    def __init__(self, message: str, fixed: frozenset[Any] = frozenset(), is_passing: bool = False):
        super().__init__(message)
        self.fixed = fixed
        self.is_passing = is_passing


UNSET = object()
"""What a context variable without a value in this context gives."""


class Entry:
    """One value: where it is (`source`), what it was, and how it is checked (`kind`).

    kind 'equal' (type and value), 'is' (identity), 'tensor', 'alias' (a tensor that is also
    somewhere else), 'length' (of a container),
    'keys' (of a dict), 'array' (contents of a small NumPy array), 'absent' (nothing is there),
    'outline' (of a tensor that the run did not meet: dtype, rank and the like),
    'module tensor' and 'module number' (of a Module, whose `ModuleGuard` checks them).
    """

    __slots__ = ("source", "kind", "value")

    def __init__(self, source: Source, kind: str, value: Any):
        self.source = source
        self.kind = kind
        self.value = value


class Source:
    """A path to a value: a root (argument or constant) and steps from there."""

    __slots__ = ("parent", "step", "key")

    def __init__(self, parent: Source | None, step: str, key: Any):
        self.parent = parent
        self.step = step
        self.key = key

    def then(self, step: str, key: Any = None) -> Source:
        return Source(self, step, key)

    def read(self, args: tuple[Any, ...]) -> Any:
        """The value there now; KeyError, IndexError, AttributeError if the path is gone."""
        if self.parent is None:
            return args[self.key] if self.step == "arg" else self.key
        return _READ[self.step](self.parent.read(args), self.key)

    def write(self, args: tuple[Any, ...], value: Any) -> None:
        """Put a value there (an attribute, an item, a cell); in a tuple, by a new tuple."""
        assert self.parent is not None
        holder = self.parent.read(args)
        if self.step == "cell":
            holder.cell_contents = value
        elif isinstance(holder, tuple):
            items = [*holder[: self.key], value, *holder[self.key + 1 :]]
            made = type(holder)(*items) if hasattr(holder, "_fields") else type(holder)(items)
            self.parent.write(args, made)
        else:
            holder[self.key] = value

    def is_assignable(self, args: tuple[Any, ...]) -> bool:
        """Whether a replay can store a new value there."""
        if self.step not in ("item", "raw item") or self.parent is None:
            return self.step == "cell"
        holder = self.parent.read(args)
        if self.step == "raw item":  # one with a lookup of its own may store it elsewhere, too
            return type(holder).__getitem__ is dict.__getitem__
        if isinstance(holder, tuple):
            return self.parent.is_assignable(args)
        return isinstance(holder, _ASSIGNABLE)

    def expression(self, constant: Callable[[Any], str]) -> str:
        """Python source that reads the value; constants go through a table."""
        if self.parent is None:
            return f"a{self.key}" if self.step == "arg" else constant(self.key)
        return self.step_from(self.parent.expression(constant), constant)

    def step_from(self, inner: str, constant: Callable[[Any], str]) -> str:
        """Python source of the last step, from the expression of what it starts at."""
        if self.step == "item":
            return f"{inner}[{self._literal(constant)}]"
        if self.step == "raw item":
            return f"{constant(dict.get)}({inner}, {self._literal(constant)}, {constant(UNSET)})"
        return {
            "dict": f"{inner}.__dict__",
            "cell": f"{inner}.cell_contents",
            "attr": f"{inner}.{self.key}",
            "deref": f"{inner}()",
            "context": f"{inner}.get({constant(UNSET)})",
            "slot": f"{constant(object.__getattribute__)}({inner}, {constant(self.key)})",
            "own names": f"{constant(own_names)}({inner})",
            "type": f"type({inner})",
        }[self.step]

    def _literal(self, constant: Callable[[Any], str]) -> str:
        if type(self.key) is int or (type(self.key) is str and self.key.isidentifier()):
            return repr(self.key)
        return constant(self.key)

    def describe(self) -> str:
        """For people: ``global 'scale'``, ``x.attr``, ``argument 0``."""
        if self.parent is None:
            return f"argument {self.key}" if self.step == "arg" else _short(self.key)
        above = self.parent
        if self.step == "dict":
            return above.describe()
        if self.step == "item" and above.step == "dict":
            return f"{above.describe()}.{self.key}"
        if self.step == "item" and above.parent is None and above.step == "globals":
            return f"global {self.key!r}"
        if self.step == "context":
            return f"the value of {above.describe()}"
        if self.step == "cell":
            return f"closure variable {self.key!r}"
        if self.step in ("item", "raw item"):
            return f"{above.describe()}[{self.key!r}]"
        if self.step == "type":
            return f"the type of {above.describe()}"
        return f"{above.describe()}.{self.key}"


def raw_item(holder: dict[Any, Any], key: Any) -> Any:
    """The item that a dict holds, past the code of a subclass; KeyError where ``holder[key]`` would
    make one (a `defaultdict`, a class with ``__missing__``)."""
    if not dict.__contains__(holder, key):
        raise KeyError(key)
    return dict.__getitem__(holder, key)


_READ: dict[str, Callable[[Any, Any], Any]] = {
    "item": lambda holder, key: holder[key],
    "dict": lambda holder, key: holder.__dict__,
    "cell": lambda holder, key: holder.cell_contents,
    "attr": getattr,
    "deref": lambda holder, key: holder(),
    "context": lambda holder, key: holder.get(UNSET),
    "slot": object.__getattribute__,  # an empty one asks no `__getattr__`
    "type": lambda holder, key: type(holder),
    "raw item": raw_item,
    "own names": lambda holder, key: own_names(holder),
}


def _short(value: Any) -> str:
    if isinstance(value, dict) and "__name__" in value:
        return f"module {value['__name__']}"
    name = getattr(value, "__qualname__", None) or type(value).__name__
    return str(name)


def constant_source(value: Any) -> Source:
    """The source of an object that is held by the trace itself."""
    return Source(None, "globals" if isinstance(value, dict) else "const", value)


def source_key(source: Source) -> Any:
    """A hashable identity of a path."""
    steps: list[Any] = []
    here: Source | None = source
    while here is not None:
        key = here.key if here.parent is not None or here.step == "arg" else id(here.key)
        if here.parent is not None and not isinstance(key, (str, int, type(None))):
            key = id(key)
        steps.append((here.step, key))
        here = here.parent
    return tuple(steps)
