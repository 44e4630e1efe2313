"""The losses: against plain loops, against PyTorch, at extreme logits, and strict about what they are given."""

import functools
import math

import numpy as np
import pytest

from tests.gradients import check_first_order, check_second_order
from tinygrad_opt import ShapeError, Tensor, nn
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


def absolute_error(x, y):
    return abs(x - y)


def huber(delta):
    return lambda x, y: (x - y) ** 2 / 2 if abs(x - y) <= delta else delta * (abs(x - y) - delta / 2)


def squared_hinge(x, y):
    return max(0.0, 1 - x * y) ** 2


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
    "squared hinge": (F.squared_hinge_loss, nn.SquaredHingeLoss, squared_hinge, SCORES, SIGNS, None),
    "l1": (F.l1_loss, nn.L1Loss, absolute_error, SCORES, VALUES, "l1_loss"),
    "huber": (F.huber_loss, nn.HuberLoss, huber(1.0), SCORES, VALUES, "huber_loss"),
    "huber 0.5": (
        lambda x, y, reduction: F.huber_loss(x, y, reduction, delta=0.5), lambda r: nn.HuberLoss(r, delta=0.5),
        huber(0.5), SCORES, VALUES, "huber_loss",
    ),
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
    for function in (F.mse_loss, F.binary_cross_entropy_with_logits, F.l1_loss, F.huber_loss):
        check_first_order(function, [SCORES, SOFT_LABELS])
        check_second_order(function, [SCORES, SOFT_LABELS])


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


# Losses by class -----------------------------------------------------------------------------------------------------


def nll_of_one(x, target):
    return -x[target]


def multi_margin_of_one(p, margin):
    def loss(x, target):
        return sum(max(0.0, margin - x[target] + v) ** p for i, v in enumerate(x) if i != target) / len(x)

    return loss


# function of (scores, classes, reduction), module of the reduction, the loss of one example, PyTorch's function
BY_CLASS = {
    "cross-entropy": (F.cross_entropy, nn.CrossEntropyLoss, cross_entropy_of_one, lambda f: f.cross_entropy),
    "nll": (F.nll_loss, nn.NLLLoss, nll_of_one, lambda f: f.nll_loss),
    "multi-margin": (
        F.multi_margin_loss, lambda r: nn.MultiMarginLoss(reduction=r), multi_margin_of_one(1, 1.0),
        lambda f: f.multi_margin_loss,
    ),
    "multi-margin, squared": (
        lambda x, t, r: F.multi_margin_loss(x, t, r, p=2, margin=0.6),
        lambda r: nn.MultiMarginLoss(2, 0.6, reduction=r), multi_margin_of_one(2, 0.6),
        lambda f: functools.partial(f.multi_margin_loss, p=2, margin=0.6),
    ),
}  # fmt: skip
every_loss_by_class = pytest.mark.parametrize(
    ("function", "module", "one"), [row[:3] for row in BY_CLASS.values()], ids=BY_CLASS
)


@every_loss_by_class
@every_reduction
def test_losses_by_class_against_plain_loops(function, module, one, reduction):
    losses = reduce([one(x, t) for x, t in zip(SCORES.tolist(), CLASSES, strict=True)], reduction)
    for scores in (SCORES, Tensor(SCORES), SCORES.tolist()):
        for target in (CLASSES, Tensor(CLASSES), CLASSES.tolist(), CLASSES.astype("uint8")):
            for result in (function(scores, target, reduction), module(reduction)(scores, target)):
                assert isinstance(result, Tensor)
                np.testing.assert_allclose(result.data, losses, rtol=1e-12)
    check_first_order(lambda x: function(x, CLASSES, reduction), [SCORES])
    check_second_order(lambda x: module(reduction)(x, CLASSES), [SCORES])


@every_loss_by_class
@every_reduction
def test_losses_by_class_of_images_and_of_one_example(function, module, one, reduction):
    scores, classes = rng.normal(size=(2, 3, 2, 2)), rng.integers(0, 3, (2, 2, 2))
    losses = np.zeros((2, 2, 2))
    for b, i, j in np.ndindex(losses.shape):
        losses[b, i, j] = one(scores[b, :, i, j].tolist(), classes[b, i, j])
    np.testing.assert_allclose(function(scores, classes, reduction).data, reduce(losses, reduction), rtol=1e-12)
    check_first_order(lambda x: function(x, classes, reduction), [scores])
    check_second_order(lambda x: function(x, classes, reduction), [scores])
    np.testing.assert_allclose(function(SCORES[0], 1, reduction).data, one(SCORES[0].tolist(), 1), rtol=1e-12)
    alone = function(SCORES[:1], [1], reduction)
    assert alone.shape == ((1,) if reduction == "none" else ())
    np.testing.assert_allclose(alone.data.ravel(), [one(SCORES[0].tolist(), 1)], rtol=1e-12)


