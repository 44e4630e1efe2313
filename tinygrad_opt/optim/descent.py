"""GradientDescent: the plainest rule."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tinygrad_opt.optim.optimizer import Array, Group, Optimizer


class GradientDescent(Optimizer):
    """Gradient descent: θ ← θ - α g, with g the gradient over the whole data.

    ``lr`` is α, the step size, positive. Every step costs a pass over all examples, and goes straight down.
    One size must fit all directions: in a ravine it is too large across and too small along it.

    Source: Cauchy, "Méthode générale pour la résolution des systèmes d'équations simultanées" (1847).

    >>> from tinygrad_opt import nn, optim
    >>> w = nn.Parameter([4.0])
    >>> optimizer = optim.GradientDescent([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.tolist()
    [2.0]
    """

    def __init__(self, params: Iterable[Any], lr: float = 0.01) -> None:
        super().__init__(params, {"lr": lr})

    def update(self, group: Group, t: int, theta: Array, g: Array, *state: Array) -> None:
        """θ ← θ - α g."""
        lr = group["lr"]
        theta -= lr * g
