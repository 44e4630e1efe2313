"""Rules of functions that work element by element: each local derivative, times the upstream gradient.

Every line reads: function, then one rule per input, each ``(g, out, *inputs) -> gradient``. The inputs may have been
broadcast against each other; the backward walk undoes that, so no rule here does.
"""

import numpy as np

from tinygrad_opt.rules.registry import NON_DIFFERENTIABLE, composite, defvjp, primitive

# Arithmetic ----------------------------------------------------------------------------------------------------------

defvjp(np.add, lambda g, _out, _x, _y: g, lambda g, _out, _x, _y: g)
defvjp(np.subtract, lambda g, _out, _x, _y: g, lambda g, _out, _x, _y: -g)
defvjp(np.multiply, lambda g, _out, _x, y: g * y, lambda g, _out, x, _y: g * x)
defvjp(np.divide, lambda g, _out, _x, y: g / y, lambda g, out, _x, y: -g * out / y)
defvjp(np.negative, lambda g, _out, _x: -g)
defvjp(np.positive, lambda g, _out, _x: g)
defvjp(np.reciprocal, lambda g, out, _x: -g * out * out)
defvjp(np.square, lambda g, _out, x: g * (2 * x))
defvjp(np.remainder, lambda g, _out, _x, _y: g, lambda g, _out, x, y: -g * np.floor(x / y))
defvjp(np.fmod, lambda g, _out, _x, _y: g, lambda g, _out, x, y: -g * np.trunc(x / y))


def _one_less(x, y):
    """The exponent ``y - 1``, but 1 at 0⁰, so that ``y * x**(y - 1)`` is 0 there and not 0 · ∞."""
    if isinstance(y, (int, float)) and y != 0:
        return y - 1
    return np.where((x == 0) & (y == 0), 1, y - 1)


for power in (np.power, np.float_power):
    defvjp(
        power,
        lambda g, _out, x, y: g * (y * x ** _one_less(x, y)),
        lambda g, out, x, y: g * out * np.log(np.where(x == 0, 1, x)),
    )

# Exponentials and logarithms -----------------------------------------------------------------------------------------

defvjp(np.sqrt, lambda g, out, _x: 0.5 * g / out)
defvjp(np.cbrt, lambda g, out, _x: g / (3 * out * out))
defvjp(np.exp, lambda g, out, _x: g * out)
defvjp(np.exp2, lambda g, out, _x: g * out * float(np.log(2)))
defvjp(np.expm1, lambda g, out, _x: g * (out + 1))
defvjp(np.log, lambda g, _out, x: g / x)
defvjp(np.log2, lambda g, _out, x: g / (x * float(np.log(2))))
defvjp(np.log10, lambda g, _out, x: g / (x * float(np.log(10))))
defvjp(np.log1p, lambda g, _out, x: g / (1 + x))
defvjp(
    np.logaddexp,
    lambda g, out, x, _y: g * np.exp(x - out),
    lambda g, out, _x, y: g * np.exp(y - out),
)
defvjp(
    np.logaddexp2,
    lambda g, out, x, _y: g * np.exp2(x - out),
    lambda g, out, _x, y: g * np.exp2(y - out),
)

# Trigonometry --------------------------------------------------------------------------------------------------------

defvjp(np.sin, lambda g, _out, x: g * np.cos(x))
defvjp(np.cos, lambda g, _out, x: -g * np.sin(x))
defvjp(np.tan, lambda g, out, _x: g * (1 + out * out))
defvjp(np.arcsin, lambda g, _out, x: g / np.sqrt(1 - x * x))
defvjp(np.arccos, lambda g, _out, x: -g / np.sqrt(1 - x * x))
defvjp(np.arctan, lambda g, _out, x: g / (1 + x * x))
defvjp(np.sinh, lambda g, _out, x: g * np.cosh(x))
defvjp(np.cosh, lambda g, _out, x: g * np.sinh(x))
defvjp(np.tanh, lambda g, out, _x: g * (1 - out * out))
defvjp(np.arcsinh, lambda g, _out, x: g / np.sqrt(x * x + 1))
defvjp(np.arccosh, lambda g, _out, x: g / np.sqrt(x * x - 1))
defvjp(np.arctanh, lambda g, _out, x: g / (1 - x * x))
defvjp(
    np.arctan2,
    lambda g, _out, y, x: g * x / (x * x + y * y),
    lambda g, _out, y, x: -g * y / (x * x + y * y),
)
for to_radians in (np.deg2rad, np.radians):
    defvjp(to_radians, lambda g, _out, _x: g * float(np.pi / 180))
for to_degrees in (np.rad2deg, np.degrees):
    defvjp(to_degrees, lambda g, _out, _x: g * float(180 / np.pi))


def _sinc_slope(x):
    """The derivative of sin(πx) / πx: near 0, where that formula cancels, its power series."""
    near = np.abs(x) < 0.5
    z, far = np.where(near, np.pi * x, 0), np.where(near, 1, x)
    series, term = 0 * z, -np.pi / 3
    for n in range(1, 13):
        series, term = series + term * z ** (2 * n - 1), -term * (n + 1) / (n * (2 * n + 2) * (2 * n + 3))
    return np.where(near, series, (np.cos(np.pi * far) - np.sinc(far)) / far)