def test_nll_after_log_softmax_is_cross_entropy():
    for reduction in REDUCTIONS:
        np.testing.assert_allclose(
            F.nll_loss(F.log_softmax(SCORES), CLASSES, reduction).data,
            F.cross_entropy(SCORES, CLASSES, reduction).data,
            rtol=1e-12,
        )


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
    "row", [row for row in ELEMENTWISE.values() if row[-1]], ids=[n for n, row in ELEMENTWISE.items() if row[-1]]
)
def test_elementwise_losses_agree_with_pytorch(row, reduction):
    torch = pytest.importorskip("torch")
    function, module, _, prediction, target, name = row
    delta = getattr(module("mean"), "delta", None)
    theirs = functools.partial(getattr(torch.nn.functional, name), **({} if delta is None else {"delta": delta}))
    assert_agrees_with_torch(
        lambda x: function(x, target, reduction),
        lambda z: theirs(z, torch.tensor(target), reduction=reduction),
        prediction,
    )


@every_reduction
@pytest.mark.parametrize("row", BY_CLASS.values(), ids=BY_CLASS)
def test_losses_by_class_agree_with_pytorch(row, reduction):
    torch = pytest.importorskip("torch")
    assert_agrees_with_torch(
        lambda x: row[0](x, CLASSES, reduction),
        lambda z: row[3](torch.nn.functional)(z, torch.tensor(CLASSES), reduction=reduction),
        SCORES,
    )


def test_kinks_get_the_derivative_that_pytorch_gives_them():
    torch = pytest.importorskip("torch")
    pairs = [
        (lambda x: F.l1_loss(x, np.zeros(3), "sum"), lambda z: torch.nn.functional.l1_loss(z, 0 * z, reduction="sum")),
        (
            lambda x: F.huber_loss(x, np.zeros(3), "sum"),
            lambda z: torch.nn.functional.huber_loss(z, torch.zeros(3), reduction="sum"),
        ),
    ]
    for ours, theirs in pairs:
        x, z = Tensor([-1.0, 0.0, 1.0], requires_grad=True), torch.tensor([-1.0, 0.0, 1.0], requires_grad=True)
        ours(x).backward()
        theirs(z).backward()
        np.testing.assert_array_equal(x.grad.data, z.grad.numpy())
    x = Tensor([1.0, 1.0], requires_grad=True)
    (F.hinge_loss(x, [1, 1], "sum") + F.squared_hinge_loss(x, [1, 1], "sum")).backward()
    np.testing.assert_array_equal(x.grad.data, [0, 0])


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
    "nll": (lambda x: F.nll_loss(F.log_softmax(x), [0, 1, 2], "none"), [0, 2e4, math.log(3)]),
    "multi-margin": (lambda x: F.multi_margin_loss(x, [0, 1, 2], "none"), [0, (1 + 20001) / 3, 2 / 3]),
    "l1": (lambda x: F.l1_loss(x, np.zeros((3, 3)), "none"), np.abs(EXTREME)),
    "huber": (lambda x: F.huber_loss(x, np.zeros((3, 3)), "none"), np.maximum(np.abs(EXTREME) - 0.5, 0)),
    "bce": (
        lambda x: F.binary_cross_entropy(F.sigmoid(x), np.ones((3, 3)), "none"),
        np.where(EXTREME == 0, math.log(2), np.where(EXTREME > 0, 0, 100)),
    ),
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


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_squares_of_extreme_scores_are_exact_and_quiet(dtype):
    squares = {F.squared_hinge_loss: 1 - EXTREME, F.mse_loss: 1 - EXTREME}
    for function, distance in squares.items():
        if function is F.squared_hinge_loss:
            distance = np.maximum(distance, 0)
        x = Tensor(EXTREME, requires_grad=True, dtype=dtype)
        result = function(x, np.ones((3, 3)), "none")
        result.sum().backward()
        np.testing.assert_allclose(result.data, distance**2, rtol=1e-6)
        np.testing.assert_allclose(x.grad.data, -2 * distance, rtol=1e-6)


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


