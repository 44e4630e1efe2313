"""Every rule of the table, compiled: values and gradients on every case are those of the function itself, bit for bit.

Each compiled function is called with the numbers of the case and with others, so that no value of the first call may
stay in the code, and what the first call gave has to stay as it was.
"""

import numpy as np

import tinygrad_opt as tg
from tests.compiler.compare import Unchanged, assert_close, assert_equal, gradients, kinds, values, weighted
from tests.gradients import leaves
from tests.rules.cases import every_case


def input_sets(case):
    """The arrays of the case, and others like them: in reverse order, which keeps domains, and moved a little."""
    return [case.inputs, [1.01 * np.flip(a) for a in case.inputs]]


@every_case
def test_inputs_that_are_arguments(case):
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


@every_case
def test_inputs_that_are_parameters(case):
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
