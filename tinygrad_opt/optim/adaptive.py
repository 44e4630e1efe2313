"""Optimizers that give every parameter a step size of its own, from the gradients it has had."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from tinygrad_opt.optim.optimizer import Array, Group, Optimizer, average, check_range, root


class Adagrad(Optimizer):
    """AdaGrad: G ← G + g²; θ ← θ - α g / √(G + ε).

    ``lr`` is α, positive. ``eps`` ε > 0 keeps the divisor from zero; it stands inside the root, or outside, as in
    PyTorch, with ``eps_in_sqrt=False``.

    Parameters whose gradients are rare or small take large steps, so it suits sparse features. But G only grows, so
    its rates only fall, and it may stop before it arrives. It needs one vector of memory.

    Source: Duchi, Hazan and Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization"
    (2011), https://jmlr.org/papers/v12/duchi11a.html.

    >>> from tinygrad_opt import nn, optim
    >>> w = nn.Parameter([4.0])
    >>> optimizer = optim.Adagrad([w], lr=0.5)
    >>> for _ in range(2):
    ...     optimizer.zero_grad()
    ...     w.sum().backward()
    ...     optimizer.step()
    >>> round(w.item(), 6)  # 4 - 0.5 - 0.5 / √2
    3.146447
    """

    state_names = ("G",)

    def __init__(self, params: Iterable[Any], lr: float = 0.01, eps: float = 1e-10, eps_in_sqrt: bool = True) -> None:
        super().__init__(params, {"lr": lr, "eps": eps, "eps_in_sqrt": eps_in_sqrt})

    def check(self, group: Group) -> None:
        """α > 0; ε > 0."""
        super().check(group)
        check_range("eps", group["eps"], 0, math.inf, open_low=True)

    def update(self, group: Group, t: int, theta: Array, g: Array, *state: Array) -> None:
        """G ← G + g²; θ ← θ - α g / √(G + ε)."""
        lr, eps, (G,) = group["lr"], group["eps"], state
        G += g * g
        theta -= lr * g / root(G, eps, group["eps_in_sqrt"])


class RMSprop(Optimizer):
    """RMSProp: E ← γ E + (1 - γ) g²; θ ← θ - α g / √(E + ε).

    ``lr`` is α, positive. ``gamma`` γ in [0, 1) says how long squared gradients are remembered: E averages roughly the
    last 1/(1 - γ) of them. ``eps`` ε > 0 keeps the divisor from zero; it stands inside the root, or
    outside, as in PyTorch, with ``eps_in_sqrt=False``. With ``centered`` the divisor is the standard deviation of g
    instead: M ← γ M + (1 - γ) g, and E - M² in the place of E. With ``momentum`` μ > 0 the steps add up:
    b ← μ b + g / √(E + ε); θ ← θ - α b.

    It is AdaGrad that forgets: its rate does not decay. It needs one vector of memory, and one more for each of
    ``centered`` and ``momentum``; E starts at zero, so the first steps are too long, by up to 1/√(1 - γ).

    Source: Hinton, "Neural Networks for Machine Learning", lecture 6e (2012); Graves, "Generating Sequences With
    Recurrent Neural Networks" (2013), https://arxiv.org/abs/1308.0850, for ``centered``.

    >>> from tinygrad_opt import nn, optim
    >>> w = nn.Parameter([4.0])
    >>> optimizer = optim.RMSprop([w], lr=0.5, gamma=0.75)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 6)  # 4 - 0.5 · 8 / √(0.25 · 8²)
    3.0
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        gamma: float = 0.9,
        eps: float = 1e-8,
        momentum: float = 0.0,
        centered: bool = False,
        eps_in_sqrt: bool = True,
    ) -> None:
        options = {"lr": lr, "gamma": gamma, "eps": eps, "momentum": momentum, "centered": centered}
        super().__init__(params, options | {"eps_in_sqrt": eps_in_sqrt})

    def check(self, group: Group) -> None:
        """α > 0; 0 ≤ γ < 1; ε > 0; μ ≥ 0."""
        super().check(group)
        check_range("gamma", group["gamma"], 0, 1)
        check_range("eps", group["eps"], 0, math.inf, open_low=True)
        check_range("momentum", group["momentum"], 0, math.inf)

    def state_of(self, group: Group) -> tuple[str, ...]:
        """E; M where it is centered; b where there is momentum."""
        return ("E", *(["M"] if group["centered"] else []), *(["b"] if group["momentum"] else []))

    def update(self, group: Group, t: int, theta: Array, g: Array, *state: Array) -> None:
        """E ← γ E + (1 - γ) g²; θ ← θ - α g / √(E + ε), with centering and momentum."""
        lr, gamma, eps, E = group["lr"], group["gamma"], group["eps"], state[0]
        average(E, gamma, g * g)
        if group["centered"]:
            M = state[1]
            average(M, gamma, g)
            E = np.maximum(E - M * M, 0)  # rounding may make the variance negative
        step = g / root(E, eps, group["eps_in_sqrt"])
        if group["momentum"]:
            b = state[-1]
            b *= group["momentum"]
            b += step
            step = b
        theta -= lr * step


