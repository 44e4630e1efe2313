"""Every rule of the table, against finite differences, to second order, on every case in `cases/`."""

import dis
import itertools

import numpy as np
import pytest

from tests.gradients import check_first_order, check_second_order, gradient_of, leaves, random_like, results
from tests.rules.cases import CASES, LIBRARY_FUNCTIONS, every_case
from tinygrad_opt import Tensor
from tinygrad_opt.rules.registry import TABLE, name_of


def test_every_rule_has_cases():
    missing = sorted(name_of(function) for function in LIBRARY_FUNCTIONS - CASES.keys())
    assert not missing, f"add cases to tests/rules/cases/ for {missing}"


@pytest.mark.parametrize("function", sorted(LIBRARY_FUNCTIONS & TABLE.keys(), key=name_of), ids=name_of)
def test_a_rule_does_not_read_the_elements_that_it_says_it_does_not_read(function):
    """What a name with ``_`` stands for may be changed in place without an error: only its shape may be looked at."""
    op = TABLE[function]
    for rule in filter(None, [op.each] if op.each else op.rules):
        if not hasattr(rule, "unread"):
            assert not reads_elements(rule)


def reads_elements(rule):
    """The parameters with ``_`` in front of which a rule uses more than the shape or the dtype."""
    code = rule.__code__
    quiet = [name for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] if name.startswith("_")]
    steps = list(dis.get_instructions(code))
    found = {name for name in quiet if name in code.co_cellvars}
    for step, following in itertools.pairwise(steps):
        harmless = following.opname == "LOAD_ATTR" and following.argval in ("shape", "ndim", "size", "dtype")
        if step.opname.startswith("LOAD_") and step.argval in quiet and not harmless:
            found.add(step.argval)
    return found


def test_a_rule_that_reads_elements_is_noticed():
    assert reads_elements(lambda g, _out, _x: g * _x) == {"_x"}
    assert reads_elements(lambda g, _out, _x: [_x.shape for _ in g]) == {"_x"}
    assert not reads_elements(lambda g, _out, _x: np.reshape(g, _x.shape))


@every_case
def test_first_derivative(case):
    check_first_order(case.call, case.inputs)


@every_case
def test_second_derivative(case):
    check_second_order(case.call, case.inputs)


@every_case
def test_result_is_numpys(case):
    """Exactly, or to rounding where the function is made of others. What no Tensor went into stays a plain array."""
    plain, actual = results(case.call(*case.inputs)), results(case.call(*leaves(case.inputs)))
    assert any(isinstance(a, Tensor) and a.requires_grad for a in actual)
    for a, expected in zip(actual, plain, strict=True):
        array = a.data if isinstance(a, Tensor) else a
        if case.function in TABLE:
            np.testing.assert_array_equal(array, expected, strict=True)
        else:
            np.testing.assert_allclose(array, expected, rtol=1e-13, atol=1e-14, strict=True)


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


@every_case
def test_float32_gives_what_numpy_gives(case):
    """The dtype of the result from float32 is NumPy's: nothing on the way is float64 in silence."""
    arrays = [a.astype(np.float32) for a in case.inputs]
    plain, actual = results(case.call(*arrays)), results(case.call(*leaves(arrays, np.float32)))
    assert [a.dtype for a in actual] == [np.asarray(p).dtype for p in plain]
