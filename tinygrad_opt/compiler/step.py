"""compile: a function that runs as straight-line NumPy, traced and written anew for every kind of arguments.

The result of a compiled call is a Tensor whose Node stands for the whole function: the backward walk of ``graph.py``
finds one operation there, with a rule for each of its leaves, and the rules run the generated ``backward``.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import sys
import threading
import types
import warnings
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinygrad_opt import graph, tensor
from tinygrad_opt.compiler.guards import changes, methods, reachable, same, sort_argument, variables
from tinygrad_opt.compiler.passes import simplify
from tinygrad_opt.compiler.program import Program, leaves_of, replaced
from tinygrad_opt.compiler.source import Writer, identifier
from tinygrad_opt.compiler.trace import Tracing, trace
from tinygrad_opt.compiler.watch import HookedError, is_tracing, running
from tinygrad_opt.errors import CompileError, GraphError
from tinygrad_opt.graph import Node, mode, record
from tinygrad_opt.nn.module import Module
from tinygrad_opt.rules.shaping import Bundle, unpack
from tinygrad_opt.tensor import NO_OPTIONS, Tensor, _unwrap, _wrap, apply

Function = Callable[..., Any]

MOST_PROGRAMS = 8  # that a compiled function keeps; the one that was not used for longest goes first
MOST_COMPILATIONS = 32  # before we say that this is slow
MOST_SURPRISES = 8  # how often a variable may change before we say that this is slow
OTHER_ARGUMENTS = "for arguments of other shapes, or numbers, strings and objects of other values"
OWN = 4  # values of the node of a run that belong to no leaf
_ndarray = np.ndarray


def compile(function: Function) -> CompiledFunction:
    """The same function, faster: traced once, and from then on straight-line NumPy.

    ``function`` takes arrays, Tensors, other values, and lists, tuples, dicts and dataclasses of them, and returns
    Tensors or arrays (or a nesting of them), such as a loss. Call the result in its place, and ``backward()`` on what
    that returns. It is traced anew for other shapes and dtypes, for other values of the arguments that are no arrays,
    for training and evaluation mode, and when an attribute of a module is another one, or a variable that the function,
    a function that it names, or a method of a module uses. Parameters and other Tensors are read at every call; all
    else that the function looks at is taken to stay the same.

    ``source`` is the generated code, ``report()`` says what the compiler did. Also usable as a decorator. All outputs
    have one walk back: it gives zeros to leaves that an output does not depend on, and a second walk, from another of
    the outputs, needs ``retain_graph=True`` in the first.

    Raises CompileError, at the first call, where the function needs a value to go on (``if loss > 1:``), changes arrays
    in place, leaves results behind in a list or an attribute, or draws random numbers of its own; the message names the
    line.

    >>> import numpy as np, tinygrad_opt as tg
    >>> w = tg.Tensor([1.0, 2.0], requires_grad=True, name="w")
    >>> loss_fn = tg.compile(lambda x: np.sum((x * w) ** 2))
    >>> loss = loss_fn(np.array([3.0, 4.0]))
    >>> loss.backward()
    >>> loss.item(), w.grad
    (73.0, Tensor([18., 64.]))

    Source: Griewank and Walther, "Evaluating Derivatives" (2008), section 6.2: derivatives by source transformation.
    """
    if not callable(function):
        raise TypeError(f"compile takes a function, such as one of (x, y) that returns the loss; got {function!r:.60}")
    return CompiledFunction(function)


class Report(NamedTuple):
    """What the compiler made of a function: numbers of calls, and bytes."""

    title: str
    passes: dict[str, int]  # how many calls there were after tracing, and after each pass
    forward: int  # calls in the forward pass
    backward: int
    views: int  # made once, outside of both
    buffers: int  # arrays that a step makes; the results of all other calls are written into one of these,
    bytes: int  # and their size

    def __str__(self) -> str:
        lines = [self.title, f"  {self.passes['traced']:5} calls traced"]
        for (_, before), (name, left) in itertools.pairwise(self.passes.items()):
            lines.append(f"  {left - before:5} {name}")
        lines += [
            f"  {-self.views:5} views, made once",
            f"= {self.forward + self.backward:5} calls a step: {self.forward} forward, {self.backward} backward",
            f"  {self.bytes:,} bytes in {self.buffers} arrays that are made in a step",
        ]
        return "\n".join(lines)


class CompiledFunction:
    """What `compile` returns: call it as the function itself."""

    def __init__(self, function: Function) -> None:
        functools.update_wrapper(self, function, updated=())
        self.function = function
        self._programs: list[_Compiled] = []  # the last one used first
        self._lock = threading.RLock()
        self._reasons: Counter[str] = Counter()  # how often each was one to compile

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function returns, computed by the code that fits the arguments."""
        enabled, anomaly = mode.now
        if anomaly or (running and is_tracing()):
            return self.function(*args, **kwargs)
        key: list[Any] = [enabled, tensor._default_dtype]
        arrays: list[Any] = []
        nodes: dict[int, Node | None] = {}
        for arg in args:
            if arg.__class__ is _ndarray:  # what `sort_argument` does, for the most common kind
                arrays.append(arg)
                key += _ndarray, arg.shape, arg.dtype
            else:
                sort_argument(arg, key, arrays, nodes)
        if kwargs:
            key.append("by keyword")
            sort_argument(kwargs, key, arrays, nodes)
        for compiled in self._programs:
            if compiled.key == key and compiled.fits():
                break
        else:
            compiled = self._compile(args, kwargs, key)
        if compiled is not self._programs[0]:
            self._to_front(compiled)
        if compiled.hooked:
            return self.function(*args, **kwargs)
        return compiled.run(arrays, nodes)

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        """A compiled method: the owner is its first argument."""
        return self if owner is None else types.MethodType(self, owner)

    def __reduce__(self) -> Any:
        return compile, (self.function,)

    @property
    def source(self) -> str:
        """The code that was run last; ``print(step.source)``."""
        return self._last().source

    def report(self) -> Report:
        """What the compiler did for the code that was run last; ``print(step.report())``."""
        return self._last().report

    def _last(self) -> _Compiled:
        if not self._programs:
            raise CompileError(f"{_name(self.function)} has no code yet: call it once, for it is compiled then")
        if self._programs[0].hooked:
            raise CompileError(f"{_name(self.function)} runs as it is, for it calls modules with forward hooks")
        return self._programs[0]

    def _to_front(self, compiled: _Compiled) -> None:
        with self._lock:
            programs = [compiled, *(other for other in self._programs if other is not compiled)]
            self._programs = programs[:MOST_PROGRAMS]

    def _compile(self, args: tuple[Any, ...], kwargs: dict[str, Any], key: list[Any]) -> _Compiled:
        with self._lock:
            for other in self._programs:  # another thread may have been first
                if other.key == key and other.fits():
                    return other
            changed = {name for other in self._programs if other.key == key for name in other.changed()}
            reasons = [(OTHER_ARGUMENTS, MOST_COMPILATIONS)]
            reasons += [(f"because {name} changed", MOST_SURPRISES) for name in changed]
            for reason, most in reasons:
                self._reasons[reason] += 1
                if self._reasons[reason] == most:
                    warnings.warn(
                        f"{_name(self.function)} was compiled {most} times {reason}, which is slow: pass what changes "
                        "as an argument, and that as an array or a Tensor, such as np.array(beta)",
                        stacklevel=3,
                    )
            compiled = _Compiled(self.function, args, kwargs, key)
            if not compiled.fits():
                raise CompileError(f"{_name(self.function)} changes {', '.join(compiled.changed())}, which it reads")
            self._to_front(compiled)
            return compiled

    def __repr__(self) -> str:
        return f"tinygrad_opt.compile({self.function!r})"


