"""ModuleList, ModuleDict and Sequential: what they hold is found, and wrong entries change nothing."""

import copy
import pickle

import numpy as np
import pytest

from tinygrad_opt import Tensor, nn

X = np.random.default_rng(0).normal(size=(4, 3))


class Heads(nn.Module):
    """Modules in a list and in a dict, one of them in both."""

    def __init__(self):
        self.layers = nn.ModuleList([nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.Tanh())])
        self.heads = nn.ModuleDict({"a": nn.Linear(3, 1), "b": self.layers[0]})

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return {name: head(x) for name, head in self.heads.items()}


NAMES = ["layers.0.weight", "layers.0.bias", "layers.1.0.weight", "layers.1.0.bias", "heads.a.weight", "heads.a.bias"]


def test_parameters_of_nested_containers_are_found_once():
    model = Heads()
    assert [name for name, _ in model.named_parameters()] == NAMES
    assert sorted(model.state_dict()) == sorted([*NAMES, "heads.b.weight", "heads.b.bias"])
    assert model.eval().layers[1][1].training is False
    results = model(X)
    (results["a"].sum() + results["b"].sum()).backward()
    assert all(p.grad is not None for p in model.parameters())
    twin = Heads()
    twin.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(twin(X)["b"].data, results["b"].data)


def test_the_state_of_nested_containers_is_pytorchs():
    torch = pytest.importorskip("torch")
    n = torch.nn
    theirs = n.ModuleDict(
        {"body": n.ModuleList([n.Linear(3, 2), n.Sequential(n.Linear(2, 2))]), "head": n.Linear(2, 1)}
    )
    ours = nn.ModuleDict(
        {"body": nn.ModuleList([nn.Linear(3, 2), nn.Sequential(nn.Linear(2, 2))]), "head": nn.Linear(2, 1)}
    )
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict({name: torch.tensor(a) for name, a in ours.state_dict().items()})
    for name, array in ours.state_dict().items():
        np.testing.assert_array_equal(array, theirs.state_dict()[name].numpy().astype(float))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies_keep_what_is_shared_and_share_nothing_else(copied):
    model = Heads()
    twin = copied(model)
    assert twin.heads["b"] is twin.layers[0]
    assert twin.layers[0] is not model.layers[0]
    assert [name for name, _ in twin.named_parameters()] == NAMES
    np.testing.assert_array_equal(twin(X)["a"].data, model(X)["a"].data)
    for parameter in twin.parameters():
        parameter.data[...] = 0
    assert all(np.any(p.data) for p in model.parameters())


def modules(count=3):
    return [nn.Linear(2, n + 1) for n in range(count)]


@pytest.mark.parametrize("kind", [nn.ModuleList, lambda given: nn.Sequential(*given)], ids=["ModuleList", "Sequential"])
def test_a_list_of_modules_does_what_a_list_does(kind):
    """Every operation once on a plain list and once on the modules: the same is in them, and named 0, 1, ..."""
    operations = [
        lambda m, new: m.append(new[0]),
        lambda m, new: m.extend(new),
        lambda m, new: m.insert(0, new[0]),
        lambda m, new: m.insert(-1, new[0]),
        lambda m, new: m.insert(99, new[0]),
        lambda m, new: m.__setitem__(1, new[0]),
        lambda m, new: m.__setitem__(-1, new[1]),
        lambda m, new: m.__setitem__(slice(0, 2), new),
        lambda m, new: m.__delitem__(0),
        lambda m, new: m.__delitem__(-1),
        lambda m, new: m.__delitem__(slice(1, None)),
        lambda m, new: m.extend(list(m)[:0]),
    ]
    for operation in operations:
        given, new = modules(), modules(2)
        plain, ours = list(given), kind(given)
        operation(plain, new)
        operation(ours, new)
        assert list(ours) == plain
        assert len(ours) == len(plain)
        assert list(ours.children()) == [str(n) for n in range(len(plain))]
        assert [ours[n] for n in range(-len(plain), len(plain))] == plain + plain
        assert plain[0] in ours
        for part in (slice(1), slice(1, None), slice(None, None, -1), slice(0, 0)):
            assert list(ours[part]) == plain[part]
            assert type(ours[part]) is type(ours)


def test_a_slice_shares_its_modules_and_runs():
    model = nn.MLP([3, 4, 2])
    part = model[:2]
    assert type(part) is nn.Sequential
    assert part[0] is model[0]
    np.testing.assert_array_equal(model[2](part(X)).data, model(X).data)


def test_append_and_extend_return_the_list():
    layers = nn.ModuleList()
    assert layers.append(nn.ReLU()).extend([nn.Tanh()]) is layers
    assert len(layers) == 2


