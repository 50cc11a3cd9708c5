"""The layers: a module imports only from its own layer and those to its left, at any depth of code.

Invariant: the table below is the whole truth; an import inside a function counts like any other.
``if TYPE_CHECKING:`` blocks do not run and do not count.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tracejit"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("config", "errors", "dtypes", "late"),
    ("ir",),
    ("ops",),
    ("transforms",),
    ("codegen",),
    ("runtime",),
    ("tensor", "eager", "random", "autograd", "linalg", "masked",
     "special"),
    ("jit",),
    (
        "nn", "optim", "utils", "serialization", "safetensors", "func", "amp", "cuda", "backends",
        "compiler", "distributed", "distributions", "fx", "hub", "left_out", "signal", "_C",
        "_custom_ops", "_dynamo", "ao", "library", "multiprocessing", "onnx", "profiler", "toggles",
        "types", "version",
    ),
    ("inspect", "testing"),
    ("demo", "cli", "__main__"),
)  # fmt: skip
RANK = {name: i for i, layer in enumerate(LAYERS) for name in layer}

ROOT_USERS = (
    "inspect", "testing", "demo", "cli", "__main__", "nn", "optim", "utils", "distributions",
    "types", "version",
)  # fmt: skip
"""Who may write ``import tracejit``: layers to the right of everything that ``__init__`` loads."""


def layer_of(module: str) -> str:
    """The second name of a dotted module: ``tracejit.jit.guards`` is of ``jit``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and module of every import that can run."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from (found for child in node.orelse for found in imports(child))
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            if node.module == "tracejit":
                yield from ((node.lineno, f"tracejit.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, str(node.module)
        yield from imports(node)


def breaches(source: str, module: str) -> list[str]:
    """What the source of a module imports from layers to its right."""
    own = layer_of(module)
    found = []
    for line, target in imports(ast.parse(source)):
        if target.split(".")[0] != "tracejit":
            continue
        layer = layer_of(target)
        if layer not in RANK:  # the package itself, or a public name of it
            if own not in ROOT_USERS:
                found.append(f"{module}:{line} imports {target}")
        elif RANK[layer] > RANK[own]:
            found.append(f"{module}:{line} ({own}) imports {target} ({layer})")
    return found


def modules() -> list[tuple[str, Path]]:
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] != "data" and parts != ("__init__",):
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            names.append((".".join(("tracejit", *parts)), path))
    return names


@pytest.mark.parametrize(("module", "path"), modules(), ids=[m for m, _ in modules()])
def test_imports_go_leftwards(module, path):
    assert layer_of(module) in RANK, f"{module} is in no layer: add it to LAYERS"
    assert breaches(path.read_text("utf-8"), module) == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("from tracejit.ir.node import Node", 0),
        ("from tracejit import config, dtypes", 0),
        ("from tracejit.jit.compile import compile", 1),
        ("def f():\n    import tracejit.nn", 1),
        ("class A:\n    def f(self):\n        from tracejit import cli", 1),
        ("import tracejit", 1),
        ("if TYPE_CHECKING:\n    from tracejit.jit import compile", 0),
        ("if not x:\n    from tracejit.jit import compile", 1),
    ],
)  # fmt: skip
def test_the_test_finds_breaches(source, count):
    assert len(breaches(source, "tracejit.transforms.somewhere")) == count


def test_only_known_layers_import_numba():
    users = {
        layer_of(module)
        for module, path in modules()
        for _, target in imports(ast.parse(path.read_text("utf-8")))
        if target.split(".")[0] in ("numba", "llvmlite")
    }
    assert users <= {"codegen", "runtime"}


def test_test_files_have_names_of_their_own() -> None:
    """pytest imports a test file by its base name: two of one name stop the whole run."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)


# --- sizes -----------------------------------------------------------------------------------

MOST_LINES_OF_A_FILE = 500
MOST_LINES_OF_A_FUNCTION = 40
LARGER: set[str] = set()
"""Modules that are too long yet; the list only shrinks."""
LONGER: set[tuple[str, str]] = set()
"""Functions that are too long yet; the list only shrinks."""


def long_functions(source: str) -> Iterator[str]:
    """The names of functions whose body (signatures are torch's) is too long."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            if node.end_lineno - node.body[0].lineno >= MOST_LINES_OF_A_FUNCTION:
                yield node.name


def test_files_fit_on_a_few_pages_and_functions_on_one():
    long_files, found = set(), set()
    for module, path in modules():
        source = path.read_text("utf-8")
        if source.count("\n") > MOST_LINES_OF_A_FILE:
            long_files.add(module)
        found |= {(module, name) for name in long_functions(source)}
    assert long_files <= LARGER
    assert found <= LONGER


def test_a_long_function_is_found():
    body = "    pass\n" * MOST_LINES_OF_A_FUNCTION
    assert list(long_functions(f"def f():\n{body}    pass")) == ["f"]
    assert not list(long_functions(f"def f():\n{body}"))
