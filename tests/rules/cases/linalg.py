"""Cases of the rules in `rules/linalg.py`."""

import functools
import math

import numpy as np

from tests.rules.cases.table import case, draw, signed
from tinygrad_opt.rules import linalg

FIXED = draw("fixed", (2, 3))
INF = math.inf


def sides(function, first, second):
    """A plain array and a nested list on either side."""
    for label, left in [("array", first), ("list", first.tolist())]:
        case(function, f"{label} on the left", lambda y, left=left: function(left, y), second.shape)
    for label, right in [("array", second), ("list", second.tolist())]:
        case(function, f"{label} on the right", lambda x, right=right: function(x, right), first.shape)


# Products ------------------------------------------------------------------------------------------------------------

MATRIX_PRODUCTS = [
    ((2, 3), (3, 4)), ((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)),
    ((2, 2, 3), (2, 3, 2)), ((2, 1, 2, 3), (3, 3, 2)), ((3,), (2, 3, 4)), ((2, 2, 3), (3,)), ((1, 2, 3), (3, 3, 2)),
    ((0, 3), (3, 2)), ((2, 0), (0, 2)),
]  # fmt: skip
for function in (np.matmul, np.linalg.matmul):
    for a, b in MATRIX_PRODUCTS:
        if function is np.matmul or min(len(a), len(b)) > 1:
            case(function, f"{a} {b}", function, a, b)
    sides(function, FIXED, draw("matmul", (3, 2)))
for a, b in [
    ((), ()), ((), (2, 3)), ((2, 3), ()), ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)),
    ((2, 2, 3), (3,)), ((2, 2, 3), (3, 2)), ((3,), (2, 3, 2)), ((2, 3), (2, 3, 2)), ((2, 2, 3), (2, 3, 2)),
    ((2, 0), (0, 2)), ((0, 3), (3,)), ((0, 3), (2, 3, 2)),
]:  # fmt: skip
    case(np.dot, f"{a} {b}", np.dot, a, b)
sides(np.dot, FIXED, draw("dot", (3, 2)))
for a, b in [
    ((), ()), ((), (2, 3)), ((2, 3), ()), ((3,), (3,)), ((2, 3), (3,)), ((3,), (4, 3)), ((2, 3), (4, 3)),
    ((2, 2, 3), (2, 1, 3)), ((2, 0), (3, 0)), ((0, 3), (2, 3)),
]:  # fmt: skip
    case(np.inner, f"{a} {b}", np.inner, a, b)
sides(np.inner, FIXED, draw("inner", (4, 3)))
for a, b in [((), ()), ((3,), (3,)), ((2, 3), (2, 3)), ((2, 3), (6,)), ((0,), (0,))]:
    case(np.vdot, f"{a} {b}", np.vdot, a, b)
sides(np.vdot, FIXED, draw("vdot", (2, 3)))
for a, b in [((3,), (2,)), ((3,), ()), ((), ()), ((2, 2), (3,)), ((1, 3), (2, 2)), ((0,), (2,))]:
    case(np.outer, f"{a} {b}", np.outer, a, b)
for a, b in [((3,), (2,)), ((0,), (2,))]:
    case(np.linalg.outer, f"{a} {b}", np.linalg.outer, a, b)
sides(np.outer, FIXED, draw("outer", (4,)))
sides(np.linalg.outer, FIXED[0], draw("outer", (4,)))
for function in (np.vecdot, np.linalg.vecdot):
    for a, b in [((3,), (3,)), ((2, 3), (3,)), ((3,), (2, 3)), ((2, 1, 3), (4, 3)), ((0, 3), (3,)), ((2, 0), (2, 0))]:
        case(function, f"{a} {b}", function, a, b)
    for a, b, axis in [((3, 2), (3, 2), 0), ((3, 3), (3, 3, 3), 0), ((2, 3, 1), (3, 4), -2)]:
        case(function, f"{a} {b} {axis}", functools.partial(function, axis=axis), a, b)
    sides(function, FIXED, draw("vecdot", (2, 3)))
if hasattr(np, "matvec"):
    for a, b in [((2, 3), (3,)), ((4, 2, 3), (3,)), ((2, 3), (4, 3)), ((2, 1, 2, 3), (3, 3)), ((0, 2, 3), (3,))]:
        case(np.matvec, f"{a} {b}", np.matvec, a, b)
        case(np.vecmat, f"{a} {b}", lambda x, y: np.vecmat(y, np.swapaxes(x, -1, -2)), a, b)
    sides(np.matvec, FIXED, draw("matvec", (3,)))
    sides(np.vecmat, FIXED, draw("vecmat", (2, 3, 2)))

