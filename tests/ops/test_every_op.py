"""Every op of the registry: value, type, gradient to second order, text, odd shapes, NaN.

The tests come from the registry: a new stanza is tested without a line here (an op with several
inputs or params may need a row in `tracejit/testing/samples.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tracejit
from tracejit import dtypes
from tracejit.ir.graph import Graph
from tracejit.ir.interpret import interpret
from tracejit.ir.node import Node
from tracejit.ir.op import OPS, Op
from tracejit.ir.parse import parse
from tracejit.ir.types import Device, TensorType, TupleType
from tracejit.ir.verify import verify
from tracejit.ops.bessel import BESSEL
from tracejit.testing import FUNCTIONS, NOT_FUNCTIONS, all_cases, check_op
from tracejit.testing.check_op import SHAPES, SIGN_FREE, agree, reference, run_eager
from tracejit.transforms.grad import backpropagate

NAMES = [op.name for op in FUNCTIONS]


def runs_a_kernel(op: Op, dtype: Any) -> bool:
    """Whether eager compiles a kernel for it (some 50 ms for each dtype and loop shape)."""
    if op.kind == "elementwise":
        return not op.exact
    return dtype.kind == "f" and op.kind in ("composite", "reduction", "random")


def shapes_for(op: Op, dtype: Any) -> Any:
    """All shapes, but few where each costs a kernel."""
    if not runs_a_kernel(op, dtype):
        return SHAPES
    few = {"float64": ((5,),), "float32": ((3, 4), (), (0, 3)), "float16": ((5,),),
           "int64": ((5,),), "uint8": ((5,),)}  # fmt: skip
    if op.name in LONG_FORMULAS:  # in float16 they are cast from and to float32
        del few["float16"]
    return few.get(dtype.name, ())


@pytest.mark.parametrize("name", NAMES)
def test_value_of_eager_is_the_numpy_meaning(name: str) -> None:
    op = OPS[name]
    tried = sum(check_op(op, dtype, shapes=shapes_for(op, dtype)) for dtype in dtypes.ALL)
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


LONG_FORMULAS = [n for n in NAMES if OPS[n].kind == "composite" and OPS[n].cost > 50]
"""Their kernels take half a second each, and access their operand as every other kernel does."""


@pytest.mark.parametrize("name", [n for n in NAMES if n not in LONG_FORMULAS])
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


# Their gradient is not the derivative, on purpose: `with_value` hides a write from autograd, a
# `cast` to fewer digits is a staircase whose slope counts as 1, a gamma variable moves with its
# quantile (not with the uniform numbers that NumPy accepted).
NOT_THE_DERIVATIVE = ("with_value", "cast", "random_gamma")
# The rules see a constant where a second derivative is a sum over ties, zeros or signs.
FIRST_ORDER_ONLY = ("cofactor", "nextafter")
# One triangle is read, but the gradient is that of symmetric changes, as in torch.
SYMMETRIC = ("cholesky", "eigh")
# Inputs by which no derivative is known.
WITHOUT_RULE = {"zeta": (0,), "igamma": (0,), "igammac": (0,), "random_gamma_slope": (0, 1),
                **{op.name: (0,) for op in BESSEL}}  # fmt: skip

DIFFERENTIABLE = [
    n for n in NAMES if OPS[n].vjp is not None and n not in NOT_THE_DERIVATIVE
]  # fmt: skip


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
    unknown = WITHOUT_RULE.get(name, ())
    at = [i for i, a in enumerate(arrays) if a.dtype.kind == "f" and i not in unknown]
    found = backpropagate([value], [one], [graph.inputs[i] for i in at])
    later = []
    for i, g in zip(at, found, strict=True):
        if g is None:  # the value does not depend on this input
            continue
        exact = interpret(Graph("gradient", graph.inputs, (g,)), arrays)[0]
        numeric = slopes(graph.inputs, value, arrays, i)
        if name in SYMMETRIC:
            numeric = (numeric + np.swapaxes(numeric, -1, -2)) / 2
        np.testing.assert_allclose(exact, numeric, rtol=1e-4, atol=1e-5)
        later.append(g)
    if order > 1 and later and name not in FIRST_ORDER_ONLY:
        check_order(graph, weighted(Graph("g", (), ()), later, 5), arrays, name, 1)


@pytest.mark.parametrize(
    ("name", "position"),
    [("zeta", 0), ("igamma", 0), ("igammac", 0), ("airy_ai", 0), ("bessel_j0", 0)],
)
def test_a_derivative_that_is_not_known_raises(name: str, position: int) -> None:
    x = [tracejit.tensor([1.5, 2.5]) for _ in OPS[name].names]
    x[position].requires_grad_()
    public = {"igamma": "gammainc", "igammac": "gammaincc"}.get(name, name)
    y = getattr(tracejit.special, public)(*x)
    text = rf"derivative of {name} by its input \w is not known\n  at .*test_every_op.py:\d+"
    with pytest.raises(NotImplementedError, match=text):
        y.sum().backward()


def test_gradient_of_a_cast_is_cast_back() -> None:
    x = tracejit.tensor([1.5, -2.0], dtype=tracejit.float64, requires_grad=True)
    (x.half() * tracejit.tensor([3.0, 0.1], dtype=tracejit.float16)).sum().backward()
    assert x.grad.dtype is tracejit.float64
    assert x.grad.tolist() == [3.0, float(np.float16(0.1))]


def test_gradient_of_with_value_passes_the_value_by() -> None:
    x, value = (OPS["input"](type=TensorType(dtypes.float32, (2,)), name=n) for n in "xv")
    g = OPS["full"](value=1.0, type=x.type)
    assert backpropagate([OPS["with_value"](x, value)], [g], [x, value]) == [g, None]


# --- text ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_text_round_trip(name: str) -> None:
    op = OPS[name]
    for dtype in (dtypes.float32, dtypes.int64, dtypes.bool_):
        for arrays, params in all_cases(op, dtype, ((3, 4), (2, 2), ()))[:3]:
            graph, _ = build(op, arrays, params)
            text = str(verify(graph))
            assert str(parse(text)) == text


@pytest.mark.parametrize("device", ["cpu", "sim", "sim:1", "cuda:2"])
def test_text_of_a_move_to_a_device(device: str) -> None:
    x = OPS["input"](type=TensorType(dtypes.float32, (2,)), name="x")
    text = str(Graph("move", (x,), (OPS["to_device"](x, device=Device(device)),)))
    assert str(parse(text)) == text


def test_every_op_has_a_sentence() -> None:
    """It starts with a capital letter or with the formula, and ends."""
    for op in OPS.values():
        first = op.doc.split()[0]
        assert first[0].isupper() or not first.isalpha() or len(first) == 1, op.name
        assert op.doc.endswith("."), op.name


def test_the_exceptions_exist() -> None:
    named = (*NOT_FUNCTIONS, *NOT_THE_DERIVATIVE, *FIRST_ORDER_ONLY, *SYMMETRIC, *WITHOUT_RULE)
    assert set(named) <= set(OPS)


# --- signed zeros ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [tracejit.float64, tracejit.float32, tracejit.float16])
def test_sums_of_negative_zeros_alone_are_positive_zero(dtype: dtypes.DType) -> None:
    """A sum starts at +0.0, as in torch and NumPy, however it is split; a product does not."""
    for shape, axis in (((1,), 0), ((9,), 0), ((40, 3), 0), ((3, 40), 1)):
        x = tracejit.full(shape, -0.0, dtype=dtype)
        for function in (lambda t: t.sum(axis), lambda t: t.mean(axis), lambda t: t.cumsum(axis)):  # noqa: B023
            compiled = tracejit.compile(function)
            for result in (function(x), compiled(x), compiled(x)):
                assert not np.signbit(result.numpy()).any()
    assert np.signbit(tracejit.full((1,), -0.0, dtype=dtype).prod().numpy())


@pytest.mark.parametrize("pair", [(0.0, -0.0), (-0.0, 0.0)])
def test_zeros_have_an_order(pair: tuple[float, float]) -> None:
    x = tracejit.tensor([pair, (-1.0, -2.0)], dtype=tracejit.float64)
    for name, now in (("reduce_max", x.amax(1)), ("reduce_min", x.amin(1))):
        node = Node(OPS["input"], (), {"name": "x"}, TensorType(dtypes.float64, (2, 2)))
        graph = Graph(name, (node,), (OPS[name](node, axes=(1,)),))
        (wanted,) = interpret(graph, [x.numpy()])
        assert wanted.tobytes() == now.numpy().tobytes()
