"""``tracejit.optim``: optimizers and learning-rate schedules with torch's names and meanings."""

from tracejit.optim import lr_scheduler
from tracejit.optim.adam import Adam, Adamax, AdamW, NAdam, RAdam
from tracejit.optim.adaptive import Adadelta, Adagrad, RMSprop
from tracejit.optim.lbfgs import LBFGS
from tracejit.optim.optimizer import Optimizer
from tracejit.optim.sgd import ASGD, SGD, Rprop

__all__ = [
    "ASGD", "LBFGS", "SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "Optimizer",
    "RAdam", "RMSprop", "Rprop", "lr_scheduler",
]  # fmt: skip
