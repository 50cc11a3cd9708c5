"""Programs and launches: every unit done once, arguments patched, faults reported, threads kept
apart.
"""

import gc
import sys
import threading

import numpy as np
import pytest

from tracejit.codegen.compiler import compile_kernel
from tracejit.runtime.driver import aligned_words
from tracejit.runtime.native import WRONG_LAYOUT
from tracejit.runtime.program import Expected, Patch, Program, Step, address_of
from tracejit.runtime.threads import ready_driver

ADD = """def kernel(t, lo, hi):
    x, y, s = ptr_f64(word(t, 0)), ptr_f64(word(t, 1)), fword(t, 2)
    for i in range(lo, hi):
        store_f64(y, i, load_f64(x, i) + s)
"""
COUNT = """def kernel(t, lo, hi):
    y = ptr_i64(word(t, 0))
    for i in range(lo, hi):
        store_i64(y, i, load_i64(y, i) + 1)
"""
SCALARS = """def kernel(t, lo, hi):
    y = ptr_f64(word(t, 0))
    store_f64(y, 0, fword(t, 1))
    store_f64(y, 1, to_f64(f32_from_bits(to_i32(word(t, 2)))))
    store_f64(y, 2, to_f64(word(t, 3)))
"""
FAULT = """def kernel(t, lo, hi):
    status = ptr_i64(word(t, 0))
    for i in range(lo, hi):
        if i == 5:
            store_i64(status, 0, 77)
"""
SERIAL = 1 << 60


def add_program(n, grain):
    kernel = compile_kernel("add", ADD)
    table = aligned_words(3)
    table[2] = np.float64(1.5).view(np.int64)
    word = address_of(table)
    return Program(
        [Step(kernel.address, word, n, grain)],
        [Patch(word, 0), Patch(word + 8, 1)],
        2,
        [kernel, table],
    )


@pytest.mark.parametrize("grain", [1, 3, 64, 1000, SERIAL])
@pytest.mark.parametrize("n", [0, 1, 2, 63, 64, 65, 511, 4099, 100_003])
def test_every_unit_is_done_exactly_once(n, grain):
    kernel = compile_kernel("count", COUNT)
    counts = np.zeros(n + 2, np.int64)
    ready_driver().launch(kernel.address, n, grain, counts)
    assert (counts[:n] == 1).all() and (counts[n:] == 0).all()


@pytest.mark.parametrize("grain", [16, SERIAL])
def test_arguments_are_patched_at_every_call(grain):
    program = add_program(1000, grain)
    for seed in range(3):
        x = np.random.default_rng(seed).standard_normal(1000)
        y = np.zeros(1000)
        assert program.run(x, y) == 0
        assert (y == x + 1.5).all()
        assert program.run(address_of(y), y) == 0
        assert (y == x + 1.5 + 1.5).all()


def test_offsets_and_scalars():
    kernel = compile_kernel("scalars", SCALARS)
    table = aligned_words(4)
    word = address_of(table)
    patches = [
        Patch(word, 0, 16),
        Patch(word + 8, 1, kind="float64"),
        Patch(word + 16, 1, kind="float32"),
        Patch(word + 24, 2, kind="int"),
    ]
    program = Program([Step(kernel.address, word, 1, 1)], patches, 3, [kernel, table])
    y = np.zeros(5)
    for number, whole in ((0.1, -3), (float("inf"), 1 << 40), (1e300, 0)):
        program.run(y, number, whole)
        with np.errstate(over="ignore"):
            assert y.tolist() == [0, 0, number, float(np.float32(number)), whole]


def test_steps_run_in_order_and_share_tables():
    kernel = compile_kernel("add", ADD)
    a, b, c = np.arange(5000.0), np.zeros(5000), np.zeros(5000)
    tables = []
    for source, target in ((a, b), (b, c), (c, b)):
        table = aligned_words(3)
        table[:] = address_of(source), address_of(target), np.float64(1).view(np.int64)
        tables.append(table)
    steps = [Step(kernel.address, address_of(table), 5000, 10) for table in tables]
    assert Program(steps, [], 0, [kernel, tables, a, b, c]).run() == 0
    assert (b == a + 3).all() and (c == a + 2).all()


