"""The table of test cases: for every function with a gradient rule, the calls that its rule is checked on.

A case is a label, a function of some arrays (or Tensors in their place), and those arrays. Inputs stay away from kinks;
`test_kinks.py` looks at those.
"""

import functools
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinygrad_opt.rules import elementwise, network, reductions, shaping
from tinygrad_opt.rules.registry import TABLE

LIBRARY_FUNCTIONS = frozenset(TABLE)  # read when this file is imported: what tests and doctests add later is not here


class Case(NamedTuple):
    label: str
    call: Callable[..., Any]
    inputs: tuple[np.ndarray, ...]


CASES: dict[Callable[..., Any], list[Case]] = {}


def draw(label, shape, low=-2.0, high=2.0):
    """Random numbers that depend only on the label."""
    return np.asarray(np.random.default_rng(zlib.crc32(label.encode())).uniform(low, high, shape))


def signed(label, shape, low=0.3, high=2.0):
    """Random numbers with both signs, none closer to zero than ``low``."""
    return draw(label, shape, low, high) * np.where(draw(label + " sign", shape) > 0, 1, -1)


def case(function, label, call, *inputs):
    """Add one case. Inputs given as shapes become random arrays."""
    arrays = tuple(draw(f"{label} {i}", a) if isinstance(a, tuple) else np.asarray(a) for i, a in enumerate(inputs))
    CASES.setdefault(function, []).append(Case(f"{function.__name__}: {label}", call, arrays))


def unary(function, low=-2.0, high=2.0, sample=draw):
    """Cases of a function of one array, with values between ``low`` and ``high``."""
    for shape in [(), (3,), (2, 1, 3), (0, 2)]:
        label = f"{function.__name__} {shape}"
        case(function, str(shape), function, sample(label, shape, low, high))


def binary(function, first=(-2.0, 2.0), second=(-2.0, 2.0), sample=draw):
    """Cases of a function of two arrays: broadcast both ways, 0-d, with plain arrays and with numbers."""
    pairs = [
        ((3,), (3,)),
        ((2, 1), (1, 3)),
        ((2, 3), ()),
        ((), (2, 3)),
        ((3,), (2, 3)),
        ((4, 1, 3), (2, 1)),
        ((1,), (1, 1)),
    ]
    name = function.__name__
    for a, b in pairs:
        case(function, f"{a} {b}", function, sample(f"{name}0{a}{b}", a, *first), sample(f"{name}1{a}{b}", b, *second))
    x, y = sample(name + "x", (2, 3), *first), sample(name + "y", (3,), *second)
    case(function, "array on the left", lambda t: function(x, t), y)
    case(function, "array on the right", lambda t: function(t, y), x)
    case(function, "number on the left", lambda t: function(float(x[0, 0]), t), y)
    case(function, "number on the right", lambda t: function(t, float(y[0])), x)


def variants(function, shape, *options, low=-2.0, high=2.0):
    """Cases of one call for each tuple of further positional arguments or dict of keyword arguments."""
    for option in options:
        args, kwargs = ((), option) if isinstance(option, dict) else (option, {})
        text = ", ".join([str(shape), *map(str, args), *(f"{k}={v}" for k, v in kwargs.items())])
        call = functools.partial(lambda args, kwargs, x: function(x, *args, **kwargs), args, kwargs)
        case(function, text, call, draw(function.__name__ + text, shape, low, high))


# Elementwise ---------------------------------------------------------------------------------------------------------

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

# Shaping -------------------------------------------------------------------------------------------------------------

variants(np.reshape, (2, 3), ((3, 2),), (-1,), ((1, 6, -1),), ((3, 2), "F"), {"shape": (3, 2), "order": "F"})
variants(np.reshape, (), ((1, 1),))
variants(np.ravel, (2, 3), (), ("F",), {"order": "F"})
variants(np.squeeze, (1, 3, 1), (), (0,), (-1,), ((0, 2),), {"axis": 2})
variants(np.expand_dims, (2, 3), (0,), (-1,), ((0, 2),), {"axis": 1})
variants(np.swapaxes, (2, 3, 4), (0, 2), (-1, 0), {"axis1": 1, "axis2": 2})
variants(np.moveaxis, (2, 3, 4), (0, -1), ([0, 1], [2, 0]), {"source": 2, "destination": 0})
variants(np.broadcast_to, (3, 1), ((3, 4),), ((2, 3, 4),), {"shape": (3, 2)})
variants(np.broadcast_to, (), ((2, 2),))
variants(np.transpose, (2, 3, 4), (), ((2, 0, 1),), ((-1, 0, 1),), {"axes": (1, 0, 2)}, {"axes": [1, 2, 0]})
for function in (np.atleast_1d, np.atleast_2d, np.atleast_3d):
    for shape in [(), (3,), (2, 3), (2, 1, 2, 2)]:
        variants(function, shape, ())
