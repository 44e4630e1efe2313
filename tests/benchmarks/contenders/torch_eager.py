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
    starting_state_dict,
    sum_of_chain,
)

VERSION = f"torch {torch.__version__}"

torch.set_num_threads(1)


def training_step(network, adam):
    """`adam` is "foreach" (all parameters in one call an operation) or "fused" (in one kernel)."""
    model = multilayer_perceptron(NETWORKS[network].sizes)
    state = starting_state_dict(network)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    optimizer = torch.optim.Adam(
        model.parameters(),
        lr=LEARNING_RATE,
        betas=(BETA1, BETA2),
        eps=EPSILON,
        foreach=adam == "foreach",
        fused=adam == "fused",
    )
    x, y = map(torch.from_numpy, batch(network))

    def step():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


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
