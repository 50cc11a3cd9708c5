"""Recurrent layers, attention and transformers against NumPy, gradients numeric."""

from __future__ import annotations

import math

import numpy as np
import pytest
from nn_reference import check_gradients, gru, lstm, softmax, tensor

import tracejit as torch
import tracejit.nn as nn
import tracejit.nn.functional as F
from tracejit.nn.utils.rnn import (
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
    unpad_sequence,
)

_rng = np.random.default_rng(3)
_X = _rng.normal(size=(5, 2, 3))


def _weights(layer, index=0):
    return [w.detach().numpy() for w in layer.all_weights[index]]


def test_lstm_layers():
    layer = nn.LSTM(3, 4, num_layers=2).double()
    y, (h, c) = layer(tensor(_X))
    first, h0, c0 = lstm(_X, _weights(layer, 0))
    second, h1, c1 = lstm(first, _weights(layer, 1))
    np.testing.assert_allclose(y.detach().numpy(), second, rtol=1e-9)
    np.testing.assert_allclose(h.detach().numpy(), [h0, h1], rtol=1e-9)
    np.testing.assert_allclose(c.detach().numpy(), [c0, c1], rtol=1e-9)


def test_gru_in_both_directions_and_batch_first():
    layer = nn.GRU(3, 4, bidirectional=True, batch_first=True).double()
    y, h = layer(tensor(_X.transpose(1, 0, 2)))
    forward, hf = gru(_X, _weights(layer, 0))
    backward, hb = gru(_X[::-1], _weights(layer, 1))
    expected = np.concatenate([forward, backward[::-1]], -1).transpose(1, 0, 2)
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-9)
    np.testing.assert_allclose(h.detach().numpy(), [hf, hb], rtol=1e-9)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_rnn_and_its_cell_agree(nonlinearity):
    layer = nn.RNN(3, 4, nonlinearity=nonlinearity).double()
    cell = nn.RNNCell(3, 4, nonlinearity=nonlinearity).double()
    cell.load_state_dict({k[:-3]: v for k, v in layer.state_dict().items()})
    h = None
    for step in _X:
        h = cell(tensor(step), h)
    np.testing.assert_allclose(layer(tensor(_X))[1][0].detach().numpy(), h.detach().numpy())


def test_cells_run_single_examples():
    cell = nn.LSTMCell(3, 4)
    h, c = cell(torch.ones(3))
    batched = cell(torch.ones(1, 3))
    assert torch.allclose(h, batched[0][0]) and torch.allclose(c, batched[1][0])
    assert nn.GRUCell(3, 4)(torch.ones(3)).shape == (4,)


def test_recurrent_gradients_and_projection():
    layer = nn.LSTM(2, 3, proj_size=2).double()
    assert layer.weight_hr_l0.shape == (2, 3)
    check_gradients(lambda x: layer(x)[0], _X[:3, :, :2])
    y, (h, c) = layer(tensor(_X[:, :, :2]))
    assert y.shape == (5, 2, 2) and h.shape == (1, 2, 2) and c.shape == (1, 2, 3)


def test_packed_sequences_stop_at_their_own_length():
    layer = nn.LSTM(3, 4, bidirectional=True).double()
    items = [tensor(_rng.normal(size=(n, 3))) for n in (2, 5, 3)]
    packed = pack_sequence(items, enforce_sorted=False)
    y, (h, _) = layer(packed)
    padded, lengths = pad_packed_sequence(y)
    assert lengths.tolist() == [2, 5, 3] and padded.shape == (5, 3, 8)
    for i, item in enumerate(items):
        alone, (ha, _) = layer(item)
        n = item.shape[0]
        got = padded[:n, i].detach().numpy()
        np.testing.assert_allclose(got, alone.detach().numpy(), rtol=1e-9)
        np.testing.assert_allclose(h[:, i].detach().numpy(), ha.detach().numpy(), rtol=1e-9)
        assert (padded[n:, i] == 0).all()


