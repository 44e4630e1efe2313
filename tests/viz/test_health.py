"""Health pictures: the numbers behind them are right, sick networks show, and nothing stays changed."""

import weakref

import numpy as np
import pytest

import tinygrad_opt as tg
from tinygrad_opt import GraphError, ShapeError, Tensor, nn, optim, viz
from tinygrad_opt.nn import functional as F
from tinygrad_opt.viz.health import EDGES, magnitudes

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 2))
CLASSES = (X[:, 0] * X[:, 1] > 0).astype(int)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def train(model, epochs=3, lr=0.1, **options):
    optimizer = optim.SGD(model.parameters(), lr=lr)
    loader = tg.DataLoader(X, CLASSES, batch_size=10)
    return tg.fit(model, F.cross_entropy, optimizer, loader, epochs, progress=False, **options)


# What is noted -------------------------------------------------------------------------------------------------------


def test_magnitudes_count_in_bins_of_powers_of_ten():
    values = np.array([1.0, -1.0, 0.0, 1e-5, 1e-30, 1e9, np.nan, np.inf])
    counts = magnitudes(values)
    assert counts.sum() == 5
    assert counts[0] == 1  # what is smaller than all bins
    assert counts[-1] == 1
    assert counts[np.searchsorted(EDGES, 0.0, side="right") - 1] == 2
    assert magnitudes(np.zeros(3)).sum() == 0


def test_the_numbers_of_an_epoch_are_those_of_a_loop_by_hand():
    model, twin = (nn.MLP([2, 6, 2], generator=np.random.default_rng(1)) for _ in range(2))
    with viz.Health(model) as health:
        train(model, epochs=2, callbacks=health)
    optimizer = optim.SGD(twin.parameters(), lr=0.1)
    for epoch in range(2):
        outputs = []
        for start in range(0, 40, 10):
            before = twin.state_dict()
            optimizer.zero_grad()
            hidden = twin[0](X[start : start + 10])
            outputs.append(hidden.data)
            F.cross_entropy(twin[2](twin[1](hidden)), CLASSES[start : start + 10]).backward()
            optimizer.step()
        expected = magnitudes(np.concatenate(outputs))
        np.testing.assert_allclose(health.activations["0: Linear"][epoch], expected / expected.sum())
        assert health.dead["1: ReLU"][epoch] == np.mean((np.concatenate(outputs) <= 0).all(axis=0))
        for name, p in twin.named_parameters():
            g = p.grad.data
            np.testing.assert_allclose(health.gradients[name][epoch], magnitudes(g) / np.count_nonzero(g))
            assert health.gradient_norms[name][epoch] == pytest.approx(np.sqrt(np.mean(g**2)))
            ratio = np.linalg.norm(p.data - before[name]) / np.linalg.norm(before[name])
            assert health.update_ratios[name][epoch] == pytest.approx(ratio)


def test_dead_units_are_found():
    model = nn.MLP([2, 8, 2])
    with tg.no_grad():
        model[0].bias[...] = 1.0
        model[0].bias[:6] = -100.0
    with viz.Health(model) as health:
        train(model, epochs=1, callbacks=health)
    assert health.dead == {"1: ReLU": [6 / 8]}


def test_vanishing_gradients_are_seen():
    deep = nn.MLP([2] + [10] * 6 + [2], nn.Sigmoid)
    with viz.Health(deep) as health:
        train(deep, epochs=1, callbacks=health)
    norms = [norms[0] for name, norms in health.gradient_norms.items() if name.endswith("weight")]
    assert norms[0] < 1e-3 * norms[-1]
    centres = (EDGES[:-1] + EDGES[1:]) / 2
    typical = [float(centres @ rows[0]) for name, rows in health.gradients.items() if name.endswith("weight")]
    assert typical[0] < typical[-1] - 2


def test_evaluation_does_not_count():
    model = nn.MLP([2, 4, 2])
    with viz.Health(model) as plain:
        train(model, epochs=1, callbacks=plain)
    twin = nn.MLP([2, 4, 2])
    twin.load_state_dict(model.state_dict())
    results = []
    for validation in (None, (X * 1000, CLASSES)):
        with viz.Health(twin) as health:
            train(twin, epochs=1, lr=1e-12, callbacks=health, validation=validation)
        results.append(health.activations["0: Linear"][0])
    np.testing.assert_allclose(*results)


