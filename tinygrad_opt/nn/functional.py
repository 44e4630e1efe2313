"""Layers, activations and losses as functions: they check what they are given, and call the fused primitives.

Inputs may be arrays or Tensors; the result is a Tensor. An array is taken in the dtype of the Tensor it meets, or else
in the default dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygrad_opt.errors import ShapeError
from tinygrad_opt.rules import network
from tinygrad_opt.tensor import Tensor, apply, get_default_dtype

# Layers --------------------------------------------------------------------------------------------------------------


def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """``x @ weight.T + bias``: x (..., in_features), weight (out_features, in_features), bias (out_features,).

    Raises ShapeError when the last axis of ``x`` is not ``in_features`` long.

    >>> import numpy as np
    >>> from tinygrad_opt.nn import functional as F
    >>> F.linear(np.ones((2, 3)), np.ones((4, 3)), np.zeros(4)).shape
    (2, 4)
    """
    if not isinstance(x, Tensor):
        x = _array_like(x, weight)
    try:
        return apply(network.linear, (x, weight) if bias is None else (x, weight, bias), {})
    except ValueError as error:
        raise ShapeError(
            f"linear needs inputs of shape (..., {weight.shape[-1]}) for a weight of shape {weight.shape}, and a bias "
            f"of {weight.shape[:1]}; got inputs of shape {x.shape}" + ("" if bias is None else f", bias {bias.shape}")
        ) from error


# Activations ---------------------------------------------------------------------------------------------------------


def relu(x: Any) -> Tensor:
    """max(x, 0) for each element, with the derivative 0 at 0.

    >>> from tinygrad_opt.nn import functional as F
    >>> F.relu([-1.0, 2.0])
    Tensor([0., 2.])
    """
    return apply(network.relu, (x if isinstance(x, Tensor) else _input(x),), {})


def tanh(x: Any) -> Tensor:
    """The hyperbolic tangent of each element: between -1 and 1.

    >>> from tinygrad_opt.nn import functional as F
    >>> F.tanh([0.0])
    Tensor([0.])
    """
    return apply(np.tanh, (_input(x),), {})


def sigmoid(x: Any) -> Tensor:
    """1 / (1 + e⁻ˣ) for each element: between 0 and 1, without overflow.

    >>> from tinygrad_opt.nn import functional as F
    >>> F.sigmoid([-1e4, 0.0, 1e4])
    Tensor([0. , 0.5, 1. ])
    """
    return apply(network.sigmoid, (_input(x),), {})


def softmax(x: Any, axis: int = -1) -> Tensor:
    """eˣ / Σ eˣ along ``axis``: positive, and summing to 1.

    >>> from tinygrad_opt.nn import functional as F
    >>> F.softmax([1e4, 1e4])
    Tensor([0.5, 0.5])
    """
    return apply(network.softmax, (_input(x), axis), {})


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """x - log Σ eˣ along ``axis``: the logarithm of softmax, without overflow.

    >>> from tinygrad_opt.nn import functional as F
    >>> F.log_softmax([0.0, 1e4])
    Tensor([-10000.,      0.])
    """
    return apply(network.log_softmax, (_input(x), axis), {})


def logsumexp(x: Any, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
    """log Σ eˣ over ``axis`` (None: all elements), a smooth maximum, without overflow; its gradient is softmax.

    >>> from tinygrad_opt.nn import functional as F
    >>> F.logsumexp([[1e4, -1e4], [0.0, 0.0]], axis=1)
    Tensor([1.00000000e+04, 6.93147181e-01])
    """
    return apply(network.logsumexp, (_input(x), axis, keepdims), {})


# Losses --------------------------------------------------------------------------------------------------------------


def mse_loss(prediction: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Mean squared error: (prediction - target)², averaged (or summed, or not reduced) over all elements.

    Both have the same shape, any shape. Raises ShapeError otherwise: they are never broadcast.

    >>> from tinygrad_opt.nn import functional as F
    >>> F.mse_loss([1.0, 2.0], [1.0, 4.0]).item()
    2.0
    """
    prediction, target = _same_shape("mse_loss", prediction, target)
    return _loss(network.squared_error, prediction, target, reduction)


