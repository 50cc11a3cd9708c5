"""Random graphs and inputs for the tests of the compiler, from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit import dtypes, ops  # noqa: F401  (registers the ops)
from tracejit.dtypes import DType
from tracejit.ir.graph import Graph
from tracejit.ir.node import Node, full_like
from tracejit.ir.op import OPS
from tracejit.ir.types import TensorType
from tracejit.ops.reduction import expand_reduced

DTYPES = (dtypes.float32,) * 3 + (
    dtypes.float64, dtypes.float16, dtypes.int64, dtypes.int32, dtypes.uint8, dtypes.int8,
    dtypes.bool_,
)  # fmt: skip
SHAPES = ((3, 5), (4,), (2, 3, 4), (5,), (1, 5), (3, 1), (70, 3), (2, 130), ())
UNARY = {
    "f": ("neg", "abs", "relu", "exp", "tanh", "square", "floor", "isnan", "sqrt", "cast"),
    "i": ("neg", "abs", "square", "bitwise_not", "cast"),
    "u": ("square", "bitwise_not", "cast"),
    "b": ("bitwise_not", "cast"),
}
BINARY = {
    "f": ("add", "sub", "mul", "maximum", "minimum", "lt", "eq", "div"),
    "i": ("add", "sub", "mul", "maximum", "lt", "bitwise_and"),
    "u": ("add", "mul", "minimum", "gt"),
    "b": ("bitwise_and", "bitwise_or", "eq", "lt"),
}


def input_node(name: str, shape: Sequence[Any], dtype: DType = dtypes.float32, **more: Any) -> Node:
    """A graph input; `more` may be ``role="scalar"``."""
    return OPS["input"](name=name, type=TensorType(dtype, tuple(shape)), **more)


def sample(rng: np.random.Generator, shape: Sequence[int], dtype: DType) -> np.ndarray:
    """Random elements of any dtype, small enough that few overflow."""
    if dtype.kind == "f":
        return rng.uniform(-2, 2, shape).astype(dtype.numpy)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    return rng.integers(0 if dtype.kind == "u" else -5, 6, shape).astype(dtype.numpy)


def random_graph(seed: int, size: int = 12) -> tuple[Graph, list[np.ndarray]]:
    """A graph of about `size` ops and arrays for its inputs, some transposed, some strided."""
    rng = np.random.default_rng(seed)
    inputs, arrays = [], []
    for i in range(int(rng.integers(1, 4))):
        shape, dtype = SHAPES[rng.integers(len(SHAPES))], DTYPES[rng.integers(len(DTYPES))]
        inputs.append(input_node(f"x{i}", shape, dtype))
        arrays.append(_layout(rng, shape, dtype))
    pool = list(inputs)
    while len(pool) < len(inputs) + size:
        x = pool[rng.integers(len(pool))] if rng.random() < 0.5 else pool[-1]
        y = _step(rng, x, pool)
        if y is not None and y.type.size <= 20000:
            pool.append(y)
    made = pool[len(inputs) :]
    outputs = [n for n in made if rng.random() < 0.3] + [made[-1]]
    return Graph(f"random_{seed}", tuple(inputs), tuple(outputs)), arrays


def _layout(rng: np.random.Generator, shape: Sequence[int], dtype: DType) -> np.ndarray:
    kind = rng.random()
    if kind < 0.3 and len(shape) >= 2:
        return sample(rng, shape[::-1], dtype).transpose()
    if kind < 0.5 and shape:
        whole = sample(rng, tuple(2 * n for n in shape), dtype)
        return whole[tuple(slice(None, None, 2) for _ in shape)]
    return sample(rng, shape, dtype)


def _step(rng: np.random.Generator, x: Node, pool: Sequence[Node]) -> Node | None:
    kind, pick = x.dtype.kind, rng.random()
    if pick < 0.25:
        name = str(rng.choice(UNARY[kind]))
        params = {"dtype": DTYPES[rng.integers(len(DTYPES))]} if name == "cast" else {}
        return OPS[name](x, **params)
    if pick < 0.55:
        same = [p for p in pool if p.type == x.type]
        constant = full_like(x, True if kind == "b" else int(rng.integers(0, 3)))
        y = same[rng.integers(len(same))] if rng.random() < 0.7 else constant
        return OPS[str(rng.choice(BINARY[kind]))](x, y)
    if pick < 0.6:
        conditions = [p for p in pool if p.dtype.kind == "b" and p.shape == x.shape]
        return OPS["where"](conditions[0], x, full_like(x, 0)) if conditions else None
    if pick < 0.65:
        return OPS["broadcast_to"](x, shape=(2, *x.shape)) if x.ndim < 4 else None
    if not x.ndim:
        return None
    return _reduce(rng, x) if pick < 0.85 else _move(rng, x)


def _reduce(rng: np.random.Generator, x: Node) -> Node:
    axes = tuple(sorted({int(a) for a in rng.integers(0, x.ndim, rng.integers(1, 3))}))
    name = str(rng.choice(["reduce_sum", "reduce_max", "reduce_min", "argmax", "softmax"]))
    if name == "softmax" and x.dtype.kind == "f":
        return OPS["softmax"](x, axis=axes[0])
    if x.dtype.kind == "b":
        name = str(rng.choice(["reduce_any", "reduce_all", "argmax"]))
    elif name == "softmax":
        name = "reduce_sum"
    axes = axes[:1] if name == "argmax" else axes
    y = OPS[name](x, axes=axes)
    return expand_reduced(y, x, axes) if rng.random() < 0.6 else y


def _move(rng: np.random.Generator, x: Node) -> Node:
    pick = rng.random()
    if pick < 0.35:
        return OPS["transpose"](x, perm=tuple(int(p) for p in rng.permutation(x.ndim)))
    if pick < 0.6:
        shape = (x.type.size,) if rng.random() < 0.5 else x.shape[::-1]
        return OPS["reshape"](x, shape=tuple(shape))
    if pick < 0.8:
        starts = [int(rng.integers(0, n)) for n in x.shape]
        stops = [int(rng.integers(a + 1, n + 1)) for a, n in zip(starts, x.shape)]
        steps = tuple(int(s) for s in rng.integers(1, 3, x.ndim))
        return OPS["slice"](x, starts=tuple(starts), stops=tuple(stops), steps=steps)
    return OPS["flip"](x, axes=(int(rng.integers(x.ndim)),))


def assert_equal(wanted: Sequence[np.ndarray], got: Sequence[np.ndarray]) -> None:
    """Same dtypes, shapes and values; floats up to rounding."""
    for number, (w, g) in enumerate(zip(wanted, got, strict=True)):
        assert (w.dtype, w.shape) == (g.dtype, g.shape), number
        if w.dtype.kind == "f":
            near = {2: 2e-2, 4: 2e-4, 8: 1e-8}[w.dtype.itemsize]
            np.testing.assert_allclose(g, w, rtol=near, atol=near, err_msg=str(number))
        else:
            np.testing.assert_array_equal(g, w, err_msg=str(number))
