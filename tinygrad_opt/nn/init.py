"""Initial values of parameters: plain functions from a shape to an array."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tinygrad_opt.rng import generator_or_default
from tinygrad_opt.tensor import get_default_dtype


def uniform(
    shape: tuple[int, ...], low: float, high: float, generator: np.random.Generator | None = None
) -> npt.NDArray[np.floating]:
    """An array of ``shape`` with values drawn evenly from [``low``, ``high``), in the default dtype.

    >>> import numpy as np
    >>> from tinygrad_opt.nn import init
    >>> init.uniform((2, 3), -0.1, 0.1, np.random.default_rng(0)).shape
    (2, 3)
    """
    return generator_or_default(generator).uniform(low, high, shape).astype(get_default_dtype())


def fan_in_uniform(
    shape: tuple[int, ...], fan_in: int, generator: np.random.Generator | None = None
) -> npt.NDArray[np.floating]:
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
