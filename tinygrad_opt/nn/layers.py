"""Layers and activations as modules: each holds its parameters and options, and calls a function of ``functional.py``.

Arguments, the names and shapes of parameters, and initial values are PyTorch's.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_opt.errors import ShapeError
from tinygrad_opt.nn import functional, init
from tinygrad_opt.nn.containers import Sequential
from tinygrad_opt.nn.functional import Pair
from tinygrad_opt.nn.module import Buffer, Module, Parameter
from tinygrad_opt.tensor import Tensor

# Layers with weights -------------------------------------------------------------------------------------------------


class Linear(Module):
    """Every output is a weighted sum of all inputs, plus a bias: x @ weight.T + bias.

    ``x`` is (..., in_features), the result (..., out_features); ``weight`` is (out_features, in_features), ``bias``
    (out_features,) or None. Both start evenly drawn from ±1/√in_features.

    Raises ValueError for sizes below 1, ShapeError for inputs of another length.

    >>> import numpy as np
    >>> from tinygrad_opt import nn
    >>> nn.Linear(3, 2)(np.ones((5, 3))).shape
    (5, 2)
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, generator: np.random.Generator | None = None
    ) -> None:
        if in_features < 1 or out_features < 1:
            raise ValueError(
                f"Linear needs at least one input and one output; got Linear({in_features}, {out_features})"
            )
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(init.fan_in_uniform((out_features, in_features), in_features, generator))
        self.bias = Parameter(init.fan_in_uniform((out_features,), in_features, generator)) if bias else None

    def forward(self, x: Any) -> Tensor:
        """x (..., in_features) -> (..., out_features)."""
        return functional.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}" + (", bias=False" if self.bias is None else "")


class Conv2d(Module):
    """A kernel slides over images: each output is a weighted sum of one window of all input channels, plus a bias.

    ``x`` is (batch, in_channels, height, width), or a single image without the batch; the result is (batch,
    out_channels, rows, columns) with ⌊(height + 2 padding - dilation (kernel_size - 1) - 1) / stride⌋ + 1 rows.
    ``kernel_size``, ``stride``, ``padding`` and ``dilation`` are whole numbers, or pairs for (rows, columns);
    ``padding`` may also be "valid" or "same". ``weight`` is (out_channels, in_channels / groups, kernel height, kernel
    width), ``bias`` (out_channels,) or None; both start evenly drawn from ±1/√(numbers that go into one output).

    Raises ValueError for sizes out of range, ShapeError for images with other channels, or smaller than the kernel.

    Source: LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition" (1998).

    >>> import numpy as np
    >>> from tinygrad_opt import nn
    >>> nn.Conv2d(3, 8, kernel_size=3, padding=1)(np.ones((2, 3, 28, 28))).shape
    (2, 8, 28, 28)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair | str = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        generator: np.random.Generator | None = None,
    ) -> None:
        if min(in_channels, out_channels, groups) < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"Conv2d needs at least one input and output channel, and groups that divide both; got {in_channels} "
                f"and {out_channels} channels, groups={groups}"
            )
        kernel, self.stride, self.padding, self.dilation = functional.window_options(
            kernel_size, stride, padding, dilation
        )
        self.in_channels, self.out_channels, self.kernel_size, self.groups = in_channels, out_channels, kernel, groups
        shape = (out_channels, in_channels // groups, *kernel)
        fan_in = math.prod(shape[1:])
        self.weight = Parameter(init.fan_in_uniform(shape, fan_in, generator))
        self.bias = Parameter(init.fan_in_uniform((out_channels,), fan_in, generator)) if bias else None

    def forward(self, x: Any) -> Tensor:
        """x (batch, in_channels, height, width) -> (batch, out_channels, rows, columns)."""
        return functional.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        options = _changed(stride=(self.stride, (1, 1)), padding=(self.padding, (0, 0)))
        options += _changed(
            dilation=(self.dilation, (1, 1)), groups=(self.groups, 1), bias=(self.bias is not None, True)
        )
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}{options}"


class Embedding(Module):
    """A table with one row of numbers for each of so many things: words, letters, users; the rows are learned.

    ``indices`` are whole numbers of any shape (...), the result is (..., embedding_dim). ``weight`` is
    (num_embeddings, embedding_dim), and starts normally distributed with standard deviation 1. The row ``padding_idx``,
    where there is one, starts as 0 and is not learned.

    Raises ValueError for sizes below 1, or an index outside 0 ... num_embeddings - 1; TypeError for indices that are no
    whole numbers.

    >>> from tinygrad_opt import nn
    >>> nn.Embedding(10, 3)([[1, 2], [9, 0]]).shape
    (2, 2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        generator: np.random.Generator | None = None,
    ) -> None:
        if num_embeddings < 1 or embedding_dim < 1:
            raise ValueError(f"Embedding needs sizes of at least 1; got Embedding({num_embeddings}, {embedding_dim})")
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"padding_idx must be one of the {num_embeddings} rows; got {padding_idx}")
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.weight = init.normal_(Parameter(np.empty((num_embeddings, embedding_dim))), generator=generator)
        if self.padding_idx is not None:
            self.weight.data[self.padding_idx] = 0

    def forward(self, indices: Any) -> Tensor:
        """Whole numbers (...) -> (..., embedding_dim)."""
        return functional.embedding(indices, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}" + _changed(padding_idx=(self.padding_idx, None))


