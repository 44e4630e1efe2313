"""The graph as nodes and edges: what is in it, in which boxes, and how it is folded. No Graphviz is needed."""

import itertools

import numpy as np
import pytest

import tinygrad_opt as tg
from tinygrad_opt import GraphError, Tensor, graph, nn, viz
from tinygrad_opt.nn import functional as F
from tinygrad_opt.rules.registry import TABLE
from tinygrad_opt.viz.model import describe
from tinygrad_opt.viz.rule_text import rule_text

rng = np.random.default_rng(0)
X = rng.normal(size=(5, 4))
CLASSES = np.array([0, 2, 1, 1, 0])


def leaf(value, name=None):
    return Tensor(value, requires_grad=True, name=name)


def labels(picture):
    return [node.label for node in picture.nodes]


def arrows(picture):
    """The edges by the labels of their ends."""
    label = {node.id: node.label for node in picture.nodes}
    return [(label[e.source], label[e.target]) for e in picture.edges]


def by_label(picture):
    return {node.label: node for node in picture.nodes}


def test_calls_leaves_and_constants_in_the_order_of_the_computation():
    a, b = leaf([1.0, 2.0], "a"), leaf(3.0, "b")
    picture = viz.graph_model(((a * b + np.array([5.0, 6.0])) * 2 - 1).sum())
    assert labels(picture) == ["a", "b", "×", "constant", "+", "× 2", "− 1", "Σ"]
    assert arrows(picture) == [
        ("a", "×"), ("b", "×"), ("×", "+"), ("constant", "+"), ("+", "× 2"), ("× 2", "− 1"), ("− 1", "Σ"),
    ]  # fmt: skip
    kinds = {node.label: node.kind for node in picture.nodes}
    assert kinds == dict.fromkeys(kinds, "op") | {"a": "parameter", "b": "parameter", "constant": "constant"}
    assert [node.output for node in picture.nodes] == [False] * 7 + [True]
    assert [node.shape for node in picture.nodes] == [(2,), (), (2,), (2,), (2,), (2,), (2,), ()]
    assert {node.dtype for node in picture.nodes} == {"float64"}
    assert [node.id for node in picture.nodes] == [f"n{i}" for i in range(8)]


def test_one_thing_used_twice_has_two_arrows_and_one_node():
    a = leaf(3.0, "a")
    constant = np.ones(2)
    picture = viz.graph_model((a * a) * constant + constant)
    assert labels(picture) == ["a", "×", "constant", "×", "+"]
    assert arrows(picture).count(("a", "×")) == 2
    assert arrows(picture).count(("constant", "+")) == 1


PLACES = np.array([[0], [1]])
LABELS = {
    "number first": (lambda a: 2 - a, "2 −", ""),
    "power": (lambda a: a**3, "^ 3", ""),
    "index": (lambda a: a[0, ..., 1:3], "[0, …, 1:3]", ""),
    "steps": (lambda a: a[::2], "[::2]", ""),
    "mask": (lambda a: a[a > 0], "[mask]", ""),
    "places": (lambda a: a[np.array([0, 1])], "[2 places]", ""),
    "axis": (lambda a: a.sum(axis=1), "Σ", "axis 1"),
    "axes": (lambda a: a.mean(axis=(0, 1), keepdims=True), "mean", "axis 0, 1, keepdims True"),
    "positional": (lambda a: F.softmax(a, 0), "softmax", "axis 0"),
    "shape": (lambda a: a.reshape(6), "reshape", "shape 6"),
    "an array as an option": (lambda a: np.take_along_axis(a, PLACES, axis=1), "take_along_axis", "axis 1"),
    "unknown symbol": (lambda a: np.arctan(a), "arctan", ""),
    "linalg": (lambda a: np.linalg.inv(a[:, :2]), "linalg.inv", ""),
}


@pytest.mark.parametrize(("call", "label", "detail"), LABELS.values(), ids=LABELS)
def test_labels_are_in_the_notation_of_the_field(call, label, detail):
    node = viz.graph_model(call(leaf(rng.normal(size=(2, 3))))).nodes[-1]
    assert (node.label, node.detail) == (label, detail)


