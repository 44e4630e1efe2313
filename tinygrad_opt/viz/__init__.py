"""Pictures: graphs of back-propagation, and curves, paths and the health of training.

Matplotlib is loaded when the first plot is drawn, and graphviz when the first graph is.
"""

from typing import TYPE_CHECKING, Any

from tinygrad_opt.viz.folding import graph_model
from tinygrad_opt.viz.health import (
    Health,
    Surface,
    loss_surface,
    plot_decision_boundary,
    plot_health,
    plot_loss_surface,
)
from tinygrad_opt.viz.plots import animate_paths, plot_history, plot_line_search, plot_losses, plot_paths
from tinygrad_opt.viz.text import tree

if TYPE_CHECKING:
    from tinygrad_opt.viz.dot import Picture, draw_graph
    from tinygrad_opt.viz.stepper import step_through

__all__ = [
    "Health",
    "Picture",
    "Surface",
    "animate_paths",
    "draw_graph",
    "graph_model",
    "loss_surface",
    "plot_decision_boundary",
    "plot_health",
    "plot_history",
    "plot_line_search",
    "plot_loss_surface",
    "plot_losses",
    "plot_paths",
    "step_through",
    "tree",
]


def __getattr__(name: str) -> Any:
    if name in ("Picture", "draw_graph"):
        from tinygrad_opt.viz import dot

        return getattr(dot, name)
    if name == "step_through":
        from tinygrad_opt.viz import stepper

        return stepper.step_through
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