# Normalisation -------------------------------------------------------------------------------------------------------


class _BatchNorm(Module):
    """What the batch normalisations share: all but the shapes that they take."""

    dimensions: tuple[int, ...] = ()

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        if num_features < 1 or not eps >= 0 or not (momentum is None or 0 <= momentum <= 1):
            raise ValueError(
                f"{type(self).__name__} needs num_features of at least 1, eps of at least 0 and a momentum in [0, 1] "
                f"or None; got {num_features}, {eps} and {momentum}"
            )
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight = Parameter(np.ones(num_features)) if affine else None
        self.bias = Parameter(np.zeros(num_features)) if affine else None
        self.running_mean = Buffer(np.zeros(num_features)) if track_running_stats else None
        self.running_var = Buffer(np.ones(num_features)) if track_running_stats else None
        self.num_batches_tracked = Buffer(0) if track_running_stats else None

    def forward(self, x: Any) -> Tensor:
        """x (batch, num_features, ...) -> the same shape."""
        shape = np.shape(x) if not isinstance(x, Tensor) else x.shape
        if len(shape) not in self.dimensions or shape[1] != self.num_features:
            wanted = " or ".join(f"{n} axes" for n in self.dimensions)
            raise ShapeError(
                f"{type(self).__name__}({self.num_features}) needs inputs (batch, {self.num_features}, ...) with "
                f"{wanted}; got inputs of shape {shape}"
            )
        momentum = self.momentum if self.momentum is not None else 0.0
        if self.training and self.num_batches_tracked is not None:
            count = self.num_batches_tracked.data + 1
            momentum = 1 / count if self.momentum is None else momentum
        out = functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, momentum, self.eps
        )
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.data = count
        return out

    def extra_repr(self) -> str:
        options = _changed(eps=(self.eps, 1e-5), momentum=(self.momentum, 0.1), affine=(self.weight is not None, True))
        tracked = self.running_mean is not None
        return f"{self.num_features}{options}" + _changed(track_running_stats=(tracked, True))