def test_lists_of_arrays_and_several_results():
    a, b = leaf([1.0, 2.0], "a"), leaf([3.0, 4.0], "b")
    picture = viz.graph_model(np.concatenate([a, np.ones(3), b]))
    assert arrows(picture) == [("a", "concatenate"), ("constant", "concatenate"), ("b", "concatenate")]
    first, _ = np.split(leaf(np.ones(4), "c"), 2)
    picture = viz.graph_model(first * 2, gradients=True, values=True)
    assert labels(picture) == ["c", "split, 2 results", "result 0", "× 2"]
    assert picture.nodes[1].gradient == "not computed"


def test_values_and_gradients_are_written_without_touching_grad():
    a, b = leaf(2.0, "a"), leaf([1.0, -1.0], "b")
    a.grad = 7.0
    out = (a * b).sum() + np.zeros(3)
    for _ in range(2):  # the graph is not freed
        nodes = by_label(viz.graph_model(out, values=True, gradients=True))
    assert (nodes["a"].value, nodes["a"].gradient) == ("2", "0")
    assert (nodes["b"].value, nodes["b"].gradient) == ("[1, -1]", "[6, 6]")
    assert nodes["b"].magnitude == 6
    assert (nodes["constant"].gradient, nodes["constant"].magnitude) == ("not computed", None)
    assert nodes["+"].gradient == "[1, 1, 1]"  # that of the sum
    assert a.grad.item() == 7
    assert b.grad is None
    out.sum().backward()
    assert b.grad.tolist() == [6, 6]
    plain = viz.graph_model(leaf(1.0) * 2)
    assert plain.nodes[0].value is plain.nodes[0].gradient is plain.nodes[0].magnitude is None


def test_gradients_are_those_of_backward():
    model = nn.MLP([4, 6, 3], nn.Tanh)
    picture = viz.graph_model(model, X, loss=lambda scores: F.cross_entropy(scores, CLASSES), gradients=True)
    F.cross_entropy(model(X), CLASSES).backward()
    for name, p in model.named_parameters():
        node = by_label(picture)[name]
        assert node.gradient == describe(p.grad.data)
        assert node.magnitude == pytest.approx(np.sqrt(np.mean(p.grad.data**2)))


def test_where_no_gradient_comes_there_is_none():
    a, b = leaf([1.0, 2.0], "a"), leaf([3.0, 4.0], "b")
    masked = np.where([True, True], a, b)
    nodes = by_label(viz.graph_model(masked * a.detach(), gradients=True))
    assert nodes["a"].gradient == "[1, 2]"
    assert nodes["b"].gradient == "[0, 0]"
    assert nodes["constant"].gradient == "not computed"


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.array(2.0), "2"),
        (np.array([1.23456, -2.0]), "[1.235, -2]"),
        (np.zeros((2, 3)), "[[0, 0, 0], [0, 0, 0]]"),
        (np.array([1, 2, 3]), "[1, 2, 3]"),
        (np.arange(7.0), "3 ± 2, 0 … 6"),
        (np.arange(10) > 6, "3 of 10 are True"),
        (np.array([]), "[]"),
        (np.array([np.nan] * 7), "nan ± nan, nan … nan"),
        (np.array([np.inf, 1.0] * 4), "inf ± nan, 1 … inf"),
    ],
)
def test_arrays_in_a_few_words(array, text):
    assert describe(array) == text


# Names ---------------------------------------------------------------------------------------------------------------


def test_names_come_from_tensors_modules_and_the_caller():
    model = nn.Linear(4, 3)
    x = np.ones((2, 4))
    out = model(x)
    assert labels(viz.graph_model(out)) == ["leaf", "leaf", "constant", "x Wᵀ + b"]
    assert set(labels(viz.graph_model(out, names=model))) == {"weight", "bias", "constant", "x Wᵀ + b"}
    renamed = viz.graph_model(out, names={"W": model.weight, "the data": x, "scores": out})
    assert set(labels(renamed)) == {"W", "bias", "the data", "scores = x Wᵀ + b"}
    assert labels(viz.graph_model(model, x))[2] == "input"
    named = leaf(1.0)
    named.name = "late"
    result = named * 2
    result.name = "double"
    assert labels(viz.graph_model(result + 1)) == ["late", "double = × 2", "+ 1"]


