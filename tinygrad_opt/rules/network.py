"""Fused primitives: the functions that networks are made of, each one node of the graph with its own rule.

Every function here could be written with the other files' functions, and gives the same gradients; fused, it makes
fewer NumPy calls, and is stable where the plain formula overflows.
"""

import functools
import math

import numpy as np

from tinygrad_opt.rules.reductions import spread
from tinygrad_opt.rules.registry import defvjp, primitive

# Layers --------------------------------------------------------------------------------------------------------------


@primitive
def linear(x, weight, bias=None):
    """``x @ weight.T + bias``: x is (..., in_features), weight is (out_features, in_features)."""
    if x.ndim == 0:
        raise ValueError("linear needs inputs with at least one axis")
    out = x.dot(weight.T)  # dot: at this size half the overhead of @
    if bias is not None:
        out += bias
    return out


def _rows(x):
    """``x`` of shape (..., n) as a matrix of shape (rows, n)."""
    return x if x.ndim == 2 else np.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def _column_sums(x):
    """The sum of the rows of a matrix: as a product with ones it takes half the time of ``x.sum(axis=0)``."""
    return np.dot(_ones(x.shape[0], x.dtype), x)


def _row_sums(x):
    """``x.sum(axis=-1, keepdims=True)``, as a product with ones, for the same reason."""
    return x.dot(_ones((x.shape[-1], 1), x.dtype))


@functools.lru_cache(maxsize=16)
def _ones(shape, dtype):
    """An array of ones; it is always the same one, so nobody may write into it."""
    ones = np.ones(shape, dtype)
    ones.flags.writeable = False
    return ones


defvjp(
    linear,
    lambda g, _out, _x, weight, _bias=None: g.dot(weight),
    lambda g, _out, x, _weight, _bias=None: _rows(g).T.dot(_rows(x)),
    lambda g, _out, _x, _weight, _bias=None: _column_sums(_rows(g)),
)

# Activations ---------------------------------------------------------------------------------------------------------


@primitive
def relu(x):
    """max(x, 0), with the derivative 0 at 0. NumPy takes the maximum with an array faster than that with a number."""
    return np.maximum(x, np.zeros(x.shape, x.dtype))


@primitive
def sigmoid(x):
    """1 / (1 + e⁻ˣ), without overflow: e^-log(1 + e⁻ˣ)."""
    return np.exp(-np.logaddexp(0, -x))


@primitive
def softmax(x, axis=-1):
    """eˣ / Σ eˣ along ``axis``, without overflow."""
    e = np.exp(x - np.maximum.reduce(x, axis=axis, keepdims=True))
    e /= np.add.reduce(e, axis=axis, keepdims=True)
    return e


@primitive
def log_softmax(x, axis=-1):
    """x - log Σ eˣ along ``axis``, without overflow."""
    z = x - np.maximum.reduce(x, axis=axis, keepdims=True)
    z -= np.log(_row_sums(np.exp(z)) if axis == -1 else np.add.reduce(np.exp(z), axis=axis, keepdims=True))
    return z


@primitive
def logsumexp(x, axis=None, keepdims=False):
    """log Σ eˣ over ``axis``, without overflow; of nothing but -∞ it is -∞."""
    top = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore"):
        out = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return out if keepdims else np.squeeze(out, axis=axis)


def _logsumexp_rule(g, out, x, axis=None, keepdims=False):
    out = spread(out, x.shape, axis, keepdims)
    x = np.where(np.isinf(out), np.where(x == out, 0, -np.inf), x)  # equal infinities share the gradient equally
    return spread(g, x.shape, axis, keepdims) * (softmax(x, axis) if x.size else x)


defvjp(logsumexp, _logsumexp_rule)

