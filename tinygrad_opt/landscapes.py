"""Test functions of two parameters, on which the ways of optimizers can be seen. It needs nothing but the transforms.

Each takes a vector of two parameters, an array or a Tensor, or a whole grid of them: an array of shape (2, ...).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygrad_opt.tensor import Tensor
from tinygrad_opt.transforms import grad


@dataclass(frozen=True)
class Landscape:
    """A function J(x) of two parameters, with what is needed to draw it and to start on it.

    ``start`` is a usual place to begin, ``minima`` are the places where J is lowest (none for a saddle), and
    ``window`` is the part worth seeing, (x₁ from, x₁ to, x₂ from, x₂ to).

    >>> from tinygrad_opt import landscapes
    >>> landscapes.rosenbrock([1.0, 1.0]).item()
    0.0
    >>> landscapes.rosenbrock.gradient([0.0, 0.0])
    array([-2.,  0.])
    """

    name: str
    formula: str
    function: Callable[[Any], Any]
    start: tuple[float, float]
    minima: tuple[tuple[float, float], ...]
    window: tuple[float, float, float, float]

    def __call__(self, x: Any) -> Any:
        """J at ``x`` of shape (2,), or at every point of a grid of shape (2, ...)."""
        return self.function(x if isinstance(x, Tensor) else np.asarray(x, dtype=float))

    def gradient(self, x: Any) -> npt.NDArray[Any]:
        """The gradient of J at ``x`` of shape (2,)."""
        return grad(self.function)(np.asarray(x, dtype=float))  # type: ignore[no-any-return]


def descend(function: Callable[[Any], Any], start: Any, optimizer: Callable[[list[Tensor]], Any], steps: int) -> Any:
    """The points that an optimizer visits: an array of shape (steps + 1, 2), the start first.

    ``optimizer`` makes one from a list of parameters.

    >>> from tinygrad_opt import landscapes, optim
    >>> path = landscapes.descend(landscapes.ravine, [-4.0, 1.0], lambda params: optim.Adam(params, lr=0.5), steps=3)
    >>> path.shape
    (4, 2)
    """
    x = Tensor(start, requires_grad=True, dtype=float)
    made = optimizer([x])
    path = [x.data.copy()]
    for _ in range(steps):
        made.step(lambda: function(x))
        path.append(x.data.copy())
    return np.array(path)


rosenbrock = Landscape(
    "Rosenbrock's valley",
    "100 (x₂ - x₁²)² + (1 - x₁)²",
    lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2,
    start=(-1.2, 1.0),
    minima=((1.0, 1.0),),
    window=(-2.0, 2.0, -1.0, 3.0),
)
beale = Landscape(
    "Beale's function",
    "(1.5 - x₁ + x₁x₂)² + (2.25 - x₁ + x₁x₂²)² + (2.625 - x₁ + x₁x₂³)²",
    lambda x: sum((c - x[0] + x[0] * x[1] ** n) ** 2 for n, c in ((1, 1.5), (2, 2.25), (3, 2.625))),
    start=(-1.0, 1.5),
    minima=((3.0, 0.5),),
    window=(-4.5, 4.5, -2.0, 2.5),
)
himmelblau = Landscape(
    "Himmelblau's function",
    "(x₁² + x₂ - 11)² + (x₁ + x₂² - 7)²",
    lambda x: (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2,
    start=(-0.5, -1.0),
    minima=((3.0, 2.0), (-2.805118, 3.131313), (-3.779310, -3.283186), (3.584428, -1.848127)),
    window=(-5.0, 5.0, -5.0, 5.0),
)
rastrigin = Landscape(
    "Rastrigin's function",
    "20 + Σ (xᵢ² - 10 cos 2πxᵢ)",
    lambda x: 20 + sum(x[i] ** 2 - 10 * np.cos(2 * np.pi * x[i]) for i in (0, 1)),
    start=(2.3, 1.7),
    minima=((0.0, 0.0),),
    window=(-3.0, 3.0, -3.0, 3.0),
)
saddle = Landscape(
    "a saddle",
    "x₁² - x₂²",
    lambda x: x[0] ** 2 - x[1] ** 2,
    start=(-1.5, 0.001),
    minima=(),
    window=(-2.0, 2.0, -2.0, 2.0),
)
ravine = Landscape(
    "a ravine",
    "(x₁² + 100 x₂²) / 2",
    lambda x: (x[0] ** 2 + 100 * x[1] ** 2) / 2,
    start=(-4.0, 1.0),
    minima=((0.0, 0.0),),
    window=(-4.6, 2.2, -1.3, 1.3),
)

LANDSCAPES = {
    "rosenbrock": rosenbrock,
    "beale": beale,
    "himmelblau": himmelblau,
    "rastrigin": rastrigin,
    "saddle": saddle,
    "ravine": ravine,
}