class BatchNorm1d(_BatchNorm):
    """Batch normalisation: every feature minus its mean over the batch, ÷ its standard deviation, then · weight + bias.

    y = (x - μ) / √(σ² + ε) · weight + bias. ``x`` is (batch, num_features), or (batch, num_features, length), where the
    mean is over the length as well. In training mode μ and σ² are those of the batch, and running means of both are
    kept in the buffers ``running_mean`` and ``running_var``: running ← (1 - momentum) running + momentum · (μ, or the
    unbiased σ²); with ``momentum`` None they are the plain means of all batches. In evaluation mode the running ones
    are used, so that the result for one example does not depend on the others. ``weight`` starts as 1, ``bias`` as 0;
    without ``affine`` there are none, without ``track_running_stats`` the batch's own statistics are always used.

    Raises ShapeError for inputs of another shape, and in training mode for a batch with one value for each feature.

    Source: Ioffe and Szegedy, "Batch Normalization" (2015), https://arxiv.org/abs/1502.03167.

    >>> import numpy as np
    >>> from tinygrad_opt import nn
    >>> layer = nn.BatchNorm1d(2, eps=0.0)
    >>> layer(np.array([[1.0, 10.0], [3.0, 30.0]])).detach()
    Tensor([[-1., -1.],
            [ 1.,  1.]])
    """

    dimensions = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of images (batch, num_features, height, width): each channel over batch and pixels.

    All else is as in `BatchNorm1d`.

    >>> import numpy as np
    >>> from tinygrad_opt import nn
    >>> nn.BatchNorm2d(3)(np.random.default_rng(0).normal(size=(2, 3, 4, 4))).shape
    (2, 3, 4, 4)
    """

    dimensions = (4,)


class LayerNorm(Module):
    """Every example minus its mean, ÷ its standard deviation, over the last axes; then · weight + bias.

    y = (x - μ) / √(σ² + ε) · weight + bias. ``x`` is (..., normalized_shape); ``weight`` starts as 1 and ``bias`` as
    0, both of that shape; without ``elementwise_affine`` there are none. Training and evaluation are the same.

    Raises ShapeError for inputs that do not end with that shape.

    Source: Ba, Kiros and Hinton, "Layer Normalization" (2016), https://arxiv.org/abs/1607.06450.

    >>> import numpy as np
    >>> from tinygrad_opt import nn
    >>> nn.LayerNorm(2, eps=0.0)(np.array([[1.0, 3.0], [0.0, 4.0]])).detach()
    Tensor([[-1.,  1.],
            [-1.,  1.]])
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        shape = functional.normalized_axes(normalized_shape)
        if not shape or min(shape) < 1 or not eps >= 0:
            raise ValueError(f"LayerNorm needs sizes of at least 1 and eps of at least 0; got {shape} and {eps}")
        self.normalized_shape, self.eps = shape, eps
        self.weight = Parameter(np.ones(shape)) if elementwise_affine else None
        self.bias = Parameter(np.zeros(shape)) if elementwise_affine and bias else None

    def forward(self, x: Any) -> Tensor:
        """x (..., normalized_shape) -> the same shape."""
        return functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        options = _changed(eps=(self.eps, 1e-5), elementwise_affine=(self.weight is not None, True))
        return f"{self.normalized_shape}{options}" + (
            ", bias=False" if self.bias is None and self.weight is not None else ""
        )


# Layers without weights ----------------------------------------------------------------------------------------------


class MaxPool2d(Module):
    """The largest element of every window: (..., height, width) -> (..., rows, columns).

    ``stride`` is ``kernel_size`` where it is None; all are whole numbers, or pairs for (rows, columns). ``padding`` is
    at most half the kernel. There are ⌊(height + 2 padding - dilation (kernel_size - 1) - 1) / stride⌋ + 1 rows.

    Raises ShapeError for images smaller than a window, ValueError for options out of range.

    >>> import numpy as np
    >>> from tinygrad_opt import nn
    >>> nn.MaxPool2d(2)(np.arange(16.0).reshape(1, 4, 4))
    Tensor([[[ 5.,  7.],
             [13., 15.]]])
    """

    def __init__(self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, dilation: Pair = 1) -> None:
        self.kernel_size, self.stride, self.padding, self.dilation = functional.window_options(
            kernel_size, stride, padding, dilation, pool="MaxPool2d"
        )

    def forward(self, x: Any) -> Tensor:
        """x (..., height, width) -> (..., rows, columns)."""
        return functional.max_pool2d(x, self.kernel_size, self.stride, self.padding, self.dilation)

    def extra_repr(self) -> str:
        options = _changed(stride=(self.stride, self.kernel_size), padding=(self.padding, (0, 0)))
        return f"{self.kernel_size}{options}" + _changed(dilation=(self.dilation, (1, 1)))


class AvgPool2d(Module):
    """The mean of every window: (..., height, width) -> (..., rows, columns).

    ``stride`` is ``kernel_size`` where it is None; all are whole numbers, or pairs for (rows, columns). The zeros of
    the ``padding``, at most half the kernel, count, unless ``count_include_pad`` is False.

    Raises ShapeError for images smaller than a window, ValueError for options out of range.

    >>> import numpy as np
    >>> from tinygrad_opt import nn
    >>> nn.AvgPool2d(2)(np.arange(16.0).reshape(1, 4, 4))
    Tensor([[[ 2.5,  4.5],
             [10.5, 12.5]]])
    """

    def __init__(
        self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, count_include_pad: bool = True
    ) -> None:
        self.kernel_size, self.stride, self.padding, _ = functional.window_options(
            kernel_size, stride, padding, pool="AvgPool2d"
        )
        self.count_include_pad = count_include_pad

    def forward(self, x: Any) -> Tensor:
        """x (..., height, width) -> (..., rows, columns)."""
        return functional.avg_pool2d(x, self.kernel_size, self.stride, self.padding, self.count_include_pad)

    def extra_repr(self) -> str:
        options = _changed(stride=(self.stride, self.kernel_size), padding=(self.padding, (0, 0)))
        return f"{self.kernel_size}{options}" + _changed(count_include_pad=(self.count_include_pad, True))


