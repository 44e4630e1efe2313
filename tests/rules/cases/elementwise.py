"""Cases of the rules in `rules/elementwise.py`."""

import numpy as np

from tests.rules.cases.table import binary, case, draw, signed, unary
from tinygrad_opt.rules import elementwise

for function in (np.negative, np.positive, np.square, np.exp, np.exp2, np.expm1, np.sin, np.cos, np.arctan, np.sinh):
    unary(function)
for function in (np.cosh, np.tanh, np.arcsinh, np.deg2rad, np.radians, np.rad2deg, np.degrees):
    unary(function)
for function in (np.sqrt, np.log, np.log2, np.log10):
    unary(function, 0.5, 3.0)
for function in (np.reciprocal, np.cbrt, np.absolute, np.fabs):
    unary(function, 0.3, 2.0, sample=signed)
for function in (np.arcsin, np.arccos, np.arctanh):
    unary(function, -0.8, 0.8)
unary(np.log1p, -0.5, 2.0)
unary(np.tan, -1.0, 1.0)
unary(np.arccosh, 1.5, 3.0)

for function in (np.add, np.subtract, np.multiply, np.logaddexp, np.logaddexp2):
    binary(function)
for function in (np.maximum, np.minimum, np.fmax, np.fmin):
    binary(function)
for function in (np.divide, np.hypot, np.arctan2):
    binary(function, (0.4, 2.0), (0.4, 2.0), sample=signed)
for function in (np.power, np.float_power):
    binary(function, (0.5, 2.0), (-2.0, 2.0))
    for exponent in (3, 2, 1, 0, -1, 2.0, np.array([2.0, 3.0, 1.0])):
        case(
            function, f"both signs, to the {exponent}", lambda x, f=function, e=exponent: f(x, e), signed("base", (3,))
        )
    case(function, "zero, to the 2, 1 and 0", lambda x, f=function: f(x, [2.0, 1.0, 0.0]), np.zeros(3))
for function in (np.remainder, np.fmod):
    binary(function, (2.3, 2.7), (0.95, 1.05))
    case(function, "negative", function, draw("dividend", (4,), -2.7, -2.3), draw("divisor", (4,), 0.95, 1.05))

for shape in [(), (4,), (2, 3)]:
    sign = signed("sign", (2, 3))
    case(
        np.copysign, f"{shape}", lambda x, s=sign: np.copysign(x, s if x.ndim == 2 else -1.0), signed(str(shape), shape)
    )

case(np.clip, "both limits", lambda x: np.clip(x, -1.0, 1.0), (4, 5))
case(np.clip, "by keyword", lambda x: np.clip(x, a_min=-1.0, a_max=1.0), (4, 5))
case(np.clip, "low only", lambda x: np.clip(x, 0.1, None), (7,))
case(np.clip, "high only", lambda x: np.clip(x, None, 0.1), (7,))
case(np.clip, "limits as arguments", np.clip, (2, 5), draw("low", (5,), -1, -0.5), draw("high", (2, 1), 0.5, 1))
case(np.clip, "low above high", np.clip, (2, 5), draw("above", (5,), 0.5, 1), draw("below", (5,), -1, -0.5))

MASK = np.array([[True, False, True], [False, False, True]])
case(np.where, "same shape", lambda x, y: np.where(MASK, x, y), (2, 3), (2, 3))
case(np.where, "broadcast", lambda x, y: np.where(MASK, x, y), (3,), (2, 1))
case(np.where, "condition broadcast", lambda x, y: np.where(MASK[0], x, y), (4, 1), ())
case(np.where, "a number", lambda x: np.where(MASK, x, 0.0), (2, 3))
case(np.where, "a number first", lambda x: np.where(MASK, 1, x), (2, 3))
case(elementwise.astype, "to float64", lambda x: elementwise.astype(x, np.dtype(np.float64)), (2, 3))
if np.lib.NumpyVersion(np.__version__) >= "2.1.0":
    case(np.clip, "min and max", lambda x: np.clip(x, min=-1.0, max=1.0), (4, 5))
case(elementwise.clip, "both limits", lambda x: elementwise.clip(x, -1.0, 1.0), (4, 5))
case(np.heaviside, "the value at 0", lambda y: np.heaviside(np.array([-1.0, 0.0, 2.0]), y), (2, 3))
case(np.nan_to_num, "nothing to replace", np.nan_to_num, (2, 3))
case(np.nan_to_num, "gaps", lambda x: np.nan_to_num(x + np.array([np.nan, 0, np.inf]), nan=1.0, posinf=2.0), (2, 3))
case(np.select, "three", lambda x, y: np.select([MASK, ~MASK & (x > 0)], [x, x * y], y), (2, 3), (3,))
case(np.select, "numbers", lambda x: np.select([x < -1, x > 1], [x * x, 3.0], default=x), (2, 3))
unary(np.sinc, -2.5, 2.5)
case(np.sinc, "near 0", np.sinc, np.array([0.0, 1e-9, -1e-3, 0.1, 0.4999, 0.5001, 1.0, -2.0]))
