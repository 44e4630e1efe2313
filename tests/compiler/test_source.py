"""The code that the compiler writes: that of a tiny network line by line, and what holds for all code."""

import difflib
import pathlib
import traceback

import numpy as np
import pytest

import tinygrad_opt as tg
from tinygrad_opt import Tensor, nn
from tinygrad_opt.nn import functional as F
from tinygrad_opt.rules import network

GOLDEN = pathlib.Path(__file__).with_name("tiny.py.txt")
X = np.array([[0.5, -1.5, 2.0], [1.0, 0.3, -0.7]])


def tiny_network():
    """The source of the loss of a network of two hidden layers, in float32, for batches of 32."""
    tg.set_default_dtype("float32")
    model = nn.MLP([2, 16, 16, 2])
    dict(model.named_parameters())  # gives them their names

    def loss_fn(x, y):
        return F.cross_entropy(model(x), y)

    compiled = tg.compile(loss_fn)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 2)).astype("float32"), rng.integers(0, 2, 32)
    compiled(x, y).backward()
    return compiled, x, y, model


def test_the_source_of_a_tiny_network_is_the_one_on_file():
    source = tiny_network()[0].source
    expected = GOLDEN.read_text(encoding="utf-8")
    difference = "\n".join(
        difflib.unified_diff(expected.split("\n"), source.split("\n"), "tiny.py.txt", "now", "", "", 1)
    )
    if difference:
        pytest.fail(
            f"{difference}\n\nThe generated source is another one. If that is meant, look at the difference, and renew "
            "the file:  python -m tests.compiler.test_source",
            pytrace=False,
        )


def test_the_source_on_file_runs_by_itself_and_gives_the_gradients():
    _, x, y, model = tiny_network()
    space = vars(network) | {"np": np}  # where the functions of the library that it calls are
    exec(compile(GOLDEN.read_text(encoding="utf-8"), str(GOLDEN), "exec"), space)
    parameters = list(model.parameters())
    forward, backward = space["bind"](*(p.data for p in parameters))
    (loss,), saved = forward(x, y)
    expected = F.cross_entropy(model(x), y)
    np.testing.assert_allclose(loss, expected.data, rtol=1e-6)
    gradients = backward(np.float32(1), saved)
    for gradient, wanted in zip(gradients, tg.gradients(expected, parameters), strict=True):
        np.testing.assert_allclose(gradient, wanted.data, rtol=1e-5, atol=1e-7)


def test_the_names_are_those_of_arguments_and_parameters():
    w = Tensor(X, requires_grad=True, name="weight")
    bias = Tensor(np.ones(3), requires_grad=True, name="my bias")

    def affine(x, scale=1.0, *, shift):
        return (x * w * scale + bias + shift["by"]).sum()

    compiled = tg.compile(affine)
    compiled(X, 2.0, shift={"by": X}).backward()
    source = compiled.source
    assert source.startswith("# affine(")
    assert "def bind(weight, my_bias):" in source
    assert "def forward(x, shift):" in source
    assert "d_weight" in source
    assert compiled.report().title in source


def test_errors_in_the_code_show_its_lines():
    compiled = tg.compile(lambda x: np.linalg.inv(x) * 2)
    compiled(np.eye(2))
    with pytest.raises(np.linalg.LinAlgError) as error:
        compiled(np.zeros((2, 2)))
    lines = "".join(traceback.format_exception(error.value))
    assert "np.linalg.inv(x)" in lines.split("in forward")[1].split("\n")[1]


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x * -1.0 - -x,
        lambda x: x[0, 0] * -2.0 - -x[0, 1] / -3.0,
        lambda x: x * np.inf + np.where(x > 0, np.nan, -np.inf),
        lambda x: x * np.float32(np.inf) - np.float32(0.1),
        lambda x: np.where(x > 0, np.full(3, 1e300), np.array([1.0, 2.0, 3.0])),
        lambda x: np.maximum(x, np.array(2.5)) + np.zeros(3, np.int8) + np.ones((2, 3), bool),
        lambda x: x[..., None, ::-1][:, 0, 1:],
        lambda x: x[(0,)] + x[1, ...] + x[-1][None][0],
        lambda x: x[[0, 1], [2, 0]] * x[:, np.array([True, False, True])][0],
        lambda x: np.transpose(x[None], (2, 0, 1)).reshape(3, 2) @ x,
        lambda x: np.einsum("ij,kj->ik", x, x) + np.concatenate((x, x), axis=1)[:, :2],
        lambda x: np.stack(np.split(x, 3, axis=1), axis=0) * x[0, 0],
        lambda x: sum(np.split(x, [1, 2], axis=1)),
        lambda x: np.pad(x, ((1, 0), (0, 1)), mode="constant").astype("float32"),
        lambda x: np.sum(x, axis=(0, 1), keepdims=True) + np.std(x, axis=0, ddof=1),
        lambda x: np.linalg.svd(x, compute_uv=False) + np.linalg.norm(x),
        lambda x: x.astype(">f8") + x.astype(np.float16) + (x > 0) * np.uint8(3),
    ],
)
def test_constants_indices_and_options_are_spelled_right(f):
    compiled = tg.compile(f)
    with np.errstate(all="ignore"):
        for x in (X, X + 1):
            found, expected = compiled(x), f(x)
            np.testing.assert_allclose(found, expected, rtol=1e-12)
            assert found.dtype == expected.dtype
            assert np.shape(found) == np.shape(expected)


def test_arguments_may_be_called_anything():
    def f(np, bind, forward, slice, x_1, memory1, ones, g, max, lambda_, *, sum, **inf):
        parts = [np, bind, forward, slice, x_1, memory1, ones, g, max, lambda_, sum, *inf.values()]
        return globals()["np"].exp(globals()["np"].stack([p * k for k, p in enumerate(parts, 1)])[::2].max(axis=0)) + X

    arrays = [X + k for k in range(10)]
    keywords = {"sum": X, "inf": X, "nan": X * 3, "class": X * 2, "d_x": X}
    np.testing.assert_allclose(tg.compile(f)(*arrays, **keywords), f(*arrays, **keywords))


if __name__ == "__main__":
    GOLDEN.write_text(tiny_network()[0].source, encoding="utf-8")
    print(f"written: {GOLDEN}")
