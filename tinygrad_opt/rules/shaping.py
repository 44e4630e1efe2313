"""Rules of functions that move, repeat or pick elements: the gradient goes back the way the elements came."""

import numpy as np

from tinygrad_opt.rules.elementwise import astype
from tinygrad_opt.rules.registry import composite, defvjp, primitive

# Shape ---------------------------------------------------------------------------------------------------------------

defvjp(np.reshape, lambda g, _out, _x, shape, *, order="C": np.reshape(g, _x.shape, order=order))
defvjp(np.ravel, lambda g, _out, _x, *, order="C": np.reshape(g, _x.shape, order=order))
defvjp(np.squeeze, lambda g, _out, _x, axis=None: np.reshape(g, _x.shape))
defvjp(np.expand_dims, lambda g, _out, _x, axis: np.reshape(g, _x.shape))
defvjp(np.swapaxes, lambda g, _out, _x, axis1, axis2: np.swapaxes(g, axis1, axis2))
defvjp(np.moveaxis, lambda g, _out, _x, source, destination: np.moveaxis(g, destination, source))
defvjp(np.broadcast_to, lambda g, _out, _x, shape: g)


def _inverse(axes, ndim):
    """The permutation that undoes ``axes``."""
    return None if axes is None else np.argsort([a % ndim for a in axes])


defvjp(np.transpose, lambda g, _out, _x, axes=None: np.transpose(g, _inverse(axes, g.ndim)))

# Order ---------------------------------------------------------------------------------------------------------------

defvjp(np.flip, lambda g, _out, _x, axis=None: np.flip(g, axis))
defvjp(np.roll, lambda g, _out, _x, shift, axis=None: np.roll(g, -np.asarray(shift), axis))


# Several arrays as one value: a list of arrays that goes into a function, or comes out of one ------------------------


class Bundle(tuple):
    """Several arrays that travel the graph as one; bundles of gradients add up element by element."""

    shape = dtype = None

    def __add__(self, other):
        return Bundle(a + b for a, b in zip(self, other, strict=True))


@primitive
def pack(*arrays):
    """Several arrays as one bundle."""
    return Bundle(arrays)


@primitive
def unpack(bundle, position):
    """One array of a bundle."""
    return bundle[position]


defvjp(pack, each=lambda position, g, _out, *_arrays: g[position])
defvjp(
    unpack,
    lambda g, _out, bundle, position: Bundle(
        g if i == position else np.zeros(array.shape, array.dtype) for i, array in enumerate(bundle)
    ),
)

# Joining -------------------------------------------------------------------------------------------------------------


def _pieces(g, arrays, axis):
    """``g`` cut along ``axis`` into pieces as long as the arrays that were joined."""
    if axis is None:
        g, axis, lengths = np.ravel(g), 0, [a.size for a in arrays]
    else:
        axis %= g.ndim
        lengths = [a.shape[axis] for a in arrays]
    ends = np.cumsum(lengths)
    before = (slice(None),) * axis
    pieces = [g[(*before, slice(end - n, end))] for n, end in zip(lengths, ends, strict=True)]
    return Bundle(np.reshape(piece, a.shape) for piece, a in zip(pieces, arrays, strict=True))


defvjp(np.concatenate, lambda g, _out, arrays, axis=0: _pieces(g, arrays, axis))
defvjp(
    np.stack,
    lambda g, _out, arrays, axis=0: Bundle(np.moveaxis(g, axis, 0)[i] for i in range(len(arrays))),
)

# Picking -------------------------------------------------------------------------------------------------------------


@primitive
def getitem(x, index):
    """``x[index]``, with any index that NumPy takes."""
    return x[index]


@primitive
def scatter(g, index, shape):
    """Zeros of ``shape`` with ``g`` added at ``index``: the opposite of `getitem`; repeated indices add up."""
    total = np.zeros(shape, g.dtype)
    parts = index if isinstance(index, tuple) else (index,)
    if all(part is None or part is Ellipsis or isinstance(part, (int, np.integer, slice)) for part in parts):
        total[index] = g
    else:
        np.add.at(total, index, g)
    return total


defvjp(getitem, lambda g, _out, _x, index: scatter(g, index, _x.shape))
defvjp(scatter, lambda g, _out, _g, index, _shape: getitem(g, index))

# Moving: functions that move, repeat or drop elements, and nothing else, can be asked themselves where each one went -


def _numbered(x, start=1):
    """Integers in place of the elements of an array, or of a list of arrays, counting from ``start``."""
    if not isinstance(x, tuple):
        return np.arange(start, start + np.size(x)).reshape(np.shape(x))
    ends = np.cumsum([np.size(a) for a in x])
    return [_numbered(a, start + end - np.size(a)) for a, end in zip(x, ends, strict=True)]


