"""The table of layers: for each, how it is made here and in PyTorch, an input, and what it computes in plain loops."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tests.nn import naive
from tinygrad_opt import nn


class Layer(NamedTuple):
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    naive: Callable[..., Any]  # of x and, by name, the arrays of the parameters
    torch: Callable[[Any], Any] | None  # makes PyTorch's, from torch.nn
    training: bool = True


def apart(shape, seed=0):
    """Numbers of which no two are closer than 0.1, nor any to 0: no kink, and no window's largest, is in doubt."""
    count = math.prod(shape)
    return ((np.random.default_rng(seed).permutation(count) - count // 2) * 0.1 + 0.05).reshape(shape)


def example(layer, batch=None, seed=0):
    """An input of the layer: with another number of examples, if one is given."""
    shape = layer.shape if batch is None else (batch, *layer.shape[1:])
    if takes_indices(layer):
        return np.random.default_rng(seed).integers(0, 5, shape)
    return apart(shape, seed)


def takes_indices(layer):
    return isinstance(layer.make(), nn.Embedding)


def made(layer, dtype="float64", seed=0):
    """The layer with random parameters and buffers, all different from those that it starts with."""
    rng, module = np.random.default_rng(seed), layer.make()
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dtype.kind == "f":
            tensor.data = rng.uniform(0.5, 1.5, tensor.shape).astype(dtype)
    return module.train(layer.training)


def sigmoid(v):
    return 1 / (1 + math.exp(-v))


def normal_distribution(v):
    return (1 + math.erf(v / math.sqrt(2))) / 2


def gelu_by_tanh(v):
    return 0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))


PAIR = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1)}
PADDED = {"kernel": (3, 2), "stride": (2, 1), "padding": (1, 1), "dilation": (1, 1)}


def mean_of(windows_elements):
    return sum(windows_elements) / len(windows_elements)


DRAWS = np.random.default_rng(0).uniform(0.5, 1.5, (4, 3))  # what `made` draws: weight, bias, running mean and variance
EVALUATED, UNSCALED = DRAWS[2:], DRAWS[:2]  # without weight and bias, the running ones come first

