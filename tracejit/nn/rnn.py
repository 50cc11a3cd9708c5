"""Recurrent layers and cells: RNN, LSTM, GRU.

Invariant: parameter names, shapes and gate orders are torch's.
"""

from __future__ import annotations

import math
from typing import Any

from tracejit.eager.factories import empty, zeros
from tracejit.eager.joining import cat, stack
from tracejit.errors import at_user_line
from tracejit.nn import functional as F
from tracejit.nn import init
from tracejit.nn.functional.recurrent import CELLS, run_layer
from tracejit.nn.module import Module
from tracejit.nn.parameter import Parameter
from tracejit.nn.utils.rnn import PackedSequence, pack_by_lengths, pad_to_lengths
from tracejit.tensor import Tensor

_GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "LSTM": 4, "GRU": 3}


def _reset(module: Module, hidden_size: int) -> None:
    bound = 1.0 / math.sqrt(hidden_size) if hidden_size > 0 else 0.0
    for weight in module.parameters():
        init.uniform_(weight, -bound, bound)


class RNNBase(Module):
    """Several layers of one kind of cell, in one or both directions.

    Input [T, N, features], or [N, T, features] with `batch_first`, or [T, features], or a
    `PackedSequence`. States are [layers * directions, N, hidden].
    """

    def __init__(
        self, mode: str, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
        proj_size: int = 0, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        _check_types(self)
        _check_range(mode, hidden_size, dropout, proj_size)
        self.dropout = float(dropout)
        self._names: list[list[str | None]] = []
        for layer in range(num_layers):
            for reverse in range(2 if bidirectional else 1):
                self._make_layer(layer, reverse, {"device": device, "dtype": dtype})
        self.reset_parameters()

    def _make_layer(self, layer: int, reverse: int, how: dict[str, Any]) -> None:
        directions = 2 if self.bidirectional else 1
        width = self.proj_size or self.hidden_size
        inputs = self.input_size if layer == 0 else width * directions
        gates = _GATES[self.mode] * self.hidden_size
        suffix = f"_l{layer}" + ("_reverse" if reverse else "")
        shapes: dict[str, Any] = {"weight_ih": (gates, inputs), "weight_hh": (gates, width)}
        if self.bias:
            shapes.update(bias_ih=(gates,), bias_hh=(gates,))
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, self.hidden_size)
        for name, shape in shapes.items():
            self.register_parameter(name + suffix, Parameter(empty(*shape, **how)))
        order = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        self._names.append([n + suffix if n in shapes else None for n in order])

    def reset_parameters(self) -> None:
        """Draw all parameters uniformly in ``+-1/sqrt(hidden_size)``."""
        _reset(self, self.hidden_size)

    def flatten_parameters(self) -> None:
        """Nothing to do: there is no library that wants one buffer."""

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters, layer by layer and direction by direction."""
        return [[getattr(self, n) for n in names if n is not None] for names in self._names]

    # --- running ----------------------------------------------------------------------------

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        if input.ndim not in (2, 3):
            raise ValueError(
                at_user_line(f"{type(self).__name__}: expected 2D or 3D input, got {input.ndim}D")
            )
        batched = input.ndim == 3
        x = input if batched else input.unsqueeze(1)
        if self.batch_first and batched:
            x = x.transpose(0, 1)
        state = self._initial(hx, x, batched)
        output, last = self._layers(x, state, None)
        if not batched:
            return output.squeeze(1), self._give(tuple(s.squeeze(1) for s in last))
        if self.batch_first:
            output = output.transpose(0, 1)
        return output, self._give(last)

    def _forward_packed(self, input: PackedSequence, hx: Any) -> tuple[Any, Any]:
        x, _, valid = pad_to_lengths(input)
        state = self._initial(hx, x, True)
        if hx is not None and input.sorted_indices is not None:
            state = tuple(s.index_select(1, input.sorted_indices) for s in state)
        output, last = self._layers(x, state, valid)
        if input.unsorted_indices is not None:
            last = tuple(s.index_select(1, input.unsorted_indices) for s in last)
        return pack_by_lengths(output, input), self._give(last)

    def _initial(self, hx: Any, x: Any, batched: bool) -> tuple[Any, ...]:
        """The first state: that given, or zeros."""
        if x.shape[-1] != self.input_size:
            raise RuntimeError(at_user_line(f"input.size(-1) must be equal to input_size. Expected "
                               f"{self.input_size}, got {x.shape[-1]}"))  # fmt: skip
        count = self.num_layers * (2 if self.bidirectional else 1)
        widths = (self.proj_size or self.hidden_size, self.hidden_size)
        widths = widths if self.mode == "LSTM" else widths[:1]  # type: ignore[assignment]
        if hx is None:
            return tuple(
                zeros(count, x.shape[1], w, dtype=x.dtype, device=x.device) for w in widths
            )
        given = tuple(hx) if self.mode == "LSTM" else (hx,)
        if not batched:
            given = tuple(s.unsqueeze(1) for s in given)
        for s, w in zip(given, widths, strict=True):
            if tuple(s.shape) != (count, x.shape[1], w):
                raise RuntimeError(
                    at_user_line(
                        f"expected a hidden state of size {(count, x.shape[1], w)}, "
                        f"got {tuple(s.shape)}"
                    )
                )
        return given

    def _give(self, state: tuple[Any, ...]) -> Any:
        return state if self.mode == "LSTM" else state[0]

    def _layers(self, x: Any, state: tuple[Any, ...], valid: Any) -> tuple[Any, tuple[Any, ...]]:
        directions = 2 if self.bidirectional else 1
        finals = []
        for layer in range(self.num_layers):
            outputs = []
            for reverse in range(directions):
                i = layer * directions + reverse
                weights = [None if n is None else getattr(self, n) for n in self._names[i]]
                first = tuple(s[i] for s in state)
                y, last = run_layer(self.mode, x, first, weights, bool(reverse), valid)
                outputs.append(y)
                finals.append(last)
            x = outputs[0] if directions == 1 else cat(outputs, -1)
            if self.dropout and layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        return x, tuple(stack(list(parts)) for parts in zip(*finals, strict=True))

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        if self.proj_size:
            text += f", proj_size={self.proj_size}"
        if self.num_layers != 1:
            text += f", num_layers={self.num_layers}"
        if self.bias is not True:
            text += f", bias={self.bias}"
        if self.batch_first is not False:
            text += f", batch_first={self.batch_first}"
        if self.dropout:
            text += f", dropout={self.dropout}"
        if self.bidirectional is not False:
            text += f", bidirectional={self.bidirectional}"
        return text


def _check_types(module: RNNBase) -> None:
    """Refuse flags that are no bools and sizes that are no positive ints, as torch does."""
    for name, kind in (("bias", bool), ("batch_first", bool), ("input_size", int),
                       ("hidden_size", int)):  # fmt: skip
        value = getattr(module, name)
        if not isinstance(value, kind):
            raise TypeError(at_user_line(
                f"{name} should be of type {kind.__name__}, got: {type(value).__name__}"
            ))  # fmt: skip
        if kind is int and value <= 0:
            raise ValueError(at_user_line(f"{name} must be greater than zero"))
    if module.num_layers <= 0:
        raise ValueError(at_user_line("num_layers must be greater than zero"))


def _check_range(mode: str, hidden_size: int, dropout: Any, proj_size: int) -> None:
    is_number = isinstance(dropout, (int, float)) and not isinstance(dropout, bool)
    if not is_number or not 0 <= dropout <= 1:
        raise ValueError(
            at_user_line(
                "dropout should be a number in range [0, 1] representing the probability "
                "of an element being zeroed"
            )
        )
    if proj_size < 0 or (proj_size and proj_size >= hidden_size):
        raise ValueError(
            at_user_line("proj_size should be non-negative and smaller than hidden_size")
        )
    if proj_size and mode != "LSTM":
        raise ValueError(
            at_user_line("proj_size argument is only supported for LSTM, not RNN or GRU")
        )


class RNN(RNNBase):
    """Elman's network: ``h = tanh(W x + b + U h + c)``; `nonlinearity` 'tanh' or 'relu'."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "proj_size" in kwargs:
            raise ValueError(
                at_user_line("proj_size argument is only supported for LSTM, not RNN or GRU")
            )
        if len(args) > 3:
            self.nonlinearity = args[3]
            args = args[:3] + args[4:]
        else:
            self.nonlinearity = kwargs.pop("nonlinearity", "tanh")
        if self.nonlinearity not in ("tanh", "relu"):
            raise ValueError(
                at_user_line(
                    f"Unknown nonlinearity {self.nonlinearity!r}. Select from 'tanh' or 'relu'."
                )
            )
        super().__init__(f"RNN_{self.nonlinearity.upper()}", *args, **kwargs)


