"""Functions that need no rule: those made of others, whose gradients follow, and those that are piecewise constant.

A composite has the parameters that NumPy gives the function, and says by other functions what it does to Tensors.
"""

import math
import string

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from tinygrad_opt.rules.elementwise import astype, clip
from tinygrad_opt.rules.linalg import cross, einsum, norm
from tinygrad_opt.rules.registry import NON_DIFFERENTIABLE, UFUNC_METHODS, composite, primitive

# Element by element ---------------------------------------------------------------------------------------------------


@composite(np.clip)
def _clip(a, a_min=None, a_max=None, out=None, *, min=None, max=None):
    low, high = a_min if min is None else min, a_max if max is None else max
    if (a_min is not None and min is not None) or (a_max is not None and max is not None):
        raise ValueError("np.clip: give each limit once, as a_min and a_max or as min and max")
    return clip(a, low, high)


@composite(np.select)
def _select(condlist, choicelist, default=0):
    result = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        result = np.where(condition, choice, result)
    return result


if hasattr(np, "astype"):  # from NumPy 2.1 on

    @composite(np.astype)
    def _astype(x, dtype, /, *, copy=True, device=None):
        return astype(x, np.dtype(dtype))


# Shape, order and joining ---------------------------------------------------------------------------------------------


def _at_least(ndim, shape_of):
    """`np.atleast_1d` and its kin: one array, or several."""

    def atleast(*arys):
        results = [a if np.ndim(a) >= ndim else np.reshape(a, shape_of(np.shape(a))) for a in arys]
        return results[0] if len(arys) == 1 else tuple(results)

    return atleast


composite(np.atleast_1d)(_at_least(1, lambda shape: (1,)))
composite(np.atleast_2d)(_at_least(2, lambda shape: (1, *shape) if shape else (1, 1)))
composite(np.atleast_3d)(
    _at_least(3, lambda shape: ((1, *shape) if len(shape) < 2 else shape) + (1,) if shape else (1,) * 3)
)


@composite(np.vstack)
def _vstack(tup, *, dtype=None, casting="same_kind"):
    return _cast(np.concatenate([np.atleast_2d(a) for a in tup], axis=0), dtype, casting)


@composite(np.hstack)
def _hstack(tup, *, dtype=None, casting="same_kind"):
    arrays = [np.atleast_1d(a) for a in tup]
    return _cast(np.concatenate(arrays, axis=0 if np.ndim(arrays[0]) == 1 else 1), dtype, casting)


def _cast(x, dtype, casting):
    if dtype is None:
        return x
    if not np.can_cast(x.dtype, dtype, casting):
        raise TypeError(f"cannot cast from {x.dtype} to {np.dtype(dtype)} by the rule {casting!r}")
    return astype(x, np.dtype(dtype))


@composite(np.dstack)
def _dstack(tup):
    return np.concatenate([np.atleast_3d(a) for a in tup], axis=2)


@composite(np.column_stack)
def _column_stack(tup):
    return np.concatenate([a if np.ndim(a) > 1 else np.reshape(a, (-1, 1)) for a in tup], axis=1)


@composite(np.block)
def _block(arrays):
    def depth(item):
        return 1 + depth(item[0]) if isinstance(item, list) else 0

    def join(item, axis):
        return np.concatenate([join(part, axis + 1) for part in item], axis) if isinstance(item, list) else whole(item)

    def whole(array):
        return np.reshape(array, (1,) * (ndim - np.ndim(array)) + np.shape(array))

    def most(item):
        return max(map(most, item)) if isinstance(item, list) else np.ndim(item)

    ndim = max(depth(arrays), most(arrays))
    return join(arrays, -depth(arrays))


@composite(np.broadcast_arrays)
def _broadcast_arrays(*args, subok=False):
    shape = np.broadcast_shapes(*map(np.shape, args))
    return tuple(np.broadcast_to(a, shape) for a in args)