def _blank(x):
    """The same with zeros: elements that came from somewhere else."""
    return [_blank(a) for a in x] if isinstance(x, tuple) else np.zeros(np.shape(x), int)


def _flat(pieces):
    return np.concatenate([np.ravel(p) for p in pieces]) if isinstance(pieces, (tuple, list)) else np.ravel(pieces)


def _sent_back(g, places, x):
    """The sum of all elements of ``g`` that came from each element of ``x``; those from place 0 are dropped."""
    sizes = [np.size(a) for a in x] if isinstance(x, tuple) else [np.size(x)]
    total = scatter(_flat(g), _flat(places), (sum(sizes) + 1,))
    if not isinstance(x, tuple):
        return np.reshape(total[1:], np.shape(x))
    ends = 1 + np.cumsum(sizes)
    return Bundle(np.reshape(total[end - n : end], np.shape(a)) for a, n, end in zip(x, sizes, ends, strict=True))


def _moving_rule(function, inputs, position):
    def rule(g, _out, *args, **options):
        asked = list(args)
        for i in inputs:
            asked[i] = _numbered(args[i]) if i == position else _blank(args[i])
        return _sent_back(g, function(*asked, **options), args[position])

    rule.unread = {-1, *inputs}  # type: ignore[attr-defined]
    return rule


def moves(function, *inputs, asked=None):
    """Give ``function``, which only moves elements of its arguments number ``inputs``, its rules."""
    inputs = inputs or (0,)
    rules = [_moving_rule(asked or function, inputs, i) if i in inputs else None for i in range(max(inputs) + 1)]
    defvjp(function, *rules)


for turn in (np.flipud, np.fliplr, np.rot90, np.rollaxis):
    moves(turn)
for copies in (np.tile, np.repeat, np.resize):
    moves(copies)
for part in (np.diag, np.diagonal, np.diagflat, np.tril, np.triu):
    moves(part)
for cut in (np.split, np.array_split, np.hsplit, np.vsplit, np.dsplit):
    moves(cut)
for pick in (np.take, np.take_along_axis, np.delete):
    moves(pick)
moves(np.append, 0, 1)
moves(np.insert, 0, 2)
moves(np.compress, 1)


def _pad_places(numbers, pad_width, mode="constant", **options):
    """What `np.pad` makes of numbered elements: its constants come from nowhere."""
    if mode not in ("constant", "edge", "reflect", "symmetric", "wrap") or options.get("reflect_type") == "odd":
        raise ValueError(f"np.pad has a gradient rule for modes that copy elements; got {mode!r}, {options}")
    return np.pad(numbers, pad_width, mode=mode)


moves(np.pad, asked=_pad_places)


def _sorted_places(numbers, out, x, axis):
    """Where the elements of ``out`` came from: the k-th smallest of ``out`` was the k-th smallest of ``x``."""
    places = np.empty(out.shape, int)
    np.put_along_axis(places, np.argsort(out, axis), np.take_along_axis(numbers, np.argsort(x, axis), axis), axis)
    return places


def _sort_rule(g, out, x, axis=-1):
    if axis is None:
        numbers, flat, axis = np.arange(1, x.size + 1), np.ravel(x), 0
    else:
        numbers, flat = _numbered(x), x
    return _sent_back(g, _sorted_places(numbers, out, flat, axis), x)


defvjp(np.sort, lambda g, out, x, axis=-1, *, kind=None, stable=None: _sort_rule(g, out, x, axis))
defvjp(np.partition, lambda g, out, x, kth, axis=-1, *, kind="introselect": _sort_rule(g, out, x, axis))

# Made of the functions above -----------------------------------------------------------------------------------------


def _at_least(ndim, shape_of):
    """`np.atleast_1d` and its kin: one array, or several."""

    def atleast(*arys):
        results = [a if np.ndim(a) >= ndim else np.reshape(a, shape_of(np.shape(a))) for a in arys]
        return results[0] if len(arys) == 1 else tuple(results)

    return atleast


atleast_1d = composite(np.atleast_1d)(_at_least(1, lambda shape: (1,)))
atleast_2d = composite(np.atleast_2d)(_at_least(2, lambda shape: (1, *shape) if shape else (1, 1)))
atleast_3d = composite(np.atleast_3d)(
    _at_least(3, lambda shape: (1, *shape, 1) if len(shape) == 1 else (*shape, 1) if shape else (1, 1, 1))
)


@composite(np.vstack)
def vstack(tup, *, dtype=None, casting="same_kind"):
    return np.concatenate([np.atleast_2d(a) for a in tup], axis=0)


