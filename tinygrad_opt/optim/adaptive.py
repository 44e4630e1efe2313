"""Optimizers that give every parameter a step size of its own, from the gradients it has had."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from tinygrad_opt.optim.optimizer import Array, Group, Optimizer, check_range, root


class Adam(Optimizer):
    """Adam: m ← β₁ m + (1 - β₁) g; v ← β₂ v + (1 - β₂) g²; θ ← θ - α m̂ / √(v̂ + ε).

    m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ) undo the pull of m and v towards their start at zero.

    ``lr`` is α, positive: about how far a parameter moves in one step, whatever the size of its gradients. ``betas``
    (β₁, β₂), each in [0, 1), say how long the mean and the mean square of g are remembered. ``eps`` ε > 0 keeps the
    divisor from zero; it stands inside the root, as in the text, or outside, as in PyTorch, with
    ``eps_in_sqrt=False``.

    It works with little tuning on most problems, and needs two vectors of memory.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2015), https://arxiv.org/abs/1412.6980.

    >>> from tinygrad_opt import nn, optim
    >>> w = nn.Parameter([4.0])
    >>> optimizer = optim.Adam([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 6)
    3.5
    """

    state_names = ("m", "v")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        eps_in_sqrt: bool = True,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "eps_in_sqrt": eps_in_sqrt})

    def check(self, group: Group) -> None:
        """α > 0; 0 ≤ β₁, β₂ < 1; ε > 0."""
        super().check(group)
        if not isinstance(group["betas"], (tuple, list)) or len(group["betas"]) != 2:
            raise ValueError(f"betas must be a pair (beta1, beta2); got {group['betas']!r}")
        for name, beta in zip(("beta1", "beta2"), group["betas"], strict=True):
            check_range(name, beta, 0, 1)
        check_range("eps", group["eps"], 0, math.inf, open_low=True)

    def update(self, group: Group, t: int, theta: Array, g: Array, *state: Array) -> None:
        """m ← β₁ m + (1 - β₁) g; v ← β₂ v + (1 - β₂) g²; θ ← θ - α m̂ / √(v̂ + ε)."""
        lr, (beta1, beta2), eps, (m, v) = group["lr"], group["betas"], group["eps"], state
        m *= beta1
        m += (1 - beta1) * g
        v *= beta2
        v += (1 - beta2) * (g * g)
        v_hat = v / (1 - beta2**t)
        step_size = lr / (1 - beta1**t)  # step_size * m is α m̂, one pass over the vector cheaper
        theta -= step_size * m / root(v_hat, eps, group["eps_in_sqrt"])
