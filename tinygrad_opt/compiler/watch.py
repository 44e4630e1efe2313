"""Watching: what a function does, in the run that is traced, besides making calls on arrays.

For as long as it runs, its thread is watched: what Tensors hold (Tracers stand in for those that were there before),
what is assigned to them and to gradients, which modules are looked at, and which random numbers are drawn. What no
program can do again is refused; what the run has changed is put back.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np

from tinygrad_opt import graph, rng
from tinygrad_opt.compiler.guards import Variable, changes, contents, put_back
from tinygrad_opt.errors import CompileError
from tinygrad_opt.graph import Node
from tinygrad_opt.nn.module import Module
from tinygrad_opt.tensor import Tensor


class HookedError(Exception):
    """A module with hooks is called: they want to see what happens in every call, so nothing is compiled."""


class Watch:
    """What a run has met so far. It may use ``things``: draw from generators, and change modules, lists and dicts."""

    stand_in: Callable[[Tensor, Any], Any]  # what the function is given in the place of the array that a Tensor holds
    leaks: Callable[[Any], bool]  # whether something of this run is in a module, a list or a dict

    def __init__(self, things: Iterable[Any] = ()) -> None:
        import random  # takes a while

        self.thread = threading.get_ident()
        self.start = 0  # the number of a node: those of Tensors that the function is given, or finds, are lower
        self.captured: dict[Tensor, Any] = {}  # the Tensors that were there, and what stands in for each
        self.made: set[Tensor] = set()  # Tensors made in this run
        self.given: set[Tensor] = set()  # those of them that stand for arguments
        self.assigned: dict[Tensor, Any] = {}  # Tensors whose data was assigned, with what they held
        self.kept: dict[int, tuple[Any, dict[Any, Any]]] = {}  # by id: modules, lists and dicts, and what was in them
        self.born: dict[int, Module] = {}  # by id: modules made in this run, if they do not come with all they have
        self.side_effects: list[str] = []  # what the function has changed in them
        self.refused: CompileError | None = None  # the function may have caught it
        self.class_attributes: dict[tuple[type, str], Variable] = {}  # those that it read
        legacy = np.random.get_bit_generator()  # type: ignore[attr-defined]
        self.shared = {legacy, rng.generator_or_default(None).bit_generator, random}  # other threads may draw from them
        self.random = {source: _state_of(source) for source in self.shared}  # generators, and their states before
        self.expected = dict(self.random)  # their states after what recorded calls drew
        for thing in things:
            self.look_at(thing)

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Watch what this thread does to Tensors and modules; afterwards everything is as it was.

        Raises where the function changed modules, lists or dicts.
        """
        with _one_at_a_time:
            running.append(self)
            before = [(owner, name, vars(owner).get(name)) for owner, name, _ in REPLACED]
            for owner, name, watched in REPLACED:
                setattr(owner, name, watched)
            try:
                yield
            finally:
                for owner, name, original in before:
                    setattr(owner, name, original) if original is not None else delattr(owner, name)
                running.pop()
                self._undo()
            if self.side_effects:
                raise CompileError(
                    f"the function sets {self.side_effects[0]}, which it would not do again at the next call: "
                    "return the value with the result"
                )

    def _undo(self) -> None:
        """Put back the data that the function assigned to Tensors, the generators it drew from, and what it keeps."""
        for tensor, array in self.assigned.items():
            _data.__set__(tensor, array)
        for source, state in self.random.items():
            if self._is_ours(source) or self.expected[source] is not state:
                source.setstate(state) if hasattr(source, "setstate") else setattr(source, "state", state)
        for thing, before in self.kept.values():
            names = changes(thing, before)
            if names and (isinstance(thing, Module) or self.leaks(thing)):
                self.side_effects += names
                put_back(thing, before)

    # Tensors and modules: ``original`` is what would be called if nobody watched --------------------------------------

    def read(self, original: Any, tensor: Tensor) -> Any:
        """What a Tensor holds, for the function: a Tracer that stands for it, if it was there before."""
        array = original(tensor)
        if tensor in self.made or not isinstance(array, np.ndarray):
            return array
        if tensor not in self.captured:
            node = tensor._node
            if node is not None and node.op is not None:
                raise CompileError(
                    f"the function uses a Tensor of shape {array.shape} that was computed outside, by {node.op.name}, "
                    f"and will be another one at the next call: pass it as an argument\n{graph.users_line()}"
                )
            self.captured[tensor] = self.stand_in(tensor, array)
        return self.captured[tensor]

    def write(self, original: Any, tensor: Tensor, new: Any) -> None:
        """The function makes a Tensor, or assigns to the ``data`` of one."""
        try:
            old = held(tensor)
        except AttributeError:  # it has just been made
            self.made.add(tensor)
        if tensor in self.given or tensor not in self.made:
            self.assigned.setdefault(tensor, old)
            constant = isinstance(new, np.ndarray)
            if tensor in self.given or tensor._node is not None or constant or new.shape != old.shape:
                raise CompileError(
                    f"the function assigns to the data of {tensor._name or 'a Tensor'}, of shape {old.shape}: a "
                    "compiled function may do so when that is no argument, no gradient is wanted of it, and the new "
                    f"array has that shape and is computed anew at each call\n{graph.users_line()}"
                )
        original(tensor, new)

    def use_gradient(self, original: Any, owner: Any, *args: Any, **options: Any) -> Any:
        """The function reads the gradient of a node, or assigns to it; or it walks back from a Tensor itself."""
        if isinstance(owner, Tensor) or owner.index < self.start:
            raise CompileError(
                "the function reads or changes gradients: compile what computes the loss, and call backward() on its "
                "result: step = tg.compile(loss_fn); loss = step(x, y); loss.backward(). For derivatives inside a "
                f"function there is tg.grad\n{graph.users_line()}"
            )
        return original(owner, *args, **options)

    def read_attribute(self, original: Any, module: Module, name: str) -> Any:
        """The function reads an attribute of a module."""
        value = original(module, name)
        self.look_at(module)
        kind = type(module)
        if (name == "training" or not hasattr(Module, name)) and getattr(kind, name, self) is value:
            self.class_attributes[kind, name] = (f"{kind.__name__}.{name}", partial(getattr, kind, name, None), value)
        if name == "_hooks" and value is not None and (value.before or value.after):
            raise HookedError
        return value

    def look_at(self, thing: Any) -> None:
        """The function may use this, such as a module, an outer one before those in it: its parameters get names."""
        if id(thing) in self.kept or id(thing) in self.born:
            return
        if isinstance(thing, Module):
            own = object.__getattribute__(thing, "__dict__")
            if self in running and not own:  # its constructor has just begun
                self.born[id(thing)] = thing
                return
            self.kept[id(thing)] = thing, contents(thing)
            self.note_generators(own.values())
            with contextlib.suppress(TypeError):
                list(thing.named_parameters())
        elif type(thing) in (list, dict):
            self.kept[id(thing)] = thing, contents(thing)
        else:
            self.note_generators([thing])

    # Random numbers ---------------------------------------------------------------------------------------------------

    def note_generators(self, values: Iterable[Any]) -> None:
        """Keep an eye on those among ``values``."""
        for source in filter(None, map(_source_of, values)):
            if source not in self.random:
                self.random[source] = self.expected[source] = _state_of(source)

    @contextlib.contextmanager
    def drawing(self, args: Iterable[Any]) -> Iterator[None]:
        """A recorded call that may draw random numbers: at the end of the run, all draws are taken back."""
        self.note_generators(args)
        self.check_draws()
        yield
        self.expected.update({source: _state_of(source) for source in self._drawn()})

    def check_draws(self) -> None:
        """Raise where random numbers were drawn that the program would not draw again."""
        if any(map(self._is_ours, self._drawn())):
            raise CompileError(
                "the function draws random numbers with NumPy or Python, which would be the same for all calls: draw "
                "them outside and pass them as an argument"
            )

    def _drawn(self) -> list[Any]:
        """The generators that are not where they are expected."""
        return [source for source, state in self.expected.items() if not _same_state(_state_of(source), state)]

    def _is_ours(self, source: Any) -> bool:
        """Whether no other thread can have drawn from a generator."""
        return source not in self.shared or threading.active_count() == 1


