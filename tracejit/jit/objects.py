"""What kinds of objects there are: the user's, a library's, and those that never change.

Invariant: looking at an object runs none of the user's code.
"""

from __future__ import annotations

import _thread
import abc
import array
import collections
import datetime
import decimal
import fractions
import functools
import logging
import operator
import pathlib
import re
import sys
import threading
import types
import typing
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from tracejit.eager.watched import watch_names
from tracejit.jit.source import KNOWN_LIBRARIES, is_user_file, own_names
from tracejit.tensor import Tensor

_INERT = (
    decimal.Decimal, fractions.Fraction, datetime.date, datetime.time, datetime.timedelta,
    datetime.tzinfo, pathlib.PurePath, re.Pattern, uuid.UUID, logging.Logger, logging.Handler,
    types.BuiltinFunctionType, types.MethodWrapperType, types.WrapperDescriptorType,
    types.MethodDescriptorType, types.ClassMethodDescriptorType, types.GetSetDescriptorType,
    types.MemberDescriptorType, types.GenericAlias, types.UnionType, types.CodeType,
    operator.attrgetter, operator.itemgetter, operator.methodcaller,
    np.ufunc, np.dtype, np.finfo, np.iinfo, typing.TypeVar, _thread.LockType, _thread.RLock,
    property, super,
)  # fmt: skip
"""Types whose instances are what they are: reading one twice gives the same."""

CHANGING = {"sys": {"argv", "path", "tracebacklimit", "dont_write_bytecode"}}
"""What programs change in modules of Python's library."""
CONTAINERS = (
    list, tuple, dict, set, frozenset, collections.deque, np.ndarray, functools.partial,
)  # fmt: skip
"""Types whose instances hold values apart from attributes, which those of a user's class have."""
UNSEEN = (bytearray, array.array)
"""Types whose contents no guard looks at."""
OWN_ITERATION = tuple(
    kind.__iter__ for kind in (dict, collections.OrderedDict, types.MappingProxyType)
)
"""How dicts list their keys when no code of a subclass does."""
OWN_LOOKUP = tuple(
    kind.__getitem__
    for kind in (dict, collections.OrderedDict, collections.defaultdict, types.MappingProxyType)
)


class _Registrations:
    """What ``abc.ABC.register`` has done so far."""

    @property
    def token(self) -> Any:
        """Another number after every registration."""
        return abc.get_cache_token()


REGISTRATIONS = _Registrations()
_INERT_MODULES = {"typing", "abc", "_abc", "_io", "io", "inspect"}


def looks_up_plainly(kind: type) -> bool:
    """Whether ``d[key]`` on a dict of this class gives what it holds, and never makes an item."""
    return kind.__getitem__ in OWN_LOOKUP and not hasattr(kind, "__missing__")  # type: ignore


def own_dict(value: Any) -> dict[str, Any] | None:
    """The attributes of the object itself; None if it has no dictionary.

    Those of a ``threading.local`` are the calling thread's.
    """
    if isinstance(value, threading.local):
        return value.__dict__
    try:
        held = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return held if isinstance(held, dict) else None


def own_attributes(tensor: Tensor) -> dict[str, Any]:
    """The attributes that a user gave a tensor."""
    return {name: tensor.__dict__[name] for name in own_names(tensor)}


def slots_of(value: Any) -> Iterator[tuple[str, Any]]:
    """The attributes in ``__slots__`` that are set; the arguments of an exception."""
    if isinstance(value, BaseException):
        yield "args", value.args
    for base in type(value).__mro__:
        if "__slots__" not in base.__dict__:
            continue
        for name, descriptor in base.__dict__.items():
            if isinstance(descriptor, types.MemberDescriptorType):
                try:
                    yield name, descriptor.__get__(value, type(value))
                except AttributeError:
                    continue


def is_inert(value: Any) -> bool:
    """Whether an object of a library never changes in a way that code could read."""
    if type(value) is object:  # a mark, which has nothing but its identity
        return True
    return isinstance(value, _INERT) or type(value).__module__ in _INERT_MODULES


def is_library_module(name: str) -> bool:
    """Whether a module belongs to Python or to a library whose names nobody rebinds."""
    top = name.partition(".")[0]
    if top in KNOWN_LIBRARIES or top in sys.stdlib_module_names or top == "tracejit":
        return True
    module = sys.modules.get(name)
    filename = getattr(module, "__file__", None)
    return isinstance(filename, str) and not is_user_file(filename)


def watch_library(module: types.ModuleType, names: Iterable[str]) -> None:
    """Have compiled functions forget their traces when one of these names is replaced in a
    library's module, or in a module inside it. Those of `sys` change all the time; what counts of
    them is guarded.
    """
    held = module.__dict__
    found = held.keys() & names
    if module is sys or not found:
        return
    watch_names(module, found)
    for name in found:
        inner = held[name]
        if isinstance(inner, types.ModuleType) and inner.__name__.startswith(module.__name__ + "."):
            watch_library(inner, names)


def is_user_class(kind: type) -> bool:
    """Whether a class was defined by the user rather than by Python, NumPy or tracejit."""
    module = kind.__module__
    if module in ("builtins", "collections", "functools", "typing", "abc"):
        return False
    if module.partition(".")[0] in ("tracejit", "numpy"):
        return False
    for item in kind.__dict__.values():
        if isinstance(item, types.FunctionType):
            return is_user_file(item.__code__.co_filename)
    filename = getattr(sys.modules.get(module), "__file__", None)
    if filename is None:
        return module.partition(".")[0] not in sys.stdlib_module_names
    return filename.endswith((".py", ".pyc")) and is_user_file(filename)


def is_library_container(kind: type) -> bool:
    """Whether it inherits methods of `collections` (``UserDict``, ``ChainMap``), which read any
    attribute."""
    return any(base.__module__ == "collections" for base in kind.__mro__)


def is_users_container(owner: Any, item: Any) -> bool:
    """Whether `item` is a plain container, and all code of its owner's class the user's or ours.

    Methods of other libraries' classes are not followed, so what they look up is not known.
    """
    known = all(base is object or is_user_class(base) or base.__module__.startswith("tracejit")
                for base in type(owner).__mro__)  # fmt: skip
    return known and type(item) in (list, dict, set, collections.deque)
