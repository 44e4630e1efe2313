"""Functions called in rare ways: they do with Tensors what they do with arrays, or raise the same kind of error."""

import numpy as np
import pytest

import tinygrad_opt as tg
from tests.gradients import check_first_order
from tinygrad_opt import Tensor, nn

NAN = np.nan
X = np.arange(6.0).reshape(2, 3) ** 2
CUBE = np.arange(24.0).reshape(2, 3, 4) ** 2
HOLES = np.array([[1.0, NAN, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], [NAN, NAN, NAN, NAN]])


def case(name, f, *arrays):
    return pytest.param(f, arrays, id=name)


SAME = [
    case("median of NaN", np.median, HOLES),
    case("median of NaN along an axis", lambda x: np.median(x, axis=1, keepdims=True), HOLES),
    case("median of float32", lambda x: np.median(x, axis=0), HOLES.astype("float32")),
    case("median over axes", lambda x: np.median(x, axis=(0, -1)), CUBE),
    case("nanmax", lambda x: np.nanmax(x, axis=1), HOLES),
    case("nanmin", lambda x: np.nanmin(x, axis=1, keepdims=True), HOLES),
    case("nanmin of integers", np.nanmin, np.array([3, 1, 2])),
    case("average with weights of an axis", lambda x: np.average(x, axis=np.int64(1), weights=[1.0, 2.0, 3.0]), CUBE),
    case("average over axes", lambda x: np.average(x, axis=(0, 1), weights=X + 1), CUBE),
    case("average over axes in another order", lambda x: np.average(x, axis=(1, 0), weights=(X + 1).T), CUBE),
    case("average and count", lambda x: np.average(x, axis=0, returned=True)[1], X.astype("float32")),
    case("vstack of another dtype", lambda x: np.vstack([x, x], dtype="float32"), X),
    case("hstack of another dtype", lambda x: np.hstack([x, x], dtype="float32"), X),
    case("trace of another dtype", lambda x: np.trace(x, dtype="float32"), X),
    case("gradient of unsigned integers", np.gradient, np.array([1, 253, 249], np.uint8)),
    case("diff of booleans", np.diff, np.array([True, False, False])),
    case("copy of booleans", np.copy, np.array([True, False])),
    case("norm of integers", lambda x: np.linalg.norm(x, 1), np.array([1, -2])),
    case("greatest norm of integers", lambda x: np.linalg.norm(x, np.inf), np.array([1, -2])),
    case("vector norm of nothing", lambda x: np.linalg.vector_norm(x, axis=1), np.zeros((0, 3))),
    case("median of nothing", lambda x: np.median(x, axis=1), np.zeros((0, 3))),
]


@pytest.mark.filterwarnings("ignore:All-NaN")
@pytest.mark.parametrize(("f", "arrays"), SAME)
def test_the_result_is_that_of_arrays(f, arrays):
    expected, found = f(*arrays), f(*map(_tensor, arrays))
    assert isinstance(found, Tensor | np.ndarray)
    assert found.dtype == np.asarray(expected).dtype
    np.testing.assert_allclose(getattr(found, "data", found), expected, rtol=1e-6)


def _tensor(array):
    return Tensor(array, dtype=array.dtype)


WRONG = [
    case("diff", lambda x: np.diff(x, axis=2), X),
    case("diff before the first", lambda x: np.diff(x, axis=-3), X),
    case("diff a negative number of times", lambda x: np.diff(x, n=-1), X),
    case("diff of a number", np.diff, np.array(1.0)),
    case("median", lambda x: np.median(x, axis=2), X),
    case("gradient", lambda x: np.gradient(x, axis=2), X),
    case("gradient of an axis twice", lambda x: np.gradient(x, axis=(0, 0)), X),
    case("gradient of other ends", lambda x: np.gradient(x, edge_order=3), X),
    case("gradient of two axes with one list of places", lambda x: np.gradient(x, np.arange(3.0)), X),
    case("meshgrid", lambda x: np.meshgrid(x, x, indexing="zz"), X[0]),
    case("average", lambda x: np.average(x, weights=[1.0, 2.0, 3.0]), X),
    case("vstack to integers", lambda x: np.vstack([x, x], dtype=int), X),
]


@pytest.mark.parametrize(("f", "arrays"), WRONG)
def test_what_arrays_refuse_tensors_refuse(f, arrays):
    for arguments in (arrays, [*map(Tensor, arrays)]):
        with pytest.raises((ValueError, TypeError)):
            f(*arguments)


@pytest.mark.parametrize("axis", [0, 1, (1,), (0, 1), (), None])
def test_products_of_nothing(axis):
    x = Tensor(np.zeros((0, 3)), requires_grad=True)
    np.prod(x, axis=axis).sum().backward()
    assert x.grad.shape == (0, 3)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("values", [[2.5e-162, 3.7e-162], [1e200, 1e200], [1e-5, np.inf], [1e-170, 1e-170, 1e300]])
def test_products_that_are_too_small_or_large_for_a_division(values):
    a, b, *rest = values
    rest = float(np.prod(rest))
    for product in (np.prod, lambda x: np.cumprod(x)[-1]):
        np.testing.assert_allclose(tg.grad(product)(np.array(values))[:2], [b * rest, a * rest], rtol=1e-12)


def test_gradients_over_the_axes_of_an_average():
    check_first_order(lambda x, w: np.average(x, axis=(1, 0), weights=w), [CUBE, (X + 1).T])


def test_the_number_of_an_argument_may_be_numpys():
    assert tg.grad(lambda a, b: a * b * b, np.int64(1))(2.0, 3.0) == 12
    assert tg.grad(lambda a, b: a * b * b, np.array([0, 1]))(2.0, 3.0) == (9, 12)
    with pytest.raises(TypeError, match="argnums is a whole number"):
        tg.grad(lambda a: a, 0.0)(2.0)


def test_weights_and_biases_of_a_linear_layer_have_one_shape():
    for weight, bias in ((np.ones(3), None), (np.ones((2, 3)), np.ones((2, 2)))):
        with pytest.raises(tg.ShapeError, match=r"weight \(out, in\)"):
            nn.functional.linear(X, weight, bias)
