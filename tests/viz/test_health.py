"""Health pictures: the numbers behind them are right, sick networks show, and nothing stays changed."""

import gc
import sys
import tracemalloc
import weakref

import numpy as np
import pytest

import tinygrad_opt as tg
from tinygrad_opt import ShapeError, Tensor, nn, optim, viz
from tinygrad_opt.nn import functional as F
from tinygrad_opt.viz.health import EDGES
from tinygrad_opt.viz.plots import COLOURS

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


def histogram(values, edges=EDGES):
    """The shares in each bin, and beyond both ends, by NumPy's own histogram."""
    sizes = np.abs(np.nan_to_num(np.concatenate([np.ravel(v) for v in values]), nan=np.inf))
    counts, _ = np.histogram(sizes, [-1.0, *edges, np.inf])
    return counts / sizes.size


def test_a_histogram_has_all_numbers_in_it():
    model = nn.Identity()
    with viz.Health(model, bins=[1e-3, 1, 10]) as health:
        model(np.array([[0.0, 1e-4, -1e-3, 0.5], [-1.0, 10.0, -np.inf, np.nan]]))
        health()
    np.testing.assert_array_equal(health.activations["Identity"], [[2 / 8, 2 / 8, 1 / 8, 3 / 8]])
    np.testing.assert_array_equal(health.edges, [1e-3, 1, 10])


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
        np.testing.assert_allclose(health.activations["0: Linear"][epoch], histogram(outputs))
        np.testing.assert_allclose(health.activations["1: ReLU"][epoch], histogram(np.maximum(outputs, 0)))
        assert health.dead["1: ReLU"][epoch] == np.mean((np.concatenate(outputs) <= 0).all(axis=0))
        for name, p in twin.named_parameters():
            g = p.grad.data
            np.testing.assert_allclose(health.gradients[name][epoch], histogram([g]))
            np.testing.assert_allclose(health.weights[name][epoch], histogram([p.data]))
            assert health.gradient_rms[name][epoch] == pytest.approx(np.sqrt(np.mean(g**2)))
            ratio = np.linalg.norm(p.data - before[name]) / np.linalg.norm(before[name])
            assert health.update_ratios[name][epoch] == pytest.approx(ratio)
    assert health.epochs == 2


def test_dead_units_are_found():
    model = nn.MLP([2, 8, 2])
    with tg.no_grad():
        model[0].bias[...] = 1.0
        model[0].bias[:6] = -100.0
    with viz.Health(model) as health:
        train(model, epochs=1, callbacks=health)
    assert health.dead == {"1: ReLU": [6 / 8]}


def test_a_unit_that_lives_for_one_example_is_not_dead():
    model = nn.ReLU()
    with viz.Health(model) as health:
        for batch in ([[-1.0, -1.0, 2.0]], [[-1.0, 1e-9, -1.0], [-2.0, 0.0, -1.0]]):
            model(batch)
        health()
        model([[-1.0, -1.0, 2.0]])
        health()
    assert health.dead == {"ReLU": [1 / 3, 2 / 3]}


def test_a_unit_of_images_is_a_channel_of_sequences_the_last_axis():
    images, sequences = -np.ones((2, 4, 3, 3)), -np.ones((2, 5, 3))
    images[1, 2, 0, 1] = sequences[0, 4, 1] = 1.0
    for values, dead in ((images, 3 / 4), (sequences, 2 / 3)):
        model = nn.ReLU()
        with viz.Health(model) as health:
            model(values)
            health()
        assert health.dead == {"ReLU": [dead]}


def test_one_relu_in_two_places_of_different_widths():
    class Twice(nn.Module):
        def __init__(self):
            self.first, self.second, self.relu = nn.Linear(2, 8), nn.Linear(8, 2), nn.ReLU()

        def forward(self, x):
            return self.relu(self.second(self.relu(self.first(x))))

    model = Twice()
    with tg.no_grad():
        model.first.bias[...] = 1.0
        model.first.bias[:3] = -100.0
        model.second.bias[...] = np.array([100.0, -100.0])
    with viz.Health(model) as health:
        model(X[:5])
        health()
    assert health.dead == {"relu: ReLU": [4 / 10]}


def test_vanishing_gradients_are_seen():
    deep = nn.MLP([2] + [10] * 6 + [2], nn.Sigmoid)
    with viz.Health(deep) as health:
        train(deep, epochs=1, callbacks=health)
    rms = [values[0] for name, values in health.gradient_rms.items() if name.endswith("weight")]
    assert rms[0] < 1e-3 * rms[-1]
    typical = [np.argmax(rows[0]) for name, rows in health.gradients.items() if name.endswith("weight")]
    assert EDGES[typical[0]] < 1e-3 * EDGES[typical[-1]]


