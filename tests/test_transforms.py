"""Transforms: derivatives of functions, nested in one another, of nested arguments, and what they refuse."""

import math
import threading
from collections import namedtuple

import numpy as np
import pytest

import tinygrad_opt as tg
from tests.gradients import finite_differences
from tinygrad_opt import GraphError, ShapeError, Tensor, nn

X = np.array([0.5, -1.5, 2.0])
M = np.array([[1.0, 2.0, 0.5], [-1.0, 0.3, 1.0]])


def leaf(data):
    return Tensor(data, requires_grad=True)


def equal(actual, expected, **tolerance):
    np.testing.assert_allclose(getattr(actual, "data", actual), expected, **({"rtol": 1e-12} | tolerance))


# gradients -----------------------------------------------------------------------------------------------------------


def test_gradients_leaves_grad_alone_and_keeps_the_nesting():
    x, y, unused = leaf(X), leaf(2.0), leaf([[1.0]])
    inputs = {"a": [x, unused], "b": (y,)}
    found = tg.gradients((x * x * y).sum(), inputs)
    equal(found["a"][0], 4 * X)
    equal(found["a"][1], [[0]])
    equal(found["b"][0], (X * X).sum())
    assert x.grad is None
    assert y.grad is None
    assert not found["a"][0].requires_grad


def test_gradients_of_intermediate_results():
    x = leaf(X)
    y = np.sin(x)
    z = y * y
    found = tg.gradients(z.sum(), [z, y, x], retain_graph=True)
    equal(found[0], np.ones(3))
    equal(found[1], 2 * np.sin(X))
    equal(found[2], np.sin(2 * X))
    equal(tg.gradients(z.sum(), z), np.ones(3))


def test_gradients_of_several_outputs_from_given_gradients():
    x = leaf(X)
    equal(tg.gradients([x * x, np.sin(x)], x, [X, np.ones(3)]), 2 * X * X + np.cos(X))
    equal(tg.gradients([(x * x).sum(), x.sum()], x), 2 * X + 1)
    equal(tg.gradients(x, x, X), X)


def test_gradients_frees_the_graph_unless_told_otherwise():
    x = leaf(X)
    y = (x * x).sum()
    tg.gradients(y, x, retain_graph=True)
    tg.gradients(y, x)
    with pytest.raises(GraphError, match="second time"):
        tg.gradients(y, x)


def test_gradients_with_create_graph_can_be_differentiated():
    x = leaf(X)
    first = tg.gradients((x * x * x).sum(), x, create_graph=True)
    second = tg.gradients(first.sum(), x, create_graph=True)
    equal(first, 3 * X * X)
    equal(second, 6 * X)
    (second * second).sum().backward()
    equal(x.grad, 72 * X)


def test_gradients_does_not_walk_what_the_inputs_were_made_from():
    calls = []

    @tg.primitive
    def watched(x):
        return 2 * x

    tg.defvjp(watched, lambda g, _out, _x: calls.append(1) or 2 * g)
    w = leaf(X)
    y = watched(w)
    x = leaf(X)
    equal(tg.gradients((x * y).sum(), x), 2 * X)
    assert not calls


@pytest.mark.parametrize(
    ("outputs", "inputs", "problem"),
    [
        (lambda x: x.sum(), lambda x: Tensor(X), "input 0 is not part of a graph"),
        (lambda x: x.sum(), lambda x: [x, X], "input 1 is not part of a graph"),
        (lambda x: Tensor(1.0), lambda x: x, "output 0 is not part of a graph"),
        (lambda x: [x.sum(), 1.0], lambda x: x, "output 1 is not part of a graph"),
        (lambda x: x * x, lambda x: x, "non-scalar"),
    ],
)
def test_gradients_refuses(outputs, inputs, problem):
    x = leaf(X)
    with pytest.raises(GraphError, match=problem):
        tg.gradients(outputs(x), inputs(x))