LAYERS = {
    "Linear": Layer(lambda: nn.Linear(3, 2), (4, 3), naive.linear, lambda n: n.Linear(3, 2)),
    "Linear without bias": Layer(
        lambda: nn.Linear(3, 2, bias=False), (2, 2, 3), naive.linear, lambda n: n.Linear(3, 2, bias=False)
    ),
    "Conv2d": Layer(lambda: nn.Conv2d(2, 2, 2), (2, 2, 3, 3), naive.conv2d, lambda n: n.Conv2d(2, 2, 2)),
    "Conv2d with all options": Layer(
        lambda: nn.Conv2d(2, 4, (2, 3), stride=(2, 1), padding=(1, 2), dilation=(2, 1), groups=2),
        (2, 2, 3, 2),
        lambda x, **w: naive.conv2d(x, **w, stride=(2, 1), padding=(1, 2), dilation=(2, 1), groups=2),
        lambda n: n.Conv2d(2, 4, (2, 3), stride=(2, 1), padding=(1, 2), dilation=(2, 1), groups=2),
    ),
    "Conv2d without bias": Layer(
        lambda: nn.Conv2d(1, 2, 3, padding="same", bias=False),
        (2, 1, 3, 2),
        lambda x, **w: naive.conv2d(x, **w, padding=(1, 1)),
        lambda n: n.Conv2d(1, 2, 3, padding="same", bias=False),
    ),
    "Embedding": Layer(lambda: nn.Embedding(5, 2), (3, 4), naive.embedding, lambda n: n.Embedding(5, 2)),
    "BatchNorm1d": Layer(lambda: nn.BatchNorm1d(3), (4, 3), naive.batch_norm, lambda n: n.BatchNorm1d(3)),
    "BatchNorm1d of sequences": Layer(
        lambda: nn.BatchNorm1d(3, eps=0.1, momentum=0.3),
        (2, 3, 2),
        lambda x, **w: naive.batch_norm(x, **w, eps=0.1),
        lambda n: n.BatchNorm1d(3, eps=0.1, momentum=0.3),
    ),
    "BatchNorm1d without affine and tracking": Layer(
        lambda: nn.BatchNorm1d(3, affine=False, track_running_stats=False),
        (4, 3),
        naive.batch_norm,
        lambda n: n.BatchNorm1d(3, affine=False, track_running_stats=False),
    ),
    "BatchNorm1d in evaluation": Layer(
        lambda: nn.BatchNorm1d(3),
        (2, 3),
        lambda x, **w: naive.batch_norm(x, **w, mean=EVALUATED[0], variance=EVALUATED[1]),
        lambda n: n.BatchNorm1d(3),
        training=False,
    ),
    "BatchNorm2d": Layer(
        lambda: nn.BatchNorm2d(2, momentum=None),
        (2, 2, 2, 2),
        naive.batch_norm,
        lambda n: n.BatchNorm2d(2, momentum=None),
    ),
    "BatchNorm2d in evaluation": Layer(
        lambda: nn.BatchNorm2d(3),
        (1, 3, 2, 2),
        lambda x, **w: naive.batch_norm(x, **w, mean=EVALUATED[0], variance=EVALUATED[1]),
        lambda n: n.BatchNorm2d(3),
        training=False,
    ),
    "BatchNorm2d in evaluation without affine": Layer(
        lambda: nn.BatchNorm2d(3, affine=False),
        (1, 3, 2, 2),
        lambda x: naive.batch_norm(x, mean=UNSCALED[0], variance=UNSCALED[1]),
        lambda n: n.BatchNorm2d(3, affine=False),
        training=False,
    ),
    "LayerNorm": Layer(
        lambda: nn.LayerNorm(4), (2, 4), lambda x, **w: naive.layer_norm(x, (4,), **w), lambda n: n.LayerNorm(4)
    ),
    "LayerNorm over two axes": Layer(
        lambda: nn.LayerNorm((2, 3), eps=0.1),
        (2, 2, 3),
        lambda x, **w: naive.layer_norm(x, (2, 3), **w, eps=0.1),
        lambda n: n.LayerNorm((2, 3), eps=0.1),
    ),
    "LayerNorm without bias": Layer(
        lambda: nn.LayerNorm(3, bias=False),
        (2, 2, 3),
        lambda x, **w: naive.layer_norm(x, (3,), **w),
        lambda n: n.LayerNorm(3, bias=False),
    ),
    "LayerNorm without affine": Layer(
        lambda: nn.LayerNorm([3], elementwise_affine=False),
        (3, 3),
        lambda x: naive.layer_norm(x, (3,)),
        lambda n: n.LayerNorm([3], elementwise_affine=False),
    ),
    "MaxPool2d": Layer(
        lambda: nn.MaxPool2d(2), (2, 1, 4, 5), lambda x: naive.pool(x, **PAIR, of_window=max), lambda n: n.MaxPool2d(2)
    ),
    "MaxPool2d with padding": Layer(
        lambda: nn.MaxPool2d((3, 2), (2, 1), 1),
        (2, 4, 3),
        lambda x: naive.pool(x, **PADDED, of_window=max),
        lambda n: n.MaxPool2d((3, 2), (2, 1), 1),
    ),
    "MaxPool2d with dilation": Layer(
        lambda: nn.MaxPool2d(2, 1, dilation=(2, 1)),
        (1, 2, 3, 3),
        lambda x: naive.pool(x, (2, 2), (1, 1), (0, 0), (2, 1), of_window=max),
        lambda n: n.MaxPool2d(2, 1, dilation=(2, 1)),
    ),
    "AvgPool2d": Layer(
        lambda: nn.AvgPool2d(2),
        (2, 1, 4, 5),
        lambda x: naive.pool(x, **PAIR, of_window=mean_of),
        lambda n: n.AvgPool2d(2),
    ),
    "AvgPool2d with padding": Layer(
        lambda: nn.AvgPool2d((3, 2), (2, 1), 1),
        (2, 4, 3),
        lambda x: naive.pool(x, **PADDED, of_window=lambda values: sum(values) / 6),
        lambda n: n.AvgPool2d((3, 2), (2, 1), 1),
    ),
    "AvgPool2d with padding that does not count": Layer(
        lambda: nn.AvgPool2d((3, 2), (2, 1), 1, count_include_pad=False),
        (2, 4, 3),
        lambda x: naive.pool(x, **PADDED, of_window=mean_of),
        lambda n: n.AvgPool2d((3, 2), (2, 1), 1, count_include_pad=False),
    ),
    "Flatten": Layer(lambda: nn.Flatten(), (2, 2, 3), lambda x: naive.flatten(x, 1), lambda n: n.Flatten()),
    "Flatten the last axes": Layer(
        lambda: nn.Flatten(-2), (2, 2, 3), lambda x: naive.flatten(x, 1), lambda n: n.Flatten(-2)
    ),
    "Dropout": Layer(
        lambda: nn.Dropout(0.25, generator=np.random.default_rng(3)),
        (3, 4),
        lambda x: naive.dropout(x, 0.25, seed=3),
        None,
    ),
    "Dropout in evaluation": Layer(
        lambda: nn.Dropout(0.25), (3, 4), lambda x: x, lambda n: n.Dropout(0.25), training=False
    ),
    "Identity": Layer(lambda: nn.Identity(), (2, 3), lambda x: x, lambda n: n.Identity()),
    "Softmax": Layer(
        lambda: nn.Softmax(), (2, 3), lambda x: naive.along_rows(naive.softmax, x, -1), lambda n: n.Softmax(-1)
    ),
    "Softmax along the second axis": Layer(
        lambda: nn.Softmax(1), (2, 3, 2), lambda x: naive.along_rows(naive.softmax, x, 1), lambda n: n.Softmax(1)
    ),
    "LogSoftmax": Layer(
        lambda: nn.LogSoftmax(),
        (2, 3),
        lambda x: naive.along_rows(naive.log_softmax, x, -1),
        lambda n: n.LogSoftmax(-1),
    ),
    "LogSoftmax along the second axis": Layer(
        lambda: nn.LogSoftmax(1),
        (2, 3, 2),
        lambda x: naive.along_rows(naive.log_softmax, x, 1),
        lambda n: n.LogSoftmax(1),
    ),
}

