"""Optimizers. Read ``optimizer.py`` for the machinery, then any other file for its update rules."""

from tinygrad_opt.optim import lr_scheduler
from tinygrad_opt.optim.adaptive import Adadelta, Adagrad, Adam, AdamW, NAdam, RMSprop
from tinygrad_opt.optim.descent import GradientDescent
from tinygrad_opt.optim.line_search import ArmijoFullRelaxation, ArmijoGoldstein, Search
from tinygrad_opt.optim.optimizer import Optimizer
from tinygrad_opt.optim.sgd import SGD, Momentum

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "ArmijoFullRelaxation",
    "ArmijoGoldstein",
    "GradientDescent",
    "Momentum",
    "NAdam",
    "Optimizer",
    "RMSprop",
    "Search",
    "lr_scheduler",
]