def test_a_wrong_entry_changes_nothing():
    for wrong in (
        lambda m: m.append(3),
        lambda m: m.extend([nn.ReLU(), "x"]),
        lambda m: m.insert(0, nn.ReLU),
        lambda m: m.__setitem__(0, None),
        lambda m: m.__setitem__(slice(0, 1), [nn.ReLU(), 3]),
    ):
        layers = nn.Sequential(*(given := modules()))
        with pytest.raises(TypeError, match=r"(Sequential|ModuleList) takes modules"):
            wrong(layers)
        assert list(layers) == given
    layers = nn.ModuleList(given)
    for wrong in (lambda m: m[3], lambda m: m.__delitem__(7), lambda m: m.__setitem__(3, nn.ReLU())):
        with pytest.raises(IndexError):
            wrong(layers)
    assert list(layers) == given


def test_a_dict_of_modules_does_what_a_dict_does():
    a, b, c = modules()
    heads = nn.ModuleDict({"a": a})
    heads["b"] = b
    heads.update([("c", c), ("a", b)])
    assert (list(heads), list(heads.keys())) == (["a", "b", "c"], ["a", "b", "c"])
    assert list(heads.values()) == [b, b, c]
    assert list(heads.items()) == [("a", b), ("b", b), ("c", c)]
    assert ("a" in heads, "x" in heads, len(heads)) == (True, False, 3)
    assert heads.pop("a") is b
    del heads["b"]
    assert [name for name, _ in heads.named_parameters()] == ["c.weight", "c.bias"]
    assert heads["c"] is c


