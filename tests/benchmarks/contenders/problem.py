"""What every contender computes: training steps of the same networks, and chains of operations.

A contender is a module beside this one, with a `VERSION` to print and the function
`training_step(network)`. That builds the network `NETWORKS[network]` with the weights given here
and returns a function: each call makes one training step and returns its loss, which has `.item()`.

`image_layer(layer, ...)` returns a function: each call sends the same images forward through one layer
and, if wanted, a gradient back.

`chain(length)`, for contenders that record a graph as the code runs, returns a function too: each
call computes `sum_of_chain` and its gradient.
"""

import itertools
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Network:
    """A multilayer perceptron with ReLU between its layers, and the size of its batch."""

    sizes: tuple[int, ...]
    batch: int

    @property
    def parameters(self):
        return sum(fan_out * (fan_in + 1) for fan_in, fan_out in itertools.pairwise(self.sizes))

    def __str__(self):
        return f"{'-'.join(map(str, self.sizes))}, batch {self.batch}"


NETWORKS = {
    "tiny": Network(sizes=(2, 16, 16, 2), batch=32),
    "digits": Network(sizes=(64, 128, 64, 10), batch=64),
    "mnist": Network(sizes=(784, 512, 256, 10), batch=128),
}

# Adam, with epsilon outside the square root as PyTorch and JAX's optax have it.
LEARNING_RATE = 1e-3
BETA1 = 0.9
BETA2 = 0.999
EPSILON = 1e-8


def starting_parameters(network):
    """[weight, bias, weight, bias, ...] in float32; a weight is (out_features, in_features).

    Drawn as PyTorch's `Linear` draws them: uniform in ±1/√in_features.
    """
    sizes = NETWORKS[network].sizes
    rng = np.random.default_rng(0)
    parameters = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        bound = 1 / np.sqrt(fan_in)
        parameters.append(rng.uniform(-bound, bound, (fan_out, fan_in)).astype(np.float32))
        parameters.append(rng.uniform(-bound, bound, fan_out).astype(np.float32))
    return parameters


def some_gradients(network):
    """A gradient for each of the parameters."""
    rng = np.random.default_rng(1)
    return [rng.standard_normal(p.shape, dtype=np.float32) for p in starting_parameters(network)]


def starting_state_dict(network):
    """The same parameters under the names they have in a Sequential of Linear, ReLU, Linear, ..."""
    parameters = starting_parameters(network)
    state = {}
    for layer in range(len(parameters) // 2):
        state[f"{2 * layer}.weight"] = parameters[2 * layer]
        state[f"{2 * layer}.bias"] = parameters[2 * layer + 1]
    return state


def batch(network):
    """Inputs (batch, features) in float32 and class indices (batch,) in int64, both random."""
    sizes, examples = NETWORKS[network].sizes, NETWORKS[network].batch
    rng = np.random.default_rng(1)
    x = rng.standard_normal((examples, sizes[0])).astype(np.float32)
    y = rng.integers(sizes[-1], size=examples)
    return x, y


def images(channels):
    """A batch of 32 images of 28 x 28 pixels, float32."""
    return np.random.default_rng(2).standard_normal((32, channels, 28, 28), dtype=np.float32)


def upstream_gradient(shape):
    """A gradient for the result of a layer."""
    return np.random.default_rng(3).standard_normal(shape, dtype=np.float32)


def kernels(inputs, outputs, size):
    """Weight and bias of a convolution."""
    rng = np.random.default_rng(4)
    bound = 1 / np.sqrt(inputs * size * size)
    weight = rng.uniform(-bound, bound, (outputs, inputs, size, size)).astype(np.float32)
    return {"weight": weight, "bias": rng.uniform(-bound, bound, outputs).astype(np.float32)}


CHAIN_START = np.full(32, 0.5, np.float32)


def sum_of_chain(x, sin, length):
    """The sum of the last of `length` elementwise results, each made from the one before."""
    y = x
    for _ in range(length // 4):
        y = y * 1.001
        y = y + 0.01
        y = sin(y)
        y = y - x
    return y.sum()