@composite(np.hstack)
def hstack(tup, *, dtype=None, casting="same_kind"):
    arrays = [np.atleast_1d(a) for a in tup]
    return np.concatenate(arrays, axis=0 if np.ndim(arrays[0]) == 1 else 1)


@composite(np.dstack)
def dstack(tup):
    return np.concatenate([np.atleast_3d(a) for a in tup], axis=2)


@composite(np.column_stack)
def column_stack(tup):
    return np.concatenate([a if np.ndim(a) > 1 else np.reshape(a, (-1, 1)) for a in tup], axis=1)


@composite(np.block)
def block(arrays):
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
def broadcast_arrays(*args, subok=False):
    shape = np.broadcast_shapes(*map(np.shape, args))
    return tuple(np.broadcast_to(a, shape) for a in args)


@composite(np.meshgrid)
def meshgrid(*xi, copy=True, sparse=False, indexing="xy"):
    n = len(xi)
    grids = [np.reshape(x, (1,) * i + (-1,) + (1,) * (n - 1 - i)) for i, x in enumerate(xi)]
    if indexing == "xy" and n > 1:
        grids = [np.swapaxes(grid, 0, 1) for grid in grids]
    return tuple(grids) if sparse else np.broadcast_arrays(*grids)


@composite(np.trace)
def trace(a, offset=0, axis1=0, axis2=1, dtype=None, out=None):
    return np.sum(np.diagonal(a, offset, axis1, axis2), axis=-1)


@composite(np.full_like)
def full_like(a, fill_value, dtype=None, order="K", subok=True, shape=None):
    shape, dtype = np.shape(a) if shape is None else shape, a.dtype if dtype is None else dtype
    if isinstance(fill_value, (int, float, np.ndarray, np.generic)):
        return np.full(shape, fill_value, dtype)
    return astype(np.broadcast_to(fill_value, shape), np.dtype(dtype))


@composite(np.copy)
def copy(a, order="K", subok=False):
    return np.positive(a)


def _cut(x, axis, start, stop):
    """``x[..., start:stop, ...]`` along ``axis``."""
    return x[(slice(None),) * (axis % np.ndim(x)) + (slice(start, stop),)]


@composite(np.diff)
def diff(a, n=1, axis=-1, prepend=None, append=None):
    shape = [1 if i == axis % np.ndim(a) else length for i, length in enumerate(np.shape(a))]
    ends = [e if e is None or np.ndim(e) else np.broadcast_to(e, shape) for e in (prepend, append)]
    parts = [part for part in (ends[0], a, ends[1]) if part is not None]
    a = np.concatenate(parts, axis) if len(parts) > 1 else a
    for _ in range(n):
        a = _cut(a, axis, 1, None) - _cut(a, axis, None, -1)
    return a


@composite(np.gradient)
def gradient(f, *varargs, axis=None, edge_order=1):
    axes = tuple(range(np.ndim(f))) if axis is None else tuple(np.atleast_1d(axis) % np.ndim(f))
    spacings = varargs * len(axes) if len(varargs) == 1 else varargs or (1.0,) * len(axes)
    if len(spacings) != len(axes):
        raise TypeError(f"np.gradient takes one spacing for each of {len(axes)} axes; got {len(spacings)}")
    results = [_slopes(f, h, a, edge_order) for h, a in zip(spacings, axes, strict=True)]
    return results[0] if len(results) == 1 else tuple(results)


def _slopes(f, spacing, axis, edge_order):
    """The derivative along ``axis`` of the parabola through each element and its neighbours (at an end: a line)."""
    n = np.shape(f)[axis]
    if n < edge_order + 1:
        raise ValueError(f"np.gradient needs {edge_order + 1} elements along axis {axis} at least; got {n}")
    h = np.diff(spacing) if np.ndim(spacing) else np.broadcast_to(spacing, (n - 1,))
    h = np.reshape(h, (-1,) + (1,) * (np.ndim(f) - 1 - axis))
    a, b = h[:-1], h[1:]
    left, middle, right = _cut(f, axis, None, -2), _cut(f, axis, 1, -1), _cut(f, axis, 2, None)
    inner = -b / (a * (a + b)) * left + (b - a) / (a * b) * middle + a / (b * (a + b)) * right
    rise = np.diff(f, axis=axis) / h
    first, last = _cut(rise, axis, 0, 1), _cut(rise, axis, -1, None)
    if edge_order == 2:
        first = first - (_cut(rise, axis, 1, 2) - first) * (h[0] / (h[0] + h[1]))
        last = last + (last - _cut(rise, axis, -2, -1)) * (h[-1] / (h[-1] + h[-2]))
    return np.concatenate([first, inner, last], axis)
