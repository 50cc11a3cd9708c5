"""From a seed to a program: inputs, state, statements, results, and the calls that vary them.

Neighbouring seeds (``FAMILY`` of them) share the function and vary the calls, so that they share
compiled kernels, whose compilation takes most of the time. Invariant: the first call of a generated
program runs; later ones may raise, as eager then does too.
"""

from __future__ import annotations

import copy
import functools
import random

from tracejit.testing import larger  # noqa: F401  (declares its kinds)
from tracejit.testing.programs import DTYPES, Builder, Program
from tracejit.testing.statements import add_statement

FAMILY = 8
"""Seeds 8 n to 8 n + 7 make programs of one function, with different calls."""
_SIZES = (1, 2, 3, 4, 4, 3)
_FLOATS = ("1.5", "0.5", "2.0", "-0.75", "1.25", "3.0", "0.0")


class _Input:
    """One tensor argument; `symbolic` dimensions follow the batch size."""

    def __init__(self, b: Builder, name: str):
        rank = b.rng.choice([0, 1, 1, 2, 2, 2, 2, 3, 3])
        self.name = name
        self.dtype = b.rng.choice(DTYPES)
        self.dims = [
            "B" if i == 0 and b.chance(0.6) else str(0 if b.chance(0.03) else b.rng.choice(_SIZES))
            for i in range(rank)
        ]
        self.grad = self.dtype.startswith("float") and b.chance(0.4)
        self.layout = b.rng.choice("cccctsfeo")

    def text(self, batch: int, seed: int) -> str:
        dims = [str(batch) if d == "B" else d for d in self.dims]
        shape = f"({', '.join(dims)}{',' * (len(dims) == 1)})"
        more = f', "{self.layout}"' if self.layout != "c" or self.grad else ""
        more += ", True" if self.grad else ""
        return f'{self.name} = make("{self.dtype}", {shape}, {seed}{more})'


