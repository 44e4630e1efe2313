"""Dropout, Embedding and Flatten, and a whole network with all kinds of layers beside PyTorch's."""

import copy

import numpy as np
import pytest

import tinygrad_opt as tg
from tinygrad_opt import ShapeError, Tensor, nn, optim
from tinygrad_opt.nn import functional as F

# Dropout -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_the_share_that_is_dropped_and_the_scale_of_the_rest(p):
    x = np.full((200, 100), 3.0)
    result = F.dropout(x, p, generator=np.random.default_rng(0)).data
    assert np.mean(result == 0) == pytest.approx(p, abs=0.015)
    np.testing.assert_allclose(result[result != 0], 3 / (1 - p))
    assert result.mean() == pytest.approx(3, rel=0.03)
    for axis in (0, 1):  # rows and columns are not dropped as wholes
        assert np.all(np.abs(np.mean(result == 0, axis=axis) - p) < 0.25)


def test_nothing_and_everything_dropped():
    x = Tensor([[1.0, -2.0, 0.5]], requires_grad=True)
    state = tg.get_rng_state()
    for same in (F.dropout(x, 0.0), F.dropout(x, 0.7, training=False), nn.Dropout(0.7).eval()(x)):
        assert same is x
    assert tg.get_rng_state() == state  # and nothing was drawn for it
    everything = nn.Dropout(1.0)(x)
    np.testing.assert_array_equal(everything.data, [[0, 0, 0]])
    everything.sum().backward()
    np.testing.assert_array_equal(x.grad.data, [[0, 0, 0]])


def test_the_gradient_goes_through_the_same_mask():
    x = Tensor(np.ones((8, 5)), requires_grad=True)
    result = nn.Dropout(0.4)(x)
    nn.Dropout(0.4)(x)  # draws on
    upstream = np.random.default_rng(1).normal(size=(8, 5))
    result.backward(upstream)
    np.testing.assert_allclose(x.grad.data, upstream * result.data)


def test_the_same_seed_gives_the_same_draws_and_each_call_new_ones():
    x = np.ones(50)
    layers = [nn.Dropout(0.5, generator=np.random.default_rng(seed)) for seed in (0, 0, 1)]
    a, b, c = (layer(x).data for layer in layers)
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    assert not np.array_equal(a, layers[0](x).data)
    tg.manual_seed(4)
    first = nn.Dropout(0.5)(x).data
    tg.manual_seed(4)
    np.testing.assert_array_equal(nn.Dropout(0.5)(x).data, first)
    twin = copy.deepcopy(layers[0])
    np.testing.assert_array_equal(twin(x).data, layers[0](x).data)


def test_float32_draws_are_those_of_float64():
    x = np.linspace(1, 2, 20)
    a = F.dropout(Tensor(x, dtype="float32"), 0.3, generator=np.random.default_rng(0))
    b = F.dropout(Tensor(x), 0.3, generator=np.random.default_rng(0))
    assert a.dtype == np.float32
    np.testing.assert_allclose(a.data, b.data, rtol=1e-6)


# Embedding -----------------------------------------------------------------------------------------------------------


def test_rows_that_are_looked_up_several_times_get_all_gradients():
    layer = nn.Embedding(4, 2)
    indices = np.array([[1, 1, 3], [1, 3, 3]])
    upstream = np.random.default_rng(0).normal(size=(2, 3, 2))
    layer(indices).backward(upstream)
    expected = np.zeros((4, 2))
    for place in np.ndindex(indices.shape):
        expected[indices[place]] += upstream[place]
    np.testing.assert_allclose(layer.weight.grad.data, expected, rtol=1e-12)


@pytest.mark.parametrize("padding_idx", [0, 2, -1])
def test_the_padding_row_is_zero_and_not_learned(padding_idx):
    torch = pytest.importorskip("torch")
    ours, theirs = nn.Embedding(4, 2, padding_idx), torch.nn.Embedding(4, 2, padding_idx).double()
    assert ours.padding_idx == theirs.padding_idx
    np.testing.assert_array_equal(ours.weight.data[padding_idx], [0, 0])
    theirs.load_state_dict({name: torch.tensor(a) for name, a in ours.state_dict().items()})
    indices = np.array([[0, 1, 2, 3], [3, 3, 2, 0]])
    upstream = np.random.default_rng(0).normal(size=(2, 4, 2))
    result = ours(indices)
    result.backward(upstream)
    theirs(torch.tensor(indices)).backward(torch.tensor(upstream))
    np.testing.assert_allclose(ours.weight.grad.data, theirs.weight.grad.numpy(), rtol=1e-12)
    np.testing.assert_array_equal(ours.weight.grad.data[padding_idx], [0, 0])
    optim.SGD(ours.parameters(), lr=0.1).step()
    np.testing.assert_array_equal(ours.weight.data[padding_idx], [0, 0])
    weight = Tensor(np.ones((4, 2)), requires_grad=True)
    F.embedding(indices, weight, padding_idx).backward(upstream)
    np.testing.assert_allclose(weight.grad.data, ours.weight.grad.data)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "int8", "uint64"])
def test_indices_of_any_integer_dtype_and_shape(dtype):
    layer = nn.Embedding(5, 3)
    for indices in (np.array(2, dtype), np.array([4, 0], dtype), np.zeros((2, 0), dtype), np.ones((2, 2, 2), dtype)):
        for given in (indices, Tensor(indices), indices.tolist()):
            result = layer(given)
            assert result.shape == (*indices.shape, 3)
            np.testing.assert_array_equal(result.data, layer.weight.data[indices.astype(int)])


