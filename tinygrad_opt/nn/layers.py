"""Layers and activations as modules. Arguments, parameter names, shapes and initial values are PyTorch's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tinygrad_opt.nn import functional, init
from tinygrad_opt.nn.module import Module, Parameter
from tinygrad_opt.tensor import Tensor


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


class Sequential(Module):
    """Modules one after the other, each applied to the result of the one before.

    Its modules are its attributes "0", "1", ...; ``model[i]`` and ``len(model)`` work, and so does iterating.

    Raises TypeError for anything that is not a Module.

    >>> import numpy as np
    >>> from tinygrad_opt import nn
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    >>> model(np.zeros((4, 2))).shape
    (4, 1)
    """

    def __init__(self, *modules: Module) -> None:
        for i, module in enumerate(modules):
            if not isinstance(module, Module):
                hint = f"Did you mean {module.__name__}()?" if isinstance(module, type) else "Wrap it in a Module."
                raise TypeError(f"Sequential takes modules; number {i} is {module!r}. {hint}")
            setattr(self, str(i), module)

    def forward(self, x: Any) -> Any:
        """x -> the last module's result."""
        for value in self.__dict__.values():
            if isinstance(value, Module):
                x = value(x)
        return x

    def __iter__(self) -> Iterator[Module]:
        return (value for value in self.__dict__.values() if isinstance(value, Module))

    def __len__(self) -> int:
        return len(self.children())

    def __getitem__(self, index: int) -> Module:
        return list(self)[index]


class MLP(Sequential):
    """A multi-layer perceptron: linear layers of the given ``sizes``, with an activation between two of them.

    ``sizes`` lists the number of inputs, of each hidden layer's units, and of outputs; ``activation`` makes the
    module that stands between two layers. x (..., sizes[0]) -> (..., sizes[-1]).

    Raises ValueError for fewer than two sizes.

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
        if len(sizes) < 2:
            raise ValueError(f"MLP needs the number of inputs and of outputs, such as [2, 16, 1]; got {list(sizes)}")
        modules: list[Module] = []
        for n_in, n_out in itertools.pairwise(sizes):
            modules += [Linear(n_in, n_out, generator=generator), activation()]
        super().__init__(*modules[:-1])
