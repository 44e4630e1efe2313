"""SGD and Momentum: steps from a part of the data, plain or averaged over time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from tinygrad_opt.optim.optimizer import Array, Group, Optimizer, average, check_range


class SGD(Optimizer):
    """Stochastic gradient descent: θ ← θ - α g, with g the gradient over one example or a mini-batch.

    With ``DataLoader(batch_size=1)`` it is the stochastic rule, with a larger batch the mini-batch rule.

    ``lr`` is α, positive. The others mean what they mean in PyTorch: ``weight_decay`` λ ≥ 0 adds λθ to g;
    ``momentum`` μ ≥ 0 follows b ← μ b + (1 - τ) g, starting with b = g, instead of g, where ``dampening`` is τ; with
    ``nesterov`` it follows g + μ b. `Momentum` is the averaging form.

    Cheap steps and next to no memory; noisy, and as sensitive to its one step size as gradient descent.

    Source: Robbins and Monro, "A Stochastic Approximation Method" (1951); Sutskever et al., "On the importance of
    initialization and momentum in deep learning" (2013), for ``nesterov``.

    >>> from tinygrad_opt import nn, optim
    >>> w = nn.Parameter([4.0])
    >>> optimizer = optim.SGD([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.tolist()
    [2.0]
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
            },
        )

    def check(self, group: Group) -> None:
        """α > 0; μ, λ ≥ 0; Nesterov's form is defined for μ > 0 and τ = 0."""
        super().check(group)
        for name in ("momentum", "weight_decay"):
            check_range(name, group[name], 0, math.inf)
        check_range("dampening", group["dampening"], 0, 1, open_high=False)
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise ValueError(
                "nesterov needs momentum > 0 and dampening = 0; got "
                f"momentum={group['momentum']}, dampening={group['dampening']}"
            )

    def state_of(self, group: Group) -> tuple[str, ...]:
        """b, where there is momentum; nothing otherwise."""
        return ("b",) if group["momentum"] else ()

    def update(self, group: Group, t: int, theta: Array, g: Array, *state: Array) -> None:
        """θ ← θ - α g, with decay and momentum."""
        lr, mu, tau = group["lr"], group["momentum"], group["dampening"]
        if group["weight_decay"]:
            g = g + group["weight_decay"] * theta
        if mu:
            (b,) = state
            b[...] = mu * b + (1 - tau) * g if t > 1 else g
            g = g + mu * b if group["nesterov"] else b
        theta -= lr * g


class Momentum(Optimizer):
    """SGD with momentum: v ← β v + (1 - β) g; θ ← θ - α v.

    ``lr`` is α, positive. ``beta`` β in [0, 1) says how long past gradients are remembered: v averages roughly the
    last 1/(1 - β) of them. Directions in which the gradients agree add up, those that flip sign cancel, so it swings
    less across a ravine. It needs one vector of memory, and β has to be tuned.

    Source: Polyak, "Some methods of speeding up the convergence of iteration methods" (1964), here in
    the averaging form, with 1 - β.

    >>> from tinygrad_opt import nn, optim
    >>> w = nn.Parameter([4.0])
    >>> optimizer = optim.Momentum([w], lr=1.0, beta=0.75)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.tolist()
    [2.0]
    """

    state_names = ("v",)

    def __init__(self, params: Iterable[Any], lr: float = 0.01, beta: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "beta": beta})

    def check(self, group: Group) -> None:
        """α > 0; 0 ≤ β < 1."""
        super().check(group)
        check_range("beta", group["beta"], 0, 1)

    def update(self, group: Group, t: int, theta: Array, g: Array, *state: Array) -> None:
        """v ← β v + (1 - β) g; θ ← θ - α v."""
        lr, beta, (v,) = group["lr"], group["beta"], state
        average(v, beta, g)
        theta -= lr * v
