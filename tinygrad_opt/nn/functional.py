"""Layers, activations and losses as functions: they check what they are given, and call the fused primitives.

Inputs may be arrays or Tensors; the result is a Tensor. An array is taken in the dtype of the Tensor it meets, or else
in the default dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygrad_opt.errors import ShapeError
from tinygrad_opt.rng import generator_or_default
from tinygrad_opt.rules import network, shaping, windows
from tinygrad_opt.rules.registry import NON_DIFFERENTIABLE, primitive
from tinygrad_opt.rules.windows import Geometry
from tinygrad_opt.tensor import Tensor, apply, as_array, get_default_dtype

Pair = int | tuple[int, int]  # one number for rows and columns alike, or one for each

# Layers --------------------------------------------------------------------------------------------------------------


def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """``x @ weight.T + bias``: x (..., in_features), weight (out_features, in_features), bias (out_features,).

    Raises ShapeError when the last axis of ``x`` is not ``in_features`` long.

    >>> import numpy as np
    >>> from tinygrad_opt.nn import functional as F
    >>> F.linear(np.ones((2, 3)), np.ones((4, 3)), np.zeros(4)).shape
    (2, 4)
    """
    if x.__class__ is not Tensor or x._node is None:  # else it is one in a graph, and so a floating-point one
        x = _input(x, weight)
    try:
        return apply(network.linear, (x, weight) if bias is None else (x, weight, bias), {})
    except ValueError as error:
        features = weight.shape[-1] if weight.ndim else "in"
        raise ShapeError(
            f"linear needs inputs of shape (..., {features}) for a weight (out, in) of "
            f"shape {weight.shape}, and a bias of {weight.shape[:1]}; got inputs of shape {x.shape}"
            + ("" if bias is None else f", bias {bias.shape}")
        ) from error


def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Tensor:
    """Slide ``weight`` over images: out[n, o, r, c] = bias[o] + Σ weight[o, i, j, k] · x[n, i, r s + j d, c s + k d].

    ``x`` is (batch, in_channels, height, width), or one image without the batch; ``weight`` is (out_channels,
    in_channels / groups, kernel height, kernel width), ``bias`` (out_channels,) or None. The result is (batch,
    out_channels, ⌊(height + 2 padding - dilation (kernel - 1) - 1) / stride⌋ + 1, the same for the width).

    ``padding`` is the number of zeros on each side, "valid" for none, or "same" for a result of the size of x (with
    stride 1). ``groups`` cuts the channels into so many parts that do not see each other.

    Raises ShapeError when the shapes do not fit together, ValueError for options out of range.

    >>> import numpy as np
    >>> from tinygrad_opt.nn import functional as F
    >>> F.conv2d(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2)))
    Tensor([[[[4., 4.],
              [4., 4.]]]])
    """
    weight = _input(weight, x if isinstance(x, Tensor) else None)
    x, bias = _input(x, weight), None if bias is None else _input(bias, weight)
    shape = x.shape
    x, one = _images("conv2d", x)
    if weight.ndim != 4 or 0 in weight.shape or groups < 1:
        raise ShapeError(
            "conv2d needs a weight (out_channels, in_channels / groups, height, width) without an axis of length 0, "
            f"and groups from 1 on; got a weight of shape {weight.shape} and groups={groups}"
        )
    if weight.shape[0] % groups or x.shape[1] != weight.shape[1] * groups:
        raise ShapeError(_wrong_channels(shape, weight.shape, groups))
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(f"conv2d needs a bias of shape {weight.shape[:1]} for this weight; got {bias.shape}")
    geometry = _fitting("conv2d", shape, Geometry(*window_options(weight.shape[2:], stride, padding, dilation)))
    out = apply(windows.conv2d, (x, weight, bias, geometry))
    return out[0] if one else out


def max_pool2d(x: Any, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, dilation: Pair = 1) -> Tensor:
    """The largest element of every window: (..., height, width) -> (..., rows of windows, columns of windows).

    ``stride`` is ``kernel_size`` where it is None: windows side by side. ``padding``, at most half the kernel, never
    is the largest. Where several elements are equally large, the first gets the gradient, as in PyTorch.

    Raises ShapeError for images smaller than a window, ValueError for options out of range.

    >>> from tinygrad_opt.nn import functional as F
    >>> F.max_pool2d([[[1.0, 2.0], [4.0, 3.0]]], 2)
    Tensor([[[4.]]])
    """
    x, geometry = _pool("max_pool2d", x, kernel_size, stride, padding, dilation)
    return apply(windows.max_pool2d, (x, geometry))


def avg_pool2d(
    x: Any, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, count_include_pad: bool = True
) -> Tensor:
    """The mean of every window: (..., height, width) -> (..., rows of windows, columns of windows).

    ``stride`` is ``kernel_size`` where it is None. The zeros of the ``padding``, at most half the kernel, are part of
    the mean, unless ``count_include_pad`` is False.

    Raises ShapeError for images smaller than a window, ValueError for options out of range.

    >>> from tinygrad_opt.nn import functional as F
    >>> F.avg_pool2d([[[1.0, 2.0], [4.0, 3.0]]], 2)
    Tensor([[[2.5]]])
    """
    x, geometry = _pool("avg_pool2d", x, kernel_size, stride, padding, 1)
    out = apply(windows.avg_pool2d, (x, geometry))
    if count_include_pad or geometry.padding == (0, 0):
        return out
    return apply(np.divide, (out, windows.avg_pool2d(np.ones(x.shape[-2:], x.dtype), geometry)))


def dropout(x: Any, p: float = 0.5, training: bool = True, generator: np.random.Generator | None = None) -> Tensor:
    """Set each element to 0 with probability ``p``, and multiply the others by 1 / (1 - p), so that the mean stays.

    Without ``training``, ``x`` as it is. What is dropped is drawn anew at every call, from ``generator`` or the
    library's own.

    Raises ValueError for a ``p`` outside [0, 1].

    Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting" (2014).

    >>> import numpy as np
    >>> from tinygrad_opt.nn import functional as F
    >>> F.dropout(np.ones(8), 0.5, generator=np.random.default_rng(0))
    Tensor([2., 0., 0., 0., 2., 2., 2., 2.])
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout needs a probability p in [0, 1]; got {p!r}")
    x = _input(x)
    if not training or p == 0:
        return x if isinstance(x, Tensor) else Tensor(x, dtype=x.dtype)
    scale = np.multiply(_kept(x, p, generator), 1 / (1 - p) if p < 1 else 0.0, dtype=x.dtype)
    return apply(np.multiply, (x, scale))


