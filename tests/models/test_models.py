"""Ordinary models learn the same, eager and compiled: losses, weights, changing sizes, eval mode.

Invariant: both runs start from one seed and draw the same batches; no other library is asked.
"""

import warnings

import numpy as np
import pytest
from models.model_zoo import GAN, GPT, MODELS, VAE

import tracejit as torch
from tracejit.errors import TraceWarning

SIZES = (5, 5, 7, 5)
CLOSE = {"rtol": 2e-5, "atol": 2e-6}


@pytest.fixture(autouse=True)
def no_fallback():
    """A function that runs eagerly after all says so with a TraceWarning: a failure here."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", TraceWarning)
        yield


def optimizer_of(model):
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-2, eps=1e-4)


def train(kind, way):
    """The losses of a short training (with a schedule, clipping and a last batch in eval mode)
    and the weights after it; `way` is eager, step (all of it compiled) or model."""
    torch.manual_seed(0)
    model = kind()
    optimizer = optimizer_of(model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.9**epoch)
    called = torch.compile(model) if way == "model" else model

    def step(loss_of):
        optimizer.zero_grad()
        loss = loss_of(called)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    run = torch.compile(step) if way == "step" else step
    losses = []
    for size in SIZES:
        losses.append(run(model.loss(size)).item())
        schedule.step()
    model.eval()
    losses.append(model.loss(5)(called).item())
    return losses, {k: v.detach().numpy() for k, v in model.state_dict().items()}


def assert_same(found, expected):
    np.testing.assert_allclose(found[0], expected[0], **CLOSE)
    assert found[1].keys() == expected[1].keys()
    for name, value in expected[1].items():
        np.testing.assert_allclose(found[1][name], value, err_msg=name, **CLOSE)


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
def test_compiled_step_learns_the_same(kind):
    expected = train(kind, "eager")
    assert len(set(expected[0])) == len(SIZES) + 1, "the loss does not move"
    assert_same(train(kind, "step"), expected)


@pytest.mark.parametrize("kind", [GPT, VAE], ids=lambda kind: kind.__name__)
def test_compiled_model_learns_the_same(kind):
    assert_same(train(kind, "model"), train(kind, "eager"))


def train_gan(compiled):
    torch.manual_seed(0)
    model = GAN()
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (model.D, model.G)]
    step = torch.compile(model.step) if compiled else model.step
    losses = [step(optimizers, torch.randn(n, 3), torch.randn(n, 2)).item() for n in SIZES]
    return losses, {k: v.detach().numpy() for k, v in model.state_dict().items()}


def test_gan_step_shares_values_between_backward_passes():
    assert_same(train_gan(True), train_gan(False))


def test_generate_draws_the_same_tokens():
    torch.manual_seed(0)
    model = GPT().eval()
    found = []
    for run in (model.generate, torch.compile(model.generate)):
        torch.manual_seed(1)
        found.append(run(torch.zeros((2, 1), dtype=torch.long), 6, 3).tolist())
    assert found[0] == found[1]
