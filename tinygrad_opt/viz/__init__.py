"""Pictures: graphs of back-propagation, and curves, paths and the health of training.

Each file is loaded when something of it is first used, so that those who want no pictures do not wait for them;
Matplotlib is loaded with the first plot, and graphviz with the first graph.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinygrad_opt.viz.around import Surface, loss_surface, plot_decision_boundary, plot_loss_surface
    from tinygrad_opt.viz.dot import Picture, draw_graph
    from tinygrad_opt.viz.folding import graph_model
    from tinygrad_opt.viz.health import Health, plot_health
    from tinygrad_opt.viz.plots import animate_paths, plot_history, plot_line_search, plot_losses, plot_paths
    from tinygrad_opt.viz.stepper import step_through
    from tinygrad_opt.viz.text import tree

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

FILES = {  # file -> what it has for users
    "around": ("Surface", "loss_surface", "plot_decision_boundary", "plot_loss_surface"),
    "dot": ("Picture", "draw_graph"),
    "folding": ("graph_model",),
    "health": ("Health", "plot_health"),
    "plots": ("animate_paths", "plot_history", "plot_line_search", "plot_losses", "plot_paths"),
    "stepper": ("step_through",),
    "text": ("tree",),
}


def __getattr__(name: str) -> Any:
    for file, names in FILES.items():
        if name in names:
            value = getattr(importlib.import_module(f"tinygrad_opt.viz.{file}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