class Flatten(Module):
    """The axes from ``start_dim`` to ``end_dim`` as one: images (batch, channels, height, width) -> (batch, all).

    Raises ShapeError where these axes are not there.

    >>> import numpy as np
    >>> from tinygrad_opt import nn
    >>> nn.Flatten()(np.ones((5, 3, 4, 4))).shape
    (5, 48)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Any) -> Tensor:
        """x (batch, ...) -> (batch, all)."""
        return functional.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return _changed(start_dim=(self.start_dim, 1), end_dim=(self.end_dim, -1)).removeprefix(", ")


class Dropout(Module):
    """In training mode, each element is set to 0 with probability ``p``, and the others are multiplied by 1 / (1 - p).

    So no unit can rely on another one being there. In evaluation mode the input is returned as it is. Draws come from
    ``generator``, or the library's own.

    Raises ValueError for a ``p`` outside [0, 1].

    Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting" (2014).

    >>> import numpy as np
    >>> from tinygrad_opt import nn
    >>> layer = nn.Dropout(0.5, generator=np.random.default_rng(0))
    >>> layer(np.ones(8))
    Tensor([2., 0., 0., 0., 2., 2., 2., 2.])
    >>> layer.eval()(np.ones(3))
    Tensor([1., 1., 1.])
    """

    def __init__(self, p: float = 0.5, *, generator: np.random.Generator | None = None) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout needs a probability p in [0, 1]; got {p!r}")
        self.p, self.generator = p, generator

    def forward(self, x: Any) -> Tensor:
        """x -> the same shape."""
        return functional.dropout(x, self.p, self.training, self.generator)

    def extra_repr(self) -> str:
        return f"{self.p}"


# Activations ---------------------------------------------------------------------------------------------------------


class ReLU(Module):
    """max(x, 0) for each element, of any shape.

    >>> from tinygrad_opt import nn
    >>> nn.ReLU()([-1.0, 2.0])
    Tensor([0., 2.])
    """

    def forward(self, x: Any) -> Tensor:
        """x -> max(x, 0)."""
        return functional.relu(x)


class Tanh(Module):
    """The hyperbolic tangent of each element, of any shape.

    >>> from tinygrad_opt import nn
    >>> nn.Tanh()([0.0])
    Tensor([0.])
    """

    def forward(self, x: Any) -> Tensor:
        """x -> tanh(x)."""
        return functional.tanh(x)


class Sigmoid(Module):
    """1 / (1 + e⁻ˣ) for each element, of any shape.

    >>> from tinygrad_opt import nn
    >>> nn.Sigmoid()([0.0])
    Tensor([0.5])
    """

    def forward(self, x: Any) -> Tensor:
        """x -> 1 / (1 + e⁻ˣ)."""
        return functional.sigmoid(x)


class LeakyReLU(Module):
    """x where it is positive, ``negative_slope`` · x elsewhere, for each element, of any shape.

    >>> from tinygrad_opt import nn
    >>> nn.LeakyReLU(0.1)([-1.0, 2.0])
    Tensor([-0.1,  2. ])
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope

    def forward(self, x: Any) -> Tensor:
        """x -> x or negative_slope · x."""
        return functional.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"{self.negative_slope}"