def test_hooks_are_taken_away_and_no_graph_is_kept():
    model, results = nn.MLP([2, 4, 2]), []
    health = viz.Health(model)
    with model.register_forward_hook(lambda module, args, result: results.append(weakref.ref(result))):
        train(model, epochs=1, callbacks=health)
    health.close()
    assert not any(m._hooks.before or m._hooks.after for m in model.modules() if m._hooks)
    assert len(results) == 4
    assert not any(reference() for reference in results)
    with pytest.raises(GraphError, match="no batch went through the model"):
        health()


def test_a_loop_of_ones_own_and_parameters_without_gradients():
    model = nn.Linear(2, 1)
    model.unused = nn.Parameter([0.0])
    health = viz.Health(model)
    for _ in range(2):
        model(X).sum().backward()
        health()
    assert health.update_ratios["weight"] == [0.0, 0.0]
    assert health.gradient_norms["unused"] == [0.0, 0.0]
    assert np.isnan(health.update_ratios["unused"]).all()
    assert list(health.activations) == ["Linear"]


def test_the_picture_shows_the_numbers():
    model = nn.MLP([2, 6, 6, 2])
    with viz.Health(model) as health:
        train(model, epochs=4, callbacks=health)
    figure = viz.plot_health(health)
    by_title = {axes.get_title(): axes for axes in figure.axes}
    assert set(by_title) >= {"0: Linear", "1: ReLU", "4: Linear", "0.weight", "2.weight", "4.weight"}
    image = by_title["2.weight"].get_images()[0].get_array()
    np.testing.assert_allclose(image, np.array(health.gradients["2.weight"]).T)
    ratios, dead = figure.axes[-2:]
    assert ratios.get_yscale() == "log"
    np.testing.assert_allclose(ratios.get_lines()[0].get_ydata(), health.update_ratios["0.weight"])
    np.testing.assert_allclose(dead.get_lines()[0].get_ydata(), 100 * np.array(health.dead["1: ReLU"]))
    with pytest.raises(ValueError, match="no epoch was noted"):
        viz.plot_health(viz.Health(model))


# Decision boundaries --------------------------------------------------------------------------------------------------


def left_of(limit):
    """A model that gives one score, positive to the right of ``limit``."""
    return lambda x: np.asarray(x)[:, 0] - limit


def regions(axes, points=200):
    """The class that is drawn at the left and at the right end."""
    return [len(path.get_paths()) for path in axes.collections]


@pytest.mark.parametrize(
    ("model", "labels"),
    [
        (left_of(0.5), [-1, 1]),
        (lambda x: x[:, :1] - 0.5, [0, 1]),
        (lambda x: 1 / (1 + np.exp(-10 * (x[:, 0] - 0.5))), [0, 1]),
        (lambda x: np.column_stack([0 * x[:, 0], x[:, 0] - 0.5]), [0, 1]),
    ],
    ids=["scores", "column", "probabilities", "classes"],
)
def test_the_boundary_is_where_the_class_changes(model, labels):
    x = np.array([[0.0, 0.0], [1.0, 1.0], [0.2, 0.5], [0.8, 0.3]])
    y = np.array(labels)[[0, 1, 0, 1]]
    axes = viz.plot_decision_boundary(model, x, y)
    lines = [c for c in axes.collections if c.get_linewidth()[0] == 1.5]
    places = np.concatenate([path.vertices for path in lines[0].get_paths()])
    np.testing.assert_allclose(places[:, 0], 0.5, atol=0.01)
    drawn = [line.get_xydata() for line in axes.get_lines()]
    np.testing.assert_array_equal(np.concatenate(drawn), x[[0, 2, 1, 3]])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [str(label) for label in labels]


def test_a_model_is_run_in_evaluation_mode_and_put_back():
    model = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5))
    model[0].eval()
    seen = []
    model[1].register_forward_hook(lambda module, *_: seen.append((module.training, tg.is_grad_enabled())))
    axes = viz.plot_decision_boundary(model, X, np.arange(40) % 3, points=20)
    assert seen == [(False, False)]
    assert [m.training for m in model.modules()] == [True, False, True]
    assert viz.plot_decision_boundary(model, Tensor(X), CLASSES, points=20, axes=axes) is axes


