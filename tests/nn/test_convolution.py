"""Convolution and pooling with all their options, against plain loops and against PyTorch."""

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from tests.nn import naive
from tests.nn.table import apart
from tinygrad_opt import ShapeError, Tensor, nn
from tinygrad_opt.nn import functional as F

KERNELS = [(1, 1), (2, 3), (3, 2)]
STRIDES = [(1, 1), (2, 2), (1, 3)]
PADDINGS = [(0, 0), (1, 1), (2, 0), (3, 3)]
DILATIONS = [(1, 1), (2, 1), (2, 2)]
GROUPS = [1, 2, 4]
OPTIONS = list(itertools.product(KERNELS, STRIDES, PADDINGS, DILATIONS, GROUPS))


def problem(kernel, groups, count=2, per_group=1, outputs_per_group=2, image=(5, 6), seed=0):
    """Images, weight, bias."""
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(count, groups * per_group, *image)),
        rng.normal(size=(groups * outputs_per_group, per_group, *kernel)),
        rng.normal(size=groups * outputs_per_group),
    )


def convolved(arrays, options, upstream_seed=1):
    """The result of conv2d, the gradient that it is given, and those of images, weight and bias."""
    tensors = [Tensor(a, requires_grad=True) for a in arrays]
    result = F.conv2d(*tensors, *options)
    upstream = np.random.default_rng(upstream_seed).normal(size=result.shape)
    result.backward(upstream)
    return result.data, upstream, [t.grad.data for t in tensors]