def test_gradients_refuses_grad_outputs_that_do_not_fit():
    x = leaf(X)
    with pytest.raises(ShapeError, match=r"\(3,\).*\(2,\)"):
        tg.gradients(x * x, x, np.ones(2))
    with pytest.raises(ShapeError, match="2 outputs"):
        tg.gradients([x * x, x], x, [np.ones(3)])


# grad and value_and_grad ---------------------------------------------------------------------------------------------


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def test_arrays_in_arrays_out():
    value, gradient = tg.value_and_grad(rosenbrock)(X)
    assert isinstance(value, np.float64)
    assert type(gradient) is np.ndarray
    equal(value, rosenbrock(X))
    equal(gradient, finite_differences(rosenbrock, [X])[0], rtol=1e-6)


def test_tensors_in_differentiable_tensors_out():
    x = leaf(X)
    gradient = tg.grad(lambda t: (t**3).sum())(x)
    assert isinstance(gradient, Tensor)
    gradient.sum().backward()
    equal(x.grad, 6 * X)


def test_a_constant_tensor_gives_a_constant_gradient():
    value, gradient = tg.value_and_grad(lambda t: (t**3).sum())(Tensor(X))
    assert isinstance(gradient, Tensor)
    assert not gradient.requires_grad
    assert not value.requires_grad
    equal(np.asarray(gradient), 3 * X * X)


def test_a_gradient_at_a_constant_can_be_differentiated_with_respect_to_weights():
    w = leaf(X)
    slope = tg.grad(lambda x: (np.sin(x) * w).sum())(Tensor(2.0))
    equal(slope, np.cos(2.0) * X.sum())
    slope.backward()
    equal(w.grad, np.cos(2.0) * np.ones(3))


def test_several_arguments_and_keywords():
    def f(x, y, power=2):
        return (x**power * y).sum()

    equal(tg.grad(f)(X, X), 2 * X * X)
    equal(tg.grad(f, 1)(X, X, power=3), X**3)
    gx, gy = tg.grad(f, (0, -1))(X, X)
    equal(gx, 2 * X * X)
    equal(gy, X * X)
    gy, gx = tg.grad(f, [1, 0])(X, X)
    equal(gx, 2 * X * X)
    assert isinstance(tg.grad(f, (1,))(X, X), tuple)


def test_arguments_that_are_not_differentiated_may_be_anything():
    equal(tg.grad(lambda x, n, name: (x * n[name]).sum())(X, {"three": 3}, "three"), [3, 3, 3])


def test_nested_containers():
    Pair = namedtuple("Pair", "u v")
    parameters = {"layers": [(M, X[:2]), Pair(X, 2.0)], "scale": np.float64(3.0), "unused": X}

    def f(p):
        (w, b), (u, v) = p["layers"]
        return ((w @ u + b) ** 2).sum() * v * p["scale"]

    gradient = tg.grad(f)(parameters)
    assert list(gradient) == ["layers", "scale", "unused"]
    assert isinstance(gradient["layers"][1], Pair)
    r = M @ X + X[:2]
    equal(gradient["layers"][0][0], 12 * np.outer(r, X))
    equal(gradient["layers"][0][1], 12 * r)
    equal(gradient["layers"][1].u, 12 * M.T @ r)
    equal(gradient["layers"][1].v, 3 * (r * r).sum())
    equal(gradient["scale"], 2 * (r * r).sum())
    equal(gradient["unused"], np.zeros(3))


def test_constants_and_unused_arguments_give_zeros():
    for constant in (1.0, 3, np.array(2.0), Tensor(4.0), leaf(1.0) * 2):
        equal(tg.grad(lambda x, c=constant: c)(X), np.zeros(3))
    _, gy = tg.grad(lambda x, y: (x * x).sum(), (0, 1))(X, M)
    equal(gy, np.zeros((2, 3)))


def test_the_identity():
    assert tg.grad(lambda x: x)(3.0) == 1.0
    equal(tg.grad(lambda x: x.sum())(X), np.ones(3))


