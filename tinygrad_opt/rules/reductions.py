"""Rules of functions that sum up an axis or all of an array.

The gradient of a reduction goes back to every element that took part: `spread` gives it the shape of the input again.
"""

import numpy as np

from tinygrad_opt.rules.registry import UFUNC_METHODS, defvjp, primitive


@primitive
def spread(g, shape, axis, keepdims):
    """``g``, the result of reducing an array of ``shape`` over ``axis``, repeated to that shape again."""
    if not keepdims and axis is not None and shape:
        g = np.expand_dims(g, tuple(a % len(shape) for a in np.atleast_1d(axis)))
    return np.broadcast_to(g, shape)


defvjp(
    spread,
    lambda g, _out, _g, _shape, axis, keepdims: np.sum(g, axis=axis, keepdims=bool(keepdims)),
)


def _count(x, out):
    """How many elements went into each result of a reduction."""
    return x.size // max(out.size, 1)


# Sums and moments ----------------------------------------------------------------------------------------------------

defvjp(
    np.sum,
    lambda g, _out, x, axis=None, dtype=None, keepdims=False: spread(g, x.shape, axis, keepdims),
)
defvjp(
    np.mean,
    lambda g, out, x, axis=None, dtype=None, keepdims=False: spread(g, x.shape, axis, keepdims) / _count(x, out),
)


def _deviation(x, axis):
    return x - np.mean(x, axis=axis, keepdims=True)


defvjp(
    np.var,
    lambda g, out, x, axis=None, dtype=None, ddof=0, keepdims=False: (
        spread(g, x.shape, axis, keepdims) * (2 / (_count(x, out) - ddof)) * _deviation(x, axis)
    ),
)
defvjp(
    np.std,  # at a standard deviation of 0 the subgradient is 0
    lambda g, out, x, axis=None, dtype=None, ddof=0, keepdims=False: (
        spread(g / np.where(out == 0, 1, out), x.shape, axis, keepdims) * _deviation(x, axis) / (_count(x, out) - ddof)
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


def _product_rule(g, out, x, axis=None, dtype=None, keepdims=False):
    if isinstance(axis, tuple):
        rest = [a for a in range(x.ndim) if a not in {b % x.ndim for b in axis}]
        order = (*rest, *(b % x.ndim for b in axis))
        merged = np.transpose(x, order).reshape(*(x.shape[a] for a in rest), -1)
        flat = spread(np.reshape(g, merged.shape[:-1]), merged.shape, -1, False) * _others(merged, -1)
        return np.transpose(flat.reshape([x.shape[a] for a in order]), np.argsort(order))
    if np.all(x != 0):
        return spread(g * out, x.shape, axis, keepdims) / x
    return spread(g, x.shape, axis, keepdims) * _others(x, axis)


defvjp(np.prod, _product_rule)

# Extremes: elements that tie share the gradient equally --------------------------------------------------------------


def _extreme_rule(g, out, x, axis=None, keepdims=False):
    winners = np.equal(x, spread(out, x.shape, axis, keepdims))
    share = winners / np.sum(winners, axis=axis, keepdims=True)
    return spread(g, x.shape, axis, keepdims) * share


for extreme in (np.max, np.amax, np.min, np.amin):
    defvjp(extreme, _extreme_rule)

# Running sums --------------------------------------------------------------------------------------------------------


def _running_sum_rule(g, _out, x, axis=None, dtype=None):
    if axis is None:
        return np.reshape(np.flip(np.cumsum(np.flip(g, 0)), 0), x.shape)
    return np.flip(np.cumsum(np.flip(g, axis), axis=axis), axis)


defvjp(np.cumsum, _running_sum_rule)

# np.add.reduce(x) is np.sum(x) with axis=0 as default, and so on -----------------------------------------------------

UFUNC_METHODS.update(
    {
        (np.add, "reduce"): np.sum,
        (np.multiply, "reduce"): np.prod,
        (np.maximum, "reduce"): np.max,
        (np.minimum, "reduce"): np.min,
        (np.add, "accumulate"): np.cumsum,
    }
)
