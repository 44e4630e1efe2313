"""The gradient rules, one file per family. Importing this package fills the table in `registry`."""

from tinygrad_opt.rules import composites, elementwise, linalg, network, reductions, registry, shaping, windows

__all__ = ["composites", "elementwise", "linalg", "network", "reductions", "registry", "shaping", "windows"]
