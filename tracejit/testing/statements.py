"""The statements that random programs are made of: one function for each kind.

Each takes a `Builder` and gives a block of lines (and traits of the program), or None where nothing
in scope fits. Invariant: a statement may be wrong for the values in scope; the builder tries it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracejit.testing.programs import DTYPES, Builder

Statement = Callable[[Builder], "str | tuple[str, tuple[str, ...]] | None"]
KINDS: list[tuple[float, Statement]] = []

_UNARY = ("tanh", "sin", "cos", "exp", "relu", "abs", "neg", "sigmoid", "square", "round", "floor",
          "erf", "sign", "atan", "expm1", "trunc", "frac", "ceil")  # fmt: skip
_GUARDED = ("{x}.abs().sqrt()", "({x}.abs() + 0.5).log()", "({x}.abs() + 0.1).rsqrt()",
            "{x}.abs().log1p()", "({x} + 4).reciprocal()", "{x}.clamp(-3, 3).exp()",
            "F.gelu({x})", "F.softplus({x})", "F.silu({x})", "F.leaky_relu({x}, 0.1)",
            "{x}.clamp(-0.9, 0.9).atanh()", "{x}.exp2()", "{x}.clamp(min=0.25)", "{x} ** 2",
            "{x}.nan_to_num()", "{x}.isnan()", "{x}.logical_not()")  # fmt: skip
_BINARY = ("{x} + {y}", "{x} - {y}", "{x} * {y}", "{x} / ({y}.abs() + 1)",
"torch.maximum({x}, {y})",
           "torch.minimum({x}, {y})", "torch.where({x} > {y}, {x}, {y})", "{x} * 0.5 + {y}",
           "({x} < {y})", "({x} == {y})", "({x} >= {y}).float()", "torch.lerp({x}, {y}, 0.25)",
           "torch.atan2({x}, {y})", "{x}.masked_fill({y} > 0, 0.5)", "{y}.to({x}.dtype) - {x}"
           )  # fmt: skip


def kind(weight: float) -> Callable[[Statement], Statement]:
    """Declare a kind of statement with its weight."""

    def declare(function: Statement) -> Statement:
        KINDS.append((weight, function))
        return function

    return declare


def add_statement(b: Builder) -> bool:
    """Try one statement of a random kind."""
    weights = [w for w, _ in KINDS]
    _, statement = b.rng.choices(KINDS, weights)[0]
    made = statement(b)
    if made is None:
        return False
    block, traits = (made, ()) if isinstance(made, str) else made
    return b.try_block(block, traits)


def any_dim(b: Builder, name: str) -> int:
    rank = b.value(name).ndim
    return b.rng.randrange(-rank, rank)


# --- pointwise -----------------------------------------------------------------------------------


@kind(8)
def unary(b: Builder) -> Any:
    x = b.float_tensor() if b.chance(0.8) else b.tensor()
    if x is None:
        return None
    text = b.rng.choice(_GUARDED) if b.chance(0.5) else "{x}." + b.rng.choice(_UNARY) + "()"
    return f"{b.new()} = {text.format(x=x)}"


@kind(10)
def binary(b: Builder) -> Any:
    x = b.tensor()
    if x is None:
        return None
    return f"{b.new()} = {b.rng.choice(_BINARY).format(x=x, y=b.like(x))}"


@kind(6)
def with_number(b: Builder) -> Any:
    x = b.tensor()
    if x is None:
        return None
    op = b.rng.choice(["{x} + {n}", "{x} * {n}", "{n} - {x}", "{x} / 3", "{x} % 3", "{x} // 2",
                       "{x} > {n}", "{x} ** 2", "torch.where({x} > {n}, {x}, {n})",
                       "{x}.clamp(max={n})", "torch.full_like({x}, {n}) + {x}"])  # fmt: skip
    return f"{b.new()} = {op.format(x=x, n=b.number())}"


@kind(3)
def cast(b: Builder) -> Any:
    x = b.tensor()
    if x is None:
        return None
    return f"{b.new()} = {x}.to(torch.{b.rng.choice(DTYPES)})"


@kind(2)
def integer(b: Builder) -> Any:
    x = b.tensor(lambda t: not t.dtype.is_floating_point)
    if x is None:
        return None
    op = b.rng.choice(["{x} & 3", "{x} | 1", "{x} ^ {x}", "~{x}", "{x} << 1", "{x} >> 1",
    "{x} // 3",
                       "{x} % 3", "{x}.float() / 3", "{x} * {x}", "-{x}", "{x} / 2",
                       "{x}.bitwise_not()"])  # fmt: skip
    return f"{b.new()} = {op.format(x=x)}"


# --- reductions ----------------------------------------------------------------------------------


@kind(7)
def reduction(b: Builder) -> Any:
    x = b.tensor(lambda t: t.ndim > 0)
    if x is None:
        return None
    name = b.rng.choice(["sum", "mean", "amax", "amin", "prod", "var", "logsumexp", "std", "any",
                         "all", "norm", "argmax", "argmin", "max", "min", "median"])  # fmt: skip
    if b.chance(0.3) and name not in ("logsumexp", "median"):
        return f"{b.new()} = {x}.{name}()"
    keep = ", keepdim=True" if b.chance(0.5) else ""
    tail = ".values" if name in ("max", "min", "median") else ""
    return f"{b.new()} = {x}.{name}(dim={any_dim(b, x)}{keep}){tail}"


@kind(4)
def row(b: Builder) -> Any:
    x = b.float_tensor(1)
    if x is None:
        return None
    op = b.rng.choice(["F.softmax({x}, {d})", "F.log_softmax({x}, {d})", "{x}.cumsum({d})",
                       "F.layer_norm({x}, {x}.shape[-1:])", "F.normalize({x}, dim={d})",
                       "{x} - {x}.mean({d}, keepdim=True)", "{x}.sort({d}).values",
                       "{x}.cumprod({d})", "{x}.argsort({d})", "F.rms_norm({x}, {x}.shape[-1:])"
                       ])  # fmt: skip
    return f"{b.new()} = {op.format(x=x, d=any_dim(b, x))}"


@kind(4)
def product(b: Builder) -> Any:
    x = b.float_tensor(2)
    if x is None:
        return None
    shape = b.value(x).shape
    y = b.tensor(lambda t: t.ndim >= 2 and t.shape[-2] == shape[-1] and t.dtype == b.value(x).dtype)
    if y is None or b.chance(0.3):
        width = b.rng.choice([1, 2, 4])
        w = f"W{width}"
        dtype = str(b.value(x).dtype).rpartition(".")[2]
        name = f"{w}_{shape[-1]}_{dtype}"
        grad = b.chance(0.6)
        b.add_state(f'{name} = make("{dtype}", ({shape[-1]}, {width}), {width}, grad={grad})')
        y = name
    return f"{b.new()} = {x} @ {y}"


# --- movement ------------------------------------------------------------------------------------


@kind(8)
def movement(b: Builder) -> Any:
    x = b.tensor(lambda t: t.ndim > 0)
    if x is None:
        return None
    shape = tuple(b.value(x).shape)
    order = list(range(len(shape)))
    b.rng.shuffle(order)
    d = any_dim(b, x)
    op = b.rng.choice([
        f"{x}.permute({', '.join(map(str, order))})", f"{x}.reshape(-1)", f"{x}.unsqueeze({d})",
        f"{x}.reshape({', '.join(map(str, shape[::-1]))})", f"{x}.flip({d})", f"{x}.roll(1, {d})",
        f"{x}.flatten()", f"{x}.squeeze()", f"{x}.transpose(0, {d})",
        f"{x}.repeat({', '.join(['2'] * len(shape))})",
        f"{x}.expand(2, {', '.join(['-1'] * len(shape))})", f"{x}.tril()", f"{x}.triu(1)",
        f"torch.cat([{x}, {b.like(x)}], {d})", f"torch.stack([{x}, {x}], {d})", f"{x}.diagonal()",
        f"{x}.chunk(2, {d})[0]", f"{x}.unbind({d})[-1]", f"F.pad({x}, (1, 2))", f"{x}.contiguous()",
        f"{x}.clone()", f"{x}.detach()", f"{x}.t()", f"{x}.view(-1)", f"{x}.T",
        f"{x}.repeat_interleave(2, {d})", f"{x}.unfold({d}, 2, 1)", f"{x}.movedim(0, -1)",
    ])  # fmt: skip
    return f"{b.new()} = {op}"


@kind(6)
def indexing(b: Builder) -> Any:
    x = b.tensor(lambda t: t.ndim > 0)
    if x is None:
        return None
    index = _index(b, b.value(x).shape)
    return f"{b.new()} = {x}[{index}]"


def _index(b: Builder, shape: Any) -> str:
    parts = []
    for n in shape[: b.rng.randrange(1, len(shape) + 1)]:
        parts.append(b.rng.choice([":", "0", "-1", "1:", ":-1", "::2", "None, :", "0:1", "1:3",
                                   f"{max(n - 2, 0)}:", "...", "-2:"]))  # fmt: skip
    if parts.count("...") > 1:
        parts = [":" if p == "..." else p for p in parts]
    return ", ".join(parts)


@kind(4)
def gather(b: Builder) -> Any:
    x = b.tensor(lambda t: t.ndim > 0 and t.shape[0] > 0)
    if x is None:
        return None
    n = int(b.value(x).shape[0])
    picks = [b.rng.randrange(-n, n) for _ in range(b.rng.randrange(1, 4))]
    positive = [p % n for p in picks]
    index = f"torch.tensor({positive})"
    op = b.rng.choice([
        f"{x}[torch.tensor({picks})]", f"{x}[{picks}]", f"{x}.index_select(0, {index})",
        f"{x}[{x}.argmax(0) * 0]", f"{x}[..., torch.tensor([0])]",
        f"{x}.take_along_dim({x}.argsort(0), 0)",
        f"{x}.gather(0, {x}.argsort(0))", f"{x}.masked_fill({x} > 0, 0)", f"{x}[{x}[:, 0] > -9]",
        f"torch.zeros_like({x}).index_add(0, {index}, {x}[{index}])", f"{x}[{x} > 0]",
        f"torch.zeros_like({x}).scatter_add(0, {x}.argsort(0), {x})", f"{x}.topk(1, 0).values",
    ])  # fmt: skip
    return f"{b.new()} = {op}"


# --- writing -------------------------------------------------------------------------------------


@kind(6)
def in_place(b: Builder) -> Any:
    x = b.tensor(lambda t: t.numel() != 0)
    if x is None:
        return None
    y, n = b.like(x), b.number()
    op = b.rng.choice([
        f"{x}.add_({n})", f"{x}.mul_({y})", f"{x} += {y}", f"{x} *= {n}", f"{x}.clamp_(-2, 2)",
        f"{x}.zero_()", f"{x}.copy_({y})", f"{x}.sub_({y} * 0.5)", f"{x}.tanh_()", f"{x}.relu_()",
        f"{x}.fill_({n})", f"{x}.masked_fill_({y} > 0, {n})", f"torch.add({x}, {y}, out={x})",
    ])  # fmt: skip
    return op, ("writes",)


@kind(5)
def write_part(b: Builder) -> Any:
    x = b.tensor(lambda t: t.ndim > 0)
    if x is None:
        return None
    index = _index(b, b.value(x).shape)
    op = b.rng.choice([
        f"{x}[{index}] = {b.number()}", f"{x}[{index}] += 1", f"{x}[{index}].mul_(2)",
        f"{x}[{x} > 0] = {b.number()}", f"{x}[[0]] = {x}[[-1]]", f"{x}[0] = {x}[-1]",
        f"{x}.view(-1)[1:].add_(1)", f"{x}.t()[0] = {b.number()}", f"{x}.reshape(-1)[::2] = 0",
        f"{x}[{index}] = {b.tensor()}",
    ])  # fmt: skip
    return op, ("writes",)


# --- Python control flow and state ---------------------------------------------------------------


def _condition(b: Builder) -> str:
    x = b.tensor(lambda t: t.ndim <= 4) or "x0"
    flags = [n for n in ("FLAG", "GAIN > 1", "k > 1", "BOX.on") if b._has(n.split(" ")[0])]
    return b.rng.choice([
        f"{x}.sum() > 0", f"({x} > 0).any()", f"{x}.float().mean().item() > 0.1",
        f"{x}.shape[0] > 2", f"bool(({x} != 0).all())", f"int({x}.abs().sum()) % 2 == 0",
        f"len({x}) > 2", f"{x}.reshape(-1)[0] < {x}.reshape(-1)[-1]", f"{x}.ndim > 1", *flags,
        *flags,
    ])  # fmt: skip


@kind(4)
def branch(b: Builder) -> Any:
    x = b.tensor()
    if x is None:
        return None
    v = b.new()
    pick = b.rng.choice
    yes = pick([f"{v} = {x} * 2", f"{v} = {x} + {b.like(x)}", f"{v} = {x}.abs()"])
    no = pick([f"{v} = {x} - 1", f"{v} = -{x}", f"{v} = {x} * {b.number()}", f"{v} = {x}.clone()"])
    return f"if {_condition(b)}:\n    {yes}\nelse:\n    {no}", ("branches",)


@kind(2)
def loop(b: Builder) -> Any:
    x = b.float_tensor()
    if x is None:
        return None
    v = b.new()
    return b.rng.choice([
        (f"{v} = {x}\nfor i in range({b.rng.randrange(1, 4)}):\n    {v} = {v} * 0.5 + i", ()),
        (f"{v} = {x}\nfor i in range(6):\n    if {v}.abs().sum() < 1:\n        break\n"
         f"    {v} = {v} / 2",
         ("branches",)),
        (f"{v} = {x}\nwhile {v}.abs().sum() > 4:\n    {v} = {v} * 0.3", ("branches",)),
        (f"{v} = sum(row * 2 for row in {x})", ()),
        (f"{v} = torch.stack([r + i for i, r in enumerate({x})])", ()),
    ])  # fmt: skip


@kind(3)
def item(b: Builder) -> Any:
    x = b.tensor(lambda t: t.numel() != 0)
    if x is None:
        return None
    y = b.tensor() or x
    v = b.new()
    number = b.rng.choice([f"{x}.float().sum().item()", f"{x}.reshape(-1)[0].item()",
                           f"float({x}.float().mean())", f"{x}.float().max().item()",
                           f"int({x}.float().sum())", f"{x}.reshape(-1)[:2].tolist()[0]"
                           ])  # fmt: skip
    use = b.rng.choice([f"{y} * s_{v}", f"{y} + s_{v}", f"s_{v} - {y}", f"{y} / (abs(s_{v}) + 1)",
                        f"{y} * (2 if s_{v} > 1 else 3)", f"{y} * math.tanh(s_{v})"])  # fmt: skip
    return f"s_{v} = {number}\n{v} = {use}", ("branches",)


@kind(3)
def drawn(b: Builder) -> Any:
    x = b.float_tensor()
    if x is None:
        return None
    op = b.rng.choice([f"torch.rand_like({x})", f"{x} + torch.randn({x}.shape)",
    f"F.dropout({x}, 0.5)",
                       f"torch.rand({x}.shape[0])",
                       f"{x} * torch.bernoulli(torch.full({x}.shape, 0.5))",
                       "torch.randint(0, 5, (3,))", "torch.randperm(4)"])  # fmt: skip
    return f"{b.new()} = {op}", ("random",)


@kind(3)
def module(b: Builder) -> Any:
    x = b.tensor(lambda t: t.ndim >= 2 and str(t.dtype) == "tracejit.float32")
    if x is None:
        return None
    width = int(b.value(x).shape[-1])
    if width == 0:
        return None
    layers = b.rng.choice([
        f"nn.Linear({width}, 3), nn.ReLU()", f"nn.LayerNorm({width})", "nn.Dropout(0.5)",
        f"nn.Linear({width}, 2), nn.Tanh(), nn.Dropout(0.2)", f"nn.BatchNorm1d({width})",
        f"nn.Linear({width}, {width}, bias=False), nn.GELU(), nn.LayerNorm({width})",
    ])  # fmt: skip
    name = f"MODEL{len([s for s in b.state if s.startswith('MODEL')])}"
    b.add_state(f"{name} = nn.Sequential({layers})")
    return f"{b.new()} = {name}({x})", ("random",) if "Dropout" in layers else ()


@kind(3)
def state_write(b: Builder) -> Any:
    x = b.tensor()
    if x is None:
        return None
    choice = b.rng.randrange(6)
    if choice == 0:
        b.add_state("KEPT = [torch.zeros(2), torch.ones(2)]")
        return f"KEPT[0] = {x} * 1", ("state",)
    if choice == 1:
        b.add_state("BOX = Box(scale=1.5, on=True, last=torch.zeros(1), count=0)")
        return f"BOX.last = {x} + 0", ("state",)
    if choice == 2:
        b.add_state("BOX = Box(scale=1.5, on=True, last=torch.zeros(1), count=0)")
        v = b.new()
        return f"{v} = {x} * (1 if BOX.last is None else 2) + BOX.last.sum()", ("state",)
    if choice == 3:
        b.add_state("BUF = torch.zeros(3)")
        return f"BUF.add_({x}.float().sum())\n{b.new()} = BUF * 2", ("state", "writes")
    if choice == 4 and b.chance(0.3):
        b.add_state("BOX = Box(scale=1.5, on=True, last=torch.zeros(1), count=0)")
        return "BOX.count += 1", ("state",)
    b.add_state("TABLE = [1.0, 2.0, 3.0]")
    return f"{b.new()} = {x} * TABLE[0] + TABLE[-1]"


@kind(3)
def gradient(b: Builder) -> Any:
    leaf = b.tensor(lambda t: t.requires_grad)
    if leaf is None:
        return None
    y = b.tensor(lambda t: t.requires_grad and t.grad_fn is not None)
    if y is None:
        return None
    v = b.new()
    return b.rng.choice([
        f"({v},) = torch.autograd.grad(({y} * {y}).sum(), [{leaf}], retain_graph=True, "
        "allow_unused=True, materialize_grads=True)",
        f"({v},) = torch.autograd.grad({y}.sum(), [{leaf}], create_graph=True, allow_unused=True, "
        "materialize_grads=True)",
        f"{y}.sum().backward(retain_graph=True)",
        f"with torch.no_grad():\n    {v} = {y} * 2",
    ]), ("grads",)  # fmt: skip


@kind(2)
def helper(b: Builder) -> Any:
    x = b.float_tensor()
    if x is None:
        return None
    v = b.new()
    return b.rng.choice([
        f"def g_{v}(a, c=2.0):\n    return a * c + {b.number()}\n"
        f"{v} = g_{v}({x}) + g_{v}({x}, c=3)",
        f"{v} = (lambda a: a.tanh() + 1)({x})",
        f"{v} = [a * i for i, a in enumerate(({x}, {b.like(x)}))][1]",
        f"{v} = {{'a': {x}, 'b': {b.like(x)}}}['b'] * 2",
        f"try:\n    {v} = {x} @ {x}\nexcept RuntimeError:\n    {v} = {x} * 3",
        f"{v}, w_{v} = {x} * 2, {x} + 1",
    ])  # fmt: skip
