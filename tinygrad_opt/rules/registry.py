"""The table of gradient rules: NumPy function -> one vector-Jacobian product (vjp) per argument.

This file holds the empty table and the functions that fill it; the other files of this folder fill it.
A rule is ``rule(g, out, *inputs, **options)``: it takes the gradient ``g`` of a loss with respect to the result
``out`` and returns the gradient with respect to one input. Rules are plain NumPy calls. Nothing in this folder
knows ``Tensor``: NumPy itself hands a call over to whoever implements its protocols, so the same rule runs on
arrays (a first derivative) and on Tensors (a derivative that can be differentiated again).

Four conventions keep the rules short:

* A rule may return a gradient in the shape of ``out``: the backward walk sums it down to the shape of the input.
* Of a parameter whose name starts with ``_`` the rule reads the shape and dtype at most, never the elements, so
  changing those in place does no harm.
* A parameter after ``*`` is passed by its NumPy name, also when the caller gave it by position.
* A parameter named ``arrays`` stands for a list of arrays, as `np.concatenate` takes; its gradient is a list too.

A function that is nothing but other functions, put together, needs no rule: a `composite` says how it is made.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

Rule = Callable[..., Any]
MOST_ARGUMENTS = 64  # of a function whose rules, one per input, have *args


class Op:
    """One row of the table: a differentiable function, what runs it on arrays, and its rules."""

    def __init__(self, function: Callable[..., Any], rules: tuple[Rule | None, ...], each: Rule | None):
        self.function = function
        self.name = name_of(function)
        inline = getattr(function, "inline", False)  # what is not has to see for itself what it is called with
        self.forward: Callable[..., Any] = function.forward if inline else function  # type: ignore[attr-defined]
        self.prepare: Callable[..., Any] | None = getattr(function, "prepare", None)
        self.inputs = len(rules) if each is None else sys.maxsize  # how many arguments may have a gradient
        self.each = each  # the one rule of all inputs, of a function that takes any number of them
        given = [_Parameters(rule, skip=2) for rule in rules if rule is not None]
        if each is not None:
            given.append(_Parameters(each, skip=3))
        # How many arguments the rules take by position; the names of the options that they all take, and of those that
        # may be handed on as they are; and the positions of lists of arrays.
        self.positional = min(len(p.positional) if p.star is None else self._most() for p in given)
        self.rules: Any = _RulePerPosition(each) if each is not None else None  # one per positional argument
        if each is None:
            self.rules = rules + (None,) * (self.positional - len(rules))
        self.options = None if any(p.any_keyword for p in given) else frozenset.intersection(*(p.names for p in given))
        self.plain_options = (self.options or frozenset()) - {"order"}
        self.lists = [i for p in given for i, name in enumerate(p.positional) if name in ("arrays", "_arrays")]

    def _most(self) -> int:
        """How many positional arguments rules with *args take: one in the place of ``out`` is not for them."""
        names = list(self.parameters)
        return sys.maxsize if self.each is not None else names.index("out") if "out" in names else MOST_ARGUMENTS

    @functools.cached_property
    def parameters(self) -> dict[str, Any]:
        """The parameters that NumPy gives the function, in order: name -> default."""
        try:
            parameters = inspect.signature(self.function).parameters.values()
        except (TypeError, ValueError):  # a function of NumPy's C code, which does not tell
            return {}
        return {p.name: p.default for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}

    def __repr__(self) -> str:
        return f"Op({self.name})"


class _RulePerPosition:
    """The rules of a function with any number of inputs: ``each`` with the position filled in."""

    def __init__(self, each: Rule) -> None:
        self.each = each

    def __getitem__(self, position: int) -> Rule:
        return functools.partial(self.each, position)


class _Parameters:
    """The names of a rule's parameters, without the first ones (``g`` and ``out``)."""

    def __init__(self, rule: Rule, skip: int) -> None:
        parameters = list(inspect.signature(rule).parameters.values())[skip:]
        self.positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        self.star = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
        self.any_keyword = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self.names = frozenset(p.name for p in parameters)