@pytest.mark.parametrize(
    "integer", [3, np.arange(3), True, np.int64(1), Tensor([1, 2]), [1.0, 2], {"a": 1}, "text", None]
)
def test_only_floating_point_numbers_are_differentiated(integer):
    for transform in (tg.grad, tg.jacobian, tg.hessian):
        with pytest.raises(TypeError, match=r"argument 0 is .*floating-point"):
            transform(lambda x: 1.0)(integer)
    with pytest.raises(TypeError, match="vjp: argument 1"):
        tg.vjp(lambda x, y: x, 1.0, integer)
    with pytest.raises(TypeError, match="jvp: argument 0"):
        tg.jvp(lambda x: x, (integer,), (1.0,))


def test_what_else_is_refused():
    with pytest.raises(ShapeError, match=r"scalar.*\(3,\)"):
        tg.grad(lambda x: x * x)(X)
    with pytest.raises(ShapeError, match="scalar"):
        tg.grad(lambda x: (x.sum(), 1.0))(X)
    with pytest.raises(TypeError, match="None"):
        tg.grad(lambda x: None)(X)
    with pytest.raises(TypeError, match="argnums=2 with 1 positional"):
        tg.grad(lambda x: x.sum(), 2)(X)
    with pytest.raises(TypeError, match="argnums"):
        tg.grad(lambda x: x.sum())(x=X)


def test_dtypes_are_kept():
    f32 = X.astype(np.float32)
    value, gradient = tg.value_and_grad(lambda x: (x * x).sum())(f32)
    assert value.dtype == gradient.dtype == np.float32
    assert tg.jacobian(np.sin)(f32).dtype == np.float32
    assert tg.hessian(lambda x: (x**3).sum())(f32).dtype == np.float32
    assert tg.grad(lambda x: x * x)(3.0).dtype == np.float64


def test_arguments_are_not_changed_and_not_shared():
    x = X.copy()
    gradient = tg.grad(lambda t: t.sum())(x)
    gradient[...] = 7
    equal(x, X)
    gx, gy = tg.grad(lambda a, b: (a + b).sum(), (0, 1))(X, X)
    gx[...] = 7
    equal(gy, np.ones(3))


def test_under_no_grad_derivatives_are_computed_but_not_recorded():
    w = leaf(X)
    with tg.no_grad():
        gradient = tg.grad(lambda x: (x * x * w).sum())(w)
        assert not gradient.requires_grad
        equal(gradient, 2 * X * X)
        equal(tg.hessian(lambda x: (x**3).sum())(X), np.diag(6 * X))
        assert not tg.is_grad_enabled()


# Nesting -------------------------------------------------------------------------------------------------------------


def test_higher_derivatives():
    f, expected = np.sin, [np.sin(0.7), np.cos(0.7), -np.sin(0.7), -np.cos(0.7), np.sin(0.7), np.cos(0.7)]
    for value in expected:
        equal(f(0.7), value)
        f = tg.grad(f)


def test_perturbations_are_not_confused():
    equal(tg.grad(lambda x: x * tg.grad(lambda y: x + y)(2.0))(3.0), 1.0)
    equal(tg.grad(lambda x: x * tg.grad(lambda y: x * y)(2.0))(3.0), 6.0)
    equal(tg.grad(lambda x: x * tg.grad(lambda y: x * y * y)(x))(3.0), 6 * 9.0)
    equal(tg.grad(lambda x: tg.grad(lambda y: tg.grad(lambda z: x * y * z**2)(y))(x))(3.0), 8 * 3.0)


def test_an_inner_gradient_is_differentiated_through_a_closure():
    def outer(x):
        inner = tg.grad(lambda y: (x * y**3).sum())(X)  # 3 x y²
        assert isinstance(inner, Tensor)
        return (inner * x).sum()

    equal(tg.grad(outer)(X), 6 * X**3)


def test_an_inner_gradient_at_constants_is_a_constant():
    def outer(x):
        inner = tg.grad(lambda y: (y**3).sum())(X)
        assert not inner.requires_grad
        return (inner * x).sum()

    equal(tg.grad(outer)(X), 3 * X * X)


