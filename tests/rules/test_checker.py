"""The checker itself: it must reject planted wrong rules, at first order and at second order.

It is tried on rules of x³, and then on the table: every rule in it is made wrong in several ways, one rule at a time,
and each time one of the function's own cases must fail. So no case is one that any rule would pass.
"""

import functools
from inspect import signature

import numpy as np
import pytest

import tinygrad_opt as tg
from tests.gradients import check_first_order, check_second_order
from tests.rules.cases import CASES, LIBRARY_FUNCTIONS
from tinygrad_opt import Tensor
from tinygrad_opt.rules import elementwise, linalg, network, shaping, windows
from tinygrad_opt.rules.registry import TABLE, Op, name_of, unread_inputs
from tinygrad_opt.rules.shaping import Bundle

POINTS = [np.array([0.5, -1.5, 2.0])]


def planted(rule):
    """x³ with the given rule."""

    @tg.primitive
    def cube(x):
        return x * x * x

    tg.defvjp(cube, rule)
    return cube


def test_right_rule_passes():
    cube = planted(lambda g, _out, x: g * 3 * x * x)
    check_first_order(cube, POINTS)
    check_second_order(cube, POINTS)


@pytest.mark.parametrize(
    "rule",
    [
        lambda g, _out, x: g * 3 * x,
        lambda g, _out, x: 3 * x * x,
        lambda g, _out, x: -g * 3 * x * x,
        lambda g, _out, x: np.flip(g) * 3 * x * x,
        lambda g, _out, x: g * 3.001 * x * x,
        lambda g, _out, x: np.mean(g) * 3 * x * x,
    ],
    ids=["wrong power", "upstream left out", "sign", "upstream misplaced", "one in a thousand", "upstream averaged"],
)
def test_wrong_first_derivative_is_caught(rule):
    with pytest.raises(AssertionError, match="first derivative"):
        check_first_order(planted(rule), POINTS)


def test_wrong_second_derivative_is_caught():
    @tg.primitive
    def square(x):
        return x * x

    tg.defvjp(square, lambda g, _out, x: g * x)  # should be 2x: cube's first derivative is right, its second is not
    cube = planted(lambda g, _out, x: g * 3 * square(x))
    check_first_order(cube, POINTS)
    with pytest.raises(AssertionError, match="second derivative"):
        check_second_order(cube, POINTS)


def test_rule_that_cuts_the_graph_is_caught():
    cube = planted(lambda g, _out, x: g * (3 * x * x if isinstance(x, np.ndarray) else 3 * x.data * x.data))
    check_first_order(cube, POINTS)
    with pytest.raises(AssertionError, match="second derivative"):
        check_second_order(cube, POINTS)


# The rules of the table, each made wrong -----------------------------------------------------------------------------


def on_parts(change, value):
    """``change`` of an array, or of each array of a bundle."""
    return Bundle(map(change, value)) if isinstance(value, tuple) else change(value)


def backwards(x):
    return np.reshape(np.flip(np.ravel(x)), x.shape)


def averaged(g):
    return 0 * g + np.mean(g) if g.size else g


def constant(value):
    """What is in a Tensor, or in a tuple of Tensors, without the history."""
    if isinstance(value, tuple) and any(isinstance(part, Tensor) for part in value):
        return Bundle(map(constant, value))
    return value.detach() if isinstance(value, Tensor) else value


def in_the_result(change):
    return lambda rule, g, out, args, options: on_parts(change, rule(g, out, *args, **options))


def upstream(change):
    return lambda rule, g, out, args, options: rule(on_parts(change, g), out, *args, **options)


WRONG_FIRST = {
    "one in a hundred": in_the_result(lambda x: 1.01 * x),
    "an input forgotten": in_the_result(lambda x: 0 * x),
    "a sign": in_the_result(lambda x: -x),
    "elements misplaced": in_the_result(backwards),
    "the upstream gradient averaged": upstream(averaged),
}


def without_history(rule, g, out, args, options):
    """The right gradient, as a function of ``g`` alone: the first derivative is right, and the second is not."""
    options = {name: constant(value) for name, value in options.items()}
    return rule(g, constant(out), *map(constant, args), **options)


def rules_of(function):
    """The positions that have a rule of their own; ``each`` where one rule serves all."""
    op = TABLE[function]
    return ["each"] if op.each else [i for i, rule in enumerate(op.rules) if rule is not None]


def plant(monkeypatch, function, position, wrong):
    """Put in place of one rule what ``wrong(rule, g, out, args, options)`` makes of it."""
    op = TABLE[function]

    def planted_each(i, g, out, *args, **options):
        return wrong(functools.partial(op.each, i), g, out, args, options)

    def planted_rule(g, out, *args, **options):
        return wrong(op.rules[position], g, out, args, options)

    if position == "each":
        monkeypatch.setitem(TABLE, function, Op(function, (), functools.wraps(op.each)(planted_each)))
    else:
        rules = list(op.rules[: op.inputs])
        rules[position] = functools.wraps(rules[position])(planted_rule)
        monkeypatch.setitem(TABLE, function, Op(function, tuple(rules), None))


def fails(case, check, message):
    try:
        check(case.call, case.inputs)
    except AssertionError as error:
        return message in str(error)
    return False


def fails_one_of_its_cases(function, check, message):
    return any(fails(case, check, message) for case in CASES[function])


NEVER_A_NUMBER = {linalg.refuse_free_columns}  # its gradient is 0 times NaN, or nothing
EVERY_RULE = [
    pytest.param(function, position, id=f"{name_of(function)}[{position}]")
    for function in sorted(LIBRARY_FUNCTIONS & TABLE.keys() - NEVER_A_NUMBER, key=name_of)
    for position in rules_of(function)
]


@pytest.mark.parametrize(("function", "position"), EVERY_RULE)
def test_each_rule_of_the_table_made_wrong_fails_a_case_of_its_own(monkeypatch, function, position):
    for name, wrong in WRONG_FIRST.items():
        with monkeypatch.context() as patch:
            plant(patch, function, position, wrong)
            assert fails_one_of_its_cases(function, check_first_order, "first derivative"), name


PIECEWISE_LINEAR = {
    np.absolute, np.fabs, np.copysign, np.maximum, np.minimum, np.fmax, np.fmin, np.remainder, np.fmod, np.divmod,
    np.max, np.amax, np.min, np.amin, np.maximum.accumulate, np.minimum.accumulate, np.sort, np.partition, np.cumsum,
    np.nan_to_num, np.concatenate, np.stack, shaping.unpack, elementwise.clip, network.relu,
    network.leaky_relu, network.absolute_error, windows.max_pool2d,
}  # fmt: skip


def reads_elements(function, position):
    """Whether a rule reads the elements of the result or of an input that has a gradient."""
    op = TABLE[function]
    rule = functools.partial(op.each, 0) if op.each else op.rules[position]
    count = len(signature(rule).parameters)
    with_gradient = range(count) if op.each else rules_of(function)
    return not unread_inputs(rule, count) >= {-1, *with_gradient}


@pytest.mark.parametrize(("function", "position"), EVERY_RULE)
def test_each_rule_that_loses_its_inputs_history_fails_a_case_of_its_own(monkeypatch, function, position):
    """Except for rules that are the same function of ``g`` all around the inputs: there is nothing to lose."""
    plant(monkeypatch, function, position, without_history)
    curved = reads_elements(function, position) and function not in PIECEWISE_LINEAR
    caught = fails_one_of_its_cases(function, check_second_order, "second derivative")
    assert caught == curved, "add a case with a second derivative, or the function to PIECEWISE_LINEAR"