def name_of(function: Callable[..., Any]) -> str:
    """What a user calls ``function``: ``np.linalg.svd``, ``np.add.at``, or the bare name of a function of ours."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, np.ufunc):
        return f"np.{owner.__name__}.{function.__name__}"
    name: str = getattr(function, "__name__", repr(function))
    if isinstance(function, np.ufunc):  # other libraries have some too, such as scipy.special
        return f"np.{name}" if getattr(np, name, None) is function else name
    module = getattr(function, "__module__", None) or ""
    return f"np{module.removeprefix('numpy')}.{name}" if module.split(".")[0] == "numpy" else name


TABLE: dict[Callable[..., Any], Op] = {}

NON_DIFFERENTIABLE: set[Callable[..., Any]] = set()
"""Functions that are piecewise constant or answer a question: called with Tensors they return plain arrays."""

COMPOSITES: dict[Callable[..., Any], Callable[..., Any]] = {}
"""Functions that are made of others, and how: their gradients follow from those of the others."""

UFUNC_METHODS: dict[tuple[Callable[..., Any], str], Callable[..., Any]] = {}
"""``(ufunc, method)`` -> the NumPy function that does the same, such as ``np.add.reduce`` -> ``np.sum``."""


def primitive(
    forward: Callable[..., Any] | None = None,
    *,
    prepare: Callable[..., Any] | None = None,
    inline: bool = False,
    pure: bool = True,
) -> Callable[..., Any]:
    """Make a function on arrays into one that `defvjp` can give a gradient rule.

    The result calls ``forward`` when all arguments are arrays, and otherwise asks the first argument that
    implements ``__array_function__``, just as NumPy's own functions do.

    ``prepare`` computes, from the same arguments, a value that ``forward`` and the rules both need: it is computed
    once, and both get it as the keyword argument ``prepared``.

    For `compile`, the call is one step that runs as it is. ``inline`` says that it is to be taken apart instead:
    ``forward`` has to be of NumPy calls only, without ``out=`` and without decisions that depend on values. ``pure`` is
    False where the call does something besides giving its result: it draws random numbers, or raises.

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
        return functools.partial(primitive, prepare=prepare, inline=inline, pure=pure)

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
        if prepare is not None and "prepared" not in kwargs:
            kwargs["prepared"] = prepare(*args, **kwargs)
        return forward(*args, **kwargs)

    function.forward, function.prepare = forward, prepare  # type: ignore[attr-defined]
    function.inline, function.pure = inline, pure  # type: ignore[attr-defined]
    return function


def defvjp(function: Callable[..., Any], *rules: Rule | None, each: Rule | None = None) -> None:
    """Give ``function`` its gradient rules, one per positional input; a later call replaces an earlier one.

    ``rule(g, out, *inputs, **options)`` returns the gradient with respect to its input, in the shape of the
    input or in a shape that broadcasting made of it. None marks an input that has no gradient. A function
    with any number of inputs takes a single ``each=rule`` with ``rule(position, g, out, *inputs, **options)``.

    Raises TypeError when ``function`` or a rule is not callable, when there is no rule at all, or when ``function`` is
    neither NumPy's nor a `primitive`.

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
    if not (isinstance(function, np.ufunc) or hasattr(function, "forward") or name_of(function).startswith("np.")):
        raise TypeError(
            f"defvjp takes a function of NumPy, or one made by tg.primitive; {name_of(function)} is neither, so it "
            "would never look for its rules: put @tg.primitive above its definition"
        )
    TABLE[function] = Op(function, rules, each)


def composite(*functions: Callable[..., Any]) -> Callable[[Rule], Rule]:
    """Say what ``functions`` do to Tensors, by a function of the same parameters that calls others instead."""

    def register(implementation: Rule) -> Rule:
        COMPOSITES.update(dict.fromkeys(functions, implementation))
        return implementation

    return register


def reads_shapes_only(rule: Rule) -> Rule:
    """Mark a rule that hands its first input on to others, of which none reads more than shapes and dtypes."""
    rule.unread = {-1, 0}  # type: ignore[attr-defined]
    return rule


def unread_inputs(rule: Rule, count: int) -> set[int]:
    """Of which of ``count`` inputs ``rule`` does not read the elements, by position; -1 stands for ``out``."""
    if hasattr(rule, "unread"):
        return rule.unread  # type: ignore[no-any-return]
    names: list[str] = []
    for parameter in inspect.signature(rule).parameters.values():
        names += [parameter.name] * (count if parameter.kind is parameter.VAR_POSITIONAL else 1)
    return {position - 2 for position, name in enumerate(names) if name.startswith("_")}
