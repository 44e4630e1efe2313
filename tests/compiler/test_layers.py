"""Every layer and every loss, compiled: a training in both modes is the same training, step by step, bit for bit."""

import numpy as np
import pytest

import tinygrad_opt as tg
from tests.compiler.compare import assert_equal, weighted
from tests.nn.table import LAYERS, Layer, apart, example, made, takes_indices
from tests.nn.test_losses import BY_CLASS, CLASSES, DISTRIBUTIONS, ELEMENTWISE, REDUCTIONS, SCORES, VALUES
from tinygrad_opt import Tensor, nn, optim

MODES = (True, True, False, True, False, False)  # of the steps, in turn
every_dtype = pytest.mark.parametrize("dtype", ["float64", "float32"])


def network():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4, momentum=None), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Dropout(0.3), nn.Linear(16, 5), nn.LayerNorm(5), nn.GELU(), nn.Dropout(0.5), nn.Linear(5, 3),
        nn.LogSoftmax(),
    )  # fmt: skip


FURTHER = {
    "Dropout of nothing": Layer(lambda: nn.Dropout(0.0), (2, 3), None, None),
    "Dropout of everything": Layer(lambda: nn.Dropout(1.0), (2, 3), None, None),
    "BatchNorm1d with momentum None": Layer(lambda: nn.BatchNorm1d(3, momentum=None), (4, 3), None, None),
    "Embedding with padding": Layer(lambda: nn.Embedding(5, 2, padding_idx=1), (3, 4), None, None),
    "MLP": Layer(lambda: nn.MLP([3, 8, 8, 2], nn.Tanh), (5, 3), None, None),
    "a network of many layers": Layer(network, (3, 1, 4, 4), None, None),
}
ALL_LAYERS = LAYERS | FURTHER


def trained(wrap, module, function, batches, dtype):
    """All that a training gives: losses, gradients, parameters and buffers after each step; and the calls made.

    ``function`` takes a batch, for each of ``MODES`` one, and returns the loss; ``wrap`` is compile, or does nothing.
    """
    tg.set_default_dtype(dtype)
    tg.manual_seed(1)
    calls, found = [], []

    def loss_of(*batch):
        calls.append(None)  # once for each program
        return function(*batch)

    step, optimizer = wrap(loss_of), optim.SGD(module.parameters(), lr=1e-4, momentum=0.9)
    for training, batch in zip(MODES, batches, strict=True):
        module.train(training)
        inputs = [x if x.dtype.kind == "i" else Tensor(x, requires_grad=number == 0) for number, x in enumerate(batch)]
        optimizer.zero_grad()
        loss = step(*inputs)
        loss.backward()
        gradients = [t.grad for t in (*inputs[:1], *module.parameters()) if isinstance(t, Tensor)]
        optimizer.step()
        found.append([t if t is None else t.data.copy() for t in (loss, *gradients)])
        found[-1] += [t.data.copy() for t in (*module.parameters(), *module.buffers())]
    return found, len(calls), tg.get_rng_state()


def assert_same_training(make, batches, dtype):
    """``make`` gives the model and the function of a batch, another one each time."""
    expected, _, drawn = trained(lambda function: function, *make(), batches, dtype)
    found, programs, state = trained(tg.compile, *make(), batches, dtype)
    for number, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        assert_equal(ours, theirs, f"step {number}")
    assert state == drawn
    assert programs <= 2


class Scaled(nn.Module):
    """A layer, and a parameter behind it for the optimizer to move where the layer has none."""

    def __init__(self, layer):
        self.layer, self.factor = layer, nn.Parameter(1.5)

    def forward(self, x):
        return self.layer(x) * self.factor


@every_dtype
@pytest.mark.parametrize("layer", ALL_LAYERS.values(), ids=ALL_LAYERS)
def test_a_layer_trains_the_same_compiled(layer, dtype):
    def make():
        tg.set_default_dtype(dtype)
        module = Scaled(made(layer, dtype))
        return module, lambda x: weighted(module(x))

    batches = [[example(layer, seed=number)] for number in range(len(MODES))]
    if not takes_indices(layer):
        batches = [[x.astype(dtype)] for (x,) in batches]
    assert_same_training(make, batches, dtype)


@pytest.mark.parametrize("layer", ALL_LAYERS.values(), ids=ALL_LAYERS)
def test_a_layer_predicts_the_same_compiled(layer):
    """Without gradients, and given plain arrays; the function is the layer itself."""
    ours, theirs = made(layer), made(layer)
    compiled = tg.compile(ours)
    for training, seed in zip((False, True, False), range(3), strict=True):
        x = example(layer, seed=seed)
        with tg.no_grad():
            results = []
            for function, module in ((compiled, ours), (theirs, theirs)):
                module.train(training)
                tg.manual_seed(seed)
                results.append(function(x))
        result, expected = results
        assert type(result) is type(expected)
        assert_equal([np.asarray(getattr(result, "data", result))], [np.asarray(getattr(expected, "data", expected))])
        assert_equal([b.data for b in ours.buffers()], [b.data for b in theirs.buffers()])


# Losses --------------------------------------------------------------------------------------------------------------

# module of the reduction, prediction, target
LOSSES = {name: row[1:2] + row[3:5] for name, row in ELEMENTWISE.items()}
LOSSES |= {name: (row[1], SCORES, CLASSES) for name, row in BY_CLASS.items()}
LOSSES |= {
    "smooth cross-entropy": (lambda r: nn.CrossEntropyLoss(r, label_smoothing=0.2), SCORES, CLASSES),
    "cross-entropy of probabilities": (nn.CrossEntropyLoss, SCORES, DISTRIBUTIONS),
    "cross-entropy of images": (nn.CrossEntropyLoss, apart((2, 3, 2, 2)), CLASSES[:4].reshape(1, 2, 2)[[0, 0]]),
    "mse of one column": (nn.MSELoss, SCORES[:, :1], VALUES[:, :1]),
}


class Shifted(nn.Module):
    """A loss, and parameters that are added to the predictions."""

    def __init__(self, loss, shape):
        self.loss, self.shift = loss, nn.Parameter(np.full(shape, 0.01))

    def forward(self, x, y):
        return self.loss(x + self.shift, y)


@every_dtype
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("loss", "prediction", "target"), LOSSES.values(), ids=LOSSES)
def test_a_loss_trains_the_same_compiled(loss, prediction, target, reduction, dtype):
    def make():
        tg.set_default_dtype(dtype)
        module = Shifted(loss(reduction), prediction.shape[1:])
        return module, lambda x, y: weighted(module(x, y))

    y = target if target.dtype.kind == "i" else target.astype(dtype)
    batches = [[np.roll(prediction, n, 0).astype(dtype), np.roll(y, 2 * n, 0)] for n in range(len(MODES))]
    assert_same_training(make, batches, dtype)
