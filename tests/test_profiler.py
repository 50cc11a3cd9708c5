"""Ops, kernels and marked blocks are timed, by name and by the steps of a schedule.

Invariant: nothing is timed that is not inside a profiler's block.
"""

from __future__ import annotations

import json
import threading

import tracejit as torch
from tracejit.profiler import ProfilerActivity, profile, record_function, schedule


def work() -> None:
    with record_function("outer"), record_function("inner"):
        torch.ones(4)


def counts(prof) -> dict[str, int]:
    return {e.key: e.count for e in prof.key_averages()}


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


def test_eager_ops_and_their_gradients():
    w = torch.ones(3, 3, requires_grad=True)
    torch.tanh(w @ w).sum().backward()
    with profile() as prof:
        torch.tanh(w @ w).sum().backward()
    found = counts(prof)
    torch.tanh(w @ w).sum().backward()
    assert found == counts(prof)
    assert found["tanh"] == found["reduce_sum"] == 1 and found["matmul"] == 3
    assert sum(e.self_cpu_time_total for e in prof.key_averages()) > 0


def test_kernels_of_a_compiled_step_have_times_and_the_users_line():
    net = torch.nn.Linear(8, 8)

    @torch.compile
    def loss(x):
        return torch.tanh(net(x)).square().mean()

    x = torch.rand(4, 8)
    for _ in range(2):
        loss(x).backward()
    with profile() as prof:
        for _ in range(3):
            loss(x).backward()
    found = counts(prof)
    kernels = [n for n in found if "test_profiler.py" in n]
    assert found["compiled loss"] == found["compiled backward"] == 3
    assert any("matmul" in n for n in kernels) and any("tanh" in n for n in kernels)
    assert all(found[n] % 3 == 0 for n in kernels)
    by_name = {e.key: e for e in prof.key_averages()}
    whole = by_name["compiled loss"]
    assert 0 < whole.self_cpu_time_total < whole.cpu_time_total
    assert loss.cache_info().traces == 1


def test_a_block_around_a_compiled_call_does_not_count_it_as_its_own():
    double = torch.compile(lambda x: x * 2 + 1)
    x = torch.rand(64)
    for _ in range(3):
        double(x)
    with profile() as prof, record_function("around"):
        result = double(x)
    assert torch.equal(result, x * 2 + 1)
    averages = {e.key: e for e in prof.key_averages()}
    around, call = averages["around"], averages["compiled <lambda>"]
    assert around.cpu_time_total >= call.cpu_time_total
    assert around.self_cpu_time_total <= around.cpu_time_total - call.cpu_time_total + 1e-6


def test_two_profilers_at_once_and_one_that_ends_early():
    with profile() as outer:
        with profile() as inner:
            torch.ones(3).exp()
        torch.ones(3).exp()
    assert counts(inner)["exp"] == 1 and counts(outer)["exp"] == 2


def test_threads_do_not_mix_their_blocks():
    def run() -> None:
        with record_function("in a thread"):
            torch.ones(3).exp()

    with profile() as prof:
        threads = [threading.Thread(target=run) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert counts(prof)["in a thread"] == counts(prof)["exp"] == 4
    assert all(r.end - r.start >= r.inside >= 0 for r in prof.events())


def test_a_timer_measures_per_run_and_compare_shows_a_table() -> None:
    from tracejit.utils import benchmark

    x = torch.ones(3)
    timers = [
        benchmark.Timer(
            "x + 1", globals={"x": x}, label="sums", sub_label=name, description="eager"
        )
        for name in ("one", "two")
    ]
    found = [t.timeit(20) for t in timers]
    assert found[0].number_per_run == 20 and 0 < found[0].mean == found[0].median < 0.1
    several = timers[0].blocked_autorange(min_run_time=0.003)
    assert len(several.times) >= 1 and several.iqr >= 0 and "sums" in repr(several)
    table = str(benchmark.Compare(found))
    assert table.splitlines()[0] == "[ sums ]" and "two" in table and "eager" in table