for shapes in [
    [(2, 3), (3, 4)], [(2, 3), (3, 4), (4, 2)], [(3,), (3, 4), (4, 2)], [(2, 3), (3, 4), (4,)], [(3,), (3, 2), (2,)],
    [(3,), (3,)], [(3,), (3, 2)], [(2, 3), (3, 1), (1, 4), (4, 2), (2, 3)], [(2, 0), (0, 3), (3, 2)],
    [(2,), (2, 2), (2, 2), (2,)], [(1, 3), (3,)],
]:  # fmt: skip
    case(np.linalg.multi_dot, str(shapes), lambda *arrays: np.linalg.multi_dot(arrays), *shapes)
case(np.linalg.multi_dot, "arrays among them", lambda x: np.linalg.multi_dot([FIXED, x, FIXED]), (3, 2))
case(np.linalg.multi_dot, "one twice", lambda x: np.linalg.multi_dot([x, x, x]), (2, 2))

WELL = np.eye(3) * 2 + draw("well", (3, 3), -0.5, 0.5)  # well conditioned
WELLS = np.eye(3) * 2 + draw("wells", (2, 3, 3), -0.5, 0.5)
for n in (-3, -2, -1, 0, 1, 2, 3, 4, 5, 7):
    case(np.linalg.matrix_power, str(n), lambda x, n=n: np.linalg.matrix_power(x, n), WELL / 2)
case(np.linalg.matrix_power, "batch", lambda x: np.linalg.matrix_power(x, n=3), WELLS / 2)
case(np.linalg.matrix_power, "batch, inverse", lambda x: np.linalg.matrix_power(x, -2), WELLS)
case(np.linalg.matrix_power, "empty", lambda x: np.linalg.matrix_power(x, 2), (0, 3, 3))

# Products over chosen axes -------------------------------------------------------------------------------------------

for a, b, axes in [
    ((2, 3), (3, 4), 1), ((2, 3, 2), (3, 2, 2), 2), ((2, 3), (4,), 0), ((), (), 0), ((2, 3), (2, 3), 2),
    ((2, 3), (3, 4), (1, 0)), ((2, 3), (3, 4), (-1, -2)), ((2, 3, 4), (4, 2, 3), ([0, 1], [1, 2])),
    ((2, 3, 4), (4, 3, 2), ([0, 1], [2, 1])), ((2, 3, 4), (4, 2, 3), ([2, 0, 1], [0, 1, 2])),
    ((2, 3, 4), (4, 5, 2), ([0, -1], [-1, 0])), ((2, 3), (3, 2), ([0], [1])), ((2, 3, 2), (2, 2), ((2,), (0,))),
    ((0, 3), (3, 2), 1), ((2, 0), (0, 2), 1), ((2, 2), (2, 2), ([], [])), ((2, 2, 2), (2, 2, 2), ([2, 0], [0, 2])),
]:  # fmt: skip
    case(np.tensordot, f"{a} {b} {axes}", lambda x, y, axes=axes: np.tensordot(x, y, axes), a, b)
    case(np.linalg.tensordot, f"{a} {b} {axes}", functools.partial(np.linalg.tensordot, axes=axes), a, b)
case(np.tensordot, "default", np.tensordot, (2, 3, 4), (3, 4, 2))
case(np.tensordot, "axes=", lambda x, y: np.tensordot(x, y, axes=[1, 0]), (2, 3), (3, 2))

