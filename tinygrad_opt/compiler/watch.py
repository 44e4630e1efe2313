"""Watching: what a function does, in the run that is traced, besides making calls on arrays.

For as long as it runs, its thread is watched: what Tensors hold (Tracers stand in for those that were there before),
what is assigned to them and to gradients, which modules are looked at, and which random numbers are drawn. What no
program can do again is refused; what the run has changed is put back.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from tinygrad_opt import graph, rng
from tinygrad_opt.compiler.guards import HOOKS, attributes, bits_of, changes, draws_in_python, same_items
from tinygrad_opt.errors import CompileError
from tinygrad_opt.graph import Node, backpropagate
from tinygrad_opt.nn.module import Module
from tinygrad_opt.tensor import Tensor


class HookedError(Exception):
    """A module with hooks is called: they want to see what happens in every call, so nothing is compiled."""


class Watch:
    """What a run has met so far. It may draw from ``generators``, use ``modules``, and look into ``containers``."""

    def __init__(
        self, generators: Iterable[Any] = (), modules: Iterable[Module] = (), containers: Iterable[Any] = ()
    ) -> None:
        self.thread = threading.get_ident()
        self.containers = [(container, container.copy()) for container in containers]
        self.start = 0  # the number of a node: those of Tensors that the function is given, or finds, are lower
        self.captured: dict[int, tuple[Tensor, Any]] = {}  # by id: the Tensors that were there, and what stands in
        self.made: dict[int, Tensor] = {}  # Tensors made in this run
        self.given: set[int] = set()  # those of them that stand for arguments
        self.assigned: dict[int, tuple[Tensor, Any]] = {}  # Tensors whose data was assigned, with what they held
        self.modules: dict[int, tuple[Module, dict[str, Any]]] = {}  # by id, with their attributes before the run
        self.born: dict[int, Module] = {}  # those that are made in this run, if they do not come with all they have
        self.side_effects: list[str] = []  # what the function did to modules, lists and dicts
        self.refused: CompileError | None = None  # the function may have caught it
        self.class_attributes: dict[tuple[type, str], Any] = {}  # those that it read, with what they were
        legacy = np.random.get_bit_generator()  # type: ignore[attr-defined]
        self.shared = {legacy, rng.generator_or_default(None).bit_generator}
        self.random = {bits: (bits.state, bits.state) for bits in self.shared}  # state before, and as expected now
        self.drawn: set[Any] = set()  # those that recorded calls drew from
        python: Any = importlib.import_module("random")  # it takes a while to import
        self.pythons = {python: python.getstate()}  # Python's own generators
        self.note_generators(generators)
        for module in modules:
            self.look_at(module)

    def stand_in(self, tensor: Tensor, array: Any) -> Any:
        """What the function is given in the place of the array that a Tensor holds."""
        raise NotImplementedError

    def walk_back(self, roots: Iterable[tuple[Node, Any]], **options: Any) -> dict[Node, Any]:
        """A derivative that the function takes."""
        raise NotImplementedError

    def leaks(self, container: Any) -> bool:
        """Whether something of this run is in a list or a dict."""
        raise NotImplementedError

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Watch what this thread does to Tensors and modules; afterwards everything is as it was."""
        with _one_at_a_time:
            running.append(self)
            Tensor._data = property(_read_data, _write_data)  # type: ignore[misc]
            Tensor.backward = _walk_back  # type: ignore[method-assign, assignment]
            Node.grad = property(_read_gradient, _write_gradient)  # type: ignore[misc]
            graph.backpropagate = _differentiate
            Module.__getattribute__ = _read_attribute  # type: ignore[method-assign, assignment]
            try:
                yield
            finally:
                Tensor._data, Tensor.backward, Node.grad = _data, _backward, _grad  # type: ignore[misc, method-assign]
                del Module.__getattribute__
                graph.backpropagate = backpropagate
                running.pop()
                self._undo()

    def _undo(self) -> None:
        """Put back attributes, the data that the function assigned to Tensors, and the generators it drew from."""
        for tensor, array in self.assigned.values():
            _data.__set__(tensor, array)
        alone = threading.active_count() == 1
        for bits, (start, _) in self.random.items():
            if alone or bits in self.drawn or bits not in self.shared:
                bits.state = start
        if alone:
            for source, state in self.pythons.items():
                source.setstate(state)
        for module, before in self.modules.values():
            names = changes(before, attributes(module))
            if names:
                own = object.__getattribute__(module, "__dict__")
                own.clear()
                inherited = type(module).training
                own.update({n: v for n, v in before.items() if n != HOOKS and (n != "training" or v is not inherited)})
                self.side_effects += [f"sets {type(module).__name__}.{name}" for name in names]
        for container, before in self.containers:
            if not same_items(container, before) and self.leaks(container):
                self.side_effects.append(f"changes a {type(container).__name__}")
                container.clear()
                container.extend(before) if isinstance(container, list) else container.update(before)

    def check_side_effects(self) -> None:
        """Raise where the function set attributes, or changed lists and dicts; they are as they were before, then."""
        if self.side_effects:
            raise CompileError(
                f"the function {self.side_effects[0]}, which it would not do again at the next call: "
                "return the value with the result"
            )

    # Tensors and modules ----------------------------------------------------------------------------------------------

    def read(self, tensor: Tensor, array: Any) -> Any:
        """What a Tensor holds, for the function: a Tracer that stands for it, if it was there before."""
        key = id(tensor)
        if key in self.made or not isinstance(array, np.ndarray):
            return array
        if key not in self.captured:
            node = tensor._node
            if node is not None and node.op is not None:
                raise CompileError(
                    f"the function uses a Tensor of shape {array.shape} that was computed outside, by {node.op.name}, "
                    f"and will be another one at the next call: pass it as an argument\n{graph.users_line()}"
                )
            self.captured[key] = tensor, self.stand_in(tensor, array)
        return self.captured[key][1]

    def write(self, tensor: Tensor, old: Any, new: Any) -> None:
        """The function makes a Tensor, or assigns to the ``data`` of one."""
        key = id(tensor)
        if old is None:
            self.made[key] = tensor
        elif key in self.given or key not in self.made:
            self.assigned.setdefault(key, (tensor, old))
            constant = isinstance(new, np.ndarray)
            if key in self.given or tensor._node is not None or constant or new.shape != old.shape:
                raise CompileError(
                    f"the function assigns to the data of {tensor._name or 'a Tensor'}, of shape {old.shape}: a "
                    "compiled function may do so when that is no argument, no gradient is wanted of it, and the new "
                    f"array has that shape and is computed anew at each call\n{graph.users_line()}"
                )

    def use_gradient(self, node: Node | None = None) -> None:
        """The function reads the gradient of a node, or assigns to it, or forgets it; or it walks back itself."""
        if node is None or node.index < self.start:
            raise CompileError(
                "the function reads or changes gradients: compile what computes the loss, and call backward() on its "
                "result: step = tg.compile(loss_fn); loss = step(x, y); loss.backward(). For derivatives inside a "
                f"function there is tg.grad\n{graph.users_line()}"
            )

    def read_attribute(self, module: Module, name: str, value: Any) -> None:
        """The function reads an attribute of a module."""
        self.look_at(module)
        kind = type(module)
        if not hasattr(Module, name) and getattr(kind, name, self) is value:
            self.class_attributes[kind, name] = value
        if name == "_hooks" and value is not None and (value.before or value.after):
            raise HookedError

    def look_at(self, module: Module) -> None:
        """The function looks at a module, an outer one before those in it: its parameters get their names."""
        if id(module) not in self.modules and id(module) not in self.born:
            if self in running and not object.__getattribute__(module, "__dict__"):  # its constructor has just begun
                self.born[id(module)] = module
                return
            self.modules[id(module)] = module, attributes(module)
            self.note_generators(self.modules[id(module)][1].values())
            with contextlib.suppress(TypeError):
                list(module.named_parameters())

    # Random numbers ---------------------------------------------------------------------------------------------------

    def note_generators(self, values: Iterable[Any]) -> None:
        """Keep an eye on those among ``values``."""
        for value in values:
            bits = bits_of(value)
            if bits is not None:
                self.random.setdefault(bits, (bits.state, bits.state))
            elif draws_in_python(value):
                self.pythons[value] = value.getstate()

    @contextlib.contextmanager
    def drawing(self, args: Iterable[Any]) -> Iterator[None]:
        """A recorded call that may draw random numbers: at the end of the run, all draws are taken back."""
        self.note_generators(args)
        self.check_draws()
        yield
        changed = {bits for bits, (_, state) in self.random.items() if not rng.equal_states(bits.state, state)}
        self.drawn |= changed
        self.random.update((bits, (self.random[bits][0], bits.state)) for bits in changed)

    def check_draws(self) -> None:
        """Raise where random numbers were drawn that the program would not draw again."""
        alone = threading.active_count() == 1  # other threads draw from the generators that all share
        named = {bits: state for bits, state in self.random.items() if alone or bits not in self.shared}
        strange = not all(rng.equal_states(bits.state, expected) for bits, (_, expected) in named.items())
        if strange or (alone and any(source.getstate() != state for source, state in self.pythons.items())):
            raise CompileError(
                "the function draws random numbers with NumPy or Python, which would be the same for all calls: draw "
                "them outside and pass them as an argument"
            )