def test_exploding_numbers_are_noted_without_a_warning():
    model = nn.MLP([2, 4, 2])
    with viz.Health(model) as health:
        (model(X) * 1e200).sum().backward()
        health()
        model(X)
        for p in model.parameters():
            p.grad.data[...] = np.inf
            p.data[...] = np.nan
        health()
    assert health.gradient_rms["2.bias"] == [np.inf, np.inf]
    assert health.gradients["0.weight"][1][-1] == health.weights["0.weight"][1][-1] == 1.0
    assert np.isnan(health.update_ratios["0.weight"][1])
    viz.plot_health(health).canvas.draw()


def test_evaluation_and_the_trials_of_a_line_search_do_not_count():
    model, twin = (nn.MLP([2, 4, 2], generator=np.random.default_rng(1)) for _ in range(2))
    before = model.state_dict()
    optimizer = optim.GradientDescent(model.parameters(), lr=64.0, line_search=optim.ArmijoGoldstein())
    with viz.Health(model) as health, viz.Health(twin) as expected:
        optimizer.step(lambda: F.cross_entropy(model(X), CLASSES))
        assert optimizer.last_search.trials > 1
        tg.evaluate(model, (1000 * X, CLASSES), {"loss": F.cross_entropy})
        health()
        twin(X)
        expected()
    np.testing.assert_array_equal(health.activations["0: Linear"], expected.activations["0: Linear"])
    change = np.linalg.norm(model[0].weight.data - before["0.weight"])
    assert health.update_ratios["0.weight"] == [pytest.approx(change / np.linalg.norm(before["0.weight"]))]


def test_hooks_are_taken_away_and_no_graph_is_kept():
    model, results = nn.MLP([2, 4, 2]), []
    health = viz.Health(model)
    with model.register_forward_hook(lambda module, args, result: results.append(weakref.ref(result))):
        train(model, epochs=1, callbacks=health)
    health.close()
    health.close()
    assert not any(m._hooks.before or m._hooks.after for m in model.modules() if m._hooks)
    assert len(results) == 4
    assert not any(reference() for reference in results)
    train(model, epochs=1)
    with pytest.raises(ValueError, match="no batch went through the model"):
        health()


def test_memory_grows_by_the_notes_alone():
    model = nn.MLP([2, 50, 50, 2])
    with viz.Health(model, bins=[1e-3, 1.0]) as health:
        train(model, epochs=3, callbacks=health)
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            train(model, epochs=20, callbacks=health)
            grown = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
            gc.enable()
    assert grown < 20 * (6 * 5 + 1) * 250 + 100_000  # the notes; one graph for each batch would be 80 times 80 kB


def test_a_loop_of_ones_own_and_parameters_without_gradients():
    model = nn.Linear(2, 1)
    model.unused = nn.Parameter([0.0])
    health = viz.Health(model)
    for _ in range(2):
        model(X).sum().backward()
        health()
    assert health.update_ratios["weight"] == [0.0, 0.0]
    assert np.isnan(health.gradient_rms["unused"] + health.update_ratios["unused"]).all()
    assert not np.any(health.gradients["unused"])
    assert list(health.activations) == ["Linear"]


def test_a_layer_that_an_epoch_leaves_out_has_an_entry_too():
    model = nn.ModuleList([nn.Linear(2, 4), nn.ReLU()])
    with viz.Health(model) as health:
        model[0](X)
        health()
        model[1](model[0](X))
        health()
    first, second = health.activations["1: ReLU"]
    assert not first.any()
    assert second.sum() == pytest.approx(1)
    assert np.isnan(health.dead["1: ReLU"][0])
    assert np.isnan(health.update_ratios["0.weight"]).all()  # the model itself was never called


@pytest.mark.parametrize("bins", [[1.0], [0.0, 1.0], [-1.0, 1.0], [1.0, 1.0], [[1.0, 2.0]], [1.0, np.nan]])
def test_bins_that_cannot_be(bins):
    with pytest.raises(ValueError, match="bins are at least two edges"):
        viz.Health(nn.Linear(2, 1), bins=bins)


# The picture of it ----------------------------------------------------------------------------------------------------


