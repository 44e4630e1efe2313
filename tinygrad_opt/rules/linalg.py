"""Rules of linear algebra."""

import math

import numpy as np

from tinygrad_opt.rules.registry import defvjp

# Products ------------------------------------------------------------------------------------------------------------


def _as_matrices(g, x, y):
    """The three of ``out = x @ y`` with vectors written as matrices: ``x`` as a row, ``y`` as a column."""
    if y.ndim == 1:
        g, y = np.expand_dims(g, -1), np.expand_dims(y, -1)
    if x.ndim == 1:
        g, x = np.expand_dims(g, -2), np.expand_dims(x, -2)
    return g, x, y


def _matmul_left(g, _out, x, y):
    if x.ndim == y.ndim == 2:
        return g @ y.T
    gm, _, ym = _as_matrices(g, x, y)
    gx = gm @ np.swapaxes(ym, -1, -2)
    return gx[..., 0, :] if x.ndim == 1 else gx


def _matmul_right(g, _out, x, y):
    if x.ndim == y.ndim == 2:
        return x.T @ g
    gm, xm, _ = _as_matrices(g, x, y)
    gy = np.swapaxes(xm, -1, -2) @ gm
    return gy[..., 0] if y.ndim == 1 else gy


defvjp(np.matmul, _matmul_left, _matmul_right)


def _dot_left(g, out, x, y):
    if x.ndim == 0 or y.ndim == 0:
        return g * y
    if y.ndim == 1:
        return np.expand_dims(g, -1) * y
    if y.ndim == 2:
        return g @ y.T
    rows = np.moveaxis(y, -2, 0)  # (k, ...): the summed axis first
    size = math.prod(rows.shape[1:])
    return np.reshape(g, (*x.shape[:-1], size)) @ np.reshape(rows, (rows.shape[0], size)).T


def _dot_right(g, out, x, y):
    if x.ndim == 0 or y.ndim == 0:
        return g * x
    count = math.prod(x.shape[:-1])
    rows = np.reshape(x, (count, x.shape[-1]))
    if y.ndim == 1:
        return np.ravel(g) @ rows
    free = (*y.shape[:-2], y.shape[-1])
    gy = rows.T @ np.reshape(g, (count, math.prod(free)))
    return np.moveaxis(np.reshape(gy, (x.shape[-1], *free)), 0, -2)


defvjp(np.dot, _dot_left, _dot_right)
