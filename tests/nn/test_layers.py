"""Layers, activations and initial values: against plain loops and against PyTorch."""

import math

import numpy as np
import pytest

import tinygrad_opt as tg
from tests.gradients import check_first_order, gradient_of, random_like
from tinygrad_opt import Tensor, nn
from tinygrad_opt.nn import functional as F
from tinygrad_opt.nn import init

rng = np.random.default_rng(0)
X = rng.normal(size=(4, 3))


def naive_linear(x, weight, bias):
    """One output after the other."""
    return [
        [sum(w * v for w, v in zip(ws, row, strict=True)) + b for ws, b in zip(weight, bias, strict=True)] for row in x
    ]


@pytest.mark.parametrize("bias", [True, False])
def test_linear_against_a_plain_loop(bias):
    layer = nn.Linear(3, 2, bias=bias)
    b = layer.bias.data if bias else np.zeros(2)
    for x in (X, Tensor(X), X.tolist()):
        np.testing.assert_allclose(layer(x).data, naive_linear(X, layer.weight.data, b), rtol=1e-12)
    weights = rng.normal(size=(4, 2))
    (layer(X) * weights).sum().backward()
    np.testing.assert_allclose(
        layer.weight.grad.data, [[sum(weights[:, o] * X[:, i]) for i in range(3)] for o in range(2)]
    )
    if bias:
        np.testing.assert_allclose(layer.bias.grad.data, weights.sum(0))
    else:
        assert layer.bias is None


@pytest.mark.parametrize("shape", [(3,), (2, 4, 3), (0, 3)])
def test_linear_takes_any_number_of_leading_axes(shape):
    layer, x = nn.Linear(3, 2), rng.normal(size=shape)
    expected = naive_linear(x.reshape(-1, 3), layer.weight.data, layer.bias.data)
    np.testing.assert_allclose(layer(x).data, np.reshape(expected, (*shape[:-1], 2)), rtol=1e-12)
    check_first_order(F.linear, [x, layer.weight.data, layer.bias.data])


ACTIVATIONS = {
    "ReLU": (nn.ReLU, F.relu, lambda x: max(x, 0.0), lambda x: float(x > 0)),
    "Tanh": (nn.Tanh, F.tanh, math.tanh, lambda x: 1 - math.tanh(x) ** 2),
    "Sigmoid": (
        nn.Sigmoid,
        F.sigmoid,
        lambda x: 1 / (1 + math.exp(-x)),
        lambda x: math.exp(-x) / (1 + math.exp(-x)) ** 2,
    ),
}


@pytest.mark.parametrize(("module", "function", "value", "slope"), ACTIVATIONS.values(), ids=ACTIVATIONS)
@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 2)])
def test_activations_against_their_formulas(module, function, value, slope, shape):
    x = np.asarray(rng.normal(size=shape))
    values, slopes = np.vectorize(value)(x), np.vectorize(slope)(x)
    for result in (module()(x), function(Tensor(x)), function(x.tolist())):
        np.testing.assert_allclose(result.data, values, rtol=1e-12)
    upstream = random_like([x], 1)
    np.testing.assert_allclose(gradient_of(function, [x], upstream)[0], upstream[0] * slopes, rtol=1e-10)


@pytest.mark.parametrize("axis", [-1, 0])
def test_softmax_against_a_plain_loop(axis):
    columns = X if axis == -1 else X.T
    expected = np.array([[math.exp(v) / sum(map(math.exp, row)) for v in row] for row in columns])
    expected = expected if axis == -1 else expected.T
    np.testing.assert_allclose(F.softmax(X, axis).data, expected, rtol=1e-12)
    np.testing.assert_allclose(F.log_softmax(X, axis).data, np.log(expected), rtol=1e-12)


# Models --------------------------------------------------------------------------------------------------------------


def models(torch):
    """The same model here and in PyTorch, float64."""
    ours = nn.Sequential(
        nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4, bias=False), nn.ReLU(), nn.Linear(4, 2), nn.Sigmoid()
    )
    t = torch.nn
    theirs = t.Sequential(t.Linear(3, 5), t.Tanh(), t.Linear(5, 4, bias=False), t.ReLU(), t.Linear(4, 2), t.Sigmoid())
    return ours, theirs.double()


