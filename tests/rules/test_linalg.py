"""Linear algebra where a gradient is a matter of convention, or does not exist: kinks, equal values, free columns."""

import numpy as np
import pytest

import tinygrad_opt as tg
from tests.gradients import gradient_of

ONE = [np.ones(())]
RANK_1 = np.outer([1.0, -2.0, 0.5], [2.0, 1.0, -1.0])
TALL = np.arange(6.0).reshape(3, 2)


def gradient(function, x):
    """The gradient of the sum of ``function(x)``."""
    return gradient_of(lambda t: function(t).sum(), [np.asarray(x, float)], ONE)[0]


@pytest.mark.parametrize("order", [None, 2, 1, 1.5, 3, np.inf])
def test_the_subgradient_of_a_norm_at_the_zero_vector_is_zero(order):
    rows = [[0.0, 0.0], [3.0, 0.0]]
    np.testing.assert_allclose(gradient(lambda x: np.linalg.norm(x, order, axis=1), rows), [[0, 0], [1, 0]])


@pytest.mark.parametrize("order", ["fro", "nuc", 1, 2, np.inf])
def test_the_subgradient_of_a_norm_at_the_zero_matrix_is_zero(order):
    np.testing.assert_array_equal(gradient(lambda x: np.linalg.norm(x, order), np.zeros((2, 3))), np.zeros((2, 3)))


def test_rows_that_tie_for_a_norm_share_the_gradient():
    half = [[0.5, -0.5], [0.5, 0.5]]
    np.testing.assert_array_equal(gradient(lambda x: np.linalg.norm(x, np.inf), [[1.0, -1], [1, 1]]), half)


@pytest.mark.parametrize(("uplo", "read"), [("L", np.tril), ("U", np.triu)])
def test_a_function_that_reads_one_triangle_has_a_gradient_in_that_triangle(uplo, read):
    x = np.array([[2.0, 0.5, 0.3], [0.5, 4.0, 0.2], [0.3, 0.2, 7.0]])
    for function in (
        lambda x: np.linalg.eigvalsh(x, uplo)[0],
        lambda x: np.linalg.eigh(x, uplo)[1][0, 0] ** 2,
        lambda x: np.linalg.cholesky(x, upper=uplo == "U")[2, 2],
    ):
        g = gradient(function, x)
        np.testing.assert_array_equal(g, read(g))
        symmetric = gradient(lambda x, f=function: f((x + x.T) / 2), x)
        np.testing.assert_allclose(symmetric, (g + g.T) / 2, atol=1e-15)


def test_equal_values_do_no_harm_to_a_gradient_of_the_values():
    np.testing.assert_allclose(gradient(np.linalg.eigvalsh, np.eye(3)), np.eye(3))
    np.testing.assert_allclose(gradient(lambda x: np.linalg.eigh(x)[0] ** 3, 2 * np.eye(3)), 12 * np.eye(3))
    np.testing.assert_allclose(gradient(lambda x: np.linalg.svd(x)[1] ** 2, 3 * np.eye(3)), 6 * np.eye(3))


def test_equal_values_do_no_harm_to_the_gradient_of_another_vector():
    assert np.all(np.isfinite(gradient(lambda x: np.linalg.eigh(x)[1][:, 0] * [1, 2, 3], np.diag([1.0, 2.0, 2.0]))))


@pytest.mark.parametrize("vectors", [lambda x: np.linalg.eigh(x)[1], lambda x: np.linalg.svd(x)[0]])
def test_vectors_of_equal_values_have_no_gradient_and_numpy_says_so(vectors):
    with pytest.warns(RuntimeWarning):
        assert not np.any(np.isfinite(gradient(lambda x: vectors(x) @ np.arange(3.0), np.eye(3))))


