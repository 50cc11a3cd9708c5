"""simplify, cse, dce, decompose: before and after as text, values, and twins that must not fire."""

from __future__ import annotations

import numpy as np
import pytest

from tracejit import config, ops  # noqa: F401  (registers the ops)
from tracejit.ir.graph import Graph
from tracejit.ir.interpret import interpret
from tracejit.ir.parse import parse
from tracejit.ir.verify import verify
from tracejit.transforms import cse, dce, decompose, pipeline, simplify

SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.5, -2.5, 1e-45], "f4")


def graph_of(body: str, inputs: str = "%x: f32[8]", result: str = "f32[8]") -> Graph:
    """A graph whose last line is its result."""
    lines = [line.strip() for line in body.strip().splitlines()]
    last = lines[-1].split(" = ")[0]
    text = "\n".join(f"  {line}" for line in lines)
    return parse(f"graph g({inputs}) -> {result} {{\n{text}\n  return {last}\n}}")


def ops_of(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes()]


def bits(a: np.ndarray) -> bytes:
    """The bits, all NaNs alike."""
    return np.where(np.isnan(a), np.nan, a).astype(a.dtype).tobytes()


FIRES = {
    "mul_one": "%0 = full() {value=1.0} : f32[8]\n%1 = mul(%x, %0) : f32[8]",
    "div_one": "%0 = full() {value=1.0} : f32[8]\n%1 = div(%x, %0) : f32[8]",
    "sub_zero": "%0 = full() {value=0.0} : f32[8]\n%1 = sub(%x, %0) : f32[8]",
    "add_zero": "%0 = full() {value=-0.0} : f32[8]\n%1 = add(%x, %0) : f32[8]",
    "neg_neg": "%0 = neg(%x) : f32[8]\n%1 = neg(%0) : f32[8]",
    "cast_back": "%0 = cast(%x) {dtype=f64} : f64[8]\n%1 = cast(%0) {dtype=f32} : f32[8]",
    "cast_same": "%1 = cast(%x) {dtype=f32} : f32[8]",
    "merge_reshapes": "%0 = reshape(%x) {shape=(2,4)} : f32[2,4]\n"
                      "%1 = reshape(%0) {shape=(8,)} : f32[8]",
    "merge_broadcasts": "%1 = broadcast_to(%x) {shape=(8,)} : f32[8]",
    "flip_none": "%1 = flip(%x) {axes=()} : f32[8]",
    "slice_all": "%1 = slice(%x) {starts=(0,), steps=(1,), stops=(8,)} : f32[8]",
}  # fmt: skip


@pytest.mark.parametrize("name", FIRES)
def test_simplify_fires(name: str) -> None:
    graph = graph_of(FIRES[name])
    after = simplify.run(graph)
    assert ops_of(after) == []
    assert name in after.notes
    assert bits(interpret(graph, [SPECIAL])[0]) == bits(interpret(after, [SPECIAL])[0])


MUST_NOT_FIRE = {
    "x + 0.0 turns -0.0 into 0.0": "%0 = full() {value=0.0} : f32[8]\n%1 = add(%x, %0) : f32[8]",
    "x - -0.0 turns -0.0 into 0.0": "%0 = full() {value=-0.0} : f32[8]\n%1 = sub(%x, %0) : f32[8]",
    "x * 0 is NaN for inf": "%0 = full() {value=0.0} : f32[8]\n%1 = mul(%x, %0) : f32[8]",
    "x - x is NaN for inf": "%1 = sub(%x, %x) : f32[8]",
    "x / x is NaN for 0": "%1 = div(%x, %x) : f32[8]",
    "a narrowing rounds": "%0 = cast(%x) {dtype=f16} : f16[8]\n%1 = cast(%0) {dtype=f32} : f32[8]",
    "an integer drops": "%0 = cast(%x) {dtype=i64} : i64[8]\n%1 = cast(%0) {dtype=f32} : f32[8]",
    "where needs one value": "%0 = lt(%x, %x) : b1[8]\n%1 = neg(%x) : f32[8]\n"
                             "%2 = where(%0, %x, %1) : f32[8]",
    "half a slice": "%0 = slice(%x) {starts=(0,), steps=(2,), stops=(8,)} : f32[4]\n"
                    "%1 = broadcast_to(%0) {shape=(2,4)} : f32[2,4]\n"
                    "%2 = reshape(%1) {shape=(8,)} : f32[8]",
    "one reciprocal is not two": "%0 = reciprocal(%x) : f32[8]\n%1 = reciprocal(%0) : f32[8]",
}  # fmt: skip


