"""PyTorch, eager; training steps with either of its faster Adams."""

import itertools

import torch
from torch import nn

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

VERSION = f"torch {torch.__version__}"

torch.set_num_threads(1)


def training_step(network, adam):
    """`adam` is "foreach" (all parameters in one call an operation) or "fused" (in one kernel)."""
    model = multilayer_perceptron(NETWORKS[network].sizes)
    state = starting_state_dict(network)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    optimizer = make_adam(model.parameters(), adam)
    x, y = map(torch.from_numpy, batch(network))

    def step():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def adam_step(network, adam):
    parameters = [torch.tensor(array, requires_grad=True) for array in starting_parameters(network)]
    for parameter, gradient in zip(parameters, some_gradients(network), strict=True):
        parameter.grad = torch.tensor(gradient)
    optimizer = make_adam(parameters, adam)

    def step():
        optimizer.step()
        return parameters[0].detach().ravel()[0]

    return step


def image_layer(layer, inputs, size, stride, backward, outputs=None):
    if layer == "Conv2d":
        module = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2)
        module.load_state_dict({name: torch.from_numpy(a) for name, a in kernels(inputs, outputs, size).items()})
    else:
        module = getattr(nn, layer)(size, stride)
    x = torch.tensor(images(inputs), requires_grad=backward)
    upstream = torch.tensor(upstream_gradient(module(x).shape))

    def forward():
        with torch.no_grad():
            return module(x)[0, 0, 0, 0]

    def forward_and_backward():
        x.grad = None
        module.zero_grad()
        module(x).backward(upstream)
        return x.grad[0, 0, 0, 0]

    return forward_and_backward if backward else forward


def make_adam(parameters, adam):
    return torch.optim.Adam(
        parameters,
        lr=LEARNING_RATE,
        betas=(BETA1, BETA2),
        eps=EPSILON,
        foreach=adam == "foreach",
        fused=adam == "fused",
    )


def chain(length):
    x = torch.tensor(CHAIN_START, requires_grad=True)

    def forward_and_backward():
        x.grad = None
        total = sum_of_chain(x, torch.sin, length)
        total.backward()
        return total

    return forward_and_backward


def multilayer_perceptron(sizes):
    layers = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