def assert_is_the_plain_loop(arrays, options):
    out, upstream, gradients = convolved(arrays, options)
    np.testing.assert_allclose(out, naive.conv2d(*arrays, *options), rtol=1e-10, atol=1e-12)
    for g, expected in zip(gradients, naive.conv2d_gradients(upstream, *arrays[:2], *options), strict=True):
        np.testing.assert_allclose(g, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("dilation", DILATIONS)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("stride", STRIDES)
def test_every_combination_of_options_against_pytorch(stride, padding, dilation, groups):
    torch = pytest.importorskip("torch")
    for kernel in KERNELS:
        arrays = problem(kernel, groups, per_group=2)
        out, upstream, gradients = convolved(arrays, (stride, padding, dilation, groups))
        tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
        reference = torch.nn.functional.conv2d(*tensors, stride, padding, dilation, groups)
        reference.backward(torch.tensor(upstream))
        np.testing.assert_allclose(out, reference.detach().numpy(), rtol=1e-9, atol=1e-11)
        for g, tensor in zip(gradients, tensors, strict=True):
            np.testing.assert_allclose(g, tensor.grad.numpy(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation", "groups"), OPTIONS[::5])
def test_combinations_of_options_against_plain_loops(kernel, stride, padding, dilation, groups):
    assert_is_the_plain_loop(problem(kernel, groups, count=1, image=(5, 5)), (stride, padding, dilation, groups))


@st.composite
def convolutions(draw):
    """Images, weight and bias, and options that fit them."""
    pairs = lambda low, high: st.tuples(st.integers(low, high), st.integers(low, high))
    kernel, dilation, padding, stride = draw(pairs(1, 3)), draw(pairs(1, 3)), draw(pairs(0, 4)), draw(pairs(1, 4))
    groups = draw(st.integers(1, 3))
    image = tuple(
        draw(st.integers(max(1, d * (k - 1) + 1 - 2 * p), max(1, d * (k - 1) + 1 - 2 * p) + 3))
        for k, d, p in zip(kernel, dilation, padding, strict=True)
    )
    sizes = draw(st.integers(0, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    return problem(kernel, groups, *sizes, image, draw(st.integers(0, 9))), (stride, padding, dilation, groups)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(convolutions())
def test_any_convolution_against_plain_loops(convolution):
    assert_is_the_plain_loop(*convolution)


def test_many_blocks_of_windows_make_one_result(monkeypatch):
    """The windows are laid side by side a block of examples at a time: with small blocks all is the same."""
    arrays, options = problem((2, 3), 2, count=5), ((2, 1), (1, 0), (1, 1), 2)
    out, _, gradients = convolved(arrays, options)
    for block in (1, 400):
        monkeypatch.setattr("tinygrad_opt.rules.windows.BLOCK", block)
        again, _, others = convolved(arrays, options)
        np.testing.assert_allclose(again, out, rtol=1e-12)
        for a, b in zip(others, gradients, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (5, 3), (1, 3)])
@pytest.mark.parametrize("dilation", [1, 2, (3, 1)])
def test_same_padding_keeps_the_size(kernel, dilation):
    torch = pytest.importorskip("torch")
    x, weight, bias = problem(kernel, 1, per_group=2)
    out = F.conv2d(x, weight, bias, padding="same", dilation=dilation)
    assert out.shape == (2, 2, 5, 6)
    expected = torch.nn.functional.conv2d(*map(torch.tensor, (x, weight, bias)), padding="same", dilation=dilation)
    np.testing.assert_allclose(out.data, expected.numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(nn.Conv2d(2, 3, kernel, padding="same", dilation=dilation)(x).shape, (2, 3, 5, 6))


def test_same_padding_of_an_even_kernel_where_the_dilation_makes_it_symmetric():
    x, weight, _ = problem((2, 2), 1)
    expected = naive.conv2d(x, weight, None, padding=(1, 1), dilation=(2, 2))
    np.testing.assert_allclose(F.conv2d(x, weight, padding="same", dilation=2).data, expected, rtol=1e-12)
    with pytest.raises(ValueError, match=r'"same"; got \'same\' for the kernel \(2, 2\)'):
        F.conv2d(x, weight, padding="same")


def test_valid_padding_is_none():
    x, weight, bias = problem((2, 3), 1)
    result = F.conv2d(x, weight, bias, 2, "valid")
    np.testing.assert_array_equal(result.data, F.conv2d(x, weight, bias, 2, 0).data)


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(2, 4, 2, groups=2), nn.MaxPool2d(2), nn.AvgPool2d(2)], ids=lambda m: repr(m)[:9]
)
def test_one_image_without_the_batch(layer):
    x = apart((2, 5, 4))
    many, one = Tensor(x[None], requires_grad=True), Tensor(x, requires_grad=True)
    result = layer(one)
    np.testing.assert_array_equal(result.data, layer(many).data[0])
    upstream = np.random.default_rng(0).normal(size=result.shape)
    result.backward(upstream)
    layer(many).backward(upstream[None])
    np.testing.assert_allclose(one.grad.data, many.grad.data[0], rtol=1e-12)


def test_weights_may_be_lists_and_integers():
    x, weight, bias = problem((2, 2), 1)
    expected = F.conv2d(x, np.ones_like(weight), np.ones_like(bias)).data
    for ones in (np.ones_like(weight, int), np.ones_like(weight).tolist(), Tensor(np.ones_like(weight, int))):
        np.testing.assert_allclose(F.conv2d(x, ones, [1, 1]).data, expected)


def test_an_array_is_taken_in_the_dtype_of_the_tensor_it_meets():
    x, weight, bias = problem((2, 2), 1)
    assert F.conv2d(x, Tensor(weight, dtype="float32"), bias).dtype == np.float32
    assert F.conv2d(Tensor(x, dtype="float32"), weight, bias).dtype == np.float32


# Pooling -------------------------------------------------------------------------------------------------------------


def pooled(function, x, *options):
    x = Tensor(x, requires_grad=True)
    result = function(x, *options)
    upstream = np.random.default_rng(1).normal(size=result.shape)
    result.backward(upstream)
    return result.data, upstream, x.grad.data


@st.composite
def pools(draw):
    """Images with many ties, and options that fit them."""
    pairs = lambda low, high: st.tuples(st.integers(low, high), st.integers(low, high))
    kernel, stride = draw(pairs(1, 3)), draw(pairs(1, 4))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    image = tuple(draw(st.integers(max(1, k - 2 * p), k + 3)) for k, p in zip(kernel, padding, strict=True))
    shape = (*draw(st.tuples(st.integers(0, 2), st.integers(1, 2))), *image)
    return np.random.default_rng(draw(st.integers(0, 9))).integers(0, 3, shape) * 1.0, kernel, stride, padding


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(pools())
def test_any_pool_against_plain_loops(pool):
    x, kernel, stride, padding = pool
    largest, upstream, gradient = pooled(F.max_pool2d, x, kernel, stride, padding)
    np.testing.assert_array_equal(largest, naive.pool(x, kernel, stride, padding, (1, 1), max))
    np.testing.assert_allclose(
        gradient, naive.max_pool2d_gradient(upstream, x, kernel, stride, padding), rtol=1e-12, atol=1e-13
    )
    for counted in (True, False):
        size = (lambda values: kernel[0] * kernel[1]) if counted else len
        mean, _, _ = pooled(F.avg_pool2d, x, kernel, stride, padding, counted)
        expected = naive.pool(x, kernel, stride, padding, (1, 1), lambda values: sum(values) / size(values))
        np.testing.assert_allclose(mean, expected, rtol=1e-12)


SPECIAL = {
    "ties": np.zeros((2, 2, 4, 4)),
    "minus infinity": np.full((2, 2, 4, 4), -np.inf),
    "minus infinity here and there": np.where(apart((2, 2, 4, 4)) < 1, -np.inf, apart((2, 2, 4, 4))),
    "infinity": np.where(apart((2, 2, 4, 4)) > 2, np.inf, apart((2, 2, 4, 4))),
    "NaN": np.where(apart((2, 2, 4, 4)) > 1, np.nan, apart((2, 2, 4, 4))),
    "nothing but NaN": np.full((2, 2, 4, 4), np.nan),
}


@pytest.mark.parametrize("options", [(2,), (3, 1, 1), (2, 2, 1), (3, 2, 1, 2)], ids=str)
@pytest.mark.parametrize("images", SPECIAL.values(), ids=SPECIAL)
def test_pooling_of_special_values_is_pytorchs(images, options):
    """Of ties the first wins; with a padding, the gradient of -∞ and NaN stays in the image that it belongs to."""
    torch = pytest.importorskip("torch")
    result, upstream, gradient = pooled(F.max_pool2d, images, *options)
    z = torch.tensor(images, requires_grad=True)
    reference = torch.nn.functional.max_pool2d(z, *options)
    reference.backward(torch.tensor(upstream))
    np.testing.assert_array_equal(result, reference.detach().numpy())
    np.testing.assert_allclose(gradient, z.grad.numpy(), rtol=1e-12, atol=1e-13)


def test_of_ties_the_first_gets_all():
    x = Tensor([[[1.0, 1.0, 0.0, 2.0], [1.0, 1.0, 2.0, 2.0]]], requires_grad=True)
    F.max_pool2d(x, 2).backward([[[3.0, 5.0]]])
    np.testing.assert_array_equal(x.grad.data, [[[3, 0, 0, 5], [0, 0, 0, 0]]])


def test_minus_infinity_keeps_its_gradient_in_its_image():
    x = Tensor(np.full((2, 1, 2, 2), -np.inf), requires_grad=True)
    F.max_pool2d(x, 2, padding=1).backward(np.reshape([1.0, 2, 3, 4, 5, 6, 7, 8], (2, 1, 2, 2)))
    np.testing.assert_array_equal(x.grad.data.reshape(2, 4), [[1, 2, 3, 4], [5, 6, 7, 8]])


def test_pools_take_small_integers():
    x = Tensor(np.full((1, 1, 4, 4), 200, "uint8"))
    for layer in (nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2), nn.AvgPool2d(3, 2, 1, count_include_pad=False)):
        np.testing.assert_allclose(layer(x).data, np.full((1, 1, 2, 2), 200.0))


# Errors --------------------------------------------------------------------------------------------------------------

LAYER = nn.Conv2d(3, 4, 3)
IMAGE = r"\(batch, channels, height, width\)"
WRONG = {
    "channels": (lambda: LAYER(np.zeros((2, 1, 5, 5))), ShapeError, rf"3 channels; got.*\(2, 1, 5, 5\), {IMAGE}$"),
    "channels of one image": (
        lambda: LAYER(np.zeros((1, 5, 5))), ShapeError, r"3 channels.*\(1, 5, 5\), \(channels, height, width\)$",
    ),
    "channels last": (
        lambda: LAYER(np.zeros((2, 5, 5, 3))), ShapeError, r"\(2, 5, 5, 3\).*np\.moveaxis\(x, -1, -3\)",
    ),
    "grey images": (
        lambda: nn.Conv2d(1, 2, 3)(np.zeros((8, 5, 5))), ShapeError, r"1 channels.*\(8, 5, 5\).*x\[:, None\]",
    ),
    "one grey image": (lambda: LAYER(np.zeros((5, 5))), ShapeError, rf"{IMAGE}.*got \(5, 5\).*x\[:, None\]"),
    "five axes": (lambda: LAYER(np.zeros((1, 1, 3, 5, 5))), ShapeError, r"got \(1, 1, 3, 5, 5\)"),
    "too small": (lambda: LAYER(np.zeros((2, 3, 2, 5))), ShapeError, r"3 does not fit into 2.*\(2, 3, 2, 5\)"),
    "one image too small": (lambda: LAYER(np.zeros((3, 2, 5))), ShapeError, r"conv2d.*images of shape \(3, 2, 5\)"),
    "no pixels": (lambda: nn.Conv2d(3, 4, 1, padding=1)(np.zeros((2, 3, 0, 5))), ShapeError, r"\(2, 3, 0, 5\)"),
    "strings": (lambda: LAYER([[["a"]]]), TypeError, r"real numbers.*<U1"),
    "groups": (
        lambda: F.conv2d(np.zeros((1, 4, 3, 3)), np.zeros((3, 2, 2, 2)), groups=2), ShapeError,
        r"groups=2.*\(3, 2, 2, 2\).*outputs, 3, that the groups divide",
    ),
    "no groups": (
        lambda: F.conv2d(np.zeros((1, 4, 3, 3)), np.zeros((4, 4, 2, 2)), groups=0), ShapeError, r"groups=0",
    ),
    "a matrix as weight": (
        lambda: F.conv2d(np.zeros((1, 4, 3, 3)), np.zeros((4, 4))), ShapeError, r"weight \(out_channels.*\(4, 4\)",
    ),
    "weight without outputs": (
        lambda: F.conv2d(np.zeros((1, 4, 3, 3)), np.zeros((0, 4, 2, 2))), ShapeError, r"length 0.*\(0, 4, 2, 2\)",
    ),
    "bias": (
        lambda: F.conv2d(np.zeros((1, 1, 3, 3)), np.zeros((2, 1, 2, 2)), np.zeros(3)), ShapeError, r"\(2,\).*\(3,\)",
    ),
    "kernel 0": (lambda: nn.Conv2d(1, 1, 0), ValueError, r"kernel_size must be a whole number from 1 on.*got 0"),
    "kernel of three": (lambda: nn.Conv2d(1, 1, (1, 2, 3)), ValueError, r"kernel_size.*pair.*\(1, 2, 3\)"),
    "kernel 2.5": (lambda: nn.MaxPool2d(2.5), ValueError, r"kernel_size.*got 2\.5"),
    "stride 0": (lambda: nn.Conv2d(1, 1, 3, 0), ValueError, r"stride must.*got 0"),
    "no stride": (lambda: nn.Conv2d(1, 1, 3, None), ValueError, r"stride must.*got None"),
    "padding -1": (lambda: nn.Conv2d(1, 1, 3, padding=-1), ValueError, r"padding must.*from 0 on.*got -1"),
    "padding sam": (lambda: nn.Conv2d(1, 1, 3, padding="sam"), ValueError, r'"valid".*"same"; got \'sam\''),
    "padding same, stride 2": (
        lambda: nn.Conv2d(1, 1, 3, 2, "same"), ValueError, r"for stride 1.*got 'same'.*stride \(2, 2\)",
    ),
    "dilation 0": (lambda: nn.Conv2d(1, 1, 3, dilation=0), ValueError, r"dilation must.*got 0"),
    "groups of the layer": (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, r"divide both; got 3 and 4.*groups=2"),
    "no channels": (lambda: nn.Conv2d(0, 4, 3), ValueError, r"at least one input.*got 0 and 4"),
    "pool of a matrix": (lambda: nn.MaxPool2d(2)(np.zeros((5, 5))), ShapeError, r"max_pool2d.*got \(5, 5\)"),
    "pool too small": (
        lambda: nn.AvgPool2d(2)(np.zeros((3, 1, 5))), ShapeError, r"avg_pool2d.*2 does not fit into 1.*\(3, 1, 5\)",
    ),
    "pool without pixels": (
        lambda: nn.MaxPool2d(2, padding=1)(np.zeros((1, 1, 0, 4))), ShapeError, r"without pixels.*\(1, 1, 0, 4\)",
    ),
    "padding of a pool": (
        lambda: nn.AvgPool2d(3, 1, 2), ValueError, r"AvgPool2d.*half the kernel \(3, 3\); got \(2, 2\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_explained(call, error, text):
    with pytest.raises(error, match=text):
        call()