def test_constants_have_the_names_of_their_tensors():
    x = Tensor([1.0, 2.0], name="x")
    mask = Tensor([1.0, 0.0])
    mask.name = "mask"
    result = leaf([3.0, 4.0], "w") * x * mask
    assert labels(viz.graph_model(result)) == ["w", "x", "×", "mask", "×"]
    assert labels(viz.graph_model(result, names={"data": x}))[1] == "data"
    assert labels(viz.graph_model(leaf(1.0, "w") * Tensor(2.0, name="rate") * 3)) == ["w", "rate", "×", "× 3"]
    mask.name = None
    assert "constant" in labels(viz.graph_model(result))
    array = x.data
    del x, result
    assert graph.name_of_array(array) == "x"
    assert graph.name_of_array(array.copy()) is None
    known = len(graph._array_names)
    del array
    assert len(graph._array_names) == known - 1


def test_equal_names_stay_apart():
    a, b = leaf(1.0, "w"), leaf(2.0, "w")
    picture = viz.graph_model(a * b)
    assert labels(picture) == ["w", "w", "×"]
    assert len({node.id for node in picture.nodes}) == 3


# Modules -------------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self):
        self.linear = nn.Linear(4, 4)
        self.scale = nn.Parameter(np.ones(4))

    def forward(self, x):
        return x + self.scale * np.tanh(self.linear(x))


class Net(nn.Module):
    def __init__(self):
        self.blocks = nn.Sequential(Block(), Block())
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        return self.head(self.blocks(x)).sum()


def test_each_node_is_in_the_box_of_the_module_that_made_it():
    picture = viz.graph_model(Net(), X)
    boxes = {}
    for node in picture.nodes:
        boxes.setdefault(node.box[1:], []).append(node.label)
    assert boxes == {
        (): ["input", "Σ"],
        ("blocks", "0"): ["blocks.0.scale", "tanh", "×", "+"],
        ("blocks", "0", "linear"): ["blocks.0.linear.weight", "blocks.0.linear.bias", "x Wᵀ + b"],
        ("blocks", "1"): ["blocks.1.scale", "tanh", "×", "+"],
        ("blocks", "1", "linear"): ["blocks.1.linear.weight", "blocks.1.linear.bias", "x Wᵀ + b"],
        ("head",): ["head.weight", "head.bias", "x Wᵀ + b"],
    }
    assert by_label(picture)["input"].box == ()
    assert by_label(picture)["Σ"].box == ("model",)
    assert picture.titles[("model",)] == "Net"
    assert picture.titles[("model", "blocks", "1", "linear")] == "linear: Linear"


def test_recording_leaves_no_hooks_behind_also_after_an_error():
    model = Net()
    with pytest.raises(ValueError, match="linear needs inputs"):
        viz.graph_model(model, np.ones((2, 3)))
    viz.graph_model(model, X)
    assert not any(m._hooks.before or m._hooks.after for m in model.modules())


def test_a_module_that_is_called_twice_has_two_boxes():
    class Twice(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(np.tanh(self.layer(x)))

    picture = viz.graph_model(Twice(), X)
    calls = [node.box for node in picture.nodes if node.label == "x Wᵀ + b"]
    assert calls == [("model", "layer"), ("model", "layer, call 2")]
    assert picture.titles[calls[1]] == "layer: Linear, call 2"
    assert len([n for n in picture.nodes if n.kind == "parameter"]) == 2
    folded = viz.graph_model(Twice(), X, depth=1)
    assert [n.label for n in folded.nodes if n.kind != "constant"] == [
        "layer: Linear", "tanh", "layer: Linear, call 2",
    ]  # fmt: skip


class Nested(nn.Module):
    def __init__(self):
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.Tanh())

    def forward(self, x):
        return self.inner(np.sin(self.inner(x)))


def test_what_lies_in_a_module_that_is_called_twice_is_in_the_box_of_that_call():
    picture = viz.graph_model(Nested(), X)
    calls = [node.box for node in picture.nodes if node.label in ("x Wᵀ + b", "tanh")]
    assert calls == [("model", call, part) for call in ("inner", "inner, call 2") for part in ("0", "1")]
    assert picture.titles["model", "inner, call 2", "0"] == "0: Linear"
    folded = viz.graph_model(Nested(), X, depth=1)
    labels = {node.id: node.label for node in folded.nodes}
    assert [(labels[e.source], labels[e.target]) for e in folded.edges] == [
        ("input", "inner: Sequential"), ("inner: Sequential", "sin"), ("sin", "inner: Sequential, call 2"),
    ]  # fmt: skip


