"""Is it learning? What goes on in each layer during training: `Health` notes numbers, and `plot_health` draws them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tinygrad_opt.graph import is_grad_enabled
from tinygrad_opt.nn.layers import Dropout, Flatten, Identity, ReLU
from tinygrad_opt.nn.module import HookHandle, Module, Parameter
from tinygrad_opt.tensor import Tensor
from tinygrad_opt.viz.plots import STYLE, pyplot, shown, styles

Array = npt.NDArray[Any]

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
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    panels[-1].set_xlabel("epoch")
    return mesh


def _draw_lines(axes: Any, lines: Mapping[str, Any], title: str) -> None:
    for (name, values), style in zip(lines.items(), styles(), strict=False):
        axes.plot(range(1, len(values) + 1), values, label=shown(name), markevery=max(1, len(values) // 8), **style)
    axes.set_title(title, fontsize=17, pad=10)
    axes.set_xlim(0.5, len(values) + 0.5)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
