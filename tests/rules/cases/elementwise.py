"""Cases of the rules in `rules/elementwise.py`."""

import numpy as np

from tests.rules.cases.table import binary, case, draw, signed, unary
from tinygrad_opt.rules import elementwise

MATRIX = draw("matrix", (2, 3))

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
for function in (np.logaddexp, np.logaddexp2):
    far = np.array([900.0, -900.0, 700.0, -800.0])
    case(function, "far out", lambda x, y, f=function, z=far: f(x + z, y + z), (4,), (4,))
    case(function, "far apart", lambda x, y, f=function, z=far: f(x + z, y - z), (4,), (4,))
    case(function, "one infinity", lambda x, f=function: f(x, [-np.inf, 0.0]), (2,))
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
    case(function, "zero, to the 3, 2, 1 and 0", lambda x, f=function: f(x, [3.0, 2.0, 1.0, 0.0]), np.zeros(4))
    for exponent in (3, 2, 1, 0):
        case(function, f"zero, to the {exponent}", lambda x, f=function, e=exponent: f(x, e), np.zeros(2))
    case(function, "negative base", lambda x, f=function: f(x, [[2], [3], [-1]]), np.array([-0.5, -1.5, 2.0]))
    case(function, "0 to a positive exponent", lambda y, f=function: f(0.0, y), draw("exponent", (3,), 0.5, 2.0))
case(np.power, "an exponent of unsigned bytes", lambda x: np.power(x, np.array([0, 1, 3], np.uint8)), (2, 3))
case(np.power, "a base of whole numbers", lambda y: np.power(np.array([1, 2, 3]), y), (2, 3))
for function in (np.remainder, np.fmod):
    binary(function, (2.3, 2.7), (0.95, 1.05))
    for first, second in [(-1, 1), (1, -1), (-1, -1)]:
        signs = f"signs {first} {second}"
        x, y = first * draw(signs + "x", (4,), 2.3, 2.7), second * draw(signs + "y", (4,), 0.95, 1.05)
        case(function, signs, function, x, y)

for shape in [(), (4,), (2, 3)]:
    sign = signed("sign", (2, 3))
    case(
        np.copysign, f"{shape}", lambda x, s=sign: np.copysign(x, s if x.ndim == 2 else -1.0), signed(str(shape), shape)
    )

for name, low, high in [
    ("both limits", -1.0, 1.0),
    ("low only", 0.1, None),
    ("high only", None, 0.1),
    ("whole numbers", -1, 1),
    ("lists", [-1.0, -1.0, 0.0, 0.5, 0.5], [[1.0], [0.0], [2.0], [0.2]]),
]:
    case(np.clip, name, lambda x, a=low, b=high: np.clip(x, a, b), (4, 5))
    case(elementwise.clip, name, lambda x, a=low, b=high: elementwise.clip(x, a, b), (4, 5))
case(np.clip, "by keyword", lambda x: np.clip(x, a_min=-1.0, a_max=1.0), (4, 5))
case(np.clip, "limits as arguments", np.clip, (2, 5), draw("low", (5,), -1, -0.5), draw("high", (2, 1), 0.5, 1))
case(
    elementwise.clip,
    "limits as arguments",
    elementwise.clip,
    (2, 5),
    draw("low", (5,), -1, 0),
    draw("high", (2, 1), 0.5, 1),
)
case(np.clip, "low above high", np.clip, (2, 5), draw("above", (5,), 0.5, 1), draw("below", (5,), -1, -0.5))
case(np.clip, "limits by keyword", lambda a, b: np.clip(MATRIX, a_min=a, a_max=b), np.array([-1.0, -0.5, 0.0]), ())
case(np.clip, "one limit as an argument", lambda x, a: np.clip(x, a, None), (2, 3), ())
case(np.clip, "the other limit", lambda x, b: np.clip(x, None, b), (), (2, 3))
if np.lib.NumpyVersion(np.__version__) >= "2.1.0":
    case(np.clip, "min and max", lambda x: np.clip(x, min=-1.0, max=1.0), (4, 5))
    case(np.clip, "min", lambda x: np.clip(x, min=0.2), (4, 5))
    case(np.clip, "max as an argument", lambda x, b: np.clip(x, max=b), (4, 5), (5,))
    case(np.clip, "min and max as arguments", lambda a, b: np.clip(MATRIX, min=a, max=b), (3,), (2, 1))
    case(np.clip, "no limit", np.clip, (2, 3))
    case(np.astype, "to float64", lambda x: np.astype(x, np.float64), (2, 3))

MASK = np.array([[True, False, True], [False, False, True]])
case(np.where, "same shape", lambda x, y: np.where(MASK, x, y), (2, 3), (2, 3))
case(np.where, "broadcast", lambda x, y: np.where(MASK, x, y), (3,), (2, 1))
case(np.where, "condition broadcast", lambda x, y: np.where(MASK[0], x, y), (4, 1), ())
case(np.where, "a number", lambda x: np.where(MASK, x, 0.0), (2, 3))
case(np.where, "a number first", lambda x: np.where(MASK, 1, x), (2, 3))
case(elementwise.astype, "to float64", lambda x: elementwise.astype(x, np.dtype(np.float64)), (2, 3))
case(np.heaviside, "the value at 0", lambda y: np.heaviside(np.array([-1.0, 0.0, 2.0]), y), (2, 3))
case(np.heaviside, "one value", lambda y: np.heaviside(np.array([[-1.0, 0.0], [0.0, 2.0]]), y), ())
case(np.nan_to_num, "nothing to replace", np.nan_to_num, (2, 3))
case(np.nan_to_num, "gaps", lambda x: np.nan_to_num(x + np.array([np.nan, 0, np.inf]), nan=1.0, posinf=2.0), (2, 3))
case(np.nan_to_num, "in order", lambda x: np.nan_to_num(x - np.array([0, np.inf]), True, 0.0, None, -3.0), (2,))
case(np.select, "three", lambda x, y: np.select([MASK, ~MASK & (x > 0)], [x, x * y], y), (2, 3), (3,))
case(np.select, "numbers", lambda x: np.select([x < -1, x > 1], [x * x, 3.0], default=x), (2, 3))
case(np.select, "no default", lambda x, y: np.select([MASK[0]], [x * y]), (3,), (2, 1))
unary(np.sinc, -2.5, 2.5)
case(np.sinc, "near 0", np.sinc, np.array([0.0, 1e-9, -1e-3, 0.1, 0.4999, 0.5001, 1.0, -2.0]))
for function in (np.conjugate, np.real):
    unary(function)
unary(np.modf, -0.9, -0.1)
binary(np.divmod, (2.3, 2.7), (0.95, 1.05))
for power in (3, -2, np.array([[1], [-4]])):
    case(np.ldexp, f"2 to the {power}", lambda x, n=power: np.ldexp(x, n), (2, 3))
