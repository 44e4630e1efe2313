"""Rules of functions that move, repeat or pick elements: the gradient goes back the way the elements came."""

import numpy as np

from tinygrad_opt.rules.registry import NON_DIFFERENTIABLE, defvjp, primitive, reads_shapes_only

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
    nodes = ()  # of a function's results: weak references to what the graph has of each

    def __add__(self, other):
        return Bundle(a + b for a, b in zip(self, other, strict=True))


@primitive(inline=True)
def pack(*arrays):
    """Several arrays as one bundle."""
    return Bundle(arrays)


@primitive(inline=True)
def unpack(bundle, position):
    """One array of a bundle."""
    return bundle[position]


defvjp(pack, each=lambda position, g, _out, *_arrays: g[position])
defvjp(
    unpack,
    reads_shapes_only(
        lambda g, _out, bundle, position: Bundle(
            g if i == position else np.zeros(array.shape, array.dtype) for i, array in enumerate(bundle)
        )
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


defvjp(np.concatenate, reads_shapes_only(lambda g, _out, arrays, axis=0: _pieces(g, arrays, axis)))
defvjp(
    np.stack,
    reads_shapes_only(lambda g, _out, arrays, axis=0: Bundle(np.moveaxis(g, axis, 0)[i] for i in range(len(arrays)))),
)

# Picking -------------------------------------------------------------------------------------------------------------


@primitive(inline=True)
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


@primitive
def _sorted_places(numbers, out, x, axis):
    """Where the elements of ``out`` came from: the k-th smallest of ``out`` was the k-th smallest of ``x``."""
    places = np.empty(out.shape, int)
    np.put_along_axis(places, np.argsort(out, axis), np.take_along_axis(numbers, np.argsort(x, axis), axis), axis)
    return places


NON_DIFFERENTIABLE.add(_sorted_places)


def _sort_rule(g, out, x, axis=-1):
    if axis is None:
        numbers, flat, axis = np.arange(1, x.size + 1), np.ravel(x), 0
    else:
        numbers, flat = _numbered(x), x
    return _sent_back(g, _sorted_places(numbers, out, flat, axis), x)


defvjp(np.sort, lambda g, out, x, axis=-1, *, kind=None, stable=None: _sort_rule(g, out, x, axis))
defvjp(np.partition, lambda g, out, x, kth, axis=-1, *, kind="introselect": _sort_rule(g, out, x, axis))
