"""Rules of functions that work element by element: each local derivative, times the upstream gradient.

Every line reads: function, then one rule per input, each ``(g, out, *inputs) -> gradient``. The inputs may have been
broadcast against each other; the backward walk undoes that, so no rule here does.
"""

import math

import numpy as np

from tinygrad_opt.rules.registry import defvjp, primitive

# Arithmetic ----------------------------------------------------------------------------------------------------------

defvjp(np.add, lambda g, _out, _x, _y: g, lambda g, _out, _x, _y: g)
defvjp(np.subtract, lambda g, _out, _x, _y: g, lambda g, _out, _x, _y: -g)
defvjp(np.multiply, lambda g, _out, _x, y: g * y, lambda g, _out, x, _y: g * x)
defvjp(np.divide, lambda g, _out, _x, y: g / y, lambda g, out, _x, y: -g * out / y)
defvjp(np.negative, lambda g, _out, _x: -g)
defvjp(np.positive, lambda g, _out, _x: g)
defvjp(np.reciprocal, lambda g, out, _x: -g * out * out)
defvjp(np.square, lambda g, _out, x: g * (2 * x))
for modulo in (np.remainder, np.fmod):  # x - n y for a whole number n
    defvjp(modulo, lambda g, _out, _x, _y: g, lambda g, out, x, y: -g * np.rint((x - out) / y))
defvjp(np.ldexp, lambda g, _out, _x, n: np.ldexp(g, n), None)
defvjp(np.divmod, lambda g, _out, _x, _y: g[1], lambda g, out, _x, _y: -g[1] * out[0])
defvjp(np.modf, lambda g, _out, _x: g[0])
for same in (np.conjugate, np.real):  # of a real number
    defvjp(same, lambda g, _out, _x: g)


def _one_less(x, y):
    """The exponent ``y - 1``, but 1 at 0⁰, so that ``y * x**(y - 1)`` is 0 there and not 0 · ∞."""
    if isinstance(y, (int, float)) and y != 0:
        return y - 1
    return np.where((x == 0) & (y == 0), 1, y - 1.0)  # 1.0: unsigned 0 - 1 would be a huge number


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
defvjp(np.expm1, lambda g, _out, x: g * np.exp(x))
defvjp(np.log, lambda g, _out, x: g / x)
defvjp(np.log2, lambda g, _out, x: g / (x * float(np.log(2))))
defvjp(np.log10, lambda g, _out, x: g / (x * float(np.log(10))))
defvjp(np.log1p, lambda g, _out, x: g / (1 + x))


def _excess(x, y):
    """``x - y``, but 0 where both are the same infinity."""
    infinite = (x == y) & np.isinf(x)
    return np.where(infinite, 0, x) - np.where(infinite, 0, y)


defvjp(  # eˣ / (eˣ + eʸ) = 1 / (1 + eʸ⁻ˣ), without overflow
    np.logaddexp,
    lambda g, _out, x, y: g * np.exp(-np.logaddexp(0, _excess(y, x))),
    lambda g, _out, x, y: g * np.exp(-np.logaddexp(0, _excess(x, y))),
)
defvjp(
    np.logaddexp2,
    lambda g, _out, x, y: g * np.exp2(-np.logaddexp2(0, _excess(y, x))),
    lambda g, _out, x, y: g * np.exp2(-np.logaddexp2(0, _excess(x, y))),
)

# Trigonometry --------------------------------------------------------------------------------------------------------

defvjp(np.sin, lambda g, _out, x: g * np.cos(x))
defvjp(np.cos, lambda g, _out, x: -g * np.sin(x))
defvjp(np.tan, lambda g, out, _x: g * (1 + out * out))
defvjp(np.arcsin, lambda g, _out, x: g / np.sqrt((1 - x) * (1 + x)))
defvjp(np.arccos, lambda g, _out, x: -g / np.sqrt((1 - x) * (1 + x)))
defvjp(np.arctan, lambda g, _out, x: g / (1 + x * x))
defvjp(np.sinh, lambda g, _out, x: g * np.cosh(x))
defvjp(np.cosh, lambda g, _out, x: g * np.sinh(x))
defvjp(np.tanh, lambda g, out, _x: g * (1 - out * out))
defvjp(np.arcsinh, lambda g, _out, x: g / np.hypot(x, 1))
defvjp(np.arccosh, lambda g, _out, x: g / (np.sqrt(x - 1) * np.sqrt(x + 1)))
defvjp(np.arctanh, lambda g, _out, x: g / ((1 - x) * (1 + x)))
for to_radians in (np.deg2rad, np.radians):
    defvjp(to_radians, lambda g, _out, _x: g * float(np.pi / 180))
