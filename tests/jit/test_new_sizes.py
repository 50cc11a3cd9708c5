"""A size never seen before replays; a generated call is made when it comes again."""

from __future__ import annotations

import tracejit as torch
from tracejit.ir.polynomials import ONE, add, always_alike, freeze, is_never_negative


def test_a_call_is_generated_for_sizes_that_come_again():
    w = torch.randn(6)
    compiled = torch.compile(lambda x: torch.tanh(x * w) + x)
    for n in (3, 4, 5):
        compiled(torch.randn(n, 6))
    (group,) = compiled.signatures[1,].groups[:1]
    made = group.builds
    for n in range(7, 17):
        compiled(torch.randn(n, 6))
    assert group.builds == made and group.hits >= 10
    for n in (7, 8):
        x = torch.randn(n, 6)
        for _ in range(3):
            assert torch.equal(compiled(x), torch.tanh(x * w) + x)
    assert group.builds == made + 2


def test_generated_calls_that_differ_in_sizes_share_their_code():
    w = torch.randn(6)
    compiled = torch.compile(lambda x: (x * w + 1.0).sum(-1))
    for n in (3, 4, 5, 3, 4, 5, 3, 4, 5):
        compiled(torch.randn(n, 6))
    calls = compiled.signatures[(1,)].ready
    codes = {call.__code__ for call in calls if call.source == calls[0].source}
    assert len(calls) >= 2 and len(codes) == 1


def test_polynomials_that_are_never_negative() -> None:
    s = {(("sym", "s0"),): 1}
    half = {(("div", freeze(add(s, {ONE: -1})), freeze({ONE: 2})),): 1}
    assert is_never_negative(add(half, {ONE: 1}))  # (s0 - 1) // 2 + 1
    assert not is_never_negative(half)
    rest = add(add({}, half, 2), add(s, {ONE: -2}), -1)  # 2 * ((s0 - 1) // 2) - s0 + 2
    assert is_never_negative(rest)
    assert not is_never_negative(add(rest, {ONE: -1}))
    assert always_alike("<", rest) and always_alike("<=", add({}, s, -1))
    assert not always_alike("==", s) and always_alike("==", add(s, {ONE: 1}))
