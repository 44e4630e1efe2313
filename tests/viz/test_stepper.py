"""The stepper's data: values, contributions, order and gradients are those of backward(); and what is in its page."""

import ast
import json
import re

import numpy as np
import pytest

import tinygrad_opt as tg
from tests.gradients import results
from tests.rules.cases import CASES
from tinygrad_opt import Tensor, nn, viz
from tinygrad_opt.errors import GraphError
from tinygrad_opt.nn import functional as F
from tinygrad_opt.rules.registry import TABLE
from tinygrad_opt.viz import formula
from tinygrad_opt.viz.steps import MOST_STEPS, steps_of

NASTY = "<script>alert(1)</script>\"'&\n\u2028é ∂ {{data}} \\"


def leaf(value, name=None):
    return Tensor(value, requires_grad=True, name=name)


def sum_of_products():
    a, b = leaf(2.0, "a"), leaf(3.0, "b")
    return (a * b + 0.5) * a


def squares():
    a = leaf(1.5, "a")
    return a * a


def broadcasting():
    a, b = leaf(2.0, "a"), leaf([[1.0, -2.0, 0.5]], "b")
    return (np.tanh(a * b) + leaf([[1.0], [2.0]], "c")).sum()


def several_results():
    w = leaf([[1.0, 0.3], [0.2, 2.0]], "w")
    values, vectors = np.linalg.eigh(w + w.T)
    return np.sum(values * [1.0, 3.0]) + vectors[0, 0] ** 2


def joined():
    a, b = leaf([1.0, 2.0], "a"), leaf([3.0], "b")
    return (np.concatenate([a, b, a * 2, a]) * np.arange(7.0)).sum()


def cut():
    first, second = np.split(leaf(np.arange(4.0), "x"), 2)
    return (first * first * second).sum() + first.sum()


def sums_of_products():
    x = leaf([1.0, 2.0, 3.0], "x")
    return np.einsum("i,i->", x, x) + x[1] * x[[0, 0, 2]].sum()


def classifier():
    model = nn.MLP([2, 3, 2], nn.Tanh)
    return F.cross_entropy(model(np.array([[1.0, 2.0], [0.5, -1.0]])), np.array([1, 0]))


def image_classifier():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 2))
    return F.cross_entropy(model(np.random.default_rng(0).normal(size=(2, 1, 6, 6))), np.array([1, 0]))


def array_result():
    a = leaf([1.0, 2.0], "a")
    return a * a * 3


def nothing_but_a_leaf():
    return leaf([1.0, 2.0], "a")


PROGRAMS = [
    sum_of_products, squares, broadcasting, several_results, joined, cut, sums_of_products, classifier,
    image_classifier, array_result, nothing_but_a_leaf,
]  # fmt: skip
every_program = pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)


def leaves_of(node):
    """The leaves of a graph, oldest first, as in its picture."""
    found, waiting = {node}, [node]
    while waiting:
        for parent in waiting.pop().parents:
            if parent is not None and parent not in found:
                found.add(parent)
                waiting.append(parent)
    return sorted((n for n in found if n.op is None), key=lambda n: n.index)


def steps(walk, phase):
    return [step for step in walk.steps if step.phase == phase]


def contributions(walk, name):
    return [part for step in walk.steps for part in step.contributions if walk.names[part.target] == name]


# The numbers --------------------------------------------------------------------------------------------------------


@every_program
@pytest.mark.parametrize("expand", [False, True], ids=["", "expanded"])
def test_gradients_are_those_of_backward(program, expand):
    output = program()
    walk = steps_of(output, expand=expand)
    leaves = leaves_of(output.node)
    output.backward(np.ones(output.shape))
    found = list(walk.gradients.values())
    assert len(found) == len(leaves)
    for gradient, node in zip(found, leaves, strict=True):
        np.testing.assert_allclose(gradient, node.grad.data, rtol=1e-12 if expand else 0, atol=1e-15 if expand else 0)


