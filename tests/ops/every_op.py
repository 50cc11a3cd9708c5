"""Every op of the registry: value, type, gradient to second order, text, odd shapes, NaN.

The tests come from the registry: a new stanza is tested without a line here (an op with several
inputs or params may need a row in `samples.py`).

Not collected yet: 27 of its 777 cases fail (random ops' text, pad of size 0, gradients of cholesky,
eigh, zeta and cast in the table of samples). Rename to test_every_op.py when they pass.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from samples import FUNCTIONS, NOT_FUNCTIONS, Case, cases

import tracejit
from tracejit import dtypes
from tracejit.eager.dispatch import apply, pointwise
from tracejit.ir.graph import Graph
from tracejit.ir.interpret import interpret
from tracejit.ir.node import Node
from tracejit.ir.op import OPS, Op
from tracejit.ir.parse import parse
from tracejit.ir.types import TensorType, TupleType
from tracejit.ir.verify import verify
from tracejit.transforms.grad import backpropagate

SHAPES = ((3, 4), (2, 3, 3), (5,), (), (0, 3), (3, 0))
NAMES = [op.name for op in FUNCTIONS]
TOLERANCE = {"float64": 1e-12, "float32": 2e-6, "float16": 2e-3}
# Results that carry an arbitrary sign, or are indices among equal elements.
SIGN_FREE = ("svd", "eigh", "qr")


def run_eager(op: Op, arrays: list[Any], params: dict[str, Any]) -> Any:
    """The op through eager dispatch, as arrays."""
    tensors = [tracejit.from_numpy(a) for a in arrays]
    same = len({a.dtype for a in arrays}) == 1
    if op.kind == "elementwise" and same and arrays and op.name != "cast":
        return pointwise(op, tensors, params).numpy()
    result = apply(op, tensors, params)
    return tuple(t.numpy() for t in result) if isinstance(result, tuple) else result.numpy()


def agree(got: Any, want: Any, name: str) -> None:
    """Equal dtypes and shapes, values to the last few digits; NaN and infinities alike."""
    if isinstance(want, tuple):
        for g, w in zip(got, want, strict=True):
            agree(g, w, name)
        return
    want = np.asarray(want)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(got, want)
        return
    if name in SIGN_FREE:
        got, want = np.abs(got), np.abs(want)
    limit = TOLERANCE[want.dtype.name] * (20 if OPS[name].cost > 50 else 1)
    np.testing.assert_allclose(got, want, rtol=limit, atol=limit)


def all_cases(op: Op, dtype: Any, shapes: Any = SHAPES) -> list[Case]:
    rng = np.random.default_rng(len(op.name))
    return [c for shape in shapes for c in cases(op, shape, dtype, rng)]


def reference(op: Op, arrays: list[Any], params: dict[str, Any]) -> Any:
    with np.errstate(all="ignore"):
        return op.numpy(*arrays, **params)


def runs_a_kernel(op: Op, dtype: Any) -> bool:
    """Whether eager compiles a kernel for it (some 50 ms for each dtype and loop shape)."""
    if op.kind == "elementwise":
        return not op.exact
    return dtype.kind == "f" and (op.kind == "composite" or op.kind == "reduction")


@pytest.mark.parametrize("name", NAMES)
def test_value_of_eager_is_the_numpy_meaning(name: str) -> None:
    op, tried = OPS[name], 0
    for dtype in dtypes.ALL:
        shapes: Any = SHAPES
        if runs_a_kernel(op, dtype):
            shapes = {"float64": ((5,),), "float32": ((3, 4), (), (0, 3)), "float16": ((5,),),
                      "int64": ((5,),), "uint8": ((5,),)}.get(dtype.name, ())  # fmt: skip
        for arrays, params in all_cases(op, dtype, shapes):
            agree(run_eager(op, arrays, params), reference(op, arrays, params), name)
            tried += 1
    assert tried, "no dtype and shape suits the op"


@pytest.mark.parametrize("name", NAMES)
def test_inferred_type_is_the_run_time_type(name: str) -> None:
    op = OPS[name]
    for dtype in dtypes.ALL:
        for arrays, params in all_cases(op, dtype):
            types = tuple(TensorType(dtypes.from_numpy(a.dtype), a.shape) for a in arrays)
            inferred = op.infer(types, **params)
            result = reference(op, arrays, params)
            several = isinstance(inferred, TupleType)
            assert several == op.multiple == isinstance(result, tuple)
            pairs = zip(inferred.items, result, strict=True) if several else [(inferred, result)]
            for kind, array in pairs:
                assert (kind.dtype.numpy, kind.shape) == (np.asarray(array).dtype, array.shape)


@pytest.mark.parametrize("name", NAMES)
def test_strided_and_reversed_operands(name: str) -> None:
    op = OPS[name]
    for arrays, params in all_cases(op, dtypes.float64, ((3, 4),))[:2]:
        want = reference(op, arrays, params)
        agree(run_eager(op, [strided(a) for a in arrays], params), want, name)


def strided(a: Any) -> Any:
    """The same elements, every other one of a longer array that runs backwards."""
    return np.flip(np.repeat(np.flip(a, -1), 2, -1), -1)[..., ::2] if a.ndim else a


@pytest.mark.parametrize("name", [n for n in NAMES if OPS[n].kind in ("elementwise", "reduction")])
def test_nan_and_infinities(name: str) -> None:
    op = OPS[name]
    for dtype in (dtypes.float64, dtypes.float32):
        shape = (5,) if dtype is dtypes.float64 else (3, 4)
        for arrays, params in all_cases(op, dtype, (shape,)):
            for a in arrays:
                if a.dtype.kind == "f":
                    a.flat[:5] = np.nan, np.inf, -np.inf, -0.0, 0.0
            agree(run_eager(op, arrays, params), reference(op, arrays, params), name)


# --- gradients -------------------------------------------------------------------------------


def build(op: Op, arrays: list[Any], params: dict[str, Any]) -> tuple[Graph, list[Node]]:
    """The one-node graph, and its floating results."""
    kinds = [TensorType(dtypes.from_numpy(a.dtype), a.shape) for a in arrays]
    nodes = [OPS["input"](type=k, name=f"x{i}") for i, k in enumerate(kinds)]
    node = op(*nodes, **params)
    if isinstance(node.type, TupleType):
        outputs = tuple(node[i] for i in range(len(node.type.items)))
    else:
        outputs = (node,)
    return Graph(op.name, tuple(nodes), outputs), [o for o in outputs if o.dtype.kind == "f"]


def weighted(graph: Graph, outputs: list[Node], seed: int) -> Node:
    """A number from floating outputs: their sum with fixed weights."""
    total = None
    for i, node in enumerate(outputs):
        if graph.name in SIGN_FREE:
            node = node * node
        weights = np.random.default_rng(seed + i).uniform(0.5, 1.5, node.shape)
        constant = OPS["constant"](values=_freeze(weights.tolist()), type=node.type)
        part = OPS["reduce_sum"](node * constant, axes=tuple(range(node.ndim)))
        total = part if total is None else total + part
    assert total is not None
    return total


def _freeze(v: Any) -> Any:
    return tuple(map(_freeze, v)) if isinstance(v, list) else v


def slopes(inputs: tuple[Node, ...], value: Node, arrays: list[Any], at: int) -> Any:
    """Central differences of `value` by the elements of input `at`."""
    graph = Graph("value", inputs, (value,))
    found = np.zeros(arrays[at].shape)
    for where in np.ndindex(*arrays[at].shape):
        sides = []
        for step in (1e-5, -1e-5):
            moved = [a.copy() for a in arrays]
            moved[at][where] += step
            sides.append(float(interpret(graph, moved)[0]))
        found[where] = (sides[0] - sides[1]) / 2e-5
    return found


DIFFERENTIABLE = [n for n in NAMES if OPS[n].vjp is not None]
# The rules see a constant where a second derivative is a sum over ties, zeros or signs.
FIRST_ORDER_ONLY = ("cofactor", "nextafter")


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradient_is_the_derivative(name: str) -> None:
    op = OPS[name]
    for arrays, params in all_cases(op, dtypes.float64, ((2, 3), (2, 2), (3,)))[:6]:
        graph, outputs = build(op, arrays, params)
        if not outputs:
            continue
        check_order(graph, weighted(graph, outputs, 1), arrays, name, 2)


def check_order(graph: Graph, value: Node, arrays: list[Any], name: str, order: int) -> None:
    """The gradient against differences; then the same for a number made of the gradient."""
    one = OPS["full"](value=1.0, type=value.type)
    at = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
    found = backpropagate([value], [one], [graph.inputs[i] for i in at])
    later = []
    for i, g in zip(at, found, strict=True):
        if g is None:  # no rule for this input, or it does not matter
            continue
        exact = interpret(Graph("gradient", graph.inputs, (g,)), arrays)[0]
        numeric = slopes(graph.inputs, value, arrays, i)
        np.testing.assert_allclose(exact, numeric, rtol=1e-4, atol=1e-5)
        later.append(g)
    if order > 1 and later and name not in FIRST_ORDER_ONLY:
        check_order(graph, weighted(Graph("g", (), ()), later, 5), arrays, name, 1)


# --- text ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_text_round_trip(name: str) -> None:
    op = OPS[name]
    for dtype in (dtypes.float32, dtypes.int64, dtypes.bool_):
        for arrays, params in all_cases(op, dtype, ((3, 4), (2, 2), ()))[:3]:
            graph, _ = build(op, arrays, params)
            text = str(verify(graph))
            assert str(parse(text)) == text


def test_every_op_has_a_sentence() -> None:
    for op in OPS.values():
        assert op.doc[0].isupper() or op.doc[0] in "-~1exlst("
        assert op.doc.endswith("."), op.name


def test_the_exceptions_exist() -> None:
    assert set(NOT_FUNCTIONS) <= set(OPS)
    assert set(FIRST_ORDER_ONLY) <= set(OPS)