@primitive(pure=False)
def _kept(x: Any, p: float, generator: np.random.Generator | None) -> Any:
    """Which elements of x stay: a mask of its shape, drawn anew at every call."""
    return generator_or_default(generator).random(x.shape) >= p


NON_DIFFERENTIABLE.add(_kept)


def batch_norm(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(x - μ) / √(σ² + ε) · weight + bias, for every channel (the second axis) with the mean and variance of its own.

    ``x`` is (batch, channels) or (batch, channels, ...); the others are (channels,). With ``training`` μ and σ² are
    those of this batch, and the running ones, Tensors, move towards them: running ← (1 - momentum) running + momentum ·
    (μ, or σ² n / (n - 1)). Without, μ and σ² are the running ones, or, where there are none, those of the batch.

    Raises ShapeError for other shapes, and, with ``training``, for a batch with one value per channel.

    Source: Ioffe and Szegedy, "Batch Normalization" (2015), https://arxiv.org/abs/1502.03167.

    >>> from tinygrad_opt.nn import functional as F
    >>> F.batch_norm([[1.0], [3.0]], training=True, eps=0.0)
    Tensor([[-1.],
            [ 1.]])
    """
    running = [t for t in (running_mean, running_var) if t is not None]
    if len(running) == 1 or not all(isinstance(t, Tensor) for t in running):
        raise TypeError("batch_norm needs running_mean and running_var both as Tensors, which it changes, or neither")
    x = _input(x, weight if weight is not None else running_mean)
    weight, bias = (None if t is None else _input(t, x) for t in (weight, bias))
    rest = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    if x.ndim < 2 or any(t is not None and t.shape != x.shape[1:2] for t in rest.values()):
        raise ShapeError(f"batch_norm needs x (batch, channels, ...) and the rest (channels,); got {_shapes(x, rest)}")
    axes = (0, *range(2, x.ndim))
    broad = (x.shape[1],) + (1,) * (x.ndim - 2)
    if not training and running_mean is not None:
        scale = np.reshape(1 / np.sqrt(running_var.data + eps), broad)
        out = apply(np.multiply, (apply(np.subtract, (x, np.reshape(running_mean.data, broad))), scale))
    else:
        values = x.size // x.shape[1] if x.shape[1] else 0
        if values < 2:
            instead = "model.eval()" if training else "running statistics"
            raise ShapeError(
                "batch_norm with the statistics of the batch, as in training, needs more than one value for each "
                f"channel; got a batch of shape {x.shape}. Use larger batches (drop_last=True leaves out a last one "
                f"that is smaller), or {instead}"
            )
        out = apply(network.standardize, (x, axes, eps))
        if running_mean is not None:
            mean, variance = network.moments(x.data if isinstance(x, Tensor) else x, axes)
            _move(running_mean, mean, momentum)
            _move(running_var, variance * (values / (values - 1)), momentum)
    return _scale_and_shift(out, weight, bias, broad)


def layer_norm(
    x: Any, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """(x - μ) / √(σ² + ε) · weight + bias, with the mean and variance over the last axes, of each example on its own.

    ``normalized_shape`` is the shape of these axes, and that of ``weight`` and ``bias``.

    Raises ShapeError when ``x`` does not end with that shape.

    Source: Ba, Kiros and Hinton, "Layer Normalization" (2016), https://arxiv.org/abs/1607.06450.

    >>> from tinygrad_opt.nn import functional as F
    >>> F.layer_norm([[1.0, 3.0], [0.0, 4.0]], 2, eps=0.0)
    Tensor([[-1.,  1.],
            [-1.,  1.]])
    """
    x = _input(x, weight)
    weight, bias = (None if t is None else _input(t, x) for t in (weight, bias))
    shape = normalized_axes(normalized_shape)
    given = [t.shape for t in (weight, bias) if t is not None]
    if not shape or x.shape[-len(shape) :] != shape or 0 in shape or any(other != shape for other in given):
        raise ShapeError(
            f"layer_norm over {shape} needs inputs of shape (..., {str(shape)[1:-1].rstrip(',')}), and weight and bias "
            f"of that shape; got {_shapes(x, {'weight': weight, 'bias': bias})}"
        )
    out = apply(network.standardize, (x, tuple(range(-len(shape), 0)), eps))
    return _scale_and_shift(out, weight, bias, shape)


def embedding(indices: Any, weight: Any, padding_idx: int | None = None) -> Tensor:
    """The rows of ``weight`` at ``indices``: whole numbers (...) and weight (rows, features) -> (..., features).

    The row ``padding_idx``, where there is one, gets no gradient.

    Raises TypeError for indices that are no whole numbers, ValueError for one outside 0 ... rows - 1, ShapeError for a
    weight that is no matrix.

    >>> import numpy as np
    >>> from tinygrad_opt.nn import functional as F
    >>> F.embedding([1, 1, 0], np.array([[0.5, 0.0], [1.5, 2.0]]))
    Tensor([[1.5, 2. ],
            [1.5, 2. ],
            [0.5, 0. ]])
    """
    weight = weight if isinstance(weight, Tensor) else Tensor(weight)
    if weight.ndim != 2:
        raise ShapeError(f"embedding needs a weight (rows, features); got the shape {weight.shape}")
    if padding_idx is not None and not -len(weight) <= padding_idx < len(weight):
        raise ValueError(f"padding_idx must be one of the {len(weight)} rows; got {padding_idx}")
    places = indices.data if isinstance(indices, Tensor) else as_array(indices)
    if places.dtype.kind not in "iu" and places.size:
        raise TypeError(
            f"embedding needs indices of an integer dtype, such as x.astype(int); got {places.dtype}, of shape "
            f"{places.shape}"
        )
    places = places.astype(np.intp, copy=False)
    _check_rows(places, len(weight))
    rows = apply(shaping.getitem, (weight, places))
    if padding_idx is None:
        return rows
    return apply(np.where, ((places == padding_idx % len(weight))[..., None], rows.detach(), rows))


@primitive(pure=False)
def _check_rows(places: Any, count: int) -> None:
    wrong = (places < 0) | (places >= count)
    if wrong.any():
        raise ValueError(f"indices must lie in 0 ... {count - 1} for this embedding; got {places[wrong].flat[0]}")


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The axes from ``start_dim`` to ``end_dim``, both included, as one. Raises ShapeError where they are not there.

    >>> import numpy as np
    >>> from tinygrad_opt.nn import functional as F
    >>> F.flatten(np.ones((2, 3, 4)), 1).shape
    (2, 12)
    """
    x = x if isinstance(x, Tensor) else _input(x)
    axes = range(x.ndim) if x.ndim else range(1)
    first, last = (dim + len(axes) if dim < 0 else dim for dim in (start_dim, end_dim))
    if first not in axes or last not in axes or first > last:
        raise ShapeError(
            f"flatten cannot join the axes {start_dim} to {end_dim} of the shape {x.shape}, which has the axes "
            f"{axes[0]} ... {axes[-1]}"
        )
    length = math.prod(x.shape[first : last + 1])
    return apply(np.reshape, (x, (*x.shape[:first], length, *x.shape[last + 1 :])))


# Activations ---------------------------------------------------------------------------------------------------------


def relu(x: Any) -> Tensor:
    """max(x, 0) for each element, with the derivative 0 at 0.

    >>> from tinygrad_opt.nn import functional as F
    >>> F.relu([-1.0, 2.0])
    Tensor([0., 2.])
    """
    return apply(network.relu, (x if x.__class__ is Tensor and x._node is not None else _input(x),), {})


def tanh(x: Any) -> Tensor:
    """The hyperbolic tangent of each element: between -1 and 1.

    >>> from tinygrad_opt.nn import functional as F
    >>> F.tanh([0.0])
    Tensor([0.])
    """
    return apply(np.tanh, (_input(x),), {})


def sigmoid(x: Any) -> Tensor:
    """1 / (1 + e⁻ˣ) for each element: between 0 and 1, without overflow.

    >>> from tinygrad_opt.nn import functional as F
    >>> F.sigmoid([-1e4, 0.0, 1e4])
    Tensor([0. , 0.5, 1. ])
    """
    return apply(network.sigmoid, (_input(x),), {})


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """x where it is positive, ``negative_slope`` · x elsewhere; the derivative at 0 is ``negative_slope``.

    Source: Maas, Hannun and Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models" (2013).

    >>> from tinygrad_opt.nn import functional as F
    >>> F.leaky_relu([-1.0, 2.0], 0.1)
    Tensor([-0.1,  2. ])
    """
    return apply(network.leaky_relu, (_input(x), negative_slope))


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """x where it is positive, ``alpha`` (eˣ - 1) elsewhere; the derivative at 0 is ``alpha``.

    Source: Clevert, Unterthiner and Hochreiter, "Fast and Accurate Deep Network Learning by Exponential Linear Units"
    (2016), https://arxiv.org/abs/1511.07289.

    >>> from tinygrad_opt.nn import functional as F
    >>> F.elu([-1e4, 2.0])
    Tensor([-1.,  2.])
    """
    return apply(network.elu, (_input(x), alpha))


def silu(x: Any) -> Tensor:
    """x σ(x), with σ the sigmoid: like ReLU, but smooth. Also called swish.

    Source: Elfwing, Uchibe and Doya, "Sigmoid-Weighted Linear Units" (2018), https://arxiv.org/abs/1702.03118.

    >>> from tinygrad_opt.nn import functional as F
    >>> F.silu([0.0, 1e4])
    Tensor([    0., 10000.])
    """
    return apply(network.silu, (_input(x),))


def gelu(x: Any, approximate: str = "none") -> Tensor:
    """x Φ(x), with Φ the normal distribution: like ReLU, but smooth.

    With ``approximate="tanh"``, Φ(x) ≈ (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2, off by less than 0.001.

    Source: Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016), https://arxiv.org/abs/1606.08415.

    >>> from tinygrad_opt.nn import functional as F
    >>> F.gelu([-1.0, 0.0, 1.0])
    Tensor([-0.15865525,  0.        ,  0.84134475])
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f'approximate must be "none" or "tanh"; got {approximate!r}')
    x = _input(x)
    if approximate == "none":
        return apply(network.gelu, (x,))
    x = x if isinstance(x, Tensor) else Tensor(x, dtype=x.dtype)
    z = np.clip(x, -20, 20)  # Φ is 0 or 1 there, and z³ does not overflow
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z * z * z)))  # type: ignore[no-any-return]


def softplus(x: Any, beta: float = 1.0) -> Tensor:
    """log(1 + e^(βx)) / β, a smooth ReLU, without overflow; the larger ``beta``, the closer to ReLU.

    >>> from tinygrad_opt.nn import functional as F
    >>> F.softplus([-1e4, 0.0, 1e4])
    Tensor([0.00000000e+00, 6.93147181e-01, 1.00000000e+04])
    """
    if not beta > 0:
        raise ValueError(f"softplus needs a positive beta; got {beta!r}")
    return apply(network.softplus, (_input(x), beta))


def softmax(x: Any, axis: int = -1) -> Tensor:
    """eˣ / Σ eˣ along ``axis``: positive, and summing to 1. Raises ShapeError where the axis has no elements.

    >>> from tinygrad_opt.nn import functional as F
    >>> F.softmax([1e4, 1e4])
    Tensor([0.5, 0.5])
    """
    x = _input(x)
    _check_classes("softmax", x.shape, axis)
    return apply(network.softmax, (x, axis), {})


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """x - log Σ eˣ along ``axis``: the logarithm of softmax, without overflow.

    Raises ShapeError where the axis has no elements.

    >>> from tinygrad_opt.nn import functional as F
    >>> F.log_softmax([0.0, 1e4])
    Tensor([-10000.,      0.])
    """
    x = _input(x)
    _check_classes("log_softmax", x.shape, axis)
    return apply(network.log_softmax, (x, axis), {})


def logsumexp(x: Any, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
    """log Σ eˣ over ``axis`` (None: all elements), a smooth maximum, without overflow; its gradient is softmax.

    >>> from tinygrad_opt.nn import functional as F
    >>> F.logsumexp([[1e4, -1e4], [0.0, 0.0]], axis=1)
    Tensor([1.00000000e+04, 6.93147181e-01])
    """
    return apply(network.logsumexp, (_input(x), axis, keepdims), {})


# Losses --------------------------------------------------------------------------------------------------------------


def mse_loss(prediction: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Mean squared error: (prediction - target)², averaged (or summed, or not reduced) over all elements.

    Both have the same shape, any shape. Raises ShapeError otherwise: they are never broadcast.

    >>> from tinygrad_opt.nn import functional as F
    >>> F.mse_loss([1.0, 2.0], [1.0, 4.0]).item()
    2.0
    """
    prediction, target = _same_shape("mse_loss", prediction, target)
    return _loss(network.squared_error, prediction, target, reduction)


def l1_loss(prediction: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Mean absolute error: |prediction - target|, averaged over all elements; the derivative at 0 is 0.

    Both have the same shape, any shape. Raises ShapeError otherwise.

    >>> from tinygrad_opt.nn import functional as F
    >>> F.l1_loss([1.0, 2.0], [1.0, 4.0]).item()
    1.0
    """
    prediction, target = _same_shape("l1_loss", prediction, target)
    return _loss(network.absolute_error, prediction, target, reduction)


def huber_loss(prediction: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """With d = |prediction - target|: d²/2 up to ``delta`` = δ, and the line δ (d - δ/2) beyond, averaged.

    Smooth at 0 as the squared error is, and no more moved by outliers than the absolute error is. Both have the same
    shape, any shape. Raises ShapeError otherwise, ValueError for a ``delta`` that is not positive.

    Source: Huber, "Robust Estimation of a Location Parameter" (1964).

    >>> from tinygrad_opt.nn import functional as F
    >>> F.huber_loss([0.5, 4.0], [0.0, 0.0], reduction="none")
    Tensor([0.125, 3.5  ])
    """
    if not delta > 0:
        raise ValueError(f"huber_loss needs a positive delta; got {delta!r}")
    prediction, target = _same_shape("huber_loss", prediction, target)
    return _loss(network.huber, prediction, target, reduction, delta)


def binary_cross_entropy(prediction: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Log loss on probabilities: -y log p - (1 - y) log(1 - p), averaged over all elements.

    ``prediction`` holds probabilities in [0, 1], ``target`` labels in [0, 1], both of the same shape. Logarithms are
    kept above -100. Where the probabilities come from a sigmoid, `binary_cross_entropy_with_logits` is more exact.

    Raises ShapeError for different shapes, ValueError for values outside [0, 1].

    >>> from tinygrad_opt.nn import functional as F
    >>> round(F.binary_cross_entropy([0.5, 0.5], [0.0, 1.0]).item(), 4)
    0.6931
    """
    prediction, target = _same_shape("binary_cross_entropy", prediction, target)
    _check_probabilities(
        "binary_cross_entropy: predictions", prediction, ". Logits go into binary_cross_entropy_with_logits"
    )
    _check_probabilities("binary_cross_entropy: targets", target)
    return _loss(network.log_loss, prediction, target, reduction)


def binary_cross_entropy_with_logits(prediction: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Log loss of p = sigmoid(prediction): max(x, 0) - x y + log(1 + e^-|x|), averaged over all elements.

    ``prediction`` holds any real numbers, ``target`` labels in [0, 1], both of the same shape.

    Raises ShapeError for different shapes, ValueError for targets outside [0, 1].

    >>> from tinygrad_opt.nn import functional as F
    >>> F.binary_cross_entropy_with_logits([1e4, -1e4], [1.0, 1.0]).item()
    5000.0
    """
    prediction, target = _same_shape("binary_cross_entropy_with_logits", prediction, target)
    _check_probabilities("binary_cross_entropy_with_logits: targets", target)
    return _loss(network.log_loss_with_logits, prediction, target, reduction)


def cross_entropy(logits: Any, target: Any, reduction: str = "mean", label_smoothing: float = 0.0) -> Tensor:
    """-log softmax(logits) at the true class, averaged over the examples.

    ``logits`` is (classes,), (batch, classes) or (batch, classes, ...). ``target`` holds class indices and has that
    shape without the classes, or holds probabilities of every class and has the same shape. With ``label_smoothing``
    s in [0, 1] the target becomes (1 - s) target + s / classes.

    Raises ShapeError for shapes that do not fit, ValueError for a class index outside 0 ... classes - 1,
    probabilities outside [0, 1], or a ``label_smoothing`` outside [0, 1].

    >>> from tinygrad_opt.nn import functional as F
    >>> round(F.cross_entropy([[2.0, 0.0, 0.0]], [0]).item(), 4)
    0.2395
    """
    logits, target = _classes_last("cross_entropy", logits, target)
    if label_smoothing:
        check_smoothing(label_smoothing)
    if target.dtype.kind in "iu" or (not target.size and target.shape == logits.shape[:-1]):
        mask = _one_hot("cross_entropy", logits.shape, target)
        if not label_smoothing:
            return _loss(network.softmax_log_loss, logits, mask, reduction)
        target = mask.astype(logits.dtype)
    if target.shape != logits.shape or target.dtype.kind != "f":
        raise ShapeError(
            f"cross_entropy needs integer class indices of shape {logits.shape[:-1]}, or probabilities of shape "
            f"{logits.shape}, for these logits; got a target of shape {target.shape} and dtype {target.dtype}"
        )
    if not isinstance(target, Tensor):
        target = _input(target, logits)
    _check_probabilities("cross_entropy: target probabilities", target)
    if label_smoothing:
        target = (1 - label_smoothing) * target + label_smoothing / logits.shape[-1]
    return _reduced(-(log_softmax(logits) * target).sum(axis=-1), reduction)


def nll_loss(log_probabilities: Any, target: Any, reduction: str = "mean") -> Tensor:
    """-log p at the true class, averaged over the examples: `cross_entropy` for what went through `log_softmax` before.

    ``log_probabilities`` is (classes,), (batch, classes) or (batch, classes, ...), ``target`` holds class indices and
    has that shape without the classes.

    Raises ShapeError for shapes that do not fit, TypeError for a target that is not of whole numbers, ValueError for a
    class index outside 0 ... classes - 1.

    >>> import numpy as np
    >>> from tinygrad_opt.nn import functional as F
    >>> round(F.nll_loss(np.log([[0.25, 0.75]]), [0]).item(), 4)
    1.3863
    """
    x, target = _classes_last("nll_loss", log_probabilities, target)
    mask = _one_hot("nll_loss", x.shape, target)
    return _reduced(-apply(network.pick, (x, mask)), reduction)


def hinge_loss(prediction: Any, target: Any, reduction: str = "mean") -> Tensor:
    """max(0, 1 - target · prediction) for labels of -1 or 1, averaged over all elements.

    ``prediction`` holds any real numbers (scores), ``target`` the labels, both of the same shape. At the kink,
    target · prediction = 1, the derivative is taken to be 0.

    Raises ShapeError for different shapes, ValueError for labels other than -1 and 1.

    >>> from tinygrad_opt.nn import functional as F
    >>> F.hinge_loss([2.0, 0.5, -1.0], [1, 1, 1]).item()
    0.8333333333333334
    """
    prediction, target = _scores_and_signs("hinge_loss", prediction, target)
    return _loss(network.hinge, prediction, target, reduction)


def squared_hinge_loss(prediction: Any, target: Any, reduction: str = "mean") -> Tensor:
    """max(0, 1 - target · prediction)² for labels of -1 or 1, averaged: `hinge_loss` without the kink.

    Raises ShapeError for different shapes, ValueError for labels other than -1 and 1.

    >>> from tinygrad_opt.nn import functional as F
    >>> F.squared_hinge_loss([2.0, 0.5, -1.0], [1, 1, 1], reduction="none")
    Tensor([0.  , 0.25, 4.  ])
    """
    prediction, target = _scores_and_signs("squared_hinge_loss", prediction, target)
    return _loss(network.squared_hinge, prediction, target, reduction)


def multi_margin_loss(prediction: Any, target: Any, reduction: str = "mean", p: int = 1, margin: float = 1.0) -> Tensor:
    """The hinge loss of several classes: Σ over the wrong ones of max(0, margin - x[right] + x[wrong])^p, ÷ classes.

    ``prediction`` holds scores (classes,), (batch, classes) or (batch, classes, ...), ``target`` class indices in that
    shape without the classes; ``p`` is 1 or 2. Averaged over the examples.

    Raises ShapeError for shapes that do not fit, TypeError for a target that is not of whole numbers, ValueError for a
    class index outside 0 ... classes - 1, or another ``p``.

    Source: Crammer and Singer, "On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines" (2001).

    >>> from tinygrad_opt.nn import functional as F
    >>> F.multi_margin_loss([[0.0, 0.5, 3.0]], [2]).item(), F.multi_margin_loss([[0.0, 0.5]], [0]).item()
    (0.0, 0.75)
    """
    if p not in (1, 2):
        raise ValueError(f"multi_margin_loss needs p of 1 or 2; got {p!r}")
    x, target = _classes_last("multi_margin_loss", prediction, target)
    mask = _one_hot("multi_margin_loss", x.shape, target)
    short = relu((margin - np.expand_dims(apply(network.pick, (x, mask)), -1)) + x) * (~mask).astype(x.dtype)
    return _reduced((short if p == 1 else short * short).sum(axis=-1) / x.shape[-1], reduction)


# Checks --------------------------------------------------------------------------------------------------------------


def _loss(primitive: Any, prediction: Any, target: Any, reduction: str, *options: float) -> Tensor:
    """Run a fused loss."""
    if reduction not in REDUCTIONS:
        check_reduction(reduction)
    if reduction == "mean" and not prediction.size:
        raise _no_examples(prediction.shape)
    return apply(primitive, (prediction, target, reduction, *options))


def _reduced(losses: Tensor, reduction: str) -> Tensor:
    """The losses of all examples, reduced."""
    if reduction == "mean" and not losses.size:
        raise _no_examples(losses.shape)
    reduce: dict[str, Callable[[], Tensor]] = {"mean": losses.mean, "sum": losses.sum, "none": losses.__pos__}
    return reduce[check_reduction(reduction)]()


def _no_examples(shape: tuple[int, ...]) -> ShapeError:
    return ShapeError(f"the mean loss of no examples is not defined; got predictions of shape {shape}")


REDUCTIONS = ("mean", "sum", "none")


def check_reduction(reduction: str) -> str:
    """The reduction, if it is one; raises ValueError otherwise."""
    if reduction not in REDUCTIONS:
        raise ValueError(f'reduction must be "mean", "sum" or "none"; got {reduction!r}')
    return reduction


def check_smoothing(label_smoothing: float) -> float:
    """The label smoothing, if it is one; raises ValueError otherwise."""
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must lie in [0, 1]; got {label_smoothing}")
    return label_smoothing


def _input(value: Any, like: Any = None) -> Any:
    """A floating-point Tensor as it is; anything else as an array, in the dtype of ``like`` or the default one."""
    if isinstance(value, Tensor):
        if value._node is not None or value.dtype.kind == "f":
            return value
        value = value.data
    dtype = getattr(like, "dtype", None)
    if dtype is None or dtype.kind != "f":
        dtype = get_default_dtype()
    if value.__class__ is np.ndarray and value.dtype is dtype:
        return value
    array = as_array(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"layers and losses take arrays of real numbers; got the dtype {array.dtype}: {value!r:.80}")
    return array.astype(dtype, copy=False)


def _same_shape(loss: str, prediction: Any, target: Any) -> tuple[Any, Any]:
    """Prediction and target as arrays or Tensors of one shape; raises ShapeError when they are not."""
    prediction = _input(prediction, target if isinstance(target, Tensor) else None)
    target = _input(target, prediction)
    if prediction.shape != target.shape:
        raise ShapeError(
            f"{loss} needs prediction and target of one shape; got {prediction.shape} and {target.shape}, which would "
            "be broadcast against each other. Reshape one, such as target.reshape(prediction.shape) or target[:, None]"
        )
    return prediction, target


def _scores_and_signs(loss: str, prediction: Any, target: Any) -> tuple[Any, Any]:
    """Scores, and labels of -1 or 1, of one shape."""
    prediction, target = _same_shape(loss, prediction, target)
    _check_signs(target.data if isinstance(target, Tensor) else target, loss)
    return prediction, target


@primitive(pure=False)
def _check_signs(labels: Any, loss: str) -> None:
    wrong = np.abs(labels) != 1
    if wrong.any():
        raise ValueError(
            f"{loss} needs labels of -1 or 1; got {labels[wrong].flat[0]:g}. For labels of 0 and 1 write 2 * y - 1"
        )


def _classes_last(loss: str, scores: Any, target: Any) -> tuple[Any, Any]:
    """Scores (..., classes) from scores (batch, classes, ...), and the target with its axes in the same order."""
    scores = _input(scores)
    target = target if isinstance(target, Tensor) else as_array(target)
    shape = scores.shape
    if not shape or shape[1 if len(shape) > 1 else 0] == 0:
        raise ShapeError(f"{loss} needs scores of shape (batch, classes); got {shape}")
    if len(shape) > 2:
        scores = np.moveaxis(scores, 1, -1)
        target = np.moveaxis(target, 1, -1) if target.ndim == len(shape) else target
    return scores, target


def _check_probabilities(what: str, values: Any, hint: str = "") -> None:
    _check_range(values.data if isinstance(values, Tensor) else values, what, hint)


@primitive(pure=False)
def _check_range(array: Any, what: str, hint: str) -> None:
    wrong = ~((array >= 0) & (array <= 1))
    if wrong.any():
        raise ValueError(f"{what} must lie in [0, 1]; got {array[wrong].flat[0]:g}{hint}")


def _one_hot(loss: str, shape: tuple[int, ...], target: Any) -> Any:
    """A mask of ``shape``, (..., classes), True at each target's class."""
    classes = shape[-1]
    if target.shape != shape[:-1]:
        hint = ""
        if target.shape == shape:
            hint = f". Of 0 and 1 for each of the {classes} classes, argmax makes indices"
        elif target.size == math.prod(shape[:-1]):
            hint = f": write target.reshape({shape[:-1]})"
        raise ShapeError(
            f"{loss} needs one class index per example: shape {shape[:-1]} for these scores of {classes} classes; got "
            f"target indices of shape {target.shape}{hint}"
        )
    if target.dtype.kind not in "iu" and target.size:
        raise TypeError(
            f"{loss} needs class indices of an integer dtype, such as target.astype(int); got {target.dtype}"
        )
    return network.one_hot(target.data if isinstance(target, Tensor) else target, classes)


def _pair(name: str, value: Pair, least: int = 1) -> tuple[int, int]:
    """One number twice, or two numbers, each a whole number of at least ``least``."""
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2 or not all(isinstance(n, (int, np.integer)) and n >= least for n in pair):
        raise ValueError(f"{name} must be a whole number from {least} on, or a pair of them; got {value!r}")
    return int(pair[0]), int(pair[1])


def window_options(
    kernel_size: Pair, stride: Pair | None, padding: Pair | str, dilation: Pair = 1, pool: str = ""
) -> tuple[tuple[int, int], ...]:
    """The options of windows as pairs, checked; those of a ``pool`` are padded with half the kernel at most."""
    kernel, steps = _pair("kernel_size", kernel_size), _pair("dilation", dilation)
    strides = kernel if pool and stride is None else _pair("stride", stride)  # type: ignore[arg-type]
    around = _padding(padding, kernel, strides, steps)
    if pool and (2 * around[0] > kernel[0] or 2 * around[1] > kernel[1]):
        raise ValueError(f"{pool} needs a padding of at most half the kernel {kernel}; got {around}")
    return kernel, strides, around, steps


def _padding(
    padding: Pair | str, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int]:
    """The zeros on each side of the rows, and of the columns."""
    if not isinstance(padding, str):
        return _pair("padding", padding, least=0)
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    if padding == "same" and stride == (1, 1) and all(n % 2 == 0 for n in reach):
        return reach[0] // 2, reach[1] // 2
    if padding == "valid":
        return 0, 0
    raise ValueError(
        'padding must be a whole number, a pair, "valid", or, for stride 1 and kernels of odd size, "same"; got '
        f"{padding!r} for the kernel {kernel} and stride {stride}"
    )


def _images(function: str, x: Any) -> tuple[Any, bool]:
    """x (batch, channels, height, width), and whether it was a single image, without the batch."""
    if x.ndim not in (3, 4):
        raise ShapeError(
            f"{function} needs images of shape (batch, channels, height, width) or (channels, height, width); got "
            f"{x.shape}. Grey images (batch, height, width) have one channel: x[:, None]"
        )
    return (np.reshape(x, (1, *x.shape)), True) if x.ndim == 3 else (x, False)


def _pool(
    function: str, x: Any, kernel_size: Pair, stride: Pair | None, padding: Pair, dilation: Pair
) -> tuple[Any, Geometry]:
    """Images and windows of a pooling function, checked."""
    x = _input(x)
    if x.ndim not in (3, 4):
        _images(function, x)
    return x, _fitting(
        function, x.shape, Geometry(*window_options(kernel_size, stride, padding, dilation, pool=function))
    )


def _fitting(function: str, shape: tuple[int, ...], geometry: Geometry) -> Geometry:
    """The geometry, when a window fits into images of ``shape``, which have pixels."""
    try:
        if 0 in shape[-2:]:
            raise ValueError("there are no windows in images without pixels")
        geometry.sizes(shape[-2:])
    except ValueError as error:
        raise ShapeError(f"{function}: {error}; got images of shape {shape} and the kernel {geometry.kernel}") from None
    return geometry


def _wrong_channels(images: tuple[int, ...], weight: tuple[int, ...], groups: int) -> str:
    """What to say when conv2d cannot make the channels of images and weight fit."""
    channels = weight[1] * groups
    message = f"conv2d with groups={groups} and a weight of shape {weight} needs images of {channels} channels"
    if weight[0] % groups:
        message += f", and a number of outputs, {weight[0]}, that the groups divide"
    axes = "(batch, channels, height, width)" if len(images) == 4 else "(channels, height, width)"
    message += f"; got images of shape {images}, {axes}"
    if channels == 1 and len(images) == 3:
        message += ". Grey images (batch, height, width) have one channel: x[:, None]"
    elif images[-1] == channels:
        message += ". Where the channels stand last, np.moveaxis(x, -1, -3) puts them first"
    return message


def _check_classes(function: str, shape: tuple[int, ...], axis: int) -> None:
    """Raise ShapeError where there is nothing to normalise over."""
    if shape and -len(shape) <= axis < len(shape) and not shape[axis]:
        raise ShapeError(f"{function} needs at least one element along the axis {axis}; got the shape {shape}")


def _shapes(x: Any, others: dict[str, Any]) -> str:
    """The shapes of inputs and parameters, for a message."""
    given = [f"{name} {value.shape}" for name, value in others.items() if value is not None]
    return ", ".join([f"inputs of shape {x.shape}", *given])


def normalized_axes(shape: int | Sequence[int]) -> tuple[int, ...]:
    """The shape of the axes that `layer_norm` is over, of which one may be given as a number."""
    return (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(shape)


def _scale_and_shift(x: Tensor, weight: Any, bias: Any, shape: tuple[int, ...]) -> Tensor:
    """x · weight + bias, both in ``shape``, where they are there."""
    if weight is not None:
        x = x * (weight if weight.shape == shape else weight.reshape(shape))
    if bias is not None:
        x = x + (bias if bias.shape == shape else bias.reshape(shape))
    return x


def _move(running: Tensor, value: npt.NDArray[Any], momentum: float) -> None:
    """running ← (1 - momentum) running + momentum value, in a new array: an older graph keeps what it has read."""
    old = running.data
    running.data = ((1 - momentum) * old + momentum * value.reshape(old.shape)).astype(old.dtype)
