"""Plots: what is drawn are the numbers that were given; and bad input."""

import re
import sys

import numpy as np
import pytest

from tinygrad_opt import History, landscapes, nn, optim, viz
from tinygrad_opt.viz import plots

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def a_path(steps=10):
    return landscapes.descend(landscapes.beale, landscapes.beale.start, lambda p: optim.Adam(p, lr=0.1), steps)


def test_losses_are_drawn_over_epochs():
    history = History()
    for loss in (3.0, 2.0, 1.5):
        history.append({"loss": loss})
    axes = viz.plot_losses({"fit": history, "list": [4.0, 1.0]}, ylabel="cross-entropy")
    first, second = axes.get_lines()
    np.testing.assert_array_equal(first.get_xydata(), [[1, 3.0], [2, 2.0], [3, 1.5]])
    np.testing.assert_array_equal(second.get_ydata(), [4.0, 1.0])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["fit", "list"]
    assert (axes.get_ylabel(), axes.get_yscale()) == ("cross-entropy", "log")


def test_a_history_has_axes_for_each_quantity():
    history = History()
    for t in (1, 2, 3):
        history.append({"loss": 1 / t, "mae": 2.0, "val_loss": 2 / t, "val_mae": 3.0, "lr": 0.1, "seconds": 1.0})
    figure = viz.plot_history(history)
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "mae", "learning rate"]
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear", "linear"]
    training, validation = figure.axes[0].get_lines()
    np.testing.assert_allclose(training.get_xydata(), [[1, 1], [2, 1 / 2], [3, 1 / 3]])
    np.testing.assert_allclose(validation.get_ydata(), [2, 1, 2 / 3])
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["training", "validation"]
    assert figure.axes[2].get_legend() is None


def test_a_history_with_a_loss_that_is_not_positive_or_one_epoch_or_none():
    history = History()
    with pytest.raises(ValueError, match="no epoch in this history"):
        viz.plot_history(history)
    with pytest.raises(TypeError, match=r"draws what fit returned, a History; got \[1.0\]"):
        viz.plot_history([1.0])
    history.append({"loss": -1.0})
    figure = viz.plot_history(history)
    assert figure.axes[0].get_yscale() == "linear"
    assert figure.axes[0].get_lines()[0].get_marker() == "o"  # of one epoch there is no line to see
    history.columns = {"loss": [1.0, 2.0], "val_only": [3.0, 4.0]}
    assert [axes.get_ylabel() for axes in viz.plot_history(history, log=False).axes] == ["loss", "val_only"]


def test_epochs_are_whole_numbers():
    for losses in ([3.0, 2.0, 1.0], [1.0]):
        axes = viz.plot_losses({"run": losses})
        axes.figure.canvas.draw()
        assert all(tick == round(tick) for tick in axes.get_xticks())


def test_names_with_an_underscore_are_in_the_legend():
    axes = viz.plot_losses({"_own": [2.0, 1.0], "other": [1.0, 1.0]})
    assert [text.get_text().strip() for text in axes.get_legend().get_texts()] == ["_own", "other"]


def test_a_history_with_gaps():
    history = History()
    history.append({"loss": 2.0})
    history.append({"loss": 1.0, "val_loss": 1.5})
    (axes,) = viz.plot_history(history).axes
    assert axes.get_yscale() == "log"
    assert [line.get_marker() != "None" for line in axes.lines] == [False, True]


def test_lines_differ_in_more_than_colour():
    styles = [style for style, _ in zip(plots.styles(), range(35), strict=False)]
    assert len({(s["linestyle"], s["marker"]) for s in styles}) == 35


def test_paths_are_drawn_on_the_contours():
    path = a_path()
    axes = viz.plot_paths(landscapes.beale, {"Adam": path, "short": path[:1]})
    drawn = {line.get_label(): line.get_xydata() for line in axes.get_lines()}
    np.testing.assert_array_equal(drawn["Adam"], path)
    assert any(np.array_equal(line.get_xydata(), [landscapes.beale.minima[0]]) for line in axes.get_lines())
    assert axes.get_xlim() == landscapes.beale.window[:2]


