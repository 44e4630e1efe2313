"""The losses: against plain loops, against PyTorch, at extreme logits, and strict about what they are given."""

import math

import numpy as np
import pytest

from tests.gradients import check_first_order, check_second_order
from tinygrad_opt import Tensor, nn
from tinygrad_opt.nn import functional as F

REDUCTIONS = ("mean", "sum", "none")

rng = np.random.default_rng(0)
SCORES = rng.normal(size=(5, 3))
PROBABILITIES = rng.uniform(0.05, 0.95, (5, 3))
VALUES = rng.normal(size=(5, 3))
LABELS01 = rng.integers(0, 2, (5, 3)).astype(float)
SOFT_LABELS = rng.uniform(0, 1, (5, 3))
SIGNS = np.where(rng.normal(size=(5, 3)) > 0, 1.0, -1.0)
CLASSES = np.array([0, 2, 1, 1, 0])
DISTRIBUTIONS = rng.dirichlet(np.ones(3), 5)


def squared_error(x, y):
    return (x - y) ** 2


def log_loss(p, y):
    return -y * math.log(p) - (1 - y) * math.log(1 - p)


def log_loss_with_logits(x, y):
    return log_loss(1 / (1 + math.exp(-x)), y)


def hinge(x, y):
    return max(0.0, 1 - x * y)


# function, module, the loss of one element, prediction, target, PyTorch's function
ELEMENTWISE = {
    "mse": (F.mse_loss, nn.MSELoss, squared_error, SCORES, VALUES, "mse_loss"),
    "bce": (F.binary_cross_entropy, nn.BCELoss, log_loss, PROBABILITIES, LABELS01, "binary_cross_entropy"),
    "bce soft": (F.binary_cross_entropy, nn.BCELoss, log_loss, PROBABILITIES, SOFT_LABELS, "binary_cross_entropy"),
    "logits": (
        F.binary_cross_entropy_with_logits, nn.BCEWithLogitsLoss, log_loss_with_logits, SCORES, LABELS01,
        "binary_cross_entropy_with_logits",
    ),
    "logits soft": (
        F.binary_cross_entropy_with_logits, nn.BCEWithLogitsLoss, log_loss_with_logits, SCORES, SOFT_LABELS,
        "binary_cross_entropy_with_logits",
    ),
    "hinge": (F.hinge_loss, nn.HingeLoss, hinge, SCORES, SIGNS, None),
}  # fmt: skip
every_loss = pytest.mark.parametrize(
    ("function", "module", "one", "prediction", "target"), [row[:5] for row in ELEMENTWISE.values()], ids=ELEMENTWISE
)
every_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)


def reduce(losses, reduction):
    losses = np.asarray(losses)
    return {"mean": losses.mean(), "sum": losses.sum(), "none": losses}[reduction]


@every_loss
@every_reduction
def test_values_against_plain_loops(function, module, one, prediction, target, reduction):
    losses = [[one(x, y) for x, y in zip(xs, ys, strict=True)] for xs, ys in zip(prediction, target, strict=True)]
    for p, t in [
        (prediction, target),
        (Tensor(prediction), target),
        (prediction, Tensor(target)),
        (prediction.tolist(), target),
    ]:
        for result in (function(p, t, reduction), module(reduction)(p, t)):
            assert isinstance(result, Tensor)
            np.testing.assert_allclose(result.data, reduce(losses, reduction), rtol=1e-12)


@every_loss
@every_reduction
def test_gradients_against_finite_differences(function, module, one, prediction, target, reduction):
    check_first_order(lambda x: function(x, target, reduction), [prediction])
    check_second_order(lambda x: module(reduction)(x, target), [prediction])


def test_gradients_also_flow_to_targets():
    for function, prediction in [(F.mse_loss, SCORES), (F.binary_cross_entropy_with_logits, SCORES)]:
        check_first_order(function, [prediction, SOFT_LABELS])


# Cross-entropy -------------------------------------------------------------------------------------------------------


