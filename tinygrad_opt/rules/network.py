"""Fused primitives: the functions that networks are made of, each one node of the graph with its own rule.

Every function here could be written with the other files' functions, and gives the same gradients; fused, it makes
fewer NumPy calls, and is stable where the plain formula overflows.
"""

import functools
import math
from typing import Any

import numpy as np

from tinygrad_opt.rules.reductions import spread
from tinygrad_opt.rules.registry import NON_DIFFERENTIABLE, defvjp, primitive

# Layers --------------------------------------------------------------------------------------------------------------


@primitive(inline=True)
def linear(x, weight, bias=None):
    """``x @ weight.T + bias``: x is (..., in_features), weight is (out_features, in_features)."""
    if x.ndim == 0 or weight.ndim != 2 or (bias is not None and bias.ndim != 1):
        raise ValueError("linear needs inputs with at least one axis, a matrix of weights and a vector of biases")
    out = np.dot(x, weight.T)  # at this size half the overhead of @
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


@primitive(inline=True)
def relu(x):
    """max(x, 0), with the derivative 0 at 0. NumPy takes the maximum with an array faster than that with a number."""
    return np.maximum(x, np.zeros(x.shape, x.dtype))


@primitive(inline=True)
def sigmoid(x):
    """1 / (1 + e⁻ˣ), without overflow: e^-log(1 + e⁻ˣ)."""
    return np.exp(-np.logaddexp(0, -x))


@primitive(inline=True)
def leaky_relu(x, slope=0.01):
    """x where it is positive, and slope · x elsewhere, also at 0 as far as the derivative goes."""
    return np.where(x > 0, x, slope * x)


