"""The checker itself: it must reject planted wrong rules, at first order and at second order."""

import numpy as np
import pytest

import tinygrad_opt as tg
from tests.gradients import check_first_order, check_second_order

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