@pytest.mark.parametrize("name", MUST_NOT_FIRE)
def test_simplify_must_not_fire(name: str) -> None:
    graph = graph_of(MUST_NOT_FIRE[name])
    after = simplify.run(graph)
    assert ops_of(after) == ops_of(graph)
    assert after.notes == "0 rewrites"


def test_integers_add_zero() -> None:
    body = "%0 = full() {value=0} : i32[8]\n%1 = add(%x, %0) : i32[8]"
    assert ops_of(simplify.run(graph_of(body, "%x: i32[8]", "i32[8]"))) == []


def test_constants_fold_through_exact_ops_and_views_only() -> None:
    body = """%0 = full() {value=3.0} : f32[4]
    %1 = full() {value=0.1} : f32[4]
    %2 = div(%1, %0) : f32[4]
    %3 = broadcast_to(%2) {shape=(2,4)} : f32[2,4]
    %4 = reshape(%3) {shape=(8,)} : f32[8]"""
    after = simplify.run(graph_of(body))
    assert ops_of(after) == ["full"]
    assert after.outputs[0].params["value"] == float(np.float32(0.1) / np.float32(3))
    body = "%0 = full() {value=3.0} : f32[8]\n%1 = exp(%0) : f32[8]"
    assert ops_of(simplify.run(graph_of(body))) == ["full", "exp"]


def test_transposes_merge() -> None:
    body = """%0 = transpose(%x) {perm=(1,0,2)} : f32[3,2,4]
    %1 = transpose(%0) {perm=(2,0,1)} : f32[4,3,2]"""
    graph = graph_of(body, "%x: f32[2,3,4]", "f32[4,3,2]")
    after = simplify.run(graph)
    assert ops_of(after) == ["transpose"]
    x = np.arange(24, dtype="f4").reshape(2, 3, 4)
    np.testing.assert_array_equal(interpret(graph, [x])[0], interpret(after, [x])[0])


def test_cse_merges_equal_nodes() -> None:
    body = """%0 = exp(%x) : f32[8]
    %1 = exp(%x) : f32[8]
    %2 = add(%0, %1) : f32[8]"""
    after = cse.run(graph_of(body))
    assert ops_of(after) == ["exp", "add"]
    assert after.notes == "1 rewrites (merge_equal)"


@pytest.mark.parametrize("a, b", [("0.0", "-0.0"), ("1.0", "2.0")])
def test_cse_keeps_different_constants(a: str, b: str) -> None:
    body = f"""%0 = full() {{value={a}}} : f32[8]
    %1 = full() {{value={b}}} : f32[8]
    %2 = copysign(%x, %0) : f32[8]
    %3 = copysign(%x, %1) : f32[8]
    %4 = add(%2, %3) : f32[8]"""
    assert ops_of(cse.run(graph_of(body))).count("full") == 2


def test_dce_drops_effects_without_effect() -> None:
    text = """graph g(%x: f32[8], %y: f32[8]) -> f32[8] {
  %0 = exp(%x) : f32[8]
  write %x <- %x
  write %y <- %0
  return %0
}"""
    after = dce.run(parse(text))
    assert [(a.params["name"], b.op.name) for a, b in after.effects] == [("y", "exp")]
    assert "write_of_itself" in after.notes


