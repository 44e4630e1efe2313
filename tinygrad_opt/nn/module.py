"""Module and Parameter: what every layer and every model is made of. It stands on ``tensor.py``.

A module is its attributes plus ``forward``. There is no registry of parameters: whatever Parameter or Module is an
attribute of a module is found by looking at its attributes, in the order in which they were first assigned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tinygrad_opt import graph
from tinygrad_opt.errors import StateDictError
from tinygrad_opt.tensor import Tensor


class Parameter(Tensor):
    """A Tensor that a model learns: it requires a gradient, and modules and optimizers know it as theirs.

    ``data`` is an array of any shape; it is copied, and gets the default dtype unless ``dtype`` says otherwise.

    >>> from tinygrad_opt import nn
    >>> nn.Parameter([1.0, 2.0])
    Parameter([1., 2.], requires_grad=True)
    """

    __slots__ = ()

    def __init__(
        self,
        data: Any,
        requires_grad: bool = True,
        *,
        dtype: npt.DTypeLike | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(data, requires_grad, dtype=dtype, name=name)

    def __repr__(self) -> str:
        return super().__repr__().replace("Tensor", "Parameter", 1)


class Module:
    """The base class of layers and models: attributes that are Parameters or Modules, and a ``forward`` method.

    >>> import numpy as np
    >>> from tinygrad_opt import nn
    >>> class Shift(nn.Module):
    ...     def __init__(self, n):
    ...         self.offset = nn.Parameter(np.zeros(n))
    ...     def forward(self, x):
    ...         return x + self.offset
    >>> model = Shift(3)
    >>> model(np.ones((2, 3))).shape
    (2, 3)
    >>> [name for name, _ in model.named_parameters()]
    ['offset']
    """

    training: bool = True

    def __init__(self) -> None:
        """Nothing has to be set up; subclasses may leave ``super().__init__()`` out."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; every subclass writes its own."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(): define what it computes")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run `forward`."""
        return self.forward(*args, **kwargs)

    def children(self) -> dict[str, Module]:
        """The modules that are attributes of this one, by attribute name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Module)}

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, each once, with dotted names (this one's is empty)."""
        yield from _walk(self, prefix, set())

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter once, with its dotted name, such as ``0.weight``; one without a name gets this one."""
        seen: set[Parameter] = set()
        for prefix, module in self.named_modules():
            for attribute, value in vars(module).items():
                if isinstance(value, Parameter) and value not in seen:
                    seen.add(value)
                    name = f"{prefix}.{attribute}" if prefix else attribute
                    value.name = value.name or name
                    yield name, value

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter once: what an optimizer takes."""
        return (parameter for _, parameter in self.named_parameters())

    def zero_grad(self) -> None:
        """Forget all gradients: ``grad`` of every parameter is None again."""
        for parameter in self.parameters():
            parameter.grad = None

    def train(self, mode: bool = True) -> Self:
        """Switch this module and all below it to training mode, or (``False``) to evaluation mode."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Switch this module and all below it to evaluation mode."""
        return self.train(False)

    def state_dict(self) -> dict[str, npt.NDArray[Any]]:
        """A copy of every parameter's array by name: what `load_state_dict` takes.

        >>> from tinygrad_opt import nn
        >>> {name: array.shape for name, array in nn.Linear(3, 2).state_dict().items()}
        {'weight': (2, 3), 'bias': (2,)}
        """
        return {name: parameter.data.copy() for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy the arrays of ``state`` into the parameters of the same names; their dtypes stay.

        Raises StateDictError when a name is missing or unknown, or a shape differs; nothing is changed then.
        """
        own = dict(self.named_parameters())
        arrays = {name: np.asarray(_data(value)) for name, value in state.items()}
        problems = [f"missing: {name} {own[name].shape}" for name in own.keys() - arrays.keys()]
        problems += [f"unknown: {name} {arrays[name].shape}" for name in arrays.keys() - own.keys()]
        problems += [
            f"{name}: shape {arrays[name].shape} in the state, {own[name].shape} in the model"
            for name in own.keys() & arrays.keys()
            if arrays[name].shape != own[name].shape
        ]
        if problems:
            raise StateDictError(
                f"the state does not fit {type(self).__name__}, nothing was loaded. "
                + "; ".join(sorted(problems))
                + ". Build the model with the sizes and names that it was saved with."
            )
        for name, parameter in own.items():
            parameter.data[...] = arrays[name]
            graph.note_changes([graph.watch(parameter.data)])

    def extra_repr(self) -> str:
        """What stands between the parentheses of the module's line in ``repr``."""
        return ""

    def __repr__(self) -> str:
        return f"{_tree(self)}\n{_count(self)} parameters"


def _walk(module: Module, name: str, seen: set[int]) -> Iterator[tuple[str, Module]]:
    if id(module) in seen:
        return
    seen.add(id(module))
    yield name, module
    for child_name, child in module.children().items():
        yield from _walk(child, f"{name}.{child_name}" if name else child_name, seen)


def _data(value: Any) -> Any:
    """The array of a Tensor (ours or another library's, through ``detach``), or the value itself."""
    return value.detach().numpy() if hasattr(value, "detach") else value


def _count(module: Module) -> str:
    return f"{sum(parameter.size for parameter in module.parameters()):,}"


def _tree(module: Module) -> str:
    """The module and its children, one line each, indented, with the number of parameters."""
    head = type(module).__name__
    children = module.children()
    if not children:
        line = f"{head}({module.extra_repr()})"
        return f"{line}  # {_count(module)}" if list(module.parameters()) else line
    lines = [f"({name}): {_tree(child)}" for name, child in children.items()]
    return "\n".join([f"{head}(", *("  " + line for text in lines for line in text.split("\n")), ")"])
