"""Module: finding parameters, modes, repr, and state dicts."""

import numpy as np
import pytest

import tinygrad_opt as tg
from tinygrad_opt import StateDictError, nn


class Block(nn.Module):
    def __init__(self, shared):
        self.inner = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        self.scale = nn.Parameter(np.ones(3))
        self.shared = shared
        self.note = "not a parameter"


class Net(nn.Module):
    def __init__(self):
        shared = nn.Linear(3, 3, bias=False)
        self.first = Block(shared)
        self.second = Block(shared)
        self.tied = shared.weight
        self.head = nn.Linear(3, 1)

    def forward(self, x):
        for block in (self.first, self.second):
            x = block.shared(block.inner(x[..., :2]) * block.scale)
        return self.head(x)


NAMES = [
    "tied", "first.scale", "first.inner.0.weight", "first.inner.0.bias",
    "second.scale", "second.inner.0.weight", "second.inner.0.bias", "head.weight", "head.bias",
]  # fmt: skip
SHAPES = {"tied": (3, 3), "first.scale": (3,), "head.weight": (1, 3), "head.bias": (1,)}


def test_named_parameters_finds_each_once_with_dotted_names():
    net = Net()
    found = dict(net.named_parameters())
    assert sorted(found) == sorted(NAMES)
    assert len(list(net.parameters())) == len({id(p) for p in net.parameters()}) == 9
    assert found["tied"] is net.first.shared.weight is net.second.shared.weight
    assert found["head.bias"].name == "head.bias"


def test_named_modules_finds_each_once():
    names = [name for name, _ in Net().named_modules()]
    assert names[0] == ""
    assert len(names) == len(set(names))
    assert {"first", "first.inner", "first.inner.0", "first.shared", "second.inner.1", "head"} <= set(names)
    assert "second.shared" not in names
    assert list(Net().children()) == ["first", "second", "head"]


def test_parameters_follow_the_attributes():
    net = nn.Linear(2, 2)
    net.extra = nn.Parameter([1.0])
    assert [n for n, _ in net.named_parameters()] == ["weight", "bias", "extra"]
    del net.extra
    net.bias = None
    assert [n for n, _ in net.named_parameters()] == ["weight"]


def test_shared_parameters_get_the_gradients_of_both_uses():
    net = Net()
    net(np.ones((4, 3))).sum().backward()
    twice = net.tied.grad.data.copy()
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    single = []
    for used in (net.first, net.second):
        other = nn.Linear(3, 3, bias=False)
        other.weight.data = net.tied.data.copy()
        kept, used.shared = used.shared, other
        net(np.ones((4, 3))).sum().backward()
        single.append(other.weight.grad.data)
        used.shared = kept
    np.testing.assert_allclose(twice, sum(single), rtol=1e-12)


def test_train_and_eval_reach_every_module():
    net = Net()
    assert all(m.training for m in net.modules())
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    net.first.train()
    assert net.first.inner[0].training
    assert not net.head.training
    assert net.train().head.training


def test_repr_is_a_tree_with_counts():
    lines = repr(nn.Sequential(nn.Linear(3, 2), nn.Sequential(nn.Tanh(), nn.Linear(2, 1000, bias=False)))).splitlines()
    assert lines == [
        "Sequential(",
        "  (0): Linear(3, 2)  # 8",
        "  (1): Sequential(",
        "    (0): Tanh()",
        "    (1): Linear(2, 1000, bias=False)  # 2,000",
        "  )",
        ")",
        "2,008 parameters",
    ]


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match=r"Block has no forward\(\)"):
        Block(nn.ReLU())(np.ones(2))


# State ---------------------------------------------------------------------------------------------------------------


def test_state_goes_round():
    net, twin = Net(), Net()
    state = net.state_dict()
    twin.load_state_dict(state)
    x = np.random.default_rng(0).normal(size=(4, 3))
    np.testing.assert_array_equal(twin(x).data, net(x).data)
    state["head.bias"][...] = 99
    assert net.head.bias.item() != 99
    assert twin.head.bias.item() != 99


