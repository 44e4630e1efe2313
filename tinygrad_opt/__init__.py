from tinygrad_opt import nn, optim
from tinygrad_opt.graph import no_grad, set_grad_enabled, is_grad_enabled
from tinygrad_opt.rules.registry import primitive, defvjp
from tinygrad_opt.tensor import Tensor, set_default_dtype, get_default_dtype
from tinygrad_opt.rng import manual_seed
