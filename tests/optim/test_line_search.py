"""Line searches: both sides of their conditions, computed anew after every step, and the places where they end."""

import copy
import gc
import itertools
import math

import numpy as np
import pytest

import tinygrad_opt as tg
from tinygrad_opt import AnomalyError, GraphError, nn, optim

# Functions of a vector in plain NumPy calls, which run on arrays and on Tensors alike; each with a start


def ravine(x):
    return (x[0] ** 2 + 50 * x[1] ** 2) / 2


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def himmelblau(x):
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


def barrier(x):
    """Of no value outside of x > 0, so long steps give NaN."""
    return x[0] + 4 * x[1] - np.log(x[0]) - np.log(x[1])


def saddle(x):
    """Curved down at the start."""
    return np.cos(x[0]) + x[1] ** 2 / 2


def steep(x):
    """Overflows for long steps."""
    return np.exp(5 * x[0]) + np.exp(-x[0]) + x[1] ** 4


FUNCTIONS = {
    f.__name__: (f, np.array(start))
    for f, start in [
        (ravine, [-4.0, 1.0]),
        (rosenbrock, [-1.2, 1.0]),
        (himmelblau, [0.0, 0.0]),
        (barrier, [5.0, 3.0]),
        (saddle, [0.3, 2.0]),
        (steep, [2.0, 1.0]),
    ]
}
SEARCHES = {
    "goldstein": optim.ArmijoGoldstein(),
    "goldstein 0.01": optim.ArmijoGoldstein(c=0.01),
    "goldstein 0.45": optim.ArmijoGoldstein(c=0.45),
    "goldstein 0.7": optim.ArmijoGoldstein(c=0.7),  # only Armijo's side is asked for
    "relaxation": optim.ArmijoFullRelaxation(),
    "relaxation, b=0": optim.ArmijoFullRelaxation(c=0.3, b=0),
    "relaxation, b=1": optim.ArmijoFullRelaxation(c=0.9, b=1),
}
every_function = pytest.mark.parametrize(("function", "start"), FUNCTIONS.values(), ids=FUNCTIONS)
every_search = pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)


def derivatives(function, x):
    """g and H by central differences in NumPy alone: as good as about six digits of H."""
    n, h = x.size, 1e-4
    steps = np.eye(n) * h
    g = np.array([(function(x + s) - function(x - s)) / (2 * h) for s in steps])
    hessian = [
        [
            (function(x + s + r) - function(x + s - r) - function(x - s + r) + function(x - s - r)) / (4 * h * h)
            for r in steps
        ]
        for s in steps
    ]
    return g, np.array(hessian)


@every_search
@every_function
def test_the_condition_holds_after_every_step(function, start, search):
    w = nn.Parameter(start)
    optimizer = optim.GradientDescent([w], lr=1.0, line_search=search)
    calls = []
    for _ in range(25):
        before = w.data.copy()
        calls.clear()

        def closure():
            calls.append(w.data.copy())
            return function(w)

        loss = optimizer.step(closure)
        found = optimizer.last_search
        g = w.grad.data
        numeric, hessian = derivatives(function, before)
        np.testing.assert_allclose(g, numeric, rtol=1e-3, atol=1e-5)
        assert loss.item() == found.loss
        np.testing.assert_allclose(found.loss, function(before), rtol=1e-6, atol=1e-14)
        assert found.slope == pytest.approx(g @ g, rel=1e-12)
        assert len(calls) == found.evaluations == found.trials + 1
        if found.reason != "accepted":
            assert found.slope < 1e-9 * max(1, abs(found.loss))  # only where rounding hides what is left
            break
        a, after = found.step_size, function(w.data)
        np.testing.assert_array_equal(w.data, before - a * g)
        np.testing.assert_array_equal(calls[-1], w.data)
        assert optimizer.param_groups[0]["lr"] == a
        c, slack = search.c, 1e-13 * max(1, abs(found.loss))
        if isinstance(search, optim.ArmijoGoldstein):
            assert after <= found.loss - c * a * (g @ g) + slack
            if c < 0.5:
                assert after >= found.loss - (1 - c) * a * (g @ g) - slack
        else:
            exact = g @ tg.hessian(function)(before) @ g
            assert found.curvature == pytest.approx(exact, rel=1e-10, abs=1e-10)
            assert found.curvature == pytest.approx(g @ hessian @ g, rel=1e-2, abs=1e-3 * (g @ g))
            assert after <= found.loss - c * a * (g @ g) + search.b / 2 * a**2 * exact + slack
        for alpha, value in found.tried:
            with np.errstate(all="ignore"):
                expected = float(function(before - alpha * g))
            np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-14)
    assert function(w.data) < function(start)