for subscripts, *shapes in [
    ("ij,jk->ik", (2, 3), (3, 4)), ("ij,jk", (2, 3), (3, 4)), ("ij", (2, 3)), ("ba", (2, 3)), ("ij->ji", (2, 3)),
    ("i,i", (3,), (3,)), ("i,i->i", (3,), (3,)), ("i,j->ij", (2,), (3,)), ("ij->", (2, 3)), ("ij->i", (2, 3)),
    ("ij->j", (2, 3)), ("ii->i", (3, 3)), ("ii", (3, 3)), ("ii->", (3, 3)), ("iij->ji", (2, 2, 3)),
    ("iii->i", (2, 2, 2)), ("iii", (2, 2, 2)), ("ijij->ij", (2, 3, 2, 3)), ("iji->j", (2, 3, 2)),
    ("ii,i->i", (3, 3), (3,)), ("ii,jj->ij", (2, 2), (3, 3)), ("ij,ij->", (2, 3), (2, 3)),
    ("bij,bjk->bik", (2, 2, 3), (2, 3, 2)), ("ijk,kl,lm->im", (2, 2, 3), (3, 2), (2, 2)), ("i,i,i->", (3,), (3,), (3,)),
    ("ij,kl->il", (2, 3), (2, 3)), ("ij,k->k", (2, 3), (2,)), (",ij->ij", (), (2, 3)), (",->", (), ()), ("->", ()),
    ("i,j", (2,), (3,)), (" i j , j k -> i k ", (2, 3), (3, 2)), ("Ab,bC->AC", (2, 3), (3, 2)), ("aB", (2, 3)),
    ("...", (2, 3)), ("...ij->...ji", (2, 2, 3)), ("i...->...i", (2, 3, 2)), ("...i,...i->...", (2, 3), (2, 3)),
    ("...ij,...jk->...ik", (4, 2, 3), (3, 2)), ("...ij,...jk", (2, 1, 2, 3), (4, 3, 2)), ("...,...", (2, 1), (3,)),
    ("i...,i...->...", (2, 1, 3), (2, 4, 1)), ("...ii->...i", (2, 3, 3)), ("...ii->...", (2, 3, 3)),
    ("...i->...", (3,)), ("ij...,j->i...", (2, 3), (3,)),
    ("...,i->...i", (), (3,)),
    ("i...j,jk->i...k", (2, 2, 3), (3, 2)),
    ("ij,jk->ik", (2, 1), (3, 2)), ("ij,jk->ik", (2, 3), (1, 2)), ("i,i->i", (1,), (3,)), ("ii,i->i", (1, 1), (3,)),
    ("i,i->", (3,), (1,)), ("ii,i->", (3, 3), (1,)), ("ij,jk->ik", (0, 3), (3, 2)), ("ij,jk->ik", (2, 0), (0, 2)),
    ("ij->i", (2, 0)), ("ij->j", (0, 2)), ("i,i", (0,), (1,)), ("ii->i", (0, 0)),
]:  # fmt: skip
    for optimize in (False, True):
        call = functools.partial(np.einsum, subscripts, optimize=optimize)
        if not (optimize and subscripts == "ij,jk->ik" and 1 in (*shapes[0], *shapes[1])):
            case(np.einsum, f"{subscripts} {shapes} {optimize}", call, *shapes)
for label, call, *shapes in [
    ("[0,1] [1,2] [0,2]", lambda x, y: np.einsum(x, [0, 1], y, [1, 2], [0, 2]), (2, 3), (3, 4)),
    ("[0,1] [1,2]", lambda x, y: np.einsum(x, [0, 1], y, [1, 2]), (2, 3), (3, 4)),
    ("[1,0]", lambda x: np.einsum(x, [1, 0]), (2, 3)),
    ("[30,4]", lambda x: np.einsum(x, [30, 4]), (2, 3)),
    ("[0,0] [0]", lambda x: np.einsum(x, [0, 0], [0]), (3, 3)),
    ("tuples", lambda x, y: np.einsum(x, (0, 1), y, (1,), (0,)), (2, 3), (3,)),
    ("[..., 0]", lambda x, y: np.einsum(x, [..., 0, 1], y, [..., 1], [..., 0]), (4, 2, 3), (1, 3)),
    ("[..., 0], implicit", lambda x, y: np.einsum(x, [0, ...], y, [0, ...]), (2, 3), (2, 3)),
    ("lists, optimize", lambda x, y: np.einsum(x, [0, 1], y, [1, 2], [0, 2], optimize="greedy"), (2, 3), (3, 4)),
    ("greedy", lambda *a: np.einsum("ij,jk,kl", *a, optimize="greedy"), (2, 3), (3, 2), (2, 3)),
    ("optimal", lambda *a: np.einsum("ij,jk,kl->", *a, optimize="optimal"), (2, 3), (3, 2), (2, 3)),
    ("a path", lambda *a: np.einsum("ij,jk,kl", *a, optimize=["einsum_path", (1, 2), (0, 1)]), (2, 3), (3, 2), (2, 3)),
    ("the same twice", lambda x: np.einsum("ij,ik->jk", x, x), (3, 2)),
    ("an array", lambda x: np.einsum("ij,kj->ik", FIXED, x), (2, 3)),
    ("a list", lambda x: np.einsum("ij,kj->ik", x, FIXED.tolist()), (2, 3)),
]:
    case(np.einsum, label, call, *shapes)