class LSTM(RNNBase):
    """Long short-term memory; the state is the pair (h, c)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)


class GRU(RNNBase):
    """Gated recurrent units."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "proj_size" in kwargs:
            raise ValueError(
                at_user_line("proj_size argument is only supported for LSTM, not RNN or GRU")
            )
        super().__init__("GRU", *args, **kwargs)


# --- cells -----------------------------------------------------------------------------------


class RNNCellBase(Module):
    """One step of one layer: [N, input] and a state [N, hidden]."""

    weight_ih: Any
    weight_hh: Any
    bias_ih: Any
    bias_hh: Any

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool, num_chunks: int, device: Any = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        how = {"device": device, "dtype": dtype}
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        rows = num_chunks * hidden_size
        self.weight_ih = Parameter(empty(rows, input_size, **how))
        self.weight_hh = Parameter(empty(rows, hidden_size, **how))
        self.register_parameter("bias_ih", Parameter(empty(rows, **how)) if bias else None)
        self.register_parameter("bias_hh", Parameter(empty(rows, **how)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters uniformly in ``+-1/sqrt(hidden_size)``."""
        _reset(self, self.hidden_size)

    def _step(self, mode: str, input: Any, state: Any) -> tuple[Any, ...]:
        name = type(self).__name__
        if input.ndim not in (1, 2):
            raise ValueError(
                at_user_line(f"{name}: expected input to be 1D or 2D, got {input.ndim}D instead")
            )
        single = input.ndim == 1
        x = input.unsqueeze(0) if single else input
        count = 2 if mode == "LSTM" else 1
        if state is None:
            first = zeros(x.shape[0], self.hidden_size, dtype=x.dtype, device=x.device)
            given: tuple[Any, ...] = (first,) * count
        else:
            given = tuple(state) if count == 2 else (state,)
            if any(s.ndim != input.ndim for s in given):
                raise ValueError(
                    at_user_line(f"{name}: expected hidden to be {input.ndim}D like the input")
                )
            given = tuple(s.unsqueeze(0) for s in given) if single else given
        gates = F.linear(x, self.weight_ih, self.bias_ih)
        new = CELLS[mode](gates, given, (self.weight_hh, self.bias_hh, None))
        return tuple(s.squeeze(0) for s in new) if single else new

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        return text + ("" if self.bias is True else f", bias={self.bias}")


class RNNCell(RNNCellBase):
    """One step of `RNN`."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh",
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(at_user_line(f"Unknown nonlinearity: {self.nonlinearity}"))
        return self._step(f"RNN_{self.nonlinearity.upper()}", input, hx)[0]

    def extra_repr(self) -> str:
        text = super().extra_repr()
        return text if self.nonlinearity == "tanh" else f"{text}, nonlinearity={self.nonlinearity}"


class LSTMCell(RNNCellBase):
    """One step of `LSTM`: returns (h, c)."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        return self._step("LSTM", input, hx)


class GRUCell(RNNCellBase):
    """One step of `GRU`."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._step("GRU", input, hx)[0]