def binary_cross_entropy(prediction: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Log loss on probabilities: -y log p - (1 - y) log(1 - p), averaged over all elements.

    ``prediction`` holds probabilities in [0, 1], ``target`` labels in [0, 1], both of the same shape. Logarithms are
    kept above -100. Where the probabilities come from a sigmoid, `binary_cross_entropy_with_logits` is more exact.

    Raises ShapeError for different shapes, ValueError for values outside [0, 1].

    >>> from tinygrad_opt.nn import functional as F
    >>> round(F.binary_cross_entropy([0.5, 0.5], [0.0, 1.0]).item(), 4)
    0.6931
    """
    prediction, target = _same_shape("binary_cross_entropy", prediction, target)
    _check_probabilities("binary_cross_entropy: predictions", prediction)
    _check_probabilities("binary_cross_entropy: targets", target)
    return _loss(network.log_loss, prediction, target, reduction)


def binary_cross_entropy_with_logits(prediction: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Log loss of p = sigmoid(prediction): max(x, 0) - x y + log(1 + e^-|x|), averaged over all elements.

    ``prediction`` holds any real numbers, ``target`` labels in [0, 1], both of the same shape.

    Raises ShapeError for different shapes, ValueError for targets outside [0, 1].

    >>> from tinygrad_opt.nn import functional as F
    >>> F.binary_cross_entropy_with_logits([1e4, -1e4], [1.0, 1.0]).item()
    5000.0
    """
    prediction, target = _same_shape("binary_cross_entropy_with_logits", prediction, target)
    _check_probabilities("binary_cross_entropy_with_logits: targets", target)
    return _loss(network.log_loss_with_logits, prediction, target, reduction)


def cross_entropy(logits: Any, target: Any, reduction: str = "mean", label_smoothing: float = 0.0) -> Tensor:
    """-log softmax(logits) at the true class, averaged over the examples.

    ``logits`` is (classes,), (batch, classes) or (batch, classes, ...). ``target`` holds class indices and has that
    shape without the classes, or holds probabilities of every class and has the same shape. With ``label_smoothing``
    s in [0, 1] the target becomes (1 - s) target + s / classes.

    Raises ShapeError for shapes that do not fit, ValueError for a class index outside 0 ... classes - 1,
    probabilities outside [0, 1], or a ``label_smoothing`` outside [0, 1].

    >>> from tinygrad_opt.nn import functional as F
    >>> round(F.cross_entropy([[2.0, 0.0, 0.0]], [0]).item(), 4)
    0.2395
    """
    logits = _input(logits)
    target = target if isinstance(target, Tensor) else np.asarray(target)
    shape = logits.shape
    if not shape or shape[1 if len(shape) > 1 else 0] == 0:
        raise ShapeError(f"cross_entropy needs logits of shape (batch, classes); got {shape}")
    if len(shape) > 2:
        logits = np.moveaxis(logits, 1, -1)
        target = np.moveaxis(target, 1, -1) if target.ndim == len(shape) else target
        shape = logits.shape
    if target.dtype.kind in "iu":
        mask = _one_hot(shape, target.data if isinstance(target, Tensor) else target)
        if not label_smoothing:
            return _loss(network.softmax_log_loss, logits, mask, reduction)
        target = mask.astype(logits.dtype)
    if target.shape != shape or target.dtype.kind != "f":
        raise ShapeError(
            f"cross_entropy needs integer class indices of shape {shape[:-1]}, or probabilities of shape "
            f"{shape}, for these logits; got a target of shape {target.shape} and dtype {target.dtype}"
        )
    if not isinstance(target, Tensor):
        target = _array_like(target, logits)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must lie in [0, 1]; got {label_smoothing}")
    _check_probabilities("cross_entropy: target probabilities", target)
    if label_smoothing:
        target = (1 - label_smoothing) * target + label_smoothing / logits.shape[-1]
    if reduction == "mean" and not logits.size:
        raise ShapeError(f"the mean loss of no examples is not defined; got logits of shape {shape}")
    losses = -(log_softmax(logits) * target).sum(axis=-1)
    reduce: dict[str, Callable[[], Tensor]] = {"mean": losses.mean, "sum": losses.sum, "none": losses.__pos__}
    return reduce[check_reduction(reduction)]()


def hinge_loss(prediction: Any, target: Any, reduction: str = "mean") -> Tensor:
    """max(0, 1 - target · prediction) for labels of -1 or 1, averaged over all elements.

    ``prediction`` holds any real numbers (scores), ``target`` the labels, both of the same shape. At the kink,
    target · prediction = 1, the derivative is taken to be 0.

    Raises ShapeError for different shapes, ValueError for labels other than -1 and 1.

    >>> from tinygrad_opt.nn import functional as F
    >>> F.hinge_loss([2.0, 0.5, -1.0], [1, 1, 1]).item()
    0.8333333333333334
    """
    prediction, target = _same_shape("hinge_loss", prediction, target)
    labels = target.data if isinstance(target, Tensor) else target
    wrong = np.abs(labels) != 1
    if wrong.any():
        raise ValueError(
            f"hinge_loss needs labels of -1 or 1; got {labels[wrong].flat[0]:g}. For labels of 0 and 1 write 2 * y - 1"
        )
    return _loss(network.hinge, prediction, target, reduction)


# Checks --------------------------------------------------------------------------------------------------------------


def _loss(primitive: Any, prediction: Any, target: Any, reduction: str) -> Tensor:
    """Run a fused loss."""
    if reduction == "mean" and not prediction.size:
        raise ShapeError(f"the mean loss of no examples is not defined; got predictions of shape {prediction.shape}")
    return apply(primitive, (prediction, target, check_reduction(reduction)), {})


def check_reduction(reduction: str) -> str:
    """The reduction, if it is one; raises ValueError otherwise."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction must be "mean", "sum" or "none"; got {reduction!r}')
    return reduction


def _input(value: Any) -> Any:
    """A Tensor as it is; anything else as an array in the default dtype."""
    return value if isinstance(value, Tensor) else _array_like(value, None)


def _array_like(value: Any, tensor: Any) -> npt.NDArray[Any]:
    """An input as a floating-point array: in the dtype of ``tensor``, or else in the default one."""
    dtype = get_default_dtype() if tensor is None else tensor.dtype
    if value.__class__ is np.ndarray and value.dtype is dtype:
        return value
    return np.asarray(value, dtype=dtype if dtype.kind == "f" else None)


def _same_shape(loss: str, prediction: Any, target: Any) -> tuple[Any, Any]:
    """Prediction and target as arrays or Tensors of one shape; raises ShapeError when they are not."""
    if not isinstance(prediction, Tensor):
        prediction = _array_like(prediction, target if isinstance(target, Tensor) else None)
    if not isinstance(target, Tensor):
        target = _array_like(target, prediction)
    if prediction.shape != target.shape:
        raise ShapeError(
            f"{loss} needs prediction and target of one shape; got {prediction.shape} and {target.shape}, which would "
            "be broadcast against each other. Reshape one, such as target.reshape(prediction.shape) or target[:, None]"
        )
    return prediction, target


def _check_probabilities(what: str, values: Any) -> None:
    array = values.data if isinstance(values, Tensor) else values
    wrong = ~((array >= 0) & (array <= 1))
    if wrong.any():
        raise ValueError(f"{what} must lie in [0, 1]; got {array[wrong].flat[0]:g}")


def _one_hot(shape: tuple[int, ...], target: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """A mask of ``shape``, (..., classes), True at each target's class."""
    classes = shape[-1]
    if target.shape != shape[:-1]:
        raise ShapeError(
            f"cross_entropy needs one class index per example: shape {shape[:-1]} for logits with {classes} classes "
            f"(last axis of {shape}); got target indices of shape {target.shape}"
        )
    mask: npt.NDArray[np.bool_] = np.equal(target[..., None], np.arange(classes))
    if np.count_nonzero(mask) != target.size:
        wrong = target[(target < 0) | (target >= classes)]
        raise ValueError(f"class indices must lie in 0 ... {classes - 1} for {classes} classes; got {wrong.flat[0]}")
    return mask