@pytest.mark.parametrize("direction", ["from PyTorch", "to PyTorch"])
def test_weights_move_both_ways_as_they_are(direction):
    torch = pytest.importorskip("torch")
    ours, theirs = models(torch)
    if direction == "from PyTorch":
        ours.load_state_dict(theirs.state_dict())
    else:
        theirs.load_state_dict({name: torch.tensor(a) for name, a in ours.state_dict().items()})
    x, z = Tensor(X, requires_grad=True), torch.tensor(X, requires_grad=True)
    result, reference = ours(x), theirs(z)
    np.testing.assert_allclose(result.data, reference.detach().numpy(), rtol=1e-12)
    upstream = rng.uniform(0.5, 1.5, result.shape)
    result.backward(upstream)
    reference.backward(torch.tensor(upstream))
    np.testing.assert_allclose(x.grad.data, z.grad.numpy(), rtol=1e-10)
    gradients = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    assert [name for name, _ in ours.named_parameters()] == list(gradients)
    for name, parameter in ours.named_parameters():
        np.testing.assert_allclose(parameter.grad.data, gradients[name], rtol=1e-10, err_msg=name)


def test_mlp_is_linear_layers_with_activations_between():
    model = nn.MLP([3, 5, 4, 2], nn.Tanh)
    assert [type(m).__name__ for m in model] == ["Linear", "Tanh", "Linear", "Tanh", "Linear"]
    first, second, third = model[0], model[2], model[4]
    hidden = np.tanh(first(X).data)
    hidden = np.tanh(second(hidden).data)
    np.testing.assert_allclose(model(X).data, third(hidden).data, rtol=1e-12)
    assert [type(m).__name__ for m in nn.MLP([3, 5, 2])] == ["Linear", "ReLU", "Linear"]


def test_gradients_of_a_network_against_finite_differences():
    model = nn.MLP([3, 4, 2], nn.Tanh)
    arrays = list(model.state_dict().values())

    def network(x, *weights):
        w0, b0, w1, b1 = weights
        return F.linear(F.tanh(F.linear(x, w0, b0)), w1, b1)

    def plain(x, w0, b0, w1, b1):
        return np.tanh(x @ w0.T + b0) @ w1.T + b1

    np.testing.assert_allclose(model(X).data, plain(X, *arrays), rtol=1e-12)
    check_first_order(lambda *args: network(*args) if isinstance(args[0], Tensor) else plain(*args), [X, *arrays])


def test_everything_stays_float32_by_default(float32):
    model = nn.MLP([3, 4, 2], nn.Sigmoid)
    result = model(X)  # X is float64
    assert result.dtype == np.float32
    result.sum().backward()
    for p in model.parameters():
        assert p.dtype == p.grad.dtype == np.float32
    for function in (F.relu, F.tanh, F.sigmoid, F.softmax, F.log_softmax):
        assert function(Tensor(X)).dtype == np.float32
        assert function(X.tolist()).dtype == np.float32


# Initial values ------------------------------------------------------------------------------------------------------


def test_initial_values_are_pytorchs():
    layer = nn.Linear(100, 200)
    for parameter in (layer.weight, layer.bias):
        assert np.abs(parameter.data).max() <= 0.1
        assert np.abs(parameter.data).max() > 0.09
        assert abs(parameter.data.std() - 0.1 / math.sqrt(3)) < 0.006


def test_initial_values_come_from_the_generator_given():
    a, b, c = (nn.MLP([3, 4, 2], generator=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(p.data, q.data) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not np.array_equal(a[0].weight.data, c[0].weight.data)
    tg.manual_seed(5)
    d = nn.Linear(3, 2)
    tg.manual_seed(5)
    np.testing.assert_array_equal(nn.Linear(3, 2).weight.data, d.weight.data)


def test_init_functions_keep_their_limits_and_dtype(float32):
    values = init.uniform((1000,), -0.5, 2.0, np.random.default_rng(0))
    assert values.dtype == np.float32
    assert values.min() >= -0.5
    assert 1.9 < values.max() <= 2.0
    assert np.abs(init.fan_in_uniform((1000,), 16)).max() <= 0.25


def test_sequential_is_a_sequence():
    layers = nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1)
    model = nn.Sequential(*layers)
    assert len(model) == 3
    assert tuple(model) == layers
    assert model[-1] is layers[2]
    assert nn.Sequential()(X) is X
