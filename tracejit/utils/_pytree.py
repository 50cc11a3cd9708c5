"""``tracejit.utils._pytree``: trees of tuples, lists and dicts, under torch's private name.

Invariant: flattening and building again gives an equal tree of the same classes; whatever is of no
registered class is a leaf.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

__all__ = [
    "PyTree", "TreeSpec", "register_pytree_node", "tree_all", "tree_any", "tree_flatten",
    "tree_iter", "tree_leaves", "tree_map", "tree_map_", "tree_map_only", "tree_structure",
    "tree_unflatten",
]  # fmt: skip

PyTree = Any
_Flatten = Callable[[Any], tuple[list[Any], Any]]
_Build = Callable[[Iterable[Any], Any], Any]


class TreeSpec(NamedTuple):
    """The shape of a tree: the class of its root (None: a leaf), what rebuilds it, its branches."""

    type: type | None
    context: Any
    children_specs: list[TreeSpec]

    @property
    def num_leaves(self) -> int:
        """How many leaves a tree of this shape has."""
        if self.type is None:
            return 1
        return sum(child.num_leaves for child in self.children_specs)


def _of_dict(value: Any) -> tuple[list[Any], Any]:
    return list(value.values()), list(value)


def _of_defaultdict(value: Any) -> tuple[list[Any], Any]:
    return list(value.values()), (value.default_factory, list(value))


_NODES: dict[type, tuple[_Flatten, _Build]] = {
    tuple: (lambda value: (list(value), None), lambda items, _: tuple(items)),
    list: (lambda value: (list(value), None), lambda items, _: list(items)),
    dict: (_of_dict, lambda items, keys: dict(zip(keys, items, strict=True))),
    OrderedDict: (_of_dict, lambda items, keys: OrderedDict(zip(keys, items, strict=True))),
    defaultdict: (
        _of_defaultdict,
        lambda items, context: defaultdict(context[0], zip(context[1], items, strict=True)),
    ),
}


def register_pytree_node(
    cls: type, flatten_fn: _Flatten, unflatten_fn: _Build, **kwargs: Any
) -> None:
    """Make instances of `cls` branches: `flatten_fn` gives (children, context) and `unflatten_fn`
    builds from them. torch's other keywords concern serialization and are ignored."""
    _NODES[cls] = (flatten_fn, unflatten_fn)


def _node_of(tree: Any, is_leaf: Callable[[Any], bool] | None) -> tuple[_Flatten, _Build] | None:
    if is_leaf is not None and is_leaf(tree):
        return None
    kind = type(tree)
    if kind not in _NODES and isinstance(tree, tuple) and hasattr(kind, "_fields"):
        return lambda value: (list(value), None), lambda items, _: kind(*items)
    return _NODES.get(kind)


def tree_flatten(
    tree: Any, is_leaf: Callable[[Any], bool] | None = None
) -> tuple[list[Any], TreeSpec]:
    """The leaves of `tree` from left to right, and its shape.

    Example: ``tree_flatten({"a": 1, "b": (2, 3)})[0]`` is ``[1, 2, 3]``.
    """
    node = _node_of(tree, is_leaf)
    if node is None:
        return [tree], TreeSpec(None, None, [])
    children, context = node[0](tree)
    leaves: list[Any] = []
    specs = []
    for child in children:
        below, spec = tree_flatten(child, is_leaf)
        leaves += below
        specs.append(spec)
    return leaves, TreeSpec(type(tree), context, specs)


def tree_unflatten(leaves: Iterable[Any], treespec: TreeSpec) -> Any:
    """The tree of shape `treespec` with these leaves; raises ValueError on another number."""
    given = list(leaves)
    if len(given) != treespec.num_leaves:
        raise ValueError(
            f"tree_unflatten: {len(given)} leaves for a tree that has {treespec.num_leaves}"
        )
    return _build(iter(given), treespec)


def _build(leaves: Any, spec: TreeSpec) -> Any:
    if spec.type is None:
        return next(leaves)
    children = [_build(leaves, child) for child in spec.children_specs]
    if spec.type in _NODES:
        return _NODES[spec.type][1](children, spec.context)
    return spec.type(*children)  # a named tuple


def tree_leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    """The leaves of `tree` from left to right."""
    return tree_flatten(tree, is_leaf)[0]


tree_iter = tree_leaves


def tree_structure(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> TreeSpec:
    """The shape of `tree`."""
    return tree_flatten(tree, is_leaf)[1]


def tree_map(
    func: Callable[..., Any], tree: Any, *rests: Any, is_leaf: Callable[[Any], bool] | None = None
) -> Any:
    """`tree` with `func` called on each leaf (and those at the same places of `rests`).

    Example: ``tree_map(lambda v: v + 1, [1, {"a": 2}])`` is ``[2, {"a": 3}]``.
    """
    leaves, spec = tree_flatten(tree, is_leaf)
    others = [tree_leaves(rest, is_leaf) for rest in rests]
    return tree_unflatten(map(func, leaves, *others), spec)


def tree_map_(func: Callable[..., Any], tree: Any, *rests: Any, **kwargs: Any) -> Any:
    """`func` called on each leaf of `tree` for what it does; gives `tree`."""
    tree_map(func, tree, *rests, **kwargs)
    return tree


def tree_map_only(
    kind: Any, func: Any = None, tree: Any = None, *, is_leaf: Callable[[Any], bool] | None = None
) -> Any:
    """`tree_map` over the leaves that are instances of `kind`; the others stay."""
    return tree_map(lambda v: func(v) if isinstance(v, kind) else v, tree, is_leaf=is_leaf)


def tree_any(pred: Callable[[Any], bool], tree: Any) -> bool:
    """Whether `pred` holds for some leaf."""
    return any(map(pred, tree_leaves(tree)))


def tree_all(pred: Callable[[Any], bool], tree: Any) -> bool:
    """Whether `pred` holds for all leaves."""
    return all(map(pred, tree_leaves(tree)))


class MappingKey(NamedTuple):
    """The place of a leaf in a mapping."""

    key: Any


def _dict_flatten_with_keys(d: dict[Any, Any]) -> tuple[list[tuple[MappingKey, Any]], list[Any]]:
    """Children of a dict with their places: torch's name that libraries register classes with."""
    return [(MappingKey(key), value) for key, value in d.items()], list(d)
