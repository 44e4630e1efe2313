"""Batch and layer normalisation: running statistics, modes, and graphs that outlive a change of the statistics."""

import numpy as np
import pytest

from tests.nn import naive
from tinygrad_opt import GraphError, ShapeError, Tensor, nn
from tinygrad_opt.nn import functional as F

rng = np.random.default_rng(0)
BATCHES = [rng.normal(1.0, 2.0, (n, 3)) for n in (4, 2, 5)]
IMAGES = [rng.normal(1.0, 2.0, (n, 3, 2, 4)) for n in (4, 1, 2)]


def running_statistics(batches, momentum):
    """The running means after all batches: exponential, or plain where momentum is None."""
    mean, variance = [0.0] * 3, [1.0] * 3
    for number, batch in enumerate(batches, 1):
        weight = 1 / number if momentum is None else momentum
        new_mean, _, new_variance = naive.batch_statistics(batch)
        mean = [(1 - weight) * old + weight * new for old, new in zip(mean, new_mean, strict=True)]
        variance = [(1 - weight) * old + weight * new for old, new in zip(variance, new_variance, strict=True)]
    return mean, variance


@pytest.mark.parametrize("momentum", [0.1, 0.9, 0.0, 1.0, None])
@pytest.mark.parametrize(("kind", "batches"), [(nn.BatchNorm1d, BATCHES), (nn.BatchNorm2d, IMAGES)])
def test_running_statistics_over_several_batches(kind, batches, momentum):
    layer = kind(3, momentum=momentum)
    for batch in batches:
        layer(batch)
    mean, variance = running_statistics(batches, momentum)
    np.testing.assert_allclose(layer.running_mean.data, mean, rtol=1e-12)
    np.testing.assert_allclose(layer.running_var.data, variance, rtol=1e-12)
    assert layer.num_batches_tracked.item() == 3
    assert layer.num_batches_tracked.dtype.kind == "i"
    result = layer.eval()(batches[0])
    np.testing.assert_allclose(result.data, naive.batch_norm(batches[0], mean=mean, variance=variance), rtol=1e-10)
    np.testing.assert_allclose(layer(batches[0][:1]).data, result.data[:1], rtol=1e-12)  # does not depend on the others
    assert layer.num_batches_tracked.item() == 3
    np.testing.assert_allclose(layer.running_mean.data, mean, rtol=1e-12)


@pytest.mark.parametrize("momentum", [0.3, None])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("tracked", [True, False])
def test_training_and_evaluation_agree_with_pytorch(momentum, affine, tracked):
    torch = pytest.importorskip("torch")
    options = {"eps": 1e-3, "momentum": momentum, "affine": affine, "track_running_stats": tracked}
    ours, theirs = nn.BatchNorm2d(3, **options), torch.nn.BatchNorm2d(3, **options).double()
    for training in (True, True, False, True, False):
        ours.train(training)
        theirs.train(training)
        for batch in IMAGES:
            x, z = Tensor(batch, requires_grad=True), torch.tensor(batch, requires_grad=True)
            result, reference = ours(x), theirs(z)
            np.testing.assert_allclose(result.data, reference.detach().numpy(), rtol=1e-9, atol=1e-12)
            upstream = np.random.default_rng(1).normal(size=batch.shape)
            result.backward(upstream)
            reference.backward(torch.tensor(upstream))
            np.testing.assert_allclose(x.grad.data, z.grad.numpy(), rtol=1e-8, atol=1e-12)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, array in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name], array.numpy(), rtol=1e-12)


MOVES = {
    "another batch": lambda layer: layer.train()(10 + BATCHES[0]),
    "loaded in place": lambda layer: layer.load_state_dict(
        layer.state_dict() | {"running_mean": [7, 8, 9], "running_var": [4, 9, 16]}
    ),
}


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("name", MOVES)
def test_a_graph_made_in_evaluation_keeps_the_statistics_that_it_was_made_with(name, affine):
    """Also where they move between the forward and the backward pass."""
    layer = nn.BatchNorm1d(3, affine=affine)
    layer(BATCHES[0])
    layer.eval()
    x = Tensor(BATCHES[1], requires_grad=True)
    scale = 1 / np.sqrt(layer.running_var.data + layer.eps)
    standardized = (BATCHES[1] - layer.running_mean.data) * scale
    loss = (layer(x) ** 2).sum()
    MOVES[name](layer)
    if affine and name == "loaded in place":  # weight and bias, which the graph needs, were loaded as well
        with pytest.raises(GraphError, match="changed in place"):
            loss.backward()
        return
    loss.backward()
    np.testing.assert_allclose(x.grad.data, 2 * standardized * scale, rtol=1e-10)
    if affine:
        np.testing.assert_allclose(layer.weight.grad.data, (2 * standardized**2).sum(0), rtol=1e-10)


def test_a_graph_made_in_training_is_not_moved_by_the_next_batch():
    layer, alone = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    x, y = Tensor(BATCHES[0], requires_grad=True), Tensor(BATCHES[0], requires_grad=True)
    (alone(y) ** 3).sum().backward()
    loss = (layer(x) ** 3).sum()
    layer(BATCHES[1])
    layer.eval()
    loss.backward()
    np.testing.assert_array_equal(x.grad.data, y.grad.data)


def test_statistics_are_not_part_of_the_graph():
    layer = nn.BatchNorm1d(3)
    layer(Tensor(BATCHES[0], requires_grad=True))
    assert not any(buffer.requires_grad for buffer in layer.buffers())
    assert [name for name, _ in layer.named_buffers()] == ["running_mean", "running_var", "num_batches_tracked"]
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]


