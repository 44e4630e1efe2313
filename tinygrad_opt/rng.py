"""The one random generator that everything random draws from when it is not handed a generator of its own."""

from __future__ import annotations

import numpy as np

_generator: np.random.Generator | None = None  # made when first needed: importing numpy.random takes a while


def manual_seed(seed: int) -> np.random.Generator:
    """Seed the library's random generator, and return it.

    Initial weights, shuffling and dropout draw from it wherever no ``generator`` is passed. Threads that must not
    influence each other pass a ``numpy.random.Generator`` each.

    >>> import tinygrad_opt as tg
    >>> from tinygrad_opt import nn
    >>> _ = tg.manual_seed(0)
    >>> a = nn.Linear(2, 2).weight.data
    >>> _ = tg.manual_seed(0)
    >>> b = nn.Linear(2, 2).weight.data
    >>> bool((a == b).all())
    True
    """
    global _generator
    _generator = np.random.default_rng(seed)
    return _generator


def generator_or_default(generator: np.random.Generator | None) -> np.random.Generator:
    """The generator given, or the library's own; raises TypeError for anything that is not a Generator."""
    global _generator
    if generator is None:
        if _generator is None:
            _generator = np.random.default_rng()
        return _generator
    if not isinstance(generator, np.random.Generator):
        raise TypeError(
            f"generator must be a numpy.random.Generator, such as np.random.default_rng(0); got {generator!r}"
        )
    return generator
