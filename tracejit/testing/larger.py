"""More statements of random programs: layers, optimizers, structured control flow, writes to views.

They extend `statements` with what calls several ops at once. Invariant: as there, a statement may
be wrong for the values in scope; the builder tries it.
"""

from __future__ import annotations

from typing import Any

from tracejit.testing.programs import Builder
from tracejit.testing.statements import any_dim, kind

_SELECT = (
    "{x}.topk(1, {d}).values", "{x}.topk(1, {d}).indices", "{x}.cummax({d}).values",
    "{x}.gather({d}, {x}.argsort({d}))", "{x}.scatter({d}, {x}.argsort({d}), {n})",
    "{x}.index_select({d}, torch.tensor([0, 0]))", "{x}.index_add(0, torch.tensor([0]), {x}[:1])",
    "{x}.index_fill({d}, torch.tensor([0]), {n})", "{x}.masked_select({x} > 0)", "{x}.nonzero()",
    "{x}.scatter_add({d}, torch.zeros({x}.shape, dtype=torch.int64), {x})",
    "torch.take_along_dim({x}, {x}.argmax({d}, keepdim=True), {d})", "torch.unique({x})",
    "torch.var_mean({x}, {d})[1]", "{x}.kthvalue(1, {d}).values", "{x}.count_nonzero({d})",
    "{x}.diff(dim={d})", "torch.searchsorted(torch.tensor([-1.0, 0.0, 1.0]), {x})",
    "torch.aminmax({x}, dim={d}).max", "torch.logical_xor({x} > 0, {y} > 0)",
)  # fmt: skip
_SUMS = (
    "torch.einsum('...i,...i->...', {x}, {x})", "torch.outer({x}.reshape(-1), {x}.reshape(-1))",
    "torch.addcmul({x}, {x}, {y}, value={n})", "F.mse_loss({x}, {x} * 0.5)",
    "F.smooth_l1_loss({x}, {x} * {n})", "F.cosine_similarity({x}, {x} + 1, dim={d})",
    "F.glu(torch.cat([{x}, {x}], {d}), {d})", "torch.cdist({x}.reshape(1, -1), {x}.reshape(1, -1))",
    "{x}.logcumsumexp({d})", "F.binary_cross_entropy_with_logits({x}, ({x} > 0).to({x}.dtype))",
    "torch.func.grad(lambda a: (a * a * 0.5).sum())({x})", "{x}.norm(dim={d}, keepdim=True)",
    "torch.cumulative_trapezoid({x}, dim={d})", "F.instance_norm({x}.reshape(1, 1, -1))",
)  # fmt: skip


@kind(5)
def select(b: Builder) -> Any:
    x = b.tensor(lambda t: t.ndim > 0 and t.numel() != 0)
    if x is None:
        return None
    text = b.rng.choice(_SELECT)
    return f"{b.new()} = {text.format(x=x, y=b.like(x), d=any_dim(b, x), n=b.number())}"


@kind(5)
def composite(b: Builder) -> Any:
    x = b.tensor(lambda t: t.dtype.is_floating_point and t.ndim > 0 and 0 < t.numel() < 60)
    if x is None:
        return None
    text = b.rng.choice(_SUMS)
    return f"{b.new()} = {text.format(x=x, y=b.like(x), d=any_dim(b, x), n=b.number())}"


@kind(5)
def write_to_view(b: Builder) -> Any:
    """A view with a name of its own, written to before or after its base is read."""
    x = b.tensor(lambda t: t.ndim > 0 and t.numel() != 0)
    if x is None:
        return None
    v, d = b.new(), any_dim(b, x)
    shown = b.rng.choice([
        f"{x}.t()", f"{x}.view(-1)[::2]", f"{x}.diagonal()", f"{x}[-1]", f"{x}.narrow({d}, 0, 1)",
        f"{x}.unsqueeze(0)", f"{x}.transpose(0, {d})", f"{x}.select({d}, 0)",
        f"{x}.chunk(2, {d})[0]", f"{x}.unbind({d})[0]", f"{x}.detach()",
        f"{x}.expand(1, *{x}.shape)", f"{x}[..., None]",
    ])  # fmt: skip
    write = b.rng.choice([
        f"{v}.add_({b.number()})", f"{v}.zero_()", f"{v}[...] = {b.number()}", f"{v} *= 2",
        f"{v}.copy_({v} * 2)", f"{v}.clamp_(-1, 1)", f"torch.neg({v}.clone(), out={v})",
    ])  # fmt: skip
    return f"{v} = {shown}\n{write}", ("writes",)


@kind(3)
def without_gradient(b: Builder) -> Any:
    x = b.float_tensor()
    if x is None:
        return None
    v = b.new()
    return b.rng.choice([
        f"with torch.no_grad():\n    {v} = {x} * {b.number()}\n    {v} += 1",
        f"with torch.set_grad_enabled(False):\n    {x}.mul_(0.5)\n{v} = {x} + 1",
        f"{v} = torch.empty_like({x})\nwith torch.no_grad():\n    torch.mul({x}, 2, out={v})",
        f"{v} = {x}.detach().clone().requires_grad_()\n({v} * {v}).sum().backward()",
        f"{v} = ({x} * {x}.detach()).sum()",
    ]), ("grads",)  # fmt: skip


