"""``python -m bench``: see the package's docstring.

python -m bench --quick
python -m bench --peers torch,inductor,jax --only softmax
python -m bench --device cuda
python -m bench --markdown docs/performance.md --summary README.md
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from typing import Any

from bench import gpu, kernels, overhead, process, report, training
from bench.frameworks import OWN, PEERS, Framework
from bench.harness import Case, Timing, run_case

SECTIONS: tuple[tuple[str, list[Case]], ...] = (
    ("Kernels", kernels.CASES),
    ("Training steps", training.CASES),
    ("Overhead", overhead.CASES),
)
_NEW_SIZE = "a batch size never seen before"


def main() -> int:
    options = _parse()
    if options.device != "cpu":
        return gpu.main(options.device, options.peers)
    frameworks = _frameworks(options.peers)
    facts = report.machine(frameworks)
    print("\n".join(facts), flush=True)
    parts: list[tuple[str, list[str], list[list[str]]]] = []
    rows: dict[str, dict[str, Timing]] = {}
    for title, cases in SECTIONS:
        found = _run(title, cases, frameworks, options)
        rows |= found
        _keep(parts, title, *report.case_table(found, {c.name: c.targets for c in cases}))
    figures = _processes(options, [f.name for f in frameworks])
    for title, table in figures.items():
        _keep(parts, title, *report.process_table(table))
    for line in report.problems(rows):
        print(f"not measured: {line}")
    _write(options, facts, parts, rows, figures)
    return 1 if any(t["tracejit"].problem for t in rows.values()) else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    known = ",".join(PEERS)
    parser.add_argument("--peers", default=known, help=f"comma separated, of {known}")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--quick", action="store_true", help="smaller inputs, few rounds")
    parser.add_argument("--device", default="cpu", help="cpu; cuda for the GPU's own cases")
    parser.add_argument("--json", metavar="FILE", help="write every figure there")
    parser.add_argument(
        "--markdown", metavar="FILE", help="write the tables there, between its bench marks"
    )
    parser.add_argument("--summary", metavar="FILE", help="the same for the ratios alone")
    return parser.parse_args()


def _frameworks(peers: str) -> list[Framework]:
    found: list[Framework] = [kind() for kind in OWN]
    for name in filter(None, peers.split(",")):
        if name not in PEERS:
            sys.exit(f"unknown peer {name!r}; there are {', '.join(PEERS)}")
        peer = PEERS[name]()
        missing = peer.why_missing()
        if missing is None:
            found.append(peer)
        else:
            print(f"without {name}: {missing}")
    return found


def _run(
    title: str, cases: list[Case], frameworks: list[Framework], options: argparse.Namespace
) -> dict[str, dict[str, Timing]]:
    measured: dict[str, dict[str, Timing]] = {}
    tasks: list[tuple[str, Callable[[], dict[str, Timing]]]] = [
        (case.name, lambda case=case: run_case(case, frameworks, options.quick)) for case in cases
    ]
    if title == "Overhead":
        tasks.append((_NEW_SIZE, lambda: overhead.new_sizes(frameworks, options.quick)))
    for name, task in tasks:
        if options.only in name:
            print(f"... {name}", file=sys.stderr, flush=True)
            measured[name] = task()
    return measured


def _processes(options: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    if options.only and options.only not in "process":
        return {}
    print("... processes: import, compile, memory", file=sys.stderr, flush=True)
    return process.measure([n for n in names if n not in ("eager", "numpy")])


def _keep(parts: list[Any], title: str, header: list[str], body: list[list[str]]) -> None:
    if body:
        parts.append((title, header, body))
        print(f"\n{title}\n{report.as_text(header, body)}", flush=True)


def _write(
    options: argparse.Namespace, facts: list[str], parts: list[Any],
    rows: dict[str, dict[str, Timing]], figures: dict[str, Any],
) -> None:  # fmt: skip
    if options.json:
        content = {
            "machine": facts,
            "cases": {
                case: {name: dataclasses.asdict(t) for name, t in timings.items()}
                for case, timings in rows.items()
            },
            "processes": figures,
        }
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
    if options.markdown:
        tables = [f"### {title}\n\n{report.as_markdown(h, b)}" for title, h, b in parts]
        text = "\n\n".join(["\n".join(f"- {fact}" for fact in facts), *tables]) + "\n"
        report.write_page(options.markdown, text)
    if options.summary:
        table = report.as_markdown(*report.summary_table(rows))
        report.write_page(options.summary, "\n".join([table, "", *(f"- {fact}" for fact in facts)]))


if __name__ == "__main__":
    sys.exit(main())