def test_the_same_tensor_as_argument_and_in_the_closure():
    x = leaf(3.0)
    slope = tg.grad(lambda y: x * y * y)(x)  # 2 x y, at y = x
    equal(slope, 18.0)
    slope.backward()
    equal(x.grad, 12.0)


def test_transforms_inside_each_other():
    def f(x):
        return (np.sin(x) * x**2).sum()

    h = tg.hessian(f)(X)
    equal(tg.jacobian(tg.grad(f))(X), h)
    equal(tg.jvp(tg.grad(f), (X,), (X,))[1], h @ X)
    equal(tg.hvp(f)(X, X), h @ X)
    equal(tg.vjp(tg.grad(f), X)[1](X)[0], h @ X)
    equal(tg.grad(lambda x: tg.jvp(f, (x,), (X,))[1])(X), h @ X)
    equal(tg.grad(lambda t: tg.jvp(f, (X,), (t,))[1])(X), tg.grad(f)(X))
    traces = np.einsum("iij->j", tg.jacobian(tg.hessian(f))(X))
    equal(tg.grad(lambda x: (tg.hessian(f)(x) * np.eye(3)).sum())(X), traces)


def test_level_is_restored_after_an_error():
    def fail(x):
        raise KeyError

    with pytest.raises(KeyError):
        tg.grad(fail)(X)
    assert type(tg.grad(lambda x: x.sum())(X)) is np.ndarray


def test_levels_are_per_thread():
    kinds = []

    def f(x):
        thread = threading.Thread(target=lambda: kinds.append(type(tg.grad(lambda y: y.sum())(X))))
        thread.start()
        thread.join()
        return x.sum()

    tg.grad(f)(X)
    assert kinds == [np.ndarray]


# vjp and jvp ---------------------------------------------------------------------------------------------------------


def test_vjp():
    value, pullback = tg.vjp(lambda m, x: {"y": m @ x, "s": (np.sin(x), 1.0)}, M, X)
    equal(value["y"], M @ X)
    equal(value["s"][0], np.sin(X))
    v = {"y": np.array([1.0, 2.0]), "s": (X, 5.0)}
    for _ in range(2):
        gm, gx = pullback(v)
        equal(gm, np.outer([1, 2], X))
        equal(gx, M.T @ [1, 2] + X * np.cos(X))
    with pytest.raises(ShapeError, match=r"\(2,\)"):
        pullback({"y": X, "s": (X, 5.0)})


def test_jvp():
    value, tangent = tg.jvp(lambda m, x: (m @ x, np.sin(x), 1.0), (M, X), (2 * M, np.ones(3)))
    equal(value[0], M @ X)
    equal(tangent[0], 2 * M @ X + M @ np.ones(3))
    equal(tangent[1], np.cos(X))
    equal(tangent[2], 0)
    with pytest.raises(ShapeError, match="tangent"):
        tg.jvp(np.sin, (X,), (np.ones(2),))
    with pytest.raises(TypeError, match="tuple"):
        tg.jvp(np.sin, X, X)


def test_jvp_of_tensors_is_differentiable_in_both():
    x, t = leaf(X), leaf(2 * X)
    _, tangent = tg.jvp(np.sin, (x,), (t,))
    tangent.sum().backward()
    equal(x.grad, -np.sin(X) * 2 * X)
    equal(t.grad, np.cos(X))


def test_jvp_agrees_with_the_jacobian():
    def f(x):
        return np.stack([np.prod(x), np.exp(x[0]) * x[2], x.sum() ** 2])

    equal(tg.jvp(f, (X,), (M[0],))[1], tg.jacobian(f)(X) @ M[0])
    equal(tg.vjp(f, X)[1](M[0])[0], M[0] @ tg.jacobian(f)(X))


# Jacobians and Hessians ----------------------------------------------------------------------------------------------