# Of a result that is never negative the sign is the mask, 0 or 1, in the right dtype and in one call.
defvjp(relu, lambda g, out, _x: g * np.sign(out))
defvjp(sigmoid, lambda g, out, _x: g * out * (1 - out))
defvjp(
    softmax,
    lambda g, out, _x, axis=-1: out * (g - np.add.reduce(g * out, axis=axis, keepdims=True)),
)
defvjp(
    log_softmax,
    lambda g, out, _x, axis=-1: g - np.exp(out) * np.add.reduce(g, axis=axis, keepdims=True),
)

# Losses: one value per example, then the reduction over all of them --------------------------------------------------


def _reduce(losses, reduction):
    """The mean or the sum of all losses, or (``"none"``) the losses themselves."""
    if reduction == "none":
        return losses
    total = np.add.reduce(losses, axis=None)
    return total / losses.size if reduction == "mean" else total


def _each(g, count, reduction):
    """The upstream gradient of each of ``count`` losses, from that of their reduction."""
    return g / count if reduction == "mean" else g


@primitive
def squared_error(x, y, reduction="mean"):
    """(x - y)²."""
    difference = x - y
    return _reduce(difference * difference, reduction)


defvjp(
    squared_error,
    lambda g, _out, x, y, reduction="mean": _each(g, x.size, reduction) * (2 * (x - y)),
    lambda g, _out, x, y, reduction="mean": _each(g, x.size, reduction) * (2 * (y - x)),
)


@primitive
def hinge(x, y, reduction="mean"):
    """max(0, 1 - y x) for labels y of -1 or 1, with the derivative 0 at the kink y x = 1."""
    return _reduce(np.maximum(1 - y * x, 0), reduction)


defvjp(
    hinge,
    lambda g, _out, x, y, reduction="mean": _each(g, x.size, reduction) * (-y * (y * x < 1)),
    lambda g, _out, x, y, reduction="mean": _each(g, x.size, reduction) * (-x * (y * x < 1)),
)


def _bounded_log(p):
    """log p, but at least -100, as in PyTorch: also for p = 0."""
    return np.maximum(np.log(np.maximum(p, 1e-45)), -100)


@primitive
def log_loss(p, y, reduction="mean"):
    """-y log p - (1 - y) log(1 - p) for probabilities p; each logarithm is at least -100."""
    return _reduce((y - 1) * _bounded_log(1 - p) - y * _bounded_log(p), reduction)


defvjp(
    log_loss,
    lambda g, _out, p, y, reduction="mean": _each(g, p.size, reduction) * ((p - y) / np.maximum(p * (1 - p), 1e-12)),
    lambda g, _out, p, _y, reduction="mean": _each(g, p.size, reduction) * (_bounded_log(1 - p) - _bounded_log(p)),
)


@primitive
def log_loss_with_logits(x, y, reduction="mean"):
    """The log loss of p = sigmoid(x), without forming p: max(x, 0) - x y + log(1 + e^-|x|)."""
    losses = np.maximum(x, 0) - x * y + np.log1p(np.exp(-np.abs(x)))
    return _reduce(losses, reduction)


defvjp(
    log_loss_with_logits,
    lambda g, _out, x, y, reduction="mean": _each(g, x.size, reduction) * (sigmoid(x) - y),
    lambda g, _out, x, _y, reduction="mean": _each(g, x.size, reduction) * -x,
)


@primitive(prepare=lambda x, onehot, reduction="mean": log_softmax(x))
def softmax_log_loss(x, onehot, reduction="mean", *, prepared):
    """-log softmax(x) at the true class: x is (..., classes), onehot a mask of that shape, True at the class.

    ``prepared`` is log softmax(x). Without reduction the losses have the shape of x without the classes.
    """
    losses = prepared[onehot]
    return -_reduce(losses if reduction != "none" else losses.reshape(x.shape[:-1]), reduction)


def _softmax_log_loss_rule(g, _out, x, onehot, reduction="mean", *, prepared):
    scale = _each(g, x.size // x.shape[-1], reduction)
    if reduction == "none":
        scale = np.expand_dims(scale, -1)
    return scale * (np.exp(prepared) - onehot.astype(x.dtype))


defvjp(softmax_log_loss, _softmax_log_loss_rule, None)
