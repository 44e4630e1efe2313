"""tinygrad_opt as a user writes it, with and without `tg.compile`."""

import numpy as np

import tinygrad_opt as tg
from tinygrad_opt import nn, optim

from .problem import (
    BETA1,
    BETA2,
    CHAIN_START,
    EPSILON,
    LEARNING_RATE,
    NETWORKS,
    batch,
    images,
    kernels,
    some_gradients,
    starting_parameters,
    starting_state_dict,
    sum_of_chain,
    upstream_gradient,
)

VERSION = f"tinygrad_opt {getattr(tg, '__version__', '(no version)')}"


def training_step(network, compiled=False):
    tg.set_default_dtype("float32")
    model = nn.MLP(NETWORKS[network].sizes, activation=nn.ReLU)
    model.load_state_dict(starting_state_dict(network))
    optimizer = make_adam(model.parameters())
    x, y = batch(network)

    def loss_fn(x, y):
        return nn.functional.cross_entropy(model(x), y)

    if compiled:
        loss_fn = tg.compile(loss_fn)

    def step():
        optimizer.zero_grad()
        loss = loss_fn(x, y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def adam_step(network):
    parameters = [nn.Parameter(array, dtype="float32") for array in starting_parameters(network)]
    for parameter, gradient in zip(parameters, some_gradients(network), strict=True):
        parameter.grad = gradient
    optimizer = make_adam(parameters)

    def step():
        optimizer.step()
        return parameters[0].data.ravel()[0]

    return step


def image_layer(layer, inputs, size, stride, backward, outputs=None):
    tg.set_default_dtype("float32")
    if layer == "Conv2d":
        module = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2)
        module.load_state_dict(kernels(inputs, outputs, size))
    else:
        module = getattr(nn, layer)(size, stride)
    x = tg.Tensor(images(inputs), requires_grad=backward)
    upstream = upstream_gradient(module(x).shape)

    def forward():
        with tg.no_grad():
            return module(x)[0, 0, 0, 0]

    def forward_and_backward():
        x.grad = None
        module.zero_grad()
        module(x).backward(upstream)
        return x.grad[0, 0, 0, 0]

    return forward_and_backward if backward else forward


def make_adam(parameters):
    return optim.Adam(parameters, lr=LEARNING_RATE, betas=(BETA1, BETA2), eps=EPSILON, eps_in_sqrt=False)


def chain(length):
    x = tg.Tensor(CHAIN_START, dtype="float32", requires_grad=True)

    def forward_and_backward():
        x.grad = None
        total = sum_of_chain(x, np.sin, length)
        total.backward()
        return total

    return forward_and_backward
