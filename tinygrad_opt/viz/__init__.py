"""Pictures: curves and paths of training, drawn with Matplotlib, which is loaded when the first one is drawn."""

from tinygrad_opt.viz.plots import animate_paths, plot_history, plot_line_search, plot_losses, plot_paths

__all__ = ["animate_paths", "plot_history", "plot_line_search", "plot_losses", "plot_paths"]
