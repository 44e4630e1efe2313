"""Guards: what the code of a compiled function depends on, besides the numbers in its arrays.

That is the kind of its arguments, the variables that it names, and the attributes of the modules it uses. All are
noted when a function is traced, and compared when it is called again.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinygrad_opt.compiler.program import fields, is_record
from tinygrad_opt.errors import CompileError
from tinygrad_opt.nn.module import Module
from tinygrad_opt.tensor import Tensor

SIMPLE = (int, float, bool, str, type(None), np.generic)  # what never changes
LIBRARIES = ("tinygrad_opt", "numpy")  # whose functions have no variables that matter
ARRAYS = (np.ndarray, np.memmap)  # others, such as masked arrays, are more than arrays
HOOKS = "forward hooks"  # among the attributes of a module

Variable = tuple[str, Callable[[], Any], Any]  # name, how to read it, what it is bound to


def same(now: Any, then: Any) -> bool:
    """Whether a variable or an attribute is what it was: the same object, or an equal number or string."""
    return now is then or (type(now) is type(then) and isinstance(now, SIMPLE) and repr(now) == repr(then))


def same_items(now: Any, then: Any) -> bool:
    """Whether a list, or a dict, has the items that it had."""
    if isinstance(now, dict):
        return [*now] == [*then] and same_items([*now.values()], [*then.values()])
    return len(now) == len(then) and all(new is old for new, old in zip(now, then, strict=True))


def sort_argument(tree: Any, key: list[Any], arrays: list[Any], nodes: dict[int, Any]) -> None:
    """Sort an argument: its kind goes to the key, its arrays and the nodes of its Tensors to where they belong."""
    if isinstance(tree, Tensor):
        nodes[len(arrays)] = tree._node
        arrays.append(tree._data)
        key += Tensor, tree._data.shape, tree._data.dtype, tree._node is None
    elif type(tree) in ARRAYS or isinstance(tree, np.generic):
        arrays.append(tree)
        key += np.ndarray if isinstance(tree, np.ndarray) else np.generic, tree.shape, tree.dtype
    elif isinstance(tree, (list, tuple)):
        key += type(tree), len(tree)
        for item in tree:
            sort_argument(item, key, arrays, nodes)
    elif isinstance(tree, dict):
        key += type(tree), *tree
        for item in tree.values():
            sort_argument(item, key, arrays, nodes)
    elif is_record(tree):
        key.append(type(tree))
        sort_argument(fields(tree), key, arrays, nodes)
    elif isinstance(tree, (set, frozenset)):
        key += type(tree), frozenset(tree)
    elif isinstance(tree, (*SIMPLE, type, np.dtype)):
        key += type(tree), repr(tree) if isinstance(tree, float) else tree  # 0.0 == -0.0, and nan != nan
    elif hasattr(tree, "__array__"):
        raise CompileError(f"a compiled function takes arrays and Tensors; got a {type(tree).__name__}: np.asarray(x)")
    else:
        key += type(tree), _Itself(tree)  # such as a module


class _Itself:
    """An object that is equal to nothing but itself."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and other.thing is self.thing

    __hash__ = None  # type: ignore[assignment]


# Modules -------------------------------------------------------------------------------------------------------------


def attributes(module: Module) -> dict[str, Any]:
    """The attributes of a module, and whether it has hooks."""
    training, hooks, own = (object.__getattribute__(module, name) for name in ("training", "_hooks", "__dict__"))
    return {"training": training, **own, HOOKS: hooks is not None and bool(hooks.before or hooks.after)}


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The names of the attributes that are not what they were."""
    return [n for n in {**before, **now} if n not in before or n not in now or not same(now[n], before[n])]


# Variables -----------------------------------------------------------------------------------------------------------


def variables(function: Any, seen: set[Any]) -> Iterator[Variable]:
    """The variables that a function names, or a function that it names, and the defaults of its arguments."""
    while isinstance(function, (functools.partial, types.MethodType)):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    own = getattr(function, "__dict__", None)
    if isinstance(own, dict) and "__wrapped__" in own:
        yield from variables(own["__wrapped__"], seen)
    code = getattr(function, "__code__", None)
    if not isinstance(code, types.CodeType) or id(function) in seen or _is_ours(function):
        return
    seen.add(id(function))
    known = function.__globals__
    readers: dict[str, Callable[[], Any]] = {n: functools.partial(known.get, n) for n in _names(code) if n in known}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        readers[name] = functools.partial(_content, cell)
    for name in ("__defaults__", "__kwdefaults__"):
        if getattr(function, name):
            yield f"{name} of {function.__name__}", functools.partial(getattr, function, name), getattr(function, name)
    for name, read in readers.items():
        value = read()
        if not isinstance(value, (types.ModuleType, type, types.BuiltinFunctionType)):
            yield name, read, value
            yield from variables(value, seen)


def _content(cell: types.CellType) -> Any:
    """What a variable of an enclosing function is bound to; it may be nothing yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def methods(module: Module) -> Iterator[Any]:
    """The ``forward`` of a module, and the methods, properties and functions of its own that these name."""
    names, seen = ["forward"], set()
    places = [object.__getattribute__(module, "__dict__"), *map(vars, type(module).__mro__)]
    while names:
        name = names.pop()
        if name not in seen:
            seen.add(name)
            for thing in (place[name] for place in places if name in place):
                function = getattr(thing, "fget", None) or getattr(thing, "__func__", thing)
                code = getattr(function, "__code__", None)
                if isinstance(code, types.CodeType) and not _is_ours(function):
                    names += _names(code)
                    yield function


def _is_ours(function: Any) -> bool:
    return (function.__module__ or "").partition(".")[0] in LIBRARIES


def bits_of(thing: Any) -> Any:
    """What a random generator of NumPy draws from; None for anything else."""
    if isinstance(thing, np.random.Generator):
        return thing.bit_generator
    return getattr(thing, "_bit_generator", None) if isinstance(thing, np.random.RandomState) else None


def draws_in_python(thing: Any) -> bool:
    """Whether something is a generator of Python's own, a ``random.Random``."""
    python = sys.modules.get("random")  # it takes a while to import
    return python is not None and isinstance(thing, python.Random) and not isinstance(thing, python.SystemRandom)


def met(things: list[Any]) -> tuple[list[Any], list[Module], list[Any]]:
    """The random generators, modules, and lists and dicts that can be reached from a function and its arguments."""
    generators: list[Any] = []
    modules: list[Module] = []
    containers: list[Any] = []
    seen: dict[int, Any] = {}
    functions: set[Any] = set()
    waiting = things
    while waiting and len(seen) < 10_000:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, (type, types.ModuleType, Tensor, np.ndarray)):
            continue
        seen[id(thing)] = thing
        if bits_of(thing) is not None or draws_in_python(thing):
            generators.append(thing)
        elif isinstance(thing, Module):  # outer ones first
            modules.append(thing)
        if isinstance(thing, (list, tuple, dict)):
            waiting += list(thing.values() if isinstance(thing, dict) else thing)[:1000]
            containers += [thing] if type(thing) in (list, dict) else []
        elif isinstance(thing, functools.partial):
            waiting += [thing.func, thing.args, thing.keywords]
        elif isinstance(thing, types.MethodType):
            waiting += [thing.__self__, thing.__func__]
        elif isinstance(thing, types.FunctionType):
            waiting += [value for *_, value in variables(thing, functions)]
        elif isinstance(thing, Module):
            waiting += vars(thing).values()
        elif hasattr(thing, "__dict__") and not _is_ours(type(thing)):
            waiting.append(vars(thing))
    return generators, modules, containers