def test_the_picture_shows_the_numbers():
    model = nn.MLP([2, 6, 6, 2])
    with viz.Health(model) as health:
        train(model, epochs=4, callbacks=health)
    figure = viz.plot_health(health)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[:7] == ["0.weight", "2.weight", "4.weight", "1: ReLU", "3: ReLU", "4: Linear", ""]
    picture = figure.axes[3].collections[0].get_array()  # rows: zeros, a gap, the magnitudes
    shares = np.array(health.activations["1: ReLU"])
    np.testing.assert_allclose(picture.sum(axis=0), 1)
    assert picture[1].mask.all()
    assert picture[0, 0] > 0.1
    np.testing.assert_allclose(picture[-1], shares[:, np.flatnonzero(np.any(shares > 0.003, axis=0))[-1]])
    ratios, dead = figure.axes[-2:]
    assert ratios.get_yscale() == "log"
    np.testing.assert_allclose(ratios.get_lines()[0].get_ydata(), health.update_ratios["0.weight"])
    np.testing.assert_allclose(ratios.get_lines()[-1].get_ydata(), 1e-3)
    np.testing.assert_allclose(dead.get_lines()[0].get_ydata(), 100 * np.array(health.dead["1: ReLU"]))
    with pytest.raises(ValueError, match="no epoch was noted"):
        viz.plot_health(viz.Health(model))


def test_of_a_deep_network_some_layers_are_drawn_the_first_and_the_last_among_them():
    model = nn.MLP([2] + [4] * 20 + [2], nn.Tanh)
    with viz.Health(model) as health:
        train(model, epochs=1, callbacks=health)
    figure = viz.plot_health(health, rows=3)
    assert [axes.get_title(loc="left") for axes in figure.axes[:3]] == ["0.weight", "20.weight", "40.weight"]
    assert len(figure.axes) == 3 + 3 + 1 + 1  # the colour bar; there are no ReLUs
    figure.canvas.draw()


def test_activations_of_layers_alone_where_there_is_no_module_between_them():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    with viz.Health(model) as health:
        train(model, epochs=1, callbacks=health)
    titles = [axes.get_title(loc="left") for axes in viz.plot_health(health).axes]
    assert titles[2:4] == ["0: Linear", "1: Linear"]


# Decision boundaries --------------------------------------------------------------------------------------------------


def right_of(limit):
    """A model that gives one score, positive to the right of ``limit``."""
    return lambda x: np.asarray(x)[:, 0] - limit


def colour_at(axes, place):
    """The colour of the region that is drawn there."""
    regions = [c for c in axes.collections if len(c.get_facecolor())]
    found = [c for c in regions if any(path.contains_point(place) for path in c.get_paths())]
    assert len(found) == 1
    return matplotlib.colors.to_hex(found[0].get_facecolor()[0]).upper()


@pytest.mark.parametrize(
    ("model", "labels"),
    [
        (right_of(0.5), [-1, 1]),
        (lambda x: x[:, :1] - 0.5, [0, 1]),
        (lambda x: 1 / (1 + np.exp(-10 * (x[:, 0] - 0.5))), [0, 1]),
        (lambda x: np.column_stack([0 * x[:, 0], x[:, 0] - 0.5]), [0, 1]),
    ],
    ids=["scores", "column", "probabilities", "classes"],
)
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_the_boundary_is_where_the_class_changes(model, labels, shape):
    x = np.array([[0.0, 0.0], [1.0, 1.0], [0.2, 0.5], [0.8, 0.3]])
    y = np.array(labels)[[0, 1, 0, 1]].reshape(shape)
    axes = viz.plot_decision_boundary(model, x, y)
    lines = [c for c in axes.collections if not len(c.get_facecolor())]
    places = np.concatenate([path.vertices for path in lines[0].get_paths()])
    np.testing.assert_allclose(places[:, 0], 0.5, atol=1e-9)
    assert colour_at(axes, (0.45, 0.5)) == COLOURS[0]
    assert colour_at(axes, (0.55, 0.5)) == COLOURS[1]
    drawn = [line.get_xydata() for line in axes.get_lines()]
    np.testing.assert_array_equal(np.concatenate(drawn), x[[0, 2, 1, 3]])
    assert [line.get_color() for line in axes.get_lines()] == list(COLOURS[:2])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [str(label) for label in labels]


def test_three_regions_of_which_the_first_and_the_last_meet():
    """Classes by the largest score: 0 in the left half, 1 at the top right, 2 at the bottom right."""
    x = np.array([[-1.0, -1.0], [1.0, 1.0], [1.0, -1.0]])
    axes = viz.plot_decision_boundary(lambda p: np.column_stack([-p[:, 0], p[:, 1], -p[:, 1]]), x, [0, 1, 2], points=50)
    for place, label in {(-0.9, 0.0): 0, (0.5, 0.6): 1, (0.5, -0.6): 2, (-0.5, -0.45): 0, (-0.4, -0.5): 2}.items():
        assert colour_at(axes, place) == COLOURS[label]


