"""Every layer of the table, and every promise that all layers keep: the two crossed."""

import copy
import pickle

import numpy as np
import pytest

import tinygrad_opt as tg
from tests.gradients import check_first_order, check_second_order, random_like
from tests.nn.table import LAYERS, example, made, takes_indices
from tests.nn.test_losses import BY_CLASS, ELEMENTWISE
from tinygrad_opt import ShapeError, Tensor, nn

every_layer = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
layers_of_numbers = pytest.mark.parametrize(
    "layer",
    [x for x in LAYERS.values() if not takes_indices(x)],
    ids=[n for n in LAYERS if not takes_indices(LAYERS[n])],
)
HAVE_TESTS_OF_THEIR_OWN = {
    "Module", "Sequential", "MLP", "ModuleList", "ModuleDict", "Parameter", "Buffer", "HookHandle", "Summary",
    "summary", "functional", "init", "utils",
}  # fmt: skip


def test_every_layer_and_every_loss_is_in_a_table():
    layers = {type(layer.make()).__name__ for layer in LAYERS.values()}
    losses = {type(row[1]("mean")).__name__ for row in (*ELEMENTWISE.values(), *BY_CLASS.values())}
    assert layers | losses | HAVE_TESTS_OF_THEIR_OWN == set(nn.__all__)


def needs_a_batch(layer):
    """Batch normalisation with the statistics of the batch."""
    module = layer.make()
    return isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and (layer.training or module.running_mean is None)


def call(layer, x, *parameters):
    """The layer on x with other parameters; on arrays, its plain loops."""
    module = made(layer)
    names = [name for name, _ in module.named_parameters()]
    if not any(isinstance(value, Tensor) for value in (x, *parameters)):
        return np.asarray(layer.naive(x, **dict(zip(names, parameters, strict=True))))
    for name, value in zip(names, parameters, strict=True):
        setattr(module, name, value)
    return module(x)


def arrays_of(module):
    return [p.data for p in module.parameters()]


@every_layer
def test_values_against_plain_loops(layer):
    module, x = made(layer), example(layer)
    expected = layer.naive(x, **{name: p.data for name, p in module.named_parameters()})
    given = [Tensor(x), x] if isinstance(module, nn.Identity) else [Tensor(x), x, x.tolist()]
    for value in given:
        result = made(layer)(value)
        assert isinstance(result, (Tensor, type(value)))
        np.testing.assert_allclose(np.asarray(getattr(result, "data", result)), expected, rtol=1e-10, atol=1e-12)


@every_layer
def test_gradients_against_finite_differences_of_the_loops(layer):
    x, parameters = example(layer), arrays_of(made(layer))
    if takes_indices(layer):
        check_first_order(lambda *weights: call(layer, x, *weights), parameters)
    else:
        check_first_order(lambda *args: call(layer, *args), [x, *parameters])


@every_layer
def test_second_derivatives_against_finite_differences(layer):
    x, parameters = example(layer), arrays_of(made(layer))
    if takes_indices(layer):
        check_second_order(lambda *weights: call(layer, x, *weights), parameters)
    else:
        check_second_order(lambda *args: call(layer, *args), [x, *parameters])


def forward_and_back(module, x, upstream_seed=1, dtype="float64"):
    """The result, and the gradients with respect to x and to all parameters, from a random upstream gradient."""
    x = Tensor(
        x, requires_grad=np.asarray(x).dtype.kind == "f", dtype=dtype if np.asarray(x).dtype.kind == "f" else None
    )
    result = module(x)
    if result.requires_grad:
        result.backward(random_like([result.data], upstream_seed)[0].astype(dtype))
    gradients = [x.grad] if x.requires_grad else []
    return result, [*gradients, *(p.grad for p in module.parameters())]


@pytest.mark.parametrize("direction", ["from PyTorch", "to PyTorch"])
@pytest.mark.parametrize(
    "layer", [x for x in LAYERS.values() if x.torch], ids=[n for n, x in LAYERS.items() if x.torch]
)
def test_agrees_with_pytorch_with_moved_weights(layer, direction):
    torch = pytest.importorskip("torch")
    ours, theirs, x = made(layer), layer.torch(torch.nn).double().train(layer.training), example(layer)
    if direction == "from PyTorch":
        ours.load_state_dict(theirs.state_dict())
    else:
        theirs.load_state_dict({name: torch.tensor(array) for name, array in ours.state_dict().items()})
    result, gradients = forward_and_back(ours, x)
    z = torch.tensor(x, requires_grad=x.dtype.kind == "f")
    reference = theirs(z)
    np.testing.assert_allclose(result.data, reference.detach().numpy(), rtol=1e-10, atol=1e-12)
    reference.backward(torch.tensor(random_like([result.data], 1)[0]))
    expected = [*([z.grad] if z.requires_grad else []), *(p.grad for p in theirs.parameters())]
    for ours_g, theirs_g in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(ours_g.data, theirs_g.numpy(), rtol=1e-9, atol=1e-12)
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    for name, array in ours.state_dict().items():  # the running statistics after this batch, too
        assert array.shape == tuple(state[name].shape)
        np.testing.assert_allclose(array, state[name].numpy(), rtol=1e-12, err_msg=name)


