"""Calling a module with other parameters than its own: `functional_call`, `stack_module_state`.

Invariant: the module has its own tensors again when the call ends, however it ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tracejit.eager.register import FUNCTIONS
from tracejit.errors import at_user_line
from tracejit.nn.module import Module
from tracejit.nn.version import bump
from tracejit.tensor import Tensor

__all__ = ["functional_call", "stack_module_state"]

Tensors = Mapping[str, Tensor]


def functional_call(
    module: Module, parameter_and_buffer_dicts: Tensors | Sequence[Tensors], args: Any = None,
    kwargs: dict[str, Any] | None = None, *, tie_weights: bool = True, strict: bool = False,
) -> Any:  # fmt: skip
    """What the module gives with these tensors in place of its own of the same names.

    tie_weights  a tensor that the module knows by several names is replaced under all of them.
    strict       raises RuntimeError unless exactly the module's parameters and buffers are given.
    Names that the module does not have raise AttributeError. Gradients flow to the tensors given.

    Example: ``functional_call(nn.Linear(4, 1), {"weight": torch.ones(1, 4)}, torch.ones(3, 4))``.
    """
    given = parameter_and_buffer_dicts
    tensors = dict(given) if isinstance(given, Mapping) else _merged(given)
    if tie_weights:
        tensors = _with_tied(module, tensors)
    if strict:
        _check_names(module, tensors)
    arguments = args if isinstance(args, tuple) else () if args is None else (args,)
    with _replaced(module, tensors):
        return module(*arguments, **(kwargs or {}))


def _merged(dicts: Sequence[Tensors]) -> dict[str, Tensor]:
    merged: dict[str, Tensor] = {}
    for part in dicts:
        if merged.keys() & part.keys():
            raise ValueError(
                at_user_line(
                    f"functional_call: {sorted(merged.keys() & part.keys())[0]!r} is given twice"
                )
            )
        merged.update(part)
    return merged


def _named_tensors(module: Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _with_tied(module: Module, tensors: Tensors) -> dict[str, Tensor]:
    """`tensors` under every name that the module has for the tensor replaced."""
    own = dict(_named_tensors(module))
    by_tensor = {id(own[name]): value for name, value in tensors.items() if name in own}
    tied = {name: by_tensor[id(t)] for name, t in own.items() if id(t) in by_tensor}
    return {**tied, **tensors}


def _check_names(module: Module, tensors: Tensors) -> None:
    names = {name for name, _ in _named_tensors(module)}
    if names != set(tensors):
        raise RuntimeError(at_user_line(f"functional_call: missing {sorted(names - set(tensors))}, "
                           f"unexpected {sorted(set(tensors) - names)}"))  # fmt: skip


def _table_of(module: Module, name: str) -> tuple[dict[str, Any], str]:
    """The table that holds the tensor `name` (a dotted path), and its key there."""
    path, _, key = name.rpartition(".")
    owner: Any = module.get_submodule(path)
    for table in (owner._parameters, owner._buffers):
        if key in table:
            return table, key
    raise AttributeError(f"functional_call: the module has no parameter or buffer {name!r}")


@contextmanager
def _replaced(module: Module, tensors: Tensors) -> Iterator[None]:
    places = [(*_table_of(module, name), value) for name, value in tensors.items()]
    before = [table[key] for table, key, _ in places]
    bump()
    try:
        for table, key, value in places:
            dict.__setitem__(table, key, value)
        yield
    finally:
        for (table, key, _), value in zip(places, before, strict=True):
            dict.__setitem__(table, key, value)
        bump()


def stack_module_state(
    models: Sequence[Module],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters and buffers of equal modules, each name's tensors stacked along dimension 0.

    The stacked parameters are leaves of their own. Example: an ensemble is
    ``vmap(lambda p, b, x: functional_call(net, (p, b), (x,)), (0, 0, None))``.
    """
    if not models:
        raise RuntimeError(at_user_line("stack_module_state: expected at least one model"))
    stack = FUNCTIONS["stack"]

    def stacked(tables: list[dict[str, Tensor]], leaf: bool) -> dict[str, Tensor]:
        return {
            name: stack([t[name].detach() for t in tables]).requires_grad_(
                leaf and tables[0][name].requires_grad
            )
            for name in tables[0]
        }

    parameters = [dict(m.named_parameters()) for m in models]
    buffers = [dict(m.named_buffers()) for m in models]
    return stacked(parameters, True), stacked(buffers, False)
