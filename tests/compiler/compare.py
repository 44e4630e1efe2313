"""What the compiler's tests share: what a function gives, and how it is compared with what it gives compiled."""

import functools

import numpy as np

from tests.gradients import random_like, results, weighted_sum
from tinygrad_opt import Tensor


def values(result):
    """The arrays of a result, or of several."""
    return [np.asarray(r.data if isinstance(r, Tensor) else r) for r in results(result)]


def kinds(result):
    """For each part of a result, whether it is an array, a Tensor, or a Tensor with a gradient."""
    return [(isinstance(r, Tensor), isinstance(r, Tensor) and r.requires_grad) for r in results(result)]


@functools.cache
def upstream(shapes, dtype):
    """The gradient that each part of a result starts with: another one everywhere."""
    return [w.astype(dtype) for w in random_like([np.empty(shape) for shape in shapes], seed=1)]


def weighted(result):
    """The scalar Σ (result · upstream gradient), over all results that have gradients."""
    parts = [r for r in results(result) if isinstance(r, Tensor) and r.requires_grad]
    return weighted_sum(parts, upstream(tuple(p.shape for p in parts), parts[0].dtype))


def gradients(loss, leaves):
    """The gradients of the leaves, None where there is none."""
    for leaf in leaves:
        leaf.grad = None
    loss.backward()
    return [None if leaf.grad is None else leaf.grad.data for leaf in leaves]


def assert_equal(actual, expected, what=""):
    """The same arrays, to the last bit; None in the same places."""
    for a, e in zip(actual, expected, strict=True):
        if a is None or e is None or a.dtype != e.dtype or not np.array_equal(a, e, equal_nan=True):
            assert a is e is None, f"{what}: {a!r} instead of {e!r}"


def assert_close(actual, expected, what=""):
    """The same arrays but for rounding, which is measured by the largest element."""
    for a, e in zip(actual, expected, strict=True):
        assert (a is None) is (e is None), what
        if e is not None:
            scale = max(1, np.abs(e).max(initial=0))
            np.testing.assert_allclose(a, e, rtol=1e-12, atol=1e-13 * scale, strict=True, err_msg=what)


class Unchanged:
    """Arrays that nobody may write into any more."""

    def __init__(self):
        self.arrays = []

    def keep(self, arrays):
        self.arrays += [(a, a.copy()) for a in arrays if a is not None]

    def check(self):
        for array, copy in self.arrays:
            assert_equal([array], [copy], "changed by a later call")