class Tied(nn.Module):
    def __init__(self):
        self.head, self.embed = nn.Linear(4, 7, bias=False), nn.Embedding(7, 4)
        self.embed.weight = self.head.weight

    def forward(self, x):
        return self.head(self.embed(x))


def test_folded_modules_that_share_parameters_have_no_arrow_for_it():
    picture = viz.graph_model(Tied(), np.array([1, 2]), depth=1)
    assert [node.label for node in picture.nodes if node.kind == "module"] == ["embed: Embedding", "head: Linear"]
    assert len([e for e in picture.edges if e.source != "input"]) <= 2
    assert str(viz.tree(Tied(), np.array([1, 2]), depth=1)).startswith("head: Linear")
    assert str(viz.tree(Nested(), X, depth=1)).splitlines()[1].startswith("└── sin")


def test_a_tree_of_modules_that_lead_back_to_each_other_ends():
    class Between(nn.Module):
        def __init__(self):
            self.a, self.b = nn.Sequential(nn.Tanh()), nn.Sequential(nn.Tanh())

        def forward(self, x):
            return self.a[0](self.b[0](self.a[0](x)))

    x = leaf(X)
    for depth in range(4):
        assert len(str(viz.tree(Between(), x, depth=depth)).splitlines()) < 10


def test_a_model_with_a_part_called_generator():
    class Adversarial(nn.Module):
        def __init__(self):
            self.generator = nn.MLP([4, 2])

        def forward(self, x):
            return self.generator(x)

    assert viz.graph_model(Adversarial(), X).nodes


@pytest.mark.parametrize(
    ("depth", "expected"),
    [
        (0, ["input", "Net"]),
        (1, ["input", "blocks: Sequential", "head: Linear", "Σ"]),
        (2, ["input", "0: Block", "1: Block", "head.weight", "head.bias", "x Wᵀ + b", "Σ"]),
    ],
)
def test_depth_folds_what_lies_deeper(depth, expected):
    picture = viz.graph_model(Net(), X, depth=depth, gradients=True)
    assert sorted(labels(picture)) == sorted(expected)
    assert [node.output for node in picture.nodes].count(True) == 1
    order = {node.id: i for i, node in enumerate(picture.nodes)}
    assert all(order[e.source] < order[e.target] for e in picture.edges)
    for node in picture.nodes:
        if node.kind == "module":
            assert node.magnitude is not None
            assert node.shape is not None
    if depth == 1:
        assert arrows(picture) == [
            ("input", "blocks: Sequential"), ("blocks: Sequential", "head: Linear"), ("head: Linear", "Σ"),
        ]  # fmt: skip


def test_a_depth_below_zero_is_refused():
    for depth in (-1, "one"):
        with pytest.raises(ValueError, match="depth counts the boxes"):
            viz.graph_model(Net(), X, depth=depth)


# Repeats -------------------------------------------------------------------------------------------------------------


def chain(blocks):
    a = x = leaf(0.5, "a")
    for _ in range(blocks):
        x = np.sin(x * 1.5) + a
    return x


def test_blocks_that_repeat_are_drawn_once():
    picture = viz.graph_model(chain(100), fold=True, gradients=True)
    boxed = [node for node in picture.nodes if node.box]
    assert [node.label for node in boxed] == ["× 1.5", "sin", "+"]
    (box,) = {node.box for node in boxed}
    assert picture.titles == {box: "× 99"}  # the first one begins with the leaf
    assert labels(picture) == ["a", "× 1.5", "sin", "+", "× 1.5", "sin", "+"]
    assert [(s, t) for (s, t), e in zip(arrows(picture), picture.edges, strict=True) if e.again] == [("+", "× 1.5")]
    assert picture.nodes[-1].output
    assert picture.nodes[-1].gradient.startswith("rms ")
    assert picture.nodes[-1].gradient.endswith("1 in the last")


def test_folding_begins_by_itself_when_there_are_many_calls():
    assert len(viz.graph_model(chain(15)).nodes) == 46
    assert len(viz.graph_model(chain(30)).nodes) == 7
    assert len(viz.graph_model(chain(30), fold=False).nodes) == 91