WRONG = {
    "a class": (lambda: nn.ModuleList([nn.ReLU(), nn.ReLU]), TypeError, r"number 1 is.*Did you mean ReLU\(\)\?"),
    "a list in Sequential": (lambda: nn.Sequential([nn.ReLU()]), TypeError, r"number 0 is a list.*\(\*layers\)"),
    "a function": (lambda: nn.Sequential(np.tanh), TypeError, r"number 0 is.*tanh.*Wrap it in a Module"),
    "calling a list": (lambda: nn.ModuleList([nn.ReLU()])(X), NotImplementedError, r"ModuleList has no forward"),
    "calling a dict": (lambda: nn.ModuleDict({"a": nn.ReLU()})(X), NotImplementedError, r"ModuleDict has no forward"),
    "a class in a dict": (lambda: nn.ModuleDict({"a": nn.ReLU}), TypeError, r"'a' is.*Did you mean ReLU\(\)\?"),
    "no such name": (lambda: nn.ModuleDict({"a": nn.ReLU()})["b"], KeyError, r"no module 'b'; there are 'a'"),
    "no such name to take": (lambda: nn.ModuleDict().pop("b"), KeyError, r"no module 'b'; there are none"),
    "no such name to delete": (lambda: nn.ModuleDict().__delitem__("b"), KeyError, r"no module 'b'"),
    "a name of modules": (lambda: nn.ModuleDict({"forward": nn.ReLU()}), KeyError, r"cannot be called 'forward'"),
    "the mode": (lambda: nn.ModuleDict({"training": nn.ReLU()}), KeyError, r"cannot be called 'training'"),
    "a dot": (lambda: nn.ModuleDict({"a.b": nn.ReLU()}), KeyError, r"cannot be called 'a\.b'.*without dots"),
    "a number for a name": (lambda: nn.ModuleDict({1: nn.ReLU()}), KeyError, r"cannot be called 1: a name is a string"),
    "no name": (lambda: nn.ModuleDict({"": nn.ReLU()}), KeyError, r"cannot be called ''"),
    "an activation that is made": (lambda: nn.MLP([3, 2, 1], nn.Tanh()), TypeError, r"the class.*Tanh\(\)"),
    "the name of an activation": (lambda: nn.MLP([3, 2, 1], "relu"), TypeError, "the class.*'relu'"),
    "the name of a file as a state": (lambda: nn.MLP([3, 1]).load_state_dict("x.npz"), TypeError, "a dict.*'x.npz'"),
    "one size": (lambda: nn.MLP(3), ValueError, r"\[2, 16, 1\]; got 3"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_explained(call, error, text):
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize("value", [[nn.Linear(2, 2)], (nn.Linear(2, 2),), {"a": nn.Linear(2, 2)}], ids=repr)
def test_modules_in_a_plain_list_or_dict_are_refused(value):
    model = nn.Linear(2, 2)
    model.layers = value
    better = "ModuleDict" if isinstance(value, dict) else "ModuleList"
    for use in (lambda: list(model.parameters()), model.state_dict, model.eval, lambda: repr(model)):
        with pytest.raises(TypeError, match=rf"Linear\.layers is a {type(value).__name__}.*nn\.{better}"):
            use()


@pytest.mark.parametrize("value", [[nn.Parameter([1.0])], {"a": [nn.Linear(2, 2)]}, ([[nn.Buffer(1.0)]],)], ids=repr)
def test_parameters_and_modules_in_nested_lists_are_refused(value):
    model = nn.Linear(2, 2)
    model.parts = value
    for use in (lambda: list(model.parameters()), model.state_dict):
        with pytest.raises(TypeError, match=r"Linear\.parts is a .*not be found"):
            use()


def test_a_list_of_what_a_module_has_as_attributes_too():
    model = nn.Sequential(nn.Linear(2, 2))
    model.scale = nn.Parameter([1.0])
    model.known = [model.scale, model[0]]
    assert len(list(model.parameters())) == 3


# Hooks ---------------------------------------------------------------------------------------------------------------


def test_hooks_see_arguments_and_results_until_they_are_removed():
    model, seen = nn.MLP([3, 4, 2]), []
    handle = model[0].register_forward_hook(lambda module, args, result: seen.append((module, args, result)))
    model(X)
    assert len(seen) == 1
    module, (x,), result = seen[0]
    assert module is model[0]
    assert x is X
    np.testing.assert_allclose(result.data, X @ model[0].weight.data.T + model[0].bias.data)
    assert isinstance(handle, nn.HookHandle)
    handle.remove()
    handle.remove()
    model(X)
    assert len(seen) == 1


def test_what_a_hook_returns_takes_the_place_of_the_result():
    layer = nn.Linear(3, 2)
    plain = layer(X).data
    first = layer.register_forward_hook(lambda module, args, result: result * 2)
    second = layer.register_forward_hook(lambda module, args, result: result + 1)
    doubled = layer(X)
    np.testing.assert_allclose(doubled.data, 2 * plain + 1)
    doubled.sum().backward()
    np.testing.assert_allclose(layer.bias.grad.data, [8, 8])
    first.remove()
    np.testing.assert_allclose(layer(X).data, plain + 1)
    second.remove()
    np.testing.assert_array_equal(layer(X).data, plain)


def test_hooks_belong_to_one_module_and_leave_with_a_with_block():
    a, b, calls = nn.ReLU(), nn.ReLU(), []
    with a.register_forward_hook(lambda *args: calls.append(1)):
        b(X)
        a(X)
    a(X)
    assert calls == [1]


def test_a_hook_may_remove_itself():
    layer, calls = nn.ReLU(), []

    def once(module, args, result):
        calls.append(1)
        handle.remove()

    handle = layer.register_forward_hook(once)
    layer.register_forward_hook(lambda *args: calls.append(2))
    layer(X)
    layer(X)
    assert calls == [1, 2, 2]


def test_hooks_are_no_part_of_the_state_and_are_copied_with_the_model():
    model = nn.Sequential(nn.Linear(3, 2))
    handle = model[0].register_forward_hook(lambda module, args, result: result * 2)
    assert list(model.state_dict()) == ["0.weight", "0.bias"]
    assert list(model.children()) == ["0"]
    twin = copy.deepcopy(model)
    np.testing.assert_array_equal(twin(X).data, model(X).data)
    handle.remove()
    np.testing.assert_array_equal(twin(X).data, 2 * model(X).data)
    pickle.loads(pickle.dumps(model))


def test_a_hook_has_to_be_callable():
    with pytest.raises(TypeError, match=r"a hook is a function.*; got 3"):
        nn.ReLU().register_forward_hook(3)


# Buffers -------------------------------------------------------------------------------------------------------------


def test_buffers_are_saved_and_not_learned():
    class Counter(nn.Module):
        def __init__(self):
            self.calls = nn.Buffer(0)
            self.scale = nn.Buffer([1.0, 2.0], dtype="float32")
            self.same = self.scale

        def forward(self, x):
            self.calls.data = self.calls.data + 1
            return x * self.scale

    model = Counter()
    x = Tensor([1.0, 1.0], requires_grad=True)
    model(x).sum().backward()
    assert list(model.parameters()) == []
    assert [name for name, _ in model.named_buffers()] == ["calls", "scale"]
    assert len(list(model.buffers())) == 2
    assert not any(buffer.requires_grad for buffer in model.buffers())
    state = model.state_dict()
    assert {name: (a.dtype.kind, a.tolist()) for name, a in state.items()} == {
        "calls": ("i", 1), "scale": ("f", [1, 2]), "same": ("f", [1, 2]),
    }  # fmt: skip
    twin = Counter()
    twin.load_state_dict(state)
    assert (twin.calls.item(), repr(twin.calls)) == (1, "Buffer(1)")
