"""Program: the calls that a traced function made, as data. `trace.py` writes it, `passes.py` shortens it.

A program is a list of calls in the order in which they run: those of the forward pass, then those of the backward
pass. A call is a NumPy function (or one of the library's) and its arguments: Values, or constants as they are.
A Value is an array that is known when the program runs: an input, or the result of a call. Nothing ever changes a
Value, so one that is equal to another can always take its place.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

Function = Callable[..., Any]


class Value:
    """An array that is known when the program runs: what is known before is its shape, dtype, bytes, and kind.

    Arrays of the same kind can take the place of each other: they have the same shape and dtype, and lie in one order.
    ``of`` is the Value that the name refers to: "d_{}" is the gradient of that one, "{}_T" its transpose.
    """

    def __init__(self, name: str, sample: Any, of: Value | None = None) -> None:
        self.name, self.of = name, of
        self.shape: tuple[int, ...] = sample.shape
        self.dtype: np.dtype[Any] = sample.dtype
        self.nbytes: int = sample.nbytes
        self.contiguous: bool = sample.flags.forc  # in one order or the other
        self.kind = (self.shape, self.dtype, sample.flags.c_contiguous, sample.flags.f_contiguous)

    def __repr__(self) -> str:
        return f"{self.name} {self.dtype}{list(self.shape)}"


class Call:
    """One call of ``function``; ``result`` is a Value, or a tuple of them."""

    def __init__(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any], backward: bool) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.backward = backward
        self.result: Any = None
        self.shares: list[Value] = []  # the operands whose memory the result is a view of

    @property
    def operands(self) -> list[Value]:
        """The Values among the arguments."""
        return values_in((self.args, self.kwargs))

    @property
    def results(self) -> tuple[Value, ...]:
        """The result, or the results."""
        return self.result if isinstance(self.result, tuple) else (self.result,)

    @property
    def pure(self) -> bool:
        """Whether nothing but the result is wanted of it: it neither draws random numbers nor checks anything."""
        return getattr(self.function, "pure", True)


class Program:
    """The calls, what goes in, and what comes out.

    ``inputs`` are the arrays given at each call, ``seeds`` the gradients of the outputs given to the backward pass;
    ``bound`` maps Values to the Tensors, such as parameters, that they are read from. Of what comes out,
    ``outputs`` and ``updates`` (new values of Tensors that the function assigns) belong to the forward pass and
    ``gradients`` to the backward pass.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.inputs: list[Value] = []
        self.seeds: list[Value] = []
        self.bound: dict[Value, Any] = {}
        self.outputs: list[Any] = []
        self.updates: list[Any] = []
        self.gradients: list[Any] = []
        self.history: dict[str, int] = {}  # how many calls there were after tracing, and after each pass

    @property
    def known(self) -> dict[Value, None]:
        """What goes in, in order: all Values that no call computes."""
        return dict.fromkeys((*self.bound, *self.inputs, *self.seeds))

    @property
    def wanted(self) -> list[Any]:
        """All that comes out."""
        return self.outputs + self.updates + self.gradients


def leaves_of(tree: Any) -> list[Any]:
    """What is nested in tuples, lists, dicts and dataclasses, in order."""
    # Types are asked, not ``isinstance``, in answer to which a Tracer looks who asks: that takes its time.
    if issubclass(type(tree), (tuple, list)):
        return [leaf for part in tree for leaf in leaves_of(part)]
    return leaves_of([*fields(tree).values()]) if issubclass(type(tree), dict) or is_record(tree) else [tree]


def values_in(tree: Any) -> list[Value]:
    """The Values among the leaves."""
    return [leaf for leaf in leaves_of(tree) if isinstance(leaf, Value)]


def replaced(tree: Any, new: Callable[[Any], Any]) -> Any:
    """The same nesting of tuples, lists, dicts and dataclasses, with ``new(leaf)`` in the place of every leaf."""
    if issubclass(type(tree), (tuple, list)):
        items = [replaced(item, new) for item in tree]
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    if issubclass(type(tree), dict) or is_record(tree):
        whole = copy.copy(tree)  # there may be more to it, such as a default
        put = whole.__setitem__ if issubclass(type(tree), dict) else functools.partial(object.__setattr__, whole)
        for name, value in fields(tree).items():
            put(name, replaced(value, new))
        return whole
    return new(tree)


def is_record(thing: Any) -> bool:
    """Whether something is an object of a dataclass that holds values, and no module."""
    return hasattr(type(thing), "__dataclass_fields__") and not callable(thing)


def fields(record: Any) -> dict[str, Any]:
    """The values of a dataclass, or of a dict, by name."""
    if isinstance(record, dict):
        return record
    return {name: getattr(record, name) for name in type(record).__dataclass_fields__ if hasattr(record, name)}
