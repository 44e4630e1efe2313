"""Is it learning? What goes on in each layer during training, the regions of a classifier, the loss around the weights.

`Health` notes numbers, while `fit` runs, and the functions below draw them; all data can be had without Matplotlib.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tinygrad_opt.errors import GraphError, ShapeError
from tinygrad_opt.graph import no_grad
from tinygrad_opt.nn.layers import ReLU
from tinygrad_opt.nn.module import HookHandle, Module
from tinygrad_opt.rng import generator_or_default
from tinygrad_opt.tensor import Tensor
from tinygrad_opt.viz.plots import COLOURS, STYLE, pyplot, styles

Array = npt.NDArray[Any]

EDGES = np.linspace(-10, 2, 49)  # of histograms: powers of ten, four bins each
USUAL_RATIO = 1e-3  # an update of about a thousandth of the weights is a healthy one


class Health:
    """Notes, after every epoch, how activations, gradients and updates are spread in each layer of a model.

    For `fit`: ``fit(..., callbacks=health)``; in a loop of your own, call ``health()`` after every epoch, before the
    gradients are forgotten. It watches the model through hooks, which ``close()`` takes away, and so does a ``with``
    block. Everything is a dict from names to lists with an entry for each epoch:

    - ``gradients``: for each parameter, the histogram of log₁₀ of the gradient's magnitudes after the last batch, as
      shares in the bins between ``EDGES``; ``activations``: the same for what comes out of each layer, over the epoch;
    - ``gradient_norms``: the root mean square of each parameter's gradient;
    - ``update_ratios``: ‖Δθ‖ / ‖θ‖ of the last step, for each parameter: about 10⁻³ is usual (NaN for weights of 0);
    - ``dead``: for each ReLU, the share of its units that were 0 for every example of the epoch.

    Zeros are in no bin. Evaluation does not count: only batches in training mode do.

    >>> import numpy as np, tinygrad_opt as tg
    >>> from tinygrad_opt import nn, optim, viz
    >>> model = nn.MLP([2, 4, 1])
    >>> loader = tg.DataLoader(np.ones((8, 2)), np.ones((8, 1)), batch_size=4)
    >>> with viz.Health(model) as health:
    ...     optimizer = optim.SGD(model.parameters(), lr=0.1)
    ...     history = tg.fit(model, nn.MSELoss(), optimizer, loader, 3, progress=False, callbacks=health)
    >>> list(health.dead), [len(ratios) for ratios in health.update_ratios.values()]
    (['1: ReLU'], [3, 3, 3, 3])
    """

    def __init__(self, model: Module) -> None:
        self.model = model
        self.gradients: dict[str, list[Array]] = {}
        self.activations: dict[str, list[Array]] = {}
        self.gradient_norms: dict[str, list[float]] = {}
        self.update_ratios: dict[str, list[float]] = {}
        self.dead: dict[str, list[float]] = {}
        self._counts: dict[str, Array] = {}  # of this epoch: the histogram of each layer so far
        self._silent: dict[str, Array] = {}  # of this epoch: which units of each ReLU were always 0
        self._before: dict[str, Array] = {}  # the parameters when the last batch came
        self._handles: list[HookHandle] = [model.register_forward_pre_hook(self._note_weights)]
        for name, module in model.named_modules():
            if not module.children():
                label = f"{name}: {type(module).__name__}" if name else type(module).__name__
                self._handles.append(module.register_forward_hook(self._watcher(label)))

    def _note_weights(self, module: Module, args: Any) -> None:
        if module.training:
            self._before = {name: p.data.copy() for name, p in module.named_parameters()}

    def _watcher(self, label: str) -> Callable[[Module, Any, Any], None]:
        """The hook of one layer."""

        def watch(module: Module, args: Any, result: Any) -> None:
            if not module.training or not isinstance(result, Tensor):
                return
            values = result.data
            self._counts[label] = self._counts.get(label, 0) + magnitudes(values)
            if isinstance(module, ReLU) and values.ndim:
                silent = np.all(values == 0, axis=0)
                self._silent[label] = silent & self._silent.get(label, True)

        return watch

    def __call__(self, history: Any = None) -> None:
        """Note the numbers of the epoch that has just ended."""
        if not self._before:
            raise GraphError("no batch went through the model in training mode since the last epoch was noted")
        for name, p in self.model.named_parameters():
            gradient = np.zeros(1) if p.grad is None else p.grad.data
            self.gradients.setdefault(name, []).append(_shares(magnitudes(gradient)))
            self.gradient_norms.setdefault(name, []).append(float(np.sqrt(np.mean(gradient**2))))
            change, size = np.linalg.norm(p.data - self._before[name]), np.linalg.norm(self._before[name])
            self.update_ratios.setdefault(name, []).append(float(change / size) if size else np.nan)
        for label, counts in self._counts.items():
            self.activations.setdefault(label, []).append(_shares(counts))
        for label, silent in self._silent.items():
            self.dead.setdefault(label, []).append(float(np.mean(silent)))
        self._counts, self._silent, self._before = {}, {}, {}

    def close(self) -> None:
        """Take the hooks away; what was noted stays."""
        for handle in self._handles:
            handle.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def magnitudes(values: Array) -> Array:
    """How many elements have a magnitude in each bin of EDGES; what lies beyond the ends counts in the bins there.

    >>> import numpy as np
    >>> from tinygrad_opt.viz.health import magnitudes
    >>> int(magnitudes(np.array([1e-20, 0.0, -1.0, 1e5])).sum())
    3
    """
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    counts, _ = np.histogram(np.clip(np.log10(sizes), EDGES[0], EDGES[-1]), EDGES)
    return counts


def _shares(counts: Array) -> Array:
    shares: Array = counts / max(counts.sum(), 1)
    return shares


def plot_health(health: Health) -> Any:
    """Draw what a `Health` has noted, and return the Matplotlib figure.

    On top, the magnitudes of the activations of every layer and of the gradients of every weight, over the epochs: the
    darker, the more elements have that magnitude. Gradients that sink from the last layer to the first vanish; those
    that rise explode. Below, the ratio of each update to the weights, beside the usual 10⁻³, and the dead units.

    Raises ValueError when no epoch was noted.

    >>> import numpy as np, tinygrad_opt as tg
    >>> from tinygrad_opt import nn, viz
    >>> model = nn.MLP([2, 4, 1])
    >>> health = viz.Health(model)
    >>> model(np.ones((8, 2))).sum().backward(); health()
    >>> [axes.get_title() for axes in viz.plot_health(health).axes[:2]]
    ['0: Linear', '1: ReLU']
    """
    if not health.gradients:
        raise ValueError("no epoch was noted: pass the Health to fit(..., callbacks=health), or call it after an epoch")
    weights = {name: rows for name, rows in health.gradients.items() if name.endswith("weight")} or health.gradients
    widest = max(len(health.activations), len(weights), 3)
    plt = pyplot()
    with plt.rc_context(STYLE | {"font.size": 12, "axes.titlesize": 13}):
        figure = plt.figure(figsize=(2.6 * widest + 1, 10))
        upper, lower = figure.subfigures(2, 1, height_ratios=[2, 1])
        for part, (what, rows) in zip(
            upper.subfigures(2, 1), {"activations": health.activations, "gradients": weights}.items(), strict=True
        ):
            part.suptitle(f"magnitudes of the {what}, over the epochs")
            _histograms(part, rows)
        left, right = lower.subplots(1, 2)
        _lines(left, {name: health.update_ratios[name] for name in weights}, "update ÷ weights")
        left.axhline(USUAL_RATIO, color="black", linewidth=1, linestyle=":")
        left.set_yscale("log")
        _lines(
            right, {name: [100 * share for share in shares] for name, shares in health.dead.items()}, "dead units, %"
        )
        right.set_ylim(-3, 103)
        if not health.dead:
            right.text(0.5, 0.5, "no ReLU", transform=right.transAxes, ha="center")
    return figure


def _histograms(figure: Any, rows: Mapping[str, list[Array]]) -> None:
    """One picture for each layer: epochs to the right, magnitudes upwards."""
    grid = figure.subplots(1, len(rows), sharey=True, squeeze=False)[0]
    for axes, (name, histograms) in zip(grid, rows.items(), strict=True):
        shares = np.array(histograms).T
        extent = (0.5, shares.shape[1] + 0.5, EDGES[0], EDGES[-1])
        axes.imshow(shares, origin="lower", aspect="auto", extent=extent, cmap="Blues", vmin=0, vmax=0.2)
        axes.set_title(name)
        axes.set_yticks([-9, -6, -3, 0], ["10⁻⁹", "10⁻⁶", "10⁻³", "1"])
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)


def _lines(axes: Any, rows: Mapping[str, list[float]], ylabel: str) -> None:
    for (name, values), style in zip(rows.items(), styles(), strict=False):
        axes.plot(range(1, len(values) + 1), values, label=name, **(style | {"markevery": max(1, len(values) // 8)}))
    axes.set(xlabel="epoch", ylabel=ylabel)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    if rows:
        axes.legend(fontsize=10, loc="upper left", bbox_to_anchor=(1, 1))


# What a classifier sees ----------------------------------------------------------------------------------------------


def plot_decision_boundary(model: Callable[[Any], Any], x: Any, y: Any, *, points: int = 200, axes: Any = None) -> Any:
    """Draw which class a classifier gives to every place in the plane, with the examples, and return the axes.

    ``x`` is (examples, 2), ``y`` (examples,): class indices for a model that gives (examples, classes), or two values,
    such as -1 and 1 or 0 and 1, for one that gives one score, positive for the larger. The plane is seen on a grid of
    ``points`` by ``points``. The model is run in evaluation mode, without a graph.

    Raises ShapeError for other shapes, ValueError for a single score with more than two labels.

    >>> import numpy as np
    >>> from tinygrad_opt import nn, viz
    >>> x, y = np.random.default_rng(0).normal(size=(9, 2)), [0, 1, 2] * 3
    >>> viz.plot_decision_boundary(nn.MLP([2, 4, 3]), x, y).get_xlabel()
    '$x_1$'
    """
    x, y = (np.asarray(a.data if isinstance(a, Tensor) else a) for a in (x, y))
    if x.ndim != 2 or x.shape[1] != 2 or y.size != len(x):
        raise ShapeError(f"a decision boundary needs x (examples, 2) and y (examples,); got {x.shape} and {y.shape}")
    labels = np.unique(y)
    room = 0.1 * np.ptp(x, axis=0) + 1e-9
    low, high = x.min(axis=0) - room, x.max(axis=0) + room
    first, second = np.meshgrid(np.linspace(low[0], high[0], points), np.linspace(low[1], high[1], points))
    classes = _classes(model, np.column_stack([first.ravel(), second.ravel()]), labels).reshape(first.shape)
    plt = pyplot()
    with plt.rc_context(STYLE):
        axes = axes or plt.figure(figsize=(7, 5.5)).add_subplot()
        known = np.arange(max(classes.max(), len(labels) - 1) + 1)
        colours = [COLOURS[k % len(COLOURS)] for k in known]
        axes.contourf(first, second, classes, levels=np.append(known, known[-1] + 1) - 0.5, colors=colours, alpha=0.3)
        axes.contour(first, second, classes, levels=known[:-1] + 0.5, colors="black", linewidths=1.5)
        numbers = y.ravel() if labels.dtype.kind in "iu" and labels.min() >= 0 else np.searchsorted(labels, y.ravel())
        for label, style in zip(labels, styles(), strict=False):
            number = numbers[y.ravel() == label][0]
            place = x[y.ravel() == label].T
            axes.plot(
                *place,
                style["marker"],
                color=COLOURS[number % len(COLOURS)],
                markeredgecolor="white",
                label=f"{label:g}",
            )
        axes.set(xlabel="$x_1$", ylabel="$x_2$")
        axes.legend(title="class", loc="upper left", bbox_to_anchor=(1, 1))
    return axes


def _classes(model: Callable[[Any], Any], places: Array, labels: Array) -> Array:
    """The number of the class that the model gives to each place."""
    modes = [(m, m.training) for m in model.modules()] if isinstance(model, Module) else []
    try:
        for module, _ in modes:
            module.training = False
        with no_grad():
            result = model(places)
    finally:
        for module, training in modes:
            module.training = training
    scores = np.asarray(result.data if isinstance(result, Tensor) else result)
    if scores.shape == (len(places),) or scores.shape == (len(places), 1):
        if len(labels) > 2:
            raise ValueError(f"one score tells two classes apart; the labels are {labels[:5]}")
        return (scores.ravel() >= (0.5 if _are_probabilities(scores, labels) else 0)).astype(int)
    if scores.ndim != 2 or len(scores) != len(places):
        raise ShapeError(f"the model should give (examples,) or (examples, classes); it gave {scores.shape}")
    best: Array = scores.argmax(axis=1)
    return best


def _are_probabilities(scores: Array, labels: Array) -> bool:
    """Whether one score is the probability of the second class: it never leaves [0, 1], and the labels are 0 and 1."""
    return bool(labels.min() >= 0 and scores.min() >= 0 and scores.max() <= 1)


# The loss around the weights ------------------------------------------------------------------------------------------


@dataclass
class Surface:
    """The loss on a plane through the weights: ``loss[i, j]`` at weights + first[j] · u + second[i] · v."""

    first: Array
    second: Array
    loss: Array
    directions: tuple[list[Array], list[Array]]


def loss_surface(
    loss: Callable[[], Any],
    model: Module,
    *,
    span: float = 1.0,
    points: int = 25,
    directions: tuple[list[Any], list[Any]] | None = None,
    generator: np.random.Generator | None = None,
) -> Surface:
    """The loss on a plane through the present weights, from -``span`` to ``span`` along two directions, as data.

    ``loss()`` computes the loss of the model, always of the same data. Each direction is a list with one array for each
    parameter. Where none are given they are random, drawn from ``generator`` or the library's own, and in each row of a
    weight (what makes one unit) as long as the row itself, so that layers with small weights are not shaken more than
    others. The parameters and buffers are afterwards what they were, bit for bit, also when ``loss`` raises.

    Raises ValueError for less than 2 points or a span that is not positive, ShapeError for directions of other shapes.

    Source: Li, Xu, Taylor, Studer and Goldstein, "Visualizing the Loss Landscape of Neural Nets" (2018),
    https://arxiv.org/abs/1712.09913.

    >>> import numpy as np
    >>> from tinygrad_opt import nn, viz
    >>> model = nn.Linear(1, 1)
    >>> surface = viz.loss_surface(lambda: nn.MSELoss()(model(np.ones((4, 1))), np.zeros((4, 1))), model, points=5)
    >>> surface.loss.shape
    (5, 5)
    """
    if points < 2 or not span > 0:
        raise ValueError(f"a surface needs at least 2 points and a positive span; got {points} and {span}")
    parameters = list(model.parameters())
    if directions is None:
        source = generator_or_default(generator)
        directions = _random_direction(parameters, source), _random_direction(parameters, source)
    u, v = ([np.asarray(part) for part in direction] for direction in directions)
    if any([part.shape for part in d] != [p.shape for p in parameters] for d in (u, v)):
        raise ShapeError(f"a direction has one array for each parameter: {[p.shape for p in parameters]}")
    steps = np.linspace(-span, span, points)
    values = np.empty((points, points))
    kept = {tensor: tensor.data.copy() for tensor in (*parameters, *model.buffers())}
    try:
        with no_grad(), np.errstate(all="ignore"):
            for i, b in enumerate(steps):
                for j, a in enumerate(steps):
                    for p, along_u, along_v in zip(parameters, u, v, strict=True):
                        p[...] = kept[p] + a * along_u + b * along_v
                    values[i, j] = float(loss())
    finally:
        with no_grad():
            for tensor, array in kept.items():
                tensor[...] = array
    return Surface(steps, steps, values, (u, v))


def _random_direction(parameters: list[Any], generator: np.random.Generator) -> list[Array]:
    """Random numbers in the shapes of the parameters, each row as long as that of the parameter; none for biases."""
    direction = []
    for p in parameters:
        if p.ndim < 2:
            direction.append(np.zeros(p.shape))
            continue
        part = generator.normal(size=p.shape)
        rows, own = part.reshape(len(part), -1), p.data.reshape(len(part), -1)
        lengths = np.linalg.norm(own, axis=1) / np.linalg.norm(rows, axis=1)
        direction.append((rows * lengths[:, None]).reshape(p.shape))
    return direction


def plot_loss_surface(surface: Surface, *, axes: Any = None) -> Any:
    """Draw the loss around the weights as contours, with a star at the weights, and return the Matplotlib axes.

    >>> import numpy as np
    >>> from tinygrad_opt import nn, viz
    >>> model = nn.Linear(1, 1)
    >>> surface = viz.loss_surface(lambda: nn.MSELoss()(model(np.ones((4, 1))), np.zeros((4, 1))), model, points=5)
    >>> viz.plot_loss_surface(surface).get_title()
    'the loss around the weights'
    """
    plt = pyplot()
    finite = surface.loss[np.isfinite(surface.loss)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    levels = low + max(high - low, 1e-12) * np.linspace(0, 1, 16) ** 2  # closer together around the lowest place
    with plt.rc_context(STYLE):
        axes = axes or plt.figure(figsize=(7, 5.5)).add_subplot()
        drawn = axes.contourf(surface.first, surface.second, surface.loss, levels=levels, cmap="cividis")
        axes.contour(surface.first, surface.second, surface.loss, levels=levels, colors="white", linewidths=0.6)
        axes.plot(0, 0, "*", color="#E69F00", markeredgecolor="black", markersize=20)
        axes.set(xlabel="along the first direction", ylabel="along the second", title="the loss around the weights")
        axes.locator_params(nbins=5)
        axes.figure.colorbar(drawn, ax=axes, label="loss", format="%.3g")
    return axes