@every_search
def test_longer_trials_were_too_long(search):
    """The step taken is the longest of those tried that the conditions allow."""
    w = nn.Parameter([-1.2, 1.0])
    optimizer = optim.GradientDescent([w], lr=10.0, line_search=search)
    for _ in range(10):
        optimizer.step(lambda: rosenbrock(w))
        found = optimizer.last_search
        for alpha, value in found.tried:
            if alpha > found.step_size:
                curvature = (found.curvature or 0) * getattr(search, "b", 0) / 2
                assert not value <= found.loss - search.c * alpha * found.slope + curvature * alpha**2


def test_the_exact_step_of_a_quadratic_is_taken_at_once():
    w = nn.Parameter([-4.0, 1.0])
    optimizer = optim.GradientDescent([w], line_search=optim.ArmijoFullRelaxation())
    for _ in range(10):
        x = w.data.copy()
        optimizer.step(lambda: ravine(w))
        g, h = x * [1, 50], np.diag([1.0, 50.0])
        assert optimizer.last_search.trials == 1
        assert optimizer.last_search.step_size == pytest.approx((g @ g) / (g @ h @ g), rel=1e-12)


def test_steps_grow_again_after_they_shrank():
    w = nn.Parameter([3.0])
    scale = [1000.0]
    optimizer = optim.GradientDescent([w], lr=1.0, line_search=optim.ArmijoGoldstein())
    sizes = []
    for step in range(12):
        scale[0] = 1000.0 if step < 4 else 0.01
        w.data = np.array([3.0])
        optimizer.step(lambda: scale[0] * (w * w).sum() / 2)
        sizes.append(optimizer.last_search.step_size)
    assert max(sizes[:4]) <= 2 / 1000
    assert min(sizes[4:]) >= 0.5 / 0.01


def test_a_trial_that_gives_nan_or_infinity_has_failed():
    w = nn.Parameter([5.0, 3.0])
    optimizer = optim.GradientDescent([w], lr=1000.0, line_search=optim.ArmijoGoldstein())
    for _ in range(150):
        optimizer.step(lambda: barrier(w))
        assert np.all(np.isfinite(w.data))
        assert np.all(w.data > 0)
    first = optim.GradientDescent([nn.Parameter([5.0, 3.0])], lr=1000.0, line_search=optim.ArmijoGoldstein())
    v = first.param_groups[0]["params"][0]
    first.step(lambda: barrier(v))
    assert math.isnan(first.last_search.tried[0][1])
    np.testing.assert_allclose(w.data, [1, 0.25], atol=1e-4)


@every_search
def test_at_a_minimum_it_stays(search):
    w = nn.Parameter([0.0, 0.0])
    optimizer = optim.GradientDescent([w], line_search=search)
    optimizer.step(lambda: ravine(w))
    found = optimizer.last_search
    assert (found.step_size, found.trials, found.evaluations) == (0.0, 0, 1)
    assert "gradient is zero" in found.reason
    assert w.tolist() == [0.0, 0.0]
    assert optimizer.param_groups[0]["lr"] == 0.01


@every_search
def test_where_rounding_hides_the_decrease_it_stops_with_a_reason(search):
    w = nn.Parameter([1e-9])
    optimizer = optim.GradientDescent([w], lr=1.0, line_search=search)
    optimizer.step(lambda: 1e6 + (w * w).sum())
    found = optimizer.last_search
    assert found.trials <= search.max_trials
    assert found.reason == "accepted" or "rounding" in found.reason or "too short" in found.reason
    assert abs(w.item()) <= 1e-9


@every_search
def test_a_flat_function_has_no_step(search):
    w = nn.Parameter([1.0, 2.0])
    optimizer = optim.GradientDescent([w], line_search=search)
    optimizer.step(lambda: (0 * w).sum() + 3.0)
    assert "gradient is zero" in optimizer.last_search.reason
    assert w.tolist() == [1.0, 2.0]


@every_search
def test_a_linear_function_ends_the_search(search):
    w = nn.Parameter([1.0, 2.0])
    optimizer = optim.GradientDescent([w], lr=1.0, line_search=search)
    loss = optimizer.step(lambda: 2 * w[0] - w[1])
    found = optimizer.last_search
    assert loss.item() == 0.0
    assert found.trials <= search.max_trials
    assert found.step_size > 0
    assert np.all(np.isfinite(w.data))
    if found.reason != "accepted":  # every step is too short for Goldstein
        assert "too short" in found.reason
        assert found.trials == search.max_trials
    if found.curvature is not None:
        assert found.curvature == 0


@every_search
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_raises_and_changes_nothing(search, value):
    w = nn.Parameter([1.0, 2.0])
    optimizer = optim.GradientDescent([w], line_search=search)
    with pytest.raises(AnomalyError, match="cannot start: the loss is"):
        optimizer.step(lambda: (w * value).sum())
    assert w.tolist() == [1.0, 2.0]


