"""DataLoader: cuts arrays into batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tinygrad_opt.errors import ShapeError
from tinygrad_opt.rng import generator_or_default
from tinygrad_opt.tensor import Tensor


class DataLoader:
    """Goes through arrays of equal length in batches: ``for x, y in DataLoader(X, Y, batch_size=32)``.

    Every array has the examples along its first axis. ``batch_size`` is the number of examples in a batch: 1 for
    stochastic descent, k for mini-batches, ``"all"`` for the whole data. With ``shuffle`` every pass is in a new order,
    drawn from ``generator`` (a ``numpy.random.Generator``, or else the library's own). With ``drop_last`` a last batch
    that would be smaller is left out. Each batch is a tuple with one array per array.

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

    def __len__(self) -> int:
        """The number of batches in one pass."""
        full, rest = divmod(self.examples, self.batch_size)
        return full + (1 if rest and not self.drop_last else 0)

    def __iter__(self) -> Iterator[tuple[npt.NDArray[Any], ...]]:
        order = generator_or_default(self.generator).permutation(self.examples) if self.shuffle else None
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            batch = slice(start, start + self.batch_size)
            yield tuple(a[batch] if order is None else a[order[batch]] for a in self.arrays)

    def __repr__(self) -> str:
        shapes = ", ".join(str(a.shape) for a in self.arrays)
        return f"DataLoader({shapes}; {len(self)} batches of {self.batch_size}, shuffle={self.shuffle})"
