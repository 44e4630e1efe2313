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

# Moving --------------------------------------------------------------------------------------------------------------

SQUARE, ROW, TIMES = draw("square", (4, 4)), draw("row", (4,)), np.array([0.0, 0.5, 1.5, 1.8])
variants(np.rot90, (2, 3), (), (2,), (1, (1, 0)), {"k": -1, "axes": (0, 1)})
variants(np.fliplr, (2, 3), ())
variants(np.flipud, (3,), ())
variants(np.rollaxis, (2, 3, 4), (2,), (-1, 1), {"axis": 1, "start": 0})
variants(np.tile, (2, 3), (2,), ((2, 1),), ((2, 1, 2),), {"reps": (1, 3)})
variants(np.repeat, (2, 3), (2,), (2, 1), ([1, 0, 2], -1), {"repeats": 3, "axis": 0})
variants(np.resize, (2, 3), ((5, 2),), ((2, 2),), {"new_shape": 7})
variants(np.diag, (3, 4), (), (1,), {"k": -1})
variants(np.diag, (3,), (), (-1,))
variants(np.diagflat, (2, 2), (), (1,))
variants(np.diagonal, (2, 3, 3), (), (1, 1, 2), {"offset": -1, "axis1": -1, "axis2": 0})
variants(np.trace, (3, 3, 2), (), (1,), (0, 2, 1), {"offset": -1, "axis1": 1, "axis2": 0})
for function in (np.tril, np.triu):
    variants(function, (2, 3, 4), (), (1,), {"k": -1})
for function in (np.split, np.array_split):
    variants(function, (4, 6), (2,), ([1, 3],), (3, 1), {"indices_or_sections": 2, "axis": -1})
variants(np.array_split, (5,), (3,))
variants(np.hsplit, (2, 4), (2,), ([1],))
variants(np.vsplit, (4, 2), (2,))
variants(np.dsplit, (2, 2, 4), (2,))
variants(
    np.take, (3, 4), (5,), ([0, 0, 7],), ([[0, 2], [2, 2]], 0), ([1, 9], -1, None, "wrap"), {"indices": 1, "axis": 0}
)
ORDER = np.argsort(draw("take_along_axis", (2, 3)), 1)
variants(np.take_along_axis, (2, 3), (ORDER, 1), (ORDER[:, :1], -1), {"indices": ORDER[:1] % 2, "axis": 0})
variants(np.delete, (3, 4), (1,), ([0, 2], 1), (slice(0, 2), 0), {"obj": -1, "axis": 0})
case(np.compress, "rows", lambda x: np.compress([True, False, True], x, axis=0), (3, 2))
case(np.append, "flat", np.append, (2, 3), (4,))
case(np.append, "axis 0", lambda x, y: np.append(x, y, axis=0), (2, 3), (1, 3))
case(np.append, "array on the left", lambda y: np.append(FIXED, y, 1), (2, 2))
case(np.append, "a number", lambda x: np.append(x, 2.0), (3,))
case(np.insert, "columns", lambda x, y: np.insert(x, [1, 3], y, axis=1), (2, 3), (2, 2))
case(np.insert, "a row, broadcast", lambda x, y: np.insert(x, 1, y, 0), (2, 3), ())
case(np.insert, "flat", lambda x, y: np.insert(x, 2, y), (2, 3), ())
case(np.insert, "a number", lambda x: np.insert(x, 0, 5.0), (3,))
for options in (
    (1,), (((1, 0), (2, 1)), "edge"), (2, "reflect"), ((1, 2), "wrap"), ((1, 2), "symmetric"),
    {"pad_width": 1, "mode": "constant", "constant_values": 3.0},
):  # fmt: skip
    variants(np.pad, (4, 3), options)
variants(np.sort, (4, 3), (), (0,), (None,), {"axis": -1, "kind": "stable"})
variants(np.partition, (7,), (2,), ([1, 4],))
variants(np.partition, (3, 4), (1, 0), {"kth": 2, "axis": None})
for function in (np.hstack, np.vstack, np.dstack, np.column_stack):
    case(function, "two", lambda x, y, f=function: f([x, y]), (2, 3), (2, 3))
    case(function, "vectors, one an array", lambda x, f=function: f((ROW, x, x * x)), (4,))
case(np.hstack, "numbers", lambda x: np.hstack([1.0, x, x]), ())
case(np.block, "two by two", lambda x, y: np.block([[x, y], [np.ones((1, 2)), y[:1]]]), (2, 2), (2, 3))
case(np.block, "vectors", lambda x: np.block([x, ROW, 2.0]), (3,))
for function in (np.atleast_1d, np.atleast_2d, np.atleast_3d):
    case(function, "several", lambda x, y, f=function: f(x, y, 2.0), (2,), ())
case(np.broadcast_arrays, "two", np.broadcast_arrays, (3, 1), (2,))
for options in ({}, {"indexing": "ij"}, {"sparse": True}, {"sparse": True, "indexing": "ij"}):
    case(np.meshgrid, f"{options}", lambda x, y, z, o=options: np.meshgrid(x, y, z, **o), (2,), (3,), ())
    case(np.meshgrid, f"one is an array {options}", lambda x, o=options: np.meshgrid(x, ROW, **o), (2,))
case(np.full_like, "a number", lambda x, y: np.full_like(x, y) * x, (2, 3), ())
case(np.full_like, "a shape", lambda x, y: np.full_like(x, y, shape=(2, 2)) * x, (2,), (2,))
variants(np.copy, (2, 3), ())
variants(np.diff, (3, 5), (), (2,), (1, 0), {"n": 3, "axis": 1}, {"prepend": 0.0, "append": ROW[:3, None]})
case(np.diff, "its own ends", lambda x: np.diff(x, prepend=x[:, :1], append=x[:, -2:]), (2, 3))
for f, options in [
    ((5,), ((), (0.5,), {"edge_order": 2})),
    ((4, 3), ((), (0.5, 2.0), (TIMES, 1.0), {"axis": 1}, {"axis": (1, 0), "edge_order": 2})),
]:
    variants(np.gradient, f, *options)
case(np.gradient, "uneven, both ends parabolas", lambda x: np.gradient(x, TIMES, axis=0, edge_order=2), (4, 3))
case(np.gradient, "differentiable spacing", lambda x, h: np.gradient(x, h), (4,), np.array(0.7))

for function in (np.linalg.trace, np.linalg.diagonal):
    variants(function, (2, 3, 3), (), {"offset": 1}, {"offset": -1})
for function in (np.matrix_transpose, np.linalg.matrix_transpose):
    variants(function, (2, 3, 4), ())
