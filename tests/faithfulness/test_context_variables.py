"""Context variables and marks: a compiled function reads them afresh, and its writes are kept.

Invariant: every call is compared with the plain function in the same context.
"""

import contextvars
import threading

import pytest

import tracejit as torch
from tracejit.errors import TraceWarning

SCALE = contextvars.ContextVar("scale", default=2.0)
TABLE: contextvars.ContextVar[dict] = contextvars.ContextVar("table")
MISSING = object()


def scaled(x, how=MISSING):
    table = TABLE.get(None)
    y = x * SCALE.get()
    if table is not None:
        y = y + table["add"]
    return y if how is MISSING else y * how


def test_what_a_context_holds_is_read_at_every_call():
    compiled = torch.compile(scaled, fullgraph=True)
    x = torch.tensor([1.0, 2.0])
    table = {"add": 1.0}

    def check(*args):
        for _ in range(2):
            assert compiled(x, *args).tolist() == scaled(x, *args).tolist()

    check()
    token = SCALE.set(3.0)
    check()
    TABLE.set(table)
    check()
    table["add"] = 5.0
    check()
    SCALE.reset(token)
    check()
    check(4.0)
    thread = threading.Thread(target=check)  # a context of its own
    thread.start()
    thread.join()
    assert compiled.cache_info().hits >= 6


def test_a_write_that_is_taken_back_compiles_and_another_does_not():
    def inside(x):
        token = SCALE.set(7.0)
        try:
            return scaled(x)
        finally:
            SCALE.reset(token)

    def kept(x):
        SCALE.set(SCALE.get() + 1.0)
        return x * SCALE.get()

    def run():
        x = torch.ones(2)
        compiled = torch.compile(inside, fullgraph=True)
        assert [compiled(x).tolist() for _ in range(3)] == [[7.0, 7.0]] * 3
        with pytest.warns(TraceWarning, match="SCALE"):
            count = torch.compile(kept)
            values = [count(x)[0].item() for _ in range(3)]
        assert values == [3.0, 4.0, 5.0]

    contextvars.Context().run(run)


class Lazy(dict):
    """A dict that makes its items when somebody lists them."""

    gain = 2.0

    def __iter__(self):
        raise AssertionError("looked into by the capture")

    keys = items = values = __iter__


def test_a_dict_that_lists_itself_by_its_own_code_is_not_asked():
    lazy = Lazy()
    compiled = torch.compile(lambda x: x * lazy.gain, fullgraph=True)
    x = torch.ones(2)
    for lazy.gain in (3.0, 3.0, 4.0):
        assert compiled(x).tolist() == [lazy.gain] * 2
