"""Writes: into arguments, through views, into what others hold.

Invariant: every program yields the arguments and globals that it may have written to.
"""

from __future__ import annotations

from scenario import arange, error, scenario

import tracejit as torch
from tracejit import nn


@scenario("x.log_() after y = x * 2", "y keeps its values", "input", 1)
def test_log_in_place(compile):
    def run(x):
        y = x * 2
        z = x.log_()
        return y, z, x

    f = compile(run)
    for k in range(3):
        x = arange(3, start=1 + k)
        yield f(x), x


@scenario("an argument changed in place", "the caller sees it", "input", 1)
def test_argument_in_place(compile):
    def run(x, y):
        x.mul_(2).add_(y)
        y[0] = 7
        return x.sum()

    f = compile(run)
    for k in range(3):
        x, y = arange(3, start=k), arange(3)
        yield f(x, y), x, y


@scenario("an expanded tensor written to", "RuntimeError as in torch", "input", 0)
def test_expand_write(compile):
    def run(x):
        y = x.expand(4, 3)
        y.add_(1)
        return y

    f = compile(run)
    for _ in range(2):
        yield error(f, arange(1, 3))


@scenario("an expanded argument written to", "RuntimeError as in torch", "input", 1)
def test_expand_argument(compile):
    def run(x):
        x.add_(1)
        return x * 2

    f = compile(run)
    yield f(arange(4, 3))
    base = arange(1, 3)
    yield error(f, base.expand(4, 3)), base
    yield f(arange(4, 3))


@scenario("write through a view, read the base", "the base has it", "input", 1)
def test_view_then_base(compile):
    def run(x):
        y = x * 1
        v = y[1:].t()
        v.add_(10)
        v[0] = -1
        return y, v, y.sum()

    f = compile(run)
    for k in range(3):
        yield f(arange(3, 2, start=k))


@scenario("write to the base, read a view made before", "the view has it", "input", 1)
def test_base_then_view(compile):
    def run(x):
        y = x * 1
        v, w = y[0], y.reshape(-1)[::2]
        y.mul_(3)
        w.sub_(1)
        return v, w, y

    f = compile(run)
    for k in range(3):
        yield f(arange(3, 2, start=k))


@scenario("slice, index and mask assignment read later", "the assigned values", "input", 1)
def test_slice_assignment(compile):
    def run(x):
        y = torch.zeros_like(x)
        y[1:3] = x[1:3] * 2
        y[0, 1] = 5.0
        y[:, -1] += 1
        y[y > 3] = -1.0
        y[torch.tensor([0, 2]), torch.tensor([1, 0])] = torch.tensor([8.0, 9.0])
        return y, y[1:3].sum()

    f = compile(run)
    for k in range(3):
        yield f(arange(4, 3, start=k))


@scenario("assignment with repeated indices", "the last one wins", "input", 1)
def test_repeated_indices(compile):
    def run(x, i):
        y = x.clone()
        y[i] = torch.tensor([10.0, 20.0, 30.0])
        y.index_add_(0, i, torch.ones(3))
        return y

    f = compile(run)
    for i in ([0, 1, 2], [2, 2, 1], [0, 0, 0]):
        yield f(arange(3), torch.tensor(i))


@scenario("an argument that is a view is written to", "its base has it", "input", 1)
def test_view_argument(compile):
    def run(v):
        v.mul_(2)
        return v + 1

    f = compile(run)
    for k in range(3):
        base = arange(4, 3, start=k)
        yield f(base[1]), base


@scenario(
    "arguments that are views in other ways are written to",
    "their bases have it",
    "guard",
    4,
    lost=1,
)
def test_view_argument_kinds(compile):
    def run(v):
        v.mul_(2)
        return v + 1

    f = compile(run)
    for make in (lambda b: b[1:3], lambda b: b.t()[1:3].t()[:2], lambda b: b[::2],
                 lambda b: b[1:3], lambda b: b[2:4]):  # fmt: skip
        base = arange(4, 3)
        yield f(make(base)), base


@scenario(
    "a tensor saved for backward is changed in place", "RuntimeError naming the line", "input", 1
)
def test_saved_changed(compile):
    f = compile(lambda x: x.exp() * 2)

    for _ in range(2):
        x = arange(3).requires_grad_()
        y = f(x)
        y.sum().backward()
        yield x

    def run(x):
        y = x.exp()
        y.add_(1)
        y.sum().backward()

    g = compile(run)
    yield error(g, arange(3).requires_grad_())[:2]


@scenario("an input of a compiled call is changed before backward", "RuntimeError", "input", 1)
def test_input_changed_before_backward(compile):
    f = compile(lambda x, w: x * w)
    for change in (False, True, False, True):
        x, w = arange(3), arange(3, start=2).requires_grad_()
        y = f(x, w)
        if change:
            x.add_(1)
        yield error(lambda: y.sum().backward())[:2], w  # noqa: B023


@scenario("the output of a compiled call is changed before backward",
"RuntimeError if it was saved",
          "input", 1)  # fmt: skip
def test_output_changed_before_backward(compile):
    f = compile(lambda x: x.exp())
    for change in (False, True):
        x = arange(3).requires_grad_()
        y = f(x)
        if change:
            y.detach().add_(1)
        yield error(lambda: y.sum().backward())[:2], x  # noqa: B023


