"""Losses as modules: each holds its options and calls the function of ``functional.py``."""

from __future__ import annotations

from typing import Any

from tinygrad_opt.nn import functional
from tinygrad_opt.nn.module import Module
from tinygrad_opt.tensor import Tensor


class _Loss(Module):
    """A loss with the one option that all share."""

    def __init__(self, reduction: str = "mean") -> None:
        functional.check_reduction(reduction)
        self.reduction = reduction

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"


class MSELoss(_Loss):
    """Mean squared error: (prediction - target)². See `functional.mse_loss`.

    >>> from tinygrad_opt import nn
    >>> nn.MSELoss()([1.0, 2.0], [1.0, 4.0]).item()
    2.0
    """

    def forward(self, prediction: Any, target: Any) -> Tensor:
        """Both of one shape -> the loss."""
        return functional.mse_loss(prediction, target, self.reduction)


class L1Loss(_Loss):
    """Mean absolute error: |prediction - target|. See `functional.l1_loss`.

    >>> from tinygrad_opt import nn
    >>> nn.L1Loss()([1.0, 2.0], [1.0, 4.0]).item()
    1.0
    """

    def forward(self, prediction: Any, target: Any) -> Tensor:
        """Both of one shape -> the loss."""
        return functional.l1_loss(prediction, target, self.reduction)


class HuberLoss(_Loss):
    """Quadratic near 0, linear from ``delta`` on. See `functional.huber_loss`.

    >>> from tinygrad_opt import nn
    >>> nn.HuberLoss(reduction="none")([0.5, 4.0], [0.0, 0.0])
    Tensor([0.125, 3.5  ])
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        if not delta > 0:
            raise ValueError(f"HuberLoss needs a positive delta; got {delta!r}")
        self.delta = delta

    def forward(self, prediction: Any, target: Any) -> Tensor:
        """Both of one shape -> the loss."""
        return functional.huber_loss(prediction, target, self.reduction, self.delta)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, delta={self.delta}"


class BCELoss(_Loss):
    """Log loss on probabilities. See `functional.binary_cross_entropy`.

    >>> from tinygrad_opt import nn
    >>> round(nn.BCELoss()([0.5], [1.0]).item(), 4)
    0.6931
    """

    def forward(self, prediction: Any, target: Any) -> Tensor:
        """Both of one shape, in [0, 1] -> the loss."""
        return functional.binary_cross_entropy(prediction, target, self.reduction)


class BCEWithLogitsLoss(_Loss):
    """Log loss on logits. See `functional.binary_cross_entropy_with_logits`.

    >>> from tinygrad_opt import nn
    >>> nn.BCEWithLogitsLoss()([1e4, -1e4], [1.0, 0.0]).item()
    0.0
    """

    def forward(self, prediction: Any, target: Any) -> Tensor:
        """Both of one shape -> the loss."""
        return functional.binary_cross_entropy_with_logits(prediction, target, self.reduction)


class CrossEntropyLoss(_Loss):
    """-log softmax(logits) at the true class. See `functional.cross_entropy`.

    >>> from tinygrad_opt import nn
    >>> round(nn.CrossEntropyLoss()([[2.0, 0.0, 0.0]], [0]).item(), 4)
    0.2395
    """

    def __init__(self, reduction: str = "mean", label_smoothing: float = 0.0) -> None:
        super().__init__(reduction)
        self.label_smoothing = functional.check_smoothing(label_smoothing)

    def forward(self, logits: Any, target: Any) -> Tensor:
        """Logits (batch, classes), target (batch,) -> the loss."""
        return functional.cross_entropy(logits, target, self.reduction, self.label_smoothing)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, label_smoothing={self.label_smoothing}"


class NLLLoss(_Loss):
    """-log p at the true class, from logarithms of probabilities. See `functional.nll_loss`.

    >>> import numpy as np
    >>> from tinygrad_opt import nn
    >>> round(nn.NLLLoss()(np.log([[0.25, 0.75]]), [0]).item(), 4)
    1.3863
    """

    def forward(self, log_probabilities: Any, target: Any) -> Tensor:
        """Logarithms (batch, classes), target (batch,) -> the loss."""
        return functional.nll_loss(log_probabilities, target, self.reduction)


class HingeLoss(_Loss):
    """max(0, 1 - target · prediction) for labels of -1 or 1. See `functional.hinge_loss`.

    >>> from tinygrad_opt import nn
    >>> nn.HingeLoss()([2.0, 0.5], [1, 1]).item()
    0.25
    """

    def forward(self, prediction: Any, target: Any) -> Tensor:
        """Both of one shape -> the loss."""
        return functional.hinge_loss(prediction, target, self.reduction)


class SquaredHingeLoss(_Loss):
    """max(0, 1 - target · prediction)² for labels of -1 or 1. See `functional.squared_hinge_loss`.

    >>> from tinygrad_opt import nn
    >>> nn.SquaredHingeLoss()([2.0, 0.5], [1, 1]).item()
    0.125
    """

    def forward(self, prediction: Any, target: Any) -> Tensor:
        """Both of one shape -> the loss."""
        return functional.squared_hinge_loss(prediction, target, self.reduction)


class MultiMarginLoss(_Loss):
    """The hinge loss of several classes, ``margin`` apart, to the power ``p``. See `functional.multi_margin_loss`.

    The arguments stand in PyTorch's order: (p, margin), then ``reduction``, by keyword.

    >>> from tinygrad_opt import nn
    >>> nn.MultiMarginLoss()([[0.0, 0.5]], [0]).item()
    0.75
    """

    def __init__(self, p: int = 1, margin: float = 1.0, *, reduction: str = "mean") -> None:
        super().__init__(reduction)
        if p not in (1, 2):
            raise ValueError(f"MultiMarginLoss needs p of 1 or 2; got {p!r}")
        self.p, self.margin = p, margin

    def forward(self, prediction: Any, target: Any) -> Tensor:
        """Scores (batch, classes), target (batch,) -> the loss."""
        return functional.multi_margin_loss(prediction, target, self.reduction, self.p, self.margin)

    def extra_repr(self) -> str:
        return f"p={self.p}, margin={self.margin}, {super().extra_repr()}"
