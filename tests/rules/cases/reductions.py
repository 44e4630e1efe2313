"""Cases of the rules in `rules/reductions.py`."""

import numpy as np

from tests.rules.cases.table import case, draw, variants
from tinygrad_opt.rules import reductions

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
variants(np.sum, (2, 3), (0, None, None, True), (-1, np.float64, None))
variants(np.var, (2, 3), (0, None, None, 1, True))
variants(np.max, (2, 3), (1, None, True))
variants(np.cumsum, (2, 3), (1, None, None))
variants(np.cumprod, (2, 3), (), (0,), {"axis": -1})
variants(np.cumprod, (4,), ())
for zeros in ([1], [0, 2], [3]):
    factors = draw("running factors", (4,))
    factors[zeros] = 0
    case(np.cumprod, f"zeros at {zeros}", np.cumprod, factors)
    case(np.cumprod, f"zeros at {zeros}, rows", lambda x: np.cumprod(x, axis=0), np.stack([factors, factors + 1], 1))
case(np.cumprod, "np.multiply.accumulate", lambda x: np.multiply.accumulate(x, axis=1), (2, 3))
for function in (np.maximum.accumulate, np.minimum.accumulate):
    variants(function, (5, 2), (), (1,), {"axis": -1})
for function in (np.ptp, np.median, np.average):
    variants(function, (3, 4), (), (0,), {"axis": -1}, {"axis": 1, "keepdims": True}, {"axis": (0, 1)})
variants(np.median, (5,), ())
case(np.average, "weights", lambda x, w: np.average(x, weights=w), (2, 3), draw("weights", (2, 3), 0.5, 2))
case(np.average, "weights of an axis", lambda x, w: np.average(x, 1, w), (2, 3), draw("weights", (3,), 0.5, 2))
case(np.average, "returned", lambda x, w: np.average(x, 0, w, True), (2, 3), draw("weights", (2,), 0.5, 2))
GAPS = np.array([[0.0, np.nan, 0.0], [np.nan, np.nan, 0.0]])
for function in (np.nansum, np.nanmean):
    case(function, "all", lambda x, f=function: f(x + GAPS), (2, 3))
    case(function, "rows", lambda x, f=function: f(x + GAPS, axis=1, keepdims=True), (2, 3))

GAPS = np.array([[np.nan, 0.0, 0.0], [0.0, 0.0, np.nan]])
for function in (np.nanmax, np.nanmin):
    variants(function, (2, 3), (), (0,), (-1,), {"keepdims": True}, {"axis": (0, 1)})
    case(function, "gaps", lambda x, f=function: f(x + GAPS, axis=1), (2, 3))
    case(function, "by keyword", lambda x, f=function: f(a=x + GAPS, axis=0), (2, 3))
