"""The test functions: their minima, their gradients, and paths over them."""

import numpy as np
import pytest

import tinygrad_opt as tg
from tinygrad_opt import landscapes, optim
from tinygrad_opt.landscapes import LANDSCAPES

every_landscape = pytest.mark.parametrize("landscape", LANDSCAPES.values(), ids=LANDSCAPES)


@every_landscape
def test_gradients_agree_with_finite_differences(landscape):
    rng = np.random.default_rng(0)
    for x in rng.uniform(-2, 2, size=(5, 2)):
        step = 1e-6 * np.eye(2)
        expected = [(landscape(x + s) - landscape(x - s)) / 2e-6 for s in step]
        np.testing.assert_allclose(landscape.gradient(x), expected, rtol=1e-6, atol=1e-5)


@every_landscape
def test_the_minima_are_the_lowest_places(landscape):
    x1_from, x1_to, x2_from, x2_to = landscape.window
    grid = np.array(np.meshgrid(np.linspace(x1_from, x1_to, 200), np.linspace(x2_from, x2_to, 200)))
    heights = landscape(grid)
    assert heights.shape == (200, 200)
    assert heights[3, 7] == pytest.approx(landscape(grid[:, 3, 7]))
    for minimum in landscape.minima:
        np.testing.assert_allclose(landscape.gradient(minimum), 0, atol=1e-4)
        assert landscape(minimum) == pytest.approx(0, abs=1e-9)
        assert np.all(heights >= landscape(minimum) - 1e-9)
        assert np.all(np.linalg.eigvalsh(tg.hessian(landscape.function)(np.array(minimum))) > 0)


@every_landscape
def test_start_and_minima_are_in_the_window(landscape):
    x1_from, x1_to, x2_from, x2_to = landscape.window
    for x1, x2 in (landscape.start, *landscape.minima):
        assert x1_from <= x1 <= x1_to
        assert x2_from <= x2 <= x2_to


def test_a_path_has_the_points_of_the_rule():
    path = landscapes.descend(landscapes.ravine, (-4.0, 1.0), lambda p: optim.GradientDescent(p, lr=0.01), steps=20)
    expected = np.array([[-4.0 * 0.99**t, 1.0 * 0.0**t] for t in range(21)])
    np.testing.assert_allclose(path, expected, atol=1e-14)


def test_a_path_with_a_line_search_goes_down():
    search = optim.ArmijoGoldstein()
    path = landscapes.descend(
        landscapes.rosenbrock, (-1.2, 1.0), lambda p: optim.GradientDescent(p, line_search=search), steps=20
    )
    assert np.all(np.diff(landscapes.rosenbrock(path.T)) < 0)
