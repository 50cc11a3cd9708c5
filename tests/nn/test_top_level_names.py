"""Names of ``torch`` itself that stand for functions elsewhere, and windows.

Expected window values are torch 2.13's. Invariant: a name computes what its namesake computes.
"""

from __future__ import annotations

import math

import pytest

import tracejit as torch
from tracejit.nn import functional as F


def test_functions_with_arguments_in_another_order() -> None:
    x, w, b = torch.randn(4, 6), torch.randn(6), torch.randn(6)
    assert torch.equal(torch.layer_norm(x, (6,), w, b, 1e-3), F.layer_norm(x, (6,), w, b, 1e-3))
    assert torch.equal(torch.group_norm(x, 2, w, b), F.group_norm(x, 2, w, b))
    mean, var = torch.zeros(6), torch.ones(6)
    got = torch.batch_norm(x, w, b, mean, var, False, 0.1, 1e-5)
    assert torch.equal(got, F.batch_norm(x, mean, var, w, b))
    table = torch.randn(5, 3)
    index = torch.tensor([1, 4])
    assert torch.equal(torch.embedding(table, index), table[index])
    values, places = torch.adaptive_max_pool1d(x, 2)
    assert values.shape == places.shape == (4, 2)
    assert torch.equal(torch.dropout(x, 0.5, False), x)
    assert torch.vmap(lambda v: v.sum())(x).shape == (4,)
    assert torch.cosine_similarity(x, x).shape == (4,)