def _source_of(thing: Any) -> Any:
    """What a random generator draws from, which has a state; None for anything else."""
    import random  # takes a while

    if isinstance(thing, np.random.Generator):
        return thing.bit_generator
    if isinstance(thing, np.random.RandomState):
        return thing._bit_generator
    return thing if isinstance(thing, random.Random) and not isinstance(thing, random.SystemRandom) else None


def _state_of(source: Any) -> Any:
    """Where it stands."""
    return source.getstate() if hasattr(source, "getstate") else source.state


def _same_state(now: Any, then: Any) -> bool:
    """Whether two states are equal: dicts of NumPy's, or tuples of Python's."""
    return rng.equal_states(now, then) if isinstance(then, dict) else now == then


# What takes the place of attributes while a run is watched -----------------------------------------------------------

_one_at_a_time = threading.RLock()
running: list[Any] = []  # the Watch of the run that is going on


def is_tracing() -> bool:
    """Whether this thread is tracing just now."""
    return any(watch.thread == threading.get_ident() for watch in running[-1:])  # another thread may just end


def _watched(original: Any, method: str) -> Any:
    """What calls ``method`` of the Watch, which may call the original, in a thread that is tracing."""

    def call(*args: Any, **options: Any) -> Any:
        return getattr(running[-1], method)(original, *args, **options) if is_tracing() else original(*args, **options)

    return call


_data: Any = Tensor.__dict__["_data"]
_grad: Any = Node.__dict__["grad"]
held = _data.__get__  # what a Tensor holds, whoever watches

REPLACED: list[tuple[Any, str, Any]] = [
    (Tensor, "_data", property(_watched(_data.__get__, "read"), _watched(_data.__set__, "write"))),
    (Tensor, "backward", _watched(Tensor.backward, "use_gradient")),
    (Node, "grad", property(_watched(_grad.__get__, "use_gradient"), _watched(_grad.__set__, "use_gradient"))),
    (graph, "backpropagate", _watched(graph.backpropagate, "walk_back")),
    (Module, "__getattribute__", _watched(object.__getattribute__, "read_attribute")),
]
