"""Clipping of gradients, between ``backward()`` and ``step()``: so that a few huge ones do not spoil everything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tinygrad_opt.errors import AnomalyError
from tinygrad_opt.tensor import Tensor


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> float:
    """Scale all gradients together, g ← g · min(1, max_norm / (‖g‖ + 10⁻⁶)), in place; return ‖g‖ before.

    ‖g‖ is the norm of all gradients as one vector: Euclidean for ``norm_type`` 2, the largest magnitude for infinity.
    The direction stays. Parameters without a gradient are left out.

    Raises ValueError when ``max_norm`` or ``norm_type`` is not positive, AnomalyError for a norm that is NaN or
    infinite with ``error_if_nonfinite``.

    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks" (2013),
    https://arxiv.org/abs/1211.5063.

    >>> from tinygrad_opt import nn
    >>> w = nn.Parameter([3.0, 4.0])
    >>> (w * w).sum().backward()
    >>> nn.utils.clip_grad_norm_(w, max_norm=1.0)
    10.0
    >>> round(float((w.grad * w.grad).sum()), 4)
    1.0
    """
    if not max_norm > 0 or not norm_type > 0:
        raise ValueError(f"max_norm and norm_type must be positive; got {max_norm!r} and {norm_type!r}")
    grads = _gradients(parameters)
    norms = [np.linalg.norm(g.ravel(), norm_type) for g in grads]
    norm = float(np.linalg.norm(norms, norm_type)) if norms else 0.0
    if error_if_nonfinite and not np.isfinite(norm):
        raise AnomalyError(f"the norm of the gradients is {norm}; tg.detect_anomaly() finds the operation that made it")
    scale = max_norm / (norm + 1e-6)
    if not scale >= 1:  # also for a NaN, which then shows in every gradient
        for g in grads:
            g *= scale
    return norm


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Bring every element of every gradient into [-clip_value, clip_value], in place; the direction may change.

    Raises ValueError when ``clip_value`` is not positive.

    >>> from tinygrad_opt import nn
    >>> w = nn.Parameter([3.0, -0.25])
    >>> (w * w).sum().backward()
    >>> nn.utils.clip_grad_value_(w, 1.0)
    >>> w.grad
    Tensor([ 1. , -0.5])
    """
    if not clip_value > 0:
        raise ValueError(f"clip_value must be positive; got {clip_value!r}")
    for g in _gradients(parameters):
        np.clip(g, -clip_value, clip_value, out=g)


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Any]:
    """The arrays of the gradients that there are."""
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p.grad.data for p in given if p.grad is not None]
