"""Small models written the way public code writes them, with a batch and a loss for each.

Invariant: a model draws everything from the default generator, so that a seed fixes a whole run.
"""

import math
from dataclasses import dataclass
from typing import Any

import tracejit as torch
import tracejit.nn as nn
import tracejit.nn.functional as F


class ResidualNet(nn.Module):
    """Convolutions, batch norm, an in-place sum, dropout."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        x = self.relu(self.stem(x))
        out = self.conv(x)
        out += x
        out = F.max_pool2d(self.relu(out), 2)
        return self.fc(self.drop(out.mean([2, 3])))

    def loss(self, n):
        x = torch.randn(n, 1, 6, 6)
        return lambda model: F.cross_entropy(model(x), torch.arange(x.shape[0]) % 3)


class CharLSTM(nn.Module):
    """A recurrent layer with tied embeddings and a given first state."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Embedding(9, 6)
        self.rnn = nn.LSTM(6, 6, batch_first=True)
        self.decoder = nn.Linear(6, 9)
        self.decoder.weight = self.encoder.weight

    def forward(self, x):
        first = next(self.parameters()).new_zeros(1, x.size(0), 6)
        out, _state = self.rnn(self.encoder(x), (first, first))
        return self.decoder(out)

    def loss(self, n):
        x = torch.randint(0, 9, (n, 3))
        return lambda model: F.cross_entropy(model(x[:, :-1]).reshape(-1, 9), x[:, 1:].reshape(-1))


@dataclass
class GPTConfig:
    vocab: int = 11
    width: int = 8
    heads: int = 2
    block: int = 8


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.ln_1, self.ln_2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.mlp = nn.Sequential(
            nn.Linear(config.width, 16), nn.GELU(), nn.Linear(16, config.width)
        )
        mask = torch.tril(torch.ones(config.block, config.block))
        self.register_buffer("mask", mask.view(1, 1, config.block, config.block))

    def forward(self, x):
        B, T, C = x.size()
        heads = self.config.heads
        q, k, v = self.qkv(self.ln_1(x)).split(C, dim=2)
        q, k, v = (t.view(B, T, heads, C // heads).transpose(1, 2) for t in (q, k, v))
        att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        att = att.masked_fill(self.mask[:, :, :T, :T] == 0, float("-inf"))
        y = F.softmax(att, dim=-1) @ v
        x = x + y.transpose(1, 2).contiguous().view(B, T, C)
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """nanoGPT's shape: a config, a tied head, generation with top-k."""

    def __init__(self):
        super().__init__()
        self.config = config = GPTConfig()
        self.transformer = nn.ModuleDict({
            "wte": nn.Embedding(config.vocab, config.width),
            "wpe": nn.Embedding(config.block, config.width),
            "h": nn.ModuleList([Block(config)]),
        })  # fmt: skip
        self.lm_head = nn.Linear(config.width, config.vocab, bias=False)
        self.transformer.wte.weight = self.lm_head.weight

    def forward(self, idx, targets=None):
        t = idx.size(1)
        assert t <= self.config.block
        x = self.transformer.wte(idx) + self.transformer.wpe(torch.arange(0, t))
        for block in self.transformer.h:
            x = block(x)
        logits = self.lm_head(x)
        if targets is None:
            return logits[:, -1, :], None
        return logits, F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))

    @torch.no_grad()
    def generate(self, idx, count, top_k):
        for _ in range(count):
            logits, _ = self(idx[:, -self.config.block :])
            v, _ = torch.topk(logits, top_k)
            logits[logits < v[:, [-1]]] = -float("inf")
            idx = torch.cat((idx, torch.multinomial(F.softmax(logits, dim=-1), 1)), dim=1)
        return idx

    def loss(self, n):
        x = torch.randint(0, 11, (2, n))
        return lambda model: model(x, x.roll(-1, 1))[1]


