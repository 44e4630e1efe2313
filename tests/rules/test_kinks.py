"""The conventions at points without a derivative, as the rules' comments state them."""

import numpy as np
import pytest

from tests.gradients import gradient_of
from tests.rules.cases import CASES
from tinygrad_opt.rules import network

ONES = [np.ones(())]


def total(function):
    return lambda *args: function(*args).sum()


KINKS = {
    "relu at 0": (network.relu, [[-1.0, 0.0, 1.0]], [[0, 0, 1]]),
    "abs at 0": (np.absolute, [[-2.0, 0.0, 3.0]], [[-1, 0, 1]]),
    "fabs at 0": (np.fabs, [[-2.0, 0.0, 3.0]], [[-1, 0, 1]]),
    "maximum of equals": (np.maximum, [[1.0, 2.0, 3.0], [2.0, 2.0, 2.0]], [[0, 0.5, 1], [1, 0.5, 0]]),
    "minimum of equals": (np.minimum, [[1.0, 2.0, 3.0], [2.0, 2.0, 2.0]], [[1, 0.5, 0], [0, 0.5, 1]]),
    "fmax of equals": (np.fmax, [[1.0, 2.0], [2.0, 2.0]], [[0, 0.5], [1, 0.5]]),
    "fmin of equals": (np.fmin, [[1.0, 2.0], [2.0, 2.0]], [[1, 0.5], [0, 0.5]]),
    "fmax past NaN": (np.fmax, [[np.nan, 1.0], [2.0, np.nan]], [[0, 1], [1, 0]]),
    "fmin past NaN": (np.fmin, [[np.nan, 1.0], [2.0, np.nan]], [[0, 1], [1, 0]]),
    "hypot at 0": (np.hypot, [[0.0, 3.0], [0.0, 4.0]], [[0, 0.6], [0, 0.8]]),
    "std of a constant": (np.std, [[2.0, 2.0, 2.0]], [[0, 0, 0]]),
    "std of rows, one constant": (
        lambda x: np.std(x, axis=1),
        [[[2.0, 2.0], [0.0, 2.0]]],
        [[[0, 0], [-0.5, 0.5]]],
    ),
    "max with a tie": (np.max, [[1.0, 3.0, 3.0, 0.0]], [[0, 0.5, 0.5, 0]]),
    "min with a tie of three": (np.min, [[1.0, 1.0, 2.0, 1.0]], [[1 / 3, 1 / 3, 0, 1 / 3]]),
    "max along an axis with a tie": (
        lambda x: np.max(x, axis=0, keepdims=True),
        [[[1.0, 5.0], [1.0, 2.0]]],
        [[[0.5, 1], [0.5, 0]]],
    ),
    "hinge at 1": (network.hinge, [[1.0], [1.0]], [[0], [0]]),
    "clip at its limits": (lambda x: np.clip(x, -1, 1), [[-2.0, -1.0, 0.0, 1.0, 2.0]], [[0, 1, 1, 1, 0]]),
    "0 to the 0": (np.power, [[0.0], [0.0]], [[0], [0]]),
    "0 to the 2": (np.power, [[0.0], [2.0]], [[0], [0]]),
    "product with one zero": (np.prod, [[2.0, 0.0, 3.0]], [[0, 6, 0]]),
    "product with two zeros": (np.prod, [[2.0, 0.0, 0.0]], [[0, 0, 0]]),
    "product of all axes with a zero": (
        lambda x: np.prod(x, axis=(0, 1)),
        [[[2.0, 0.0], [3.0, 5.0]]],
        [[[0, 30], [0, 0]]],
    ),
}


@pytest.mark.parametrize(("function", "inputs", "expected"), KINKS.values(), ids=KINKS)
def test_convention_at_a_kink(function, inputs, expected):
    arrays = [np.array(x) for x in inputs]
    for gradient, value in zip(gradient_of(total(function), arrays, ONES), expected, strict=True):
        np.testing.assert_allclose(gradient, value, atol=1e-15)


def test_cases_stay_away_from_kinks():
    """The finite differences of `test_gradients.py` would not notice a wrong choice at a kink."""
    for function in (np.absolute, np.fabs, network.relu):
        assert all(np.all(np.abs(x) > 0.1) for case in CASES[function] for x in case.inputs)