# What takes the place of attributes while a run is watched -----------------------------------------------------------

_data: Any = Tensor.__dict__["_data"]
_backward = Tensor.backward
_grad: Any = Node.__dict__["grad"]
_one_at_a_time = threading.RLock()
running: list[Watch] = []  # the run that is going on


def is_tracing() -> bool:
    """Whether this thread is tracing just now."""
    return any(watch.thread == threading.get_ident() for watch in running[-1:])  # another thread may just end


def _read_data(tensor: Tensor) -> Any:
    array = held(tensor)
    return running[-1].read(tensor, array) if is_tracing() else array


def _write_data(tensor: Tensor, new: Any) -> None:
    if is_tracing():
        try:
            old = held(tensor)
        except AttributeError:
            old = None
        running[-1].write(tensor, old, new)
    _data.__set__(tensor, new)


def _walk_back(tensor: Tensor, *args: Any, **options: Any) -> None:
    if is_tracing():
        running[-1].use_gradient()
    _backward(tensor, *args, **options)


def _differentiate(roots: Iterable[tuple[Node, Any]], **options: Any) -> dict[Node, Any]:
    return (running[-1].walk_back if is_tracing() else backpropagate)(roots, **options)


def _read_gradient(node: Node) -> Any:
    if is_tracing():
        running[-1].use_gradient(node)
    return _grad.__get__(node)


def _write_gradient(node: Node, gradient: Any) -> None:
    if is_tracing() and hasattr(node, "index"):  # not when it is being made
        running[-1].use_gradient(node)
    _grad.__set__(node, gradient)


def _read_attribute(module: Module, name: str) -> Any:
    value = object.__getattribute__(module, name)
    if is_tracing():
        running[-1].read_attribute(module, name, value)
    return value


def held(tensor: Tensor) -> Any:
    """What a Tensor holds, whoever watches."""
    return _data.__get__(tensor)
