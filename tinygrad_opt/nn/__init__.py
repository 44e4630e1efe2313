"""Neural-network layers and losses. Read ``module.py`` first, then ``functional.py`` and ``layers.py``."""

from tinygrad_opt.nn import functional, init, utils
from tinygrad_opt.nn.layers import MLP, Linear, ReLU, Sequential, Sigmoid, Tanh
from tinygrad_opt.nn.losses import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, HingeLoss, MSELoss
from tinygrad_opt.nn.module import Module, Parameter

__all__ = [
    "MLP",
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "HingeLoss",
    "Linear",
    "MSELoss",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Tanh",
    "functional",
    "init",
    "utils",
]