def test_cells() -> None:
    cell = torch.nn.LSTMCell(3, 4)
    x, h, c = torch.randn(2, 3), torch.randn(2, 4), torch.randn(2, 4)
    weights = (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
    for got, want in zip(torch.lstm_cell(x, (h, c), *weights), cell(x, (h, c)), strict=True):
        assert torch.allclose(got, want)
    gru = torch.nn.GRUCell(3, 4)
    weights = (gru.weight_ih, gru.weight_hh, gru.bias_ih, gru.bias_hh)
    assert torch.allclose(torch.gru_cell(x, h, *weights), gru(x, h))


def test_windows() -> None:
    def near(got: torch.Tensor, want: list[float]) -> bool:
        return got.tolist() == pytest.approx(want, abs=1e-6)

    assert near(torch.hann_window(4), [0.0, 0.5, 1.0, 0.5])
    assert near(torch.hann_window(5, periodic=False), [0.0, 0.5, 1.0, 0.5, 0.0])
    assert near(torch.hamming_window(4), [0.08, 0.54, 1.0, 0.54])
    assert near(torch.bartlett_window(4), [0.0, 0.5, 1.0, 0.5])
    assert near(torch.blackman_window(4), [0.0, 0.34, 1.0, 0.34])
    windows = torch.signal.windows
    assert near(windows.cosine(2), [math.sqrt(0.5)] * 2)
    assert near(windows.gaussian(3), [math.exp(-0.5), 1.0, math.exp(-0.5)])
    assert near(windows.exponential(3), [math.exp(-1), 1.0, math.exp(-1)])
    assert windows.hann(1).tolist() == [1.0] and windows.hann(0).shape == (0,)
    assert windows.hann(3, dtype=torch.float64, requires_grad=True).requires_grad
    with pytest.raises(RuntimeError):
        windows.hann(-1)
    with pytest.raises(RuntimeError):
        windows.hann(3, dtype=torch.int64)
    with pytest.raises(ValueError):
        windows.gaussian(3, std=0.0)


def test_names_of_backends() -> None:
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_stacked_recurrent_functions(kind: str) -> None:
    net = getattr(torch.nn, kind)(3, 4, num_layers=2, bidirectional=True, batch_first=True)
    x = torch.randn(2, 5, 3)
    first = torch.randn(4, 2, 4)
    state = (first, first + 1) if kind == "LSTM" else first
    params = [p for group in net.all_weights for p in group]
    function = getattr(torch, kind.lower())
    y, *last = function(x, state, params, True, 2, 0.0, False, True, True)
    expected, final = net(x, state)
    assert torch.allclose(y, expected)
    final = final if kind == "LSTM" else (final,)
    assert all(torch.allclose(a, b) for a, b in zip(last, final, strict=True))
    with pytest.raises(RuntimeError, match="15 parameters do not make 4 layers"):
        function(x, state, params[:-1], True, 2, 0.0, False, True, True)


def test_histogramdd() -> None:
    points = torch.tensor([[0.0, 0.0], [0.9, 0.1], [1.0, 1.0], [5.0, 0.0]])
    hist, edges = torch.histogramdd(points, bins=[2, 2], range=[0.0, 1.0, 0.0, 1.0])
    assert hist.tolist() == [[1.0, 0.0], [1.0, 1.0]]  # the last point is outside
    assert [e.tolist() for e in edges] == [[0.0, 0.5, 1.0]] * 2
    dense, _ = torch.histogramdd(points, edges, density=True)
    assert float((dense * 0.25).sum()) == pytest.approx(1.0)
    with pytest.raises(RuntimeError, match="2 columns need as many bins, got 3"):
        torch.histogramdd(points, bins=[2, 2, 2])


def test_counts_are_drawn_by_the_seed() -> None:
    def draw():
        generator = torch.Generator().manual_seed(3)
        rates = torch.full((1000,), 4.0)
        chance = torch.tensor(0.25)
        return (torch.poisson(rates, generator=generator),
                torch.binomial(rates * 2, chance, generator=generator))  # fmt: skip

    (poisson, binomial), again = draw(), draw()
    assert torch.equal(poisson, again[0]) and torch.equal(binomial, again[1])
    assert abs(poisson.mean() - 4) < 0.3 and abs(binomial.mean() - 2) < 0.2
    with pytest.raises(RuntimeError, match="non-negative"):
        torch.poisson(torch.tensor([-1.0]))


def test_default_device() -> None:
    assert torch.get_default_device() == torch.device("cpu")

    @torch.compile
    def scaled(x):
        return x * torch.ones(3)

    scaled(torch.ones(3)), scaled(torch.ones(3))
    with torch.device("sim"):
        made = [torch.zeros(2), torch.rand(2), torch.tensor([1.0]), torch.nn.Linear(2, 2).weight]
        assert all(t.device.type == "sim" for t in made)
        assert torch.zeros(2, device="cpu").device.type == "cpu"
        assert scaled(torch.ones(3)).device.type == "sim"
    assert torch.zeros(2).device.type == "cpu" and scaled(torch.ones(3)).device.type == "cpu"
    torch.set_default_device("sim")
    try:
        assert torch.arange(3).device.type == "sim"
    finally:
        torch.set_default_device(None)


def test_places_where_torch_keeps_classes() -> None:
    from tracejit.distributions.normal import Normal

    from tracejit.distributions import constraints
    from tracejit.distributions.transforms import StickBreakingTransform

    assert Normal is torch.distributions.Normal
    assert StickBreakingTransform is torch.distributions.StickBreakingTransform
    assert torch.nn.modules.Linear is torch.nn.Linear

    class Own(torch.distributions.Distribution):
        @constraints.dependent_property(is_discrete=False, event_dim=0)
        def support(self):
            return constraints.interval(0.0, 1.0)

    assert Own(validate_args=False).support.check(torch.tensor(0.5))


def test_switches_can_be_read_again() -> None:
    torch.set_anomaly_enabled(True)
    assert torch.is_anomaly_enabled()
    torch.set_anomaly_enabled(False)
    torch.set_deterministic_debug_mode("error")
    assert torch.get_deterministic_debug_mode() == 2
    assert torch.are_deterministic_algorithms_enabled()
    torch.set_deterministic_debug_mode(0)
    assert not torch.set_flush_denormal(True)
    assert torch.sym_max(2, 3.0) == 3.0 and torch.sym_int(-2.5) == -2


def test_a_name_that_is_left_out_says_why() -> None:
    from tracejit.left_out import LEFT_OUT

    assert not [name for name in LEFT_OUT if hasattr(torch, name)]
    with pytest.raises(AttributeError, match="'stft': tensors of complex numbers do not exist"):
        torch.stft  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'no_such_name'$"):
        torch.no_such_name  # noqa: B018


def test_states_of_random_numbers_by_device() -> None:
    before = torch.cuda.get_rng_state()
    first = torch.rand(3)
    torch.cuda.set_rng_state(before)
    assert torch.equal(torch.rand(3), first)
    assert len(torch.cuda.get_rng_state_all()) == torch.cuda.device_count()
    torch.cuda.set_rng_state_all([before])
    assert torch.equal(torch.rand(3), first) and torch.cuda.initial_seed() == torch.initial_seed()
