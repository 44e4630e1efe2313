"""The one random generator that everything random draws from when it is not handed a generator of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_opt.errors import StateDictError

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


def get_rng_state() -> dict[str, Any]:
    """Where the library's random generator stands: a dict of plain values, which `set_rng_state` takes.

    >>> import tinygrad_opt as tg
    >>> from tinygrad_opt import nn
    >>> state = tg.get_rng_state()
    >>> a = nn.Linear(2, 2).weight.data
    >>> tg.set_rng_state(state)
    >>> b = nn.Linear(2, 2).weight.data
    >>> bool((a == b).all())
    True
    """
    return dict(generator_or_default(None).bit_generator.state)


def set_rng_state(state: dict[str, Any]) -> None:
    """Let the library's random generator go on from a state that `get_rng_state` gave.

    Raises StateDictError for anything else; the generator is left as it was then.
    """
    restore(generator_or_default(None), state)


def restore(generator: np.random.Generator, state: Any) -> None:
    """Set the state of a generator's bit generator; raises StateDictError, and changes nothing, if it is none."""
    bits = generator.bit_generator
    trial = type(bits)(0)
    try:
        trial.state = state
        places = (state["state"].get("pos", 0), state.get("buffer_pos", 0))  # NumPy reads there, and does not check
        fits = equal_states(trial.state, state) and all(0 <= place <= 624 for place in places)
    except Exception as error:  # NumPy raises whatever comes to pass: KeyError, TypeError, OverflowError, IndexError
        raise StateDictError(_misfit(bits, state)) from error
    if not fits:
        raise StateDictError(_misfit(bits, state))
    bits.state = state


def equal_states(a: Any, b: Any) -> bool:
    """Whether two states of a bit generator, which are nested dicts with arrays in them, are the same."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal_states(value, b[key]) for key, value in a.items())
    return np.asarray(a).dtype == np.asarray(b).dtype and np.array_equal(a, b)


def _misfit(bits: Any, state: Any) -> str:
    return (
        f"this is no state of a random generator of the kind {type(bits).__name__}, nothing was changed: "
        f"{state!r:.50}... Take one that get_rng_state(), or generator.bit_generator.state, gave for this kind"
    )


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
