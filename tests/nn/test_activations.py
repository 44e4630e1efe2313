"""Activations: at their kinks, at the largest numbers, and against PyTorch far from 0."""

import math

import numpy as np
import pytest

from tests.nn.table import ELEMENTWISE
from tinygrad_opt import ShapeError, Tensor, nn
from tinygrad_opt.nn import functional as F


def module(name, where=nn):
    arguments, _ = ELEMENTWISE[name]
    options = {"approximate": "tanh"} if arguments == ("tanh",) else {}
    return getattr(where, name.split()[0])(*([] if options else arguments), **options)


every_activation = pytest.mark.parametrize("name", ELEMENTWISE)
ALL = [*ELEMENTWISE, "Softmax", "LogSoftmax"]


def values_and_slopes(activation, x, dtype="float64"):
    x = Tensor(x, requires_grad=True, dtype=dtype)
    result = activation(x)
    result.backward(np.full(x.shape, 1.5, dtype))
    return result, x.grad


@every_activation
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_everywhere_as_in_pytorch(name, dtype):
    """Also at 0, where some have a kink, and far out, where a formula may cancel or overflow."""
    torch = pytest.importorskip("torch")
    x = np.concatenate([np.linspace(-12, 12, 97), [-0.0, -1e-12, 1e-12, -40, 40, -200, 200, -1e4, 1e4]]).astype(dtype)
    result, slopes = values_and_slopes(module(name), x, dtype)
    z = torch.tensor(x, requires_grad=True)
    reference = module(name, torch.nn)(z)
    reference.backward(torch.full(z.shape, 1.5, dtype=z.dtype))
    tolerance = {"rtol": 3e-9, "atol": 1e-13} if dtype == "float64" else {"rtol": 3e-4, "atol": 5e-6}
    np.testing.assert_allclose(result.data, reference.detach().numpy(), **tolerance)
    np.testing.assert_allclose(slopes.data, z.grad.numpy(), **tolerance)


@every_activation
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_values_against_formulas_in_the_tails(name, dtype):
    _, function = ELEMENTWISE[name]
    x = np.array([-30.0, -8.0, -3.0, 3.0, 8.0, 30.0])
    expected = [function(v) for v in x.tolist()]
    assert values_and_slopes(module(name), x, dtype)[0].data == pytest.approx(
        np.array(expected), rel=1e-4 if dtype == "float32" else 1e-9, abs=1e-6 if dtype == "float32" else 1e-14
    )


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_largest_numbers_are_quiet_and_finite(name, dtype):
    """Values, and first and second derivatives."""
    activation = module(name) if name in ELEMENTWISE else getattr(nn, name)()
    largest = float(np.finfo(dtype).max) / 4  # a quarter: the difference of the largest and the smallest is a number
    x = Tensor([[-largest, -1e30, -745, -100, -38.0, -0.0, 0, 38, 100, 1e30, largest]], requires_grad=True, dtype=dtype)
    with np.errstate(all="raise", under="ignore"):
        result = activation(x)
        result.backward(np.full(x.shape, 1.5, dtype), create_graph=True)
        slopes, x.grad = x.grad, None
        assert result.dtype == slopes.dtype == np.dtype(dtype)
        if slopes.requires_grad:
            slopes.backward(np.full(x.shape, 1.5, dtype))
            assert np.all(np.isfinite(x.grad.data))
    assert np.all(np.isfinite(result.data))
    assert np.all(np.isfinite(slopes.data))


@pytest.mark.parametrize("name", ["ReLU", "LeakyReLU", "ELU", "Tanh", "GELU", "GELU by tanh", "Softmax", "LogSoftmax"])
def test_nan_stays_visible(name):
    activation = module(name) if name in ELEMENTWISE else getattr(nn, name)()
    result, _ = values_and_slopes(activation, [0.5, np.nan])
    assert np.isnan(result.data[1])
    assert np.isnan(result.data[0]) == (name in ("Softmax", "LogSoftmax"))


KINKS = {"ReLU": 0.0, "LeakyReLU": 0.01, "LeakyReLU 0.3": 0.3, "ELU": 1.0, "ELU 0.5": 0.5}


@pytest.mark.parametrize(("name", "slope"), KINKS.items())
def test_the_slope_at_the_kink_is_the_one_that_is_documented(name, slope):
    result, slopes = values_and_slopes(module(name), [0.0, -0.0])
    np.testing.assert_array_equal(result.data, [0, 0])
    np.testing.assert_allclose(slopes.data, [1.5 * slope] * 2)


def test_softmax_of_masked_scores():
    """Scores of -∞, as a mask gives them, get the probability 0 and no gradient."""
    x = Tensor([[0.0, -np.inf, 1.0]], requires_grad=True)
    p = F.softmax(x)
    (p * [[1.0, 2.0, 3.0]]).sum().backward()
    np.testing.assert_allclose(p.data[0, [0, 2]].sum(), 1)
    assert p.data[0, 1] == x.grad.data[0, 1] == 0
    assert F.log_softmax(x).data[0, 1] == -np.inf


def test_of_a_number():
    assert F.softmax(3.0).item() == 1
    assert F.log_softmax(3.0).item() == 0


def test_gelu_is_exact_far_out():
    """In the tail, 1 + erf would have no digits left: Φ(-37) is 10⁻³⁰⁰."""
    for furthest, tolerance in [(8, 5e-12), (37, 1e-7)]:
        x = np.linspace(-furthest, furthest, 4001)
        exact = np.array([v * math.erfc(-v / math.sqrt(2)) / 2 for v in x.tolist()])
        np.testing.assert_allclose(F.gelu(x).data, exact, rtol=tolerance)


WRONG = {
    "softmax over nothing": (lambda: F.softmax(np.zeros((2, 0))), ShapeError, r"softmax.*axis -1.*\(2, 0\)"),
    "log_softmax of no rows, along them": (
        lambda: nn.LogSoftmax(0)(np.zeros((0, 3))), ShapeError, r"log_softmax.*axis 0.*\(0, 3\)",
    ),
    "an axis that is not there": (lambda: nn.Softmax(2)(np.zeros((2, 3))), ValueError, r"axis 2.*dimension 2"),
    "beta 0": (lambda: nn.Softplus(0), ValueError, r"positive beta; got 0"),
    "beta NaN": (lambda: F.softplus([1.0], math.nan), ValueError, r"positive beta; got nan"),
    "another approximation": (lambda: nn.GELU("erf"), ValueError, r'"none" or "tanh"; got \'erf\''),
    "another approximation, function": (lambda: F.gelu([1.0], "erf"), ValueError, r'"none" or "tanh"; got \'erf\''),
    "strings": (lambda: nn.ReLU()(["a"]), TypeError, r"real numbers.*<U1.*\['a'\]"),
    "complex numbers": (lambda: nn.Tanh()(np.array([1j])), TypeError, r"real numbers.*complex128"),
    "None": (lambda: nn.SiLU()(None), TypeError, r"real numbers.*object: None"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_explained(call, error, text):
    with pytest.raises(error, match=text):
        call()