def test_padding_helpers():
    items = [torch.ones(2), torch.ones(4)]
    assert pad_sequence(items, batch_first=True, padding_value=-1).tolist() == [
        [1, 1, -1, -1], [1, 1, 1, 1],
    ]  # fmt: skip
    left = pad_sequence(items, padding_side="left")
    assert left[:, 0].tolist() == [0, 0, 1, 1]
    back = unpad_sequence(pad_sequence(items), torch.tensor([2, 4]))
    assert [b.tolist() for b in back] == [[1, 1], [1, 1, 1, 1]]
    with pytest.raises(RuntimeError, match="decreasing order"):
        pack_padded_sequence(torch.zeros(4, 2, 1), [2, 4])


def test_wrong_sizes_raise():
    with pytest.raises(RuntimeError, match="Expected 3, got 2"):
        nn.LSTM(3, 4)(torch.zeros(5, 1, 2))
    with pytest.raises(RuntimeError, match="hidden state of size"):
        nn.GRU(3, 4)(torch.zeros(5, 1, 3), torch.zeros(1, 2, 4))
    with pytest.raises(ValueError, match="only supported for LSTM"):
        nn.GRU(3, 4, proj_size=2)


# --- attention -------------------------------------------------------------------------------

_Q, _K, _V = (_rng.normal(size=(2, 3, n, 4)) for n in (5, 6, 6))


def _attend(q, k, v, mask=None, scale=0.5):
    scores = q @ k.swapaxes(-1, -2) * scale
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    return softmax(scores) @ v


def test_attention_masks():
    qkv = [tensor(a) for a in (_Q, _K, _V)]
    attention = F.scaled_dot_product_attention
    np.testing.assert_allclose(attention(*qkv).numpy(), _attend(_Q, _K, _V), rtol=1e-9)
    causal = np.tril(np.ones((5, 6), bool))
    expected = _attend(_Q, _K, _V, causal)
    np.testing.assert_allclose(attention(*qkv, is_causal=True).numpy(), expected, rtol=1e-9)
    by_mask = attention(*qkv, attn_mask=torch.tensor(causal))
    np.testing.assert_allclose(by_mask.numpy(), expected, rtol=1e-9)
    additive = attention(*qkv, attn_mask=tensor(np.where(causal, 0.0, -np.inf)))
    np.testing.assert_allclose(additive.numpy(), expected, rtol=1e-9)
    scaled = attention(*qkv, scale=0.1)
    np.testing.assert_allclose(scaled.numpy(), _attend(_Q, _K, _V, None, 0.1), rtol=1e-9)
    with pytest.raises(RuntimeError, match="exclude each other"):
        attention(*qkv, attn_mask=torch.tensor(causal), is_causal=True)


def test_attention_gradients_and_rows_without_keys():
    check_gradients(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        _Q[0, :1, :3], _K[0, :1, :3], _V[0, :1, :3],
    )  # fmt: skip
    mask = torch.tensor([[True, False], [False, False]])
    q = torch.randn(1, 2, 4, requires_grad=True)
    y = F.scaled_dot_product_attention(q, torch.randn(1, 2, 4), torch.randn(1, 2, 4), mask)
    y.sum().backward()
    assert (y[0, 1] == 0).all() and q.grad.isfinite().all()


def test_grouped_queries_share_keys():
    q, k, v = tensor(_Q[:, [0, 1, 2, 0]]), tensor(_K[:, :2]), tensor(_V[:, :2])
    got = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    expected = _attend(_Q[:, [0, 1, 2, 0]], _K[:, [0, 0, 1, 1]], _V[:, [0, 0, 1, 1]])
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-9)


def test_attention_dropout_keeps_the_mean():
    ones = torch.ones(1, 1, 200, 4)
    y = F.scaled_dot_product_attention(ones, ones, ones, dropout_p=0.5)
    assert abs(y.mean().item() - 1) < 0.05 and y.std().item() > 0.01