# Flatten -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [(0, -1), (1, -1), (1, 2), (0, 1), (-2, -1), (2, 2), (-4, 3)])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (0, 3, 4, 5), (1, 1, 1, 1)])
def test_flatten_joins_the_axes_that_pytorch_joins(dims, shape):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=shape)
    expected = torch.nn.Flatten(*dims)(torch.tensor(x)).numpy()
    np.testing.assert_array_equal(nn.Flatten(*dims)(x).data, expected)
    indices = Tensor(np.arange(6).reshape(1, 2, 3))
    assert nn.Flatten()(indices).dtype.kind == "i"  # so that an embedding can follow


# All together --------------------------------------------------------------------------------------------------------


def build(n):
    """One definition for both libraries: words of an embedding as one-channel images."""
    return n.Sequential(
        n.Embedding(9, 6, padding_idx=0), n.Flatten(1, 2), n.LayerNorm(36), n.Linear(36, 36), n.GELU(),
    ), n.Sequential(
        n.Conv2d(1, 4, 3, padding=1), n.BatchNorm2d(4), n.LeakyReLU(), n.MaxPool2d(2), n.Conv2d(4, 4, 2, groups=2),
        n.BatchNorm2d(4), n.SiLU(), n.AvgPool2d(2), n.Flatten(), n.BatchNorm1d(4), n.Linear(4, 3), n.LogSoftmax(-1),
    )  # fmt: skip


@pytest.mark.parametrize("direction", ["from PyTorch", "to PyTorch"])
def test_a_network_of_all_layers_trains_as_in_pytorch(direction):
    """Weights moved by state_dict; three steps of SGD; then evaluation, and all states compared."""
    torch = pytest.importorskip("torch")
    ours, theirs = nn.ModuleList(build(nn)), torch.nn.ModuleList(build(torch.nn)).double()
    if direction == "from PyTorch":
        ours.load_state_dict(theirs.state_dict())
    else:
        theirs.load_state_dict({name: torch.tensor(array) for name, array in ours.state_dict().items()})
    rng = np.random.default_rng(0)
    steps = optim.SGD(ours.parameters(), lr=0.1), torch.optim.SGD(theirs.parameters(), lr=0.1)
    for _ in range(3):
        words, classes = rng.integers(0, 9, (5, 6)), rng.integers(0, 3, 5)
        for optimizer in steps:
            optimizer.zero_grad()
        loss = nn.NLLLoss()(ours[1](ours[0](words).reshape(5, 1, 6, 6)), classes)
        hidden = theirs[0](torch.tensor(words)).reshape(5, 1, 6, 6)
        reference = torch.nn.NLLLoss()(theirs[1](hidden), torch.tensor(classes))
        assert loss.item() == pytest.approx(reference.item(), rel=1e-8)
        loss.backward()
        reference.backward()
        for optimizer in steps:
            optimizer.step()
    expected = theirs.state_dict()
    assert list(ours.state_dict()) == list(expected)
    for name, array in ours.state_dict().items():
        np.testing.assert_allclose(array, expected[name].numpy(), rtol=1e-6, atol=1e-9, err_msg=name)
    ours.eval()
    theirs.eval()
    one = ours[1](ours[0](words[:1]).reshape(1, 1, 6, 6))
    other = theirs[1](theirs[0](torch.tensor(words[:1])).reshape(1, 1, 6, 6))
    np.testing.assert_allclose(one.data, other.detach().numpy(), rtol=1e-6)


WRONG = {
    "p -0.1": (lambda: nn.Dropout(-0.1), ValueError, r"Dropout.*\[0, 1\]; got -0\.1"),
    "p 1.5": (lambda: F.dropout([1.0], 1.5), ValueError, r"dropout.*\[0, 1\]; got 1\.5"),
    "p NaN": (lambda: nn.Dropout(float("nan")), ValueError, r"got nan"),
    "a seed for a generator": (lambda: nn.Dropout(generator=3)([1.0]), TypeError, r"default_rng\(0\); got 3"),
    "float indices": (lambda: nn.Embedding(5, 3)([0.5]), TypeError, r"integer.*astype\(int\); got float64.*\(1,\)"),
    "boolean indices": (lambda: nn.Embedding(5, 3)([True]), TypeError, r"integer.*got bool"),
    "a string": (lambda: nn.Embedding(5, 3)(["a"]), TypeError, r"integer.*got <U1"),
    "index too large": (lambda: nn.Embedding(5, 3)([[0, 5]]), ValueError, r"0 \.\.\. 4.*got 5"),
    "index negative": (lambda: nn.Embedding(5, 3)([-1]), ValueError, r"0 \.\.\. 4.*got -1"),
    "no rows": (lambda: nn.Embedding(0, 3), ValueError, r"at least 1; got Embedding\(0, 3\)"),
    "padding_idx": (lambda: nn.Embedding(5, 3, 5), ValueError, r"one of the 5 rows; got 5"),
    "padding_idx, function": (lambda: F.embedding([0], np.ones((5, 3)), -6), ValueError, r"one of the 5 rows; got -6"),
    "a vector for a weight": (lambda: F.embedding([0], np.ones(5)), ShapeError, r"\(rows, features\).*\(5,\)"),
    "flatten a vector": (lambda: nn.Flatten()(np.ones(3)), ShapeError, r"axes 1 to -1.*\(3,\).*0 \.\.\. 0"),
    "flatten backwards": (lambda: nn.Flatten(2, 1)(np.ones((2, 3, 4))), ShapeError, r"axes 2 to 1.*\(2, 3, 4\)"),
    "linear, features": (lambda: nn.Linear(3, 2)(np.ones((5, 4))), ShapeError, r"\(\.\.\., 3\).*\(5, 4\)"),
    "linear, strings": (lambda: nn.Linear(1, 2)([["a"]]), TypeError, r"real numbers.*<U1"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_explained(call, error, text):
    with pytest.raises(error, match=text):
        call()
