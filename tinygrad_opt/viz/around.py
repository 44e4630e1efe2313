"""The plane of a classifier and the loss around the weights: functions of two numbers, computed on a grid and drawn."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinygrad_opt.errors import ShapeError
from tinygrad_opt.graph import no_grad
from tinygrad_opt.nn.module import Module
from tinygrad_opt.rng import generator_or_default
from tinygrad_opt.tensor import Tensor
from tinygrad_opt.viz.plots import COLOURS, STYLE, pyplot, styles

Array = npt.NDArray[Any]
Direction = Mapping[str, Any]

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
