"""The layers once more, in plain loops over single numbers: what the tests compare with."""

import math

import numpy as np


def by_element(function):
    """A function of one number as a function of an array."""
    return lambda x: np.array([function(v) for v in x.ravel().tolist()]).reshape(x.shape)


def along_rows(function, x, axis):
    """A function from one list of numbers to another, on every line of x along an axis."""
    moved = np.moveaxis(x, axis, -1)
    rows = [function(row.tolist()) for row in moved.reshape(-1, moved.shape[-1])]
    return np.moveaxis(np.array(rows).reshape(moved.shape), -1, axis)


def softmax(row):
    total = sum(math.exp(v) for v in row)
    return [math.exp(v) / total for v in row]


def log_softmax(row):
    total = sum(math.exp(v) for v in row)
    return [v - math.log(total) for v in row]


def standardized(values, eps):
    """A list of numbers minus its mean, divided by √(variance + ε)."""
    mean = sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / len(values)
    return [(v - mean) / math.sqrt(variance + eps) for v in values]


def linear(x, weight, bias=None):
    out = np.zeros((*x.shape[:-1], len(weight)))
    for *row, o in np.ndindex(out.shape):
        out[(*row, o)] = sum(w * v for w, v in zip(weight[o], x[tuple(row)], strict=True))
        out[(*row, o)] += 0.0 if bias is None else bias[o]
    return out


def positions(size, kernel, stride, padding, dilation):
    """For every window along one axis, the places of its elements; None for those in the padding."""
    count = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    places = [[w * stride - padding + k * dilation for k in range(kernel)] for w in range(count)]
    return [[p if 0 <= p < size else None for p in window] for window in places]


def windows(image, kernel, stride, padding, dilation):
    """(row, column) of every window, and the (row, column) of each of its elements that is not in the padding."""
    axes = [positions(*each) for each in zip(image, kernel, stride, padding, dilation, strict=True)]
    for r, rows in enumerate(axes[0]):
        for c, columns in enumerate(axes[1]):
            yield (
                (r, c),
                [
                    ((j, k), (y, x))
                    for j, y in enumerate(rows)
                    for k, x in enumerate(columns)
                    if y is not None and x is not None
                ],
            )


def terms_of_convolution(shape, weight_shape, stride, padding, dilation, groups):
    """Each product that a convolution adds up, as the places of (output, pixel, weight)."""
    outputs, per_group, *kernel = weight_shape
    for (r, c), elements in windows(shape[2:], kernel, stride, padding, dilation):
        for n in range(shape[0]):
            for o in range(outputs):
                first = o // (outputs // groups) * per_group
                for i in range(per_group):
                    for (j, k), (y, x) in elements:
                        yield (n, o, r, c), (n, first + i, y, x), (o, i, j, k)


def size_of(shape, kernel, stride, padding, dilation):
    return tuple(len(positions(*each)) for each in zip(shape, kernel, stride, padding, dilation, strict=True))


def conv2d(x, weight, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    out = np.zeros((len(x), len(weight), *size_of(x.shape[2:], weight.shape[2:], stride, padding, dilation)))
    for place, pixel, w in terms_of_convolution(x.shape, weight.shape, stride, padding, dilation, groups):
        out[place] += x[pixel] * weight[w]
    if bias is not None:
        for place in np.ndindex(out.shape):
            out[place] += bias[place[1]]
    return out


def conv2d_gradients(g, x, weight, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """The gradients of Σ g · out with respect to x, weight and bias."""
    of_x, of_weight, of_bias = np.zeros(x.shape), np.zeros(weight.shape), np.zeros(len(weight))
    for place, pixel, w in terms_of_convolution(x.shape, weight.shape, stride, padding, dilation, groups):
        of_x[pixel] += g[place] * weight[w]
        of_weight[w] += g[place] * x[pixel]
    for place in np.ndindex(g.shape):
        of_bias[place[1]] += g[place]
    return of_x, of_weight, of_bias


def pool(x, kernel, stride, padding, dilation, of_window):
    """``of_window`` of the values of every window of every image."""
    out = np.zeros((*x.shape[:-2], *size_of(x.shape[-2:], kernel, stride, padding, dilation)))
    for place, elements in windows(x.shape[-2:], kernel, stride, padding, dilation):
        for image in np.ndindex(x.shape[:-2]):
            out[image + place] = of_window([x[image + pixel] for _, pixel in elements])
    return out


def max_pool2d_gradient(g, x, kernel, stride, padding, dilation=(1, 1)):
    """The gradient of Σ g · out: each window's goes to its first largest element."""
    out = np.zeros(x.shape)
    for place, elements in windows(x.shape[-2:], kernel, stride, padding, dilation):
        for image in np.ndindex(x.shape[:-2]):
            values = [x[image + pixel] for _, pixel in elements]
            out[image + elements[values.index(max(values))][1]] += g[image + place]
    return out


def batch_statistics(x):
    """The mean, the variance and the unbiased variance of every channel, each a list."""
    found = []
    for channel in range(x.shape[1]):
        values = x[:, channel].ravel().tolist()
        mean = sum(values) / len(values)
        squares = sum((v - mean) ** 2 for v in values)
        found.append((mean, squares / len(values), squares / (len(values) - 1)))
    return tuple(map(list, zip(*found, strict=True)))


def batch_norm(x, weight=None, bias=None, mean=None, variance=None, eps=1e-5):
    if mean is None:
        mean, variance, _ = batch_statistics(x)
    out = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        c = place[1]
        out[place] = (x[place] - mean[c]) / math.sqrt(variance[c] + eps)
        out[place] = out[place] * (1.0 if weight is None else weight[c]) + (0.0 if bias is None else bias[c])
    return out


def layer_norm(x, shape, weight=None, bias=None, eps=1e-5):
    out = np.zeros(x.shape)
    for place in np.ndindex(x.shape[: x.ndim - len(shape)]):
        values = np.reshape(standardized(x[place].ravel().tolist(), eps), shape)
        for inner in np.ndindex(shape):
            scale, shift = 1.0 if weight is None else weight[inner], 0.0 if bias is None else bias[inner]
            out[place + inner] = values[inner] * scale + shift
    return out


def embedding(indices, weight):
    out = np.zeros((*indices.shape, weight.shape[1]))
    for place in np.ndindex(indices.shape):
        for feature in range(weight.shape[1]):
            out[(*place, feature)] = weight[indices[place], feature]
    return out


def dropout(x, p, seed):
    draws = np.random.default_rng(seed).random(x.shape)
    out = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        out[place] = x[place] / (1 - p) if draws[place] >= p else 0.0
    return out


def flatten(x, start):
    return [x[place].ravel().tolist() for place in np.ndindex(x.shape[:start])]