@every_layer
def test_float32_stays_float32(layer, float32):
    """Values, gradients and running statistics; the inputs are a float32 Tensor, a float64 array, and integers."""
    module, x = made(layer, "float32"), example(layer)
    result, gradients = forward_and_back(module, x, dtype="float32")
    others = [] if isinstance(module, nn.Identity) else [made(layer, "float32")(x)]
    if x.dtype.kind == "f" and not isinstance(module, (nn.Identity, nn.Flatten)):
        others.append(made(layer, "float32")(Tensor(np.rint(10 * x).astype(int))))
    for tensor in (result, *others, *gradients, *(b for b in module.buffers() if b.ndim)):
        assert tensor.dtype == np.float32
    expected, exact = forward_and_back(made(layer), x)
    np.testing.assert_allclose(result.data, expected.data, rtol=1e-4, atol=1e-5)
    for rounded, g in zip(gradients, exact, strict=True):
        np.testing.assert_allclose(rounded.data, g.data, rtol=1e-3, atol=1e-4)


@layers_of_numbers
def test_integer_tensors_are_numbers(layer):
    x = np.rint(3 * example(layer)).astype(int)
    expected = made(layer)(Tensor(x.astype(float))).data
    for dtype in ("int64", "int8"):
        result = made(layer)(Tensor(x.astype(dtype)))
        np.testing.assert_array_equal(result.data, expected)


def strided(array):
    """The same numbers, laid out backwards and with gaps."""
    wide = np.zeros([2 * n for n in array.shape], array.dtype)
    view = wide[tuple(slice(None, None, -2) for _ in array.shape)]
    view[...] = array
    assert not view.flags.c_contiguous
    return view


@every_layer
def test_memory_layout_does_not_matter(layer):
    x = example(layer)
    plain, module, again = made(layer), made(layer), Tensor(0.0)
    result, gradients = forward_and_back(plain, x)
    again.data = strided(x)
    for parameter in module.parameters():
        parameter.data = strided(parameter.data)
    again.requires_grad = x.dtype.kind == "f"
    value = module(again)
    np.testing.assert_allclose(value.data, result.data, rtol=1e-12)
    value.backward(strided(random_like([result.data], 1)[0]))
    for a, b in zip(
        [again, *module.parameters()] if again.requires_grad else module.parameters(), gradients, strict=True
    ):
        np.testing.assert_allclose(a.grad.data, b.data, rtol=1e-11, atol=1e-13)


@every_layer
def test_one_example_is_the_first_of_many(layer):
    x = example(layer, batch=3)
    if needs_a_batch(layer) and x[:1].size == x.shape[1]:
        with pytest.raises(ShapeError, match=rf"more than one value for each channel.*\(1, {x.shape[1]}\)"):
            made(layer)(x[:1])
    elif not needs_a_batch(layer):
        np.testing.assert_allclose(made(layer)(Tensor(x[:1])).data, made(layer)(Tensor(x)).data[:1], rtol=1e-12)


@every_layer
def test_no_examples_give_no_results_or_a_reason(layer):
    x = example(layer, batch=0)
    if needs_a_batch(layer):
        with pytest.raises(ShapeError, match=r"\(0, "):
            made(layer)(x)
        return
    module = made(layer)
    result, gradients = forward_and_back(module, x)
    assert result.shape == (0, *made(layer)(Tensor(example(layer, batch=2))).shape[1:])
    for g, array in zip(gradients, [x, *arrays_of(module)] if x.dtype.kind == "f" else arrays_of(module), strict=True):
        np.testing.assert_array_equal(g.data, np.zeros(array.shape))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
@every_layer
def test_a_copy_computes_the_same_and_shares_nothing(layer, copied):
    module, x = made(layer), Tensor(example(layer))
    twin = copied(module)
    assert repr(twin) == repr(module)
    assert twin.training is module.training
    before = module.state_dict()
    np.testing.assert_array_equal(twin(x).data, module(x).data)
    assert [(name, type(p), p.requires_grad) for name, p in twin.named_parameters()] == [
        (name, nn.Parameter, True) for name, _ in module.named_parameters()
    ]
    assert [name for name, _ in twin.named_buffers()] == [name for name, _ in module.named_buffers()]
    module.load_state_dict(before)
    for tensor in (*twin.parameters(), *twin.buffers()):
        tensor.data[...] = 99
    for name, array in module.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@every_layer
def test_repr_is_the_call_that_makes_it(layer):
    line = repr(layer.make()).splitlines()[0].split("  #")[0]
    twin = eval(line, vars(nn))
    assert repr(twin) == repr(layer.make())
    assert {name: a.shape for name, a in twin.state_dict().items()} == {
        name: a.shape for name, a in layer.make().state_dict().items()
    }


@every_layer
def test_nothing_is_recorded_without_gradients(layer):
    module = made(layer)
    with tg.no_grad():
        assert module(Tensor(example(layer))).node is None
