"""docs/conformance.md: the tables as a page.

Invariant: every figure was measured by the command; only the known differences are prose.
"""

from __future__ import annotations

import collections

import torch

from bench.conformance.report import Report, table

HEADER = f"""# Conformance with torch

How far tracejit agrees with torch {torch.__version__.partition("+")[0]}, by torch's own samples
(`op_db`, `module_db`, `optim_db` of `torch.testing._internal`), on the CPU, in the dtypes both
have. Written by a command, but for what says how the figures were gathered:

```text
python -m bench.torch_conformance --samples 3 --keep results.json --write docs/conformance.md
```

`names` counts what was measured, `wholly agree` those of which every sample agrees. Results of
several runs are gathered in the file of `--keep`; what is measured again replaces what was there,
and a kind with fewer names than its neighbours has not been run over all of them yet.
"""

KINDS = """
| kind | what must agree |
| --- | --- |
| value, method, inplace, out | values, dtype, shape; the tensor written to is the one returned |
| keyword | every argument passed by torch's name for it |
| grad, gradgrad | gradients, and gradients of gradients, in float64 |
| error | what torch refuses is refused, with the same class of error |
| compiled | the second call of the compiled function: torch's values, and the bits of eager code |
| traced, traced grad | compiled and step grad, run by the interpreter (`--interpret`) |
| captured | that call replayed a trace; it did not run eagerly |
| step grad | forward and `backward()` inside one compiled function |
| state, repr | `state_dict` keys, shapes, dtypes; what `print(module)` shows |
| steps, state_dict, schedule | parameters after six steps; torch's state loads; learning rates |
"""

SCOPE = """
## Out of scope

Complex numbers (and with them `fft`, `stft`, general `eig`), sparse, quantised, nested and named
tensors, TorchScript, and torch's private functions (`torch._foreach_...`, `torch.ops`,
`native_...`). They raise an error that names what is missing.

## Differences on purpose

- `foreach`, `fused` and `capturable` of optimizers choose among torch's kernels. Here a compiled
  step is fused in any case, so they are checked and kept in the groups, and change nothing.
- Muon's iteration runs in the parameter's dtype; torch rounds it to bfloat16.
- `LBFGS.step` steers by values at every turn, so a compiled step runs eagerly, and says so.
- `cholesky_solve` and `cholesky_inverse` have gradient 0 for the triangle that is never read.
- `as_strided_scatter` has the gradient of the elements that stay; torch's mistakes them for those
  that are overwritten.
- `linalg.pinv(hermitian=True)` reads one triangle; torch's gradient reads the other one, too, which
  shows where the argument is not symmetric.
- The second derivative of a norm at 0 is 0 where torch's is NaN.
- Bases of null spaces (`svd` with `full_matrices`) are not determined and differ from torch's.
- Results in float16 are rounded after each op; where torch keeps wider numbers inside
  (attention, `addbmm`, trilinear `interpolate`) they differ in the last digit or two, and
  `matrix_exp` of large halves is finite where torch's is NaN.
- `polygamma` at a pole is inf, which torch misses by rounding the pole.
- Functions whose result shapes depend on data (`nonzero`, `unique`, `masked_select`, ...) cut the
  trace where the data is read; another outcome grows the tree of traces.
- Random functions draw from tracejit's own Philox streams: the same seed gives the same numbers
  eagerly and compiled, but not torch's numbers. Gamma, Poisson, binomial and von Mises variables
  are made by NumPy's generators, keyed by that stream.
- A gamma draw's gradient is that of its quantile to 12 digits; torch's is an approximation to 4.
- `out=` is written after the result is computed, so an overlap with an input does no harm and is
  not refused; names that torch's own samples mark as partial appear below for that reason.
  Factories, and pools and activations of `nn.functional`, convert to another dtype of `out`.
"""


def write_page(path: str, report: Report) -> None:
    """Write the tables, then the names that do not agree wholly."""
    cells: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
    for (section, name, kind), tally in report.tallies.items():
        if tally.verdict in ("part", "none", "missing") and not section.startswith("names"):
            total = tally.passed + tally.failed
            share = "missing" if tally.missing else f"{tally.passed} of {total}"
            cells[section, name].append(f"{kind} {share}")
    missing = collections.defaultdict(list)
    for (section, name, _), tally in report.tallies.items():
        if tally.missing and section.startswith("names"):
            missing[section].append(name.removeprefix(section.removeprefix("names in ") + "."))
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{HEADER}\n{table(report.rows())}\n{KINDS}{SCOPE}")
        file.write("\n## What does not agree wholly\n\n")
        for (section, name), parts in sorted(cells.items()):
            file.write(f"- {section} `{name}`: {', '.join(parts)}\n")
        file.write("\n## Names that torch has and tracejit has not\n\n")
        for section, names in missing.items():
            file.write(f"- {section}: {', '.join(f'`{n}`' for n in sorted(names))}\n")
