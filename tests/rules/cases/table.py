"""The table of test cases: for every function with a gradient rule, the calls that its rule is checked on.

A case is a label, a function of some arrays (or Tensors in their place), and those arrays. Inputs stay away from kinks;
`test_kinks.py` looks at those. The files beside this one fill the table, one per file of rules.
"""

import functools
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from tinygrad_opt.rules.registry import COMPOSITES, TABLE, name_of

LIBRARY_FUNCTIONS = frozenset(TABLE) | frozenset(COMPOSITES)  # without those that tests and doctests add later


class Case(NamedTuple):
    label: str
    call: Callable[..., Any]
    inputs: tuple[np.ndarray, ...]
    function: Callable[..., Any]


CASES: dict[Callable[..., Any], list[Case]] = {}


def every_case(check):
    """The test ``check``, of one case, for every function: of all its cases in turn. An error names the case."""

    @pytest.mark.parametrize("cases", CASES.values(), ids=map(name_of, CASES))
    def test(cases):
        for case in cases:
            try:
                check(case)
            except BaseException as error:
                error.add_note(f"in the case {case.label}")
                raise

    test.__doc__ = check.__doc__
    return test


def draw(label, shape, low=-2.0, high=2.0):
    """Random numbers that depend only on the label."""
    return np.asarray(np.random.default_rng(zlib.crc32(label.encode())).uniform(low, high, shape))


def signed(label, shape, low=0.3, high=2.0):
    """Random numbers with both signs, none closer to zero than ``low``."""
    return draw(label, shape, low, high) * np.where(draw(label + " sign", shape) > 0, 1, -1)


def case(function, label, call, *inputs):
    """Add one case. Inputs given as shapes become random arrays."""
    arrays = tuple(draw(f"{label} {i}", a) if isinstance(a, tuple) else np.asarray(a) for i, a in enumerate(inputs))
    CASES.setdefault(function, []).append(Case(f"{name_of(function)}: {label}", call, arrays, function))


def unary(function, low=-2.0, high=2.0, sample=draw):
    """Cases of a function of one array, with values between ``low`` and ``high``."""
    for shape in [(), (3,), (2, 1, 3), (0, 2)]:
        label = f"{name_of(function)} {shape}"
        case(function, str(shape), function, sample(label, shape, low, high))


def binary(function, first=(-2.0, 2.0), second=(-2.0, 2.0), sample=draw):
    """Cases of a function of two arrays: broadcast both ways, 0-d, with plain arrays and with numbers."""
    pairs = [
        ((3,), (3,)),
        ((2, 1), (1, 3)),
        ((2, 3), ()),
        ((), (2, 3)),
        ((3,), (2, 3)),
        ((4, 1, 3), (2, 1)),
        ((1,), (1, 1)),
    ]
    name = name_of(function)
    for a, b in pairs:
        case(function, f"{a} {b}", function, sample(f"{name}0{a}{b}", a, *first), sample(f"{name}1{a}{b}", b, *second))
    x, y = sample(name + "x", (2, 3), *first), sample(name + "y", (3,), *second)
    case(function, "array on the left", lambda t: function(x, t), y)
    case(function, "array on the right", lambda t: function(t, y), x)
    case(function, "number on the left", lambda t: function(float(x[0, 0]), t), y)
    case(function, "number on the right", lambda t: function(t, float(y[0])), x)


def variants(function, shape, *options, low=-2.0, high=2.0):
    """Cases of one call for each tuple of further positional arguments or dict of keyword arguments."""
    for option in options:
        args, kwargs = ((), option) if isinstance(option, dict) else (option, {})
        text = ", ".join([str(shape), *map(str, args), *(f"{k}={v}" for k, v in kwargs.items())])
        call = functools.partial(lambda args, kwargs, x: function(x, *args, **kwargs), args, kwargs)
        case(function, text, call, draw(name_of(function) + text, shape, low, high))