@composite(np.meshgrid)
def _meshgrid(*xi, copy=True, sparse=False, indexing="xy"):
    if indexing not in ("xy", "ij"):
        raise ValueError(f'np.meshgrid: indexing must be "xy" or "ij"; got {indexing!r}')
    n = len(xi)
    grids = [np.reshape(x, (1,) * i + (-1,) + (1,) * (n - 1 - i)) for i, x in enumerate(xi)]
    if indexing == "xy" and n > 1:
        grids = [np.swapaxes(grid, 0, 1) for grid in grids]
    return tuple(grids) if sparse else np.broadcast_arrays(*grids)


@composite(np.trace)
def _trace(a, offset=0, axis1=0, axis2=1, dtype=None, out=None):
    return np.sum(np.diagonal(a, offset, axis1, axis2), axis=-1, dtype=dtype)


@composite(np.linalg.trace)
def _matrix_trace(x, /, *, offset=0, dtype=None):
    return np.sum(np.diagonal(x, offset, -2, -1), axis=-1, dtype=dtype)


@composite(np.linalg.diagonal)
def _matrix_diagonal(x, /, *, offset=0):
    return np.diagonal(x, offset, -2, -1)


@composite(np.matrix_transpose, np.linalg.matrix_transpose)
def _matrix_transpose(x, /):
    return np.swapaxes(x, -1, -2)


@composite(np.full_like)
def _full_like(a, fill_value, dtype=None, order="K", subok=True, shape=None):
    shape, dtype = np.shape(a) if shape is None else shape, a.dtype if dtype is None else dtype
    if isinstance(fill_value, (int, float, np.ndarray, np.generic)):
        return np.full(shape, fill_value, dtype)
    return astype(np.broadcast_to(fill_value, shape), np.dtype(dtype))


@composite(np.copy)
def _copy(a, order="K", subok=False):
    return astype(a, a.dtype)


def _cut(x, axis, start, stop):
    """``x[..., start:stop, ...]`` along ``axis``, which counts from 0."""
    return x[(slice(None),) * axis + (slice(start, stop),)]


@composite(np.diff)
def _diff(a, n=1, axis=-1, prepend=None, append=None):
    axis = normalize_axis_index(axis, np.ndim(a))
    if n < 0:
        raise ValueError(f"np.diff: n, how often differences are taken, must be at least 0; got {n}")
    shape = [1 if i == axis else length for i, length in enumerate(np.shape(a))]
    ends = [e if e is None or np.ndim(e) else np.broadcast_to(e, shape) for e in (prepend, append)]
    parts = [part for part in (ends[0], a, ends[1]) if part is not None]
    a = np.concatenate(parts, axis) if len(parts) > 1 else a
    subtract = np.not_equal if a.dtype == bool else np.subtract
    for _ in range(n):
        a = subtract(_cut(a, axis, 1, None), _cut(a, axis, None, -1))
    return a


@composite(np.gradient)
def _gradient(f, *varargs, axis=None, edge_order=1):
    axes = normalize_axis_tuple(range(np.ndim(f)) if axis is None else axis, np.ndim(f))
    for_all = len(varargs) == 1 and np.ndim(varargs[0]) == 0
    spacings = varargs * len(axes) if for_all else varargs or (1.0,) * len(axes)
    if len(spacings) != len(axes):
        raise TypeError(f"np.gradient takes one spacing for each of {len(axes)} axes; got {len(spacings)}")
    if edge_order not in (1, 2):
        raise ValueError(f"np.gradient: edge_order must be 1 or 2; got {edge_order!r}")
    f = f if f.dtype.kind == "f" else astype(f, np.dtype(float))
    results = [_slopes(f, h, a, edge_order) for h, a in zip(spacings, axes, strict=True)]
    return results[0] if len(results) == 1 else tuple(results)