@pytest.mark.parametrize(
    ("x", "y", "model", "error", "text"),
    [
        (np.ones((4, 3)), [0, 1, 0, 1], left_of(0), ShapeError, r"x \(examples, 2\).*\(4, 3\)"),
        (np.ones((4, 2)), [0, 1], left_of(0), ShapeError, r"\(4, 2\) and \(2,\)"),
        (X[:3], [0, 1, 2], left_of(0), ValueError, "one score tells two classes apart"),
        (X[:2], [0, 1], lambda x: np.ones(3), ShapeError, r"it gave \(3,\)"),
    ],
)
def test_what_has_no_boundary_is_refused(x, y, model, error, text):
    with pytest.raises(error, match=text):
        viz.plot_decision_boundary(model, x, y)


# The loss around the weights ------------------------------------------------------------------------------------------


def network():
    return nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))


def test_the_surface_is_the_loss_along_the_directions():
    model = nn.MLP([2, 3, 2])
    directions = tuple([rng.normal(size=p.shape) for p in model.parameters()] for _ in range(2))
    surface = viz.loss_surface(
        lambda: F.cross_entropy(model(X), CLASSES), model, span=0.5, points=3, directions=directions
    )
    np.testing.assert_allclose(surface.first, [-0.5, 0, 0.5])
    start = model.state_dict()
    for i, b in enumerate(surface.second):
        for j, a in enumerate(surface.first):
            moved = [v + a * u + b * w for v, u, w in zip(start.values(), *directions, strict=True)]
            model.load_state_dict(dict(zip(start, moved, strict=True)))
            assert surface.loss[i, j] == pytest.approx(F.cross_entropy(model(X), CLASSES).item())


@pytest.mark.parametrize("fails", [False, True])
def test_weights_and_buffers_are_put_back_bit_for_bit(fails):
    model, calls = network(), []

    def loss():
        calls.append(1)
        if fails and len(calls) == 5:
            raise KeyboardInterrupt
        return F.cross_entropy(model(X), CLASSES)  # in training mode: the running statistics move

    before = model.state_dict()
    if fails:
        with pytest.raises(KeyboardInterrupt):
            viz.loss_surface(loss, model, points=3)
    else:
        assert np.isfinite(viz.loss_surface(loss, model, points=3).loss).all()
        assert len(calls) == 9
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_random_directions_are_as_long_as_the_rows_and_leave_biases_alone():
    model = nn.MLP([2, 3, 2])
    surface = viz.loss_surface(lambda: 1.0, model, points=2, generator=np.random.default_rng(3))
    again = viz.loss_surface(lambda: 1.0, model, points=2, generator=np.random.default_rng(3))
    for parts, others in zip(surface.directions, again.directions, strict=True):
        for p, part, other in zip(model.parameters(), parts, others, strict=True):
            np.testing.assert_array_equal(part, other)
            if p.ndim == 2:
                np.testing.assert_allclose(np.linalg.norm(part, axis=1), np.linalg.norm(p.data, axis=1))
            else:
                assert not part.any()


def test_the_surface_as_a_picture():
    model = nn.MLP([2, 3, 2])
    surface = viz.loss_surface(lambda: F.cross_entropy(model(X), CLASSES), model, points=5)
    axes = viz.plot_loss_surface(surface)
    assert [tuple(line.get_xydata()[0]) for line in axes.get_lines()] == [(0, 0)]
    surface.loss[0, 0] = np.inf
    viz.plot_loss_surface(surface, axes=plt.figure().add_subplot())
    surface.loss[:] = 1.0
    viz.plot_loss_surface(surface)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"points": 1}, ValueError, "at least 2 points"),
        ({"span": 0}, ValueError, "positive span"),
        ({"directions": ([np.ones(2)], [np.ones(2)])}, ShapeError, "one array for each parameter"),
    ],
)
def test_a_surface_that_cannot_be(options, error, text):
    with pytest.raises(error, match=text):
        viz.loss_surface(lambda: 0.0, nn.Linear(2, 1), **options)