def test_a_gradient_that_is_no_number_raises():
    w = nn.Parameter([0.0])
    optimizer = optim.GradientDescent([w], line_search=optim.ArmijoGoldstein())
    with np.errstate(divide="ignore"), pytest.raises(AnomalyError, match="is inf"):
        optimizer.step(lambda: np.sqrt(w).sum())
    assert w.item() == 0.0


@every_search
def test_an_error_in_a_trial_puts_the_parameters_back(search):
    w = nn.Parameter([1.0, 2.0])
    optimizer = optim.GradientDescent([w], line_search=search)
    calls = []

    def closure():
        calls.append(0)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return ravine(w)

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    assert w.tolist() == [1.0, 2.0]


def test_bad_input_is_explained():
    w = nn.Parameter([1.0])
    optimizer = optim.GradientDescent([w], line_search=optim.ArmijoGoldstein())
    with pytest.raises(TypeError, match=r"call step\(closure\)"):
        optimizer.step()
    with pytest.raises(TypeError, match="must return the loss"):
        optimizer.step(lambda: 3.0)
    with pytest.raises(GraphError):
        optimizer.step(lambda: tg.Tensor(3.0))
    with pytest.raises(TypeError, match="line_search must be a search"):
        optim.GradientDescent([w], line_search="armijo")
    for c in (0, 1, -0.1, math.nan, "0.5"):
        with pytest.raises(ValueError, match="c must be"):
            optim.ArmijoGoldstein(c=c)
        with pytest.raises(ValueError, match="c must be"):
            optim.ArmijoFullRelaxation(c=c)
    with pytest.raises(ValueError, match="b must be"):
        optim.ArmijoFullRelaxation(b=-1)
    with pytest.raises(ValueError, match="max_trials"):
        optim.ArmijoGoldstein(max_trials=0)


@every_search
def test_a_search_resumes_bit_for_bit(search):
    w = nn.Parameter([-1.2, 1.0])
    optimizer = optim.GradientDescent([w], lr=0.1, line_search=search)
    for _ in range(5):
        optimizer.step(lambda: rosenbrock(w))
    saved, v = copy.deepcopy(optimizer.state_dict()), nn.Parameter(w.data)
    twin = optim.GradientDescent([v], lr=0.1, line_search=search)
    twin.load_state_dict(saved)
    for _ in range(5):
        optimizer.step(lambda: rosenbrock(w))
        twin.step(lambda: rosenbrock(v))
        assert twin.last_search == optimizer.last_search
    np.testing.assert_array_equal(v.data, w.data)


@every_search
def test_groups_dtypes_and_parameters_without_a_gradient(search):
    a, b = nn.Parameter([2.0], dtype="float32"), nn.Parameter([[1.0, -1.0]])
    unused = nn.Parameter([7.0], name="unused")
    optimizer = optim.GradientDescent([{"params": [a]}, {"params": [b, unused], "lr": 0.5}], line_search=search)
    with pytest.warns(UserWarning, match="unused"):
        optimizer.step(lambda: (a * a).sum() + (b**4).sum())
    first = optimizer.last_search
    for _ in range(60):
        optimizer.step(lambda: (a * a).sum() + (b**4).sum())
    assert first.slope == pytest.approx(16 + 32)
    if first.curvature is not None:
        assert first.curvature == pytest.approx(2 * 16 + 12 * 32)
    assert (a.dtype, b.dtype, unused.item()) == (np.float32, np.float64, 7.0)
    assert float((a * a).sum() + (b**4).sum()) < 1e-3
    assert optimizer.param_groups[0]["lr"] == optimizer.param_groups[1]["lr"]


@every_search
def test_a_network_is_trained_by_fit(search):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    y = (x[:, 0] * x[:, 1] > 0).astype(int)
    model = nn.MLP([2, 16, 2], activation=nn.Tanh, generator=rng)
    optimizer = optim.GradientDescent(model.parameters(), lr=1.0, line_search=search)
    loader = tg.DataLoader(x, y, batch_size="all")
    history = tg.fit(model, nn.CrossEntropyLoss(), optimizer, loader, 60, progress=False)
    losses = history["loss"]
    assert all(later <= earlier for earlier, later in itertools.pairwise(losses))
    assert losses[-1] < 0.75 * losses[0]


def test_memory_stays_flat_without_the_garbage_collector():
    w = nn.Parameter([-1.2, 1.0])
    optimizer = optim.GradientDescent([w], line_search=optim.ArmijoFullRelaxation())
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            optimizer.step(lambda: rosenbrock(w))
        assert gc.collect() == 0
    finally:
        gc.enable()