class Adadelta(Optimizer):
    """Adadelta: E ← ρ E + (1 - ρ) g²; Δ = g √(D + ε) / √(E + ε); D ← ρ D + (1 - ρ) Δ²; θ ← θ - α Δ.

    ``lr`` is α, positive, 1 in the paper. ``rho`` ρ in [0, 1) says how long squares are remembered; ``eps`` ε > 0, in
    both roots, as in PyTorch, sets the size of the first steps.

    The steps Δ have the unit of θ, whatever that of the loss, so there is no rate to tune. It starts slowly, and needs
    two vectors of memory.

    Source: Zeiler, "ADADELTA: An Adaptive Learning Rate Method" (2012), https://arxiv.org/abs/1212.5701.

    >>> from tinygrad_opt import nn, optim
    >>> w = nn.Parameter([4.0])
    >>> optimizer = optim.Adadelta([w], rho=0.75, eps=0.01)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 4)  # 4 - 8 √0.01 / √(0.25 · 8² + 0.01)
    3.8001
    """

    state_names = ("E", "D")

    def __init__(self, params: Iterable[Any], lr: float = 1.0, rho: float = 0.9, eps: float = 1e-6) -> None:
        super().__init__(params, {"lr": lr, "rho": rho, "eps": eps})

    def check(self, group: Group) -> None:
        """α > 0; 0 ≤ ρ < 1; ε > 0."""
        super().check(group)
        check_range("rho", group["rho"], 0, 1)
        check_range("eps", group["eps"], 0, math.inf, open_low=True)

    def update(self, group: Group, t: int, theta: Array, g: Array, *state: Array) -> None:
        """E ← ρ E + (1 - ρ) g²; Δ = g √(D + ε) / √(E + ε); D ← ρ D + (1 - ρ) Δ²; θ ← θ - α Δ."""
        lr, rho, eps, (E, D) = group["lr"], group["rho"], group["eps"], state
        average(E, rho, g * g)
        delta = g * np.sqrt(D + eps) / np.sqrt(E + eps)
        average(D, rho, delta * delta)
        theta -= lr * delta