def generate(seed: int) -> Program:
    """The program of a seed."""
    b, given, has_number, outputs = _function(seed // FAMILY)
    b.rng = random.Random(seed)
    inputs = [copy.copy(one) for one in given]
    header = ", ".join([one.name for one in inputs] + ["k"] * has_number)
    calls = _Calls(b, inputs, has_number).blocks()
    return Program(seed, header, tuple(b.state), tuple(b.body), outputs, calls,
                   frozenset(b.traits))  # fmt: skip


@functools.lru_cache(maxsize=2)
def _function(number: int) -> tuple[Builder, list[_Input], bool, tuple[str, ...]]:
    """The function that a family of seeds shares: grown, inputs, whether it takes `k`, results."""
    b = Builder(number)
    inputs = [_Input(b, f"x{i}") for i in range(b.rng.randrange(1, 4))]
    _set_state(b)
    for i, one in enumerate(inputs):
        line = one.text(b.batch, 10 * i)
        exec(line, b.space)
        b.names.append(one.name)
    has_number = b.chance(0.4)
    if has_number:
        b.space["k"] = b.rng.choice([2, 0.5, 1.5, 3])
    size = b.rng.choice([2, 3, 4, 5, 6, 7, 8, 10, 14])
    for _ in range(4 * size):
        if len(b.body) >= size:
            break
        add_statement(b)
    return b, inputs, has_number, _outputs(b)


def _set_state(b: Builder) -> None:
    b.space["torch"].manual_seed(b.seed)
    if b.chance(0.4):
        b.add_state(f"GAIN = {b.rng.choice(_FLOATS)}")
    if b.chance(0.3):
        b.add_state("FLAG = True")
    if b.chance(0.2):
        b.add_state("BOX = Box(scale=1.5, on=True, last=torch.zeros(1), count=0)")
    if b.chance(0.2):
        b.add_state("TABLE = [1.0, 2.0, 3.0]")


def _outputs(b: Builder) -> tuple[str, ...]:
    made = b.names[-6:]
    count = min(len(made), b.rng.choice([1, 1, 2, 3]))
    chosen = b.rng.sample(made, count) if b.chance(0.5) else made[-count:]
    if b.chance(0.15):
        x = chosen[-1]
        chosen.append(b.rng.choice([f"({x}, [{x}])", f"{{'a': {x}}}", f"{x}[:1]", f"{x}.shape",
                                    f"{x}.mT + 1, {x}.mT", f"{x}[..., -1]", f"{x}.T",
                                    f"{x}.reshape(-1)", f"{x}.sum().item()", f"len({x})", "None"
                                ]))  # fmt: skip
    return tuple(chosen)


class _Calls:
    """Writes the blocks of ``run``: what changes, the call, what is looked at."""

    def __init__(self, b: Builder, inputs: list[_Input], has_number: bool):
        self.b = b
        self.inputs = inputs
        self.has_number = has_number
        self.number = "2.0"
        self.batch = b.batch
        self.state = [line.split(" = ")[0] for line in b.state]

    def blocks(self) -> tuple[str, ...]:
        count = self.b.rng.choice([3, 4, 5, 6])
        return tuple(self._call(i) for i in range(count))

    def _call(self, i: int) -> str:
        b = self.b
        lines = self._change() if i else []
        if i == 0 or b.chance(0.8):
            lines += [one.text(self.batch, 100 * i + j) for j, one in enumerate(self.inputs)]
        args = [one.name for one in self.inputs]
        if len(args) > 1 and b.chance(0.08):
            args[1] = b.rng.choice([args[0], f"{args[0]}[:]", f"{args[0]}.view_as({args[0]})"])
        if self.has_number:
            args.append(self.number if b.chance(0.7) else f"k={self.number}")
        call = f"y = attempt(f, {', '.join(args)})"
        if b.chance(0.12):
            context = b.rng.choice(["torch.no_grad()", "torch.enable_grad()"])
            lines += [f"with {context}:", f"    {call}"]
        else:
            lines.append(call)
        seen = ", ".join([one.name for one in self.inputs] + [self._look(s) for s in self.state])
        lines.append(f"yield y, {seen}")
        if b.chance(0.5):
            pull = b.rng.choice(["pull(y)", "pull(y)", "pull_twice(y)"])
            lines.append(f"yield attempt({pull[:-3]}, y), {seen}")
        if b.chance(0.15):
            lines.append(f"yield attempt({b.rng.choice(['spoil', 'flat'])}, y), {seen}")
        return "\n".join(lines)

    def _look(self, name: str) -> str:
        if name == "OPT":
            return "[*OPT.state.values()]"
        return f"[*{name}.parameters(), *{name}.buffers()]" if name.startswith("MODEL") else name

    def _change(self) -> list[str]:
        b, lines = self.b, []
        for _ in range(b.rng.choice([0, 1, 1, 2])):
            kind = b.rng.randrange(11)
            if kind == 0 and "GAIN" in self.state:
                lines.append(f"GAIN = {b.rng.choice((*_FLOATS, '2', 'True'))}")
            elif kind == 1 and "FLAG" in self.state:
                lines.append("FLAG = not FLAG")
            elif kind == 2 and "BOX" in self.state:
                lines.append(b.rng.choice(["BOX.on = not BOX.on",
                f"BOX.scale = {b.rng.choice(_FLOATS)}",
                                           "BOX.last = torch.ones(2)",
                                           "BOX = Box(scale=2, on=False, "
                                           "last=torch.zeros(1), count=3)"]))  # fmt: skip
            elif kind == 3 and "TABLE" in self.state:
                lines.append(
                    b.rng.choice([f"TABLE[0] = {b.rng.choice(_FLOATS)}", "TABLE.append(4.5)"])
                )
            elif kind == 4:
                self.number = b.rng.choice((*_FLOATS, "2", "3", "True"))
            elif kind == 5:
                self.batch = b.rng.choice([1, 2, 3, 4, 5, 7, 0, 6])
            elif kind == 6:
                one = b.rng.choice(self.inputs)
                one.layout = b.rng.choice("ctsfeo")
                one.grad = one.dtype.startswith("float") and b.chance(0.5)
            elif kind == 7:
                lines += self._edit_training()
            elif kind == 8:
                lines += self._edit_tensors()
            else:
                models = [s for s in self.state if s.startswith("MODEL")]
                lines += [f"{m}.train({b.chance(0.5)})" for m in models]
        return lines

    def _edit_training(self) -> list[str]:
        """A model or an optimizer is edited between calls."""
        choice, lines = self.b.rng.choice, []
        for m in (s for s in self.state if s.startswith("MODEL")):
            lines.append(choice([
                f"{m}.requires_grad_({self.b.chance(0.5)})", f"{m}.zero_grad()",
                f"{m} = copy.deepcopy({m})", f"{m}.load_state_dict({m}.state_dict())",
                f"for p in {m}.parameters(): p.data = p.data * 0.5",
                f"for p in {m}.parameters(): p.grad = torch.ones_like(p)",
            ]))  # fmt: skip
        if "OPT" in self.state:
            lines.append(choice([
                "OPT.param_groups[0]['lr'] = 0.05", "OPT.zero_grad(set_to_none=False)",
                "PARAM.grad = None", "PARAM.data = PARAM.data * 2", "OPT.state.clear()",
                "OPT.load_state_dict(copy.deepcopy(OPT.state_dict()))", "PARAM.data.fill_(0.5)",
            ]))  # fmt: skip
        return lines

    def _edit_tensors(self) -> list[str]:
        """Tensors that the function reads are written to, replaced, or change their order."""
        lines = []
        for name in self.state:
            if name in ("BUF", "KEPT"):
                lines.append({"BUF": "BUF.add_(1)", "KEPT": "KEPT.reverse()"}[name])
            elif name.startswith("W"):
                lines.append(self.b.rng.choice([
                    f"{name}.data.mul_(0.5)", f"{name}.grad = None",
                    f"{name} = {name}.detach().clone()",
                    f"{name} = {name}.detach().T.contiguous().T",
                ]))  # fmt: skip
        return lines
