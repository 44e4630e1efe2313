"""One training step by hand in NumPy, as a textbook writes it: no framework."""

import numpy as np

from .problem import BETA1, BETA2, EPSILON, LEARNING_RATE, batch, some_gradients, starting_parameters

VERSION = f"numpy {np.__version__}"


def training_step(network):
    parameters = starting_parameters(network)
    x, y = batch(network)
    adam = Adam(parameters)

    def step():
        activations, logits = forward(parameters, x)
        loss, delta = cross_entropy(logits, y)
        gradients = backward(parameters, activations, delta)
        adam.step(gradients)
        return loss

    return step


def adam_step(network):
    parameters, gradients = starting_parameters(network), some_gradients(network)
    adam = Adam(parameters)

    def step():
        adam.step(gradients)
        return parameters[0].ravel()[0]

    return step


def forward(parameters, x):
    """The input of every layer, and the logits."""
    weights, biases = parameters[0::2], parameters[1::2]
    activations = [x]
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        activations.append(np.maximum(activations[-1] @ w.T + b, 0))
    logits = activations[-1] @ weights[-1].T + biases[-1]
    return activations, logits


def cross_entropy(logits, y):
    """The mean loss, and its gradient with respect to the logits."""
    rows = np.arange(len(y))
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(sums)
    loss = -log_probabilities[rows, y].mean()
    delta = exponentials / sums
    delta[rows, y] -= 1
    return loss, delta / len(y)


def backward(parameters, activations, delta):
    """The gradients in the order of the parameters; delta is the gradient of a layer's output."""
    weights = parameters[0::2]
    gradients = []
    for layer in reversed(range(len(weights))):
        gradients = [delta.T @ activations[layer], delta.sum(axis=0), *gradients]
        if layer > 0:
            delta = (delta @ weights[layer]) * (activations[layer] > 0)
    return gradients


class Adam:
    def __init__(self, parameters):
        self.parameters = parameters
        self.m = [np.zeros_like(p) for p in parameters]
        self.v = [np.zeros_like(p) for p in parameters]
        self.t = 0

    def step(self, gradients):
        self.t += 1
        for i, (p, g) in enumerate(zip(self.parameters, gradients, strict=True)):
            self.m[i] = BETA1 * self.m[i] + (1 - BETA1) * g
            self.v[i] = BETA2 * self.v[i] + (1 - BETA2) * g**2
            m_hat = self.m[i] / (1 - BETA1**self.t)
            v_hat = self.v[i] / (1 - BETA2**self.t)
            p -= LEARNING_RATE * m_hat / (np.sqrt(v_hat) + EPSILON)
