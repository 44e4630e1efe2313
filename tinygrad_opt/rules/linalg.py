"""Rules of linear algebra."""

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
    return np.reshape(g, (*x.shape[:-1], -1)) @ np.reshape(rows, (rows.shape[0], -1)).T


def _dot_right(g, out, x, y):
    if x.ndim == 0 or y.ndim == 0:
        return g * x
    columns = np.reshape(x, (-1, x.shape[-1]))
    if y.ndim == 1:
        return np.ravel(g) @ columns
    free = (*y.shape[:-2], y.shape[-1])
    gy = columns.T @ np.reshape(g, (columns.shape[0], -1))
    return np.moveaxis(np.reshape(gy, (x.shape[-1], *free)), 0, -2)


defvjp(np.dot, _dot_left, _dot_right)
