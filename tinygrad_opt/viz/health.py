"""Is it learning? What goes on in each layer during training, the regions of a classifier, the loss around the weights.

`Health` notes numbers while a model trains, and `loss_surface` computes some; both are plain arrays, for which nothing
is drawn. The functions that begin with ``plot`` draw.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from tinygrad_opt.errors import ShapeError
from tinygrad_opt.graph import is_grad_enabled, no_grad
from tinygrad_opt.nn.layers import Dropout, Flatten, Identity, ReLU
from tinygrad_opt.nn.module import HookHandle, Module, Parameter
from tinygrad_opt.rng import generator_or_default
from tinygrad_opt.tensor import Tensor
from tinygrad_opt.viz.plots import COLOURS, STYLE, pyplot, styles

Array = npt.NDArray[Any]
Direction = Mapping[str, Any]

EDGES = np.logspace(-16, 6, 89)  # four bins to each power of ten
CUSTOMARY_RATIO = 1e-3  # of an update to the weights
UNSEEN = (Identity, Flatten, Dropout)  # layers whose results are those of the layer before

# What a model does while it learns -----------------------------------------------------------------------------------


class Health:
    """Note, after every epoch, how large activations, gradients and weights are in each layer, and which units died.

    Give it to `fit` as a callback; in a loop of your own, call it after every epoch, before the gradients are
    forgotten. It watches the model through hooks, which ``close()`` or the end of a ``with`` block takes away. What it
    notes are dicts of lists, by the name of a parameter or layer, with one entry for each epoch:

    - ``activations``: a histogram of the magnitudes of all that came out of a layer in training, where a layer is a
      module without modules in it;
    - ``gradients``, ``weights``: a histogram of the magnitudes in a parameter and in its gradient, of the last batch;
    - ``gradient_rms``: the root of the mean square of that gradient; NaN where there is none;
    - ``update_ratios``: ‖Δθ‖ / ‖θ‖, the length of the last step beside that of the weights before it; NaN for weights
      of 0. About 10⁻³ is customary;
    - ``dead``: for a `ReLU`, the share of its units, 0 to 1, that were 0 for every example of the epoch. A unit is a
      channel of images (batch, channels, height, width), else an element of the last axis.

    ``bins`` are the edges of the histograms, rising positive magnitudes. A histogram has the shares, which sum to 1, of
    what is below the first edge, zeros among it, in each of the len(bins) - 1 bins, and from the last edge on, with
    infinities and NaN. Evaluation does not count: only calls in training mode with a graph do.

    Raises ValueError for other bins, or when no batch was seen since the last epoch was noted.

    >>> import numpy as np, tinygrad_opt as tg
    >>> from tinygrad_opt import nn, optim, viz
    >>> model = nn.MLP([2, 4, 1])
    >>> loader = tg.DataLoader(np.ones((8, 2)), np.ones((8, 1)), batch_size=4)
    >>> with viz.Health(model) as health:
    ...     optimizer = optim.SGD(model.parameters(), lr=0.1)
    ...     history = tg.fit(model, nn.MSELoss(), optimizer, loader, 3, progress=False, callbacks=health)
    >>> list(health.activations), len(health.update_ratios["0.weight"])
    (['0: Linear', '1: ReLU', '2: Linear'], 3)
    """

    def __init__(self, model: Module, bins: npt.ArrayLike = EDGES) -> None:
        self.model, self.edges = model, np.array(bins, dtype=float)
        if self.edges.ndim != 1 or len(self.edges) < 2 or not (np.diff(self.edges, prepend=0) > 0).all():
            raise ValueError(f"bins are at least two edges, positive and rising, such as [1e-6, 1e-3, 1]; got {bins!r}")
        leaves = {name: module for name, module in model.named_modules() if not module.children()}
        self.layers = {f"{name}: {type(m).__name__}" if name else type(m).__name__: m for name, m in leaves.items()}
        self.parameters = dict(model.named_parameters())
        self.activations: dict[str, list[Array]] = {layer: [] for layer in self.layers}
        self.gradients: dict[str, list[Array]] = {name: [] for name in self.parameters}
        self.weights: dict[str, list[Array]] = {name: [] for name in self.parameters}
        self.gradient_rms: dict[str, list[float]] = {name: [] for name in self.parameters}
        self.update_ratios: dict[str, list[float]] = {name: [] for name in self.parameters}
        self.dead: dict[str, list[float]] = {layer: [] for layer, m in self.layers.items() if isinstance(m, ReLU)}
        self.epochs = 0
        self._counts = {layer: np.zeros(len(self.edges) + 1, dtype=int) for layer in self.layers}  # of this epoch
        self._alive: dict[str, dict[int, Array]] = {layer: {} for layer in self.dead}  # the same; by number of units
        self._before: dict[str, Array] = {}  # the parameters when the last batch came
        self._seen = False
        self._handles: list[HookHandle] = [model.register_forward_pre_hook(self._keep_weights)]
        self._handles += [m.register_forward_hook(self._watcher(layer)) for layer, m in self.layers.items()]

    def _learning(self) -> bool:
        """Whether the model is trained just now: not evaluated, nor tried out by a line search."""
        return self.model.training and is_grad_enabled()

    def _keep_weights(self, module: Module, args: Any) -> None:
        if self._learning():
            for name, p in self.parameters.items():
                np.copyto(self._before.setdefault(name, np.empty_like(p.data)), p.data)

    def _watcher(self, layer: str) -> Callable[[Module, Any, Any], None]:
        """The hook of one layer."""

        def watch(module: Module, args: Any, result: Any) -> None:
            if self._learning():
                self._seen = True
                for each in result if isinstance(result, (tuple, list)) else [result]:
                    values = each.data if isinstance(each, Tensor) else each
                    if isinstance(values, np.ndarray):
                        self._counts[layer] += _histogram(values, self.edges)
                        if layer in self._alive:
                            _note_alive(self._alive[layer], values)

        return watch

    def __call__(self, history: Any = None) -> None:
        """Note the numbers of the epoch that has just ended; the ``history`` is not needed."""
        if not self._seen:
            raise ValueError(
                "no batch went through the model in training mode since the last epoch was noted: call a Health after "
                "an epoch, and before close()"
            )
        self._seen = False
        self.epochs += 1
        for layer, counts in self._counts.items():
            self.activations[layer].append(counts / max(counts.sum(), 1))
            counts[:] = 0
        for layer, alive in self._alive.items():
            self.dead[layer].append(float(np.mean(~np.concatenate(list(alive.values())))) if alive else np.nan)
            alive.clear()
        with np.errstate(over="ignore", invalid="ignore"):  # what explodes is to be seen, not to be warned of
            for name, p in self.parameters.items():
                self._note_parameter(name, p)

    def _note_parameter(self, name: str, p: Parameter) -> None:
        g = np.zeros(0) if p.grad is None else np.asarray(p.grad.data, dtype=float)
        self.gradients[name].append(_histogram(g, self.edges) / max(g.size, 1))
        self.gradient_rms[name].append(float(np.sqrt(np.mean(g**2))) if g.size else np.nan)
        self.weights[name].append(_histogram(p.data, self.edges) / max(p.size, 1))
        before = self._before.get(name, np.zeros_like(p.data)).astype(float)
        size = np.linalg.norm(before)
        self.update_ratios[name].append(float(np.linalg.norm(p.data - before) / size) if size else np.nan)

    def close(self) -> None:
        """Take the hooks away; what was noted stays. A second time does nothing."""
        for handle in self._handles:
            handle.remove()
        self._before.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _histogram(values: Array, edges: Array) -> Array:
    """How many magnitudes are below all edges, between two of them, and above all (NaN is sorted there)."""
    places = np.searchsorted(edges, np.abs(values).ravel(), side="right")
    return np.bincount(places, minlength=len(edges) + 1)


def _note_alive(alive: dict[int, Array], values: Array) -> None:
    """Note the units that are not 0 for some example; a ReLU may be called for several numbers of units."""
    values = np.atleast_1d(values)
    unit = 1 if values.ndim == 4 else values.ndim - 1
    found = (values != 0).any(axis=tuple(axis for axis in range(values.ndim) if axis != unit))
    alive[found.size] = alive.get(found.size, False) | found


def plot_health(health: Health, *, rows: int = 6) -> Any:
    """Draw what a `Health` has noted, and return the Matplotlib figure.

    On the left are the magnitudes in the gradients of the weights (parameters with two axes or more, where there are
    any), in the middle those of the activations (what layers without weights and the last layer give): one picture for
    each layer, from the first at the top to the last. Epochs go to the right, magnitudes upwards; the darker a place,
    the larger the share of the numbers that are there. On the right are ‖Δθ‖ / ‖θ‖ of every weight, beside the
    customary 10⁻³, and the dead units of every ReLU. Of more than ``rows`` layers, so many are drawn, evenly spaced
    from the first to the last.

    Raises ValueError when no epoch was noted, or for fewer rows.

    >>> import numpy as np
    >>> from tinygrad_opt import nn, viz
    >>> model = nn.MLP([2, 4, 1])
    >>> health = viz.Health(model)
    >>> model(np.ones((8, 2))).sum().backward(); health()
    >>> [axes.get_title(loc="left") for axes in viz.plot_health(health).axes[:2]]
    ['0.weight', '2.weight']
    """
    if not health.epochs:
        raise ValueError("no epoch was noted: pass the Health to fit(..., callbacks=health), or call it after an epoch")
    matrices = [name for name, p in health.parameters.items() if p.ndim > 1] or list(health.parameters)
    passed_on = [layer for layer, m in health.layers.items() if not list(m.parameters()) and not isinstance(m, UNSEEN)]
    last = list(health.layers)[-1]
    layers = [*passed_on, *([last] if last not in passed_on else [])] if passed_on else list(health.layers)
    gradients, activations, relus = (_spaced(names, rows) for names in (matrices, layers, list(health.dead)))
    plt = pyplot()
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(14, 1.5 + 1.3 * max(len(gradients), len(activations), 4)))
        left, middle, right = figure.subfigures(1, 3, width_ratios=[1, 1.17, 1.3])
        left.suptitle("magnitudes of gradients", fontsize=17)
        middle.suptitle("magnitudes of activations", fontsize=17)
        _draw_histograms(left, {name: health.gradients[name] for name in gradients}, health.edges)
        mesh = _draw_histograms(middle, {name: health.activations[name] for name in activations}, health.edges)
        middle.colorbar(mesh, ax=middle.axes, label="share of the numbers", extend="max", aspect=40, pad=0.02)
        panels = right.subplots(2 if relus else 1, 1, sharex=True, squeeze=False)[:, 0]
        _draw_lines(panels[0], {name: health.update_ratios[name] for name in gradients}, "update ÷ weights")
        panels[0].axhline(CUSTOMARY_RATIO, color="black", linewidth=1.5, linestyle=(0, (8, 3)), label="customary")
        panels[0].set_yscale("log")
        panels[0].legend(loc="upper left", bbox_to_anchor=(1, 1))
        if relus:
            _draw_lines(panels[1], {name: 100 * np.array(health.dead[name]) for name in relus}, "dead units, per cent")
            panels[1].set_ylim(-4, 104)
        panels[-1].set_xlabel("epoch")
    return figure


def _spaced(names: list[str], rows: int) -> list[str]:
    """At most ``rows`` of the names, evenly spaced from the first to the last."""
    return [names[i] for i in np.linspace(0, len(names) - 1, min(max(rows, 2), len(names))).round().astype(int)]


def _draw_histograms(figure: Any, histograms: Mapping[str, list[Array]], edges: Array) -> Any:
    """One picture for each name, all with the magnitudes that occur; what is below and above has a row of its own."""
    shares = np.array(list(histograms.values()))  # (names, epochs, bins and both ends)
    usual, ever = shares[:, :, 1:-1].mean(axis=1).max(axis=0) > 0.003, shares[:, :, 1:-1].max(axis=(0, 1)) > 0.003
    first, last = (np.argmax(usual), np.flatnonzero(ever)[-1] + 1) if usual.any() else (0, len(edges) - 1)
    inside, below, above = shares[:, :, first + 1 : last + 1], shares[:, :, : first + 1], shares[:, :, last + 1 :]
    y = np.log10(edges[first : last + 1])
    room = 0.12 * (y[-1] - y[0])
    decades = np.arange(np.ceil(y[0] + room), np.floor(y[-1]) + 1)
    steps = ([t for t in decades if t % step == 0] for step in itertools.count(1))
    ticks = {t: f"$10^{{{t:.0f}}}$" for t in next(some for some in steps if len(some) <= 3)}
    gap = np.full((*shares.shape[:2], 1), np.nan)
    if below.any():
        inside = np.concatenate([below.sum(axis=2, keepdims=True), gap, inside], axis=2)
        y = np.concatenate([[y[0] - 2 * room, y[0] - room], y])
        ticks[y[0] + room / 2] = "0"
    if above.max() > 0.003:
        inside = np.concatenate([inside, gap, above.sum(axis=2, keepdims=True)], axis=2)
        y = np.concatenate([y, [y[-1] + room, y[-1] + 2 * room]])
        ticks[y[-1] - room / 2] = "∞"
    panels = figure.subplots(len(shares), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, name, picture in zip(panels, histograms, inside, strict=True):
        x = np.arange(len(picture) + 1) + 0.5
        mesh = axes.pcolormesh(x, y, picture.T, cmap="Blues", norm=pyplot().matplotlib.colors.PowerNorm(0.5, 0, 0.5))
        axes.set_title(name, loc="left", fontsize=13, pad=3)
        axes.set_yticks(list(ticks), list(ticks.values()), fontsize=13)
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels[-1].set_xlabel("epoch")
    return mesh


def _draw_lines(axes: Any, lines: Mapping[str, Any], title: str) -> None:
    for (name, values), style in zip(lines.items(), styles(), strict=False):
        axes.plot(range(1, len(values) + 1), values, label=name, markevery=max(1, len(values) // 8), **style)
    axes.set_title(title, fontsize=17, pad=10)
    axes.set_xlim(0.5, len(values) + 0.5)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


# The regions of a classifier -----------------------------------------------------------------------------------------


def plot_decision_boundary(model: Callable[[Any], Any], x: Any, y: Any, *, points: int = 200, axes: Any = None) -> Any:
    """Draw which class a classifier gives to every place of the plane, with the examples, and return the axes.

    ``x`` is (examples, 2), ``y`` (examples,) or (examples, 1): class indices for a model that gives (examples,
    classes); labels -1 and 1, or 0 and 1, for one that gives one score. Then the boundary is where the score is 0, or,
    for labels 0 and 1, where it is 0.5 if no score is outside [0, 1]. The model is called in evaluation mode, without a
    graph, on a grid of ``points`` × ``points``; its modes are put back.

    Raises ShapeError for other shapes, ValueError for other labels, or where the model gives NaN or infinity.

    >>> import numpy as np
    >>> from tinygrad_opt import nn, viz
    >>> x, y = np.random.default_rng(0).normal(size=(9, 2)), [0, 1, 2] * 3
    >>> viz.plot_decision_boundary(nn.MLP([2, 4, 3]), x, y).get_xlabel()
    '$x_1$'
    """
    x, y = (np.asarray(each.data if isinstance(each, Tensor) else each) for each in (x, y))
    if x.ndim != 2 or x.shape[1] != 2 or y.shape not in ((len(x),), (len(x), 1)) or not len(x):
        raise ShapeError(
            f"a decision boundary needs x (examples, 2) and labels y (examples,); got x {x.shape} and y {y.shape}"
        )
    room = 0.1 * np.ptp(x, axis=0) + 1e-3
    low, high = x.min(axis=0) - room, x.max(axis=0) + room
    grid = np.meshgrid(np.linspace(low[0], high[0], points), np.linspace(low[1], high[1], points))
    margins, labels = _margins(_predict(model, np.stack(grid, axis=-1).reshape(-1, 2)), y.ravel())
    plt = pyplot()
    with plt.rc_context(STYLE):
        axes = axes or plt.figure(figsize=(8, 5.5)).add_subplot()
        for label, margin, style in zip(labels, margins, styles(), strict=False):
            height = margin.reshape(points, points)
            if height.max() > 0:
                axes.contourf(*grid, height, levels=[0, height.max()], colors=[style["color"]], alpha=0.25)
            if height.min() < 0 < height.max():
                axes.contour(*grid, height, levels=[0], colors="black", linewidths=1.5)
            look = {"color": style["color"], "marker": style["marker"], "markeredgecolor": "white", "markersize": 8}
            axes.plot(*x[y.ravel() == label].T, linestyle="none", label=f"{label:g}", **look)
        axes.set(xlabel="$x_1$", ylabel="$x_2$")
        axes.legend(title="class", loc="upper left", bbox_to_anchor=(1, 1))
    return axes


def _predict(model: Callable[[Any], Any], places: Array) -> Array:
    """The scores at some places, (places, 1) or (places, classes), in evaluation mode."""
    modes = [(module, module.training) for module in model.modules()] if isinstance(model, Module) else []
    try:
        for module, _ in modes:
            module.training = False
        with no_grad():
            result = model(places)
    finally:
        for module, training in modes:
            module.training = training
    scores = np.asarray(result.data if isinstance(result, Tensor) else result)
    if scores.ndim not in (1, 2) or len(scores) != len(places):
        raise ShapeError(
            f"a classifier gives (examples,), (examples, 1) or (examples, classes); for {len(places)} points of the "
            f"plane this one gives {scores.shape}"
        )
    if not np.isfinite(scores).all():
        raise ValueError("the classifier gives NaN or infinity at some points of the plane: has its training diverged?")
    return scores.reshape(len(scores), -1)


def _margins(scores: Array, y: Array) -> tuple[Array, list[int]]:
    """For each class, by how much its score is above the best of the others; and the labels of the classes."""
    if scores.shape[1] > 1:
        if not np.isin(y, np.arange(scores.shape[1])).all():
            raise ValueError(f"labels are 0 ... {scores.shape[1] - 1} for this model; got {np.unique(y)[:9]}")
        others = [np.delete(scores, k, axis=1).max(axis=1) for k in range(scores.shape[1])]
        return scores.T - others, list(range(scores.shape[1]))
    labels = [0, 1] if np.isin(y, [0, 1]).all() and 0 in y else [-1, 1]
    if not np.isin(y, labels).all():
        raise ValueError(f"one score tells labels -1 and 1, or 0 and 1, apart; got {np.unique(y)[:9]}")
    probabilities = labels[0] == 0 and scores.min() >= 0 and scores.max() <= 1
    above = scores[:, 0] - (0.5 if probabilities else 0)
    return np.array([-above, above]), labels


# The loss around the weights -----------------------------------------------------------------------------------------


class Surface(NamedTuple):
    """What `loss_surface` computes: ``losses[i, j]`` is the loss at weights + alpha[i] · u + beta[j] · v.

    ``alpha`` and ``beta`` are (points,), ``losses`` (points, points), and ``directions`` the dicts u and v.
    """

    alpha: Array
    beta: Array
    losses: Array
    directions: tuple[dict[str, Array], dict[str, Array]]


def loss_surface(
    loss: Callable[[], Any],
    model: Module,
    *,
    span: float = 1.0,
    points: int = 25,
    directions: tuple[Direction, Direction] | None = None,
    generator: np.random.Generator | None = None,
) -> Surface:
    """Compute the loss on a plane through the present weights, from -``span`` to ``span`` along two directions.

    ``loss()`` is the loss of the model as it stands, always of the same data: in evaluation mode, if there is
    `Dropout`. A direction is a dict like a `state_dict`, such as the difference of two; what it does not name stays.
    Where none are given they are random, drawn from ``generator`` or the library's own, and each row of a weight (the
    filter of one unit) is made as long as that row of the weights is, so that layers of any scale can be compared.
    Parameters with one axis, such as biases, stay, unless the model has no others. Parameters and buffers are
    afterwards as they were, bit for bit, also when ``loss`` raises or Ctrl-C stops it.

    Raises ValueError for fewer than 2 points, a span that is not positive, unknown names in a direction, or a loss of
    several numbers; ShapeError for directions of other shapes.

    Source: Li, Xu, Taylor, Studer and Goldstein, "Visualizing the Loss Landscape of Neural Nets" (2018),
    https://arxiv.org/abs/1712.09913.

    >>> import numpy as np
    >>> from tinygrad_opt import nn, viz
    >>> model, x, y = nn.Linear(1, 1), np.ones((4, 1)), np.zeros((4, 1))
    >>> surface = viz.loss_surface(lambda: nn.MSELoss()(model(x), y), model, points=5)
    >>> surface.losses.shape, bool(surface.losses[2, 2] == nn.MSELoss()(model(x), y).item())
    ((5, 5), True)
    """
    if points < 2 or not 0 < span < np.inf:
        raise ValueError(f"a surface needs at least 2 points and a positive span; got points={points} and span={span}")
    if directions is None:
        source = generator_or_default(generator)
        directions = _random_direction(model, source), _random_direction(model, source)
    u, v = (_checked_direction(model, direction) for direction in directions)
    steps = np.linspace(-span, span, points)
    steps[points // 2] *= points % 2 == 0  # the weights themselves, and not almost
    losses = np.empty((points, points))
    with _restored(model) as state, no_grad():
        for i, a in enumerate(steps):
            for j, b in enumerate(steps):
                for name, (tensor, array, kept) in state.items():
                    array[...] = kept + a * u.get(name, 0) + b * v.get(name, 0)
                    _put(tensor, array)
                losses[i, j] = float(loss())
    return Surface(steps, steps.copy(), losses, (u, v))


@contextlib.contextmanager
def _restored(model: Module) -> Iterator[dict[str, tuple[Tensor, Array, Array]]]:
    """Every parameter and buffer, its array and a copy of that; in the end each has its array and values again.

    No change is dated: a graph from before finds its values as they were.
    """
    state = {name: (tensor, tensor.data, tensor.data.copy()) for name, tensor in model._state().items()}
    try:
        yield state
    finally:
        for tensor, array, kept in state.values():
            array[...] = kept
            _put(tensor, array)


def _put(tensor: Tensor, array: Array) -> None:
    if tensor.data is not array:  # a layer has replaced it
        tensor.data = array


def _random_direction(model: Module, generator: np.random.Generator) -> dict[str, Array]:
    """Normal random numbers, filter by filter as long as the parameters."""
    parameters = dict(model.named_parameters())
    chosen = {name: p for name, p in parameters.items() if p.ndim > 1} or parameters
    direction = {}
    for name, p in chosen.items():
        filters = p.data.reshape(len(p) if p.ndim > 1 else 1, -1)
        noise = generator.normal(size=filters.shape)
        lengths = np.linalg.norm(filters, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
        direction[name] = (lengths * noise).reshape(p.shape)
    return direction


def _checked_direction(model: Module, direction: Direction) -> dict[str, Array]:
    """The arrays of a direction, without those of buffers that count."""
    own = model._state()
    arrays = {name: np.asarray(v.data if isinstance(v, Tensor) else v) for name, v in direction.items()}
    if arrays.keys() - own.keys():
        raise ValueError(f"a direction names what the model does not have: {sorted(arrays.keys() - own.keys())}")
    for name, array in arrays.items():
        if array.shape != own[name].shape:
            raise ShapeError(f"the direction of {name} has the shape {array.shape}, and {name} has {own[name].shape}")
    return {name: array for name, array in arrays.items() if own[name].dtype.kind == "f"}


def plot_loss_surface(surface: Surface, *, axes: Any = None) -> Any:
    """Draw the loss around the weights as contours, with a star at the weights, and return the Matplotlib axes.

    Raises ValueError where no loss is finite.

    >>> import numpy as np
    >>> from tinygrad_opt import nn, viz
    >>> model = nn.Linear(1, 1)
    >>> surface = viz.loss_surface(lambda: nn.MSELoss()(model(np.ones((4, 1))), np.zeros((4, 1))), model, points=5)
    >>> viz.plot_loss_surface(surface).get_title()
    'loss around the weights'
    """
    finite = surface.losses[np.isfinite(surface.losses)]
    if not finite.size:
        raise ValueError("no loss of this surface is finite: take a smaller span")
    levels = finite.min() + max(np.ptp(finite), 1e-12) * np.linspace(0, 1, 16) ** 2  # closer around the lowest place
    plt = pyplot()
    with plt.rc_context(STYLE):
        axes = axes or plt.figure(figsize=(8, 5.5)).add_subplot()
        losses = np.ma.masked_invalid(surface.losses.T)
        filled = axes.contourf(surface.alpha, surface.beta, losses, levels=levels, cmap="cividis")
        if np.ptp(finite):
            axes.contour(surface.alpha, surface.beta, losses, levels=levels[1:-1], colors="white", linewidths=0.8)
        axes.plot(0, 0, "*", color=COLOURS[1], markeredgecolor="white", markersize=24)
        axes.set(xlabel="step α along the first direction", ylabel="step β along the second")
        axes.set_title("loss around the weights", pad=10)
        axes.locator_params(nbins=5)
        axes.figure.colorbar(filled, ax=axes, label="loss", ticks=levels[::3], format="%.3g")
    return axes