@every_loss_by_class
@every_reduction
def test_losses_by_class_stay_float32(function, module, one, reduction):
    x = Tensor(SCORES, requires_grad=True, dtype="float32")
    result = module(reduction)(x, CLASSES)
    assert result.dtype == np.float32
    result.sum().backward()
    assert x.grad.dtype == np.float32


@every_loss
def test_integer_tensors_are_numbers(function, module, one, prediction, target, float32):
    """Also those of 8 bits without a sign, of which NumPy would wrap the difference; and a float32 loss stays one."""
    ones, zeros = Tensor(np.ones(3, "uint8")), Tensor(np.zeros(3, "uint8"))
    for x, y in [(zeros, ones), (ones, ones), (np.zeros(3, "uint8"), ones), (zeros, [1.0, 1.0, 1.0])]:
        numbers = Tensor(np.asarray(getattr(x, "data", x)), dtype="float32")
        result, expected = function(x, y, "none"), function(numbers, np.ones(3), "none")
        assert result.dtype == expected.dtype == np.float32
        np.testing.assert_array_equal(result.data, expected.data)


@every_loss_by_class
def test_integer_scores_are_numbers(function, module, one):
    scores = np.array([[1, 2, 0], [3, 0, 1]])
    np.testing.assert_allclose(
        function(Tensor(scores), [0, 1], "none").data, [one(x, t) for x, t in zip(scores.tolist(), [0, 1], strict=True)]
    )


def losses_and_inputs():
    for label, (function, _, _, prediction, target, _) in ELEMENTWISE.items():
        yield label, function, prediction, target
    for label, (function, *_) in BY_CLASS.items():
        yield label, function, SCORES, CLASSES
    yield "cross-entropy of probabilities", F.cross_entropy, SCORES, DISTRIBUTIONS


every_loss_of_all = pytest.mark.parametrize(
    ("function", "prediction", "target"),
    [row[1:] for row in losses_and_inputs()],
    ids=[row[0] for row in losses_and_inputs()],
)


@every_loss_of_all
def test_no_examples(function, prediction, target):
    """The mean is not defined, the sum is 0, and the losses themselves are none."""
    for classes in (target[:0], []) if target.dtype.kind == "i" else (target[:0],):
        x = Tensor(prediction[:0], requires_grad=True)
        with pytest.raises(ShapeError, match=r"mean loss of no examples.*\(0"):
            function(x, classes, "mean")
        total = function(x, classes, "sum")
        assert total.item() == 0
        total.backward()
        assert x.grad.shape == (0, 3)
        assert function(x, classes, "none").size == 0


@every_loss_of_all
def test_memory_layout_does_not_matter(function, prediction, target):
    x, y = Tensor(prediction, requires_grad=True), Tensor(0.0)
    plain = function(x, target, "none")
    upstream = np.linspace(0.5, 1.5, plain.size).reshape(plain.shape)
    plain.backward(upstream)
    y.data = np.asfortranarray(prediction)[::-1]
    y.requires_grad = True
    turned = function(y, np.ascontiguousarray(target[::-1]), "none")
    np.testing.assert_allclose(turned.data, plain.data[::-1], rtol=1e-12)
    turned.backward(np.asfortranarray(upstream)[::-1])
    np.testing.assert_allclose(y.grad.data, x.grad.data[::-1], rtol=1e-12)