variants(np.flip, (2, 3, 2), (), (0,), (-1,), ((0, 2),), {"axis": 1})
variants(np.roll, (3, 4), (1,), (-2, 1), ((1, 2), (0, 1)), {"shift": 3, "axis": 0}, {"shift": (1, 2), "axis": (1, 1)})

FIXED = draw("fixed", (2, 3))
case(np.concatenate, "axis 0", lambda x, y: np.concatenate([x, y]), (2, 3), (1, 3))
case(np.concatenate, "axis 1, a tuple", lambda x, y: np.concatenate((x, y), 1), (2, 3), (2, 2))
case(np.concatenate, "axis -1", lambda x, y: np.concatenate([x, y], axis=-1), (2, 3), (2, 2))
case(np.concatenate, "flattened", lambda x, y: np.concatenate([x, y], axis=None), (2, 3), ())
case(np.concatenate, "with an array", lambda x: np.concatenate([FIXED, x, FIXED]), (2, 3))
case(np.concatenate, "one array twice", lambda x: np.concatenate([x, x * x, x]), (2, 3))
for axis in (0, 1, -1):
    case(np.stack, f"axis {axis}", lambda x, y, a=axis: np.stack([x, y], axis=a), (2, 3), (2, 3))
case(np.stack, "with an array", lambda x: np.stack((FIXED, x), 1), (2, 3))
case(np.stack, "numbers", lambda x, y: np.stack([x, 1.5, y, x]), (), ())
for function in (shaping.pack, shaping.unpack):
    case(
        function,
        "both parts",
        lambda x, y: (shaping.unpack(shaping.pack(x, y), 1), shaping.unpack(shaping.pack(x * y, y), 0)),
        (2, 3),
        (3,),
    )

ROWS = np.array([0, 2, 0, -1])
for label, index in {
    "an integer": 1,
    "a negative integer": -1,
    "a NumPy integer": np.int64(2),
    "a slice": slice(1, None),
    "a step backwards": slice(None, None, -2),
    "an ellipsis": (..., 1),
    "a new axis": (None, slice(None), 0, None),
    "a mask": draw("mask", (3, 4)) > 0,
    "a mask of rows": np.array([True, False, True]),
    "repeated rows": ROWS,
    "a list with repeats": [0, 0, 1],
    "pairs with repeats": (ROWS, np.array([1, 3, 1, 0])),
    "a slice and a list": (slice(None), [3, 3, 0]),
    "a nested tuple with repeats": ((0, 0, 2), slice(None)),
    "np.ix_": np.ix_([0, 0], [1, 3]),
    "an index array of two axes": np.array([[0, 1], [1, 1]]),
    "nothing": (),
    "an empty list": [],
}.items():
    case(shaping.getitem, label, lambda x, i=index: x[i], (3, 4))
case(shaping.getitem, "a whole number from 1-d", lambda x: x[2], (3,))
case(shaping.scatter, "rows", lambda g: shaping.scatter(g, ROWS, (3, 2)), (4, 2))
case(shaping.scatter, "a slice", lambda g: shaping.scatter(g, (slice(1, 3), 0), (4, 2)), (2,))

# Reductions ----------------------------------------------------------------------------------------------------------

AXES = [(), (0,), (-1,), ((0, 2),), ((-1, 0),), {"axis": 1}, {"axis": (1, 2), "keepdims": True}, {"keepdims": True}]
for function in (np.sum, np.mean, np.var, np.std, np.prod, np.max, np.amax, np.min, np.amin):
    variants(function, (2, 3, 2), *AXES, {"axis": -2, "keepdims": True}, {"axis": (0, 1, 2)})
    if function is not np.std:
        variants(function, (), (), {"keepdims": True})
for function in (np.var, np.std):
    variants(function, (3, 4), {"ddof": 1}, {"axis": 0, "ddof": 1}, {"axis": (0, 1), "ddof": 0.5, "keepdims": True})
for function in (np.sum, np.mean, np.prod, np.var, np.cumsum):
    variants(function, (3,), {"dtype": np.float64})
