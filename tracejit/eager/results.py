"""Named tuples for functions with several results: ``values``/``indices`` and others."""

from __future__ import annotations

import functools
from collections import namedtuple
from typing import Any


@functools.cache
def named(name: str, fields: str) -> Any:
    """The tuple type of the results of function `name`; `fields` separated by spaces."""
    return namedtuple(name, fields.split())


ValuesIndices = named("ValuesIndices", "values indices")