def test_values_of_equal_values_have_no_second_derivative_and_numpy_says_so():
    x = tg.Tensor(np.eye(2), requires_grad=True)
    (np.linalg.eigvalsh(x) ** 2).sum().backward(create_graph=True)
    g, x.grad = x.grad, None
    with pytest.warns(RuntimeWarning):
        (g * [[1.0, 0.0], [2.0, 3.0]]).sum().backward()
    assert not np.all(np.isfinite(x.grad.data))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: np.linalg.svd(x).U,
        lambda x: np.linalg.svd(x.T).Vh,
        lambda x: np.linalg.qr(x, "complete").Q,
    ],
)
def test_columns_that_complete_a_basis_have_no_gradient(function):
    with pytest.raises(ValueError, match="reduced matrices"):
        gradient(function, TALL)


def test_qr_in_raw_form_has_no_gradient():
    with pytest.raises(ValueError, match="raw"):
        gradient(lambda x: np.linalg.qr(x, "raw")[0], TALL)


def test_least_squares_of_a_deficient_matrix_have_no_gradient():
    with pytest.raises(np.linalg.LinAlgError, match="rank 1"):
        gradient(lambda x: np.linalg.lstsq(x, np.ones(3))[0], RANK_1)


@pytest.mark.parametrize(
    "call", [lambda x: np.linalg.pinv(x, hermitian=True), lambda x: np.linalg.svd(x, hermitian=True)]
)
def test_a_hermitian_matrix_is_refused(call):
    with pytest.raises(tg.MissingRuleError, match="hermitian"):
        call(tg.Tensor(np.eye(2), requires_grad=True))


def test_the_results_are_numpys_named_tuples():
    x = tg.Tensor(2 * np.eye(2), requires_grad=True)
    assert np.linalg.slogdet(x).logabsdet.requires_grad
    assert np.linalg.eigh(x).eigenvalues.requires_grad
    assert np.linalg.svd(x).S.requires_grad
    assert np.linalg.qr(x).R.requires_grad
    solution, residuals, rank, values = np.linalg.lstsq(x, np.ones(2))
    assert solution.requires_grad
    assert values.requires_grad
    assert int(rank) == 2
    assert residuals.shape == (0,)


def test_determinants_of_singular_matrices_to_third_order():
    """In the direction of the identity det(x + t·1) is a polynomial of t, known by its coefficients."""
    for x, coefficients in [(RANK_1, [0, 0, np.trace(RANK_1), 1]), (np.diag([1.0, 2.0, 0.0]), [0, 2, 3, 1])]:
        t = tg.Tensor(0.0, requires_grad=True)
        value = np.linalg.det(x + t * np.eye(3))
        for factorial, expected in zip([1, 1, 2, 6], coefficients, strict=True):
            np.testing.assert_allclose(value.item(), factorial * expected, atol=1e-12)
            t.grad = None
            value.backward(create_graph=True)
            value = t.grad


@pytest.mark.parametrize("scale", [1e-170, 1e-100, 1e100])
def test_the_gradient_of_a_determinant_needs_no_common_scale(scale):
    np.testing.assert_allclose(gradient(np.linalg.det, np.diag([scale, 1.0])), np.diag([1.0, scale]), rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: np.einsum("i...->i", x), ValueError),
        (lambda x: np.einsum("ij->k", x), ValueError),
        (lambda x: np.einsum("i", x), ValueError),
        (lambda x: np.einsum("ij,jk", x), ValueError),
        (lambda x: np.einsum("ij", x, dtype=float), tg.MissingRuleError),
        (lambda x: np.einsum("ij", x, out=np.ones((2, 2))), tg.MissingRuleError),
        (lambda x: np.linalg.outer(x, x), ValueError),
        (lambda x: np.linalg.cross(x, x), ValueError),
        (lambda x: np.linalg.norm(x, 3), ValueError),
        (lambda x: np.linalg.norm(np.stack([x, x]), np.inf), ValueError),
        (lambda x: np.linalg.norm(x, axis=(0, 0)), ValueError),
        (lambda x: np.linalg.matrix_power(x, 0.5), TypeError),
        (lambda x: np.linalg.multi_dot([x]), ValueError),
    ],
)
def test_wrong_calls_are_refused_as_numpy_does(call, error):
    with pytest.raises(error):
        call(tg.Tensor(np.ones((2, 2)), requires_grad=True))
    if error is not tg.MissingRuleError:
        with pytest.raises(error):
            call(np.ones((2, 2)))