@kind(3)
def structured(b: Builder) -> Any:
    """`cond`, `while_loop` and the like: one node with graphs of its own."""
    x = b.float_tensor()
    if x is None:
        return None
    v = b.new()
    return b.rng.choice([
        f"{v} = torch.cond({x}.sum() > 0, lambda a: a * 2, lambda a: a - 1, ({x},))",
        f"i_{v}, {v} = torch.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a * 0.5 + i), "
        f"(torch.tensor(0), {x}))",
        f"{v} = torch.vmap(lambda a: a * 2 + 1)({x})",
        f"{v} = torch.utils.checkpoint.checkpoint(lambda a: a.tanh() * 2, {x}, "
        "use_reentrant=False)",
    ]), ("branches",)  # fmt: skip


@kind(4)
def layer(b: Builder) -> Any:
    """A layer that needs its input in a shape of its own."""
    x = b.tensor(lambda t: str(t.dtype) == "tracejit.float32" and 0 < t.numel() < 60)
    if x is None:
        return None
    text, shape, take = b.rng.choice([
        ("nn.Conv1d(1, 2, 3, padding=1)", "1, 1, -1", ""),
        ("nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))", "1, 1, 1, -1",
         ""),
        ("nn.LSTM(1, 2, batch_first=True)", "1, -1, 1", "[0]"), ("nn.GRU(1, 2)", "-1, 1, 1", "[0]"),
        ("nn.MultiheadAttention(1, 1, batch_first=True)", "1, -1, 1", "[0]"),
        ("nn.GroupNorm(1, 1)", "1, 1, -1", ""), ("nn.RMSNorm(1)", "-1, 1", ""),
        ("nn.BatchNorm1d(1)", "-1, 1", ""), ("nn.PReLU()", "-1", ""),
        ("nn.Bilinear(1, 1, 2)", "-1, 1", ""),
    ])  # fmt: skip
    name = f"MODEL{len([s for s in b.state if s.startswith('MODEL')])}"
    given = f"{x}.reshape({shape})"
    given = f"{given}, {given}" if "Bilinear" in text else given
    given = f"{given}, {given}, {given}" if "Multihead" in text else given
    b.add_state(f"{name} = {text}")
    return f"{b.new()} = {name}({given}){take}"


@kind(3)
def training_step(b: Builder) -> Any:
    """A whole step of an optimizer on one parameter."""
    x = b.tensor(lambda t: str(t.dtype) == "tracejit.float32" and t.numel() != 0)
    if x is None or any(s.startswith("OPT") for s in b.state):
        return None
    made = b.rng.choice(["SGD([PARAM], lr=0.1)", "SGD([PARAM], lr=0.1, momentum=0.9)",
                         "Adam([PARAM], lr=0.01)", "AdamW([PARAM], lr=0.01)",
                         "RMSprop([PARAM], lr=0.01)"])  # fmt: skip
    b.add_state('PARAM = make("float32", (2,), 5, grad=True)')
    b.add_state(f"OPT = torch.optim.{made}")
    v = b.new()
    return (f"OPT.zero_grad()\n{v} = ((PARAM * {x}.detach().mean() - 1) ** 2).sum()\n"
            f"{v}.backward()\nOPT.step()", ("grads", "state"))  # fmt: skip


@kind(3)
def python_around(b: Builder) -> Any:
    x = b.tensor()
    if x is None:
        return None
    v, y = b.new(), b.like(x)
    return b.rng.choice([
        f"{v} = {x}\nfor a in ({x}, {y}):\n    {v} = {v} + a",
        f"parts_{v} = []\nfor i in range(3):\n    parts_{v}.append({x} * i)\n{v} = sum(parts_{v})",
        f"match {x}.ndim:\n    case 0:\n        {v} = {x} + 1\n    case _:\n        {v} = {x} * 2",
        f"def r_{v}(a, n):\n    return a if n == 0 else r_{v}(a + n, n - 1)\n{v} = r_{v}({x}, 3)",
        f"{v} = next(a * 3 for a in ({x}, {y}))",
        f"try:\n    {v} = {x}.reshape(7, 11)\nexcept RuntimeError:\n    {v} = {x} + 2\n"
        f"finally:\n    {v} = {v} * 2",
        f"{v}, *rest_{v} = {x} + 1, {y}, {x}",
        f"{v} = ({x} + 1) if isinstance({x}, torch.Tensor) and {x}.dim() < 3 else {x}",
        f"{v} = {x} + (lambda *a, **k: len(a) + len(k))(1, 2, q=3)",
        f"{v} = torch.stack([{x}, {x}])[{x}.ndim > 1 and 1 or 0]",
    ])  # fmt: skip


@kind(4)
def in_another_order(b: Builder) -> Any:
    """Results that are not row-major, and code that asks how a tensor lies in memory."""
    x = b.tensor(lambda t: t.ndim > 1 and t.numel() != 0)
    if x is None:
        return None
    v, d = b.new(), any_dim(b, x)
    turned = f"{x}.transpose(0, {d})"
    return b.rng.choice([
        f"{v} = {turned} + 1", f"{v} = ({turned} * 2).transpose(0, {d})", f"{v} = {turned}.clone()",
        f"{v} = torch.zeros_like({turned}) + {turned}", f"{v} = {turned}.contiguous().view(-1)",
        f"{v} = {x}.view(-1) if {x}.is_contiguous() else {x} * 2",
        f"{v} = {x} * {x}.stride()[0]", f"{v} = {turned}.float().exp()[..., 0]",
        f"{v} = {turned}.masked_fill({turned} > 0, 0) + {turned}.flip(0)",
        f"try:\n    {v} = ({turned} + 1).view(-1)\nexcept RuntimeError:\n    {v} = {x} - 1",
    ])  # fmt: skip
