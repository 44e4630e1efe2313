"""Every rule of the table, against finite differences, to second order, on every case of `cases.py`."""

import dis

import numpy as np
import pytest

from tests.gradients import check_first_order, check_second_order, gradient_of, leaves, random_like, results
from tests.rules.cases import CASES, LIBRARY_FUNCTIONS
from tinygrad_opt.rules.registry import TABLE

every_case = pytest.mark.parametrize("case", [c for cases in CASES.values() for c in cases], ids=lambda c: c.label)


def test_every_rule_has_cases():
    missing = sorted(function.__name__ for function in LIBRARY_FUNCTIONS - CASES.keys())
    assert not missing, f"add cases to tests/rules/cases.py for {missing}"


@pytest.mark.parametrize("function", CASES, ids=lambda f: f.__name__)
def test_a_rule_does_not_read_what_it_says_it_does_not_read(function):
    """Values whose names start with ``_`` may be changed in place without an error, so no rule may look at them."""
    op = TABLE[function]
    for rule in filter(None, (*op.rules, op.each)):
        loaded = [i.argval for i in dis.get_instructions(rule) if i.opname.startswith(("LOAD_FAST", "LOAD_DEREF"))]
        names = {name for value in loaded for name in (value if isinstance(value, tuple) else (value,))}
        arguments = rule.__code__.co_varnames[: rule.__code__.co_argcount]
        assert not {name for name in names.intersection(arguments) if name.startswith("_")}


@every_case
def test_first_derivative(case):
    check_first_order(case.call, case.inputs)


@every_case
def test_second_derivative(case):
    check_second_order(case.call, case.inputs)


@every_case
def test_result_is_numpys(case):
    plain = results(case.call(*case.inputs))
    for actual, expected in zip(results(case.call(*leaves(case.inputs))), plain, strict=True):
        np.testing.assert_array_equal(actual.data, expected, strict=True)
        assert actual.requires_grad


@every_case
def test_gradients_have_the_dtype_and_shape_of_their_tensors(case):
    weights = random_like(results(case.call(*case.inputs)), seed=1)
    exact = gradient_of(case.call, case.inputs, weights)
    for array, gradient, reference in zip(
        case.inputs, gradient_of(case.call, case.inputs, weights, np.float32), exact, strict=True
    ):
        assert gradient.dtype == np.float32
        assert gradient.shape == array.shape
        np.testing.assert_allclose(gradient, reference, rtol=2e-3, atol=2e-3)