def test_loading_keeps_dtype_and_memory():
    layer = nn.Linear(2, 1)
    memory = layer.weight.data
    layer.load_state_dict({"weight": np.float32([[1, 2]]), "bias": [3]})
    assert layer.weight.data is memory
    assert layer.weight.dtype == np.float64
    np.testing.assert_array_equal(layer.weight.data, [[1, 2]])


def test_loading_takes_tensors():
    layer, other = nn.Linear(2, 1), nn.Linear(2, 1)
    layer.load_state_dict(dict(other.named_parameters()))
    np.testing.assert_array_equal(layer.weight.data, other.weight.data)


def without(name):
    return lambda state: state.pop(name)


def with_entry(name, shape):
    return lambda state: state.update({name: np.ones(shape)})


MISFITS = {
    "missing": (without("tied"), r"nothing was loaded.*missing: tied \(3, 3\)"),
    "extra": (with_entry("tail.weight", (2, 2)), r"unknown: tail\.weight \(2, 2\)"),
    "misshapen": (with_entry("head.bias", (7,)), r"head\.bias: shape \(7,\) in the state, \(1,\) in the model"),
    "broadcastable": (with_entry("first.scale", (1,)), r"first\.scale: shape \(1,\).*\(3,\)"),
    "empty": (lambda state: state.clear(), r"missing: first\.inner\.0\.bias.*missing: tied"),
}


@pytest.mark.parametrize(("spoil", "text"), MISFITS.values(), ids=MISFITS)
def test_a_state_that_does_not_fit_changes_nothing(spoil, text):
    net, other = Net(), Net()
    before = net.state_dict()
    state = other.state_dict()
    spoil(state)
    with pytest.raises(StateDictError, match=text) as caught:
        net.load_state_dict(state)
    assert isinstance(caught.value, ValueError)
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_names_in_the_table_are_right():
    assert {name: p.shape for name, p in Net().named_parameters() if name in SHAPES} == SHAPES


# Hooks before forward -------------------------------------------------------------------------------------------------


def test_a_hook_before_forward_sees_the_arguments_and_may_replace_them():
    layer, seen = nn.Linear(2, 1, bias=False), []
    handle = layer.register_forward_pre_hook(lambda module, args: seen.append((module, args)))
    x = np.ones((3, 2))
    plain = layer(x).data
    assert seen == [(layer, (x,))]
    with layer.register_forward_pre_hook(lambda module, args: 2 * args[0]):  # one value, not a tuple
        np.testing.assert_allclose(layer(x).data, 2 * plain)
    with layer.register_forward_pre_hook(lambda module, args: (3 * args[0],)):
        np.testing.assert_allclose(layer(x).data, 3 * plain)
    handle.remove()
    layer(x)
    assert len(seen) == 3
    with pytest.raises(TypeError, match="a hook is a function"):
        layer.register_forward_pre_hook("print")


# Parameters that would be lost ----------------------------------------------------------------------------------------


def test_a_parameter_is_not_replaced_by_an_array_or_a_constant():
    model = nn.Linear(2, 1)
    before = dict(vars(model))
    with pytest.raises(TypeError, match=r"Linear\.weight is a Parameter.*ndarray.*m\.weight\.data"):
        model.weight = np.zeros((1, 2))
    with tg.no_grad(), pytest.raises(TypeError, match=r"Linear\.bias is a Parameter.*Tensor"):
        model.bias = model.bias - 0.1
    assert vars(model) == before
    model.bias = None
    model.weight = nn.Parameter([[1.0, 2.0]])
    assert list(model.state_dict()) == ["weight"]
    with tg.no_grad():
        model.weight -= 1.0
    assert model.weight.tolist() == [[0, 1]]


def test_a_tensor_may_take_the_place_of_a_parameter():
    model = nn.Linear(2, 1, bias=False)
    model.weight = nn.Parameter([[1.0, 2.0]]) * 2
    assert model(np.ones((1, 2))).item() == 6