@primitive(inline=True)
def elu(x, alpha=1.0):
    """x where it is positive, and α (eˣ - 1) elsewhere."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


@primitive(inline=True)
def softplus(x, beta=1.0):
    """log(1 + e^(βx)) / β, without overflow."""
    return np.logaddexp(0, beta * x) / beta


@primitive(prepare=sigmoid, inline=True)
def silu(x, *, prepared):
    """x σ(x); ``prepared`` is σ(x)."""
    return x * prepared


POINTS = 128  # points of the table of Φ in a unit: with five terms of the series, Φ is then exact to rounding
FURTHEST = 38  # beyond it, Φ is 0 or 1


@functools.cache
def _normal_table(dtype):
    """Φ and φ, the normal distribution and its density, at the points of the table."""
    points = np.arange(-FURTHEST * POINTS, FURTHEST * POINTS + 1) / POINTS
    distribution = [math.erfc(-c / math.sqrt(2)) / 2 for c in points.tolist()]
    return np.array(distribution, dtype), normal_density(points).astype(dtype)


@primitive
def normal_cdf(x):
    """Φ(x), the normal distribution: the Taylor series around the nearest point c of a table, in d = x - c.

    The derivatives of Φ are φ, -c φ, (c² - 1) φ, -(c³ - 3c) φ, (c⁴ - 6c² + 3) φ.
    """
    distribution, density = _normal_table(x.dtype)
    x = np.clip(x, -FURTHEST, FURTHEST)
    steps = np.rint(x * POINTS)
    c = steps / POINTS
    d = x - c
    place = np.where(np.isnan(steps), 0, steps).astype(np.intp) + FURTHEST * POINTS
    c2 = c * c
    series = ((c2 - 6) * c2 + 3) * d / 120 - (c2 - 3) * c / 24
    series = ((series * d + (c2 - 1) / 6) * d - c / 2) * d + 1
    return distribution[place] + density[place] * d * series


def normal_density(x):
    """φ(x) = e^(-x²/2) / √(2π); beyond ±40 it is 0, and x² would overflow for the largest x."""
    x = np.clip(x, -40, 40)
    return np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


@primitive(prepare=normal_cdf, inline=True)
def gelu(x, *, prepared):
    """x Φ(x); ``prepared`` is Φ(x)."""
    return x * prepared


@primitive(inline=True)
def softmax(x, axis=-1):
    """eˣ / Σ eˣ along ``axis``, without overflow."""
    e = np.exp(x - np.maximum.reduce(x, axis=axis, keepdims=True))
    e /= np.add.reduce(e, axis=axis, keepdims=True)
    return e


@primitive(inline=True)
def log_softmax(x, axis=-1):
    """x - log Σ eˣ along ``axis``, without overflow."""
    z = x - np.maximum.reduce(x, axis=axis, keepdims=True)
    z -= np.log(_row_sums(np.exp(z)) if axis == -1 and z.ndim else np.add.reduce(np.exp(z), axis=axis, keepdims=True))
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

# The result is never negative, so its sign is the mask, 0 or 1, in the right dtype; of many elements != is faster.
defvjp(relu, lambda g, out, _x: g * (np.sign(out) if out.size < 4096 else out != 0))
defvjp(sigmoid, lambda g, out, _x: g * out * (1 - out))
defvjp(leaky_relu, lambda g, _out, x, slope=0.01: np.where(x > 0, g, slope * g))
defvjp(elu, lambda g, out, x, alpha=1.0: np.where(x > 0, g, g * (out + alpha)))
defvjp(softplus, lambda g, _out, x, beta=1.0: g * sigmoid(beta * x))
defvjp(silu, lambda g, out, _x, *, prepared: g * (prepared + out * (1 - prepared)))
defvjp(normal_cdf, lambda g, _out, x: g * normal_density(x))
defvjp(gelu, lambda g, _out, x, *, prepared: g * (prepared + x * normal_density(x)))
defvjp(
    softmax,
    lambda g, out, _x, axis=-1: out * (g - np.add.reduce(g * out, axis=axis, keepdims=True)),
)
defvjp(
    log_softmax,
    lambda g, out, _x, axis=-1: g - np.exp(out) * np.add.reduce(g, axis=axis, keepdims=True),
)

# Normalisation -------------------------------------------------------------------------------------------------------


def moments(x: Any, axes: tuple[int, ...], _eps: float = 0.0) -> tuple[Any, Any]:
    """The mean and the variance over ``axes``, which stay as axes of length 1."""
    count = math.prod(x.shape[a] for a in axes)
    mean = np.add.reduce(x, axis=axes, keepdims=True) / count
    deviation = x - mean
    return mean, np.add.reduce(deviation * deviation, axis=axes, keepdims=True) / count


@primitive(prepare=moments, inline=True)
def standardize(x, axes, eps, *, prepared):
    """(x - μ) / √(σ² + ε), with the mean μ and the variance σ² over ``axes``; ``prepared`` is μ and σ²."""
    mean, variance = prepared
    return (x - mean) / np.sqrt(variance + eps)


def _standardize_rule(g, out, _x, axes, eps, *, prepared):
    """What moves the mean, or the spread, of all does not move the result: that part of ``g`` is taken away."""
    mean, along = moments(g, axes)[0], moments(g * out, axes)[0]
    return (g - mean - out * along) / np.sqrt(prepared[1] + eps)


defvjp(standardize, _standardize_rule)

# Losses: one value per example, then the reduction over all of them --------------------------------------------------


def _reduce(losses, reduction):
    """The mean or the sum of all losses, or (``"none"``) the losses themselves."""
    if reduction == "none":
        return losses
    few = losses.ndim == 1 and losses.size <= 1024
    total = np.dot(losses, _ones(losses.shape, losses.dtype)) if few else np.add.reduce(losses, axis=None)
    return total / losses.size if reduction == "mean" else total


def _each(g, count, reduction):
    """The upstream gradient of each of ``count`` losses, from that of their reduction."""
    return g / count if reduction == "mean" else g


@primitive(inline=True)
def squared_error(x, y, reduction="mean"):
    """(x - y)²."""
    difference = x - y
    return _reduce(difference * difference, reduction)


defvjp(
    squared_error,
    lambda g, _out, x, y, reduction="mean": _each(g, x.size, reduction) * (2 * (x - y)),
    lambda g, _out, x, y, reduction="mean": _each(g, x.size, reduction) * (2 * (y - x)),
)


@primitive(inline=True)
def absolute_error(x, y, reduction="mean"):
    """|x - y|, with the derivative 0 at 0."""
    return _reduce(np.abs(x - y), reduction)


defvjp(
    absolute_error,
    lambda g, _out, x, y, reduction="mean": _each(g, x.size, reduction) * np.sign(x - y),
    lambda g, _out, x, y, reduction="mean": _each(g, x.size, reduction) * np.sign(y - x),
)


@primitive(inline=True)
def huber(x, y, reduction="mean", delta=1.0):
    """d²/2 for d = |x - y| up to δ, and from there on the straight line δ (d - δ/2)."""
    distance = np.abs(x - y)
    near = np.minimum(distance, delta)
    return _reduce(near * (distance - near / 2), reduction)


defvjp(
    huber,
    lambda g, _out, x, y, reduction="mean", delta=1.0: _each(g, x.size, reduction) * np.clip(x - y, -delta, delta),
    lambda g, _out, x, y, reduction="mean", delta=1.0: _each(g, x.size, reduction) * np.clip(y - x, -delta, delta),
)


@primitive(inline=True)
def hinge(x, y, reduction="mean"):
    """max(0, 1 - y x) for labels y of -1 or 1, with the derivative 0 at the kink y x = 1."""
    return _reduce(np.maximum(1 - y * x, 0), reduction)


defvjp(
    hinge,
    lambda g, _out, x, y, reduction="mean": _each(g, x.size, reduction) * (-y * (y * x < 1)),
    lambda g, _out, x, y, reduction="mean": _each(g, x.size, reduction) * (-x * (y * x < 1)),
)


@primitive(inline=True)
def squared_hinge(x, y, reduction="mean"):
    """max(0, 1 - y x)² for labels y of -1 or 1."""
    return _reduce(np.square(np.maximum(1 - y * x, 0)), reduction)


defvjp(
    squared_hinge,
    lambda g, _out, x, y, reduction="mean": _each(g, x.size, reduction) * (-2 * y * np.maximum(1 - y * x, 0)),
    lambda g, _out, x, y, reduction="mean": _each(g, x.size, reduction) * (-2 * x * np.maximum(1 - y * x, 0)),
)


def _bounded_log(p):
    """log p, but at least -100, as in PyTorch: also for p = 0."""
    return np.maximum(np.log(np.maximum(p, 1e-45)), -100)


@primitive(inline=True)
def log_loss(p, y, reduction="mean"):
    """-y log p - (1 - y) log(1 - p) for probabilities p; each logarithm is at least -100."""
    return _reduce((y - 1) * _bounded_log(1 - p) - y * _bounded_log(p), reduction)


defvjp(
    log_loss,
    lambda g, _out, p, y, reduction="mean": _each(g, p.size, reduction) * ((p - y) / np.maximum(p * (1 - p), 1e-12)),
    lambda g, _out, p, _y, reduction="mean": _each(g, p.size, reduction) * (_bounded_log(1 - p) - _bounded_log(p)),
)


@primitive(inline=True)
def log_loss_with_logits(x, y, reduction="mean"):
    """The log loss of p = sigmoid(x), without forming p: max(x, 0) - x y + log(1 + e^-|x|)."""
    losses = np.maximum(x, 0) - x * y + np.log1p(np.exp(-np.abs(x)))
    return _reduce(losses, reduction)


defvjp(
    log_loss_with_logits,
    lambda g, _out, x, y, reduction="mean": _each(g, x.size, reduction) * (sigmoid(x) - y),
    lambda g, _out, x, _y, reduction="mean": _each(g, x.size, reduction) * -x,
)


@primitive(pure=False)
def one_hot(places, classes):
    """A mask (..., classes), True at each of the class indices (...); raises ValueError for one that is no class."""
    mask = np.equal(places[..., None], _numbers(classes))
    if np.count_nonzero(mask) != places.size:
        wrong = places[(places < 0) | (places >= classes)]
        raise ValueError(f"class indices must lie in 0 ... {classes - 1} for {classes} classes; got {wrong.flat[0]}")
    return mask


NON_DIFFERENTIABLE.add(one_hot)


@functools.lru_cache(maxsize=16)
def _numbers(classes):
    """0, 1, 2, ... ``classes`` - 1."""
    return np.arange(classes)


@primitive
def pick(x, mask):
    """Of every row of x (..., classes), the element where the mask is True: there is one in each row."""
    picked = x[mask]
    return picked if x.ndim == 2 else picked.reshape(x.shape[:-1])


defvjp(pick, lambda g, _out, _x, mask: np.where(mask, np.expand_dims(g, -1), 0), None)


@primitive(prepare=lambda x, onehot, reduction="mean": log_softmax(x), inline=True)
def softmax_log_loss(x, onehot, reduction="mean", *, prepared):
    """-log softmax(x) at the true class: x is (..., classes), onehot a mask of that shape, True at the class.

    ``prepared`` is log softmax(x). Without reduction the losses have the shape of x without the classes.
    """
    return -_reduce(pick(prepared, onehot), reduction)


def _softmax_log_loss_rule(g, _out, x, onehot, reduction="mean", *, prepared):
    scale = _each(g, x.size // x.shape[-1], reduction)
    if reduction == "none":
        scale = np.expand_dims(scale, -1)
    return scale * (np.exp(prepared) - onehot.astype(x.dtype))


defvjp(softmax_log_loss, _softmax_log_loss_rule, None)
