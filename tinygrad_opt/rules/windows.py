"""Convolution and pooling: functions that look at images through small windows, without a loop over pixels.

NumPy shows all windows of an image as a view of it, without a copy. A convolution lays them side by side as the columns
of a matrix and is then one matrix product; a pooling goes through the few elements of the window, each time for all
windows at once.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tinygrad_opt.rules.registry import NON_DIFFERENTIABLE, defvjp, primitive
from tinygrad_opt.rules.shaping import scatter

BLOCK = 262_144  # numbers: so many elements of windows are laid side by side at a time, and stay in the cache


class Geometry(NamedTuple):
    """Where the windows lie; of each pair, the first number is for the rows, the second for the columns."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    def sizes(self, image: Sequence[int]) -> tuple[int, ...]:
        """How many windows fit along each axis of an image; raises ValueError when none does."""
        counts = []
        for n, k, s, p, d in zip(image, *self, strict=True):
            if n + 2 * p < d * (k - 1) + 1:
                raise ValueError(f"a window of {d * (k - 1) + 1} does not fit into {n} pixels with a padding of {p}")
            counts.append((n + 2 * p - d * (k - 1) - 1) // s + 1)
        return tuple(counts)


def _windows(x, geometry):
    """A view of the padded x (..., H, W): (..., kernel rows, kernel columns, rows of windows, columns of windows)."""
    (kh, kw), (sh, sw), _, (dh, dw) = geometry
    spans = dh * (kh - 1) + 1, dw * (kw - 1) + 1
    view = np.lib.stride_tricks.sliding_window_view(x, spans, axis=(-2, -1))
    return np.moveaxis(view[..., ::sh, ::sw, ::dh, ::dw], (-2, -1), (-4, -3))


def _padded(shape, geometry, fill, dtype):
    """An array of ``fill`` for images of ``shape`` and the padding around them, and the view of the images in it."""
    *others, height, width = shape
    ph, pw = geometry.padding
    padded = np.full((*others, height + 2 * ph, width + 2 * pw), fill, dtype)
    return padded, padded[..., ph : ph + height, pw : pw + width]


def _pad(x, geometry, fill=0.0):
    """x with its padding around it."""
    if geometry.padding == (0, 0):
        return x
    padded, images = _padded(x.shape, geometry, fill, x.dtype)
    images[...] = x
    return padded


# Convolution: three functions, linear in each of their two inputs; the gradient rules of each are the other two ------


def _groups(channels, weight_shape):
    """How many groups the channels fall into: each output channel sees those of one group."""
    return channels // weight_shape[1]


def _blocks(shape, geometry):
    """Slices of the examples of x of ``shape``, of so many that their windows side by side are about BLOCK numbers."""
    count, channels, *image = shape
    windows = channels * math.prod(geometry.kernel) * math.prod(geometry.sizes(image))
    step = max(1, BLOCK // max(windows, 1))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def _columns(x, groups, geometry):
    """Block by block, the windows of x (N, C, H, W) side by side, and which examples they are of.

    A block is (examples, groups, C / groups · kernel, windows); all use the same memory, one after the other.
    """
    blocks = _blocks(x.shape, geometry)
    most = blocks[0].stop if blocks else 0
    padded, images = _padded((most, *x.shape[1:]), geometry, 0.0, x.dtype)
    windows = _windows(padded, geometry)
    columns = np.empty(windows.shape, x.dtype)
    elements = x.shape[1] // groups * math.prod(geometry.kernel)
    matrices = columns.reshape(most, groups, elements, math.prod(windows.shape[-2:]))
    for block in blocks:
        used = block.stop - block.start
        images[:used] = x[block]
        columns[:used] = windows[:used]
        yield block, matrices[:used]


def _weight_matrices(weight, groups):
    """weight (O, C / groups, kernel rows, kernel columns) -> (groups, O / groups, C / groups · kernel)."""
    return weight.reshape(groups, weight.shape[0] // groups, weight[0].size)


def _per_group(g, groups):
    """g (N, O, rows, columns) -> (N, groups, O / groups, windows)."""
    count, outputs, rows, columns = g.shape
    return g.reshape(count, groups, outputs // groups, rows * columns)


@primitive
def conv2d(x, weight, bias, geometry):
    """Each output is a weighted sum of one window of all channels: x (N, C, H, W) -> (N, O, rows, columns)."""
    groups = _groups(x.shape[1], weight.shape)
    out = np.empty((x.shape[0], weight.shape[0], *geometry.sizes(x.shape[2:])), np.result_type(x, weight))
    results, matrices = _per_group(out, groups), _weight_matrices(weight, groups)
    for block, columns in _columns(x, groups, geometry):
        np.matmul(matrices, columns, out=results[block])
    if bias is not None:
        out += bias[:, None, None]
    return out


@primitive
def conv2d_weight(g, x, weight_shape, geometry):
    """The gradient of `conv2d` with respect to its weight: over all windows, the sum of output times window."""
    groups = _groups(x.shape[1], weight_shape)
    upstream = _per_group(g, groups)
    total = np.zeros((groups, weight_shape[0] // groups, math.prod(weight_shape[1:])), g.dtype)
    for block, columns in _columns(x, groups, geometry):
        total += np.matmul(upstream[block], columns.swapaxes(-1, -2)).sum(axis=0)
    return total.reshape(weight_shape)


@primitive
def conv2d_input(g, weight, shape, geometry):
    """The gradient of `conv2d` with respect to x of ``shape``: every window gets back its output times the weight."""
    groups = _groups(shape[1], weight.shape)
    reach = tuple(d * (k - 1) - p for k, p, d in zip(geometry.kernel, geometry.padding, geometry.dilation, strict=True))
    if geometry.stride == (1, 1) and min(reach) >= 0:  # then it is a convolution itself, with the kernel turned round
        turned = _weight_matrices(weight, groups).reshape(groups, -1, *weight.shape[1:])[..., ::-1, ::-1]
        turned = np.ascontiguousarray(turned.swapaxes(1, 2)).reshape(shape[1], -1, *geometry.kernel)
        return conv2d(g, turned, None, geometry._replace(padding=reach))
    transposed = np.ascontiguousarray(_weight_matrices(weight, groups).swapaxes(-1, -2))
    out, upstream = np.empty(shape, g.dtype), _per_group(g, groups)
    for block in _blocks(shape, geometry):
        used = block.stop - block.start
        parts = np.matmul(transposed, upstream[block]).reshape(used, shape[1], *geometry.kernel, *g.shape[2:])
        out[block] = _overlay(np.moveaxis(parts, (2, 3), (0, 1)), (used, *shape[1:]), geometry)
    return out


def _overlay(parts, shape, geometry):
    """Add up windows (kernel rows, kernel columns, ..., rows, columns) where they lie: the opposite of `_windows`."""
    (kh, kw), (sh, sw), _, (dh, dw) = geometry
    rows, columns = geometry.sizes(shape[-2:])
    padded, images = _padded(shape, geometry, 0.0, parts.dtype)
    for i in range(kh):
        for j in range(kw):
            padded[..., i * dh : i * dh + rows * sh : sh, j * dw : j * dw + columns * sw : sw] += parts[i, j]
    return images


defvjp(
    conv2d,
    lambda g, _out, _x, weight, _bias, geometry: conv2d_input(g, weight, _x.shape, geometry),
    lambda g, _out, x, _weight, _bias, geometry: conv2d_weight(g, x, _weight.shape, geometry),
    lambda g, _out, _x, _weight, _bias, geometry: np.sum(np.sum(g, axis=(2, 3)), axis=0),
)
defvjp(
    conv2d_input,
    lambda g, _out, _g, weight, shape, geometry: conv2d(g, weight, None, geometry),
    lambda g, _out, upstream, _weight, shape, geometry: conv2d_weight(upstream, g, _weight.shape, geometry),
)
defvjp(
    conv2d_weight,
    lambda g, _out, _g, x, weight_shape, geometry: conv2d(x, g, None, geometry),
    lambda g, _out, upstream, _x, weight_shape, geometry: conv2d_input(upstream, g, _x.shape, geometry),
)

# Pooling: the windows of each channel on its own ---------------------------------------------------------------------


def _elements(x, geometry, fill):
    """For each element of the window in turn, a view of that element of all windows: (..., rows, columns)."""
    windows = _windows(_pad(x, geometry, fill), geometry)
    return [windows[..., i, j, :, :] for i in range(geometry.kernel[0]) for j in range(geometry.kernel[1])]


@primitive
def max_pool2d(x, geometry):
    """The largest element of every window of x (..., H, W). Of several, the first gets the gradient, as in PyTorch."""
    first, *others = _elements(x, geometry, -np.inf)
    out = first.copy()
    for element in others:
        np.maximum(out, element, out=out)
    return out


@primitive
def first_largest(x, out, geometry):
    """Where in the padded x, as a flat array, the first element of each window is that equals ``out``, its largest.

    Of a window with NaNs it is the last NaN, as in PyTorch. The padding is NaN here, so that it equals nothing: with
    -∞ it would take the gradient of a window of -∞.
    """
    padded = _pad(x, geometry, np.nan)
    (kh, kw), (sh, sw), _, (dh, dw) = geometry
    height, width = padded.shape[-2:]
    windows = _windows(padded, geometry)
    place = np.zeros(out.shape, np.intp)
    for number in range(kh * kw - 1, -1, -1):  # the first one comes last, and stays
        i, j = divmod(number, kw)
        np.copyto(place, i * dh * width + j * dw, where=windows[..., i, j, :, :] == out)
    if np.isnan(out).any():
        for number, element in enumerate(_elements(x, geometry, -np.inf)):
            np.copyto(place, number // kw * dh * width + number % kw * dw, where=np.isnan(element))
    corners = np.arange(out.shape[-2])[:, None] * (sh * width) + np.arange(out.shape[-1]) * sw
    place += corners
    place += (np.arange(math.prod(x.shape[:-2])) * (height * width)).reshape(*x.shape[:-2], 1, 1)
    return place


NON_DIFFERENTIABLE.add(first_largest)


def _max_pool2d_rule(g, out, x, geometry):
    *others, height, width = x.shape
    ph, pw = geometry.padding
    shape = (*others, height + 2 * ph, width + 2 * pw)
    place = first_largest(x, out, geometry)
    total = np.reshape(scatter(np.ravel(g), np.ravel(place), (math.prod(shape),)), shape)
    return total[..., ph : ph + height, pw : pw + width] if ph or pw else total


@primitive
def avg_pool2d(x, geometry):
    """The mean of every window of x (..., H, W); the zeros of the padding count."""
    first, *others = _elements(x, geometry, 0.0)
    out = first.copy()
    for element in others:
        out += element
    out /= len(others) + 1
    return out


@primitive
def avg_unpool2d(g, shape, geometry):
    """The gradient of `avg_pool2d` with respect to x of ``shape``: every window hands on its share, to all alike."""
    kh, kw = geometry.kernel
    return _overlay(np.broadcast_to(g / (kh * kw), (kh, kw, *g.shape)), shape, geometry)


defvjp(max_pool2d, _max_pool2d_rule)
defvjp(avg_pool2d, lambda g, _out, _x, geometry: avg_unpool2d(g, _x.shape, geometry))
defvjp(avg_unpool2d, lambda g, _out, _g, shape, geometry: avg_pool2d(g, geometry))