for a, b in [
    ((), ()), ((), (2, 2)), ((3,), ()), ((2,), (3,)), ((2, 3), (3, 2)), ((2, 2), (3,)), ((3,), (2, 2)),
    ((2, 1, 2), (2, 2)), ((2,), (1, 2, 2)), ((2, 1, 2), (1, 2, 2)), ((0, 2), (2, 2)),
]:  # fmt: skip
    case(np.kron, f"{a} {b}", np.kron, a, b)
sides(np.kron, FIXED, draw("kron", (2,)))

for a, b, options in [
    ((3,), (3,), {}), ((2, 3), (2, 3), {}), ((2, 3), (3,), {}), ((3,), (2, 3), {}), ((2, 1, 3), (4, 3), {}),
    ((3, 2), (3, 2), {"axis": 0}), ((3, 3), (3, 3, 3), {"axis": 0}), ((2, 3, 4), (2, 3, 4), {"axis": 1}),
    ((2, 3, 4), (3, 4), {"axis": -2}), ((0, 3), (3,), {}), ((3, 0), (3, 1), {"axis": 0}),
]:  # fmt: skip
    case(np.cross, f"{a} {b} {options}", functools.partial(np.cross, **options), a, b)
    case(np.linalg.cross, f"{a} {b} {options}", functools.partial(np.linalg.cross, **options), a, b)
for a, b, options in [
    ((3, 2), (2, 3), {"axisa": 0}), ((2, 3), (3, 2), {"axisb": 0}), ((2, 3), (2, 3), {"axisc": 0}),
    ((3, 4), (2, 3, 4), {"axisa": 0, "axisb": 1, "axisc": 0}), ((3, 3), (3, 3, 3), {"axisa": 0, "axisc": 1}),
]:  # fmt: skip
    case(np.cross, f"{a} {b} {options}", functools.partial(np.cross, **options), a, b)
case(np.cross, "positional", lambda x, y: np.cross(x, y, 0, 0, 0), (3, 2), (3, 2))
for function in (np.cross, np.linalg.cross):
    sides(function, FIXED, draw("cross", (3,)))

for function in (np.convolve, np.correlate):
    for mode in ("full", "same", "valid"):
        for a, b in [((5,), (3,)), ((5,), (2,)), ((4,), (3,)), ((4,), (2,)), ((2,), (5,)), ((2,), (4,)), ((3,), (4,)),
                     ((3,), (3,)), ((1,), (1,)), ((4,), (1,)), ((1,), (3,))]:  # fmt: skip
            case(function, f"{a} {b} {mode}", lambda x, y, f=function, mode=mode: f(x, y, mode), a, b)
    case(function, "default", function, (4,), (2,))
    case(function, "mode=", functools.partial(function, mode="same"), (4,), (2,))
    sides(function, FIXED[0], draw("convolve", (4,)))
case(np.convolve, "a number", np.convolve, (), (3,))
case(np.convolve, "numbers", np.convolve, (), ())

# Norms ---------------------------------------------------------------------------------------------------------------

