"""tinygrad_opt: a small reverse-mode automatic differentiation framework on NumPy.

``import tinygrad_opt as tg; from tinygrad_opt import Tensor, nn, optim``

Reading the code, from the bottom up (each file uses only files above it):

1. ``errors.py``: the exceptions.
2. ``rules/``: the table of gradient rules. Look at ``elementwise.py`` to see what a rule is.
3. ``graph.py``: the nodes that running code leaves behind, and the backward walk.
4. ``tensor.py``: Tensor, and `apply`, through which every call goes.
5. ``transforms.py``: gradients, Jacobians and Hessians of functions.
6. ``gradcheck.py``: the comparison of gradients with finite differences.
7. ``landscapes.py``: test functions of two parameters.
8. ``rng.py``: the random generator.
9. ``nn/``: modules, layers and losses.
10. ``compiler/``: functions as straight-line NumPy.
11. ``optim/``: the vector θ, the update rules, and the line searches.
12. ``data.py``, ``archive.py`` and ``checkpoint.py``, ``training.py``: batches, saved runs, and the training loop.
13. ``viz/``: pictures of graphs, and plots of training.
"""

from tinygrad_opt import landscapes, nn, optim, viz
from tinygrad_opt.checkpoint import load, save
from tinygrad_opt.compiler import compile
from tinygrad_opt.data import DataLoader
from tinygrad_opt.errors import (
    AnomalyError,
    CheckpointError,
    CompileError,
    GradcheckError,
    GraphError,
    MissingRuleError,
    ShapeError,
    StateDictError,
)
from tinygrad_opt.gradcheck import gradcheck
from tinygrad_opt.graph import detect_anomaly, is_grad_enabled, no_grad, set_grad_enabled
from tinygrad_opt.nn import summary
from tinygrad_opt.rng import get_rng_state, manual_seed, set_rng_state
from tinygrad_opt.rules.registry import defvjp, primitive
from tinygrad_opt.tensor import Tensor, get_default_dtype, set_default_dtype
from tinygrad_opt.training import EarlyStopping, History, accuracy, evaluate, fit
from tinygrad_opt.transforms import grad, gradients, hessian, hvp, jacobian, jvp, value_and_grad, vjp

__version__ = "0.1.0"

__all__ = [
    "AnomalyError",
    "CheckpointError",
    "CompileError",
    "DataLoader",
    "EarlyStopping",
    "GradcheckError",
    "GraphError",
    "History",
    "MissingRuleError",
    "ShapeError",
    "StateDictError",
    "Tensor",
    "accuracy",
    "compile",
    "defvjp",
    "detect_anomaly",
    "evaluate",
    "fit",
    "get_default_dtype",
    "get_rng_state",
    "grad",
    "gradcheck",
    "gradients",
    "hessian",
    "hvp",
    "is_grad_enabled",
    "jacobian",
    "jvp",
    "landscapes",
    "load",
    "manual_seed",
    "nn",
    "no_grad",
    "optim",
    "primitive",
    "save",
    "set_default_dtype",
    "set_grad_enabled",
    "set_rng_state",
    "summary",
    "value_and_grad",
    "viz",
    "vjp",
]
