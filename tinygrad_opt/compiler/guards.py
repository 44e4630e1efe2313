"""Guards: what the code of a compiled function depends on, besides the numbers in its arrays.

That is the kind of its arguments, the variables that it names, and the attributes of the modules it uses. All are
noted when a function is traced, and compared when it is called again.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from tinygrad_opt.compiler.program import fields, is_record
from tinygrad_opt.errors import CompileError
from tinygrad_opt.nn.module import Module
from tinygrad_opt.tensor import Tensor

SIMPLE = (int, float, bool, str, type(None), np.generic)  # what never changes
LIBRARIES = ("tinygrad_opt", "numpy")  # whose functions have no variables that matter
ARRAYS = (np.ndarray, np.memmap)  # others, such as masked arrays, are more than arrays

_NOTHING = object()  # where there is no item
Variable = tuple[str, Callable[[], Any], Any]  # name, how to read it, what it is bound to


def same(now: Any, then: Any) -> bool:
    """Whether a variable or an attribute is what it was: the same object, or an equal number or string."""
    return now is then or (type(now) is type(then) and isinstance(now, SIMPLE) and repr(now) == repr(then))


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
    elif isinstance(tree, dict) or is_record(tree):
        items = tree if isinstance(tree, dict) else fields(tree)
        key += type(tree), tuple(items)
        for item in items.values():
            sort_argument(item, key, arrays, nodes)
    elif isinstance(tree, (set, frozenset)):
        key += type(tree), frozenset(tree)
    elif isinstance(tree, (*SIMPLE, type, np.dtype)):
        key += type(tree), repr(tree) if isinstance(tree, float) else tree  # 0.0 == -0.0, and nan != nan
    elif hasattr(tree, "__array__"):
        raise CompileError(f"a compiled function takes arrays and Tensors; got a {type(tree).__name__}: np.asarray(x)")
    else:
        key += type(tree), id(tree)  # such as a module


# Modules, lists and dicts ---------------------------------------------------------------------------------------------


def contents(thing: Any) -> dict[Any, Any]:
    """The items of a list or a dict; the attributes of a module, without a mode or hooks that say nothing."""
    if not isinstance(thing, Module):
        return dict(thing if isinstance(thing, dict) else enumerate(thing))
    own = object.__getattribute__(thing, "__dict__")
    hooks = own.get("_hooks")
    idle = {"training": type(thing).training, "_hooks": None if hooks and (hooks.before or hooks.after) else hooks}
    return {name: value for name, value in own.items() if idle.get(name, idle) is not value}


def changes(thing: Any, before: dict[Any, Any]) -> list[str]:
    """The names of the contents that are not what they were."""
    now, form = contents(thing), "{}.{}" if isinstance(thing, Module) else "{}[{!r:.40}]"
    changed = (n for n in {**before, **now} if not same(now.get(n, _NOTHING), before.get(n, _NOTHING)))
    return [form.format(type(thing).__name__, name) for name in changed]


def put_back(thing: Any, before: dict[Any, Any]) -> None:
    """Give it the contents that it had."""
    if isinstance(thing, list):
        thing[:] = before.values()
    else:
        items = object.__getattribute__(thing, "__dict__") if isinstance(thing, Module) else thing
        items.clear()
        items.update(before)


# Variables -----------------------------------------------------------------------------------------------------------


def variables(function: Any, seen: set[Any]) -> Iterator[Variable]:
    """The variables that a function names, or a function that it names, and the defaults of its arguments."""
    while isinstance(function, (partial, types.MethodType)):
        function = function.func if isinstance(function, partial) else function.__func__
    wrapped = vars(function).get("__wrapped__") if hasattr(function, "__dict__") else None
    if wrapped is not None:
        yield from variables(wrapped, seen)
    code = _code(function)
    if code is None or id(function) in seen:
        return
    seen.add(id(function))
    known = function.__globals__
    readers: dict[str, Callable[[], Any]] = {name: partial(known.get, name) for name in _names(code) if name in known}
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    readers |= {name: partial(_content, cell) for name, cell in cells}
    given = [name for name in ("__defaults__", "__kwdefaults__") if getattr(function, name)]
    readers |= {f"{name} of {function.__name__}": partial(getattr, function, name) for name in given}
    for name, read in readers.items():
        value = read()
        if not isinstance(value, (types.ModuleType, type, types.BuiltinFunctionType)):
            yield name, read, value
            yield from variables(value, seen)


def _code(function: Any) -> types.CodeType | None:
    """The code of a function, if it is one of the user's."""
    code = getattr(function, "__code__", None)
    return code if isinstance(code, types.CodeType) and not _is_ours(function) else None


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
    names = ["forward"]
    places = [object.__getattribute__(module, "__dict__"), *map(vars, type(module).__mro__)]
    for name in names:  # they become more
        for thing in (place[name] for place in places if name in place):
            function = getattr(thing, "fget", None) or getattr(thing, "__func__", thing)
            code = _code(function)
            if code is not None:
                names += [n for n in dict.fromkeys(_names(code)) if n not in names]
                yield function


def _is_ours(function: Any) -> bool:
    return (function.__module__ or "").partition(".")[0] in LIBRARIES


def reachable(things: list[Any]) -> list[Any]:
    """What can be reached from a function and its arguments, outer things first."""
    seen: dict[int, Any] = {}
    functions: set[Any] = set()
    waiting = things
    while waiting and len(seen) < 10_000:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, (type, types.ModuleType, Tensor, np.ndarray)):
            continue
        seen[id(thing)] = thing
        if isinstance(thing, (list, tuple, dict)):
            waiting += list(thing.values() if isinstance(thing, dict) else thing)[:1000]
        elif isinstance(thing, partial):
            waiting += [thing.func, thing.args, thing.keywords]
        elif isinstance(thing, types.MethodType):
            waiting += [thing.__self__, thing.__func__]
        elif isinstance(thing, types.FunctionType):
            waiting += [value for *_, value in variables(thing, functions)]
        elif hasattr(thing, "__dict__") and (isinstance(thing, Module) or not _is_ours(type(thing))):
            waiting.append(vars(thing))
    return [*seen.values()]