for shape, options in [
    ((3,), [{}, {"ord": 2}, {"ord": 1}, {"ord": 0}, {"ord": -1}, {"ord": -2}, {"ord": INF}, {"ord": -INF}, {"ord": 3},
            {"ord": 1.5}, {"ord": 0.5}, {"ord": 3.5, "keepdims": True}, {"ord": INF, "keepdims": True},
            {"axis": 0}, {"axis": -1, "keepdims": True}, {"axis": (0,)}, {"keepdims": True}, {"ord": None}]),
    ((2, 3), [{}, {"ord": "fro"}, {"ord": "nuc"}, {"ord": 1}, {"ord": -1}, {"ord": 2}, {"ord": -2}, {"ord": INF},
              {"ord": -INF}, {"keepdims": True}, {"axis": 0}, {"axis": -1}, {"axis": 1, "keepdims": True},
              {"axis": (0, 1)}, {"axis": (1, 0), "ord": 1}, {"axis": (-1, -2), "ord": INF, "keepdims": True},
              {"axis": 0, "ord": 3}, {"axis": 1, "ord": INF}, {"axis": 0, "ord": 1, "keepdims": True},
              {"axis": 0, "ord": -INF, "keepdims": True}, {"axis": 1, "ord": 0}]),
    ((2, 3, 2), [{}, {"keepdims": True}, {"axis": (0, 2)}, {"axis": (2, 0), "ord": 1}, {"axis": (0, 1), "ord": 2},
                 {"axis": (-1, 0), "ord": "nuc", "keepdims": True}, {"axis": (1, 2), "ord": -2, "keepdims": True},
                 {"axis": (1, 2), "ord": "fro"}, {"axis": 1}, {"axis": 1, "ord": 4, "keepdims": True},
                 {"axis": -2, "ord": INF}]),
    ((0, 3), [{}, {"axis": 0}, {"axis": 1}, {"axis": 1, "ord": 1}]),
    ((0, 2, 2), [{"axis": (1, 2), "ord": 2}, {"axis": (1, 2), "ord": 1}]),
    ((), [{}]),
]:  # fmt: skip
    for option in options:
        x = signed(f"norm {shape} {option}", shape)
        case(np.linalg.norm, f"{shape} {option}", functools.partial(np.linalg.norm, **option), x)
case(np.linalg.norm, "positional", lambda x: np.linalg.norm(x, 1, 0, True), signed("norm", (2, 3)))
case(np.linalg.norm, "with zeros", np.linalg.norm, [0.0, 2.0, 0.0])
case(np.linalg.norm, "order 3 with zeros", lambda x: np.linalg.norm(x, 3), [0.5, 2.0, 1.0])
for option in [{}, {"ord": "nuc"}, {"ord": 1}, {"ord": -2, "keepdims": True}, {"ord": INF}, {"keepdims": True}]:
    call = functools.partial(np.linalg.matrix_norm, **option)
    case(np.linalg.matrix_norm, str(option), call, signed(f"matrix_norm{option}", (2, 3)))
    case(np.linalg.matrix_norm, f"batch {option}", call, signed(f"matrix_norms{option}", (2, 2, 3)))
for option in [
    {}, {"ord": 1}, {"ord": INF}, {"ord": 3}, {"keepdims": True}, {"axis": 1}, {"axis": (0, 2)}, {"axis": (2, 0)},
    {"axis": (-1, 1), "keepdims": True, "ord": 1}, {"axis": -1, "ord": INF, "keepdims": True}, {"axis": (0, 1, 2)},
]:  # fmt: skip
    call = functools.partial(np.linalg.vector_norm, **option)
    case(np.linalg.vector_norm, str(option), call, signed(f"vector_norm{option}", (2, 3, 2)))
case(np.linalg.vector_norm, "()", np.linalg.vector_norm, signed("vector_norm", ()))

# Inverses and equations ----------------------------------------------------------------------------------------------

for label, x in [("matrix", WELL), ("batch", WELLS), ("1 x 1", [[2.0]]), ("empty", (0, 3, 3)), ("0 x 0", (0, 0))]:
    case(np.linalg.inv, label, np.linalg.inv, x)
    if label != "0 x 0":
        case(np.linalg.det, label, np.linalg.det, x)
        case(np.linalg.slogdet, label, np.linalg.slogdet, x)
TALL = draw("tall", (4, 2)) + 2 * np.eye(4, 2)
for label, x in [("tall", TALL), ("wide", TALL.T), ("square", WELL), ("batch", np.stack([TALL, TALL[::-1] * 2])),
                 ("empty", (0, 3)), ("empty batch", (0, 2, 3))]:  # fmt: skip
    case(np.linalg.pinv, label, np.linalg.pinv, x)
case(np.linalg.pinv, "rcond", lambda x: np.linalg.pinv(x, 1e-9), TALL)
case(np.linalg.pinv, "rcond=", lambda x: np.linalg.pinv(x, rcond=1e-9), TALL)
case(np.linalg.pinv, "rtol=", lambda x: np.linalg.pinv(x, rtol=1e-9), TALL)
case(np.linalg.pinv, "of rank 1", lambda u, v: np.linalg.pinv(np.outer(u, v), 1e-8), [1.0, -2.0, 0.5], [2.0, 1.0])
for b in [(3,), (3, 1), (3, 2), (3, 3), (2, 3, 2), (4, 1, 3, 2), (0, 3, 2), (3, 0)]:
    case(np.linalg.solve, f"(3, 3) {b}", np.linalg.solve, WELL, b)
