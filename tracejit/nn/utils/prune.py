"""``nn.utils.prune``: weights multiplied by masks of zeros and ones.

Invariant: a pruned tensor ``name`` is ``name_orig * name_mask``, worked out before every forward;
``name_orig`` is the parameter and ``name_mask`` a buffer, so a state dict holds both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tracejit.eager.factories import ones_like
from tracejit.eager.joining import cat
from tracejit.errors import at_user_line
from tracejit.nn.module import Module
from tracejit.random import rand
from tracejit.tensor import Tensor

__all__ = [
    "BasePruningMethod", "CustomFromMask", "Identity", "L1Unstructured", "LnStructured",
    "PruningContainer", "RandomStructured", "RandomUnstructured", "custom_from_mask",
    "global_unstructured", "identity", "is_pruned", "l1_unstructured", "ln_structured",
    "random_structured", "random_unstructured", "remove",
]  # fmt: skip


class BasePruningMethod:
    """A rule for masks; a subclass gives `compute_mask` and PRUNING_TYPE.

    PRUNING_TYPE  'unstructured', 'structured' or 'global': what a second pruning may still touch.
    """

    PRUNING_TYPE = "unstructured"
    _tensor_name: str

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self._tensor_name, self.apply_mask(module))

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """The mask for scores `t`: `default_mask` with more zeros."""
        raise NotImplementedError(
            at_user_line(f"{type(self).__name__} does not define compute_mask")
        )

    def apply_mask(self, module: Any) -> Any:
        """The masked tensor."""
        name = self._tensor_name
        original = getattr(module, f"{name}_orig")
        return getattr(module, f"{name}_mask").to(original.dtype) * original

    @classmethod
    def apply(
        cls, module: Any, name: str, *args: Any, importance_scores: Any = None, **kwargs: Any
    ) -> Any:
        """Prune the tensor `name` of a module, on top of earlier prunings; returns the rule.

        importance_scores  a tensor of the same shape that is judged in its place.
        Raises ValueError for scores of another shape.
        """
        method = cls(*args, **kwargs)
        method._tensor_name = name
        earlier = _rule_of(module, name)
        original = getattr(module, name) if earlier is None else getattr(module, f"{name}_orig")
        scores = getattr(module, name) if importance_scores is None else importance_scores
        if scores.shape != original.shape:
            raise ValueError(
                at_user_line(
                    f"importance_scores of shape {tuple(scores.shape)} do not fit "
                    f"{name!r} of shape {tuple(original.shape)}"
                )
            )
        if earlier is None:
            mask = method.compute_mask(scores.detach(), ones_like(original.detach()))
            del module._parameters[name]
            module.register_parameter(f"{name}_orig", original)
            module.register_buffer(f"{name}_mask", mask)
            rule: BasePruningMethod = method
        else:
            key, before = earlier
            del module._forward_pre_hooks[key]
            container = before if isinstance(before, PruningContainer) else PruningContainer(before)
            container.add_pruning_method(method)
            mask = container.compute_mask(scores.detach(), getattr(module, f"{name}_mask"))
            setattr(module, f"{name}_mask", mask)
            rule = container
        setattr(module, name, rule.apply_mask(module))
        module.register_forward_pre_hook(rule)
        return rule

    def prune(self, t: Any, default_mask: Any = None, importance_scores: Any = None) -> Any:
        """`t` masked, without a module."""
        scores = t if importance_scores is None else importance_scores
        if scores.shape != t.shape:
            raise ValueError(
                at_user_line(
                    f"importance_scores of shape {tuple(scores.shape)} do not fit {tuple(t.shape)}"
                )
            )
        start = ones_like(t) if default_mask is None else default_mask
        return t * self.compute_mask(scores, start).to(t.dtype)

    def remove(self, module: Any) -> None:
        """Make the masked value the parameter `name` again."""
        name = self._tensor_name
        value = self.apply_mask(module)
        original = module._parameters.pop(f"{name}_orig")
        del module._buffers[f"{name}_mask"]
        delattr(module, name)
        original.data = value.detach()
        module.register_parameter(name, original)


def _rule_of(module: Any, name: str) -> tuple[int, BasePruningMethod] | None:
    """(hook key, rule) of an earlier pruning of this tensor."""
    for key, (hook, *_) in module._forward_pre_hooks.items():
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == name:
            return key, hook
    return None


class PruningContainer(BasePruningMethod):
    """Several prunings of one tensor, one after another."""

    def __init__(self, *args: BasePruningMethod) -> None:
        self._methods: tuple[BasePruningMethod, ...] = ()
        for method in args:
            self.add_pruning_method(method)

    def add_pruning_method(self, method: BasePruningMethod) -> None:
        """Append a rule for the same tensor; ValueError if it is for another, TypeError if none."""
        if not isinstance(method, BasePruningMethod):
            raise TypeError(at_user_line(f"{type(method)} is not a BasePruningMethod subclass"))
        if self._methods and method._tensor_name != self._tensor_name:
            raise ValueError(
                at_user_line(
                    f"this container prunes {self._tensor_name!r}, the method "
                    f"{method._tensor_name!r}"
                )
            )
        self._tensor_name = method._tensor_name
        self._methods = (*self._methods, method)

    def __len__(self) -> int:
        return len(self._methods)

    def __iter__(self) -> Iterator[BasePruningMethod]:
        return iter(self._methods)

    def __getitem__(self, idx: int) -> BasePruningMethod:
        return self._methods[idx]

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """`default_mask` with what the last rule takes from what is left."""
        method, mask = self._methods[-1], default_mask.to(t.dtype).clone()
        kept = mask == 1
        if method.PRUNING_TYPE == "unstructured":
            mask[kept] = method.compute_mask(t[kept], mask[kept])
            return mask
        if method.PRUNING_TYPE == "global":
            return method.compute_mask(t, mask)
        if not hasattr(method, "dim"):
            raise AttributeError(f"structured pruning {type(method).__name__} has no dim")
        dim = method.dim % t.ndim
        others = tuple(i for i in range(t.ndim) if i != dim)
        channels = (mask.sum(others) > 0).nonzero().squeeze(1)
        part = method.compute_mask(t.index_select(dim, channels), mask.index_select(dim, channels))
        return mask.index_copy(dim, channels, part)


# --- amounts ----------------------------------------------------------------------------------


def _check_amount(amount: Any) -> None:
    if isinstance(amount, bool) or not isinstance(amount, (int, float)):
        raise TypeError(at_user_line(f"the amount of pruning must be a number, got {amount!r}"))
    if (isinstance(amount, int) and amount < 0) or not (isinstance(amount, int) or
                                                        0.0 <= amount <= 1.0):  # fmt: skip
        raise ValueError(
            at_user_line(
                f"amount={amount} should either be a float in [0, 1] or a non-negative integer"
            )
        )


def _count(amount: int | float, size: int) -> int:
    if isinstance(amount, int) and amount > size:
        raise ValueError(
            at_user_line(
                f"amount={amount} should be smaller than the number of parameters to prune={size}"
            )
        )
    return amount if isinstance(amount, int) else round(amount * size)


class Identity(BasePruningMethod):
    """Prunes nothing: makes the names that pruning makes."""

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """`default_mask`."""
        return default_mask


class _Amount(BasePruningMethod):
    def __init__(self, amount: int | float) -> None:
        _check_amount(amount)
        self.amount = amount

    def _without(self, mask: Any, scores: Any) -> Any:
        """`mask` with zeros at the smallest scores."""
        count = _count(self.amount, scores.numel())
        if count == 0:
            return mask.clone()
        places = scores.reshape(-1).topk(count, largest=False).indices
        return mask.clone().reshape(-1).index_fill(0, places, 0).reshape(mask.shape)


class RandomUnstructured(_Amount):
    """Zeros at random elements."""

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """`default_mask` with `amount` more zeros."""
        return self._without(default_mask, rand(*t.shape))


class L1Unstructured(_Amount):
    """Zeros at the elements of smallest size."""

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """`default_mask` with `amount` more zeros."""
        return self._without(default_mask, t.abs())


class _Structured(_Amount):
    PRUNING_TYPE = "structured"
    dim: int

    def _check(self, t: Any) -> None:
        if t.ndim <= 1:
            raise ValueError(
                at_user_line(
                    "Structured pruning can only be applied to multidimensional tensors. "
                    f"Found tensor of shape {tuple(t.shape)}"
                )
            )
        if not -t.ndim <= self.dim < t.ndim:
            raise IndexError(
                at_user_line(f"Invalid index {self.dim} for tensor of size {tuple(t.shape)}")
            )

    def _without_channels(self, t: Any, mask: Any, scores: Any) -> Any:
        keep = self._without(ones_like(scores), scores)
        shape = [1] * t.ndim
        shape[self.dim] = -1
        return mask * keep.reshape(*shape).to(mask.dtype)


class RandomStructured(_Structured):
    """Zeros in whole slices along `dim`, at random."""

    def __init__(self, amount: int | float, dim: int = -1) -> None:
        super().__init__(amount)
        self.dim = dim

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """`default_mask` without `amount` slices."""
        self._check(t)
        return self._without_channels(t, default_mask, rand(t.shape[self.dim]))


class LnStructured(_Structured):
    """Zeros in the slices along `dim` of smallest `n`-norm."""

    def __init__(self, amount: int | float, n: Any, dim: int = -1) -> None:
        super().__init__(amount)
        self.n = n
        self.dim = dim

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """`default_mask` without `amount` slices."""
        self._check(t)
        others = tuple(i for i in range(t.ndim) if i != self.dim % t.ndim)
        return self._without_channels(t, default_mask, t.norm(p=self.n, dim=others))


class CustomFromMask(BasePruningMethod):
    """A mask that the user gives."""

    PRUNING_TYPE = "global"

    def __init__(self, mask: Any) -> None:
        self.mask = mask

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """`default_mask` times the given mask."""
        return default_mask * self.mask.to(default_mask.dtype)


# --- functions ----------------------------------------------------------------------------------


def identity(module: Module, name: str) -> Module:
    """`Identity` on a module, which is returned."""
    Identity.apply(module, name)
    return module


def random_unstructured(module: Module, name: str, amount: int | float) -> Module:
    """`RandomUnstructured` on a module: `amount` elements, or that fraction if a float."""
    RandomUnstructured.apply(module, name, amount)
    return module


def l1_unstructured(
    module: Module, name: str, amount: int | float, importance_scores: Any = None
) -> Module:
    """`L1Unstructured` on a module.

    Example: ``nn.utils.prune.l1_unstructured(nn.Linear(4, 2), "weight", 0.3)``.
    """
    L1Unstructured.apply(module, name, amount, importance_scores=importance_scores)
    return module


def random_structured(module: Module, name: str, amount: int | float, dim: int) -> Module:
    """`RandomStructured` on a module."""
    RandomStructured.apply(module, name, amount, dim)
    return module


def ln_structured(
    module: Module, name: str, amount: int | float, n: Any, dim: int, importance_scores: Any = None
) -> Module:
    """`LnStructured` on a module."""
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores)
    return module


def custom_from_mask(module: Module, name: str, mask: Tensor) -> Module:
    """`CustomFromMask` on a module."""
    CustomFromMask.apply(module, name, mask)
    return module


def global_unstructured(
    parameters: Iterable[tuple[Module, str]], pruning_method: type[BasePruningMethod],
    importance_scores: dict[tuple[Module, str], Any] | None = None, **kwargs: Any,
) -> None:  # fmt: skip
    """Prune tensors of several modules as if they were one.

    Raises TypeError for a method that is not unstructured, ValueError without tensors.
    """
    places, given = list(parameters), importance_scores or {}
    if not places:
        raise ValueError(at_user_line("global_unstructured: no parameters"))
    if pruning_method.PRUNING_TYPE != "unstructured":
        raise TypeError(
            at_user_line(f"only unstructured methods can be global, not {pruning_method.__name__}")
        )
    tensors: list[Any] = [getattr(module, name) for module, name in places]
    scores = [given.get(place, t).detach().reshape(-1)
              for place, t in zip(places, tensors, strict=True)]  # fmt: skip
    masks = [getattr(module, f"{name}_mask", ones_like(t.detach())).reshape(-1)
             for (module, name), t in zip(places, tensors, strict=True)]  # fmt: skip
    container = PruningContainer()
    container._tensor_name = "temp"
    method = pruning_method(**kwargs)
    method._tensor_name = "temp"
    container.add_pruning_method(method)
    whole = container.compute_mask(cat(scores), cat(masks))
    for (module, name), t, part in zip(
        places, tensors, whole.split([t.numel() for t in tensors]), strict=True
    ):
        custom_from_mask(module, name, part.reshape(t.shape))


def remove(module: Module, name: str) -> Module:
    """Make the pruned value permanent; ValueError if `name` is not pruned."""
    found = _rule_of(module, name)
    if found is None:
        raise ValueError(
            at_user_line(
                f"Parameter {name!r} of module {module} has to be pruned before pruning "
                "can be removed"
            )
        )
    target: Any = module
    del target._forward_pre_hooks[found[0]]
    found[1].remove(module)
    return module


def is_pruned(module: Module) -> bool:
    """Whether any tensor of the module or its submodules is pruned."""
    parts: Any = module.modules()
    return any(isinstance(hook, BasePruningMethod)
               for part in parts for hook, *_ in part._forward_pre_hooks.values())  # fmt: skip