COMPOSITES = {
    "softmax": ("%1 = softmax(%x) {axis=1} : f32[3,5]", "f32[3,5]"),
    "log_softmax": ("%1 = log_softmax(%x) {axis=0} : f32[3,5]", "f32[3,5]"),
    "logsumexp": ("%1 = logsumexp(%x) {axes=(0,1)} : f32[]", "f32[]"),
    "argmax": ("%1 = argmax(%x) {axes=(1,)} : i64[3]", "i64[3]"),
    "argmin": ("%1 = argmin(%x) {axes=(0,)} : i64[5]", "i64[5]"),
    "take": ("%0 = argmax(%x) {axes=(1,)} : i64[3]\n%1 = take(%x, %0) {axis=1} : f32[3,3]",
             "f32[3,3]"),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPOSITES)
def test_decompose_keeps_the_value(name: str) -> None:
    body, result = COMPOSITES[name]
    graph = graph_of(body, "%x: f32[3,5]", result)
    after = decompose.run(graph)
    assert name not in ops_of(after)
    x = np.random.default_rng(0).standard_normal((3, 5)).astype("f4")
    wanted, got = interpret(graph, [x])[0], interpret(after, [x])[0]
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-6)


def test_argmax_finds_the_first_nan() -> None:
    graph = graph_of("%1 = argmax(%x) {axes=(0,)} : i64[]", "%x: f32[8]", "i64[]")
    assert interpret(decompose.run(graph), [SPECIAL])[0] == 4


def test_axes_that_are_no_neighbours_split_last_first() -> None:
    graph = graph_of("%1 = reduce_sum(%x) {axes=(0,2)} : f32[3]", "%x: f32[2,3,4]", "f32[3]")
    after = decompose.run(graph)
    assert [n.params["axes"] for n in after.nodes()] == [(2,), (0,)]


def test_any_over_nothing_is_false_and_all_is_true() -> None:
    for name, value in (("reduce_any", False), ("reduce_all", True)):
        graph = graph_of(f"%1 = {name}(%x) {{axes=(1,)}} : b1[2]", "%x: b1[2,0]", "b1[2]")
        after = decompose.run(graph)
        assert [n.params["value"] for n in after.nodes()] == [value]


def test_a_pass_can_be_switched_off_and_stages_say_what_happened() -> None:
    graph = graph_of(FIRES["mul_one"])
    with config.override(disable_passes="simplify", check=1):
        stages: dict[str, Graph] = {}
        assert ops_of(pipeline.run(graph, stages)) == ["full", "mul"]
        assert "simplify" not in stages
    stages = {}
    pipeline.run(graph, stages)
    first = str(stages["simplify"]).splitlines()[0]
    assert first.startswith("# after simplify: 1 rewrites (mul_one), ")
    assert first.endswith(" ms")


INDEX_AND_CHECKS = """
%0 = full() {value=6} : i64[7]
%1 = lt(%i, %0) : b1[7]
%2 = add(%i, %0) : i64[7]
%3 = where(%1, %2, %i) : i64[7]
%4 = index(%x, %3, %j) {axes=(0,1)} : f32[7]
%5 = ge(%i, %j) : b1[7]
%6 = bitwise_and(%5, %1) : b1[7]
%7 = reduce_all(%6) {axes=(0,)} : b1[]
%8 = lt(%j, %0) : b1[7]
%9 = bitwise_and(%8, %5) : b1[7]
%10 = reduce_all(%9) {axes=(0,)} : b1[]
%11 = bitwise_or(%7, %10) : b1[]
%12 = gt(%4, %4) : b1[7]
%13 = reduce_all(%12) {axes=(0,)} : b1[]
%14 = bitwise_or(%11, %13) : b1[]
"""


def test_nodes_that_rules_drop_are_never_taken_for_others() -> None:
    """A dropped node's id may be that of a node made later: seen as a reduce_min of the index."""
    inputs = "%x: f32[6,2], %i: i64[7], %j: i64[7]"
    graph = graph_of(INDEX_AND_CHECKS, inputs, "b1[]")
    everything = tuple(n for n in graph.nodes() if n.op.name in ("index", "reduce_all"))
    assert len(everything) == 4
    for _ in range(20):
        lowered = verify(decompose.run(Graph("g", graph.inputs, everything)))
        for node in lowered.nodes():
            assert node.op.name != "reduce_min" or node.inputs[0].op.name == "cast"
