"""The gradient rules, one file per family. Importing this package fills the table in `registry`."""

from tinygrad_opt.rules import elementwise, linalg, network, reductions, registry, shaping

__all__ = ["elementwise", "linalg", "network", "reductions", "registry", "shaping"]