def test_shapes_of_jacobians():
    assert tg.jacobian(lambda x: x[:, None] * M.T)(X).shape == (3, 2, 3)
    assert tg.jacobian(lambda x: x.sum())(M).shape == (2, 3)
    assert tg.jacobian(lambda x: x * X)(2.0).shape == (3,)
    assert tg.jacobian(lambda x: x * x)(np.zeros((0, 2))).shape == (0, 2, 0, 2)
    assert tg.jacobian(lambda x: x[:0])(X).shape == (0, 3)
    assert tg.hessian(lambda x: (x**2).sum())(M).shape == (2, 3, 2, 3)


def test_jacobian_of_several_arguments_and_results():
    (yx, ym), (zx, zm) = tg.jacobian(lambda x, m: (m @ x, x.sum()), (0, 1))(X, M)
    equal(yx, M)
    equal(ym, np.einsum("ik,j->ikj", np.eye(2), X))
    equal(zx, np.ones(3))
    equal(zm, np.zeros((2, 3)))
    nested = tg.jacobian(lambda p: {"y": p["m"] @ p["x"]})({"m": M, "x": X})
    equal(nested["y"]["x"], M)


def test_hessian_of_several_arguments():
    (xx, xy), (yx, yy) = tg.hessian(lambda x, y: (x**2 * y).sum(), (0, 1))(X, 2 * X)
    equal(xx, np.diag(4 * X))
    equal(xy, np.diag(2 * X))
    equal(yx, np.diag(2 * X))
    equal(yy, np.zeros((3, 3)))


def test_hessian_of_rosenbrock():
    h = tg.hessian(rosenbrock)(X)
    equal(h, h.T)
    gradient = tg.grad(rosenbrock)
    columns = [finite_differences(lambda x, i=i: gradient(x)[i], [X])[0] for i in range(3)]
    equal(h, columns, rtol=1e-6, atol=1e-6)


def test_hvp_of_a_network_needs_no_hessian():
    rng = np.random.default_rng(0)
    sizes, inputs = [(5, 3), (5,), (2, 5), (2,)], rng.normal(size=(4, 3))
    parameters = [rng.normal(size=s) for s in sizes]
    direction = [rng.normal(size=s) for s in sizes]

    def loss(p):
        return nn.functional.cross_entropy(np.tanh(inputs @ p[0].T + p[1]) @ p[2].T + p[3], np.array([0, 1, 1, 0]))

    product = tg.hvp(loss)(parameters, direction)
    step = 1e-5
    ends = [tg.grad(loss)([p + s * d for p, d in zip(parameters, direction, strict=True)]) for s in (step, -step)]
    for actual, high, low in zip(product, *ends, strict=True):
        equal(actual, (high - low) / (2 * step), rtol=1e-6, atol=1e-8)


def test_scipy_takes_value_and_grad():
    optimize = pytest.importorskip("scipy.optimize")
    result = optimize.minimize(tg.value_and_grad(rosenbrock), np.zeros(4), jac=True, method="BFGS")
    equal(result.x, np.ones(4), rtol=1e-4)


def test_newtons_method_finds_the_minimum():
    x = np.array([-1.2, 1.0])
    for _ in range(10):
        x = x - np.linalg.solve(tg.hessian(rosenbrock)(x), tg.grad(rosenbrock)(x))
    equal(x, [1, 1])


@pytest.mark.parametrize("f", [math.sin, lambda x: float(x) * x, lambda x: math.exp(x * x)])
def test_functions_of_math_would_lose_the_gradient(f):
    for transform in (tg.grad, tg.hessian, lambda g: lambda x: tg.jvp(g, (x,), (1.0,))):
        with pytest.raises(GraphError, match=r"math.*NumPy's functions, or t\.item\(\)"):
            transform(f)(1.0)


def test_numbers_of_a_function_that_is_differentiated():
    seen = []

    def f(x):
        seen.append((x.item(), f"{x:.1f}"))
        return x * x

    assert tg.grad(f)(2.0) == 4
    assert seen == [(2.0, "2.0")]
    assert float(tg.Tensor(2.0, requires_grad=True) * 2) == 4
