"""Clipping of gradients: against PyTorch, and what it promises."""

import math

import numpy as np
import pytest

from tinygrad_opt import AnomalyError, nn
from tinygrad_opt.nn.utils import clip_grad_norm_, clip_grad_value_

GRADS = [np.array([[3.0, -4.0], [0.5, 12.0]]), np.array(2.0), np.array([-7.0, 0.0])]


def parameters(dtype="float64"):
    made = [nn.Parameter(np.zeros_like(g), dtype=dtype) for g in GRADS]
    for p, g in zip(made, GRADS, strict=True):
        p.grad = g
    return made


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 5.0, 1e3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_norms_agree_with_pytorch(norm_type, max_norm, dtype):
    torch = pytest.importorskip("torch")
    ours = parameters(dtype)
    theirs = [torch.zeros(g.shape, dtype=getattr(torch, dtype), requires_grad=True) for g in GRADS]
    for p, g in zip(theirs, GRADS, strict=True):
        p.grad = torch.tensor(g, dtype=p.dtype)
    norm = clip_grad_norm_(ours, max_norm, norm_type)
    assert norm == pytest.approx(torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type).item(), rel=1e-6)
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.grad.data, q.grad.numpy(), rtol=1e-6)
        assert p.grad.dtype == np.dtype(dtype)


def test_the_direction_stays_and_the_norm_is_the_greatest_allowed():
    made = parameters()
    before = np.concatenate([g.ravel() for g in GRADS])
    assert clip_grad_norm_(made, 1.0) == pytest.approx(np.linalg.norm(before))
    after = np.concatenate([p.grad.data.ravel() for p in made])
    assert np.linalg.norm(after) == pytest.approx(1.0, rel=1e-6)
    np.testing.assert_allclose(after / np.linalg.norm(after), before / np.linalg.norm(before))


def test_small_gradients_and_missing_ones_are_left_alone():
    made = [*parameters(), nn.Parameter([1.0])]
    clip_grad_norm_(made, 1e3)
    clip_grad_value_(made, 1e3)
    for p, g in zip(made, GRADS, strict=False):
        np.testing.assert_array_equal(p.grad.data, g)
    assert made[-1].grad is None
    assert clip_grad_norm_([nn.Parameter([1.0])], 1.0) == 0.0


def test_values_are_clipped():
    made = parameters()
    clip_grad_value_(made, 2.5)
    for p, g in zip(made, GRADS, strict=True):
        np.testing.assert_array_equal(p.grad.data, np.clip(g, -2.5, 2.5))


def test_bad_input_is_explained():
    made = parameters()
    for wrong in (0, -1, math.nan):
        with pytest.raises(ValueError, match="max_norm"):
            clip_grad_norm_(made, wrong)
        with pytest.raises(ValueError, match="clip_value"):
            clip_grad_value_(made, wrong)
    made[1].grad = math.nan
    with pytest.raises(AnomalyError, match="nan"):
        clip_grad_norm_(made, 1.0, error_if_nonfinite=True)
    np.testing.assert_array_equal(made[0].grad.data, GRADS[0])
