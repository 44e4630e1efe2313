"""Tracing: run a function once on arrays that remember the calls made on them, and write the calls down as a Program.

Such an array is a Tracer. It implements NumPy's protocols, as Tensor does, and sits inside Tensors, where arrays
do otherwise: so the function, the layers, the backward walk of ``graph.py`` and the gradient rules run on it as they
are. A Tracer also has a sample, the array itself in this one run, which tells the shape and dtype of every result.

What else the function does, `watch.py` looks after.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Any, NoReturn

import numpy as np

from tinygrad_opt import graph
from tinygrad_opt.compiler.guards import SIMPLE
from tinygrad_opt.compiler.program import Call, Function, Program, Value, leaves_of, replaced
from tinygrad_opt.compiler.watch import Watch, held, is_tracing, running
from tinygrad_opt.errors import CompileError
from tinygrad_opt.graph import Node, backpropagate
from tinygrad_opt.rules import elementwise, shaping
from tinygrad_opt.rules.registry import UFUNC_METHODS, name_of
from tinygrad_opt.tensor import Tensor, _wrap

NUMPY, RULES = os.path.dirname(np.__file__), os.path.dirname(shaping.__file__)
ABSTRACT_CLASSES = (abc.__file__, abc.ABCMeta.__instancecheck__.__code__.co_filename)

# Questions about shapes and dtypes are answered while tracing.
STATIC = {np.shape, np.ndim, np.size, np.result_type, np.can_cast, np.iscomplexobj, np.isrealobj, np.may_share_memory}
STATIC |= {np.zeros_like, np.ones_like, np.empty_like}
TEXT = {np.array2string, np.array_repr, np.array_str}
# The shape of the result depends on values: of any argument, or of the one of this number or name.
SHAPED_BY_ANY = {np.nonzero, np.flatnonzero, np.argwhere, np.unique, np.trim_zeros, np.bincount, np.intersect1d}
SHAPED_BY_ANY |= {np.setxor1d, np.setdiff1d, np.union1d, np.unique_values, np.unique_counts, np.unique_inverse}
SHAPED_BY_ANY |= {np.unique_all}
SHAPED_BY: dict[Any, tuple[int, str]] = {np.compress: (0, "condition"), np.extract: (0, "condition")}
SHAPED_BY |= {np.repeat: (1, "repeats"), np.delete: (1, "obj"), np.insert: (1, "obj")}
IN_PLACE = {np.copyto, np.put, np.place, np.putmask, np.put_along_axis, np.fill_diagonal}

# Methods of ufuncs, with what they are in NumPy; and the other way round: the same without the Python code around it.
KNOWN_AS = {getattr(ufunc, method): function for (ufunc, method), function in UFUNC_METHODS.items()}
CHEAPER = {function: method for method, function in KNOWN_AS.items() if method.__name__ == "reduce"}
CHEAPER |= {np.amax: np.maximum.reduce, np.amin: np.minimum.reduce}


class Tracer(np.lib.mixins.NDArrayOperatorsMixin):
    """An array that remembers the calls made on it."""

    __slots__ = ("sample", "tracing", "value")
    base = None  # to everybody it is an array that owns its memory

    def __init__(self, tracing: Tracing, value: Value, sample: Any) -> None:
        self.tracing, self.value, self.sample = tracing, value, sample

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """For ``isinstance`` in the function that is traced it is what it stands for: an array."""
        return Tracer if _file_of_caller(ABSTRACT_CLASSES).startswith(graph.LIBRARIES) else type(self.sample)

    shape, ndim, size, dtype = (property(attrgetter(f"sample.{name}")) for name in ("shape", "ndim", "size", "dtype"))
    T, real, imag = (property(function, doc="As that of an array.") for function in (np.transpose, np.real, np.imag))
    mT = property(lambda self: np.swapaxes(self, -1, -2))  # noqa: N815 - ndarray's name

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(isinstance(x, Tensor) for x in inputs):
            return NotImplemented  # the Tensor takes it
        if _file_of_caller((NUMPY,)).startswith(RULES):  # whose code changes nothing but arrays that it has just made
            kwargs.pop("out", None)
        return self.tracing.record(ufunc if method == "__call__" else getattr(ufunc, method), inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if any(issubclass(kind, Tensor) for kind in (*types, *map(type, args))):
            return NotImplemented
        if getattr(function, "inline", False):
            if function.prepare is not None:
                kwargs = {**kwargs, "prepared": function.prepare(*args, **kwargs)}
            return function.forward(*args, **kwargs)
        return self.tracing.record(function, args, kwargs)

    flatten = functools.partialmethod(np.ravel)

    def __getattr__(self, name: str) -> Any:
        """A method of ndarray: the function of NumPy of the same name."""
        if name in ("sort", "partition", "resize", "fill"):
            _refuse(f"x.{name}()", f"changes an array in place, which is not recorded: use np.{name}")
        function = getattr(np, name, None) if hasattr(np.ndarray, name) and not name.startswith("_") else None
        if not callable(function):
            raise AttributeError(f"an array has no {name!r} while its function is compiled", name=name, obj=self)
        return functools.partial(function, self)

    def __getitem__(self, index: Any) -> Any:
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, Tracer) and part.dtype == bool for part in parts):
            _refuse("x[mask]", "has a shape that depends on values: use np.where(mask, x, 0)")
        return self if parts == () else self.tracing.record(shaping.getitem, (self, index), {})

    def __len__(self) -> int:
        return len(self.sample)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        """The values in another dtype."""
        if np.dtype(dtype) == self.dtype:
            return self
        return self.tracing.record(elementwise.astype, (self, np.dtype(dtype)), {})

    def reshape(self, *shape: Any, order: str = "C") -> Any:
        """The shape as one tuple or as several integers."""
        return np.reshape(self, shape[0] if len(shape) == 1 else shape, order=order)  # type: ignore[call-overload]

    def transpose(self, *axes: Any) -> Any:
        """The axes as one tuple or as several integers, reversed when there are none."""
        return np.transpose(self, (axes[0] if len(axes) == 1 else axes) or None)

    def copy(self, order: str = "C") -> Tracer:
        """Itself: nothing changes it."""
        return self

    def __repr__(self) -> str:
        return f"<a {self.dtype} array of shape {self.shape}, known when the compiled function runs>"

    # What asks for the value ------------------------------------------------------------------------------------------

    def __bool__(self) -> bool:
        _refuse("if, while, and, or, not", "would be decided once for all calls: use np.where")

    def __float__(self, *_: Any) -> float:
        _refuse("float(), int() or item()", "would be the number of the first call for all calls: keep the array")

    __int__ = __index__ = __complex__ = __round__ = item = tolist = __contains__ = __float__
    __format__ = __float__  # type: ignore[assignment]

    def __array__(self, *_: Any, **__: Any) -> Any:
        _refuse(
            "np.asarray(x), or an array indexed with x,",
            "would be the array of the first call for all calls: use x as it is, and np.take(array, x, axis=0)",
        )

    def __setitem__(self, index: Any, value: Any) -> None:
        _refuse("an assignment to elements", "is not recorded: build the array with np.where or np.concatenate")

    def __reduce__(self) -> Any:
        _refuse("a copy", "would not be recorded: use x + 0")


def _refuse(what: str, why: str) -> NoReturn:
    error = CompileError(
        f"{what} of an array that is known only when the compiled function runs {why}, or leave this part "
        f"uncompiled\n{graph.users_line()}"
    )
    if is_tracing():
        running[-1].refused = error
    raise error


def _file_of_caller(between: tuple[str, ...]) -> str:
    """The file whose code uses a Tracer: the one that calls us, or one that calls the files ``between``."""
    frame: Any = sys._getframe(2)
    while frame.f_code.co_filename.startswith(between):  # they act on behalf of who calls them
        frame = frame.f_back
    return str(frame.f_code.co_filename)


# ---------------------------------------------------------------------------------------------------------------------


class Tracing(Watch):
    """One run of a function on Tracers: the calls that it has made so far."""

    def __init__(self, things: Iterable[Any] = ()) -> None:
        self.program = Program()
        self.backward = False
        self.sources: list[Any] = []  # what each of the gradients belongs to: the number of an input, or a Tensor
        super().__init__(things)

    def stand_in(self, tensor: Tensor, array: Any) -> Tracer:
        """A Tracer for what a Tensor holds, which is read at every call."""
        tracer = self.input(tensor._name or "tensor", array)
        self.program.bound[tracer.value] = tensor
        return tracer

    def input(self, name: str, array: Any) -> Tracer:
        """A Tracer for an array that is given when the program runs."""
        return Tracer(self, Value(name, array), array)

    def record(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a call on the samples, and write it down."""
        if function in STATIC:
            args, kwargs = replaced((args, kwargs), _sample)
            return function(*args, **kwargs)
        if function in TEXT:
            return repr(args[0])
        self._check(function, args, kwargs)
        if function in CHEAPER and len(args) == 1:
            function, kwargs = CHEAPER[function], {"axis": None, **kwargs}
            kwargs = {name: value for name, value in kwargs.items() if name != "keepdims" or value}
        plain_args, plain_kwargs = replaced((args, kwargs), _sample)
        inner, options = replaced((args, kwargs), _value)
        call = Call(function, inner, options, self.backward)
        with self.drawing(args) if not call.pure else contextlib.nullcontext():
            result = function(*plain_args, **plain_kwargs)
        name, of = KNOWN_AS.get(function, function).__name__.strip("_<>"), None
        if function is np.transpose and len(args) == 1 and not kwargs and isinstance(args[0], Tracer):
            name, of = "{}_T", args[0].value

        def traced(leaf: Any) -> Any:
            if not isinstance(leaf, (np.ndarray, np.generic)):
                _refuse(name_of(function), f"gives {leaf!r:.40}, no array, which would stay the same for all calls")
            return Tracer(self, Value(name, leaf, of), leaf)

        only_checks = result is None and not call.pure
        tracers = () if only_checks else replaced(result, traced)
        call.result = replaced(tuple(tracers) if isinstance(tracers, list) else tracers, _value)
        for operand, part in itertools.product(_tracers((args, kwargs)), leaves_of(result)):
            if np.may_share_memory(operand.sample, part):
                call.shares.append(operand.value)
        self.program.calls.append(call)
        return None if only_checks else tracers

    def _check(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Refuse what no program can do."""
        number, name = SHAPED_BY.get(function, (0, ""))
        by_one = name and _tracers([args[number : number + 1], kwargs.get(name)])
        if by_one or function in SHAPED_BY_ANY or (function is np.where and len(args) == 1):
            _refuse(name_of(function), "has a shape that depends on values: use np.where(condition, x, 0)")
        orders = {arg for arg in (*args, *kwargs.values()) if isinstance(arg, str)}
        if function in (np.ravel, np.reshape) and orders & {"A", "K"}:
            _refuse(f'{name_of(function)} with order="A" or "K"', 'depends on how its memory lies: use order="C"')
        if function in IN_PLACE or name_of(function).endswith(".at") or kwargs.get("out") is not None:
            _refuse(name_of(function), "changes an array in place (as out=, +=), which is not recorded: make a new one")

    # The result ------------------------------------------------------------------------------------------------------

    def makes(self, leaf: Any) -> bool:
        """Whether a part of the result is made anew at each call: all but numbers, and Tensors that were there."""
        return isinstance(leaf, (Tracer, np.ndarray)) or (isinstance(leaf, Tensor) and leaf in self.made)

    def leaks(self, container: Any) -> bool:
        """Whether something of this run is in a list or a dict."""
        return any(type(leaf) is not np.ndarray and self.makes(leaf) for leaf in leaves_of(container))

    def outputs(self, result: Any) -> list[Any]:
        """The arrays and Tensors of a result that the program computes."""
        leaves = leaves_of(result)
        for leaf in leaves:
            if not isinstance(leaf, (Tracer, np.ndarray, Tensor, *SIMPLE)):
                raise CompileError(
                    "a compiled function returns arrays, Tensors and numbers, in lists, tuples and dicts; this one "
                    f"returns a {type(leaf).__name__}"
                )
        return [leaf for leaf in leaves if self.makes(leaf)]

    # The way back -----------------------------------------------------------------------------------------------------

    def walk_back(self, walk: Function, roots: Iterable[tuple[Node, Any]], **options: Any) -> Any:
        """The walk of ``graph.py``, for a derivative that the function itself takes."""
        roots = list(roots)
        if options.get("lift") is None:  # else the rules run on Tensors, to be differentiated again
            self.prepare([node for node, _ in roots])
        return walk(roots, **options)

    def prepare(self, nodes: list[Node]) -> list[Node]:
        """Make the calls before ``nodes`` ready for the backward walk, name their results, and find the leaves."""
        seen: set[Node] = set()
        waiting: list[Node | None] = [*nodes]
        while waiting:
            node = waiting.pop()
            if node is not None and node not in seen:
                seen.add(node)
                waiting += node.parents
                if node.op is not None and not isinstance(node.op, _Careful):
                    self.rename(node.out, node.op.name.rpartition(".")[2])
                    node.op = _Careful(node.op)
        return sorted((node for node in seen if node.op is None), key=lambda node: node.index)

    def rename(self, result: Any, name: str, of: Value | None = None) -> None:
        """Give a better name to what a call has computed."""
        if isinstance(result, Tracer) and result.value not in self.program.known:
            result.value.name, result.value.of = name, of


def trace(tracing: Tracing, function: Function, args: Any, kwargs: Any, names: list[str]) -> Any:
    """Trace ``function(*args, **kwargs)``, and give back what it returned.

    ``names`` are those of the arrays and Tensors among the arguments, in order.
    """
    program, order = tracing.program, iter(names)
    sources: dict[Node, Any] = {}  # leaf -> the number of the input, or the Tensor, that it belongs to

    def given(leaf: Any) -> Any:
        if not isinstance(leaf, (np.ndarray, np.generic, Tensor)):
            return leaf
        tracer = tracing.input(next(order), held(leaf) if isinstance(leaf, Tensor) else leaf)
        program.inputs.append(tracer.value)
        if not isinstance(leaf, Tensor):
            return tracer
        tensor = _wrap(tracer, None).requires_grad_(leaf._node is not None)
        tracing.given.add(tensor)
        if tensor._node is not None:
            sources[tensor._node] = len(program.inputs) - 1
        return tensor

    with tracing.on(), np.errstate(all="ignore"):  # the run of the program will warn
        inner, options = replaced((args, kwargs), given)
        tracing.start = graph.record(None, None, {}, None, ()).index
        result = function(*inner, **options)
        if tracing.refused is not None:  # and the function has gone on, with something else
            raise tracing.refused
        tracing.check_draws()
        outputs = tracing.outputs(result)
        program.updates = [_value(held(tensor)) for tensor in tracing.assigned]
        nodes = [y._node for y in outputs if isinstance(y, Tensor) and y._node is not None]
        sources |= {tensor._node: tensor for tensor in tracing.captured if tensor._node is not None}
        leaves = [leaf for leaf in tracing.prepare(nodes) if leaf in sources]
        seeds = [tracing.input("g", np.zeros_like(node.out.sample)) for node in nodes]
        tracing.backward = True
        grads = backpropagate(zip(nodes, seeds, strict=True), inputs=leaves) if leaves else {}
        program.outputs = [_value(y._data if isinstance(y, Tensor) else y) for y in outputs]
    for leaf, gradient in grads.items():
        holder = leaf.out if isinstance(leaf.out, Tracer) else tracing.captured[sources[leaf]]
        tracing.rename(gradient, "d_{}", holder.value)
    program.seeds = [seed.value for seed in seeds]
    program.gradients = [_value(gradient) for gradient in grads.values()]
    tracing.sources = [sources[leaf] for leaf in grads]
    return result


class _Careful:
    """An operation with rules that are recorded as one call where they look at values, and cannot be traced."""

    def __init__(self, op: Any) -> None:
        self.op, self.rules = op, self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.op, name)

    def __getitem__(self, position: int) -> Any:
        rule = self.op.rules[position]

        @functools.wraps(rule)
        def careful(g: Any, out: Any, *values: Any, **options: Any) -> Any:
            tracing: Any = running[-1]
            calls, refused = tracing.program.calls, tracing.refused
            before = len(calls)
            try:
                result = rule(g, out, *values, **options)
            except CompileError:
                tracing.refused = refused
                del calls[before:]
                result = tracing.record(rule, (g, out, *values), options)
            if isinstance(values[position], Tracer) and len(calls) > before:
                tracing.rename(result, "d_{}", values[position].value)
            return result

        return careful


def _sample(leaf: Any) -> Any:
    return leaf.sample if isinstance(leaf, Tracer) else leaf


def _value(leaf: Any) -> Any:
    return leaf.value if isinstance(leaf, Tracer) else leaf


def _tracers(tree: Any) -> list[Tracer]:
    return [leaf for leaf in leaves_of(tree) if isinstance(leaf, Tracer)]