defvjp(np.sinc, lambda g, _out, x: g * _sinc_slope(x))


def _nonzero(x):
    """``x`` with zeros replaced by ones: as a divisor it makes 0/0 a 0, the subgradient of a norm at 0."""
    return np.where(x == 0, 1, x)


defvjp(
    np.hypot,
    lambda g, out, x, _y: g * x / _nonzero(out),
    lambda g, out, _x, y: g * y / _nonzero(out),
)

# Kinks: where two branches meet, the derivative of each is weighted equally; abs'(0) = 0 -----------------------------

defvjp(np.absolute, lambda g, _out, x: g * np.sign(x))
defvjp(np.fabs, lambda g, _out, x: g * np.sign(x))
defvjp(
    np.maximum,
    lambda g, _out, x, y: g * np.where(x == y, 0.5, x > y),
    lambda g, _out, x, y: g * np.where(x == y, 0.5, x < y),
)
defvjp(
    np.minimum,
    lambda g, _out, x, y: g * np.where(x == y, 0.5, x < y),
    lambda g, _out, x, y: g * np.where(x == y, 0.5, x > y),
)
defvjp(
    np.fmax,
    lambda g, _out, x, y: g * np.where(x == y, 0.5, (x > y) | np.isnan(y)),
    lambda g, _out, x, y: g * np.where(x == y, 0.5, (x < y) | np.isnan(x)),
)
defvjp(
    np.fmin,
    lambda g, _out, x, y: g * np.where(x == y, 0.5, (x < y) | np.isnan(y)),
    lambda g, _out, x, y: g * np.where(x == y, 0.5, (x > y) | np.isnan(x)),
)
defvjp(np.copysign, lambda g, out, x, _y: g * (np.sign(x) * np.sign(out)), None)


def _inside(x, low, high):
    """1 where ``x`` lies between the limits, ends included (a missing limit does not limit), else 0."""
    above = True if low is None else x >= low
    return above & (True if high is None else x <= high)


@primitive
def clip(x, low=None, high=None):
    """``x`` between two limits, either of which may be None."""
    return np.clip(x, low, high)


defvjp(
    clip,
    lambda g, _out, x, low=None, high=None: g * _inside(x, low, high),
    lambda g, _out, x, low=None, high=None: g * ((x < low) if high is None else (x < low) & (low <= high)),
    lambda g, _out, x, low=None, high=None: g * ((x > high) if low is None else (x > high) | (low > high)),
)


@composite(np.clip)
def _clip(a, a_min=None, a_max=None, out=None, *, min=None, max=None):
    low, high = a_min if min is None else min, a_max if max is None else max
    if (a_min is not None and min is not None) or (a_max is not None and max is not None):
        raise ValueError("np.clip: give each limit once, as a_min and a_max or as min and max")
    return clip(a, low, high)


defvjp(np.heaviside, None, lambda g, _out, x, _y: g * (x == 0))
defvjp(
    np.nan_to_num,
    lambda g, _out, x, *, nan=0.0, posinf=None, neginf=None: np.where(np.isfinite(x), g, 0),
)
defvjp(
    np.where,
    None,
    lambda g, _out, condition, _x, _y: np.where(condition, g, 0),
    lambda g, _out, condition, _x, _y: np.where(condition, 0, g),
)


@composite(np.select)
def select(condlist, choicelist, default=0):
    result = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        result = np.where(condition, choice, result)
    return result


# Types ---------------------------------------------------------------------------------------------------------------


@primitive
def astype(x, dtype):
    """A copy of ``x`` with another dtype; the backward walk casts the gradient back."""
    return x.astype(dtype)


defvjp(astype, lambda g, _out, _x, _dtype: g)

# Piecewise constant functions and questions --------------------------------------------------------------------------

# fmt: off
NON_DIFFERENTIABLE.update({
    np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal,
    np.logical_and, np.logical_or, np.logical_xor, np.logical_not,
    np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert,
    np.isfinite, np.isinf, np.isnan, np.isneginf, np.isposinf, np.signbit,
    np.isclose, np.allclose, np.array_equal, np.array_equiv, np.all, np.any,
    np.sign, np.floor, np.ceil, np.trunc, np.rint, np.fix, np.round, np.around, np.floor_divide,
    np.argmax, np.argmin, np.nanargmax, np.nanargmin, np.argsort, np.argpartition, np.argwhere, np.searchsorted,
    np.nonzero, np.flatnonzero, np.count_nonzero, np.lexsort, np.digitize,
    np.ndim, np.shape, np.size, np.zeros_like, np.ones_like, np.empty_like,
    np.result_type, np.can_cast, np.min_scalar_type, np.iscomplexobj, np.isrealobj,
    np.may_share_memory, np.shares_memory, np.array_repr, np.array_str, np.array2string,
})
# fmt: on
