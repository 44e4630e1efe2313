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


class Op:
    """One row of the table: a differentiable function, what runs it on arrays, and its rules."""

    __slots__ = ("each", "forward", "function", "inputs", "name", "options", "prepare", "rules")

    def __init__(self, function: Callable[..., Any], rules: tuple[Rule | None, ...], each: Rule | None):
        self.function = function
        self.name = name_of(function)
        self.forward: Callable[..., Any] = getattr(function, "forward", function)
        self.prepare: Callable[..., Any] | None = getattr(function, "prepare", None)
        self.rules = rules
        self.inputs = len(rules)
        self.each = each
        self.options = _option_names([rule for rule in (*rules, each) if rule is not None])

    def rule(self, position: int) -> Rule | None:
        """The rule for the input at ``position``, or None where it has no gradient."""
        if position < len(self.rules):
            return self.rules[position]
        return self.each and functools.partial(self.each, position)

    def __repr__(self) -> str:
        return f"Op({self.name})"


def name_of(function: Callable[..., Any]) -> str:
    """What a user calls ``function``: ``np.linalg.svd``, ``np.add.at``, or the bare name of a function of ours."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, np.ufunc):
        return f"np.{owner.__name__}.{function.__name__}"
    name: str = getattr(function, "__name__", repr(function))
    module = "numpy" if isinstance(function, np.ufunc) else getattr(function, "__module__", None) or ""
    return f"np{module.removeprefix('numpy')}.{name}" if module.split(".")[0] == "numpy" else name


TABLE: dict[Callable[..., Any], Op] = {}

NON_DIFFERENTIABLE: set[Callable[..., Any]] = set()
"""Functions that are piecewise constant or answer a question: called with Tensors they return plain arrays."""

UFUNC_METHODS: dict[tuple[Callable[..., Any], str], Callable[..., Any]] = {}
"""``(ufunc, method)`` -> the NumPy function that does the same, such as ``np.add.reduce`` -> ``np.sum``."""


def primitive(
    forward: Callable[..., Any] | None = None, *, prepare: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """Make a function on arrays into one that `defvjp` can give a gradient rule.

    The result calls ``forward`` when all arguments are arrays, and otherwise asks the first argument that
    implements ``__array_function__``, just as NumPy's own functions do.

    ``prepare`` computes, from the same arguments, a value that ``forward`` and the rules both need: it is computed
    once, and both get it as the keyword argument ``prepared``.

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

    if forward is None:
        return functools.partial(primitive, prepare=prepare)

    @functools.wraps(forward)
    def function(*args: Any, **kwargs: Any) -> Any:
        for arg in (*args, *kwargs.values()) if kwargs else args:
            if arg.__class__ is np.ndarray:
                continue
            override = getattr(arg.__class__, "__array_function__", None)
            if override is not None:
                result = override(arg, function, (arg.__class__,), args, kwargs)
                if result is not NotImplemented:
                    return result
        if prepare is not None:
            kwargs["prepared"] = prepare(*args, **kwargs)
        return forward(*args, **kwargs)

    function.forward, function.prepare = forward, prepare  # type: ignore[attr-defined]
    return function


def defvjp(function: Callable[..., Any], *rules: Rule | None, each: Rule | None = None) -> None:
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
    TABLE[function] = Op(function, rules, each)


def unread_inputs(rule: Rule, count: int) -> set[int]:
    """Which of ``count`` inputs ``rule`` does not read, by position; -1 stands for ``out``."""
    names: list[str] = []
    for parameter in inspect.signature(rule).parameters.values():
        names += [parameter.name] * (count if parameter.kind is parameter.VAR_POSITIONAL else 1)
    return {position - 2 for position, name in enumerate(names) if name.startswith("_")}


def _option_names(rules: list[Rule]) -> frozenset[str] | None:
    """The keyword names that all rules of a function understand; None when they take any."""
    parameters = [inspect.signature(rule).parameters for rule in rules]
    if any(p.kind is p.VAR_KEYWORD for names in parameters for p in names.values()):
        return None
    return frozenset.intersection(*(frozenset(names) for names in parameters))