for to_degrees in (np.rad2deg, np.degrees):
    defvjp(to_degrees, lambda g, _out, _x: g * float(180 / np.pi))


def _sinc_slope(x):
    """The derivative of sin(πx) / πx: near 0, where that formula cancels, its power series Σ cₖ π²ᵏ x²ᵏ⁻¹."""
    near = (x > -0.5) & (x < 0.5)
    small, large = np.where(near, x, 0), np.where(near, 1, x)
    square, series = (np.pi * small) * (np.pi * small), 0.0
    for k in range(14, 0, -1):
        series = series * square + (-1) ** k * 2 * k / math.factorial(2 * k + 1)
    return np.where(near, series * small * np.pi**2, (np.cos(np.pi * large) - np.sinc(large)) / large)


defvjp(np.sinc, lambda g, _out, x: g * _sinc_slope(x))


def _zero_to_infinity(r):
    """``r`` with zeros replaced by ∞: as a divisor of 0 it gives 0, the subgradient of a length at 0."""
    return np.where(r == 0, np.inf, r)


def _over_squared_length(g, x, y):
    r = _zero_to_infinity(np.hypot(x, y))
    return g / r / r


defvjp(
    np.hypot,
    lambda g, out, x, _y: g * (x / _zero_to_infinity(out)),
    lambda g, out, _x, y: g * (y / _zero_to_infinity(out)),
)
defvjp(
    np.arctan2,
    lambda g, _out, y, x: _over_squared_length(g * x, x, y),
    lambda g, _out, y, x: _over_squared_length(-g * y, x, y),
)

# Kinks: where two branches meet, the derivative of each is weighted equally; abs'(0) = 0 -----------------------------

defvjp(np.absolute, lambda g, _out, x: g * np.sign(x))
defvjp(np.fabs, lambda g, _out, x: g * np.sign(x))


def _won(g, wins, ties):
    """``g`` where an input wins, half of it where two tie."""
    return np.where(ties, 0.5 * g, np.where(wins, g, 0))


defvjp(
    np.maximum,
    lambda g, _out, x, y: _won(g, x > y, x == y),
    lambda g, _out, x, y: _won(g, x < y, x == y),
)
defvjp(
    np.minimum,
    lambda g, _out, x, y: _won(g, x < y, x == y),
    lambda g, _out, x, y: _won(g, x > y, x == y),
)
defvjp(
    np.fmax,
    lambda g, _out, x, y: _won(g, (x > y) | np.isnan(y), x == y),
    lambda g, _out, x, y: _won(g, (x < y) | np.isnan(x), x == y),
)
defvjp(
    np.fmin,
    lambda g, _out, x, y: _won(g, (x < y) | np.isnan(y), x == y),
    lambda g, _out, x, y: _won(g, (x > y) | np.isnan(x), x == y),
)
defvjp(np.copysign, lambda g, out, x, _y: g * (np.sign(x) * np.sign(out)), None)


def _above(a, b):
    """Where ``a`` is larger than ``b``; nowhere when either is None, a limit that does not limit."""
    return np.False_ if a is None or b is None else a > b


@primitive(inline=True)
def clip(x, low=None, high=None):
    """``x`` between two limits, either of which may be None."""
    return np.clip(x, low, high)


defvjp(  # at a limit the gradient goes to x; where low > high the result is high
    clip,
    lambda g, _out, x, low=None, high=None: np.where(_above(low, x) | _above(x, high), 0, g),
    lambda g, _out, x, low=None, high=None: np.where(_above(low, x) & ~_above(low, high), g, 0),
    lambda g, _out, x, low=None, high=None: np.where(_above(x, high) | _above(low, high), g, 0),
)


defvjp(np.heaviside, None, lambda g, _out, x, _y: np.where(x == 0, g, 0))
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


# Types ---------------------------------------------------------------------------------------------------------------


@primitive(inline=True)
def astype(x, dtype):
    """A copy of ``x`` with another dtype; the backward walk casts the gradient back."""
    return x.astype(dtype)


defvjp(astype, lambda g, _out, _x, _dtype: g)
