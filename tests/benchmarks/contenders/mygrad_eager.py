"""MyGrad; training steps with the Adam of the NumPy contender, for MyGrad has no optimizers."""

import mygrad as mg
from mygrad.nnet.activations import relu
from mygrad.nnet.losses import softmax_crossentropy

from .numpy_textbook import Adam
from .problem import CHAIN_START, batch, starting_parameters, sum_of_chain

VERSION = f"mygrad {mg.__version__}"


def training_step(network):
    parameters = [mg.tensor(array) for array in starting_parameters(network)]
    adam = Adam([p.data for p in parameters])
    x, y = batch(network)

    def step():
        for p in parameters:
            p.null_grad()
        loss = softmax_crossentropy(forward(parameters, x), y)
        loss.backward()
        adam.step([p.grad for p in parameters])
        return loss

    return step


def chain(length):
    x = mg.tensor(CHAIN_START)

    def forward_and_backward():
        x.null_grad()
        total = sum_of_chain(x, mg.sin, length)
        total.backward()
        return total

    return forward_and_backward


def forward(parameters, x):
    weights, biases = parameters[0::2], parameters[1::2]
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        x = relu(mg.matmul(x, w.T) + b)
    return mg.matmul(x, weights[-1].T) + biases[-1]