class ELU(Module):
    """x where it is positive, ``alpha`` (eˣ - 1) elsewhere, for each element, of any shape.

    >>> from tinygrad_opt import nn
    >>> nn.ELU()([-1e4, 2.0])
    Tensor([-1.,  2.])
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def forward(self, x: Any) -> Tensor:
        """x -> x or alpha (eˣ - 1)."""
        return functional.elu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"{self.alpha}"


class SiLU(Module):
    """x σ(x) for each element, of any shape, with σ the sigmoid.

    >>> from tinygrad_opt import nn
    >>> nn.SiLU()([0.0, 1e4])
    Tensor([    0., 10000.])
    """

    def forward(self, x: Any) -> Tensor:
        """x -> x σ(x)."""
        return functional.silu(x)


class GELU(Module):
    """x Φ(x) for each element, of any shape, with Φ the normal distribution; ``approximate`` is "none" or "tanh".

    >>> from tinygrad_opt import nn
    >>> nn.GELU()([-1.0, 0.0, 1.0])
    Tensor([-0.15865525,  0.        ,  0.84134475])
    """

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ValueError(f'approximate must be "none" or "tanh"; got {approximate!r}')
        self.approximate = approximate

    def forward(self, x: Any) -> Tensor:
        """x -> x Φ(x)."""
        return functional.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return _changed(approximate=(self.approximate, "none")).removeprefix(", ")


class Softplus(Module):
    """log(1 + e^(βx)) / β for each element, of any shape, with β ``beta``: a smooth ReLU.

    >>> from tinygrad_opt import nn
    >>> nn.Softplus()([0.0, 1e4])
    Tensor([6.93147181e-01, 1.00000000e+04])
    """

    def __init__(self, beta: float = 1.0) -> None:
        if not beta > 0:
            raise ValueError(f"Softplus needs a positive beta; got {beta!r}")
        self.beta = beta

    def forward(self, x: Any) -> Tensor:
        """x -> log(1 + e^(βx)) / β."""
        return functional.softplus(x, self.beta)

    def extra_repr(self) -> str:
        return f"{self.beta}"


class Softmax(Module):
    """eˣ / Σ eˣ along the axis ``dim``: positive numbers that sum to 1.

    >>> from tinygrad_opt import nn
    >>> nn.Softmax()([1e4, 1e4])
    Tensor([0.5, 0.5])
    """

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def forward(self, x: Any) -> Tensor:
        """x -> the same shape."""
        return functional.softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """x - log Σ eˣ along the axis ``dim``: the logarithm of `Softmax`, without overflow.

    >>> from tinygrad_opt import nn
    >>> nn.LogSoftmax()([0.0, 1e4])
    Tensor([-10000.,      0.])
    """

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def forward(self, x: Any) -> Tensor:
        """x -> the same shape."""
        return functional.log_softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Identity(Module):
    """The input as it is: a place where another layer may stand.

    >>> from tinygrad_opt import nn
    >>> nn.Identity()([1.0])
    [1.0]
    """

    def forward(self, x: Any) -> Any:
        """x -> x."""
        return x


# A network -----------------------------------------------------------------------------------------------------------


class MLP(Sequential):
    """A multi-layer perceptron: linear layers of the given ``sizes``, with an activation between two of them.

    ``sizes`` lists the number of inputs, of each hidden layer's units, and of outputs; ``activation`` makes the
    module that stands between two layers. x (..., sizes[0]) -> (..., sizes[-1]).

    Raises ValueError for fewer than two sizes, TypeError for an activation that is a module already.

    >>> from tinygrad_opt import nn
    >>> nn.MLP([2, 16, 1], nn.Tanh)
    MLP(
      (0): Linear(2, 16)  # 48
      (1): Tanh()
      (2): Linear(16, 1)  # 17
    )
    65 parameters
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: Callable[[], Module] = ReLU,
        *,
        generator: np.random.Generator | None = None,
    ) -> None:
        if isinstance(activation, Module) or not callable(activation):
            raise TypeError(
                "MLP makes an activation for each hidden layer: give it the class, such as nn.Tanh, or a function that "
                f"makes one; got {activation!r:.80}"
            )
        if isinstance(sizes, int) or len(sizes) < 2:
            raise ValueError(f"MLP needs the number of inputs and of outputs, such as [2, 16, 1]; got {sizes!r}")
        modules: list[Module] = []
        for n_in, n_out in itertools.pairwise(sizes):
            modules += [Linear(n_in, n_out, generator=generator), activation()]
        super().__init__(*modules[:-1])


def _changed(**options: tuple[Any, Any]) -> str:
    """The options, given as (value, default), that are not the default: ", padding=(1, 1)"."""
    return "".join(f", {name}={value!r}" for name, (value, default) in options.items() if value != default)
