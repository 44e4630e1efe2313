"""DataLoader: cuts arrays into batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tinygrad_opt.errors import ShapeError, StateDictError
from tinygrad_opt.rng import generator_or_default, restore
from tinygrad_opt.tensor import Tensor

Order = npt.NDArray[Any] | None  # the examples of one pass, or None for those of the arrays in order


class DataLoader:
    """Goes through arrays of equal length in batches: ``for x, y in DataLoader(X, Y, batch_size=32)``.

    Every array has the examples along its first axis. ``batch_size`` is the number of examples in a batch: 1 for
    stochastic descent, k for mini-batches, ``"all"`` for the whole data. With ``shuffle`` every pass is in a new order,
    drawn from ``generator`` (a ``numpy.random.Generator``, or else the library's own). With ``drop_last`` a last batch
    that would be smaller is left out. Each batch is a tuple with one array per array; without ``shuffle`` these are
    views of the data, which can only be read.

    Raises ShapeError when the arrays differ in length, ValueError when there are none, or for a ``batch_size`` below 1.

    >>> import numpy as np, tinygrad_opt as tg
    >>> loader = tg.DataLoader(np.arange(5), np.arange(5) * 10, batch_size=2)
    >>> [(x.tolist(), y.tolist()) for x, y in loader]
    [([0, 1], [0, 10]), ([2, 3], [20, 30]), ([4], [40])]
    >>> len(loader)
    3
    """

    def __init__(
        self,
        *arrays: Any,
        batch_size: int | Literal["all"] = 1,
        shuffle: bool = False,
        drop_last: bool = False,
        generator: np.random.Generator | None = None,
    ) -> None:
        self.arrays = [a.data if isinstance(a, Tensor) else np.asarray(a) for a in arrays]
        if not arrays or any(a.ndim == 0 for a in self.arrays):
            raise ValueError("DataLoader needs at least one array with examples along its first axis")
        lengths = [len(a) for a in self.arrays]
        if len(set(lengths)) > 1:
            raise ShapeError(f"the arrays must have one length, one entry per example; got lengths {lengths}")
        if batch_size != "all" and (not isinstance(batch_size, (int, np.integer)) or batch_size < 1):
            raise ValueError(f'batch_size must be a whole number from 1 on, or "all"; got {batch_size!r}')
        generator_or_default(generator)
        self.examples = lengths[0]
        self.batch_size = max(self.examples, 1) if batch_size == "all" else int(batch_size)
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.generator = generator
        self._running: tuple[Order, int] | None = None  # the pass under way: its order, and how many batches it gave
        self._loaded: tuple[Order, int] | None = None  # the same, from a state dict, for the next pass to go on with

    def __len__(self) -> int:
        """The number of batches in one pass."""
        full, rest = divmod(self.examples, self.batch_size)
        return full + (1 if rest and not self.drop_last else 0)

    def __iter__(self) -> Iterator[tuple[npt.NDArray[Any], ...]]:
        order, given = self._loaded or (self._new_order(), 0)
        self._loaded = None
        try:
            for number in range(given, len(self)):
                self._running = order, number + 1
                batch = slice(number * self.batch_size, (number + 1) * self.batch_size)
                yield tuple(_read_only(a[batch]) if order is None else a[order[batch]] for a in self.arrays)
        finally:  # also when the loop is left by a break
            self._running = None

    def _new_order(self) -> Order:
        return generator_or_default(self.generator).permutation(self.examples) if self.shuffle else None

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands: what `load_state_dict` takes.

        ``generator`` is the state of the loader's own generator, None when it draws from the library's, whose state is
        `get_rng_state`. Within the body of a loop over the loader, ``batches`` is how many batches the pass gave, this
        one included, and ``order`` its order, if shuffled; outside, 0 and None: the next pass starts anew.
        """
        order, batches = self._loaded or self._running or (None, 0)
        return {
            **self._settings(),
            "generator": None if self.generator is None else self.generator.bit_generator.state,
            "order": None if order is None else order.copy(),
            "batches": batches,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict`: the next loop gets what was left of the pass, and later passes follow as then.

        Raises StateDictError when the state is of a loader with other examples, batches or another kind of generator;
        nothing is changed then.

        >>> import numpy as np, tinygrad_opt as tg
        >>> loader, other = tg.DataLoader(np.arange(6), batch_size=2), tg.DataLoader(np.arange(6), batch_size=2)
        >>> for (x,) in loader:
        ...     state = loader.state_dict()
        ...     break
        >>> other.load_state_dict(state)
        >>> [x.tolist() for (x,) in other]
        [[2, 3], [4, 5]]
        """
        own = self.state_dict()
        if not isinstance(state, Mapping) or state.keys() != own.keys():
            raise StateDictError(f"a DataLoader's state has {sorted(own)}; got {state!r:.200}")
        settings = self._settings()
        saved = {name: state[name] for name in settings}
        if repr(saved) != repr(settings):
            raise StateDictError(f"the state is of a DataLoader with {saved}; this one has {settings}")
        order, batches = state["order"], state["batches"]
        if not isinstance(batches, int) or not 0 <= batches <= len(self) or not self._fits(order, batches):
            raise StateDictError(f"the state does not say where a pass of {len(self)} batches stands: {state!r:.200}")
        if (state["generator"] is None) != (self.generator is None):
            raise StateDictError(
                "of the loader that was saved and this one, one has a generator of its own and the other draws from "
                "the library's: make this one as that one was made"
            )
        if self.generator is not None:
            restore(self.generator, state["generator"])
        self._loaded = (None if order is None else np.array(order), batches) if batches else None

    def _settings(self) -> dict[str, Any]:
        return {"examples": self.examples, "batch_size": self.batch_size, "shuffle": self.shuffle}

    def _fits(self, order: Any, batches: int) -> bool:
        """Whether the order is what a pass has after so many batches: all examples once, or None."""
        if not (self.shuffle and batches):
            return order is None
        whole = isinstance(order, np.ndarray) and order.dtype.kind in "iu"
        return whole and np.array_equal(np.sort(order, axis=None), np.arange(self.examples)) and order.ndim == 1

    def __repr__(self) -> str:
        shapes = ", ".join(str(a.shape) for a in self.arrays)
        return f"DataLoader({shapes}; {len(self)} batches of {self.batch_size}, shuffle={self.shuffle})"


def _read_only(view: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A view of the data through which they cannot be changed."""
    view.flags.writeable = False
    return view