for b in [(3,), (3, 2), (2, 3, 2), (2, 3, 3), (1, 3, 1), (4, 2, 3, 1)]:
    case(np.linalg.solve, f"(2, 3, 3) {b}", np.linalg.solve, WELLS, b)
case(np.linalg.solve, "(1, 3, 3) (4, 3, 2)", np.linalg.solve, WELLS[:1], (4, 3, 2))
sides(np.linalg.solve, WELL, draw("solve", (3,)))
SQUARE = WELL[:2, :2]
for label, a, b in [("tall", TALL, (4,)), ("tall, several", TALL, (4, 3)), ("tall, one column", TALL, (4, 1)),
                    ("wide", TALL.T, (2,)), ("wide, several", TALL.T, (2, 3)), ("square", SQUARE, (2,))]:  # fmt: skip
    case(np.linalg.lstsq, label, lambda a, b: np.linalg.lstsq(a, b)[0], a, b)
    case(np.linalg.lstsq, f"{label}: all", lambda a, b: [np.linalg.lstsq(a, b, rcond=None)[i] for i in (0, 1, 3)], a, b)
case(np.linalg.lstsq, "residuals", lambda a, b: np.linalg.lstsq(a, b, None)[1], TALL, (4,))
case(np.linalg.lstsq, "singular values", lambda a: np.linalg.lstsq(a, np.ones(4))[3], TALL)
case(np.linalg.lstsq, "array on the left", lambda b: np.linalg.lstsq(TALL, b)[0], (4,))

# Determinants, of singular matrices too ------------------------------------------------------------------------------

RANK_1 = np.outer([1.0, -2.0, 0.5], [2.0, 1.0, -1.0])
RANK_2 = RANK_1 + np.outer([0.1, 0.3, -1.0], [0.7, 1.0, 0.3])
for label, x in [
    ("zero", np.zeros((2, 2))), ("3 x 3 zeros", np.zeros((3, 3))), ("rank 1", RANK_1), ("rank 2", RANK_2),
    ("singular 2 x 2", [[0.1, 0.3], [0.2, 0.6]]), ("singular, among others", np.stack([RANK_1, WELL, RANK_2])),
    ("zero 1 x 1", [[0.0]]), ("negative", -WELL), ("two zero rows", [[1.0, 2.0, 3.0], [0, 0, 0], [0, 0, 0]]),
]:  # fmt: skip
    case(np.linalg.det, label, np.linalg.det, x)
case(np.linalg.slogdet, "negative", np.linalg.slogdet, -WELL)
case(np.linalg.slogdet, ".logabsdet", lambda x: np.linalg.slogdet(x).logabsdet, WELLS)
case(np.linalg.slogdet, ".sign", lambda x: np.linalg.slogdet(x).sign, WELLS)

# Decompositions ------------------------------------------------------------------------------------------------------


def gram(x):
    """A positive definite matrix made of any."""
    return x @ np.swapaxes(x, -1, -2) + np.eye(x.shape[-2])


def symmetric(x):
    return x + np.swapaxes(x, -1, -2)


POSITIVE = gram(draw("positive", (3, 3)))
SPREAD = np.diag([1.0, 3.0, 6.0]) + draw("spread", (3, 3), -0.5, 0.5)
SPREADS = np.stack([SPREAD, -2 * SPREAD])
for label, options in [("", {}), (", upper=True", {"upper": True}), (", upper=False", {"upper": False})]:
    call = functools.partial(np.linalg.cholesky, **options)
    case(np.linalg.cholesky, "one triangle" + label, call, SPREAD)
    case(np.linalg.cholesky, "positive" + label, call, POSITIVE)
    case(np.linalg.cholesky, "gram" + label, lambda x, call=call: call(gram(x)), (2, 3))
    case(np.linalg.cholesky, "batch" + label, lambda x, call=call: call(gram(x)), (2, 2, 2))
    case(np.linalg.cholesky, "1 x 1" + label, call, [[2.0]])
    case(np.linalg.cholesky, "empty" + label, call, (0, 3, 3))