@pytest.mark.parametrize("landscape", landscapes.LANDSCAPES.values(), ids=landscapes.LANDSCAPES)
def test_every_landscape_can_be_drawn(landscape, tmp_path):
    viz.plot_paths(landscape, {}).figure.savefig(tmp_path / "picture.png")


def test_given_axes_are_used():
    _, (left, right) = plt.subplots(1, 2)
    assert viz.plot_losses({"a": [1.0]}, axes=left) is left
    assert viz.plot_paths(landscapes.saddle, {}, axes=right) is right


def test_the_film_as_a_page_needs_nothing_from_the_network(tmp_path):
    file = viz.animate_paths(landscapes.beale, {"Adam": a_path(5), "short": a_path(2)}, tmp_path / "race.html")
    page = file.read_text(encoding="utf-8")
    assert page.count("data:image/png;base64") >= 6
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page)
    assert "fa-play" not in page
    assert "▶" in page


def test_the_film_as_a_gif_has_a_frame_for_each_point(tmp_path):
    image = pytest.importorskip("PIL.Image")
    file = viz.animate_paths(landscapes.beale, {"Adam": a_path(5), "short": a_path(2)}, str(tmp_path / "race.gif"))
    with image.open(file) as film:
        assert film.n_frames == 6


def test_what_a_line_search_tried():
    w = nn.Parameter([-4.0, 1.0])
    search = optim.ArmijoGoldstein(c=0.2)
    optimizer = optim.GradientDescent([w], lr=0.3, line_search=search)
    optimizer.step(lambda: landscapes.ravine(w))
    found, g = optimizer.last_search, landscapes.ravine.gradient([-4.0, 1.0])
    axes = viz.plot_line_search(found, search, lambda a: landscapes.ravine(np.array([-4.0, 1.0]) - a * g))
    drawn = {line.get_label(): line.get_xydata() for line in axes.get_lines()}
    np.testing.assert_allclose(drawn["tried"], found.tried)
    np.testing.assert_allclose(drawn["taken"], [[found.step_size, landscapes.ravine(w.data)]])
    alphas, most = drawn["at most"].T
    np.testing.assert_allclose(most, found.loss - 0.2 * alphas * (g @ g))
    np.testing.assert_allclose(drawn["at least"][:, 1], found.loss - 0.8 * alphas * (g @ g))
    np.testing.assert_allclose(drawn["J(θ - αg)"][0], [0, found.loss])


@pytest.mark.parametrize("search", [optim.ArmijoGoldstein(c=0.7), optim.ArmijoFullRelaxation()])
def test_a_condition_with_one_side(search):
    w = nn.Parameter([5.0, 3.0])
    optimizer = optim.GradientDescent([w], lr=1000.0, line_search=search)
    optimizer.step(lambda: (w - np.log(w)).sum())  # with trials that give NaN
    axes = viz.plot_line_search(optimizer.last_search, search)
    labels = [line.get_label() for line in axes.get_lines()]
    assert labels == ["at most", "tried", "taken"]


def test_bad_input_is_explained(tmp_path):
    with pytest.raises(ValueError, match="at least one run"):
        viz.plot_losses({})
    with pytest.raises(ValueError, match=r"'Adam'.*\(3,\)"):
        viz.plot_paths(landscapes.ravine, {"Adam": [1, 2, 3]})
    with pytest.raises(ValueError, match=r"html or .gif.*race.mp4"):
        viz.animate_paths(landscapes.ravine, {"Adam": a_path(2)}, tmp_path / "race.mp4")
    with pytest.raises(ValueError, match="at least one path"):
        viz.animate_paths(landscapes.ravine, {}, tmp_path / "race.gif")
    with pytest.raises(ValueError, match="did not run"):
        viz.plot_line_search(optim.Search(1.0, 1.0), optim.ArmijoGoldstein())


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install 'tinygrad_opt\[pictures\]'"):
        viz.plot_losses({"a": [1.0]})
