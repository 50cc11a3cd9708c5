"""The native filter of profile events: what it drops, and that it drops nothing else."""

from __future__ import annotations

import sys
import types
from typing import Any

from tracejit.runtime.profile import Filter, file_word


def called(x: int) -> int:
    return len([x])


def elsewhere(name: str = "<another file>") -> Any:
    """The function `g`, as if it were in another file."""
    code = called.__code__.replace(co_name="g", co_filename=name)
    return types.FunctionType(code, globals())


def events_of(run: Any, *dropped: Any) -> list[tuple[str, str, Any]]:
    seen: list[tuple[str, str, Any]] = []

    def hook(frame: Any, event: str, argument: Any) -> None:
        seen.append((frame.f_code.co_name, event, argument))

    events = Filter(hook)
    for function in dropped:
        events.drop(function.__code__)
    events.install()
    try:
        assert sys.getprofile() is events
        run()
    finally:
        sys.setprofile(None)
    return [e for e in seen if e[0] in ("called", "g")]


def test_all_events_of_other_files_arrive():
    g = elsewhere()
    assert file_word() > 0
    assert events_of(lambda: (called(1), g(2))) == [
        ("called", "call", None), ("called", "c_call", len), ("called", "c_return", len),
        ("called", "return", 1), ("g", "call", None), ("g", "c_call", len),
        ("g", "c_return", len), ("g", "return", 1),
    ]  # fmt: skip


def test_events_of_a_dropped_file_do_not():
    g = elsewhere()
    names = [name for name, *_ in events_of(lambda: (called(1), g(2), called(3)), g)]
    assert names == ["called"] * 8
    assert [name for name, *_ in events_of(lambda: (called(1), g(2)), called)] == ["g"] * 4


def test_more_files_than_it_has_room_for():
    functions = [elsewhere(f"<file {i}>") for i in range(600)]
    seen = events_of(lambda: [f(1) for f in functions], *functions)
    assert 0 < len(seen) < 4 * 100
