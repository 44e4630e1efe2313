"""Rules of functions that move, repeat or pick elements: the gradient goes back the way the elements came."""

import numpy as np

from tinygrad_opt.rules.registry import defvjp, primitive

# Shape ---------------------------------------------------------------------------------------------------------------

defvjp(np.reshape, lambda g, _out, x, shape, order="C": np.reshape(g, x.shape, order=order))
defvjp(np.ravel, lambda g, _out, x, order="C": np.reshape(g, x.shape, order=order))
defvjp(np.squeeze, lambda g, _out, x, axis=None: np.reshape(g, x.shape))
defvjp(np.expand_dims, lambda g, _out, x, axis: np.reshape(g, x.shape))
defvjp(np.swapaxes, lambda g, _out, _x, axis1, axis2: np.swapaxes(g, axis1, axis2))
defvjp(np.moveaxis, lambda g, _out, _x, source, destination: np.moveaxis(g, destination, source))
defvjp(np.broadcast_to, lambda g, _out, _x, shape: g)


def _inverse(axes, ndim):
    """The permutation that undoes ``axes``."""
    return None if axes is None else np.argsort([a % ndim for a in axes])


defvjp(np.transpose, lambda g, _out, _x, axes=None: np.transpose(g, _inverse(axes, g.ndim)))
for atleast in (np.atleast_1d, np.atleast_2d, np.atleast_3d):
    defvjp(atleast, lambda g, _out, x: np.reshape(g, x.shape))

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
        g if i == position else np.zeros_like(array) for i, array in enumerate(bundle)
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


defvjp(getitem, lambda g, _out, x, index: scatter(g, index, x.shape))
defvjp(scatter, lambda g, _out, _g, index, _shape: getitem(g, index))