def _name(function: Function) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    return "the function" if name == "<lambda>" else name


# One program ---------------------------------------------------------------------------------------------------------


class _Binding:
    """A program bound to the arrays that its Tensors hold now."""

    def __init__(self, program: _Compiled) -> None:
        arrays = [t._data for t in program.bound]
        self.held = [(t, array, t._node) for t, array in zip(program.bound, arrays, strict=True)]
        self.reads = tuple(itertools.compress(arrays, program.read))
        self.parents = [*[None] * OWN, *(None if isinstance(s, int) else s._node for s in program.sources)]
        self.forward, self.backward = program.bind(*arrays)

    def holds(self) -> bool:
        """Whether the Tensors hold these arrays still, and have the same nodes."""
        return all(t._data is array and t._node is node for t, array, node in self.held)


def _kind(t: Tensor) -> tuple[Any, ...]:
    """What the code relies on: whatever else is in a Tensor is read at each call."""
    return t._data.shape, t._data.dtype, t._node is None


class _Compiled:
    """A traced function: the program as code, and what has to be as it was for the code to be right."""

    hooked = False  # whether modules with hooks are called, and so the function itself

    def __init__(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any], key: list[Any]) -> None:
        self.key = key
        # The key has the ids of objects, such as modules, which have to live as long; arrays need not.
        self.alive = replaced((args, kwargs), lambda leaf: None if isinstance(leaf, (np.ndarray, Tensor)) else leaf)
        self.date = graph.last_rebinding
        self.kinds: list[tuple[Tensor, Any]] = []  # of the Tensors that are used
        things = reachable([function, args, kwargs])
        seen: set[Any] = set()
        named = (function, *(f for thing in things if isinstance(thing, Module) for f in methods(thing)))
        self.outside = [v for f in named for v in variables(f, seen)]  # name, how to read it, what it was
        tracing = Tracing(things)
        try:
            result = trace(tracing, function, args, kwargs, _argument_names(function, args, kwargs))
        except HookedError:
            self.hooked = True
        else:
            self._write(function, tracing, result)
        self.outside += tracing.class_attributes.values()
        self.modules = [(thing, before) for thing, before in tracing.kept.values() if isinstance(thing, Module)]

    def _write(self, function: Function, tracing: Tracing, result: Any) -> None:
        """The code."""
        program, self.sources = tracing.program, tracing.sources
        self.kinds = [(t, _kind(t)) for t in program.bound.values()]
        assigned = [value for value, t in program.bound.items() if t in tracing.assigned]
        program.inputs += assigned
        self.state = [program.bound.pop(value) for value in assigned]  # read anew at each call
        self.updated = [*tracing.assigned]  # and those that get new data
        simplify(program)
        kinds = (f"{identifier(v.name)}: {v.dtype}{list(v.shape)}" for v in program.inputs)
        title = f"{_name(function)}({', '.join(kinds)})"
        writer = Writer(program, title)
        self.source, self.bind = writer.compile()
        self.report = _report(program, writer)
        self.bound = [*program.bound.values()]
        used = (x for call in program.calls if call.backward for x in call.operands)
        roots = set().union(*(writer.memory.roots[x] for x in used))
        self.read = [value in roots for value in program.bound]
        self._note_results(tracing, result)
        self.binding = _Binding(self)

    def _note_results(self, tracing: Tracing, result: Any) -> None:
        """How the outputs are given back: as arrays, Tensors, and Tensors with a gradient, nested as they were."""
        numbers = itertools.count()
        self.tensors: set[int] = set()  # the numbers of the Tensors
        self.differentiable: list[int] = []  # and of those that have gradients

        def place(leaf: Any) -> Any:
            if not tracing.makes(leaf):
                return leaf
            number = _Place(next(numbers))
            if isinstance(leaf, Tensor):
                self.tensors.add(number)
                if leaf._node is not None and self.sources:
                    self.differentiable.append(number)
            return number

        self.template = replaced(result, place)
        self.is_single = isinstance(self.template, _Place)
        self.operation = _Operation(self.sources, len(self.differentiable))
        seed = tracing.program.seeds[0] if len(self.differentiable) == 1 else None
        self.is_loss = seed is not None and seed.shape == () and not self.operation.takes_inputs
        self.operation.one = seed.dtype.type(1) if seed is not None else None

    def changed(self) -> list[str]:
        """What is not as it was, and cannot be taken up."""
        names = [name for name, read, value in self.outside if not same(read(), value)]
        names += [name for module, before in self.modules for name in changes(module, before)]
        changed = [t for t, kind in self.kinds if _kind(t) != kind]
        return names + [f"{t._name or 'a Tensor'} (shape, dtype or requires_grad)" for t in changed]

    def fits(self) -> bool:
        """Whether the code is right just now; arrays in the place of others are taken up."""
        for _, read, value in self.outside:
            if read() is not value and not same(read(), value):
                return False
        date = graph.last_rebinding
        if self.date != date:  # of any Tensor or module: is it one of ours?
            if self.changed():
                return False
            if not (self.hooked or self.binding.holds()):
                self.binding = _Binding(self)
            self.date = date
        return True

    def run(self, arrays: list[Any], nodes: dict[int, Any]) -> Any:
        """One call."""
        binding, operation = self.binding, self.operation
        for t in self.state:
            arrays.append(t._data)
        outputs, saved = binding.forward(*arrays)
        if self.updated:
            for t, new in zip(self.updated, outputs[-len(self.updated) :], strict=True):
                t._data = np.asarray(new)
            self.date = graph.note_rebinding(self.date)
        if not operation.outputs:
            return self._nested(outputs, {})
        parents = binding.parents
        if operation.takes_inputs:
            parents = [*parents[:OWN], *(nodes[s] if isinstance(s, int) else s._node for s in self.sources)]
        values = (saved, binding.reads, binding.backward, [], *operation.blanks)
        if operation.outputs == 1:
            out = np.asarray(outputs[self.differentiable[0]])
            result = _new(Result if self.is_loss else Tensor)
            result._data = out
            result._name = None
            result._node = record(operation, values, NO_OPTIONS, out, parents)  # type: ignore[arg-type]
            return result if self.is_single else self._nested(outputs, {self.differentiable[0]: result})
        bundle = Bundle(np.asarray(outputs[number]) for number in self.differentiable)
        whole = record(operation, values, NO_OPTIONS, bundle, parents)  # type: ignore[arg-type]
        parts = [apply(unpack, (_wrap(bundle, whole), i)) for i in range(len(bundle))]
        bundle.nodes = tuple(weakref.ref(part._node) for part in parts)  # type: ignore[assignment]
        return self._nested(outputs, dict(zip(self.differentiable, parts, strict=True)))

    def _nested(self, outputs: tuple[Any, ...], parts: dict[int, Tensor]) -> Any:
        """The outputs, nested as they were; ``parts`` are those with a gradient."""

        def given(leaf: Any) -> Any:
            if not isinstance(leaf, _Place):
                return leaf
            if leaf in parts:
                return parts[leaf]
            return _wrap(np.asarray(outputs[leaf]), None) if leaf in self.tensors else outputs[leaf]

        return replaced(self.template, given)