# made here and in PyTorch from the same arguments, and the function of one number
ELEMENTWISE = {
    "ReLU": ((), lambda v: max(v, 0.0)),
    "Tanh": ((), math.tanh),
    "Sigmoid": ((), sigmoid),
    "LeakyReLU": ((), lambda v: v if v > 0 else 0.01 * v),
    "LeakyReLU 0.3": ((0.3,), lambda v: v if v > 0 else 0.3 * v),
    "ELU": ((), lambda v: v if v > 0 else math.exp(v) - 1),
    "ELU 0.5": ((0.5,), lambda v: v if v > 0 else 0.5 * (math.exp(v) - 1)),
    "SiLU": ((), lambda v: v * sigmoid(v)),
    "GELU": ((), lambda v: v * normal_distribution(v)),
    "GELU by tanh": (("tanh",), gelu_by_tanh),
    "Softplus": ((), lambda v: math.log(1 + math.exp(v))),
    "Softplus 2": ((2.0,), lambda v: math.log(1 + math.exp(2 * v)) / 2),
}


def elementwise(name, arguments, function):
    kind = name.split()[0]
    keywords = {"approximate": "tanh"} if arguments == ("tanh",) else {}
    return Layer(
        lambda: getattr(nn, kind)(*arguments),
        (4, 5),
        naive.by_element(function),
        lambda n: getattr(n, kind)(*([] if keywords else arguments), **keywords),
    )


LAYERS |= {name: elementwise(name, arguments, function) for name, (arguments, function) in ELEMENTWISE.items()}
