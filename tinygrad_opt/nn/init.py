"""Initial values of parameters: functions that fill a Tensor in place, with PyTorch's names, and two that make arrays.

The in-place ones end with ``_``, take a Tensor first, and return it: ``init.kaiming_normal_(layer.weight)``. What is
drawn at random is drawn from ``generator`` (a ``numpy.random.Generator``), or else from the library's own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from tinygrad_opt.errors import ShapeError
from tinygrad_opt.graph import no_grad
from tinygrad_opt.rng import generator_or_default
from tinygrad_opt.tensor import Tensor, get_default_dtype

if TYPE_CHECKING:  # numpy.random takes a while to import, and is loaded when it is used
    Generator = np.random.Generator | None

AnyTensor = TypeVar("AnyTensor", bound=Tensor)

# Arrays --------------------------------------------------------------------------------------------------------------


def uniform(shape: tuple[int, ...], low: float, high: float, generator: Generator = None) -> npt.NDArray[np.floating]:
    """An array of ``shape`` with values drawn evenly from [``low``, ``high``), in the default dtype.

    >>> import numpy as np
    >>> from tinygrad_opt.nn import init
    >>> init.uniform((2, 3), -0.1, 0.1, np.random.default_rng(0)).shape
    (2, 3)
    """
    return generator_or_default(generator).uniform(low, high, shape).astype(get_default_dtype())


def fan_in_uniform(shape: tuple[int, ...], fan_in: int, generator: Generator = None) -> npt.NDArray[np.floating]:
    """PyTorch's default for layers: evenly from [-1/√fan_in, 1/√fan_in).

    It keeps the spread of a layer's outputs from growing with its number of inputs, ``fan_in``.

    Source: LeCun, Bottou, Orr and Müller, "Efficient BackProp" (1998), section 4.6.

    >>> import numpy as np
    >>> from tinygrad_opt.nn import init
    >>> w = init.fan_in_uniform((100, 4), 4, np.random.default_rng(0))
    >>> bool(np.abs(w).max() <= 0.5)
    True
    """
    bound = 1 / np.sqrt(fan_in) if fan_in > 0 else 0.0
    return uniform(shape, -bound, bound, generator)


# Constants -----------------------------------------------------------------------------------------------------------


def constant_(tensor: AnyTensor, value: float) -> AnyTensor:
    """Set every element to ``value``.

    >>> from tinygrad_opt import nn
    >>> nn.init.constant_(nn.Linear(2, 1).bias, 0.5)
    Parameter([0.5], requires_grad=True)
    """
    return _fill(tensor, value)


def zeros_(tensor: AnyTensor) -> AnyTensor:
    """Set every element to 0: right for biases. Weights of 0 would keep all units of a layer alike for ever.

    >>> from tinygrad_opt import nn
    >>> nn.init.zeros_(nn.Linear(2, 1).weight)
    Parameter([[0., 0.]], requires_grad=True)
    """
    return _fill(tensor, 0.0)


def ones_(tensor: AnyTensor) -> AnyTensor:
    """Set every element to 1.

    >>> from tinygrad_opt import nn
    >>> nn.init.ones_(nn.Linear(2, 1).weight)
    Parameter([[1., 1.]], requires_grad=True)
    """
    return _fill(tensor, 1.0)


# Random numbers ------------------------------------------------------------------------------------------------------


def uniform_(tensor: AnyTensor, a: float = 0.0, b: float = 1.0, generator: Generator = None) -> AnyTensor:
    """Draw every element evenly from [``a``, ``b``). Raises ValueError for a > b.

    >>> import numpy as np
    >>> from tinygrad_opt import nn
    >>> w = nn.init.uniform_(nn.Parameter(np.empty((100, 3))), -2.0, 2.0)
    >>> bool(np.abs(w.data).max() <= 2)
    True
    """
    if not a <= b:
        raise ValueError(f"uniform_ draws from [a, b); got a={a} and b={b}")
    return _fill(tensor, generator_or_default(generator).uniform(a, b, tensor.shape))


def normal_(tensor: AnyTensor, mean: float = 0.0, std: float = 1.0, generator: Generator = None) -> AnyTensor:
    """Draw every element from the normal distribution. Raises ValueError for a negative ``std``.

    >>> import numpy as np
    >>> from tinygrad_opt import nn
    >>> w = nn.init.normal_(nn.Parameter(np.empty(10_000)), std=0.1, generator=np.random.default_rng(0))
    >>> round(float(w.data.std()), 2)
    0.1
    """
    _check_std(std)
    return _fill(tensor, generator_or_default(generator).normal(mean, std, tensor.shape))


def trunc_normal_(
    tensor: AnyTensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator = None,
) -> AnyTensor:
    """Draw every element from the normal distribution, and again until it lies in [``a``, ``b``] (not in units of std).

    No weight starts far out. Raises ValueError for a negative ``std``, and where less than one in ten thousand draws
    lies between a and b.

    >>> import numpy as np
    >>> from tinygrad_opt import nn
    >>> w = nn.init.trunc_normal_(nn.Parameter(np.empty(10_000)))
    >>> bool(np.abs(w.data).max() <= 2)
    True
    """
    _check_std(std)
    if std == 0:
        inside = 1.0 if a <= mean <= b else 0.0
    else:
        inside = 0.5 * (math.erf((b - mean) / std / math.sqrt(2)) - math.erf((a - mean) / std / math.sqrt(2)))
    if not inside >= 1e-4:
        raise ValueError(f"hardly any draw with mean {mean} and std {std} would lie in [a, b] = [{a}, {b}]")
    source = generator_or_default(generator)
    values = source.normal(mean, std, tensor.shape)
    while (outside := (values < a) | (values > b)).any():
        values[outside] = source.normal(mean, std, np.count_nonzero(outside))
    return _fill(tensor, values)


# By the number of inputs and outputs ---------------------------------------------------------------------------------


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """By how much the weights before an activation have to be larger, so that what comes after it keeps its spread.

    1 for "linear", "conv2d" and "sigmoid", 5/3 for "tanh", √2 for "relu", √(2 / (1 + slope²)) for "leaky_relu" with
    ``param`` its slope (0.01 where none is given), 3/4 for "selu". Raises ValueError for another name.

    >>> from tinygrad_opt import nn
    >>> round(nn.init.calculate_gain("relu"), 4)
    1.4142
    """
    slope = 0.01 if param is None else param
    gains = {
        "linear": 1.0,
        "conv2d": 1.0,
        "sigmoid": 1.0,
        "tanh": 5 / 3,
        "relu": math.sqrt(2),
        "leaky_relu": math.sqrt(2 / (1 + slope * slope)),
        "selu": 0.75,
    }
    if nonlinearity not in gains:
        raise ValueError(f"nonlinearity must be one of {', '.join(gains)}; got {nonlinearity!r}")
    return gains[nonlinearity]


def xavier_uniform_(tensor: AnyTensor, gain: float = 1.0, generator: Generator = None) -> AnyTensor:
    """Xavier (Glorot) initialisation: evenly from ± gain √(6 / (fan_in + fan_out)), of variance 2 gain² / (their sum).

    The compromise between keeping the spread of what goes forward and that of the gradients that come back. Raises
    ShapeError for a Tensor with less than two axes.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010).

    >>> import numpy as np
    >>> from tinygrad_opt import nn
    >>> w = nn.init.xavier_uniform_(nn.Parameter(np.empty((2, 4))))
    >>> bool(np.abs(w.data).max() <= 1)
    True
    """
    bound = gain * math.sqrt(6 / sum(_fans(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: AnyTensor, gain: float = 1.0, generator: Generator = None) -> AnyTensor:
    """Xavier (Glorot) initialisation: normal, with the standard deviation gain √(2 / (fan_in + fan_out)).

    See `xavier_uniform_`.

    >>> import numpy as np
    >>> from tinygrad_opt import nn
    >>> w = nn.init.xavier_normal_(nn.Parameter(np.empty((100, 100))), generator=np.random.default_rng(0))
    >>> round(float(w.data.std()), 2)
    0.1
    """
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(_fans(tensor))), generator)


def kaiming_uniform_(
    tensor: AnyTensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator = None,
) -> AnyTensor:
    """Kaiming (He) initialisation: evenly from ± gain √(3 / fan), of variance gain² / fan.

    The gain is that of the activation (see `calculate_gain`, with ``a`` the slope of a leaky ReLU: 0 is a ReLU). With
    ``mode`` "fan_in" the spread of what goes forward stays the same from layer to layer, with "fan_out" that of the
    gradients that come back. Raises ShapeError for a Tensor with less than two axes, ValueError for another mode.

    Source: He, Zhang, Ren and Sun, "Delving Deep into Rectifiers" (2015), https://arxiv.org/abs/1502.01852.

    >>> import numpy as np
    >>> from tinygrad_opt import nn
    >>> w = nn.init.kaiming_uniform_(nn.Parameter(np.empty((2, 6))))
    >>> bool(np.abs(w.data).max() <= 1)
    True
    """
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: AnyTensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator = None,
) -> AnyTensor:
    """Kaiming (He) initialisation: normal, with the standard deviation gain / √fan. See `kaiming_uniform_`.

    >>> import numpy as np
    >>> from tinygrad_opt import nn
    >>> w = nn.init.kaiming_normal_(nn.Parameter(np.empty((50, 200))), generator=np.random.default_rng(0))
    >>> round(float(w.data.std()), 2)
    0.1
    """
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def orthogonal_(tensor: AnyTensor, gain: float = 1.0, generator: Generator = None) -> AnyTensor:
    """Rows (or, where there are more rows than columns, columns) that are perpendicular, each of length ``gain``.

    Of more than two axes, all but the first count as columns. Such a matrix keeps the length of what goes through it.
    Raises ShapeError for a Tensor with less than two axes.

    Source: Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks" (2014), https://arxiv.org/abs/1312.6120.

    >>> import numpy as np
    >>> from tinygrad_opt import nn
    >>> w = nn.init.orthogonal_(nn.Parameter(np.empty((2, 3)))).data
    >>> bool(np.allclose(w @ w.T, np.eye(2)))
    True
    """
    _fans(tensor)
    rows, columns = tensor.shape[0], tensor.size // tensor.shape[0]
    draws = generator_or_default(generator).normal(size=(max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(draws)
    q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)  # else QR's choice of signs would favour some matrices
    return _fill(tensor, gain * (q if rows >= columns else q.T).reshape(tensor.shape))


# Helpers -------------------------------------------------------------------------------------------------------------


def _fill(tensor: AnyTensor, values: Any) -> AnyTensor:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"what initialises in place takes a Tensor, such as layer.weight; got {tensor!r:.80}")
    if isinstance(values, np.ndarray) and tensor.dtype.kind != "f":
        raise TypeError(f"numbers drawn at random need a floating-point Tensor; this one has dtype {tensor.dtype}")
    with no_grad():
        tensor[...] = values
    return tensor


def _fans(tensor: Tensor) -> tuple[int, int]:
    """Of a weight (outputs, inputs, kernel ...): how many numbers go into an output, how many an input goes into."""
    if tensor.ndim < 2 or not tensor.size:
        raise ShapeError(
            "fan_in and fan_out are those of a weight (outputs, inputs) or (outputs, inputs, height, width) with "
            f"elements; got the shape {tensor.shape}. For a bias there are zeros_ and uniform_"
        )
    outputs, inputs, *kernel = tensor.shape
    return inputs * math.prod(kernel), outputs * math.prod(kernel)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    fans = dict(zip(("fan_in", "fan_out"), _fans(tensor), strict=True))
    if mode not in fans:
        raise ValueError(f'mode must be "fan_in" or "fan_out"; got {mode!r}')
    return calculate_gain(nonlinearity, a) / math.sqrt(fans[mode])


def _check_std(std: float) -> None:
    if not std >= 0:
        raise ValueError(f"a standard deviation is at least 0; got std={std}")
