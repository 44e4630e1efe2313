"""Module, Parameter and Buffer: what every layer and every model is made of. It stands on ``tensor.py``.

A module is its attributes plus ``forward``. There is no registry of parameters: whatever Parameter, Buffer or Module is
an attribute of a module is found by looking at its attributes, in the order in which they were first assigned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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


class Buffer(Tensor):
    """A Tensor that a module keeps but does not learn, such as a running mean: it is saved and loaded with the model.

    ``data`` is an array of any shape; it is copied, and gets the default dtype where it is floating-point.

    >>> from tinygrad_opt import nn
    >>> model = nn.Linear(2, 1)
    >>> model.calls = nn.Buffer(0)
    >>> list(model.state_dict())
    ['weight', 'bias', 'calls']
    """

    __slots__ = ()

    def __init__(self, data: Any, *, dtype: npt.DTypeLike | None = None, name: str | None = None) -> None:
        super().__init__(data, dtype=dtype, name=name)

    def __repr__(self) -> str:
        return super().__repr__().replace("Tensor", "Buffer", 1)


Hook = Callable[..., Any]


class HookHandle:
    """What `Module.register_forward_hook` returns: ``remove()`` takes the hook away, and so does a ``with`` block."""

    def __init__(self, hooks: dict[HookHandle, Hook], hook: Hook) -> None:
        if not callable(hook):
            raise TypeError(f"a hook is a function of the module, its arguments and its result; got {hook!r}")
        self._hooks = hooks
        hooks[self] = hook
        graph.note_rebinding()

    def remove(self) -> None:
        """Take the hook away; a second time does nothing."""
        self._hooks.pop(self, None)
        graph.note_rebinding()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


class _Hooks:
    """The hooks of one module."""

    def __init__(self) -> None:
        self.before: dict[HookHandle, Hook] = {}
        self.after: dict[HookHandle, Hook] = {}

    def call(self, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run ``forward``, with the hooks before and after it."""
        for hook in tuple(self.before.values()):
            changed = hook(module, args)
            args = args if changed is None else changed if isinstance(changed, tuple) else (changed,)
        result = module.forward(*args, **kwargs)
        for hook in tuple(self.after.values()):
            changed = hook(module, args, result)
            result = result if changed is None else changed
        return result


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
    _hooks: _Hooks | None = None  # made when the first one is registered: most modules have none

    def __init__(self) -> None:
        """Nothing has to be set up; subclasses may leave ``super().__init__()`` out."""

    def __setattr__(self, name: str, value: Any) -> None:
        old = object.__getattribute__(self, "__dict__").get(name)
        if isinstance(old, (Parameter, Buffer)) and _loses(value):
            kind = type(old).__name__
            raise TypeError(
                f"{type(self).__name__}.{name} is a {kind}, and would be none any more with a {type(value).__name__} "
                f"in its place: change its elements, m.{name}.data = ... or, under tg.no_grad(), m.{name} -= ..., or "
                f"assign an nn.{kind}"
            )
        object.__setattr__(self, name, value)
        graph.note_rebinding()

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        graph.note_rebinding()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; every subclass writes its own."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(): define what it computes")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run `forward`, with the hooks before and after it."""
        if self._hooks is None:
            return self.forward(*args, **kwargs)
        return self._hooks.call(self, args, kwargs)

    def register_forward_hook(self, hook: Hook) -> HookHandle:
        """Call ``hook(module, args, result)`` after every `forward` of this module, until the handle's ``remove()``.

        What the hook returns takes the place of the result, unless it is None.

        >>> import numpy as np
        >>> from tinygrad_opt import nn
        >>> model = nn.MLP([2, 3, 1])
        >>> with model[0].register_forward_hook(lambda module, args, result: print(module, result.shape)):
        ...     _ = model(np.ones((4, 2)))
        Linear(2, 3)  # 9
        9 parameters (4, 3)
        """
        return HookHandle(self._own_hooks().after, hook)

    def register_forward_pre_hook(self, hook: Hook) -> HookHandle:
        """Call ``hook(module, args)`` before every `forward` of this module, until the handle's ``remove()``.

        What the hook returns takes the place of the arguments, unless it is None; a tuple is several.

        >>> from tinygrad_opt import nn
        >>> layer = nn.ReLU()
        >>> with layer.register_forward_pre_hook(lambda module, args: [-x for x in args[0]]):
        ...     layer([-1.0, 2.0])
        Tensor([1., 0.])
        """
        return HookHandle(self._own_hooks().before, hook)

    def _own_hooks(self) -> _Hooks:
        if self._hooks is None:
            self._hooks = _Hooks()
        return self._hooks

    def children(self) -> dict[str, Module]:
        """The modules that are attributes of this one, by attribute name.

        Raises TypeError for modules or parameters in a plain list, tuple or dict, where they would not be found.
        """
        found = {}
        for name, value in vars(self).items():
            if isinstance(value, Module):
                found[name] = value
            elif isinstance(value, (list, tuple, dict)):
                _refuse_parts(f"{type(self).__name__}.{name}", value, list(vars(self).values()))
        return found

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, each once, with dotted names (this one's is empty)."""
        yield from _walk(self, prefix, set(), each_once=True)

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter once, with its dotted name, such as ``0.weight``; one without a name gets this one."""
        for name, value in _named_tensors(self, Parameter):
            value.name = value.name or name
            yield name, value

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter once: what an optimizer takes."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """Every buffer once, with its dotted name, such as ``1.running_mean``."""
        return _named_tensors(self, Buffer)

    def buffers(self) -> Iterator[Buffer]:
        """Every buffer once."""
        return (buffer for _, buffer in self.named_buffers())

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
        """A copy of the array of every parameter and buffer by name: what `load_state_dict` takes.

        What has several names, because it is shared, is there under each of them, as in PyTorch.

        >>> from tinygrad_opt import nn
        >>> {name: array.shape for name, array in nn.Linear(3, 2).state_dict().items()}
        {'weight': (2, 3), 'bias': (2,)}
        """
        return {name: tensor.data.copy() for name, tensor in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy the arrays of ``state`` into the parameters and buffers of the same names; their dtypes stay.

        To load some only, put them over the rest: ``model.load_state_dict(model.state_dict() | some)``.

        Raises StateDictError when a name is missing or unknown, a shape differs, a value is no array of numbers, or the
        names of one shared parameter stand for different values; nothing is changed then. Raises TypeError for what is
        no dict.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"load_state_dict takes a dict, such as tg.load(path) gives; got {state!r:.80}")
        own = self._state()
        arrays = {name: np.asarray(_data(value)) for name, value in state.items()}
        problems = _misfits(own, arrays)
        if problems:
            raise StateDictError(
                f"the state does not fit {type(self).__name__}, nothing was loaded. "
                + "; ".join(sorted(problems))
                + ". Build the model with the sizes and names that it was saved with."
            )
        for name, array in arrays.items():
            tensor = own[name]
            tensor.data[...] = array
            graph.note_changes([graph.watch(tensor.data)])

    def _state(self) -> dict[str, Tensor]:
        """Every parameter and buffer, by each of its names."""
        return dict(_named_tensors(self, (Parameter, Buffer), each_once=False))

    def extra_repr(self) -> str:
        """What stands between the parentheses of the module's line in ``repr``."""
        return ""

    def __repr__(self) -> str:
        return f"{_tree(self)}\n{_count(self)} parameters"