def test_a_class_that_is_nowhere_and_labels_of_one_kind():
    axes = viz.plot_decision_boundary(lambda x: np.ones(len(x)), X, np.ones(40))
    assert colour_at(axes, (0.0, 0.0)) == COLOURS[1]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["-1", "1"]


def test_a_model_is_run_in_evaluation_mode_and_put_back():
    model = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5))
    model[0].eval()
    seen = []
    model[1].register_forward_hook(lambda module, *_: seen.append((module.training, tg.is_grad_enabled())))
    axes = viz.plot_decision_boundary(model, X, np.arange(40) % 3, points=20)
    assert seen == [(False, False)]
    assert [m.training for m in model.modules()] == [True, False, True]
    assert viz.plot_decision_boundary(model, Tensor(X), CLASSES, points=20, axes=axes) is axes
    with pytest.raises(ShapeError, match="linear needs inputs"):
        viz.plot_decision_boundary(nn.Sequential(nn.Linear(3, 1)), X, CLASSES)
    assert tg.is_grad_enabled()


@pytest.mark.parametrize(
    ("x", "y", "model", "error", "text"),
    [
        (np.ones((4, 3)), [0, 1, 0, 1], right_of(0), ShapeError, r"x \(examples, 2\).*\(4, 3\)"),
        (np.ones((4, 2)), [0, 1], right_of(0), ShapeError, r"x \(4, 2\) and y \(2,\)"),
        (np.ones((0, 2)), [], right_of(0), ShapeError, r"x \(0, 2\)"),
        (X[:3], [0, 1, 2], right_of(0), ValueError, "one score tells labels -1 and 1, or 0 and 1, apart"),
        (X[:3], [0, 1, 3], nn.Linear(2, 3), ValueError, r"labels are 0 ... 2 for this model; got \[0 1 3\]"),
        (X[:2], [0, 1], lambda x: np.ones(3), ShapeError, r"this one gives \(3,\)"),
        (X[:2], [0, 1], lambda x: x[:, 0] + np.nan, ValueError, "NaN or infinity"),
    ],
)
def test_what_has_no_boundary_is_refused(x, y, model, error, text):
    with pytest.raises(error, match=text):
        viz.plot_decision_boundary(model, x, y)


# The loss around the weights ------------------------------------------------------------------------------------------


def network():
    return nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))


def test_the_surface_is_the_loss_along_the_directions():
    model = network().eval()
    directions = tuple({name: rng.normal(size=a.shape) for name, a in model.state_dict().items()} for _ in range(2))
    directions[1]["1.running_var"][...] = 0.1  # a variance stays positive, and what is not named stays
    directions[0].pop("1.running_var")
    directions[0].pop("0.bias")
    surface = viz.loss_surface(
        lambda: F.cross_entropy(model(X), CLASSES), model, span=0.5, points=3, directions=directions
    )
    np.testing.assert_array_equal(surface.alpha, [-0.5, 0, 0.5])
    np.testing.assert_array_equal(surface.beta, surface.alpha)
    start = model.state_dict()
    for i, a in enumerate(surface.alpha):
        for j, b in enumerate(surface.beta):
            moved = {n: v + a * directions[0].get(n, 0) + b * directions[1].get(n, 0) for n, v in start.items()}
            model.load_state_dict(moved | {"1.num_batches_tracked": 0})
            assert surface.losses[i, j] == pytest.approx(F.cross_entropy(model(X), CLASSES).item(), rel=1e-12)


def test_the_weights_themselves_are_in_the_middle():
    model = nn.MLP([2, 3, 2])
    surface = viz.loss_surface(lambda: F.cross_entropy(model(X), CLASSES), model, span=0.3, points=7)
    assert surface.losses[3, 3] == F.cross_entropy(model(X), CLASSES).item()
    assert viz.loss_surface(lambda: 0.0, model, points=4).alpha.tolist() == pytest.approx([-1, -1 / 3, 1 / 3, 1])


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ZeroDivisionError])
def test_weights_and_buffers_are_put_back_bit_for_bit(error):
    model, calls = network(), []
    optimizer = optim.Adam(model.parameters())  # the parameters are views of one vector
    pending = F.cross_entropy(model(X), CLASSES)
    before, arrays = model.state_dict(), [p.data for p in model.parameters()]

    def loss():
        calls.append(1)
        if error and len(calls) == 5:
            raise error
        return F.cross_entropy(model(X), CLASSES)  # in training mode: the running statistics move

    if error:
        with pytest.raises(error):
            viz.loss_surface(loss, model, points=3)
    else:
        assert np.isfinite(viz.loss_surface(loss, model, points=3).losses).all()
        assert len(calls) == 9
    after = model.state_dict()
    assert {name: array.tobytes() for name, array in after.items()} == {n: a.tobytes() for n, a in before.items()}
    assert all(p.data is array for p, array in zip(model.parameters(), arrays, strict=True))
    pending.backward()  # a graph from before is as good as it was
    optimizer.step()
    assert not np.array_equal(model.state_dict()["0.weight"], before["0.weight"])