def _slopes(f, spacing, axis, edge_order):
    """The derivative along ``axis`` of the parabola through each element and its neighbours (at an end: a line)."""
    n = np.shape(f)[axis]
    if n < edge_order + 1:
        raise ValueError(f"np.gradient needs {edge_order + 1} elements along axis {axis} at least; got {n}")
    h = np.diff(spacing) if np.ndim(spacing) else np.broadcast_to(spacing, (n - 1,))
    h = np.reshape(h, (-1,) + (1,) * (np.ndim(f) - 1 - axis)).astype(f.dtype)
    a, b = h[:-1], h[1:]
    left, middle, right = _cut(f, axis, None, -2), _cut(f, axis, 1, -1), _cut(f, axis, 2, None)
    inner = -b / (a * (a + b)) * left + (b - a) / (a * b) * middle + a / (b * (a + b)) * right
    rise = np.diff(f, axis=axis) / h
    first, last = _cut(rise, axis, 0, 1), _cut(rise, axis, -1, None)
    if edge_order == 2:
        first = first - (_cut(rise, axis, 1, 2) - first) * (h[0] / (h[0] + h[1]))
        last = last + (last - _cut(rise, axis, -2, -1)) * (h[-1] / (h[-1] + h[-2]))
    return np.concatenate([first, inner, last], axis)


# Reductions -----------------------------------------------------------------------------------------------------------


@composite(np.ptp)
def _ptp(a, axis=None, out=None, keepdims=False):
    return np.max(a, axis=axis, keepdims=keepdims) - np.min(a, axis=axis, keepdims=keepdims)


def _axis_last(x, axis):
    """``x`` with the axes to reduce merged into the last one, and the shape of the result with keepdims."""
    axes = normalize_axis_tuple(range(x.ndim) if axis is None else axis, x.ndim)
    rest = [i for i in range(x.ndim) if i not in axes]
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    merged = math.prod(x.shape[i] for i in axes)
    return np.reshape(np.transpose(x, (*rest, *axes)), (*(x.shape[i] for i in rest), merged)), kept


