"""What a function says: print, logging, warnings.

Invariant: what is said at each call is compared, not only what is returned.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import logging
import sys

import pytest
from scenario import arange, error, printed, scenario

import tracejit as torch


@scenario("print inside", "printed at every call", "input", 1)
def test_print(compile):
    def run(x):
        print("shape", tuple(x.shape))
        return x * 2

    f = compile(run)
    for k in range(3):
        yield printed(f, arange(3, start=k))


@scenario("print of a tensor inside", "its values at every call", "input", 1)
def test_print_tensor(compile):
    def run(x):
        y = x * 2
        print(y)
        return y

    f = compile(run)
    for k in range(3):
        yield printed(f, arange(3, start=k))


@scenario("print of tensors in containers, of item(), of numbers", "the values of the call",
          "input", 3)  # fmt: skip
def test_print_values(compile):
    def run(x, n):
        loss = (x * x).sum()
        print("step", n, n + 1, loss.item(), {"x": [x, loss]}, x.shape, sep=" | ", end="!\n")
        return loss

    f = compile(run)
    for k in range(6):
        yield printed(f, arange(3, start=k), k)


@scenario("print between writes", "the values at that moment", "input", 1)
def test_print_between_writes(compile):
    def run(x):
        print(x)
        x.mul_(2)
        print(x, x[1:])
        x[0] = 5
        return x + 1

    f = compile(run)
    for k in range(4):
        x = arange(3, start=k)
        yield printed(f, x), x


@scenario("print on one branch only", "printed when taken, once", "branch", 2)
def test_print_branch(compile):
    def run(x):
        print("in", x)
        if x.sum() > 3:
            print("big", x * 2)
        return x + 1

    f = compile(run)
    for k in (0, 2, 0, 3, 1, 2):
        yield printed(f, arange(3, start=k))


@scenario("print of what requires grad", "its values and its history", "input", 1)
def test_print_history(compile):
    w = torch.ones(3, requires_grad=True)

    def run(x):
        y = x * w
        print(w, y)
        return y.sum()

    f = compile(run)
    for k in range(3):
        y, text = printed(f, arange(3, start=k))
        y.backward()
        yield text, w.grad


@scenario("print to sys.stderr, then to a file", "written where eager writes", "eager", 2)
def test_print_elsewhere(compile):
    out = io.StringIO()

    def run(x):
        print(x, file=out if x.shape[0] > 3 else sys.stderr)
        return x * 2

    f = compile(run)
    for n in (2, 2, 4, 5):
        with contextlib.redirect_stderr(io.StringIO()) as err:
            yield f(arange(n)), err.getvalue(), out.getvalue()


@scenario("print of an object with its own __str__", "what it says now", "eager", 1)
def test_print_object(compile):
    class Counter:
        count = 0

        def __str__(self):
            Counter.count += 1
            return f"shown {self.count}"

    shown = Counter()

    def run(x):
        print(shown)
        return x * 2

    f = compile(run)
    for k in range(3):
        yield printed(f, arange(3, start=k))


@scenario("str(x) and f-strings of tensors in the result", "the text of this call", "branch", 4)
def test_tensor_text(compile):
    f = compile(lambda x: (x * 2, str(x), f"{x.sum():.2f}", f"{x[:1]}"))
    for k in (1, 2, 1, 3, 4, 2):
        yield f(arange(3, start=k))


@scenario("an f-string of item() printed at every step", "the text of this call", "eager", 6)
def test_print_text(compile):
    def run(x):
        print(f"loss {x.sum().item():.3f}")
        return x * 2

    f = compile(run)
    for k in range(8):
        yield printed(f, arange(3, start=k))


@scenario("print after a capture, and after one that raised", "Python's own print", "input", 1)
def test_print_restored(compile):
    def run(x):
        print("shape", x.shape)
        if x.shape[0] > 3:
            raise ValueError("too long")
        return x * 2

    f = compile(run)
    for n in (3, 4, 3):
        yield printed(error, f, arange(n)), builtins.print is PLAIN_PRINT


PLAIN_PRINT = builtins.print


@scenario("logging inside", "logged at every call", "eager", 2)
def test_logging(compile):
    records = []
    logger = logging.getLogger("tracejit.test")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger.handlers[:] = [handler]

    def run(x):
        logger.info("called with %s", tuple(x.shape))
        return x * 2

    f = compile(run)
    for k in range(3):
        yield f(arange(3, start=k)), records


@scenario("a warning issued inside", "issued as eager would", "eager", 1)
def test_warning_inside(compile):
    import warnings

    def run(x):
        warnings.warn("careful", UserWarning, stacklevel=2)
        return x * 2

    f = compile(run)
    yield f(arange(3))
    for _ in range(3):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            y = f(arange(3))
        yield y, [str(w.message) for w in caught if w.category is UserWarning]


@pytest.mark.parametrize("options", [{"check": "first"}, {"check": 0.5}, {"audit": True}])
def test_print_under_check(options):
    """What trial runs print is kept back: each call prints once."""

    def run(x, n):
        print("step", n, x * 2)
        return x * 2 if x.sum() > 1 else x - 1

    f = torch.compile(run, **options)
    for k in (0, 1, 2, 0, 3, 1):
        assert printed(f, arange(3, start=k), k)[1] == printed(run, arange(3, start=k), k)[1]
