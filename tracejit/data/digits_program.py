"""The program of `tracejit demo` as a user would write it: no line of it knows of compilation."""

import tracejit as torch
import tracejit.nn as nn
import tracejit.nn.functional as F


class Classifier(nn.Module):
    """Pixels of an 8 x 8 image in, one score for each of the ten digits out."""

    def __init__(self):
        super().__init__()
        self.hidden1 = nn.Linear(64, 256)
        self.hidden2 = nn.Linear(256, 128)
        self.scores = nn.Linear(128, 10)

    def forward(self, images):
        hidden = F.gelu(self.hidden1(images), approximate="tanh")
        hidden = F.gelu(self.hidden2(hidden), approximate="tanh")
        return self.scores(hidden)


def make_step(model, optimizer):
    """One whole training step: forward, backward, update."""

    def step(images, labels):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def accuracy(model, images, labels):
    """The share of images whose highest score is that of the right digit."""
    with torch.no_grad():
        return (model(images).argmax(1) == labels).float().mean().item()
