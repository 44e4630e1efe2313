"""Plots of training: losses, paths over a landscape, their race as an animation, and what a line search tried.

The colours are those of Okabe and Ito, which people with any colour vision tell apart; lines differ in their dashes and
marks too. Letters and lines are large enough for a projector. Every function draws into ``axes``, or into a new figure.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_opt.landscapes import Landscape
from tinygrad_opt.optim.line_search import LineSearch, Search
from tinygrad_opt.training import History

if TYPE_CHECKING:
    from pathlib import Path

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00", "#8C5A2B", "#7F7F7F")
DASHES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
MARKS = ("o", "s", "^", "D", "v", "P", "X")
STYLE = {
    "font.size": 15,
    "lines.linewidth": 2.5,
    "figure.figsize": (9, 5),
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 13,
    "legend.framealpha": 0.9,
}


def shown(name: str) -> str:
    """A name for a legend: Matplotlib leaves out those that begin with an underscore."""
    return f" {name}" if name.startswith("_") else name


def plot_losses(runs: Mapping[str, Any], *, ylabel: str = "loss", log: bool = True, axes: Any = None) -> Any:
    """Draw the loss of several runs over the epochs, and return the Matplotlib axes.

    ``runs`` maps the name of a run to its History, or to a sequence of numbers. A ``log`` axis shows progress that a
    linear one hides; it leaves out what is not positive.

    Raises ValueError when there is no run, TypeError for what is no dict; ImportError, which says what to install,
    without Matplotlib.

    >>> from tinygrad_opt import viz
    >>> axes = viz.plot_losses({"Adam": [2.0, 1.0, 0.5], "SGD": [2.0, 1.5, 1.2]})
    >>> axes.get_xlabel()
    'epoch'
    """
    if not isinstance(runs, Mapping):
        raise TypeError(f'plot_losses takes a dict of runs, such as {{"Adam": history}}; got {runs!r:.80}')
    if not runs:
        raise ValueError("plot_losses needs at least one run: a dict from names to Histories or lists of losses")
    plt = pyplot()
    with plt.rc_context(STYLE):
        axes = axes or plt.figure().add_subplot()
        for (name, run), style in zip(runs.items(), styles(), strict=False):
            values = run["loss"] if hasattr(run, "epochs") else run
            style["marker"] = style["marker"] if len(values) == 1 else None  # of one epoch there is no line to see
            axes.plot(range(1, len(values) + 1), values, label=shown(name), **style)
        axes.set(xlabel="epoch", ylabel=ylabel, yscale="log" if log else "linear")
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
        axes.legend()
    return axes


def plot_history(history: History, *, log: bool = True) -> Any:
    """Draw what `fit` returned, and return the Matplotlib figure: the loss, each metric and the rate, over the epochs.

    Each quantity has axes of its own, with the line of the training data and, where there is one, that of the
    validation data. ``log`` is for the loss: it is left out where a loss is not positive.

    Raises ValueError for a history without epochs.

    >>> from tinygrad_opt import History, viz
    >>> history = History()
    >>> history.append({"loss": 2.0, "accuracy": 0.5, "val_loss": 2.5, "val_accuracy": 0.4})
    >>> history.append({"loss": 1.0, "accuracy": 0.9, "val_loss": 1.5, "val_accuracy": 0.8})
    >>> [axes.get_ylabel() for axes in viz.plot_history(history).axes]
    ['loss', 'accuracy']
    """
    if not isinstance(history, History):
        raise TypeError(f"plot_history draws what fit returned, a History; got {history!r:.80}")
    columns = history.columns
    names = [n for n in columns if n != "seconds" and not (n.startswith("val_") and n.removeprefix("val_") in columns)]
    if not history.epochs:
        raise ValueError("there is no epoch in this history to draw")
    plt = pyplot()
    titles = {"lr": "learning rate"}
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(6.5 * len(names), 5))
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False).flat, names, strict=True):
            pair = {"training": name, "validation": f"val_{name}"}
            for (label, column), style in zip(pair.items(), styles(), strict=False):
                values = columns.get(column, [])
                style["marker"] = style["marker"] if np.count_nonzero(np.isfinite(values)) == 1 else None
                if values:
                    axes.plot(range(1, len(values) + 1), values, label=label, **style)
            positive = all(not v <= 0 for column in pair.values() for v in columns.get(column, []))
            axes.set(xlabel="epoch", ylabel=titles.get(name, name))
            axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            axes.set_yscale("log" if name == "loss" and log and positive else "linear")
            axes.grid(alpha=0.3)
            if f"val_{name}" in history:
                axes.legend()
    return figure


def plot_paths(landscape: Landscape, paths: Mapping[str, Any], *, axes: Any = None) -> Any:
    """Draw the paths of optimizers on the contours of a function of two parameters, and return the axes.

    ``paths`` maps names to arrays of shape (points, 2), as `landscapes.descend` returns. A ring marks the start, a
    star each minimum.

    Raises ValueError for a path of another shape.

    >>> from tinygrad_opt import landscapes, optim, viz
    >>> path = landscapes.descend(landscapes.beale, [-1.0, 1.5], lambda params: optim.Adam(params, lr=0.1), steps=50)
    >>> axes = viz.plot_paths(landscapes.beale, {"Adam": path})
    >>> axes.get_title()
    "Beale's function"
    """
    arrays = {name: _path(name, path) for name, path in paths.items()}
    plt = pyplot()
    with plt.rc_context(STYLE):
        axes = axes or plt.figure().add_subplot()
        _contours(axes, landscape)
        for (name, path), style in zip(arrays.items(), styles(), strict=False):
            every = max(1, len(path) // 25)
            axes.plot(*path.T, label=shown(name), markevery=every, markersize=6, **style)
        if arrays:
            start = next(iter(arrays.values()))[0]
            axes.plot(*start, "o", markersize=13, markerfacecolor="none", color="black", markeredgewidth=2)
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return axes


def animate_paths(landscape: Landscape, paths: Mapping[str, Any], file: str | Path, *, fps: int = 20) -> Path:
    """Save the race of optimizers over a landscape as a film, and return its path.

    ``file`` ends with .html, for a page with a player that needs nothing else, or with .gif. ``paths`` are those of
    `plot_paths`; a step is one frame, and the shorter paths wait at their ends.

    Raises ValueError for another ending, for no path, or for a path of another shape.

    >>> import tempfile
    >>> from tinygrad_opt import landscapes, optim, viz
    >>> path = landscapes.descend(landscapes.ravine, [-4.0, 1.0], lambda params: optim.Adam(params, lr=0.5), steps=3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     viz.animate_paths(landscapes.ravine, {"Adam": path}, f"{folder}/race.gif").name
    'race.gif'
    """
    from pathlib import Path

    file = Path(file)
    if file.suffix not in (".html", ".gif"):
        raise ValueError(f"a film is saved as .html or .gif; got {file.name!r}")
    arrays = {name: _path(name, path) for name, path in paths.items()}
    if not arrays:
        raise ValueError("animate_paths needs at least one path")
    plt = pyplot()
    from matplotlib.animation import FuncAnimation, PillowWriter

    with plt.rc_context(STYLE | {"figure.dpi": 80}):
        figure = plt.figure()
        axes = figure.add_subplot()
        _contours(axes, landscape)
        looks = list(itertools.islice(styles(), len(arrays)))
        lines = [axes.plot([], [], label=n, markevery=[-1], **look)[0] for n, look in zip(arrays, looks, strict=True)]
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))

        def draw(frame: int) -> list[Any]:
            for line, path in zip(lines, arrays.values(), strict=True):
                line.set_data(*path[: frame + 1].T)
                line.set_markevery([min(frame, len(path) - 1)])
            axes.set_title(f"{landscape.name}, step {frame}")
            return lines

        film = FuncAnimation(figure, draw, frames=max(map(len, arrays.values())), interval=1000 / fps)
        if file.suffix == ".gif":
            film.save(file, writer=PillowWriter(fps=fps))
        else:
            file.write_text(_self_contained(film.to_jshtml(fps=fps, default_mode="once")), encoding="utf-8")
        plt.close(figure)
    return file


def plot_line_search(
    search: Search, line_search: LineSearch, curve: Callable[[float], float] | None = None, *, axes: Any = None
) -> Any:
    """Draw what a line search tried in one step: the loss along -g, where it is accepted, and the trials.

    ``search`` is ``optimizer.last_search``, ``line_search`` the one that made it, and ``curve`` the function
    α ↦ J(θ - αg), drawn if it is given.

    Raises ValueError for a search without trials.

    >>> from tinygrad_opt import nn, optim, viz
    >>> w = nn.Parameter([4.0])
    >>> optimizer = optim.GradientDescent([w], lr=8.0, line_search=optim.ArmijoGoldstein())
    >>> loss = optimizer.step(lambda: (w * w).sum())
    >>> axes = viz.plot_line_search(optimizer.last_search, optimizer.line_search, lambda a: (4.0 - 8.0 * a) ** 2)
    >>> axes.get_xlabel()
    'step size α'
    """
    if not search.tried:
        raise ValueError(f"this search tried nothing: {search.reason or 'it did not run'}")
    plt = pyplot()
    tried = [point for point in search.tried if np.isfinite(point[1])]
    furthest = 1.3 * max([search.step_size, *(alpha for alpha, _ in search.tried[-3:])])
    alphas = np.linspace(0, furthest, 300)
    values = np.array([curve(alpha) for alpha in alphas]) if curve else np.array([v for _, v in tried])
    with plt.rc_context(STYLE):
        axes = axes or plt.figure().add_subplot()
        if curve:
            axes.plot(alphas, values, color=COLOURS[4], label="J(θ - αg)")
        upper, lower = line_search.bounds(alphas, search)
        axes.plot(alphas, upper, "--", color=COLOURS[0], label="at most")
        if lower is not None:
            axes.plot(alphas, lower, "-.", color=COLOURS[3], label="at least")
        axes.plot(*np.transpose(tried or [(0.0, search.loss)]), "o", color=COLOURS[1], markersize=10, label="tried")
        if search.step_size:
            taken = dict(tried)[search.step_size]
            axes.plot(search.step_size, taken, "*", color=COLOURS[2], markersize=22, label="taken")
        finite = values[np.isfinite(values)]
        low = min([search.loss, *finite])
        room = max(search.loss - low, 1e-12)
        axes.set(
            xlabel="step size α", ylabel="loss", xlim=(0, furthest), ylim=(low - 0.4 * room, search.loss + 0.4 * room)
        )
        axes.grid(alpha=0.3)
        axes.legend()
    return axes


# Helpers -------------------------------------------------------------------------------------------------------------


def pyplot() -> Any:
    """Matplotlib's pyplot; raises ImportError, which says what to install, where it is not there."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("plots need Matplotlib: pip install 'tinygrad_opt[pictures]'") from error
    return plt


def styles() -> Any:
    """Colour, dashes and mark for one line after the other."""
    kinds = zip(itertools.cycle(COLOURS), itertools.cycle(DASHES), itertools.cycle(MARKS), strict=False)
    return ({"color": colour, "linestyle": dashes, "marker": mark} for colour, dashes, mark in kinds)


def _path(name: str, path: Any) -> Any:
    array = np.asarray(path, dtype=float)
    if array.ndim != 2 or array.shape[1] != 2 or not len(array):
        raise ValueError(f"the path {name!r} must have the shape (points, 2); it has {array.shape}")
    return array


def _contours(axes: Any, landscape: Landscape) -> None:
    """The landscape in grey: contours ever closer towards its lowest place, and a star at each minimum."""
    x1_from, x1_to, x2_from, x2_to = landscape.window
    grid = np.meshgrid(np.linspace(x1_from, x1_to, 300), np.linspace(x2_from, x2_to, 300))
    height = landscape(np.array(grid))
    levels = height.min() + np.ptp(height) * np.linspace(0, 1, 20)[1:] ** 3
    axes.contourf(*grid, height, levels=[height.min(), *levels], cmap="Greys", alpha=0.35)
    axes.contour(*grid, height, levels=levels, colors="darkgrey", linewidths=0.6)
    for minimum in landscape.minima:
        axes.plot(*minimum, "*", color="#F0E442", markeredgecolor="black", markersize=18)
    axes.set(xlabel="$x_1$", ylabel="$x_2$", xlim=(x1_from, x1_to), ylim=(x2_from, x2_to), title=landscape.name)


SIGNS = {
    "fa fa-minus": "−",
    "fa fa-fast-backward": "⏮",
    "fa fa-step-backward": "◂",
    "fa fa-play fa-flip-horizontal": "◀",
    "fa fa-pause": "⏸",
    "fa fa-play": "▶",
    "fa fa-step-forward": "▸",
    "fa fa-fast-forward": "⏭",
    "fa fa-plus": "+",
}


def _self_contained(page: str) -> str:
    """Matplotlib's player without the font of icons that it fetches from the network: signs stand for them."""
    page = re.sub(r"<link[^>]*>", "", page)
    for icon, sign in SIGNS.items():
        page = page.replace(f'<i class="{icon}"></i>', sign)
    return f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"></head><body>\n{page}\n</body></html>\n'
