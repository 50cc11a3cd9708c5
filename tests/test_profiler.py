"""Marked blocks are timed, by name and by the steps of a schedule.

Invariant: nothing is timed that is not inside a profiler's block.
"""

from __future__ import annotations

import json

import tracejit as torch
from tracejit.profiler import ProfilerActivity, profile, record_function, schedule


def work() -> None:
    with record_function("outer"), record_function("inner"):
        torch.ones(4).sum()


def test_marked_blocks(tmp_path) -> None:
    work()
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as prof:
        work()
        work()
    work()
    inner, outer = prof.key_averages()
    assert (inner.key, outer.key) == ("inner", "outer") and inner.count == outer.count == 2
    assert outer.cpu_time_total >= inner.cpu_time_total > 0
    assert abs(outer.self_cpu_time_total + inner.cpu_time_total - outer.cpu_time_total) < 1e-6
    text = prof.key_averages().table(sort_by="cpu_time_total", row_limit=1)
    assert "outer" in text and "inner" not in text and "Self CPU time total" in text
    path = tmp_path / "trace.json"
    prof.export_chrome_trace(path)
    assert [e["name"] for e in json.loads(path.read_text())["traceEvents"]] == [
        "inner",
        "outer",
    ] * 2


def test_steps_of_a_schedule(tmp_path) -> None:
    seen = []

    def ready(prof) -> None:
        seen.append((prof.step_num, len(prof.events())))

    plan = schedule(wait=1, warmup=1, active=2, repeat=2)
    with profile(schedule=plan, on_trace_ready=ready) as prof:
        for _ in range(10):
            work()
            prof.step()
    assert seen == [(4, 4), (8, 4)]
    handler = torch.profiler.tensorboard_trace_handler(str(tmp_path / "runs"), "me")
    with torch.profiler.profile(on_trace_ready=handler):
        work()
    assert len(list((tmp_path / "runs").iterdir())) == 1