@composite(np.median)
def _median(a, axis=None, out=None, overwrite_input=False, keepdims=False):
    rows, kept = _axis_last(a, axis)
    n = rows.shape[-1]
    rows = np.sort(rows, axis=-1)
    middle = np.mean(rows[..., (n - 1) // 2 : n // 2 + 1], axis=-1)
    if n:
        middle = np.where(np.isnan(rows[..., -1]), middle.dtype.type(np.nan), middle)  # a NaN is sorted last
    return np.reshape(middle, kept) if keepdims else middle


@primitive(pure=False)
def _check_weights(total):
    if np.any(total == 0):
        raise ZeroDivisionError("np.average: the weights sum to zero, so the average does not exist")


NON_DIFFERENTIABLE.add(_check_weights)


@composite(np.average)
def _average(a, axis=None, weights=None, returned=False, *, keepdims=False):
    if weights is None:
        result = np.mean(a, axis=axis, keepdims=keepdims)
        count = np.size(a) / max(result.size, 1)
        return (result, np.full(result.shape, count, result.dtype)) if returned else result
    if np.shape(weights) != np.shape(a):
        axes = () if axis is None else normalize_axis_tuple(axis, np.ndim(a))
        if not axes or np.shape(weights) != tuple(np.shape(a)[i] for i in axes):
            raise ValueError(f"np.average: weights of shape {np.shape(weights)} do not fit {np.shape(a)}, axis {axis}")
        weights = np.transpose(weights, np.argsort(axes))
        weights = np.expand_dims(weights, tuple(i for i in range(np.ndim(a)) if i not in axes))
        weights = np.broadcast_to(weights, np.shape(a))
    total = np.sum(weights, axis=axis, keepdims=keepdims)
    _check_weights(total)
    result = np.sum(a * weights, axis=axis, keepdims=keepdims) / total
    return (result, total) if returned else result


@composite(np.nansum)
def _nansum(a, axis=None, dtype=None, out=None, keepdims=False):
    return np.sum(np.where(np.isnan(a), 0, a), axis=axis, dtype=dtype, keepdims=keepdims)


def _without_nan(extreme, worst):
    """`np.nanmax` or `np.nanmin`: of nothing but NaNs it is NaN."""

    def found(a, axis=None, out=None, keepdims=False):
        if a.dtype.kind != "f":
            return extreme(a, axis=axis, keepdims=keepdims)
        missing = np.isnan(a)
        result = extreme(np.where(missing, worst, a), axis=axis, keepdims=keepdims)
        return np.where(np.all(missing, axis=axis, keepdims=keepdims), result.dtype.type(np.nan), result)

    return found


composite(np.nanmax)(_without_nan(np.max, -np.inf))
composite(np.nanmin)(_without_nan(np.min, np.inf))


@composite(np.nanmean)
def _nanmean(a, axis=None, dtype=None, out=None, keepdims=False):
    total = np.nansum(a, axis, dtype, None, keepdims)
    return total / np.sum(np.logical_not(np.isnan(a)), axis=axis, keepdims=keepdims).astype(total.dtype)


# Linear algebra -------------------------------------------------------------------------------------------------------


@composite(np.inner)
def _inner(a, b):
    return np.dot(a, np.swapaxes(b, -1, -2) if np.ndim(a) > 0 and np.ndim(b) > 1 else b)


@composite(np.vdot)
def _vdot(a, b):
    return np.dot(np.ravel(a), np.ravel(b))


@composite(np.vecdot, np.linalg.vecdot)
def _vecdot(x1, x2, axis=-1):
    x1, x2 = np.moveaxis(x1, axis, -1), np.moveaxis(x2, axis, -1)
    return (np.expand_dims(x1, -2) @ np.expand_dims(x2, -1))[..., 0, 0]


if hasattr(np, "matvec"):  # since NumPy 2.2
    composite(np.matvec)(lambda x1, x2: (np.expand_dims(x2, -2) @ np.swapaxes(x1, -1, -2))[..., 0, :])
    composite(np.vecmat)(lambda x1, x2: (np.expand_dims(x1, -2) @ x2)[..., 0, :])


def _written_out(operands):
    """The subscripts of a call of `np.einsum` with the output and a letter for every axis, and the operands."""
    if isinstance(operands[0], str):
        subscripts, operands = operands[0].replace(" ", ""), operands[1:]
    else:  # operand, list of axes, operand, list of axes, ..., perhaps the list of the output
        letters = string.ascii_uppercase + string.ascii_lowercase
        lists = [*operands[1::2], *operands[len(operands) - len(operands) % 2 :]]
        texts = ["".join("..." if i is Ellipsis else letters[i] for i in axes) for axes in lists]
        operands = operands[: len(operands) // 2 * 2 : 2]
        subscripts = ",".join(texts[: len(operands)]) + "".join("->" + text for text in texts[len(operands) :])
    inputs, arrow, output = subscripts.partition("->")
    if not arrow:
        output = "".join(c for c in sorted(set(inputs) - set(",.")) if inputs.count(c) == 1)
        output = "..." + output if "..." in inputs else output
    terms = inputs.split(",")
    extra = [np.ndim(x) - len(term.replace("...", "")) for term, x in zip(terms, operands, strict=False)]
    spare = "".join(c for c in string.ascii_letters if c not in subscripts)[: max(0, 0, *extra)]
    terms = [term.replace("...", spare[len(spare) - max(n, 0) :]) for term, n in zip(terms, extra, strict=False)]
    if "..." in inputs and "..." not in output and spare:
        raise ValueError(f"np.einsum: the axes that ... stands for are not in the output of {subscripts!r}")
    return f"{','.join(terms)}->{output.replace('...', spare)}", operands


@composite(np.einsum)
def _einsum(*operands, out=None, optimize=False):
    subscripts, operands = _written_out(operands)
    return einsum(subscripts, *operands, optimize=optimize)


@composite(np.kron)
def _kron(a, b):
    ndim = max(np.ndim(a), np.ndim(b))
    a, b = (np.reshape(x, (1,) * (ndim - np.ndim(x)) + np.shape(x)) for x in (a, b))
    product = np.expand_dims(a, tuple(range(1, 2 * ndim, 2))) * np.expand_dims(b, tuple(range(0, 2 * ndim, 2)))
    return np.reshape(product, tuple(m * n for m, n in zip(a.shape, b.shape, strict=True)))


@composite(np.cross, np.linalg.cross)
def _cross(a, b, axisa=-1, axisb=-1, axisc=-1, axis=None):
    if axis is not None:
        axisa = axisb = axisc = axis
    return np.moveaxis(cross(np.moveaxis(a, axisa, -1), np.moveaxis(b, axisb, -1)), -1, axisc)


@composite(np.correlate)
def _correlate(a, v, mode="valid"):
    return np.convolve(a, np.flip(v), mode) if len(a) >= len(v) else np.flip(np.convolve(v, np.flip(a), mode))


@composite(np.linalg.norm)
def _norm(x, ord=None, axis=None, keepdims=False):
    x = x if x.dtype.kind == "f" else astype(x, np.dtype(float))
    axes = normalize_axis_tuple(range(x.ndim) if axis is None else axis, x.ndim)
    if len(axes) == 2 and ord in (2, -2, "nuc"):
        parts = np.linalg.svd(np.moveaxis(x, axes, (-2, -1)), compute_uv=False)
    elif len(axes) == 2 and ord in (1, -1, np.inf, -np.inf):
        parts = np.sum(np.abs(np.moveaxis(x, axes, (-2, -1))), axis=-2 if abs(ord) == 1 else -1)
    elif len(axes) == 1 and ord in (np.inf, -np.inf):
        parts = np.moveaxis(np.abs(x), axes[0], -1)
    else:
        return norm(x, ord, axis, keepdims)
    out = (np.sum if ord == "nuc" else np.max if ord > 0 else np.min)(parts, axis=-1)
    return np.expand_dims(out, axes) if keepdims else out


@composite(np.linalg.matrix_norm)
def _matrix_norm(x, /, *, keepdims=False, ord="fro"):
    return np.linalg.norm(x, ord, (-2, -1), keepdims)


@composite(np.linalg.vector_norm)
def _vector_norm(x, /, *, axis=None, keepdims=False, ord=2):
    axes = normalize_axis_tuple(range(x.ndim) if axis is None else axis, x.ndim)
    x = np.moveaxis(x, axes, range(len(axes)))
    merged = math.prod(x.shape[: len(axes)])
    out = np.linalg.norm(np.reshape(x, (merged, *x.shape[len(axes) :])), ord, 0)
    return np.expand_dims(out, axes) if keepdims else out


# np.add.reduce(x) is np.sum(x) with axis=0 as default, and so on ------------------------------------------------------

UFUNC_METHODS.update(
    {
        (np.add, "reduce"): np.sum,
        (np.multiply, "reduce"): np.prod,
        (np.maximum, "reduce"): np.max,
        (np.minimum, "reduce"): np.min,
        (np.add, "accumulate"): np.cumsum,
        (np.multiply, "accumulate"): np.cumprod,
    }
)

# Piecewise constant functions and questions ---------------------------------------------------------------------------

# fmt: off
NON_DIFFERENTIABLE.update({
    # comparisons, logic, bits
    np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal,
    np.isclose, np.allclose, np.array_equal, np.array_equiv, np.all, np.any, np.isin,
    np.logical_and, np.logical_or, np.logical_xor, np.logical_not,
    np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert, np.left_shift, np.right_shift, np.bitwise_count,
    np.gcd, np.lcm, np.packbits, np.unpackbits,
    # kinds of numbers
    np.isfinite, np.isinf, np.isnan, np.isneginf, np.isposinf, np.isreal, np.iscomplex, np.signbit, np.angle, np.imag,
    # rounding
    np.sign, np.floor, np.ceil, np.trunc, np.rint, np.fix, np.round, np.around, np.floor_divide,
    # positions and counts
    np.argmax, np.argmin, np.nanargmax, np.nanargmin, np.argsort, np.argpartition, np.argwhere, np.searchsorted,
    np.nonzero, np.flatnonzero, np.count_nonzero, np.lexsort, np.digitize,
    np.unravel_index, np.ravel_multi_index, np.diag_indices_from, np.tril_indices_from, np.triu_indices_from,
    # shapes, dtypes, memory, text
    np.ndim, np.shape, np.size, np.zeros_like, np.ones_like, np.empty_like,
    np.result_type, np.can_cast, np.min_scalar_type, np.common_type, np.iscomplexobj, np.isrealobj,
    np.may_share_memory, np.shares_memory, np.array_repr, np.array_str, np.array2string,
    # questions of linear algebra
    np.einsum_path, np.linalg.matrix_rank,
})
# fmt: on