@scenario("copy_, fill_, zero_, out= into arguments", "written in place", "input", 1)
def test_copy_and_out(compile):
    def run(x, a, b):
        a.copy_(x * 2)
        torch.add(x, 1, out=b)
        x.zero_()
        return a

    f = compile(run)
    for k in range(3):
        x, a, b = arange(3, start=k), torch.empty(3), torch.empty(3)
        yield f(x, a, b), x, a, b


@scenario("copy_ between dtypes", "rounds as eager", "input", 1)
def test_copy_dtype(compile):
    def run(x, h, i):
        h.copy_(x)
        i.copy_(x * 100)
        return h.float() + i

    f = compile(run)
    for k in range(2):
        yield f(arange(5, start=k + 0.1), torch.empty(5, dtype=torch.float16),
                torch.empty(5, dtype=torch.int32))  # fmt: skip


@scenario(".data and .detach() share memory", "writes are seen both ways", "input", 1)
def test_data_detach(compile):
    w = arange(3).requires_grad_()

    def run(x):
        w.data.mul_(0.5)
        d = w.detach()
        d[0] = 9
        return w * x, d

    f = compile(run)
    for k in range(3):
        y, d = f(arange(3, start=k))
        y.sum().backward()
        yield y, d, w


@scenario("batch-norm statistics in training", "running buffers move", "input", 1)
def test_batch_norm(compile):
    norm = nn.BatchNorm1d(3)
    f = compile(norm)
    for k in range(4):
        yield f(arange(5, 3, start=k)), norm.running_mean, norm.running_var
        yield norm.num_batches_tracked


@scenario(
    "an exception after a completed in-place op", "the completed write is visible", "input", 1
)
def test_exception_half_way(compile):
    def run(x, y):
        x.add_(1)
        return x @ y

    f = compile(run)
    for shape in ((3, 2), (4, 2), (3, 2)):
        x = arange(2, 3)
        yield error(f, x, arange(*shape))[:2], x


@scenario("an exception after a list was appended to", "the append is visible", "eager", 3)
def test_exception_after_append(compile):
    seen = []

    def run(x):
        seen.append(float(x.sum()))
        if x.sum() > 5:
            raise ValueError("too big")
        return x

    f = compile(run)
    for k in (0, 1, 5, 0, 7):
        yield error(f, arange(3, start=k))[:3], seen


@scenario("history appended to a list inside", "one entry per call", "eager", 3)
def test_list_append(compile):
    history = []

    def run(x):
        history.append(x * 2)
        return x + 1

    f = compile(run)
    for k in range(5):
        yield f(arange(3, start=k)), history


@scenario("a Python counter incremented inside (global)", "counts every call", "input", 2, lost=1)
def test_counter_inside(compile):
    count = 0

    def run(x):
        nonlocal count
        count += 1
        return x * count

    f = compile(run)
    for k in range(6):
        yield f(arange(3, start=k)), count


@scenario("a dict filled inside", "every call's entry", "input", 2, lost=1)
def test_dict_filled(compile):
    cache = {}

    def run(x):
        cache["last"] = x * 2
        cache.setdefault("first", x)
        return x

    f = compile(run)
    for k in range(5):
        yield f(arange(3, start=k)), cache


@scenario("a tensor kept in a list item is replaced inside", "the new tensor", "input", 1)
def test_list_item_replaced(compile):
    state = [torch.zeros(3)]

    def run(x):
        state[0] = state[0] + x
        return state[0] * 2

    f = compile(run)
    for k in range(4):
        yield f(arange(3, start=k)), state


@scenario("hidden state kept in an attribute of a Module", "carried from call to call", "input", 1)
def test_hidden_state(compile):
    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 3)
            self.h = torch.zeros(1, 3)

        def forward(self, x):
            self.h = (self.linear(x) + self.h).tanh()
            return self.h

    cell = Cell()
    with torch.no_grad():
        f = compile(cell)
        for k in range(4):
            yield f(arange(1, 3, start=k)), cell.h


@scenario("a registered buffer is replaced inside", "carried from call to call", "input", 1)
def test_buffer_replaced(compile):
    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.zeros(3))

        def forward(self, x):
            self.mean = 0.9 * self.mean + 0.1 * x
            return x - self.mean

    model = Mean()
    f = compile(model)
    for k in range(4):
        yield f(arange(3, start=k)), model.mean


@scenario("a tensor argument swapped with .data, set_ or resize", "the new contents", "guard", 2)
def test_data_assignment(compile):
    f, x = compile(lambda x: x * 2), arange(3)
    yield f(x)
    x.data = arange(3, start=5)
    yield f(x)
    x.data = arange(4)
    yield f(x)


@scenario("swapping two rows through views", "read before written", "input", 1)
def test_row_swap(compile):
    def run(x):
        t = x[0].clone()
        x[0] = x[1]
        x[1] = t
        x[1:] = x[:-1]
        return x.sum(0)

    f = compile(run)
    for k in range(3):
        x = arange(4, 3, start=k)
        yield f(x), x


@scenario("x += x.t() and x.copy_(x.flip(0))", "reads before it writes", "input", 1)
def test_self_overlap(compile):
    def run(x):
        x += x.t()
        x.copy_(x.flip(0))
        x[1:].copy_(x[:-1].clone())
        return x * 1

    f = compile(run)
    for k in range(3):
        x = arange(3, 3, start=k)
        yield f(x), x