for zeros in ([0], [0, 1], [1, 2, 3]):
    factors = draw("factors", (2, 3))
    factors.flat[zeros] = 0
    for axis in (None, 0, -1, (0, 1)):
        case(np.prod, f"zeros at {zeros}, axis {axis}", lambda x, a=axis: np.prod(x, axis=a), factors)
variants(np.cumsum, (2, 3), (), (0,), {"axis": -1})
variants(np.cumsum, (4,), ())
for label, call in {
    "np.add.reduce": lambda x: np.add.reduce(x),
    "np.add.reduce, all axes": lambda x: np.add.reduce(x, axis=None, keepdims=True),
    "np.multiply.reduce": lambda x: np.multiply.reduce(x, axis=1),
    "np.maximum.reduce": lambda x: np.maximum.reduce(x, axis=(0, 1)),
    "np.minimum.reduce": lambda x: np.minimum.reduce(x),
    "np.add.accumulate": lambda x: np.add.accumulate(x),
}.items():
    case(np.sum, label, call, (2, 3))
spreads = [
    ((2, 3), None, False, ()),
    ((2, 3), 0, False, (3,)),
    ((2, 3), -1, True, (2, 1)),
    ((2, 3, 2), (0, -1), False, (3,)),
]
for shape, axis, keepdims, start in spreads:
    case(
        reductions.spread,
        f"{shape} {axis} {keepdims}",
        lambda g, s=shape, a=axis, k=keepdims: reductions.spread(g, s, a, k),
        start,
    )

# Linear algebra ------------------------------------------------------------------------------------------------------

for a, b in [
    ((2, 3), (3, 4)), ((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)),
    ((2, 2, 3), (2, 3, 2)), ((2, 1, 2, 3), (3, 3, 2)), ((3,), (2, 3, 4)), ((2, 2, 3), (3,)), ((1, 2, 3), (3, 3, 2)),
    ((0, 3), (3, 2)), ((2, 0), (0, 2)),
]:  # fmt: skip
    case(np.matmul, f"{a} {b}", np.matmul, a, b)
for a, b in [
    ((), ()), ((), (2, 3)), ((2, 3), ()), ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)),
    ((2, 2, 3), (3,)), ((2, 2, 3), (3, 2)), ((3,), (2, 3, 2)), ((2, 3), (2, 3, 2)), ((2, 2, 3), (2, 3, 2)),
    ((2, 0), (0, 2)), ((0, 3), (3,)),
]:  # fmt: skip
    case(np.dot, f"{a} {b}", np.dot, a, b)
for function in (np.matmul, np.dot):
    case(function, "array on the left", lambda y, f=function: f(FIXED, y), (3, 2))
    case(function, "array on the right", lambda x, f=function: f(x, FIXED), (4, 2))

# Networks ------------------------------------------------------------------------------------------------------------

for shape in [(3,), (4, 3), (2, 2, 3), (0, 3)]:
    case(network.linear, f"{shape}", network.linear, shape, (2, 3))
    case(network.linear, f"{shape} with bias", network.linear, shape, (2, 3), (2,))
case(network.linear, "inputs as an array", lambda w, b: network.linear(FIXED, w, b), (4, 3), (4,))
unary(network.relu, 0.3, 2.0, sample=signed)
unary(network.sigmoid, -4.0, 4.0)
for function in (network.softmax, network.log_softmax):
    variants(function, (2, 3, 4), (), (0,), (1,), {"axis": -2})
    variants(function, (3,), ())
for reduction in ("mean", "sum", "none"):
    for shape in [(4,), (3, 2), ()]:
        label = f"{shape} {reduction}"
        p, y = draw(label, shape, 0.1, 0.9), draw(label + "y", shape, 0.1, 0.9)
        for function in (network.squared_error, network.log_loss_with_logits, network.hinge, network.log_loss):
            call = functools.partial(function, reduction=reduction)
            case(function, label, call, p if function is network.log_loss else 4 * p, y if shape else y + 1)
    for shape in [(4, 3), (3,), (2, 2, 3)]:
        classes = np.arange(np.prod(shape[:-1], dtype=int)).reshape(shape[:-1]) % 3
        onehot = np.equal(classes[..., None], np.arange(3))
        call = functools.partial(lambda hot, how, x: network.softmax_log_loss(x, hot, reduction=how), onehot, reduction)
        case(network.softmax_log_loss, f"{shape} {reduction}", call, shape)
