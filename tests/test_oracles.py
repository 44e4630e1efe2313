"""PyTorch and HIPS autograd as oracles: values, gradients and second derivatives equal theirs.

Both are optional: without them these tests are skipped. Every row of the table has a call of ours, with NumPy's
namespace as its first argument, and the same call of PyTorch. Autograd's namespace is NumPy's too, so it takes our call
as it is, except in rows with ``autograd=False``, where it lacks the function or fails. Inputs stay away from kinks,
except in the rows of the last family, where the conventions agree. Where only one triangle of a matrix is read (eigh,
cholesky), both get a symmetric function of it, and instead of vectors, whose signs are free, the squares of their
components are compared.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import tinygrad_opt as tg
from tests.gradients import random_like, results, weighted_sum
from tests.rules.cases.table import draw, signed
from tinygrad_opt import Tensor
from tinygrad_opt.nn import functional as F
from tinygrad_opt.rules.network import logsumexp

INF = math.inf


class Row(NamedTuple):
    ours: Callable[..., Any]  # of NumPy's namespace and the inputs
    theirs: Callable[..., Any]  # of the module torch and the inputs
    inputs: list[np.ndarray]
    autograd: bool  # whether HIPS autograd has the functions
    second: bool  # whether second derivatives are compared


ROWS: dict[str, Row] = {}


def row(name, ours, theirs, *inputs, autograd=True, second=True):
    """Add one row. Inputs given as shapes become random arrays, from 0.3 to 2 and of both signs."""
    assert name not in ROWS
    arrays = [
        signed(f"{name} {i}", a) if isinstance(a, tuple) else np.array(a, float, order="C")
        for i, a in enumerate(inputs)
    ]
    ROWS[name] = Row(ours, theirs, arrays, autograd, second)


# fmt: off
# Element by element --------------------------------------------------------------------------------------------------

UNIT = draw("unit", (2, 3), -0.9, 0.9)
POSITIVE = draw("positive", (2, 3), 0.3, 3)
SAME_NAME = {
    "square": (2, 3), "negative": (2, 3), "reciprocal": (2, 3), "exp": (), "expm1": (2, 3), "exp2": (2, 3),
    "sin": (2, 0, 3), "cos": (2, 3), "tan": UNIT, "sinh": (2, 3), "cosh": (2, 3), "tanh": (2, 3), "sinc": (2, 3),
    "arcsin": UNIT, "arccos": UNIT, "arctan": (2, 3), "arctanh": UNIT, "arcsinh": (2, 3), "arccosh": 1 + POSITIVE,
    "log": POSITIVE, "log2": POSITIVE, "log10": POSITIVE, "log1p": POSITIVE, "sqrt": POSITIVE, "fabs": (2, 3),
    "deg2rad": (2, 3), "rad2deg": (2, 3), "nan_to_num": (2, 3),
}
for name, values in SAME_NAME.items():
    theirs = "abs" if name == "fabs" else name
    row(name, lambda np, x, n=name: getattr(np, n)(x), lambda torch, x, n=theirs: getattr(torch, n)(x), values,
        autograd=name != "nan_to_num")
for a, b in [((2, 3), (2, 3)), ((2, 3), ()), ((3, 1), (2, 1, 4))]:
    row(f"a + b {a} {b}", lambda _, x, y: x + y * x, lambda _, x, y: x + y * x, a, b)
    row(f"a - b {a} {b}", lambda _, x, y: x * x - y, lambda _, x, y: x * x - y, a, b)
    row(f"a / b {a} {b}", lambda _, x, y: x / y, lambda _, x, y: x / y, a, b)
    row(f"hypot {a} {b}", lambda np, x, y: np.hypot(x, y), lambda torch, x, y: torch.hypot(x, y), a, b, autograd=False)
    row(f"arctan2 {a} {b}", lambda np, x, y: np.arctan2(x, y), lambda torch, x, y: torch.atan2(x, y), a, b)
    row(f"maximum {a} {b}", lambda np, x, y: np.maximum(x, y), lambda torch, x, y: torch.maximum(x, y), a, b)
    row(f"minimum {a} {b}", lambda np, x, y: np.minimum(x, y), lambda torch, x, y: torch.minimum(x, y), a, b)
    row(f"logaddexp {a} {b}", lambda np, x, y: np.logaddexp(x, y), lambda torch, x, y: torch.logaddexp(x, y), a, b)
    row(f"logaddexp2 {a} {b}", lambda np, x, y: np.logaddexp2(x, y), lambda torch, x, y: torch.logaddexp2(x, y), a, b)
    row(f"where {a} {b}", lambda np, x, y: np.where(x > 0, x * y, y), lambda torch, x, y: torch.where(x > 0, x * y, y),
        a, b, autograd=False)
row("a ** b", lambda _, x, y: x**y, lambda _, x, y: x**y, POSITIVE, (3,))
row("a ** 3", lambda _, x: x**3, lambda _, x: x**3, (2, 3))
row("2 ** a", lambda _, x: 2.0**x, lambda _, x: 2.0**x, (2, 3))
row("a % b", lambda _, x, y: x % y, lambda _, x, y: x % y, 5 * UNIT, 1 + POSITIVE, second=False)
row("fmod", lambda np, x, y: np.fmod(x, y), lambda torch, x, y: torch.fmod(x, y), 5 * UNIT, 1 + POSITIVE,
    autograd=False, second=False)
row("copysign", lambda np, x: np.copysign(x, UNIT), lambda torch, x: torch.copysign(x, torch.tensor(UNIT)), (2, 3),
    autograd=False)
row("clip", lambda np, x: np.clip(x, -1, 1.2), lambda torch, x: torch.clip(x, -1, 1.2), (4, 5))
row("clip by Tensors", lambda np, x, a: np.clip(x, a, None), lambda torch, x, a: torch.clip(x, min=a), (4, 5), (5,),
    autograd=False)

# Reductions ----------------------------------------------------------------------------------------------------------

AXES = [None, 0, -1, (0, 2)]
for axis in AXES:
    dim = tuple(range(3)) if axis is None else axis
    row(f"sum {axis}", lambda np, x, a=axis: np.sum(x * x, axis=a), lambda _, x, d=dim: (x * x).sum(d), (2, 3, 4))
    row(f"mean {axis}", lambda np, x, a=axis: np.mean(x * x, axis=a, keepdims=True),
        lambda _, x, d=dim: (x * x).mean(d, keepdim=True), (2, 3, 4))
    row(f"max {axis}", lambda np, x, a=axis: np.max(x, axis=a), lambda torch, x, d=dim: torch.amax(x, d), (2, 3, 4))
    row(f"min {axis}", lambda np, x, a=axis: np.min(x, axis=a), lambda torch, x, d=dim: torch.amin(x, d), (2, 3, 4))
    row(f"std {axis}", lambda np, x, a=axis: np.std(x, axis=a, ddof=1), lambda _, x, d=dim: x.std(d), (2, 3, 4))
    row(f"var {axis}", lambda np, x, a=axis: np.var(x, axis=a), lambda _, x, d=dim: x.var(d, correction=0), (2, 3, 4))
    row(f"logsumexp {axis}", lambda _, x, a=axis: logsumexp(x, axis=a),
        lambda torch, x, d=dim: torch.logsumexp(x, d), (2, 3, 4), autograd=False)
row("prod", lambda np, x: np.prod(x), lambda torch, x: torch.prod(x), (2, 3))
row("prod 1", lambda np, x: np.prod(x, axis=1), lambda torch, x: torch.prod(x, 1), (2, 3))
row("prod with a zero", lambda np, x: np.prod(x), lambda torch, x: torch.prod(x), [2.0, 0, 3], autograd=False)
row("prod with two zeros", lambda np, x: np.prod(x), lambda torch, x: torch.prod(x), [2.0, 0, 0, 3], autograd=False)
for axis in (0, 1):
    row(f"cumsum {axis}", lambda np, x, a=axis: np.cumsum(x * x, axis=a),
        lambda torch, x, d=axis: torch.cumsum(x * x, d), (2, 3))
    row(f"cumprod {axis}", lambda np, x, a=axis: np.cumprod(x, axis=a), lambda torch, x, d=axis: torch.cumprod(x, d),
        (2, 3), autograd=False)
    row(f"running maximum {axis}", lambda np, x, a=axis: np.maximum.accumulate(x, axis=a),
        lambda torch, x, d=axis: torch.cummax(x, d).values, (4, 3), autograd=False)
row("median", lambda np, x: np.median(x, 0), lambda torch, x: torch.quantile(x, 0.5, 0), (4, 3), autograd=False)
row("trace", lambda np, x: np.trace(x * x), lambda torch, x: torch.trace(x * x), (3, 3))

# Shape, order, joining and picking -----------------------------------------------------------------------------------

row("reshape", lambda np, x: np.reshape(x * x, (3, -1)), lambda _, x: (x * x).reshape(3, -1), (2, 3))
row("ravel", lambda np, x: np.ravel(x * x), lambda torch, x: torch.ravel(x * x), (2, 3))
row("transpose", lambda np, x: np.transpose(x * x, (2, 0, 1)), lambda _, x: (x * x).permute(2, 0, 1), (2, 3, 4))
row("swapaxes", lambda np, x: np.swapaxes(x * x, 0, 2), lambda _, x: (x * x).swapaxes(0, 2), (2, 3, 4))
row("moveaxis", lambda np, x: np.moveaxis(x * x, 0, -1), lambda _, x: (x * x).moveaxis(0, -1), (2, 3, 4))
row("squeeze", lambda np, x: np.squeeze(x * x, 1), lambda _, x: (x * x).squeeze(1), (2, 1, 3))
row("expand_dims", lambda np, x: np.expand_dims(x * x, 1), lambda _, x: (x * x).unsqueeze(1), (2, 3))
row("broadcast_to", lambda np, x: np.broadcast_to(x * x, (4, 2, 3)), lambda _, x: (x * x).expand(4, 2, 3), (2, 1),
    autograd=False)
row("flip", lambda np, x: np.flip(x * x, (0, 1)), lambda torch, x: torch.flip(x * x, (0, 1)), (2, 3), autograd=False)
row("roll", lambda np, x: np.roll(x * x, 1, 1), lambda torch, x: torch.roll(x * x, 1, 1), (2, 3))
row("rot90", lambda np, x: np.rot90(x * x), lambda torch, x: torch.rot90(x * x), (2, 3))
row("tile", lambda np, x: np.tile(x * x, (2, 1)), lambda torch, x: torch.tile(x * x, (2, 1)), (2, 3))
row("repeat", lambda np, x: np.repeat(x * x, 2, axis=1), lambda _, x: (x * x).repeat_interleave(2, 1), (2, 3))
row("diag", lambda np, x: np.diag(x * x, 1), lambda torch, x: torch.diag(x * x, 1), (3, 3))
row("diagonal", lambda np, x: np.diagonal(x * x, 1, 1, 2), lambda torch, x: torch.diagonal(x * x, 1, 1, 2), (2, 3, 3),
    autograd=False)
row("tril", lambda np, x: np.tril(x * x), lambda torch, x: torch.tril(x * x), (3, 4))
row("triu", lambda np, x: np.triu(x * x, 1), lambda torch, x: torch.triu(x * x, 1), (3, 4))
row("concatenate", lambda np, x, y: np.concatenate([x, y * y, x], 1), lambda torch, x, y: torch.cat([x, y * y, x], 1),
    (2, 3), (2, 2))
row("stack", lambda np, x, y: np.stack([x, y * y], 1), lambda torch, x, y: torch.stack([x, y * y], 1), (2, 3), (2, 3))
row("hstack", lambda np, x, y: np.hstack([x, y * y]), lambda torch, x, y: torch.hstack([x, y * y]), (2, 3), (2, 2))
row("split", lambda np, x: np.split(x * x, [1, 3], 1), lambda torch, x: torch.tensor_split(x * x, [1, 3], 1), (2, 4),
    autograd=False)
row("array_split", lambda np, x: np.array_split(x * x, 2, 1), lambda torch, x: torch.tensor_split(x * x, 2, 1), (2, 5),
    autograd=False)
row("meshgrid", lambda np, x, y: np.meshgrid(x * x, y, indexing="ij"),
    lambda torch, x, y: torch.meshgrid(x * x, y, indexing="ij"), (2,), (3,), autograd=False)
row("sort", lambda np, x: np.sort(x * x), lambda torch, x: torch.sort(x * x).values, (7,))
row("sort rows", lambda np, x: np.sort(x, axis=1), lambda torch, x: torch.sort(x, 1).values, (3, 4), autograd=False)
row("pad", lambda np, x: np.pad(x * x, ((0, 0), (1, 2))), lambda torch, x: torch.nn.functional.pad(x * x, (1, 2)),
    (2, 3), autograd=False)
row("pad by reflection", lambda np, x: np.pad(x * x, ((0, 0), (1, 2)), "reflect"),
    lambda torch, x: torch.nn.functional.pad(x * x, (1, 2), "reflect"), (2, 4), autograd=False)
row("diff", lambda np, x: np.diff(x * x, axis=1), lambda torch, x: torch.diff(x * x, dim=1), (2, 4))
row("gradient", lambda np, x: np.gradient(x * x, 0.5), lambda torch, x: torch.gradient(x * x, spacing=0.5), (4, 3),
    autograd=False)
row("take_along_axis", lambda np, x: np.take_along_axis(x * x, np.array([[0, 0], [2, 1]]), 1),
    lambda torch, x: torch.take_along_dim(x * x, torch.tensor([[0, 0], [2, 1]]), 1), (2, 3),
    autograd=False)

REPEATED, MASK = np.array([0, 2, 0]), np.array([True, False, True])
for name, index in {
    "an element": (1, 2), "a slice": (slice(1, None), slice(None, None, 2)), "an ellipsis": (..., -1),
    "a new axis": (None, 1), "repeated rows": (REPEATED,), "a mask": (slice(None), MASK), "a mask of rows": (MASK,),
    "pairs": (REPEATED, REPEATED), "rows and a slice": (REPEATED, slice(0, 2)),
    "arrays apart": (REPEATED, None, REPEATED), "broadcast": (REPEATED[:, None], REPEATED),
}.items():
    row(f"x[{name}]", lambda _, x, i=index: (x * x)[i], lambda _, x, i=index: (x * x)[i], (3, 3))

# Linear algebra ------------------------------------------------------------------------------------------------------

WELL = 2 * np.eye(3) + draw("well", (3, 3), -0.5, 0.5)
WELLS = 2 * np.eye(3) + draw("wells", (2, 3, 3), -0.5, 0.5)
TALL = draw("tall", (4, 2)) + 2 * np.eye(4, 2)
for a, b in [((2, 3), (3, 4)), ((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((2, 1, 2, 3), (3, 3, 2))]:
    row(f"matmul {a} {b}", lambda _, x, y: x @ y, lambda _, x, y: x @ y, a, b)
row("outer", lambda np, x, y: np.outer(x, y), lambda torch, x, y: torch.outer(x, y), (2,), (3,))
row("inner", lambda np, x, y: np.inner(x, y), lambda torch, x, y: torch.inner(x, y), (2, 3), (4, 3))
row("vecdot", lambda np, x, y: np.linalg.vecdot(x, y), lambda torch, x, y: torch.linalg.vecdot(x, y), (2, 3), (3,),
    autograd=False)
row("kron", lambda np, x, y: np.kron(x, y), lambda torch, x, y: torch.kron(x, y), (2, 3), (3, 2))
row("cross", lambda np, x, y: np.cross(x, y), lambda torch, x, y: torch.linalg.cross(x, y), (2, 3), (2, 3))
row("tensordot", lambda np, x, y: np.tensordot(x, y, ([0, 2], [2, 0])),
    lambda torch, x, y: torch.tensordot(x, y, dims=([0, 2], [2, 0])), (2, 3, 4), (4, 5, 2))
row("multi_dot", lambda np, *xs: np.linalg.multi_dot(xs), lambda torch, *xs: torch.linalg.multi_dot(xs), (2, 3), (3, 4),
    (4, 2), autograd=False)
for subscripts, *shapes in [("ij,jk->ik", (2, 3), (3, 4)), ("bij,bjk->ik", (2, 2, 3), (2, 3, 2)), ("ii->i", (3, 3)),
                            ("ii", (3, 3)), ("ij,ij->", (2, 3), (2, 3)), ("...i,...i->...", (2, 3), (2, 3)),
                            ("i,j,k->kji", (2,), (3,), (2,)), ("ij->", (2, 3))]:
    row(f"einsum {subscripts}", lambda np, *x, s=subscripts: np.einsum(s, *x),
        lambda torch, *x, s=subscripts: torch.einsum(s, *x), *shapes, autograd="ii" not in subscripts)
for ord in (None, 1, 2, 3, 0.5, INF, -INF, -2):
    theirs = lambda torch, x, o=ord: torch.linalg.vector_norm(x, 2 if o is None else o)
    row(f"norm of a vector {ord}", lambda np, x, o=ord: np.linalg.norm(x, o), theirs, (4,),
        autograd=ord in (None, 2, 3))
for ord in ("fro", "nuc", 1, -1, 2, -2, INF, -INF):
    row(f"norm of a matrix {ord}", lambda np, x, o=ord: np.linalg.norm(x, o),
        lambda torch, x, o=ord: torch.linalg.matrix_norm(x, o), (2, 3), autograd=ord in ("fro", "nuc"))
row("norm of rows", lambda np, x: np.linalg.norm(x, axis=1, keepdims=True),
    lambda torch, x: torch.linalg.norm(x, dim=1, keepdim=True), (2, 3), autograd=False)
for name in ("inv", "det", "pinv"):
    for label, x in [("", WELL), (" of several", WELLS)]:
        row(name + label, lambda np, x, n=name: getattr(np.linalg, n)(x),
            lambda torch, x, n=name: getattr(torch.linalg, n)(x), x)
for label, x in [("", WELL), (" of several", WELLS)]:
    row("slogdet" + label, lambda np, x: np.linalg.slogdet(x)[1], lambda torch, x: torch.linalg.slogdet(x)[1], x)
row("pinv, tall", lambda np, x: np.linalg.pinv(x), lambda torch, x: torch.linalg.pinv(x), TALL)
row("det of a singular matrix", lambda np, x: np.linalg.det(x), lambda torch, x: torch.linalg.det(x),
    [[1.0, 2, 0], [2, 4, 1], [1, 2, 3]], autograd=False, second=False)
for b in [(3,), (3, 2), (2, 3, 2)]:
    row(f"solve {b}", lambda np, x, y: np.linalg.solve(x, y), lambda torch, x, y: torch.linalg.solve(x, y), WELL, b,
        autograd=len(b) < 3)
row("lstsq", lambda np, x, y: np.linalg.lstsq(x, y)[0], lambda torch, x, y: torch.linalg.lstsq(x, y).solution, TALL,
    (4, 2), autograd=False)
for n in (-2, 0, 3, 5):
    row(f"matrix_power {n}", lambda np, x, n=n: np.linalg.matrix_power(x, n) + x,
        lambda torch, x, n=n: torch.linalg.matrix_power(x, n) + x, WELL, autograd=False)
for label, x in [("", WELL), (" of several", WELLS)]:
    row("cholesky" + label, lambda np, x: np.linalg.cholesky(x @ np.swapaxes(x, -1, -2)),
        lambda torch, x: torch.linalg.cholesky(x @ x.mT), x)
    row("eigh" + label, lambda np, x: squares_of(np.linalg.eigh(x + np.swapaxes(x, -1, -2)), 1),
        lambda torch, x: squares_of(torch.linalg.eigh(x + x.mT), 1), x)
    row("eigvalsh" + label, lambda np, x: np.linalg.eigvalsh(x + np.swapaxes(x, -1, -2)),
        lambda torch, x: torch.linalg.eigvalsh(x + x.mT), x, autograd=False)
for label, x in [("", WELL), (", tall", TALL), (", wide", TALL.T)]:
    row("svd" + label, lambda np, x: squares_of(np.linalg.svd(x, full_matrices=False), 0, 2),
        lambda torch, x: squares_of(torch.linalg.svd(x, full_matrices=False), 0, 2), x)
    row("svdvals" + label, lambda np, x: np.linalg.svdvals(x), lambda torch, x: torch.linalg.svdvals(x), x,
        autograd=False)
    row("qr" + label, lambda np, x: np.linalg.qr(x), lambda torch, x: torch.linalg.qr(x), x, autograd=False)


def squares_of(parts, *positions):
    """The parts of a decomposition, those at some positions squared."""
    return [part * part if i in positions else part for i, part in enumerate(parts)]


# Layers, softmax and losses ------------------------------------------------------------------------------------------

CLASSES, LABELS = np.array([0, 3, 1]), np.array([[1.0, -1.0], [-1.0, 1.0]])
PROBABILITIES = draw("probabilities", (3, 4), 0.1, 0.9)
fused = functools.partial(row, autograd=False)
LOSSES = ["mean", "sum", "none"]
fused("linear", lambda _, x, w, b: F.linear(x, w, b), lambda torch, *a: torch.nn.functional.linear(*a),
    (5, 2, 3), (4, 3), (4,))
for name in ("relu", "sigmoid", "tanh"):
    fused(f"F.{name}", lambda _, x, n=name: getattr(F, n)(x), lambda torch, x, n=name: getattr(torch, n)(x), (3, 4))
for axis in (0, -1):
    fused(f"softmax {axis}", lambda _, x, a=axis: F.softmax(x, a), lambda torch, x, a=axis: torch.softmax(x, a), (3, 4))
    fused(f"log_softmax {axis}", lambda _, x, a=axis: F.log_softmax(x, a),
        lambda torch, x, a=axis: torch.log_softmax(x, a), (3, 4))
for how in LOSSES:
    fused(f"mse_loss {how}", lambda _, x, y, h=how: F.mse_loss(x, y, h),
        lambda torch, x, y, h=how: torch.nn.functional.mse_loss(x, y, reduction=h), (3, 4), (3, 4))
    fused(f"cross_entropy {how}", lambda _, x, h=how: F.cross_entropy(x, CLASSES, h),
        lambda torch, x, h=how: torch.nn.functional.cross_entropy(x, torch.tensor(CLASSES), reduction=h), (3, 4))
    fused(f"cross_entropy, smoothed {how}", lambda _, x, h=how: F.cross_entropy(x, CLASSES, h, label_smoothing=0.2),
        lambda torch, x, h=how: torch.nn.functional.cross_entropy(
            x, torch.tensor(CLASSES), reduction=h, label_smoothing=0.2), (3, 4))
    fused(f"binary_cross_entropy {how}", lambda _, x, y, h=how: F.binary_cross_entropy(x, y, h),
        lambda torch, x, y, h=how: torch.nn.functional.binary_cross_entropy(x, y, reduction=h), PROBABILITIES,
        PROBABILITIES[::-1])
    fused(f"binary_cross_entropy_with_logits {how}", lambda _, x, y, h=how: F.binary_cross_entropy_with_logits(x, y, h),
        lambda torch, x, y, h=how: torch.nn.functional.binary_cross_entropy_with_logits(x, y, reduction=h), (3, 4),
        PROBABILITIES)
    fused(f"hinge_loss {how}", lambda _, x, h=how: F.hinge_loss(x, LABELS, h),
        lambda torch, x, h=how: hinge(torch, x, h), (2, 2))


def hinge(torch, x, reduction):
    losses = torch.clamp(1 - torch.tensor(LABELS) * x, min=0)
    return losses if reduction == "none" else getattr(losses, reduction)()


# Kinks, where the conventions agree ----------------------------------------------------------------------------------

TIES = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
row("abs at 0", lambda np, x: np.abs(x), lambda torch, x: torch.abs(x), [0.0, -1, 2], second=False)
row("relu at 0", lambda _, x: F.relu(x), lambda torch, x: torch.relu(x), [0.0, -1, 2], autograd=False, second=False)
row("maximum of equals", lambda np, x, y: np.maximum(x, y), lambda torch, x, y: torch.maximum(x, y), TIES,
    TIES[:, ::-1], second=False)
row("max of equals", lambda np, x: np.max(x, axis=1), lambda torch, x: torch.amax(x, 1), TIES, second=False)
row("min of equals", lambda np, x: np.min(x), lambda torch, x: torch.amin(x), TIES, second=False)
row("clip at its limits", lambda np, x: np.clip(x, 1, 2), lambda torch, x: torch.clip(x, 1, 2), TIES, second=False,
    autograd=False)
row("norm of zeros", lambda np, x: np.linalg.norm(x), lambda torch, x: torch.linalg.norm(x), [0.0, 0, 0], second=False,
    autograd=False)

# fmt: on
# The comparison ------------------------------------------------------------------------------------------------------


def ours(row):
    """The results; the gradients of Σ (result · u); and those of Σ (gradient · v), to compare with others."""
    x = [Tensor(a, requires_grad=True) for a in row.inputs]
    out = results(row.ours(np, *x))
    first = tg.gradients(weighted_sum(out, upstream(out)), x, create_graph=True)
    total = weighted_sum(first, random_like(x, seed=2))
    second = tg.gradients(total, x) if row.second and total.requires_grad else []
    return [[t.data for t in part] for part in (out, first, second)]


def upstream(out):
    """A weight for each element of the results."""
    return random_like(out, seed=1)


def pytorchs(row):
    torch = pytest.importorskip("torch")
    x = [torch.tensor(a, requires_grad=True) for a in row.inputs]
    out = results(row.theirs(torch, *x))
    u, v = ([torch.tensor(a) for a in weights] for weights in (upstream(out), random_like(x, seed=2)))

    def gradients(total):
        if not total.requires_grad:
            return [torch.zeros_like(t) for t in x]
        found = torch.autograd.grad(total, x, create_graph=True, allow_unused=True)
        return [torch.zeros_like(t) if g is None else g for t, g in zip(x, found, strict=True)]

    first = gradients(weighted_sum(out, u))
    second = gradients(weighted_sum(first, v)) if row.second else []
    return [[t.numpy(force=True) for t in part] for part in (out, first, second)]


def autograds(row):
    autograd = pytest.importorskip("autograd")
    namespace = pytest.importorskip("autograd.numpy")
    out = results(row.ours(namespace, *row.inputs))
    u, v = upstream(out), random_like(row.inputs, seed=2)
    gradients = autograd.grad(lambda x: weighted_sum(results(row.ours(namespace, *x)), u))
    second = autograd.grad(lambda x: weighted_sum(gradients(x), v))
    return [out, gradients(row.inputs), second(row.inputs) if row.second else []]


def assert_agree(row, theirs):
    for what, mine, others in zip(("result", "gradient", "second derivative"), ours(row), theirs, strict=True):
        if what == "second derivative" and not mine:  # the function is linear
            mine = [np.zeros(a.shape) for a in others]
        for i, (a, e) in enumerate(zip(mine, others, strict=True)):
            tolerance = {"rtol": 1e-12, "atol": 1e-13} if what == "result" else {"rtol": 1e-8, "atol": 1e-10}
            assert a.shape == np.shape(e), f"{what} {i}"
            np.testing.assert_allclose(a, e, **tolerance, err_msg=f"{what} {i}")


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_pytorch_agrees(row):
    assert_agree(row, pytorchs(row))


@pytest.mark.filterwarnings("ignore:Output seems independent of input")  # the second derivative of a linear function
@pytest.mark.parametrize("row", [pytest.param(r, id=name) for name, r in ROWS.items() if r.autograd])
def test_autograd_agrees(row):
    assert_agree(row, autograds(row))