def test_a_batch_that_is_refused_changes_no_statistics():
    layer = nn.BatchNorm1d(3)
    before = layer.state_dict()
    for wrong in (np.ones((1, 3)), np.ones((0, 3)), np.ones((4, 2)), np.ones(3)):
        with pytest.raises(ShapeError):
            layer(wrong)
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_one_image_has_enough_pixels():
    np.testing.assert_allclose(nn.BatchNorm2d(3)(IMAGES[1]).data, naive.batch_norm(IMAGES[1]), rtol=1e-10)


def test_constant_features_become_zero():
    for layer in (nn.BatchNorm1d(3), nn.LayerNorm(3)):
        np.testing.assert_array_equal(layer(np.full((4, 3), 7.0)).data, np.zeros((4, 3)))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_large_means_and_values_are_exact_enough_and_quiet(dtype):
    x = (BATCHES[2] + 1e4).astype(dtype)
    for module, axis in [(nn.BatchNorm1d(3), 0), (nn.LayerNorm(3), 1)]:
        for p in module.parameters():
            p.data = p.data.astype(dtype)
        exact = x.astype(float)
        expected = (exact - exact.mean(axis, keepdims=True)) / np.sqrt(exact.var(axis, keepdims=True) + 1e-5)
        with np.errstate(all="raise", under="ignore"):
            result = module(Tensor(x, requires_grad=True, dtype=dtype))
            (result * result).sum().backward()
        np.testing.assert_allclose(result.data, expected, rtol=1e-8 if dtype == "float64" else 2e-2, atol=2e-3)


def test_functions_take_lists_and_the_dtype_of_the_tensors_they_meet():
    x = BATCHES[0]
    plain = F.batch_norm(x, weight=[1, 2, 3], bias=[0, 1, 0], training=True)
    np.testing.assert_allclose(
        plain.data, naive.batch_norm(x, np.array([1, 2, 3]), np.array([0, 1, 0])), rtol=1e-10, atol=1e-12
    )
    np.testing.assert_allclose(F.layer_norm(x.tolist(), 3, [1, 2, 3], [0, 1, 0]).data.shape, (4, 3))
    weight = Tensor(np.ones(3), dtype="float32")
    assert F.batch_norm(x, weight=weight, training=True).dtype == np.float32
    assert F.layer_norm(x, np.int64(3), weight).dtype == np.float32


LAYER = nn.BatchNorm1d(3)
WRONG = {
    "features": (lambda: LAYER(np.zeros((2, 4))), ShapeError, r"BatchNorm1d\(3\).*\(batch, 3.*2 axes or 3.*\(2, 4\)"),
    "one example without a batch": (lambda: LAYER(np.zeros(3)), ShapeError, r"got inputs of shape \(3,\)"),
    "images": (lambda: LAYER(np.zeros((2, 3, 4, 4))), ShapeError, r"2 axes or 3 axes.*\(2, 3, 4, 4\)"),
    "no images": (lambda: nn.BatchNorm2d(3)(np.zeros((2, 3))), ShapeError, r"BatchNorm2d\(3\).*4 axes.*\(2, 3\)"),
    "a batch of one": (lambda: LAYER(np.zeros((1, 3))), ShapeError, r"\(1, 3\).*drop_last.*model\.eval\(\)"),
    "a batch of one, never tracked": (
        lambda: nn.BatchNorm1d(3, track_running_stats=False).eval()(np.zeros((1, 3))), ShapeError,
        r"more than one.*\(1, 3\).*running statistics$",
    ),
    "no features": (lambda: nn.BatchNorm1d(0), ValueError, r"num_features of at least 1.*got 0"),
    "momentum 2": (lambda: nn.BatchNorm2d(3, momentum=2), ValueError, r"BatchNorm2d.*momentum in \[0, 1\].*and 2"),
    "eps -1": (lambda: nn.BatchNorm1d(3, eps=-1), ValueError, r"eps of at least 0.*-1"),
    "running arrays": (lambda: F.batch_norm(BATCHES[0], np.zeros(3), np.ones(3)), TypeError, r"both as Tensors"),
    "a running mean alone": (lambda: F.batch_norm(BATCHES[0], Tensor(np.zeros(3))), TypeError, r"running_var both"),
    "running statistics of another size": (
        lambda: F.batch_norm(BATCHES[0], Tensor(np.zeros(2)), Tensor(np.ones(2))), ShapeError,
        r"\(channels,\); got inputs of shape \(4, 3\), running_mean \(2,\)",
    ),
    "layer_norm, another end": (
        lambda: nn.LayerNorm((3, 4))(np.zeros((2, 4, 3))), ShapeError, r"\(\.\.\., 3, 4\).*inputs of shape \(2, 4, 3\)",
    ),
    "layer_norm, weight": (
        lambda: F.layer_norm(np.zeros((2, 3)), 3, np.ones(2)), ShapeError, r"over \(3,\).*\(2, 3\), weight \(2,\)",
    ),
    "layer_norm over nothing": (lambda: nn.LayerNorm(()), ValueError, r"sizes of at least 1.*\(\)"),
    "layer_norm over 0": (lambda: nn.LayerNorm(0), ValueError, r"sizes of at least 1.*\(0,\)"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_explained(call, error, text):
    with pytest.raises(error, match=text):
        call()