def test_repeated_modules_are_folded_as_a_whole():
    model = nn.Sequential(nn.Linear(4, 8), *[nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(12)])
    picture = viz.graph_model(model, X, fold=True)
    repeat = next(box for box in picture.titles if box[-1].startswith("repeat"))
    assert repeat[:-1] == ("model",)
    assert picture.titles[repeat] in ("× 11", "× 12")
    inside = {node.label for node in picture.nodes if node.box[: len(repeat)] == repeat}
    assert {"x Wᵀ + b", "ReLU"} <= inside
    assert len([label for label in inside if label.endswith("weight")]) == 1


def test_what_does_not_repeat_stays_as_it_is():
    a = leaf(1.0, "a")
    out = np.exp(np.cos(np.sin(a) * 2) + a) / 3
    folded, plain = viz.graph_model(out, fold=True), viz.graph_model(out, fold=False)
    assert labels(folded) == labels(plain)
    assert arrows(folded) == arrows(plain)


def test_two_different_stretches():
    x = leaf(0.1, "a")
    for _ in range(20):
        x = np.sin(x)
    for _ in range(20):
        x = np.cos(x) * 2
    picture = viz.graph_model(x, fold=True)
    assert sorted(picture.titles.values()) in (["× 19", "× 20"], ["× 19", "× 19"], ["× 20", "× 20"])
    assert len(picture.nodes) < 9


def test_every_call_of_a_folded_graph_stands_for_the_right_number():
    """Times of the boxes, multiplied out, give the number of calls again."""
    for blocks in (3, 4, 7, 50):
        picture = viz.graph_model(chain(blocks), fold=True)
        total = 0
        for node in picture.nodes:
            if node.kind == "op":
                times = [int(picture.titles[node.box[:i]][2:]) for i in range(1, len(node.box) + 1)]
                total += int(np.prod(times)) if times else 1
        assert total == 3 * blocks


# Opened primitives ----------------------------------------------------------------------------------------------------


def test_fused_primitives_can_be_opened_up():
    scores = leaf(rng.normal(size=(5, 3)), "scores")
    loss = F.cross_entropy(scores, CLASSES)
    assert labels(viz.graph_model(loss)) == ["scores", "constant", "cross-entropy"]
    opened = viz.graph_model(loss, expand=True, gradients=True, values=True)
    assert {"max", "exp", "log", "[mask]", "@", "÷ 5"} <= set(labels(opened))
    assert not {"cross-entropy", "log softmax"} & set(labels(opened))
    assert opened.nodes[-1].value == describe(loss.data)
    loss.backward()
    assert by_label(opened)["scores"].magnitude == pytest.approx(np.sqrt(np.mean(scores.grad.data**2)))


def test_opening_keeps_boxes_and_names():
    picture = viz.graph_model(nn.MLP([4, 8, 3]), X, expand=True)
    assert [n.label for n in picture.nodes if n.box == ("model", "0")] == ["0.weight", "0.bias", "xᵀ", "@", "+"]
    assert "input" in labels(picture)


def test_what_cannot_be_opened_stays_one_node():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.BatchNorm1d(8))
    images = rng.normal(size=(3, 1, 6, 6))
    picture = viz.graph_model(model, images, expand=True, gradients=True)
    assert {"convolution", "max pooling"} <= set(labels(picture))
    plain = viz.graph_model(model, images, gradients=True)
    assert by_label(picture)["0.weight"].magnitude == pytest.approx(by_label(plain)["0.weight"].magnitude, abs=1e-12)


def test_opening_several_results_and_lists():
    a = leaf(np.arange(4.0), "a")
    first, second = np.split(a, 2)
    out = F.sigmoid(np.concatenate([second, first])).sum()
    picture = viz.graph_model(out, expand=True, gradients=True)
    out.backward()
    assert by_label(picture)["a"].gradient == describe(a.grad.data)
    assert "σ" not in labels(picture)


# The graph of a gradient, and what there is no graph of ---------------------------------------------------------------


def test_the_graph_of_the_gradient_itself():
    a = leaf(3.0, "a")
    (a**3).backward(create_graph=True)
    picture = viz.graph_model(a.grad, values=True)
    assert picture.nodes[-1].value == "27"
    assert "a" in labels(picture)
    assert len(picture.nodes) > 3


def test_a_freed_graph_says_so():
    a = leaf(3.0)
    loss = a * a
    loss.backward()
    with pytest.raises(GraphError, match=r"freed by backward.*retain_graph=True"):
        viz.graph_model(loss)