class _Place(int):
    """Where the output of this number belongs in the nesting of the result."""


def _argument_names(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    """A name for every array and Tensor among the arguments, in order."""
    parameters = {f"x{number}": arg for number, arg in enumerate(args)}
    with contextlib.suppress(TypeError, ValueError):  # it does not say
        parameters = inspect.signature(function).bind_partial(*args).arguments
    names: list[str] = []
    for name, value in (*parameters.items(), *kwargs.items()):
        names += [name for leaf in leaves_of(value) if isinstance(leaf, (np.ndarray, np.generic, Tensor))]
    return names


def _report(program: Program, writer: Writer) -> Report:
    calls = Counter(call.backward for call in program.calls if call.result not in writer.hoisted)
    arrays, passes = writer.memory.arrays, dict(program.history)
    sizes = len(arrays), sum(value.nbytes for value in arrays)
    return Report(writer.title, passes, calls[False], calls[True], len(writer.hoisted), *sizes)


# The way back --------------------------------------------------------------------------------------------------------


class _Operation:
    """A compiled function as an operation of the graph: its rules give the gradients that ``backward`` computes.

    The values of its node are what the forward pass left, the parameters' arrays that ``backward`` reads, that function
    and a place for what it returns; then nothing for each of the leaves.
    """

    name = "compiled function"
    prepare = each = None  # what else pictures ask an operation for
    function = None
    inputs = sys.maxsize
    one: Any = None  # where the way back from a loss begins

    def __init__(self, sources: list[Any], outputs: int) -> None:
        self.outputs = outputs  # of those that have gradients
        self.blanks = (None,) * len(sources)
        self.takes_inputs = any(isinstance(source, int) for source in sources)
        self.rules = [*[None] * OWN, *(self._rule(position) for position in range(len(sources)))]

    def _rule(self, position: int) -> Callable[..., Any]:
        def rule(g: Any, out: Any, saved: list[Any], reads: Any, backward: Any, found: list[Any], *blanks: Any) -> Any:
            if not found or found[0] is not g or found[1][position] is None:  # all are computed at once
                seeds = g if self.outputs > 1 else (g,)
                if any(isinstance(seed, Tensor) for seed in seeds):
                    raise GraphError(
                        "a compiled function gives first derivatives only: compile the derivative instead, such as "
                        "tg.compile(tg.grad(f)) or tg.compile(tg.hvp(f)), or use the function itself with create_graph"
                    )
                found[:] = g, [*backward(*seeds, [*saved])]
            gradient, found[1][position] = found[1][position], None  # whoever asks again gets another array
            return np.asarray(gradient)

        rule.unread = {-1, *range(2, 1000)}  # type: ignore[attr-defined]
        return rule


_new = object.__new__


class Result(Tensor):
    """The Tensor that a compiled function returns: its ``backward`` knows the way to the parameters at once."""

    __slots__ = ()

    def backward(self, gradient: Any = None, retain_graph: bool = False, create_graph: bool = False) -> None:
        """As that of every Tensor."""
        node: Any = self._node
        special = gradient is not None or create_graph or mode.now[1] or node is None or node.retain
        if special or node.values is None or graph._last_change > node.index:
            super().backward(gradient, retain_graph, create_graph)
            return
        leaves = node.parents[OWN:]
        saved, _, backward, *_ = node.values
        if retain_graph:
            saved = [*saved]
        else:
            node.values, node.parents = None, ()
        for leaf, g in zip(leaves, backward(node.op.one, saved), strict=True):
            if leaf.grad is not None:
                g = _unwrap(leaf.grad) + g
            leaf.grad = g if g.__class__ is _ndarray else np.asarray(g)