@pytest.mark.parametrize("grain", [1, SERIAL])
def test_a_fault_stops_the_program_after_its_step(grain):
    kernel, add = compile_kernel("fault", FAULT), compile_kernel("add", ADD)
    x, y = np.ones(4), np.zeros(4)
    fault_table, add_table = aligned_words(1), aligned_words(3)
    add_table[:2] = address_of(x), address_of(y)
    before = Step(add.address, address_of(add_table), 2, SERIAL)
    after = Step(add.address, address_of(add_table), 4, SERIAL)
    steps = [before, Step(kernel.address, address_of(fault_table), 100, grain), after]
    program = Program(
        steps, [Patch(address_of(fault_table), 0, kind="int")], 1, [kernel, add, x, y]
    )
    assert program.run(program.status_address) == 77
    assert program.failed_step == 1 and y.tolist() == [1, 1, 0, 0]
    harmless = aligned_words(1)
    assert program.run(address_of(harmless)) == 0  # the status is cleared
    assert y.tolist() == [1, 1, 1, 1]


def test_wrong_arguments_raise_and_the_program_stays_usable():
    program = add_program(4, SERIAL)
    x, y = np.ones(4), np.zeros(4)
    for wrong in (
        (),
        (x,),
        (x, y, y),
        (x, None),
        (x, [1.0]),
        (x, 1.0),
        (x, np.ma.ones(4)),
        (x, np.float64(1)),
    ):
        with pytest.raises(TypeError):
            program.run(*wrong)
    with pytest.raises(TypeError):
        program.run(x, y=y)
    assert program.run(x, y) == 0 and (y == 2.5).all()
    with pytest.raises(ValueError, match="outside"):
        Program([], [Patch(0, 2)], 2)


def test_launch_checks_its_words():
    launch = ready_driver().launch
    kernel = compile_kernel("count", COUNT)
    with pytest.raises(TypeError):
        launch(kernel.address, 1)
    with pytest.raises(TypeError):
        launch(kernel.address, 1, 1, "text")
    with pytest.raises(TypeError):
        launch(kernel.address, 1, 1, *range(65))
    assert launch(kernel.address, 1, 1, np.zeros(1, np.int64), *range(63)) is None


def test_one_program_refuses_two_threads_at_once_and_the_lock_is_free_meanwhile():
    program = add_program(3_000_000, 1000)
    x, y = np.ones(3_000_000), np.zeros(3_000_000)
    refused = 0

    def work():
        nonlocal refused
        for _ in range(30):
            try:
                program.run(x, y)
            except RuntimeError as error:
                assert "in flight" in str(error)
                refused += 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused > 0  # could not happen if a run held the interpreter's lock
    assert program.run(x, y) == 0 and (y == 2.5).all()


def test_programs_of_many_threads_at_once():
    wrong = []

    def work(seed):
        program = add_program(3000 + seed, 64)
        x = np.random.default_rng(seed).standard_normal(3000 + seed)
        for _ in range(200):
            y = np.zeros_like(x)
            program.run(x, y)
            if not (y == x + 1.5).all():
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_program_keeps_alive_what_it_points_to_and_then_lets_go():
    class Token:
        alive = 0

        def __init__(self):
            Token.alive += 1

        def __del__(self):
            Token.alive -= 1

    program = Program([], [], 0, [Token()])
    gc.collect()
    assert Token.alive == 1
    run = program.run
    assert run() == 0
    del program
    assert run() == 0 and Token.alive == 1
    del run
    gc.collect()
    assert Token.alive == 0


def test_calls_leave_no_references_behind():
    program = add_program(4, SERIAL)
    x, y = np.ones(4), np.zeros(4)
    launch, count = ready_driver().launch, compile_kernel("count", COUNT)
    counts = np.zeros(1, np.int64)
    before = sys.getrefcount(x), sys.getrefcount(counts), sys.getrefcount(program)
    for _ in range(1000):
        program.run(x, y)
        launch(count.address, 1, 1, counts)
    assert (sys.getrefcount(x), sys.getrefcount(counts), sys.getrefcount(program)) == before


def test_address_of():
    x = np.arange(10)
    assert address_of(x) == x.ctypes.data
    assert address_of(x[3:]) == x.ctypes.data + 24
    assert address_of(x[::-1]) == x.ctypes.data + 72
    assert address_of(np.zeros((0, 3))) != 0


def test_expected_layouts_are_checked_before_anything_runs():
    program = add_program(12, SERIAL)
    x, y = np.arange(12.0).reshape(3, 4), np.zeros((3, 4))
    program.expect([Expected(0, x.dtype, x.shape, x.strides)])
    assert program.run(x, y) == 0
    assert (y == x + 1.5).all()
    y[:] = 0
    wrong = [x.T, x.reshape(4, 3), x.ravel(), x.astype("f4"), x.reshape(3, 4, 1), np.float64(2.0)]
    for other in [*wrong, np.ones((3, 8))[:, ::2], address_of(x), np.ma.array(x)]:
        assert program.run(other, y) == WRONG_LAYOUT
    assert (y == 0).all()
    assert program.run(x, y) == 0
