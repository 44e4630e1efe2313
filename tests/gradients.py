"""The tests' gradient checker: central finite differences against ``backward()``, at first and at second order.

A checked function takes arrays or Tensors and returns one result or a tuple of them. The loss is the sum of all
results, each times a random array ``u``: with the upstream gradient 1 everywhere, many a wrong rule would pass.
"""

import numpy as np

from tinygrad_opt import Tensor

STEP = 1e-6
TOLERANCE = {"rtol": 2e-5, "atol": 2e-7}


def leaves(arrays, dtype=np.float64):
    """The arrays as Tensors that require gradients."""
    return [Tensor(a, requires_grad=True, dtype=dtype) for a in arrays]


def results(value):
    """One result or several, as a tuple."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def weighted_sum(values, weights):
    """The scalar Σ (value · weight) over all pairs."""
    return sum((v * w).sum() for v, w in zip(values, weights, strict=True))


def random_like(arrays, seed):
    """Random arrays of the same shapes, away from zero and all different."""
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.uniform(0.5, 1.5, np.shape(a)) * rng.choice([-1, 1], np.shape(a))) for a in arrays]


def finite_differences(scalar_function, arrays):
    """The gradient of a function of several float64 arrays, one central difference per element."""
    gradients = []
    for position, array in enumerate(arrays):
        gradient = np.zeros(array.shape)
        for index in np.ndindex(array.shape):
            ends = []
            for step in (STEP, -STEP):
                moved = [a.copy() for a in arrays]
                moved[position][index] += step
                ends.append(float(scalar_function(*moved)))
            gradient[index] = (ends[0] - ends[1]) / (2 * STEP)
        gradients.append(gradient)
    return gradients


def gradient_of(function, arrays, weights, dtype=np.float64):
    """The gradients of the weighted sum of the results: one array per argument, zeros where there is none."""
    tensors = leaves(arrays, dtype)
    weighted_sum(results(function(*tensors)), [np.asarray(w, dtype) for w in weights]).backward()
    return [np.zeros(t.shape, t.dtype) if t.grad is None else t.grad.data for t in tensors]


def assert_same(actual, expected, what):
    for position, (a, e) in enumerate(zip(actual, expected, strict=True)):
        np.testing.assert_allclose(a, e, **TOLERANCE, err_msg=f"{what}, argument {position}")


def check_first_order(function, arrays):
    """The gradient with respect to all arguments together equals the finite differences of the plain function."""
    arrays = [np.asarray(a, np.float64) for a in arrays]
    u = random_like(results(function(*arrays)), seed=1)
    expected = finite_differences(lambda *args: weighted_sum(results(function(*args)), u), arrays)
    assert_same(gradient_of(function, arrays, u), expected, "first derivative")


def check_second_order(function, arrays):
    """The gradient of (gradient · v), with respect to all arguments and to u, equals its finite differences."""
    arrays = [np.asarray(a, np.float64) for a in arrays]
    u = random_like(results(function(*arrays)), seed=1)
    v = random_like(arrays, seed=2)
    count = len(arrays)

    def directional(*args):
        return weighted_sum(gradient_of(function, args[:count], args[count:]), v)

    x, upstream = leaves(arrays), leaves(u)
    weighted_sum(results(function(*x)), upstream).backward(create_graph=True)
    first = [Tensor(np.zeros(t.shape)) if t.grad is None else t.grad for t in x]
    for t in (*x, *upstream):
        t.grad = None
    total = weighted_sum(first, v)
    if total.requires_grad:
        total.backward()
    actual = [np.zeros(t.shape) if t.grad is None else t.grad.data for t in (*x, *upstream)]
    assert_same(actual, finite_differences(directional, [*arrays, *u]), "second derivative")
