"""Initial values: distributions, bounds, orthogonality, and PyTorch's numbers of inputs and outputs, and gains."""

import math

import numpy as np
import pytest

import tinygrad_opt as tg
from tinygrad_opt import GraphError, ShapeError, Tensor, nn
from tinygrad_opt.nn import init

SHAPES = [(40, 30), (16, 8, 3, 5)]  # a Linear's, a Conv2d's
COUNT = 16 * 8 * 3 * 5


def fresh(shape, dtype=None):
    return nn.Parameter(np.full(shape, np.nan), dtype=dtype)


# in place, how it draws, and the standard deviation and the largest magnitude that it must have for fan_in and fan_out
DRAWN = {
    "uniform_": (lambda w, g: init.uniform_(w, -0.5, 0.5, g), lambda i, o: (0.5 / math.sqrt(3), 0.5)),
    "normal_": (lambda w, g: init.normal_(w, 0.0, 0.3, g), lambda i, o: (0.3, math.inf)),
    "trunc_normal_": (lambda w, g: init.trunc_normal_(w, generator=g), lambda i, o: (0.87962566, 2.0)),
    "xavier_uniform_": (
        lambda w, g: init.xavier_uniform_(w, 2.0, g),
        lambda i, o: (2 * math.sqrt(2 / (i + o)), 2 * math.sqrt(6 / (i + o))),
    ),
    "xavier_normal_": (
        lambda w, g: init.xavier_normal_(w, generator=g), lambda i, o: (math.sqrt(2 / (i + o)), math.inf),
    ),
    "kaiming_uniform_": (
        lambda w, g: init.kaiming_uniform_(w, a=0.5, generator=g),
        lambda i, o: (math.sqrt(2 / 1.25 / i), math.sqrt(6 / 1.25 / i)),
    ),
    "kaiming_uniform_, fan_out": (
        lambda w, g: init.kaiming_uniform_(w, mode="fan_out", nonlinearity="tanh", generator=g),
        lambda i, o: (5 / 3 / math.sqrt(o), 5 / math.sqrt(3 * o)),
    ),
    "kaiming_normal_": (lambda w, g: init.kaiming_normal_(w, generator=g), lambda i, o: (math.sqrt(2 / i), math.inf)),
    "kaiming_normal_, fan_out": (
        lambda w, g: init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu", generator=g),
        lambda i, o: (math.sqrt(2 / o), math.inf),
    ),
    "orthogonal_": (
        lambda w, g: init.orthogonal_(w, 3.0, g),
        lambda i, o: (3.0 / math.sqrt({30: 40, 120: 120}[i]), 3.0),
    ),
}  # fmt: skip
TORCH = {
    "xavier_uniform_": ("xavier_uniform_", (2.0,)),
    "xavier_normal_": ("xavier_normal_", ()),
    "kaiming_uniform_": ("kaiming_uniform_", (0.5,)),
    "kaiming_uniform_, fan_out": ("kaiming_uniform_", (0, "fan_out", "tanh")),
    "kaiming_normal_": ("kaiming_normal_", ()),
    "kaiming_normal_, fan_out": ("kaiming_normal_", (0, "fan_out", "relu")),
    "orthogonal_": ("orthogonal_", (3.0,)),
    "trunc_normal_": ("trunc_normal_", ()),
}
CONSTANT = {"zeros_": 0.0, "ones_": 1.0, "constant_": 0.25}


def fans(shape):
    return math.prod(shape[1:]), shape[0] * math.prod(shape[2:])


def test_every_function_in_place_is_in_a_table():
    public = {name for name in vars(init) if name.endswith("_") and not name.startswith("_")}
    assert public == {name.split(",")[0] for name in DRAWN} | set(CONSTANT)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", DRAWN)
