"""Optimizers. Read ``optimizer.py`` for the machinery, then any other file for its update rules."""

from tinygrad_opt.optim.adaptive import Adam
from tinygrad_opt.optim.descent import GradientDescent
from tinygrad_opt.optim.optimizer import Optimizer
from tinygrad_opt.optim.sgd import SGD, Momentum

__all__ = ["SGD", "Adam", "GradientDescent", "Momentum", "Optimizer"]