class Adam(Optimizer):
    """Adam: m ← β₁ m + (1 - β₁) g; v ← β₂ v + (1 - β₂) g²; θ ← θ - α m̂ / √(v̂ + ε).

    m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ) undo the pull of m and v towards their start at zero.

    ``lr`` is α, positive: about how far a parameter moves in one step, whatever the size of its gradients. ``betas``
    (β₁, β₂), each in [0, 1), say how long the mean and the mean square of g are remembered. ``eps`` ε > 0 keeps the
    divisor from zero; it stands inside the root, or outside, as in PyTorch, with
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
        room = g * g
        average(v, beta2, room, room)
        average(m, beta1, g, room)
        # The divisors of m̂ and v̂ are numbers: taken out of the root, they save two passes over the vector.
        inside, c = group["eps_in_sqrt"], math.sqrt(1 - beta2**t)  # √v̂ = √v / c
        step_size = lr * c / (1 - beta1**t)
        divisor = root(v, eps * c * c if inside else eps * c, inside, room)
        step = np.divide(m, divisor, room)
        step *= step_size
        theta -= step


class AdamW(Adam):
    """Adam with decoupled weight decay: θ ← θ - α λ θ, then the step of `Adam`.

    ``weight_decay`` λ ≥ 0 pulls every parameter towards zero by the share αλ in each step, the same for all. Added to
    the gradient instead, as plain L2 regularisation does, the decay would be divided by √v̂ with it, and parameters
    with large gradients would hardly decay. The others are `Adam`'s.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), https://arxiv.org/abs/1711.05101.

    >>> from tinygrad_opt import nn, optim
    >>> w = nn.Parameter([4.0])
    >>> optimizer = optim.AdamW([w], lr=0.5, weight_decay=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 6)  # 4 - 0.5 · 0.25 · 4 - 0.5
    3.0
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        eps_in_sqrt: bool = True,
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "eps_in_sqrt": eps_in_sqrt}
        Optimizer.__init__(self, params, options)

    def check(self, group: Group) -> None:
        """Adam's, and λ ≥ 0."""
        super().check(group)
        check_range("weight_decay", group["weight_decay"], 0, math.inf)

    def update(self, group: Group, t: int, theta: Array, g: Array, *state: Array) -> None:
        """θ ← θ - α λ θ, then Adam's step."""
        theta *= 1 - group["lr"] * group["weight_decay"]
        super().update(group, t, theta, g, *state)


class NAdam(Adam):
    """Adam with Nesterov's momentum: θ ← θ - α m̂ / √(v̂ + ε), where m̂ looks one step ahead.

    m and v are Adam's. With μₜ = β₁ (1 - ½ · 0.96^(tψ)) and Πₜ = μ₁ μ₂ … μₜ,
    m̂ = μₜ₊₁ m / (1 - Πₜ₊₁) + (1 - μₜ) g / (1 - Πₜ).

    ``momentum_decay`` ψ ≥ 0 says how soon μ grows from β₁/2 towards β₁. The others are `Adam`'s. The gradient of now
    counts more than in Adam, which often saves a few steps.

    Source: Dozat, "Incorporating Nesterov Momentum into Adam" (2016), https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ.

    >>> from tinygrad_opt import nn, optim
    >>> w = nn.Parameter([4.0])
    >>> optimizer = optim.NAdam([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.item() < 3.5  # beyond Adam's first step
    True
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.002,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        momentum_decay: float = 0.004,
        eps_in_sqrt: bool = True,
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "momentum_decay": momentum_decay, "eps_in_sqrt": eps_in_sqrt}
        Optimizer.__init__(self, params, options)

    def check(self, group: Group) -> None:
        """Adam's, and ψ ≥ 0."""
        super().check(group)
        check_range("momentum_decay", group["momentum_decay"], 0, math.inf)

    def update(self, group: Group, t: int, theta: Array, g: Array, *state: Array) -> None:
        """m̂ = μₜ₊₁ m / (1 - Πₜ₊₁) + (1 - μₜ) g / (1 - Πₜ); θ ← θ - α m̂ / √(v̂ + ε)."""
        lr, (beta1, beta2), eps, (m, v) = group["lr"], group["betas"], group["eps"], state
        average(m, beta1, g)
        average(v, beta2, g * g)
        v_hat = v / (1 - beta2**t)
        mu, next_mu = (_mu(beta1, group["momentum_decay"], i) for i in (t, t + 1))
        product = _product_of_mu(beta1, group["momentum_decay"], t)
        m_hat = (next_mu / (1 - product * next_mu)) * m + ((1 - mu) / (1 - product)) * g
        theta -= lr * m_hat / root(v_hat, eps, group["eps_in_sqrt"])


def _mu(beta1: float, decay: float, t: int) -> float:
    """NAdam's μₜ = β₁ (1 - ½ · 0.96^(tψ))."""
    return float(beta1 * (1 - 0.5 * 0.96 ** (t * decay)))


def _product_of_mu(beta1: float, decay: float, t: int) -> float:
    """NAdam's Πₜ = μ₁ μ₂ … μₜ, as far as 1 - Πₜ can be told from 1."""
    product = 1.0
    for i in range(1, t + 1):
        product *= _mu(beta1, decay, i)
        if product < 1e-20:
            break
    return product
