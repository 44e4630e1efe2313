"""Every rule of the table, compiled: values and gradients on every case are those of the function itself, bit for bit.

Each compiled function is called with the numbers of the case and with others, so that no value of the first call may
stay in the code, and what the first call gave has to stay as it was.
"""

import contextlib

import numpy as np
import pytest

import tinygrad_opt as tg
from tests.compiler.compare import Unchanged, assert_close, assert_equal, gradients, kinds, values, weighted
from tests.gradients import leaves
from tests.rules.cases import CASES
from tinygrad_opt.rules.registry import name_of

every_function = pytest.mark.parametrize("cases", CASES.values(), ids=map(name_of, CASES))


@contextlib.contextmanager
def noted(case):
    """An error says in which case it came up."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in the case {case.label}")
        raise


def input_sets(case):
    """The arrays of the case, and others like them: in reverse order, which keeps domains, and moved a little."""
    return [case.inputs, [1.01 * np.flip(a) for a in case.inputs]]


def check_of_arguments(case):
    """In float64, with the inputs as arguments; at last they lie column by column, which may change the rounding."""
    compiled, unchanged = tg.compile(case.call), Unchanged()
    sets = [(arrays, assert_equal) for arrays in input_sets(case)]
    sets.append(([np.array(a, order="F") for a in sets[1][0]], assert_close))
    for number, (arrays, compare) in enumerate(sets):
        ours, theirs = leaves(arrays), leaves(arrays)
        result, expected = compiled(*ours), case.call(*theirs)
        assert kinds(result) == kinds(expected)
        compare(values(result), values(expected), f"values, set {number}")
        found = gradients(weighted(result), ours)
        compare(found, gradients(weighted(expected), theirs), f"gradients, set {number}")
        unchanged.keep([*values(result), *found])
    unchanged.check()


def check_of_parameters(case):
    """In float32, with halves of the inputs as parameters, which get other arrays: the inputs are computed."""

    def loss_of(halves):
        return weighted(case.call(*(half + half for half in halves)))

    parameters, unchanged = leaves(case.inputs, np.float32), Unchanged()
    compiled = tg.compile(lambda: loss_of(parameters))
    for number, arrays in enumerate(input_sets(case)):
        others = leaves([a / 2 for a in arrays], np.float32)
        for parameter, other in zip(parameters, others, strict=True):
            parameter.data = other.data.copy()
        loss, expected = compiled(), loss_of(others)
        assert_equal([loss.data], [expected.data], f"loss, set {number}")
        found = gradients(loss, parameters)
        assert_equal(found, gradients(expected, others), f"gradients, set {number}")
        unchanged.keep([loss.data, *found])
    unchanged.check()


@pytest.mark.parametrize("check", [check_of_arguments, check_of_parameters])
@every_function
def test_each_case_is_the_same_compiled(cases, check):
    for case in cases:
        with noted(case):
            check(case)
