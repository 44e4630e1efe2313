"""Modules that hold other modules: one after the other, as a list, or by name."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, overload

from tinygrad_opt.nn.module import Module


class ModuleList(Module):
    """A list of modules, whose parameters are found: in a plain list they would not be.

    Its modules are its attributes "0", "1", ...; it has no `forward`: the module that holds it says what is done.

    Raises TypeError for anything that is not a Module.

    >>> from tinygrad_opt import nn
    >>> layers = nn.ModuleList([nn.Linear(2, 3), nn.Linear(3, 3)])
    >>> layers.append(nn.Linear(3, 1))[-1]
    Linear(3, 1)  # 4
    4 parameters
    >>> [name for name, _ in layers.named_parameters()][:2]
    ['0.weight', '0.bias']
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.extend(modules)

    def append(self, module: Module) -> ModuleList:
        """Add a module at the end, and return the list."""
        return self.extend([module])

    def extend(self, modules: Iterable[Module]) -> ModuleList:
        """Add modules at the end, and return the list."""
        given = list(modules)
        for number, module in enumerate(given, len(self)):
            _check_module(f"{type(self).__name__} takes modules; number {number} is", module)
        for number, module in enumerate(given, len(self)):
            setattr(self, str(number), module)
        return self

    def insert(self, index: int, module: Module) -> None:
        """Put a module before the one at ``index``."""
        modules = list(self)
        modules.insert(index, module)
        self._replace(modules)

    def _replace(self, modules: list[Module]) -> None:
        new = ModuleList(modules)  # raises TypeError for what is no module, before anything is changed
        for name in self.children():
            delattr(self, name)
        self.extend(new)

    def __len__(self) -> int:
        return len(self.children())

    def __iter__(self) -> Iterator[Module]:
        return (value for value in tuple(vars(self).values()) if isinstance(value, Module))

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> ModuleList: ...
    def __getitem__(self, index: int | slice) -> Module | ModuleList:
        if isinstance(index, slice):
            return self._of_kind(list(self)[index])
        return list(self)[index]

    def __setitem__(self, index: int, module: Module) -> None:
        modules = list(self)
        modules[index] = module
        self._replace(modules)

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self)
        del modules[index]
        self._replace(modules)

    def _of_kind(self, modules: Iterable[Module]) -> ModuleList:
        return ModuleList(modules)


class Sequential(ModuleList):
    """Modules one after the other, each applied to the result of the one before.

    Its modules are its attributes "0", "1", ...; ``model[i]``, ``model[:i]`` and ``len(model)`` work, and so does
    iterating.

    Raises TypeError for anything that is not a Module.

    >>> import numpy as np
    >>> from tinygrad_opt import nn
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    >>> model(np.zeros((4, 2))).shape
    (4, 1)
    """

    def __init__(self, *modules: Module) -> None:
        super().__init__(modules)

    def forward(self, x: Any) -> Any:
        """x -> the last module's result."""
        for value in self.__dict__.values():
            if isinstance(value, Module):
                x = value(x)
        return x

    def _of_kind(self, modules: Iterable[Module]) -> ModuleList:
        return Sequential(*modules)


class ModuleDict(Module):
    """Modules by name, in the order in which they were put in; their parameters are found.

    It has no `forward`: the module that holds it says what is done.

    Raises TypeError for anything that is not a Module, KeyError for a name that has a dot in it or means something for
    every module, such as "forward".

    >>> from tinygrad_opt import nn
    >>> heads = nn.ModuleDict({"digit": nn.Linear(8, 10), "colour": nn.Linear(8, 3)})
    >>> heads["colour"]
    Linear(8, 3)  # 27
    27 parameters
    >>> "digit" in heads, len(heads)
    (True, 2)
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        self.update(modules)

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Put in modules, in the place of those of the same names."""
        for name, module in dict(modules).items():
            self[name] = module

    def pop(self, name: str) -> Module:
        """Take a module out, and return it."""
        module = self[name]
        del self[name]
        return module

    def keys(self) -> KeysView[str]:
        """The names."""
        return self.children().keys()

    def values(self) -> ValuesView[Module]:
        """The modules."""
        return self.children().values()

    def items(self) -> ItemsView[str, Module]:
        """Names and modules."""
        return self.children().items()

    def __getitem__(self, name: str) -> Module:
        modules = self.children()
        if name not in modules:
            raise KeyError(f"no module {name!r}; there are {', '.join(map(repr, modules)) or 'none'}")
        return modules[name]

    def __setitem__(self, name: str, module: Module) -> None:
        _check_module(f"ModuleDict takes modules; {name!r} is", module)
        if not isinstance(name, str) or not name or "." in name or hasattr(ModuleDict, name):
            raise KeyError(
                f"a module cannot be called {name!r}: a name is a string without dots that modules do not use"
            )
        setattr(self, name, module)

    def __delitem__(self, name: str) -> None:
        self[name]  # raises KeyError where there is none
        delattr(self, name)

    def __contains__(self, name: object) -> bool:
        return name in self.children()

    def __iter__(self) -> Iterator[str]:
        return iter(self.children())

    def __len__(self) -> int:
        return len(self.children())


def _check_module(what: str, value: Any) -> None:
    if not isinstance(value, Module):
        if isinstance(value, (list, tuple)):
            raise TypeError(f"{what} a {type(value).__name__}. Write a star before it: nn.Sequential(*layers)")
        hint = f"Did you mean {value.__name__}()?" if isinstance(value, type) else "Wrap it in a Module."
        raise TypeError(f"{what} {value!r}. {hint}")