class VAE(nn.Module):
    """Noise inside the forward pass."""

    def __init__(self):
        super().__init__()
        self.fc1, self.mu, self.var = nn.Linear(6, 8), nn.Linear(8, 2), nn.Linear(8, 2)
        self.out = nn.Linear(2, 6)

    def forward(self, x):
        h = F.relu(self.fc1(x))
        mu, logvar = self.mu(h), self.var(h)
        z = mu + torch.randn_like(logvar) * torch.exp(0.5 * logvar)
        return torch.sigmoid(self.out(z)), mu, logvar

    def loss(self, n):
        x = torch.rand(n, 6)

        def value(model):
            recon, mu, logvar = model(x)
            bce = F.binary_cross_entropy(recon, x, reduction="sum")
            return bce - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())

        return value


class PINN(nn.Module):
    """A loss made of first and second derivatives of the network (Burgers' equation)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 8), nn.Linear(8, 1)])

    def forward(self, x, t):
        return self.layers[1](torch.tanh(self.layers[0](torch.cat([x, t], dim=1))))

    def loss(self, n):
        x, t = torch.rand(n, 1), torch.rand(n, 1)

        def value(model):
            a, b = x.clone().requires_grad_(True), t.clone().requires_grad_(True)
            u = model(a, b)
            u_t = torch.autograd.grad(u.sum(), b, create_graph=True)[0]
            u_x = torch.autograd.grad(u, a, torch.ones_like(u), create_graph=True)[0]
            u_xx = torch.autograd.grad(u_x, a, torch.ones_like(u_x), create_graph=True)[0]
            return ((u_t + u * u_x - 0.01 * u_xx) ** 2).mean()

        return value


class GNN(nn.Module):
    """Messages gathered and added by edge."""

    def __init__(self):
        super().__init__()
        self.lin, self.out = nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x, edges):
        row, col = edges
        degree = torch.zeros(x.size(0)).index_add_(0, col, torch.ones(col.size(0)))
        norm = degree.pow(-0.5)
        norm[norm == float("inf")] = 0
        h = self.lin(x)
        h = torch.zeros_like(h).index_add(0, col, h[row] * (norm[row] * norm[col]).unsqueeze(-1))
        return self.out(F.elu(h))

    def loss(self, n):
        x, edges = torch.randn(n, 3), torch.randint(0, n, (2, 3 * n))
        return lambda model: F.cross_entropy(model(x, edges), torch.arange(x.shape[0]) % 2)


class Experts(nn.Module):
    """A mixture of experts with soft top-k gates, RMS norm and SwiGLU."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(4, 3)
        self.w1, self.w3, self.w2 = (nn.Parameter(torch.randn(3, 4, 4) * 0.3) for _ in range(3))
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x):
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight
        scores, chosen = self.gate(x).topk(2, dim=-1)
        gates = torch.full((x.shape[0], 3), float("-inf")).scatter(-1, chosen, scores).softmax(-1)
        h = torch.einsum("bd,edh->beh", x, self.w1)
        h = F.silu(h) * torch.einsum("bd,edh->beh", x, self.w3)
        return torch.einsum("be,beh,ehd->bd", gates, h, self.w2)

    def loss(self, n):
        x, y = torch.randn(n, 4), torch.randn(n, 4)
        return lambda model: F.smooth_l1_loss(model(x), y)


class GAN(nn.Module):
    """Two networks, two optimizers, three backward passes a step over shared values."""

    def __init__(self):
        super().__init__()
        self.G = nn.Sequential(nn.Linear(2, 6), nn.BatchNorm1d(6), nn.ReLU(True), nn.Linear(6, 3))
        self.D = nn.Sequential(nn.Linear(3, 6), nn.LeakyReLU(0.2, inplace=True), nn.Linear(6, 1))

    def step(self, optimizers: Any, real, noise):
        optimizer_d, optimizer_g = optimizers
        criterion = nn.BCEWithLogitsLoss()
        self.D.zero_grad()
        label = torch.full((real.size(0),), 1.0)
        error_real = criterion(self.D(real).view(-1), label)
        error_real.backward()
        fake = self.G(noise)
        label.fill_(0)
        error_fake = criterion(self.D(fake.detach()).view(-1), label)
        error_fake.backward()
        optimizer_d.step()
        self.G.zero_grad()
        label.fill_(1)
        error_g = criterion(self.D(fake).view(-1), label)
        error_g.backward()
        optimizer_g.step()
        return error_real + error_fake + error_g


MODELS = (ResidualNet, CharLSTM, GPT, VAE, PINN, GNN, Experts)