def cross_entropy_of_one(logits, target, smoothing=0.0):
    """-Σ target log softmax, with the target given as a class or as probabilities."""
    normaliser = math.log(sum(math.exp(x) for x in logits))
    p = np.eye(len(logits))[target] if np.ndim(target) == 0 else target
    p = [(1 - smoothing) * q + smoothing / len(logits) for q in p]
    return -sum(q * (x - normaliser) for q, x in zip(p, logits, strict=True))


@every_reduction
@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("target", [CLASSES, DISTRIBUTIONS], ids=["classes", "probabilities"])
def test_cross_entropy_against_plain_loops(target, smoothing, reduction):
    losses = [cross_entropy_of_one(x, t, smoothing) for x, t in zip(SCORES, target, strict=True)]
    for logits in (SCORES, Tensor(SCORES), SCORES.tolist()):
        for t in (target, Tensor(target), target.tolist()):
            result = F.cross_entropy(logits, t, reduction, smoothing)
            np.testing.assert_allclose(result.data, reduce(losses, reduction), rtol=1e-12)
    module = nn.CrossEntropyLoss(reduction, smoothing)
    np.testing.assert_allclose(module(SCORES, target).data, reduce(losses, reduction), rtol=1e-12)
    check_first_order(lambda x: F.cross_entropy(x, target, reduction, smoothing), [SCORES])
    check_second_order(lambda x: F.cross_entropy(x, target, reduction, smoothing), [SCORES])


@every_reduction
@pytest.mark.parametrize("kind", ["classes", "probabilities"])
def test_cross_entropy_of_images(kind, reduction):
    """Classes are the second axis: (batch, classes, height, width)."""
    logits = rng.normal(size=(2, 3, 2, 2))
    classes = rng.integers(0, 3, (2, 2, 2))
    target = classes if kind == "classes" else np.moveaxis(np.eye(3)[classes] * 0.7 + 0.1, -1, 1)
    losses = np.zeros((2, 2, 2))
    for b, i, j in np.ndindex(losses.shape):
        losses[b, i, j] = cross_entropy_of_one(
            logits[b, :, i, j], classes[b, i, j] if kind == "classes" else target[b, :, i, j]
        )
    np.testing.assert_allclose(F.cross_entropy(logits, target, reduction).data, reduce(losses, reduction), rtol=1e-12)
    check_first_order(lambda x: F.cross_entropy(x, target, reduction), [logits])


def test_cross_entropy_of_one_example():
    assert F.cross_entropy(SCORES[0], 1).item() == pytest.approx(cross_entropy_of_one(SCORES[0], 1))


# PyTorch -------------------------------------------------------------------------------------------------------------


def assert_agrees_with_torch(ours, theirs, inputs):
    """Values and gradients with respect to the inputs, with a random upstream gradient."""
    torch = pytest.importorskip("torch")
    x, z = Tensor(inputs, requires_grad=True), torch.tensor(inputs, requires_grad=True)
    result, reference = ours(x), theirs(z)
    np.testing.assert_allclose(result.data, reference.detach().numpy(), rtol=1e-10)
    upstream = np.random.default_rng(1).uniform(0.5, 1.5, result.shape)
    result.backward(upstream)
    reference.backward(torch.tensor(upstream))
    np.testing.assert_allclose(x.grad.data, z.grad.numpy(), rtol=1e-9, atol=1e-12)


@every_reduction
@pytest.mark.parametrize(
    "row", [row for row in ELEMENTWISE.values() if row[-1]], ids=[n for n in ELEMENTWISE if n != "hinge"]
)
def test_elementwise_losses_agree_with_pytorch(row, reduction):
    torch = pytest.importorskip("torch")
    function, _, _, prediction, target, name = row
    theirs = getattr(torch.nn.functional, name)
    assert_agrees_with_torch(
        lambda x: function(x, target, reduction),
        lambda z: theirs(z, torch.tensor(target), reduction=reduction),
        prediction,
    )


@every_reduction
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("target", [CLASSES, DISTRIBUTIONS], ids=["classes", "probabilities"])
def test_cross_entropy_agrees_with_pytorch(target, smoothing, reduction):
    torch = pytest.importorskip("torch")
    assert_agrees_with_torch(
        lambda x: F.cross_entropy(x, target, reduction, smoothing),
        lambda z: torch.nn.functional.cross_entropy(
            z, torch.tensor(target), reduction=reduction, label_smoothing=smoothing
        ),
        SCORES,
    )


