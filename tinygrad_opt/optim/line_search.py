"""Line searches: how far to go along -g, tried out on the loss itself. `GradientDescent` uses them.

A search sees only one curve, α ↦ J(θ - αg), and three numbers that are known where it starts: the loss J(θ), ‖g‖², and,
where it asks for it, the curvature gᵀHg. Often the conditions are written for ascent (a step +α∇f, and ≥); here they
are those of descent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tinygrad_opt.optim.optimizer import check_range


@dataclass
class Search:
    """How a line search went: what ``optimizer.last_search`` is.

    ``step_size`` is the α that was taken, 0 where none was good; ``trials`` counts the losses computed on the way, and
    ``evaluations`` counts J(θ) too. ``reason`` says why the search ended: "accepted" where the conditions hold.
    ``tried`` has every trial, as pairs (α, J(θ - αg)); ``loss`` is J(θ), ``slope`` ‖g‖², ``curvature`` gᵀHg (None where
    the search does not ask for it).
    """

    loss: float
    slope: float
    curvature: float | None = None
    step_size: float = 0.0
    reason: str = ""
    tried: list[tuple[float, float]] = field(default_factory=list)

    @property
    def trials(self) -> int:
        """How many steps were tried: each computed the loss once."""
        return len(self.tried)

    @property
    def evaluations(self) -> int:
        """How often the loss was computed: once at θ, and once for every trial."""
        return self.trials + 1


class LineSearch:
    """The base class: a search says which steps are too long and which too short, and here is how one is found.

    From a first trial, α is doubled while it is too short and halved while it is too long; between a step that is too
    short and one that is too long, it is the mean. A trial that gives NaN or an infinity is too long. After
    ``max_trials`` trials the longest one that is not too long is taken.
    """

    needs_curvature = False

    def __init__(self, max_trials: int) -> None:
        if not isinstance(max_trials, int) or max_trials < 1:
            raise ValueError(f"max_trials must be a positive integer; got {max_trials!r}")
        self.max_trials = max_trials

    def bounds(self, alpha: Any, at: Search) -> tuple[Any, Any]:
        """The most that J(θ - αg) may be, or α is too long, and the least (or None), or α is too short."""
        raise NotImplementedError(f"{type(self).__name__} has no condition")

    def first_trial(self, usual: float, at: Search) -> float:
        """Where to begin; ``usual`` is twice the size of the last step, and ``lr`` before there was one."""
        return usual

    def run(self, loss_at: Callable[[float], float], usual: float, at: Search) -> Search:
        """Search along ``loss_at``, α ↦ J(θ - αg), and return ``at`` with what was found."""
        if at.slope == 0:
            at.reason = "the gradient is zero: a minimum, or another flat place"
            return at
        alpha, short, long = self.first_trial(usual, at), 0.0, math.inf
        for _ in range(self.max_trials):
            trial = loss_at(alpha)
            at.tried.append((alpha, trial))
            most, least = self.bounds(alpha, at)
            if not trial <= most or not math.isfinite(trial):
                long = alpha
            elif least is not None and trial < least:
                short = alpha
            else:
                at.step_size, at.reason = alpha, "accepted"
                return at
            alpha = 2 * short if long == math.inf else (short + long) / 2
            if not short < alpha < long:  # no number is left between them
                break
        at.step_size = short
        if short:
            at.reason = f"after {at.trials} trials all that decrease enough are still too short: the longest was taken"
        else:
            at.reason = f"none of {at.trials} trials decreases the loss enough: rounding hides it, or a kink is near"
        return at


class ArmijoGoldstein(LineSearch):
    """The Armijo-Goldstein condition: J(θ) - (1 - c) α ‖g‖² ≤ J(θ - αg) ≤ J(θ) - c α ‖g‖².

    The right side (Armijo's) keeps α from being too long: the loss must fall by a share c of what its slope promises.
    The left (Goldstein's) keeps it from being too short; it is asked for only when c < ½, where both can hold. For a
    quadratic, any α from 2c to 2(1 - c) times the best one will do.

    ``c`` lies in (0, 1); the smaller, the more is accepted. ``max_trials`` ends the search.

    No rate has to be tuned, and no step goes up; each costs a few passes over the data more.

    Source: Armijo, "Minimization of functions having Lipschitz continuous first partial derivatives" (1966);
    Goldstein, "On steepest descent" (1965).

    >>> from tinygrad_opt import nn, optim
    >>> w = nn.Parameter([4.0])
    >>> optimizer = optim.GradientDescent([w], lr=8.0, line_search=optim.ArmijoGoldstein(c=0.25))
    >>> loss = optimizer.step(lambda: (w * w).sum())
    >>> w.tolist(), optimizer.last_search.tried
    ([0.0], [(8.0, 3600.0), (4.0, 784.0), (2.0, 144.0), (1.0, 16.0), (0.5, 0.0)])
    """

    def __init__(self, c: float = 0.25, max_trials: int = 60) -> None:
        check_range("c", c, 0, 1, open_low=True)
        super().__init__(max_trials)
        self.c = c

    def bounds(self, alpha: Any, at: Search) -> tuple[Any, Any]:
        """J(θ) - c α ‖g‖², and, for c < ½, J(θ) - (1 - c) α ‖g‖²."""
        most = at.loss - self.c * alpha * at.slope
        return most, at.loss - (1 - self.c) * alpha * at.slope if self.c < 0.5 else None

    def __repr__(self) -> str:
        return f"ArmijoGoldstein(c={self.c})"


class ArmijoFullRelaxation(LineSearch):
    """The Armijo full-relaxation condition: J(θ - αg) ≤ J(θ) - c α ‖g‖² + (b/2) α² gᵀHg.

    H is the Hessian; gᵀHg is exact, by differentiating the gradient once more, without forming H. The first trial is
    α = ‖g‖² / gᵀHg, the minimum of the loss's second-order model along -g, where the curvature is positive, and twice
    the last step elsewhere. It is halved until the condition holds.

    ``c`` lies in (0, 1), ``b`` in [0, 1]: where the curvature is positive, b relaxes what the loss has to fall by; with
    b < 2c no step goes up that is not longer than the first trial. For a quadratic, the first trial is accepted at
    once when 2c - b ≤ 1. ``max_trials`` ends the search.

    Few trials, and a step size that knows the curvature; but each step costs a second backward pass.

    Source: Armijo, "Minimization of functions having Lipschitz continuous first partial derivatives" (1966), here with
    a second-order term; Pearlmutter, "Fast Exact Multiplication by the Hessian" (1994), for gᵀHg.

    >>> from tinygrad_opt import nn, optim
    >>> w = nn.Parameter([4.0])
    >>> optimizer = optim.GradientDescent([w], line_search=optim.ArmijoFullRelaxation())
    >>> loss = optimizer.step(lambda: (w * w).sum())
    >>> w.tolist(), optimizer.last_search.tried
    ([0.0], [(0.5, 0.0)])
    """

    needs_curvature = True

    def __init__(self, c: float = 0.5, b: float = 0.5, max_trials: int = 60) -> None:
        check_range("c", c, 0, 1, open_low=True)
        check_range("b", b, 0, 1, open_high=False)
        super().__init__(max_trials)
        self.c = c
        self.b = b

    def bounds(self, alpha: Any, at: Search) -> tuple[Any, Any]:
        """J(θ) - c α ‖g‖² + (b/2) α² gᵀHg; no step is too short."""
        return at.loss - self.c * alpha * at.slope + self.b / 2 * alpha**2 * (at.curvature or 0.0), None

    def first_trial(self, usual: float, at: Search) -> float:
        """‖g‖² / gᵀHg, where the curvature is positive."""
        newton = at.slope / at.curvature if at.curvature and at.curvature > 0 else math.inf
        return newton if math.isfinite(newton) else usual

    def __repr__(self) -> str:
        return f"ArmijoFullRelaxation(c={self.c}, b={self.b})"