def test_spread_and_bounds(name, shape):
    draw, expected = DRAWN[name]
    std, largest = expected(*fans(shape))
    w = fresh(shape)
    assert draw(w, np.random.default_rng(0)) is w
    assert w.requires_grad
    assert w.is_leaf
    assert abs(w.data.mean()) < 4 * std / math.sqrt(w.size)
    assert w.data.std() == pytest.approx(std, rel=0.06)
    assert np.abs(w.data).max() <= largest
    if largest < math.inf and name != "orthogonal_":
        assert np.abs(w.data).max() > 0.97 * largest


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", TORCH)
def test_the_spread_is_pytorchs(name, shape):
    torch = pytest.importorskip("torch")
    function, arguments = TORCH[name]
    theirs = torch.empty(shape, dtype=torch.float64)
    getattr(torch.nn.init, function)(theirs, *arguments, generator=torch.Generator().manual_seed(0))
    ours = DRAWN[name][0](fresh(shape), np.random.default_rng(0)).data
    assert ours.std() == pytest.approx(theirs.std().item(), rel=0.08)
    for q in (0.02, 0.25, 0.75, 0.98):
        assert np.quantile(ours, q) == pytest.approx(np.quantile(theirs.numpy(), q), rel=0.25, abs=0.02 * ours.std())


def test_normal_draws_have_the_tails_of_the_normal_distribution():
    w = init.normal_(fresh(20_000), 1.0, 2.0, np.random.default_rng(0)).data
    for z, share in [(-2, 0.02275), (-1, 0.15866), (0, 0.5), (1, 0.84134), (2, 0.97725)]:
        assert np.mean(w < 1 + 2 * z) == pytest.approx(share, abs=0.01)


def test_truncated_draws_keep_the_shape_between_their_ends():
    w = init.trunc_normal_(fresh(20_000), 1.0, 2.0, 0.0, 4.0, np.random.default_rng(0)).data
    assert w.min() >= 0
    assert w.max() <= 4
    below = lambda v: (math.erf((v - 1) / 2 / math.sqrt(2)) + 1) / 2
    for v in (0.5, 1.0, 2.0, 3.0):
        assert np.mean(w < v) == pytest.approx((below(v) - below(0)) / (below(4) - below(0)), abs=0.015)


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (4, 2, 3, 3), (9, 2, 2)])
def test_orthogonal_rows_or_columns(shape):
    w = init.orthogonal_(fresh(shape), gain=1.5).data.reshape(shape[0], -1)
    product = w @ w.T if shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(product, 2.25 * np.eye(min(w.shape)), atol=1e-12)


def test_orthogonal_matrices_are_evenly_spread():
    """Of 2 x 2 ones, half are rotations, half reflections, and their angles are even."""
    generator = np.random.default_rng(0)
    drawn = np.array([init.orthogonal_(fresh((2, 2)), generator=generator).data for _ in range(600)])
    assert np.mean(np.linalg.det(drawn) > 0) == pytest.approx(0.5, abs=0.07)
    counts, _ = np.histogram(np.arctan2(drawn[:, 1, 0], drawn[:, 0, 0]), 4, (-math.pi, math.pi))
    assert counts.min() > 110


@pytest.mark.parametrize("param", [None, 0.0, 0.01, 0.2, 1])
@pytest.mark.parametrize("name", ["linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"])
def test_gains_are_pytorchs(name, param):
    torch = pytest.importorskip("torch")
    assert init.calculate_gain(name, param) == pytest.approx(torch.nn.init.calculate_gain(name, param), rel=1e-12)


@pytest.mark.parametrize("name", [*DRAWN, *CONSTANT])
def test_dtype_and_memory_stay(name):
    w = fresh((4, 3), dtype="float32")
    memory = w.data
    result = DRAWN[name][0](w, None) if name in DRAWN else fill(name, w)
    assert result is w
    assert w.data is memory
    assert w.dtype == np.float32
    assert np.all(np.isfinite(w.data))


def fill(name, w):
    return init.constant_(w, CONSTANT[name]) if name == "constant_" else getattr(init, name)(w)


@pytest.mark.parametrize("name", CONSTANT)
def test_constants(name):
    np.testing.assert_array_equal(fill(name, fresh((2, 3))).data, np.full((2, 3), CONSTANT[name]))
    assert fill(name, fresh(())).item() == CONSTANT[name]