def test_random_directions_are_as_long_as_the_rows_and_leave_biases_alone():
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(3, 2))
    surface, again = (
        viz.loss_surface(lambda: 1.0, model, points=2, generator=np.random.default_rng(3)) for _ in range(2)
    )
    for direction, other in zip(surface.directions, again.directions, strict=True):
        assert list(direction) == ["0.weight", "2.weight"]
        for name, array in direction.items():
            np.testing.assert_array_equal(array, other[name])
            own = model.state_dict()[name]
            assert array.shape == own.shape
            for row, filter_ in zip(array, own, strict=True):
                assert np.linalg.norm(row) == pytest.approx(np.linalg.norm(filter_))


def test_a_model_of_one_vector_moves_it():
    model = nn.Module()
    model.w = nn.Parameter([3.0, 4.0])
    u, v = viz.loss_surface(lambda: (model.w * model.w).sum(), model, points=2).directions
    assert np.linalg.norm(u["w"]) == pytest.approx(5)
    assert np.linalg.norm(v["w"]) == pytest.approx(5)


def test_float32_stays(float32):
    model = nn.MLP([2, 3, 2])
    surface = viz.loss_surface(lambda: F.cross_entropy(model(X), CLASSES), model, points=3)
    assert {p.dtype for p in model.parameters()} == {np.dtype("float32")}
    assert surface.losses[1, 1] == F.cross_entropy(model(X), CLASSES).item()


def test_the_surface_as_a_picture():
    model = nn.MLP([2, 3, 2])
    surface = viz.loss_surface(lambda: F.cross_entropy(model(X), CLASSES), model, points=5)
    axes = viz.plot_loss_surface(surface)
    assert [tuple(line.get_xydata()[0]) for line in axes.get_lines()] == [(0, 0)]
    surface.losses[0, 0] = np.inf
    given = plt.figure().add_subplot()
    assert viz.plot_loss_surface(surface, axes=given) is given
    surface.losses[:] = 1.0
    viz.plot_loss_surface(surface).figure.canvas.draw()
    surface.losses[:] = np.nan
    with pytest.raises(ValueError, match="take a smaller span"):
        viz.plot_loss_surface(surface)


def test_the_picture_has_the_first_direction_to_the_right():
    steps = np.array([-1.0, 0.0, 1.0])
    surface = viz.Surface(steps, steps, np.repeat(steps[:, None] + 1, 3, axis=1), ({}, {}))
    lines = viz.plot_loss_surface(surface).collections[1]
    vertices = lines.get_paths()[-1].vertices
    assert np.ptp(vertices[:, 0]) == pytest.approx(0, abs=1e-9)
    assert np.ptp(vertices[:, 1]) == pytest.approx(2)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"points": 1}, ValueError, "at least 2 points"),
        ({"span": 0}, ValueError, "positive span"),
        ({"span": np.nan}, ValueError, "positive span"),
        ({"directions": ({"weigth": np.ones((1, 2))}, {})}, ValueError, r"does not have: \['weigth'\]"),
        ({"directions": ({"weight": np.ones(2)}, {})}, ShapeError, r"weight has the shape \(2,\).*has \(1, 2\)"),
        ({"generator": 3}, TypeError, "numpy.random.Generator"),
    ],
)
def test_a_surface_that_cannot_be(options, error, text):
    with pytest.raises(error, match=text):
        viz.loss_surface(lambda: 0.0, nn.Linear(2, 1), **options)


def test_a_loss_of_several_numbers_is_refused():
    model = nn.Linear(2, 1)
    with pytest.raises(ValueError, match="one element"):
        viz.loss_surface(lambda: model(X), model)


def test_numbers_can_be_had_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    model = nn.MLP([2, 3, 2])
    with viz.Health(model) as health:
        train(model, epochs=1, callbacks=health)
    assert viz.loss_surface(lambda: 0.0, model, points=2).losses.shape == (2, 2)
    with pytest.raises(ImportError, match="pip install"):
        viz.plot_health(health)