def _loses(value: Any) -> bool:
    """Whether a parameter would be lost with ``value`` in its place, which may be a Tensor that gradients flow to."""
    if isinstance(value, Tensor):
        constant = not (value.requires_grad or graph.is_grad_enabled())
        return constant and not isinstance(value, (Parameter, Buffer))
    return value is not None


def _walk(module: Module, name: str, seen: set[int], each_once: bool) -> Iterator[tuple[str, Module]]:
    if id(module) in seen:
        return
    seen.add(id(module))
    yield name, module
    for child_name, child in module.children().items():
        yield from _walk(child, _join(name, child_name), seen, each_once)
    if not each_once:  # then only a module inside itself is left out
        seen.remove(id(module))


def _named_tensors(module: Module, kinds: Any, each_once: bool = True) -> Iterator[tuple[str, Any]]:
    seen: set[Tensor] = set()
    for prefix, part in _walk(module, "", set(), each_once):
        for attribute, value in vars(part).items():
            if isinstance(value, kinds) and value not in seen:
                if each_once:
                    seen.add(value)
                yield _join(prefix, attribute), value


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _refuse_parts(place: str, container: Any, known: list[Any]) -> None:
    """Raise TypeError for a plain list or dict of what is found as an attribute only, and is none of ``known``."""
    for item in container.values() if isinstance(container, dict) else container:
        if isinstance(item, (list, tuple, dict)):
            _refuse_parts(place, item, known)
        elif isinstance(item, (Module, Parameter, Buffer)) and not any(item is other for other in known):
            what, better = f"a {type(item).__name__} in it, which", "give each an attribute of its own"
            if isinstance(item, Module):
                what = "modules in it, whose parameters"
                better = f"make it an nn.{'ModuleDict' if isinstance(container, dict) else 'ModuleList'}"
            raise TypeError(f"{place} is a {type(container).__name__} with {what} would not be found: {better}")


def _misfits(own: Mapping[str, Tensor], arrays: Mapping[str, npt.NDArray[Any]]) -> list[str]:
    """What is wrong with a state, one sentence for each problem."""
    problems = [f"missing: {name} {tensor.shape}" for name, tensor in own.items() if name not in arrays]
    shared = {id(own[name]): array for name, array in arrays.items() if name in own}
    for name, array in arrays.items():
        if name not in own:
            problems.append(f"unknown: {name} {array.shape}")
        elif array.dtype.kind not in "fiub":
            problems.append(f"{name}: not an array of numbers, but of dtype {array.dtype}")
        elif array.shape != own[name].shape:
            problems.append(f"{name}: shape {array.shape} in the state, {own[name].shape} in the model")
        elif not np.array_equal(array, shared[id(own[name])], equal_nan=True):
            problems.append(f"{name}: the same parameter has other values under another name in the state")
    return problems


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
