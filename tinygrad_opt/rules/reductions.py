"""Rules of functions that sum up an axis or all of an array.

The gradient of a reduction goes back to every element that took part: `spread` gives it the shape of the input again.
"""

import math

import numpy as np

from tinygrad_opt.rules.registry import defvjp, primitive, unread_inputs


@primitive(inline=True)
def spread(g, shape, axis, keepdims):
    """``g``, the result of reducing an array of ``shape`` over ``axis``, repeated to that shape again."""
    if not keepdims and axis is not None and shape:
        g = np.expand_dims(g, tuple(a % len(shape) for a in np.atleast_1d(axis)))
    return np.broadcast_to(g, shape)


defvjp(
    spread,
    lambda g, _out, _g, _shape, axis, keepdims: np.sum(g, axis=axis, keepdims=bool(keepdims)),
)


def _count(size, results):
    """How many elements went into each result of a reduction."""
    return size // max(results, 1)


# Sums and moments ----------------------------------------------------------------------------------------------------

defvjp(
    np.sum,
    lambda g, _out, _x, axis=None, dtype=None, *, keepdims=False: spread(g, _x.shape, axis, keepdims),
)
defvjp(
    np.mean,
    lambda g, _out, _x, axis=None, dtype=None, *, keepdims=False: (
        spread(g, _x.shape, axis, keepdims) / _count(_x.size, _out.size)
    ),
)


def _deviation(x, axis):
    return x - np.mean(x, axis=axis, keepdims=True)


defvjp(
    np.var,
    lambda g, _out, x, axis=None, dtype=None, *, ddof=0, keepdims=False: (
        spread(2 * g / (_count(x.size, _out.size) - ddof), x.shape, axis, keepdims) * _deviation(x, axis)
    ),
)
defvjp(
    np.std,  # at a standard deviation of 0 the subgradient is 0
    lambda g, out, x, axis=None, dtype=None, *, ddof=0, keepdims=False: (
        spread(g / np.where(out == 0, 1, out) / (_count(x.size, out.size) - ddof), x.shape, axis, keepdims)
        * _deviation(x, axis)
    ),
)

# Products ------------------------------------------------------------------------------------------------------------


def _others(x, axis):
    """For each element, the product of all the others along ``axis``: right where elements are zero."""
    if axis is None:
        return np.reshape(_others(np.ravel(x), 0), x.shape)
    x = np.moveaxis(x, axis, -1)
    rows = np.where(np.eye(x.shape[-1], dtype=bool), 1, np.expand_dims(x, -2))
    return np.moveaxis(np.prod(rows, axis=-1), -1, axis)


def _can_divide(products):
    """Whether no product is zero, nor so small or large that it has lost digits or overflowed."""
    return np.all(np.isfinite(products) & (np.abs(products) >= np.finfo(products.dtype).tiny))


def _product_rule(g, out, x, axis=None, dtype=None, *, keepdims=False):
    if isinstance(axis, tuple):
        rest = [a for a in range(x.ndim) if a not in {b % x.ndim for b in axis}]
        order = (*rest, *(b % x.ndim for b in axis))
        shape = [x.shape[a] for a in rest]
        merged = np.transpose(x, order).reshape(*shape, math.prod(x.shape[a] for a in order[len(rest) :]))
        flat = spread(np.reshape(g, merged.shape[:-1]), merged.shape, -1, False) * _others(merged, -1)
        return np.transpose(flat.reshape([x.shape[a] for a in order]), np.argsort(order))
    if _can_divide(out):
        return spread(g * out, x.shape, axis, keepdims) / x
    return spread(g, x.shape, axis, keepdims) * _others(x, axis)


defvjp(np.prod, _product_rule)

# Extremes: elements that tie share the gradient equally --------------------------------------------------------------


def _extreme_rule(g, out, x, axis=None, *, keepdims=False):
    winners = np.equal(x, spread(out, x.shape, axis, keepdims))
    share = winners / np.sum(winners, axis=axis, keepdims=True)
    return spread(g, x.shape, axis, keepdims) * share


for extreme in (np.max, np.amax, np.min, np.amin):
    defvjp(extreme, _extreme_rule)

# Running sums, products and extremes ---------------------------------------------------------------------------------


def _tail_sums(g, axis):
    """For each element, the sum of ``g`` from there to the end of ``axis``."""
    return np.flip(np.cumsum(np.flip(g, axis), axis=axis), axis)


def _running(rule):
    """A rule along an axis, made to serve axis=None too: the running sum of the flattened array."""

    def flat_or_not(g, out, x, axis=None, dtype=None):
        if axis is None:
            return np.reshape(rule(g, out, np.ravel(x), 0), x.shape)
        return rule(g, out, x, axis)

    flat_or_not.unread = unread_inputs(rule, 1)  # type: ignore[attr-defined]
    return flat_or_not


def _running_product_rule(g, out, x, axis):
    if _can_divide(out):
        return _tail_sums(g * out, axis) / x
    # a zero: Σ over results k and elements i ≤ k of g_k times the product of the other elements up to k
    g, x = np.moveaxis(g, axis, -1), np.moveaxis(x, axis, -1)
    n = x.shape[-1]
    upto = np.tri(n, dtype=bool)  # [k, j]: element j is in result k
    left_out = np.eye(n, dtype=bool)[:, None, :] | ~upto  # [i, k, j]: j is i itself, or not in result k
    others = np.prod(np.where(left_out, 1, x[..., None, None, :]), axis=-1)  # [i, k]
    return np.moveaxis(np.sum(np.where(upto.T, others * g[..., None, :], 0), axis=-1), -1, axis)


def _running_extreme_rule(g, out, x, axis=0):
    """A result goes back to the elements seen so far that equal it, in equal parts; equal results are neighbours."""
    g, out, x = (np.moveaxis(a, axis, -1) for a in (g, out, x))
    if x.size == 0:
        return np.moveaxis(g, -1, axis)
    n, here, equal = x.shape[-1], np.equal(x, out), np.equal(out[..., 1:], out[..., :-1])
    edge = np.zeros((*x.shape[:-1], 1), bool)
    place = np.arange(n)
    first = np.maximum.accumulate(np.where(np.concatenate([edge, equal], -1), 0, place), axis=-1)
    after = np.minimum.accumulate(np.where(np.concatenate([equal, edge], -1), n, place + 1)[..., ::-1], axis=-1)[
        ..., ::-1
    ]
    seen = np.cumsum(here, axis=-1)
    ties = seen - np.take_along_axis(seen, first, -1) + 1
    tails = np.concatenate([_tail_sums(g / ties, -1), np.zeros(edge.shape, g.dtype)], -1)
    return np.moveaxis(np.where(here, tails[..., :-1] - np.take_along_axis(tails, after, -1), 0), -1, axis)


defvjp(np.cumsum, _running(lambda g, _out, _x, axis: _tail_sums(g, axis)))
defvjp(np.cumprod, _running(_running_product_rule))
for running in (np.maximum.accumulate, np.minimum.accumulate):
    defvjp(running, _running_extreme_rule)
