"""Cases of the rules in `rules/network.py`."""

import functools
import math

import numpy as np

from tests.rules.cases.table import case, draw, signed, unary, variants
from tinygrad_opt.rules import network

FIXED = draw("fixed", (2, 3))
for shape in [(3,), (4, 3), (2, 2, 3), (0, 3)]:
    case(network.linear, f"{shape}", network.linear, shape, (2, 3))
    case(network.linear, f"{shape} with bias", network.linear, shape, (2, 3), (2,))
case(network.linear, "inputs as an array", lambda w, b: network.linear(FIXED, w, b), (4, 3), (4,))
unary(network.relu, 0.3, 2.0, sample=signed)
for function in (network.sigmoid, network.softplus, network.silu, network.normal_cdf, network.gelu):
    unary(function, -4.0, 4.0)
for function in (network.leaky_relu, network.elu):
    unary(function, 0.3, 2.0, sample=signed)
    for option in (0.2, 1.5):
        case(function, f"{option}", lambda x, f=function, a=option: f(x, a), signed(f"option {option}", (2, 3)))
variants(network.softplus, (2, 3), (0.5,), (3.0,))
for shape, axes in [((5, 2), (0,)), ((3, 2, 2), (0, 2)), ((2, 4), (-1,)), ((2, 2, 3), (-2, -1)), ((6,), (0,))]:
    variants(network.standardize, shape, (axes, 1e-5), (axes, 0.5))
for function in (network.softmax, network.log_softmax):
    variants(function, (2, 3, 4), (), (0,), (1,), {"axis": -2})
    variants(function, (3,), ())
for reduction in ("mean", "sum", "none"):
    for shape in [(4,), (3, 2), ()]:
        label = f"{shape} {reduction}"
        p, y = draw(label, shape, 0.1, 0.9), draw(label + "y", shape, 0.1, 0.9)
        for function in (
            network.squared_error, network.log_loss_with_logits, network.hinge, network.log_loss,
            network.absolute_error, network.huber, network.squared_hinge,
        ):  # fmt: skip
            call = functools.partial(function, reduction=reduction)
            case(function, label, call, p if function is network.log_loss else 4 * p, y if shape else y + 1)
            case(function, label + ", the other way", call, y, p if function is network.log_loss else 4 * p)
        for delta in (0.5, 1.7):
            call = functools.partial(network.huber, reduction=reduction, delta=delta)
            case(network.huber, f"{label} {delta}", call, 4 * p, y)
    for shape in [(4, 3), (3,), (2, 2, 3)]:
        classes = np.arange(np.prod(shape[:-1], dtype=int)).reshape(shape[:-1]) % 3
        onehot = np.equal(classes[..., None], np.arange(3))
        call = functools.partial(lambda hot, how, x: network.softmax_log_loss(x, hot, reduction=how), onehot, reduction)
        case(network.softmax_log_loss, f"{shape} {reduction}", call, shape)
for shape in [(3, 4), (2, 2, 3), (4,), (0, 3)]:
    chosen = np.arange(shape[-1]) == np.arange(math.prod(shape[:-1])).reshape(*shape[:-1], 1) % shape[-1]
    case(network.pick, f"{shape}", lambda x, mask=chosen: network.pick(x, mask), shape)
variants(network.logsumexp, (2, 3, 2), (), (0,), (-1, True), {"axis": (0, 2)}, {"keepdims": True})
variants(network.logsumexp, (), ())
variants(network.logsumexp, (0, 3), (1,), ((0, 1),))
for offset in (800.0, -800.0):  # where the plain formula overflows
    case(network.logsumexp, f"{offset:+}", lambda x, z=offset: network.logsumexp(x + z, 1), (2, 3))
case(network.logsumexp, "minus infinity", lambda x: network.logsumexp(x + np.array([0.0, -np.inf, 0.0]), 1), (2, 3))