@pytest.mark.parametrize("need_weights", [True, False])
def test_multihead_attention(need_weights):
    layer = nn.MultiheadAttention(4, 2, batch_first=True).double()
    x = _rng.normal(size=(2, 5, 4))
    y, weights = layer(*[tensor(x)] * 3, need_weights=need_weights)
    w, b = layer.in_proj_weight.detach().numpy(), layer.in_proj_bias.detach().numpy()
    heads = (x @ w.T + b).reshape(2, 5, 3, 2, 2).transpose(2, 0, 3, 1, 4)
    attended = _attend(*heads, None, 1 / math.sqrt(2)).transpose(0, 2, 1, 3).reshape(2, 5, 4)
    out = layer.out_proj
    expected = attended @ out.weight.detach().numpy().T + out.bias.detach().numpy()
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-9)
    assert (weights is not None) == need_weights
    if need_weights:
        np.testing.assert_allclose(weights.sum(-1).detach().numpy(), 1.0)


def test_padding_and_causal_masks_hide_keys():
    layer = nn.MultiheadAttention(4, 2).double()
    x = tensor(_rng.normal(size=(5, 2, 4)))
    hidden = torch.tensor([[False] * 5, [False, False, False, True, True]])
    _, weights = layer(x, x, x, key_padding_mask=hidden)
    assert (weights[1, :, 3:] == 0).all() and (weights[0, :, 3:] > 0).all()
    mask = nn.Transformer.generate_square_subsequent_mask(5).double()
    _, weights = layer(x, x, x, attn_mask=mask, average_attn_weights=False)
    assert weights.shape == (2, 2, 5, 5) and (weights.triu(1) == 0).all()


def test_transformer_is_causal_and_has_torchs_names():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).double()
    net = nn.TransformerEncoder(layer, 2)
    assert "layers.1.self_attn.in_proj_weight" in net.state_dict()
    assert "layers.0.norm2.bias" in net.state_dict()
    mask = nn.Transformer.generate_square_subsequent_mask(6).double()
    x = _rng.normal(size=(1, 6, 8))
    y = net(tensor(x), mask=mask, is_causal=True).detach().numpy()
    x[0, 4:] += 1.0
    changed = net(tensor(x), mask=mask, is_causal=True).detach().numpy()
    np.testing.assert_allclose(changed[0, :4], y[0, :4], rtol=1e-9)
    assert abs(changed[0, 4:] - y[0, 4:]).max() > 1e-3


@pytest.mark.parametrize("norm_first", [True, False])
def test_encoder_and_decoder_run_together(norm_first):
    net = nn.Transformer(8, 2, 1, 1, 16, 0.0, norm_first=norm_first)
    y = net(torch.randn(5, 2, 8), torch.randn(3, 2, 8))
    y.sum().backward()
    assert y.shape == (3, 2, 8) and all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("shapes", [((2, 8, 300, 24), 300), ((3, 700, 16), 513)])
def test_attention_of_plain_code_is_one_program_with_the_same_bits(monkeypatch, shapes):
    """Where scores are many; with gradients, masks or dropout it takes single operations."""
    from tracejit.nn.functional import attention as module

    real, taken = module.attend_at_once, []

    def attend(*arguments):
        result = real(*arguments)
        taken.append(result is not None)
        return result

    shape, keys = shapes
    q, k, v = torch.randn(shape), *(torch.randn(*shape[:-2], keys, shape[-1]) for _ in range(2))
    for causal in (False, True):
        monkeypatch.setattr(module, "attend_at_once", lambda *arguments: None)
        plain = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        monkeypatch.setattr(module, "attend_at_once", attend)
        assert torch.equal(F.scaled_dot_product_attention(q, k, v, is_causal=causal), plain)
        with torch.no_grad():
            got = F.scaled_dot_product_attention(q.requires_grad_(), k, v, is_causal=causal)
        assert torch.equal(got, plain) and not got.requires_grad
        assert F.scaled_dot_product_attention(q, k, v, is_causal=causal).requires_grad
        q = q.detach()
    F.scaled_dot_product_attention(q[..., :30, :], k, v)
    F.scaled_dot_product_attention(q.double(), k.double(), v.double())
    assert taken == [True, True, False] * 2 + [False, False]