def one_case_each():
    for cases in CASES.values():
        case = cases[len(cases) // 2]
        yield pytest.param(case, id=case.label)


@pytest.mark.parametrize("case", list(one_case_each()))
def test_every_function_of_the_table_can_be_stepped_through(case):
    inputs = [leaf(array) if array.dtype.kind == "f" else array for array in case.inputs]
    differentiable = [out for out in results(case.call(*inputs)) if isinstance(out, Tensor) and out.requires_grad]
    total = sum((out * out).sum() for out in differentiable)
    walk = steps_of(total)
    total.backward()
    expected = [x.grad.data for x in inputs if isinstance(x, Tensor) and x.grad is not None]
    for gradient, reference in zip(walk.gradients.values(), expected, strict=True):
        np.testing.assert_array_equal(gradient, reference)


@every_program
def test_what_arrives_adds_up_to_the_gradient(program):
    walk = steps_of(program())
    arrived = {}
    for part in (part for step in steps(walk, "backward") for part in step.contributions):
        assert part.before is arrived.get(part.target)
        arrived[part.target] = part.total
    root = steps(walk, "turn")[0]
    arrived.setdefault(root.node, root.gradient)
    for place, gradient in walk.gradients.items():
        np.testing.assert_array_equal(arrived[place], gradient)
    for step in steps(walk, "backward"):  # a call hands on what has arrived there, all of it
        for there, given in zip(results(arrived[step.node]), results(step.gradient), strict=True):
            np.testing.assert_array_equal(there, given)


@every_program
def test_forward_is_the_order_of_the_program_and_backward_the_newest_first(program):
    walk = steps_of(program())
    forward = [step.node for step in steps(walk, "forward")]
    assert forward == [node.id for node in walk.picture.nodes if node.kind == "op"]
    assert [step.node for step in steps(walk, "backward")] == forward[::-1]
    assert [step.phase for step in walk.steps if step.phase not in ("forward", "backward")] == ["start", "turn", "end"]


@every_program
def test_neither_the_graph_nor_any_grad_changes(program):
    output = program()
    leaves = leaves_of(output.node)
    leaves[0].grad = before = Tensor(leaves[0].out + 1)
    values = output.node.values
    steps_of(output)
    assert output.node.values is values
    assert leaves[0].grad is before
    assert all(node.grad is None for node in leaves[1:])
    output.backward(np.ones(output.shape))  # the graph is still there


def test_values_and_contributions_of_a_small_example():
    walk = steps_of(sum_of_products())
    assert [step.sentence for step in walk.steps] == [
        "The leaves are given. The forward pass computes the rest from them, call by call.",
        "v₁ = a × b = 6",
        "v₂ = v₁ + 0.5 = 6.5",
        "L = v₂ × a = 13",
        "The backward pass starts at the result: ∂L/∂L = 1.",
        "L hands its gradient on: ∂L/∂v₂ = 2, ∂L/∂a = 6.5.",
        "v₂ hands its gradient on: ∂L/∂v₁ = 2.",
        "v₁ hands its gradient on: ∂L/∂a = 6.5 + 6 = 12.5, ∂L/∂b = 4.",
        "Done: backward() puts these gradients into .grad of the leaves.",
    ]
    assert [step.numbers for step in steps(walk, "forward")] == ["2 × 3", "6 + 0.5", "6.5 × 2"]
    assert [(part.before, part.value, part.total, part.number, part.count) for part in contributions(walk, "a")] == [
        (None, 6.5, 6.5, 1, 2),
        (6.5, 6.0, 12.5, 2, 2),
    ]
    assert {walk.names[place]: value for place, value in walk.gradients.items()} == {"a": 12.5, "b": 4.0}


def test_a_product_with_itself_arrives_twice():
    first, second = contributions(steps_of(squares()), "a")
    assert (first.formula.symbols, first.formula.numbers, first.value) == ("g · y", "1 × 1.5", 1.5)
    assert (second.formula.symbols, second.before, second.value, second.total) == ("g · x", 1.5, 1.5, 3.0)


def test_what_was_broadcast_is_summed():
    a, b = leaf(2.0, "a"), leaf([1.0, -3.0], "b")
    walk = steps_of((a * b).sum())
    [part] = contributions(walk, "a")
    np.testing.assert_array_equal(part.answer, [1.0, -3.0])
    assert (part.value, part.value.shape) == (-2.0, ())


def test_a_list_of_arrays_is_part_of_its_call():
    walk = steps_of(joined())
    parts = contributions(walk, "a")
    assert [(list(part.value), part.count) for part in parts] == [([0, 1], 3), ([5, 6], 3), ([6, 8], 3)]
    assert "[a, b, v₁, a]" in " ".join(step.symbols for step in walk.steps)


def test_a_result_of_several_elements_starts_with_ones():
    walk = steps_of(array_result())
    [turn] = steps(walk, "turn")
    assert "y has 2 elements: the backward pass starts with ones" in turn.sentence
    np.testing.assert_array_equal(turn.gradient, [1.0, 1.0])
    np.testing.assert_array_equal(*walk.gradients.values(), [6.0, 12.0])


def test_a_model_is_run_on_its_inputs():
    model = nn.MLP([2, 3, 1], nn.ReLU)
    walk = steps_of(model, np.ones((4, 2)), loss=lambda y: (y * y).mean())
    assert {walk.names[place] for place in walk.gradients} == {"0.weight", "0.bias", "2.weight", "2.bias"}
    (model(np.ones((4, 2))) ** 2).mean().backward()
    parameters = dict(model.named_parameters())
    for place, gradient in walk.gradients.items():
        np.testing.assert_array_equal(gradient, parameters[walk.names[place]].grad.data)


# The rules ----------------------------------------------------------------------------------------------------------


def single_rules():
    for op in TABLE.values():
        for position, rule in enumerate(op.rules if op.each is None else [op.each]):
            if getattr(rule, "__name__", "") == "<lambda>":
                yield pytest.param(rule, id=f"{op.name}-{position}")


@pytest.mark.parametrize("rule", list(single_rules()))
def test_each_lambda_is_found_in_its_statement(rule):
    """Of the lambdas in a statement the right one: compiled again, it has the same names and constants."""
    expression, code = formula._expression(rule, {})
    assert code.startswith("lambda")
    found = eval(code, rule.__globals__)
    assert found.__code__.co_varnames == rule.__code__.co_varnames
    assert found.__code__.co_names == rule.__code__.co_names
    assert [c for c in found.__code__.co_consts if not hasattr(c, "co_code")] == [
        c for c in rule.__code__.co_consts if not hasattr(c, "co_code")
    ]
    assert ast.unparse(expression) == ast.unparse(ast.parse(code, mode="eval").body.body)


def formulas(output):
    return [part.formula for step in steps_of(output).steps for part in step.contributions]


def test_of_a_rule_with_cases_the_one_that_applies_is_shown():
    x, w = leaf([[1.0, 2.0]]), leaf([[3.0], [4.0]])
    left, right = formulas(x @ w)
    assert (left.symbols, left.numbers) == ("g @ y.T", "[[1]] @ [[3], [4]].T")
    assert (right.symbols, right.numbers) == ("x.T @ g", "[[1, 2]].T @ [[1]]")
    assert left.code.startswith("def _matmul_left")
    assert formulas(x[0] @ w[:, 0])[0].symbols == "_matmul_left(g, x, y)"


def test_the_symbols_of_a_rule_are_explained():
    a, b = leaf(2.0, "a"), leaf(3.0, "b")
    [_, by_b] = formulas(a / b)
    assert (by_b.symbols, by_b.numbers) == ("-g · out / y", "-1 × 0.6667 / 3")
    assert [(symbol.name, symbol.meaning, symbol.value) for symbol in by_b.where] == [
        ("g", "∂L/∂L, the gradient that came", "1"),
        ("out", "L, the result", "0.6667"),
        ("y", "b", "3"),
    ]
    helper = formulas(nn.functional.relu(leaf([1.0])).sum())[-2].where[-1]
    assert helper.name == "spread"
    assert helper.meaning.startswith("g, the result of reducing")


def test_numbers_are_left_out_where_there_are_many():
    x = leaf(np.arange(7.0), "x")
    found = formulas((x * x).sum())[-1]
    assert (found.symbols, found.numbers) == ("g · x", "")
    assert found.where[-1].shape == "7"
    assert "±" in found.where[-1].value


def test_negative_numbers_stand_in_brackets():
    assert formulas(leaf(2.0) * leaf(-3.0))[0].numbers == "1 × (-3)"


def test_a_rule_of_ones_own_is_shown():
    @tg.primitive
    def cube(x):
        return x * x * x

    tg.defvjp(cube, lambda g, _out, x: g * 3 * x * x)
    try:
        [found] = formulas(cube(leaf(2.0)))
    finally:
        del TABLE[cube]
    assert (found.symbols, found.numbers) == ("g · 3 · x · x", "1 × 3 × 2 × 2")


def test_a_rule_without_a_source_is_shown_by_name():
    @tg.primitive
    def double(x):
        return 2 * x

    def rule(g, _out, _x):
        return 2 * g

    tg.defvjp(double, eval("lambda g, _out, _x: 2 * g"))
    try:
        [found] = formulas(double(leaf(2.0)))
        tg.defvjp(double, rule)
        [named] = formulas(double(leaf(2.0)))
    finally:
        del TABLE[double]
    assert (found.symbols, found.numbers, found.code) == ("rule(g)", "rule(1)", "")
    assert (named.symbols, named.code.splitlines()[0]) == ("2 · g", "def rule(g, _out, _x):")


# What cannot be shown -----------------------------------------------------------------------------------------------


def test_too_many_steps_raise(tmp_path):
    x = leaf(1.0)
    y = x
    for _ in range(MOST_STEPS // 2 - 2):
        y = y + 1
    assert len(steps_of(y).steps) <= MOST_STEPS
    with pytest.raises(ValueError, match=r"100 calls would take 203 steps.*step through a smaller model"):
        viz.step_through(y + 1 + 1, tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_a_graph_that_is_gone_raises(tmp_path):
    y = leaf(1.0) * 2
    y.backward()
    with pytest.raises(GraphError, match="freed by backward"):
        viz.step_through(y, tmp_path / "page.html")
    with pytest.raises(GraphError, match="no graph"):
        viz.step_through(Tensor(1.0), tmp_path / "page.html")


def test_inputs_in_the_place_of_the_path_raise():
    with pytest.raises(TypeError, match=r"path is the file.*inputs="):
        viz.step_through(nn.Linear(2, 1), np.ones((1, 2)))


# The page -----------------------------------------------------------------------------------------------------------


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


@every_program
def test_the_page_holds_all_steps_and_loads_nothing(program, tmp_path):
    path = viz.step_through(program(), tmp_path / "page.html")
    page = path.read_text(encoding="utf-8")
    assert len(data_of(page)["steps"]) == len(steps_of(program()).steps)
    addresses = set(re.findall(r"\w+://[^\s\"'<>]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not re.search(r"\b(src|href|action)\s*=|url\(|@import|\bimport\(|fetch\(|XMLHttp|WebSocket|<link|<img", page)
    assert "default-src 'none'" in page


def test_names_are_text(tmp_path):
    a, twin = leaf(2.0, NASTY), leaf(3.0, NASTY)
    page = viz.step_through(a * twin, tmp_path / "page.html", title=NASTY).read_text(encoding="utf-8")
    assert page.count("<script") == 2  # the data, and the page's own
    assert "alert(1)</script>" not in page
    names = [node["name"] for node in data_of(page)["nodes"]]
    assert names == [" ".join(NASTY.split())] * 2 + ["L"]


@pytest.mark.parametrize(
    "name", ["", " \n", "x" * 300, "\ud800", "\x00", "-1", "n0", "]]>", "</script", "<!--", "%d{}"]
)
def test_any_name_will_do(name, tmp_path):
    page = viz.step_through(leaf(2.0, name) * 2, tmp_path / "page.html").read_text(encoding="utf-8")
    assert len(data_of(page)["nodes"]) == 2


def test_a_page_of_a_model(tmp_path):
    model = nn.Linear(2, 1)
    path = viz.step_through(model, str(tmp_path / "model.html"), inputs=np.ones((1, 2)), loss=np.sum, title="A & B")
    page = path.read_text(encoding="utf-8")
    assert path.name == "model.html"
    assert "<title>A &amp; B</title>" in page
    assert {node["name"] for node in data_of(page)["nodes"]} >= {"weight", "bias", "input"}


def test_the_same_code_gives_the_same_page(tmp_path):
    pages = [viz.step_through(sum_of_products(), tmp_path / f"{i}.html").read_text(encoding="utf-8") for i in range(2)]
    assert pages[0] == pages[1]


def test_a_compiled_function_has_no_steps(tmp_path):
    w = Tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(GraphError, match="step through what the function itself returns"):
        viz.step_through(tg.compile(lambda x: (x * w).sum())(np.ones(2)), tmp_path / "page.html")