@pytest.mark.parametrize("name", DRAWN)
def test_draws_come_from_the_generator_given_or_the_librarys(name):
    draw = DRAWN[name][0]
    a, b, c = (draw(fresh((4, 3)), np.random.default_rng(seed)).data for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    tg.manual_seed(3)
    first = draw(fresh((4, 3)), None).data
    assert not np.array_equal(first, draw(fresh((4, 3)), None).data)
    tg.manual_seed(3)
    np.testing.assert_array_equal(draw(fresh((4, 3)), None).data, first)


def test_layers_start_as_pytorchs_do():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    for ours, theirs in [
        (nn.Conv2d(8, 32, (3, 5), groups=2), torch.nn.Conv2d(8, 32, (3, 5), groups=2)),
        (nn.Linear(100, 40), torch.nn.Linear(100, 40)),
        (nn.Embedding(40, 30), torch.nn.Embedding(40, 30)),
        (nn.BatchNorm2d(5), torch.nn.BatchNorm2d(5)),
        (nn.LayerNorm((2, 3)), torch.nn.LayerNorm((2, 3))),
    ]:
        reference = theirs.state_dict()
        for name, array in ours.state_dict().items():
            other = reference[name].numpy()
            assert array.shape == other.shape
            if name == "weight" and array.std():
                assert array.std() == pytest.approx(other.std(), rel=0.06)
            if isinstance(ours, (nn.Conv2d, nn.Linear)):
                bound = 1 / math.sqrt(math.prod(ours.weight.shape[1:]))
                assert 0.8 * bound < np.abs(array).max() <= bound
            if name != "weight" and not isinstance(ours, (nn.Conv2d, nn.Linear)):
                np.testing.assert_array_equal(array, other)


def test_a_graph_notices_that_its_weights_are_new():
    w = fresh((2, 2))
    loss = (w * w).sum()
    init.zeros_(w)
    with pytest.raises(GraphError, match="changed in place"):
        loss.backward()


WRONG = {
    "an array": (lambda: init.zeros_(np.zeros(3)), TypeError, r"takes a Tensor, such as layer\.weight; got array"),
    "fans of a bias": (lambda: init.xavier_uniform_(fresh(3)), ShapeError, r"\(outputs, inputs\).*\(3,\).*zeros_"),
    "orthogonal bias": (lambda: init.orthogonal_(fresh(3)), ShapeError, r"\(3,\)"),
    "no elements": (lambda: init.kaiming_normal_(fresh((0, 3))), ShapeError, r"with elements.*\(0, 3\)"),
    "mode": (lambda: init.kaiming_normal_(fresh((2, 3)), mode="fan"), ValueError, r'"fan_out"; got \'fan\''),
    "gain": (lambda: init.calculate_gain("gelu"), ValueError, r"relu.*selu; got 'gelu'"),
    "nonlinearity": (lambda: init.kaiming_uniform_(fresh((2, 3)), nonlinearity="x"), ValueError, r"got 'x'"),
    "a above b": (lambda: init.uniform_(fresh(3), 1, 0), ValueError, r"\[a, b\); got a=1 and b=0"),
    "negative std": (lambda: init.normal_(fresh(3), std=-1), ValueError, r"at least 0; got std=-1"),
    "negative std, truncated": (lambda: init.trunc_normal_(fresh(3), std=-1), ValueError, r"got std=-1"),
    "ends far out": (lambda: init.trunc_normal_(fresh(3), 0, 1, 5, 6), ValueError, r"hardly any.*\[5, 6\]"),
    "ends the wrong way round": (lambda: init.trunc_normal_(fresh(3), 0, 1, 2, -2), ValueError, r"any.*\[2, -2\]"),
    "mean NaN": (lambda: init.trunc_normal_(fresh(3), math.nan), ValueError, r"mean nan"),
    "an integer Tensor": (lambda: init.normal_(Tensor([1, 2])), TypeError, r"floating-point Tensor.*int64"),
    "a seed for a generator": (lambda: init.normal_(fresh(3), generator=3), TypeError, r"default_rng\(0\); got 3"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_explained(call, error, text):
    with pytest.raises(error, match=text):
        call()