WRONG = {
    "a float class index": (lambda: F.nll_loss(SCORES, np.zeros(5)), TypeError, r"nll_loss.*integer.*float64"),
    "a boolean class": (lambda: F.multi_margin_loss(SCORES, np.ones(5, bool)), TypeError, r"multi_margin.*int.*bool"),
    "a string for a class": (lambda: F.nll_loss(SCORES, list("abcde")), TypeError, r"integer dtype.*got <U1"),
    "a string for a class, cross-entropy": (lambda: F.cross_entropy(SCORES, list("abcde")), ShapeError, r"<U1"),
    "indices of 0 and 1": (
        lambda: F.cross_entropy(SCORES, np.eye(3, dtype=int)[CLASSES]), ShapeError, r"\(5,\).*\(5, 3\).*argmax",
    ),
    "indices as a column": (
        lambda: F.nll_loss(SCORES, CLASSES[:, None]), ShapeError, r"3 classes.*\(5, 1\).*target\.reshape\(\(5,\)\)",
    ),
    "too few indices": (lambda: F.multi_margin_loss(SCORES, [0, 1]), ShapeError, r"\(5,\).*3 classes.*\(2,\)$"),
    "index too large": (lambda: F.nll_loss(SCORES, CLASSES + 1), ValueError, r"0 \.\.\. 2 for 3 classes; got 3"),
    "index -100": (lambda: F.multi_margin_loss(SCORES, CLASSES - 100), ValueError, r"0 \.\.\. 2.*got -100"),
    "8-bit index too large": (lambda: F.nll_loss(SCORES, np.full(5, 255, "uint8")), ValueError, r"0 \.\.\. 2.*got 255"),
    "no classes": (lambda: F.nll_loss(np.zeros((5, 0)), CLASSES), ShapeError, r"nll_loss.*classes\).*\(5, 0\)"),
    "another power": (lambda: F.multi_margin_loss(SCORES, CLASSES, p=3), ValueError, r"p of 1 or 2; got 3"),
    "another power, module": (lambda: nn.MultiMarginLoss("sum"), ValueError, r"p of 1 or 2; got 'sum'"),
    "delta 0": (lambda: F.huber_loss(SCORES, VALUES, delta=0), ValueError, r"positive delta; got 0"),
    "delta NaN, module": (lambda: nn.HuberLoss(delta=math.nan), ValueError, r"positive delta; got nan"),
    "smoothing, module": (lambda: nn.CrossEntropyLoss(label_smoothing=2), ValueError, r"\[0, 1\]; got 2"),
    "logits for probabilities": (
        lambda: F.binary_cross_entropy([2.0], [1.0]), ValueError, r"got 2.*binary_cross_entropy_with_logits",
    ),
    "labels 0 and 1": (lambda: F.squared_hinge_loss([0.5], [0]), ValueError, r"squared_hinge.*got 0.*2 \* y - 1"),
    "strings": (lambda: F.mse_loss(["a"], ["b"]), TypeError, r"real numbers.*<U1"),
    "complex numbers": (lambda: F.l1_loss([1j], [0.0]), TypeError, r"real numbers.*complex128"),
    "None": (lambda: F.l1_loss(None, [0.0]), TypeError, r"real numbers.*object.*None"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_explained(call, error, text):
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize("module", [row[1] for row in (*ELEMENTWISE.values(), *BY_CLASS.values())])
def test_an_unknown_reduction_is_refused(module):
    with pytest.raises(ValueError, match=r"reduction.*'avg'"):
        module("avg")


@every_loss
def test_shapes_are_never_broadcast(function, module, one, prediction, target):
    for x, y in [(prediction[:, :1], target[:, 0]), (prediction, target[:1]), (prediction, target[0, 0])]:
        with pytest.raises(ShapeError, match=r"one shape; got \(5, [13]\) and \("):
            module("mean")(x, y)


def test_modules_show_their_options():
    assert repr(nn.HuberLoss(delta=0.5)).startswith("HuberLoss(reduction='mean', delta=0.5)")
    assert repr(nn.MultiMarginLoss(2)).startswith("MultiMarginLoss(p=2, margin=1.0, reduction='mean')")
    assert "reduction='sum'" in repr(nn.MSELoss("sum"))
    assert "label_smoothing=0.1" in repr(nn.CrossEntropyLoss(label_smoothing=0.1))


@pytest.mark.parametrize("classes", [2, 10, 2000])
@pytest.mark.parametrize("dtype", ["int64", "int8", "uint8"])
def test_indices_that_are_no_class(classes, dtype):
    logits = np.zeros((3, classes))
    known = min(classes, 100) - 1
    assert F.cross_entropy(logits, np.array([0, 1, known], dtype)).item() == pytest.approx(np.log(classes))
    wrong = {-1, -classes, -classes - 1, -2 * classes, -3 * classes, classes, 2 * classes, -128, 127}
    for index in wrong - {*range(classes)}:
        if not np.iinfo(dtype).min <= index <= np.iinfo(dtype).max:
            continue
        with pytest.raises(ValueError, match=f"got {index}$"):
            F.cross_entropy(logits, np.array([0, index, 1], dtype))