def test_what_has_no_graph_says_so():
    with pytest.raises(GraphError, match="there is no graph to see"):
        viz.graph_model(Tensor([1.0, 2.0]))
    with tg.no_grad(), pytest.raises(GraphError, match="there is no graph to see"):
        viz.graph_model(leaf(1.0) * 2)
    with pytest.raises(TypeError, match="a graph is that of one Tensor"):
        viz.graph_model(np.ones(2))
    with pytest.raises(TypeError, match="inputs and loss= go with a model"):
        viz.graph_model(leaf(1.0) * 2, X)
    with pytest.raises(TypeError, match=r"a model is drawn with what goes into it.*draw_graph\(model, x\)"):
        viz.graph_model(nn.Linear(2, 1))
    with pytest.raises(TypeError, match=r"names is a model, or a dict.*got \['a'\]"):
        viz.graph_model(leaf(1.0) * 2, names=["a"])
    assert labels(viz.graph_model(leaf(1.0, "a"))) == ["a"]


# Rules ---------------------------------------------------------------------------------------------------------------


def test_the_rule_of_an_operation_is_the_statement_in_the_table():
    nodes = by_label(viz.graph_model(np.sin(leaf(1.0, "a")) * leaf(2.0, "b")))
    assert nodes["sin"].rule == "defvjp(np.sin, lambda g, _out, x: g * np.cos(x))"
    assert "np.multiply" in nodes["×"].rule
    assert nodes["a"].rule == ""


def test_every_rule_of_the_table_has_a_text():
    library = [op for op in TABLE.values() if op.name != "cube"]
    missing = [op.name for op in library if op.function.__module__ != "__main__" and not rule_text(op)]
    assert not [name for name in missing if name.startswith("np.")]


def test_the_rule_of_an_operation_of_ones_own():
    @tg.primitive
    def cube(x):
        return x * x * x

    tg.defvjp(cube, lambda g, _out, x: g * 3 * x * x)
    assert viz.graph_model(cube(leaf(2.0))).nodes[-1].rule == "tg.defvjp(cube, lambda g, _out, x: g * 3 * x * x)"
    namespace = {"tg": tg}
    exec("@tg.primitive\ndef f(x): return x\ntg.defvjp(f, lambda g, out, x: g)", namespace)
    assert viz.graph_model(namespace["f"](leaf(2.0))).nodes[-1].rule == ""


# Text ----------------------------------------------------------------------------------------------------------------


def test_the_graph_as_a_tree():
    a, b = leaf(2.0, "a"), leaf([1.0, 2.0], "b")
    text = viz.tree(((a + b) * b).sum(), values=True, gradients=True)
    assert text.splitlines() == [
        "Σ = 11, gradient 1",
        "└── × = [3, 8], shape (2,), gradient [1, 1]",
        "    ├── + = [3, 4], shape (2,), gradient [1, 2]",
        "    │   ├── a = 2, gradient 3",
        "    │   └── b = [1, 2], shape (2,), gradient [4, 6]  #1",
        "    └── b: see #1",
    ]


def test_a_deep_tree_and_odd_names():
    assert len(viz.tree(chain(200), fold=False).splitlines()) == 801
    assert "in × 1999" in viz.tree(chain(2000))
    assert viz.tree(leaf(1.0, "two\nlines") * 2).splitlines() == ["× 2", "└── two lines"]


def test_pictures_of_equal_code_are_equal():
    def picture():
        tg.manual_seed(0)
        return viz.graph_model(Net(), X, values=True, gradients=True)

    first, second = picture(), picture()
    assert first == second


def test_big_graphs_take_little_time():
    """No time is measured: 30,000 calls, folded, would take minutes if any step were quadratic."""
    picture = viz.graph_model(chain(10_000))
    assert len(picture.nodes) == 7
    assert len(viz.graph_model(chain(10_000), fold=False).nodes) == 30_001


def test_names_of_boxes_do_not_run_into_one_another():
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Sequential(nn.Linear(2, 2))})
    model.forward = lambda x: model["b"](model["a"](x))
    picture = viz.graph_model(model, np.ones((1, 2)))
    assert all(len(x) != len(y) or x != y for x, y in itertools.combinations(picture.titles, 2))
    assert picture.titles[("model", "b", "0")] == "0: Linear"
