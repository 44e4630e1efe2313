"""Cases of the rules in `rules/shaping.py`."""

import numpy as np

from tests.rules.cases.table import case, draw, variants
from tinygrad_opt.rules import shaping

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
