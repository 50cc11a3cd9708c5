"""How far tracejit agrees with torch: torch's own samples of ops, modules and optimizers.

Needs torch and expecttest; not part of the test suite. For every OpInfo, ModuleInfo and
OptimizerInfo of torch and every dtype that both have: values, dtypes, shapes; methods, in-place
and ``out=`` forms; gradients; the same again through ``compile``; and that tracejit refuses what
torch refuses.

    python -m bench.torch_conformance [-k NAME] [-v] [--samples N] [--sections ops,modules,...]
        [--kinds value,grad,...] [--keep FILE] [--write docs/conformance.md] [--interpret]
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
import warnings
from functools import partial
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db

from bench.conformance import compiled, interpreted, modules, ops, optimizers, surface
from bench.conformance.convert import DTYPES, INEXACT, NARROW_SLACK, SIGN_FREE
from bench.conformance.names import is_random, is_skipped, tracejit_function
from bench.conformance.page import write_page
from bench.conformance.report import Missing, Report, table

SECTIONS = ("names", "ops", "modules", "optimizers")


def run_op(info: Any, report: Report, options: argparse.Namespace) -> None:
    """Every kind of check on one OpInfo."""
    name = info.name + (f".{info.variant_test_name}" if info.variant_test_name else "")
    function = tracejit_function(info)
    if function is None:
        report.check("ops", name, "value", "", partial(_missing, name))
        return
    NARROW_SLACK[0] = INEXACT.get(info.name, 1)
    SIGN_FREE[0] = name in ("svd", "linalg.svd", "linalg.eigh")
    for dtype_name in DTYPES:
        dtype = getattr(torch, dtype_name)
        if not info.supports_dtype(dtype, "cpu"):
            continue
        for i, sample in enumerate(ops.samples_of(info, dtype, options.samples)):
            checks = forward_checks(info, function, sample, i, dtype_name)
            for kind, action in checks.items():
                report.check("ops", name, named(kind, options), f"{dtype_name} #{i}", action)
    if info.supports_autograd and info.supports_dtype(torch.float64, "cpu"):
        if not is_random(info):
            run_gradients(info, function, name, report, options)
    if info.error_inputs_func is not None:
        for i, error in enumerate(info.error_inputs("cpu")):
            action = partial(ops.check_error, info, function, error)
            report.check("ops", name, "error", f"#{i}", action)


def _missing(name: str) -> None:
    raise Missing(name)


def forward_checks(info: Any, function: Any, sample: Any, i: int, dtype: str) -> dict[str, Any]:
    """The checks of one sample that need no gradient, by kind."""
    found: dict[str, Any] = {"value": partial(ops.check_value, info, function, sample)}
    if info.method_variant is not None and i < 4:
        found["method"] = partial(ops.check_method, info, sample)
    if info.inplace_variant is not None and i < 8:
        found["inplace"] = partial(ops.check_inplace, info, function, sample)
    if not is_random(info) and dtype == "float32" and i < 8:
        found["keyword"] = partial(ops.check_keyword, info, function, sample)
    if info.supports_out and i < 2:
        found["out"] = partial(ops.check_out, info, function, sample)
    if i < {"float32": 6, "int64": 1, "float16": 1, "bool": 1}.get(dtype, 0):
        calls: list[Any] = []
        found["compiled"] = partial(compiled.check_compiled, info, function, sample, calls)
        found["captured"] = partial(compiled.check_captured, calls)
    return found


def run_gradients(info: Any, function: Any, name: str, report: Report, options: Any) -> None:
    """Gradients in float64, eager and compiled."""
    for i, sample in enumerate(ops.samples_of(info, torch.float64, options.samples, True)):
        checks: dict[str, Any] = {"grad": partial(ops.check_grad, info, function, sample, False)}
        if info.supports_gradgrad and i % 4 == 0:
            checks["gradgrad"] = partial(ops.check_grad, info, function, sample, True)
        if i < 4:
            check = compiled.check_compiled_grad
            checks["compiled grad"] = partial(check, info, function, sample, False)
            checks["step grad"] = partial(check, info, function, sample, True)
        for kind, action in checks.items():
            report.check("ops", name, named(kind, options), f"#{i}", action)


TRACED = {"compiled": "traced", "step grad": "traced grad"}


def named(kind: str, options: Any) -> str:
    """The kind of check; another one where the interpreter runs the traces."""
    return TRACED.get(kind, kind) if options.interpret else kind


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-k", default="", help="only names that hold this (comma separated)")
    parser.add_argument("-x", action="store_true", help="-k means the exact name")
    parser.add_argument("-v", action="store_true", help="print every failure")
    parser.add_argument("--samples", type=int, default=16, help="samples of one op and dtype")
    parser.add_argument("--interpret", action="store_true", help="NumPy in the place of kernels")
    parser.add_argument("--sections", default=",".join(SECTIONS))
    parser.add_argument("--kinds", default="", help="only these kinds of checks")
    parser.add_argument("--write", default="", help="write the tables to this Markdown file")
    parser.add_argument("--shard", default="0/1", help="I/N: only every N-th op, from the I-th")
    parser.add_argument("--keep", default="", help="a file that gathers several runs' results")
    options = parser.parse_args()
    options.kinds = [k for k in options.kinds.split(",") if k]
    options.sections = options.sections.split(",")
    compiled.SAME_BITS[0] = not options.interpret
    wanted = [k for k in options.k.split(",") if k]
    options.wants = lambda name: (
        not wanted or any(name == k if options.x else k in name for k in wanted)
    )
    return options


def main() -> None:
    """Run the chosen sections and print the tables."""
    options = parse()
    if options.interpret:
        interpreted.install()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGPROF, _timed_out)
    report = Report(options.v, options.kinds, options.keep)
    report.load()
    started = time.time()
    if "names" in options.sections:
        surface.run(report, options)
        report.save()
    if "ops" in options.sections:
        shard, shards = map(int, options.shard.split("/"))
        for i, info in enumerate(op_db):
            if i % shards == shard and options.wants(info.name) and not is_skipped(info.name):
                run_op(info, report, options)
                report.save()
    if "modules" in options.sections:
        modules.run(report, options)
        report.save()
    if "optimizers" in options.sections:
        optimizers.run(report, options)
        report.save()
    report = report.whole()
    print(report.failures())
    print(f"\n{table(report.rows())}")
    if options.write:
        write_page(options.write, report)
    print(f"{time.time() - started:.0f} s", file=sys.stderr)


def _timed_out(signum: int, frame: Any) -> None:
    raise TimeoutError("took too long")


if __name__ == "__main__":
    main()