# Extremes ------------------------------------------------------------------------------------------------------------

EXTREME = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, 1e4], [1e4, 1e4, 1e4]])

STABLE = {
    "cross_entropy": (lambda x: F.cross_entropy(x, [0, 1, 2], "none"), [0, 2e4, math.log(3)]),
    "cross_entropy of probabilities": (lambda x: F.cross_entropy(x, np.eye(3), "none"), [0, 2e4, math.log(3)]),
    "with logits, labels 1": (
        lambda x: F.binary_cross_entropy_with_logits(x, np.ones((3, 3)), "none"),
        np.maximum(-EXTREME, 0) + np.where(EXTREME == 0, math.log(2), 0),
    ),
    "with logits, labels 0": (
        lambda x: F.binary_cross_entropy_with_logits(x, np.zeros((3, 3)), "none"),
        np.maximum(EXTREME, 0) + np.where(EXTREME == 0, math.log(2), 0),
    ),
    "hinge": (lambda x: F.hinge_loss(x, np.ones((3, 3)), "none"), np.maximum(1 - EXTREME, 0)),
    "sigmoid": (F.sigmoid, np.where(EXTREME == 0, 0.5, EXTREME > 0)),
    "softmax": (F.softmax, [[1, 0, 0], [0, 0, 1], [1 / 3] * 3]),
    "log_softmax": (F.log_softmax, [[0, -2e4, -1e4], [-2e4, -2e4, 0], [-math.log(3)] * 3]),
    "tanh": (F.tanh, np.sign(EXTREME)),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("function", "expected"), STABLE.values(), ids=STABLE)
def test_extreme_logits_are_exact_and_quiet(function, expected, dtype):
    x = Tensor(EXTREME, requires_grad=True, dtype=dtype)
    with np.errstate(over="raise", divide="raise", invalid="raise", under="ignore"):
        result = function(x)
        result.sum().backward()
    assert result.dtype == x.grad.dtype == np.dtype(dtype)
    np.testing.assert_allclose(result.data, expected, rtol=1e-6, atol=1e-30)
    assert np.all(np.isfinite(x.grad.data))
    assert np.all(np.abs(x.grad.data) <= 3)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_log_loss_of_certain_probabilities_is_finite_and_quiet(dtype):
    p = Tensor([0.0, 1.0, 0.0, 1.0], requires_grad=True, dtype=dtype)
    with np.errstate(over="raise", divide="raise", invalid="raise", under="ignore"):
        losses = F.binary_cross_entropy(p, [0.0, 1.0, 1.0, 0.0], "none")
        losses.sum().backward()
    np.testing.assert_allclose(losses.data, [0, 0, 100, 100], rtol=1e-3)
    assert np.all(np.isfinite(p.grad.data))
    assert p.grad.data[2] < 0 < p.grad.data[3]


# Dtypes and errors ---------------------------------------------------------------------------------------------------


@every_loss
@every_reduction
def test_float32_stays_float32(function, module, one, prediction, target, reduction):
    x = Tensor(prediction, requires_grad=True, dtype="float32")
    result = function(x, target, reduction)
    assert result.dtype == np.float32
    result.sum().backward()
    assert x.grad.dtype == np.float32


@pytest.mark.parametrize("target", [CLASSES, DISTRIBUTIONS, DISTRIBUTIONS.astype("float32")])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_float32_cross_entropy_stays_float32(target, smoothing):
    logits = Tensor(SCORES, requires_grad=True, dtype="float32")
    result = F.cross_entropy(logits, target, label_smoothing=smoothing)
    assert result.dtype == np.float32
    result.backward()
    assert logits.grad.dtype == np.float32


def test_modules_show_their_options():
    assert "reduction='sum'" in repr(nn.MSELoss("sum"))
    assert "label_smoothing=0.1" in repr(nn.CrossEntropyLoss(label_smoothing=0.1))
