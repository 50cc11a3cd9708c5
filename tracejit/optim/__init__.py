"""``tracejit.optim``: optimizers and learning-rate schedules with torch's names and meanings."""

from tracejit.optim import lr_scheduler, swa_utils
from tracejit.optim.adam import Adam, Adamax, AdamW, NAdam, RAdam
from tracejit.optim.adaptive import Adadelta, Adagrad, RMSprop
from tracejit.optim.lbfgs import LBFGS
from tracejit.optim.matrix import Adafactor, Muon
from tracejit.optim.optimizer import Optimizer
from tracejit.optim.sgd import ASGD, SGD, Rprop

__all__ = [
    "ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "LBFGS", "Muon", "NAdam",
    "Optimizer", "RAdam", "RMSprop", "Rprop", "SGD", "lr_scheduler", "swa_utils",
]  # fmt: skip
