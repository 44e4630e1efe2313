"""GradientDescent: the plainest rule, with a step size that is given or searched for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tinygrad_opt import graph
from tinygrad_opt.errors import AnomalyError
from tinygrad_opt.graph import no_grad
from tinygrad_opt.optim.line_search import LineSearch, Search
from tinygrad_opt.optim.optimizer import Array, Group, Optimizer
from tinygrad_opt.tensor import Tensor
from tinygrad_opt.transforms import gradients


class GradientDescent(Optimizer):
    """Gradient descent: θ ← θ - α g, with g the gradient over the whole data.

    ``lr`` is α, the step size, positive. Every step costs a pass over all examples, and goes straight down.
    One size must fit all directions: in a ravine it is too large across and too small along it.

    With a ``line_search`` (`ArmijoGoldstein` or `ArmijoFullRelaxation`) α is searched for in every step, the same for
    all parameter groups, and written to ``lr``; the ``lr`` given is the first trial, and later twice the last step is.
    Then `step` needs a closure, which is called for every trial and has to compute the loss of the same batch each
    time. ``last_search`` tells how the search went.

    Source: Cauchy, "Méthode générale pour la résolution des systèmes d'équations simultanées" (1847).

    >>> from tinygrad_opt import nn, optim
    >>> w = nn.Parameter([4.0])
    >>> optimizer = optim.GradientDescent([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.tolist()
    [2.0]
    """

    def __init__(self, params: Iterable[Any], lr: float = 0.01, line_search: LineSearch | None = None) -> None:
        if line_search is not None and not isinstance(line_search, LineSearch):
            raise TypeError(f"line_search must be a search, such as optim.ArmijoGoldstein(); got {line_search!r}")
        super().__init__(params, {"lr": lr})
        self.line_search = line_search
        self.last_search: Search | None = None

    def update(self, group: Group, t: int, theta: Array, g: Array, *state: Array) -> None:
        """θ ← θ - α g."""
        lr = group["lr"]
        theta -= lr * g

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Take one step, as `Optimizer.step` says; with a line search, find its size first.

        Raises TypeError for a line search without a closure, AnomalyError where the loss or its gradient is NaN or
        infinite before the step; the parameters are as they were then.
        """
        if self.line_search is None:
            return super().step(closure)
        if closure is None:
            raise TypeError(
                "a line search computes the loss of every step that it tries: call step(closure), where closure() "
                "returns the loss, of the same batch each time, without calling backward()"
            )
        loss, curvature = self._differentiate(closure)
        pieces = self._pieces()
        moved = sum(theta.size for theta, _, _ in pieces)
        if moved < self._size:
            self._check_missing(moved)
        slope = math.fsum(float(np.vdot(g, g)) for _, _, g in pieces)
        if not math.isfinite(loss.item()) or not math.isfinite(slope):
            raise AnomalyError(
                f"the line search cannot start: the loss is {loss.item()} and ‖g‖² is {slope}. "
                "tg.detect_anomaly() finds the operation that makes it so"
            )
        started = any(t > 1 for vector in self._vectors for t in vector.steps)
        usual = self.param_groups[0]["lr"] * (2 if started else 1)

        def loss_at(alpha: float) -> float:
            _go(pieces, alpha)
            with no_grad(), np.errstate(all="ignore"):
                return float(closure())

        search = Search(loss.item(), slope, curvature)
        try:
            self.line_search.run(loss_at, usual, search)
        finally:  # also when the closure raises: then step_size is 0
            _go(pieces, search.step_size)
        self.last_search = search
        if search.step_size:
            for group in self.param_groups:
                group["lr"] = search.step_size
        return loss

    def _differentiate(self, closure: Callable[[], Tensor]) -> tuple[Tensor, float | None]:
        """The loss, its gradients in ``grad``, and gᵀHg where the search asks for it."""
        if self.line_search is None or not self.line_search.needs_curvature:
            return self._backward(closure), None
        loss = self._backward(closure, create_graph=True)
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        grads = [p.grad for p in parameters]
        for p, g in zip(parameters, grads, strict=True):
            p.grad = g.detach()
        along: Any = sum((g * g.detach()).sum() for g in grads)  # its gradient is Hg
        if not isinstance(along, Tensor) or along.node is None:
            return loss.detach(), 0.0
        products = gradients(along, parameters)
        return loss.detach(), math.fsum(float(np.vdot(h.data, g.data)) for h, g in zip(products, grads, strict=True))

    def _pieces(self) -> list[tuple[Array, Array, Array]]:
        """For every block of θ that has gradients: the block itself, and copies of it and of g."""
        runs = [(vector, run, large) for vector in self._vectors for run, _, large in vector.runs()]
        blocks = [block for vector, run, large in runs for block in vector.blocks((), run, large)]
        return [(theta, theta.copy(), g.copy()) for theta, g, _ in blocks]


def _go(pieces: list[tuple[Array, Array, Array]], alpha: float) -> None:
    """θ ← start - α g; back to the start, bit for bit, for α = 0."""
    for theta, start, g in pieces:
        theta[...] = start - alpha * g if alpha else start
        graph.note_changes([graph.watch(theta)])