for label, args, options in [("", (), {}), (", L", ("L",), {}), (", UPLO=U", (), {"UPLO": "U"}), (", u", ("u",), {})]:
    for function in (np.linalg.eigh, np.linalg.eigvalsh):
        call = lambda x, f=function, args=args, options=options: f(x, *args, **options)
        case(function, "one triangle" + label, call, SPREAD)
        case(function, "symmetric" + label, lambda x, call=call: call(symmetric(x)), SPREAD)
        case(function, "batch" + label, call, SPREADS)
        case(function, "1 x 1" + label, call, [[2.0]])
        case(function, "empty" + label, call, (0, 3, 3))
case(np.linalg.eigh, ".eigenvectors", lambda x: np.linalg.eigh(symmetric(x)).eigenvectors, SPREAD)
case(np.linalg.eigh, ".eigenvalues", lambda x: np.linalg.eigh(symmetric(x)).eigenvalues, SPREAD)
case(np.linalg.eigh, "one eigenvector", lambda x: np.linalg.eigh(x)[1][:, 0], SPREAD)

SVD_TALL = np.array([[2.0, 0.1], [0.3, 1.0], [-0.2, 0.4], [0.5, -0.3]])
MATRICES = [
    ("square", SPREAD), ("tall", SVD_TALL), ("wide", SVD_TALL.T), ("batch", SPREADS), ("row", [[3.0, 4.0]]),
    ("column", [[3.0], [4.0]]), ("batch of tall", np.stack([SVD_TALL, SVD_TALL[::-1] + 1])),
    ("batch of wide", np.stack([SVD_TALL.T, SVD_TALL.T[::-1] * 2])), ("empty", (0, 3, 3)), ("empty wide", (0, 2, 3)),
]  # fmt: skip
for label, x in MATRICES:
    case(np.linalg.svd, "reduced, " + label, lambda x: np.linalg.svd(x, full_matrices=False), x)
    case(np.linalg.svd, "values, " + label, lambda x: np.linalg.svd(x, compute_uv=False), x)
    case(np.linalg.svd, "values of all, " + label, lambda x: np.linalg.svd(x)[1], x)
    case(np.linalg.svdvals, label, np.linalg.svdvals, x)
    case(np.linalg.qr, label, np.linalg.qr, x)
    case(np.linalg.qr, "r, " + label, lambda x: np.linalg.qr(x, "r"), x)
for label, x in [("square", SPREAD), ("batch", SPREADS)]:
    case(np.linalg.svd, "full, " + label, np.linalg.svd, x)
    case(np.linalg.svd, "full_matrices=True, " + label, lambda x: np.linalg.svd(x, True, True), x)
    case(np.linalg.qr, "complete, " + label, lambda x: np.linalg.qr(x, mode="complete"), x)
case(np.linalg.svd, "full, tall, its share", lambda x: [r[..., :2] for r in np.linalg.svd(x)], SVD_TALL)
case(np.linalg.svd, "full, wide, its share", lambda x: np.linalg.svd(x).Vh[:2], SVD_TALL.T)
case(np.linalg.svd, "U alone", lambda x: np.linalg.svd(x, False).U, SVD_TALL)
case(np.linalg.svd, "positional", lambda x: np.linalg.svd(x, False, False), SVD_TALL)
case(np.linalg.qr, "complete, wide", lambda x: np.linalg.qr(x, "complete"), SVD_TALL.T)
case(np.linalg.qr, "complete, tall, R", lambda x: np.linalg.qr(x, "complete").R, SVD_TALL)
case(np.linalg.qr, "Q alone", lambda x: np.linalg.qr(x).Q, SVD_TALL)

# Our own primitives behind them --------------------------------------------------------------------------------------

case(linalg.einsum, "explicit", lambda x, y: linalg.einsum("ij,jk->ik", x, y), (2, 3), (3, 2))
case(linalg.cross, "rows", linalg.cross, (2, 3), (2, 3))
case(linalg.norm, "rows", lambda x: linalg.norm(x, 2, (1,), False), (2, 3))
case(linalg.quotient, "rows", linalg.quotient, signed("numerator", (2, 3)), signed("denominator", (3,)))
case(linalg.refuse_free_columns, "none", lambda x: x.sum() + linalg.refuse_free_columns(x[:, 3:], "svd"), (2, 3))
case(np.dot, "with a number", lambda x: np.dot(x, 2.0), (2, 3))
case(np.dot, "of a number", lambda x: np.dot(2.0, x), (2, 3))
