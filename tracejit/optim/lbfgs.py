"""L-BFGS (Nocedal and Wright, *Numerical Optimization*, chapter 7), with a Wolfe line search.

Invariant: the parameters are one flat vector here; the loss is re-evaluated through the closure, so
values are read back to Python and a step is not meant to be compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracejit.eager.joining import cat
from tracejit.eager.modes import enable_grad, no_grad
from tracejit.errors import at_user_line
from tracejit.optim.optimizer import Optimizer, check_options
from tracejit.optim.wolfe import line_search

Objective = Callable[[float], tuple[float, Any]]


class LBFGS(Optimizer):
    """Quasi-Newton steps from the last `history_size` changes of the gradient.

    max_iter          iterations in one `step`; max_eval: evaluations (default 1.25 max_iter).
    tolerance_grad    stop when no gradient element exceeds it; tolerance_change: nor any change.
    line_search_fn    None (steps of length lr) or 'strong_wolfe'.

    `step` needs a closure that clears gradients, computes the loss, calls backward, returns it.
    """

    def __init__(
        self, params: Any, lr: Any = 1, max_iter: int = 20, max_eval: int | None = None,
        tolerance_grad: float = 1e-7, tolerance_change: float = 1e-9, history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:  # fmt: skip
        check_options(lr=lr)
        if line_search_fn not in (None, "strong_wolfe"):
            raise RuntimeError(at_user_line("only 'strong_wolfe' is supported"))
        super().__init__(params, {
            "lr": lr, "max_iter": max_iter,
            "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change,
            "history_size": history_size, "line_search_fn": line_search_fn,
        })  # fmt: skip
        if len(self.param_groups) != 1:
            raise ValueError(
                at_user_line("LBFGS doesn't support per-parameter options (parameter groups)")
            )
        self._params = self.param_groups[0]["params"]

    # --- the parameters as one vector --------------------------------------------------------

    def _gradient(self) -> Any:
        return cat([
            (p.new_zeros(p.numel()) if p.grad is None else p.grad.reshape(-1))
            for p in self._params
        ])  # fmt: skip

    def _move(self, length: float, direction: Any) -> None:
        at = 0
        for p in self._params:
            count = p.numel()
            p.add_(direction[at : at + count].reshape(p.shape) * length)
            at += count

    def _objective(self, closure: Callable[[], Any], direction: Any) -> Objective:
        """Loss and gradient at a distance along `direction`; the parameters come back."""
        start = [p.detach().clone() for p in self._params]

        def evaluate(length: float) -> tuple[float, Any]:
            self._move(length, direction)
            loss = _run(closure)
            gradient = self._gradient()
            for p, held in zip(self._params, start, strict=True):
                p.copy_(held)
            return loss, gradient

        return evaluate

    # --- the step ----------------------------------------------------------------------------

    def _run(self, closure: Callable[[], Any] | None) -> Any:
        if closure is None:
            raise TypeError(at_user_line("LBFGS.step needs a closure that re-evaluates the loss"))
        with no_grad():
            return self._minimize(closure)

    def _minimize(self, closure: Callable[[], Any]) -> Any:
        group = self.param_groups[0]
        state = self.state[self._params[0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        with enable_grad():
            first = closure()
        loss, evaluations = float(first), 1
        state["func_evals"] += 1
        gradient = self._gradient()
        if float(gradient.abs().max()) <= group["tolerance_grad"]:
            return first
        for iteration in range(1, group["max_iter"] + 1):
            state["n_iter"] += 1
            direction = self._direction(state, gradient, group["history_size"])
            state["prev_flat_grad"], before = gradient.clone(), loss
            state["prev_loss"] = before
            slope = float(gradient.dot(direction))
            length = float(group["lr"])
            if state["n_iter"] == 1:
                length *= min(1.0, 1.0 / float(gradient.abs().sum()))
            if slope > -group["tolerance_change"]:
                break
            loss, gradient, length, used = self._advance(
                closure, group, direction, length, loss, gradient, slope,
                last=iteration == group["max_iter"],
            )  # fmt: skip
            state["d"], state["t"] = direction, length
            evaluations += used
            state["func_evals"] += used
            if evaluations >= group["max_eval"] or self._done(
                group, gradient, direction, length, loss - before
            ):
                break
        return first

    @staticmethod
    def _done(group: Any, gradient: Any, direction: Any, length: float, change: float) -> bool:
        small = float(group["tolerance_change"])
        if float(gradient.abs().max()) <= float(group["tolerance_grad"]):
            return True
        return float((direction * length).abs().max()) <= small or abs(change) < small

    def _advance(
        self, closure: Callable[[], Any], group: Any, direction: Any, length: float, loss: float,
        gradient: Any, slope: float, last: bool,
    ) -> tuple[float, Any, float, int]:  # fmt: skip
        """Move along the direction: the new loss, gradient, length and evaluations used."""
        if group["line_search_fn"] == "strong_wolfe":
            evaluate = self._objective(closure, direction)
            scale = float(direction.abs().max())
            found = line_search(evaluate, direction, length, loss, gradient, slope, scale)
            self._move(found.length, direction)
            return found.loss, found.gradient, found.length, found.evaluations
        self._move(length, direction)
        if last:
            return loss, gradient, length, 0
        return _run(closure), self._gradient(), length, 1

    def _direction(self, state: dict[str, Any], gradient: Any, history: int) -> Any:
        """Minus the gradient times the approximate inverse Hessian (the two-loop recursion)."""
        if "d" not in state:
            state.update(old_dirs=[], old_stps=[], ro=[], H_diag=1)
            return -gradient
        change = gradient - state["prev_flat_grad"]
        step = state["d"] * state["t"]
        curvature = float(change.dot(step))
        if curvature > 1e-10:
            if len(state["old_dirs"]) == history:
                for name in ("old_dirs", "old_stps", "ro"):
                    state[name].pop(0)
            state["old_dirs"].append(change)
            state["old_stps"].append(step)
            state["ro"].append(1.0 / curvature)
            state["H_diag"] = curvature / float(change.dot(change))
        q = -gradient
        memory = list(zip(state["old_dirs"], state["old_stps"], state["ro"], strict=True))
        weights = []
        for y, s, rho in reversed(memory):
            weight = float(s.dot(q)) * rho
            weights.append(weight)
            q = q - y * weight
        state["al"] = weights[::-1]
        r = q * state["H_diag"]
        for (y, s, rho), weight in zip(memory, reversed(weights), strict=True):
            r = r + s * (weight - float(y.dot(r)) * rho)
        return r


def _run(closure: Callable[[], Any]) -> float:
    with enable_grad():
        return float(closure())
