"""One training step in JAX: the whole step, with its Adam, compiled by `jax.jit`."""

from functools import partial

import jax
import jax.numpy as jnp

from .problem import BETA1, BETA2, EPSILON, LEARNING_RATE, batch, starting_parameters

VERSION = f"jax {jax.__version__}"


def training_step(network):
    parameters = [jnp.array(array) for array in starting_parameters(network)]
    m = [jnp.zeros_like(p) for p in parameters]
    v = [jnp.zeros_like(p) for p in parameters]
    t = jnp.zeros((), jnp.int32)
    state = (parameters, m, v, t)
    x, y = map(jnp.array, batch(network))

    def step():
        nonlocal state
        state, loss = jax.block_until_ready(update(state, x, y))
        return loss

    return step


@partial(jax.jit, donate_argnums=0)
def update(state, x, y):
    """The next state and the loss. The old state is donated: its memory is used again."""
    parameters, m, v, t = state
    loss, gradients = jax.value_and_grad(mean_loss)(parameters, x, y)
    t = t + 1
    m = [BETA1 * m_i + (1 - BETA1) * g for m_i, g in zip(m, gradients, strict=True)]
    v = [BETA2 * v_i + (1 - BETA2) * g**2 for v_i, g in zip(v, gradients, strict=True)]
    parameters = [adam(p, m_i, v_i, t) for p, m_i, v_i in zip(parameters, m, v, strict=True)]
    return (parameters, m, v, t), loss


def adam(p, m, v, t):
    m_hat = m / (1 - BETA1**t)
    v_hat = v / (1 - BETA2**t)
    return p - LEARNING_RATE * m_hat / (jnp.sqrt(v_hat) + EPSILON)


def mean_loss(parameters, x, y):
    """Softmax cross-entropy, the mean over the batch."""
    weights, biases = parameters[0::2], parameters[1::2]
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        x = jax.nn.relu(x @ w.T + b)
    log_probabilities = jax.nn.log_softmax(x @ weights[-1].T + biases[-1])
    return -jnp.take_along_axis(log_probabilities, y[:, None], axis=1).mean()
