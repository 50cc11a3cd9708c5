"""Functions with a cache (``functools.cache``, ``lru_cache``): what it holds, if a run used it.

A value that such a function gives rests on state as it was when its body ran, and is one object for
all callers. Invariant: a trace is kept only of a run that filled no cache; it holds as long as the
caches that answered still hold the very same values.
"""

from __future__ import annotations

import functools
import gc
import types
from collections.abc import Iterator
from typing import Any

from tracejit.jit.source import Entry, Refusal, Source, is_user_file

_MAX_CACHED = 512
"""Values in one cache that are guarded at most."""
_FIXED = (int, float, str, bytes, bool, complex, type(None), type)


class CacheState:
    """A function with a cache of the user's, and the cache as it is now.

    results  the values in it that may change, or None if the cache is too large, or full: then what
             it forgets next depends on every call.
    """

    def __init__(self, cached: Any):
        self.cached = cached
        self.store = _store_of(cached)
        self.held = tuple((self.store or {}).items())
        self.results = self._results()
        self.info = cached.cache_info()

    def _results(self) -> list[Any] | None:
        shape = self.cached.cache_parameters()
        is_full = len(self.held) == shape["maxsize"]
        if self.store is None or len(self.held) > _MAX_CACHED or is_full or shape["typed"]:
            return None
        values = [self._value(key, item) for key, item in self.held]
        return [v for v in values if not isinstance(v, _FIXED)]

    def _value(self, key: Any, item: Any) -> Any:
        """The value in the cache, which may be inside an object that shows nothing: then the
        function is asked for it."""
        if type(item).__name__ != "_lru_list_elem":
            return item
        given = key if isinstance(key, tuple) else (key,)
        mark = _mark()
        split = next((i for i, part in enumerate(given) if part is mark), len(given))
        named = given[split + 1 :]
        return self.cached(*given[:split], **dict(zip(named[::2], named[1::2], strict=True)))

    def answered(self) -> Iterator[Entry]:
        """Guards of what the cache has answered since; Refusal if it was filled meanwhile."""
        now = self.cached.cache_info()
        name = getattr(self.cached, "__qualname__", "a function")
        if now.misses != self.info.misses:
            raise Refusal(f"fills the cache of {name}()", is_passing=True)
        if now.hits == self.info.hits:
            return
        if self.results is None:
            raise Refusal(f"{name}() answers from a cache that is too large, or full")
        for key, item in self.held:
            yield Entry(Source(None, "const", self.store).then("raw item", key), "is", item)


def cache_state(cached: Any) -> CacheState | None:
    """The state of a cache around a function of the user's; None for other functions."""
    code = getattr(cached.__wrapped__, "__code__", None)
    if code is None or not is_user_file(code.co_filename):
        return None
    module = cached.__wrapped__.__globals__.get("__name__", "")
    if module.startswith("einops."):  # recipes, which never change
        return None
    return CacheState(cached)


def has_int_keys(cached: Any) -> bool:
    """Whether an int that is the only argument is a key by itself, which no stand-in equals."""
    wrapped = cached.__wrapped__
    if not isinstance(wrapped, types.FunctionType):
        return True
    code = wrapped.__code__
    return code.co_argcount - len(wrapped.__defaults__ or ()) <= 1 and (
        code.co_argcount > 0 or bool(code.co_flags & 0x04)
    )


@functools.cache
def _mark() -> Any:
    """What stands in a key between the positional arguments and the others."""

    @functools.cache
    def probe(**named: int) -> None:
        return None

    probe(a=1)
    return next(iter(_store_of(probe) or ()))[0]


def _store_of(cached: Any) -> dict[Any, Any] | None:
    """The dictionary in which the function keeps its values."""
    found = [r for r in gc.get_referents(cached) if type(r) is dict and r is not cached.__dict__]
    return found[0] if len(found) == 1 else None
