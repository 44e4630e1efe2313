"""The table of gradient rules: NumPy function -> one vector-Jacobian product (vjp) per argument.

This file holds the empty table and the two functions that fill it; the other files of this folder fill it.
A rule is ``rule(g, out, *inputs, **options)``: it takes the gradient ``g`` of a loss with respect to the result
``out`` and returns the gradient with respect to one input. Rules are plain NumPy calls. Nothing in this folder
knows ``Tensor``: NumPy itself hands a call over to whoever implements its protocols, so the same rule runs on
arrays (a first derivative) and on Tensors (a derivative that can be differentiated again).

Two conventions keep the rules short:

* A rule may return a gradient in the shape of ``out``: the backward walk sums it down to the shape of the input.
* A parameter whose name starts with ``_`` is not read by the rule, so changing that value does no harm.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

Rule = Callable[..., Any]


class EachArgument:
    """The rules of a function with any number of inputs: one ``rule(position, g, out, *inputs)`` for all."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def __getitem__(self, position: int) -> Rule:
        return functools.partial(self.rule, position)


class Op:
    """One row of the table: a differentiable function, what runs it on arrays, and its rules."""

    __slots__ = ("forward", "function", "name", "options", "vjps")

    def __init__(self, function: Callable[..., Any], vjps: tuple[Rule | None, ...] | EachArgument):
        self.function = function
        self.name: str = getattr(function, "__name__", repr(function))
        self.forward: Callable[..., Any] = getattr(function, "forward", function)
        self.vjps = vjps
        self.options = _option_names(vjps)

    def vjp(self, position: int) -> Rule | None:
        """The rule for the input at ``position``, or None where it has no gradient."""
        if isinstance(self.vjps, tuple) and position >= len(self.vjps):
            return None
        return self.vjps[position]

    def __repr__(self) -> str:
        return f"Op({self.name})"


TABLE: dict[Callable[..., Any], Op] = {}

NON_DIFFERENTIABLE: set[Callable[..., Any]] = set()
"""Functions that are piecewise constant or answer a question: called with Tensors they return plain arrays."""

UFUNC_METHODS: dict[tuple[Callable[..., Any], str], Callable[..., Any]] = {}
"""``(ufunc, method)`` -> the NumPy function that does the same, such as ``np.add.reduce`` -> ``np.sum``."""


def primitive(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function on arrays into one that `defvjp` can give a gradient rule.

    The result calls ``forward`` when all arguments are arrays, and otherwise asks the first argument that
    implements ``__array_function__``, just as NumPy's own functions do.

    >>> import numpy as np, tinygrad_opt as tg
    >>> @tg.primitive
    ... def cube(x):
    ...     return x * x * x
    >>> tg.defvjp(cube, lambda g, out, x: g * 3 * x * x)
    >>> x = tg.Tensor([1.0, 2.0], requires_grad=True)
    >>> cube(x).sum().backward()
    >>> x.grad
    Tensor([ 3., 12.])

    Source: NumPy enhancement proposal 18, "A dispatch mechanism for NumPy's high level array functions".
    """

    @functools.wraps(forward)
    def function(*args: Any, **kwargs: Any) -> Any:
        for arg in (*args, *kwargs.values()):
            override = getattr(type(arg), "__array_function__", None)
            if override is not None and override is not np.ndarray.__array_function__:
                result = override(arg, function, (type(arg),), args, kwargs)
                if result is not NotImplemented:
                    return result
        return forward(*args, **kwargs)

    function.forward = forward  # type: ignore[attr-defined]
    return function


def defvjp(
    function: Callable[..., Any], *rules: Rule | None, each: Rule | None = None
) -> None:
    """Give ``function`` its gradient rules, one per positional input; a later call replaces an earlier one.

    ``rule(g, out, *inputs, **options)`` returns the gradient with respect to its input, in the shape of the
    input or in a shape that broadcasting made of it. None marks an input that has no gradient. A function
    with any number of inputs takes a single ``each=rule`` with ``rule(position, g, out, *inputs, **options)``.

    Raises TypeError when ``function`` or a rule is not callable, or when there is no rule at all.

    >>> import numpy as np, tinygrad_opt as tg
    >>> tg.defvjp(np.spacing, lambda g, out, x: 0 * g)
    >>> x = tg.Tensor(3.0, requires_grad=True)
    >>> np.spacing(x).backward()
    >>> x.grad.item()
    0.0
    """
    given = [rule for rule in (*rules, each) if rule is not None]
    if not callable(function) or not all(map(callable, given)):
        raise TypeError(f"defvjp takes a function and its rules, all callable; got {function!r}, {rules!r}")
    if not given or (rules and each is not None):
        raise TypeError("defvjp needs one rule per input, or a single each=rule for all of them")
    TABLE[function] = Op(function, rules if each is None else EachArgument(each))


def unread_inputs(rule: Rule, count: int) -> set[int]:
    """Which of ``count`` inputs ``rule`` does not read, by position; -1 stands for ``out``."""
    names: list[str] = []
    for parameter in inspect.signature(rule).parameters.values():
        names += [parameter.name] * (count if parameter.kind is parameter.VAR_POSITIONAL else 1)
    return {position - 2 for position, name in enumerate(names) if name.startswith("_")}


def _option_names(vjps: tuple[Rule | None, ...] | EachArgument) -> frozenset[str] | None:
    """The keyword names that all rules of a function understand; None when they take any."""
    rules = [vjps.rule] if isinstance(vjps, EachArgument) else [rule for rule in vjps if rule]
    parameters = [inspect.signature(rule).parameters for rule in rules]
    if any(p.kind is p.VAR_KEYWORD for names in parameters for p in names.values()):
        return None
    return frozenset.intersection(*(frozenset(names) for names in parameters))
