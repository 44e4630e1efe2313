"""Random graphs: what backward() and ``gradients`` find is the sum over all paths, and agrees with finite differences.

`graphs.py` says what a random graph and a sum over paths is. At the end, wrong rules and wrong walks are planted, and
the checks must notice.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis.errors import NoSuchExample

import tinygrad_opt as tg
from tests.gradients import finite_differences
from tests.graphs import At, Reference, arrays, graphs, run, upstream
from tinygrad_opt import GraphError, ShapeError, Tensor
from tinygrad_opt import graph as engine
from tinygrad_opt.graph import unbroadcast
from tinygrad_opt.rules import shaping
from tinygrad_opt.rules.registry import TABLE, Op

# The checks ----------------------------------------------------------------------------------------------------------


def assert_close(actual, expected, what, rtol=1e-9, atol=1e-11):
    """Equal to rounding; errors of single elements are measured by the largest."""
    assert (actual is None) == (expected is None), what
    if expected is not None:
        assert actual.shape == expected.shape, what
        scale = max(1, np.abs(expected).max())
        np.testing.assert_allclose(actual.data, expected, rtol=rtol, atol=atol * scale, err_msg=what)


def tensors_of(graph):
    """All values as Tensors, the gradients each output starts with, and the numbers of all values with a ``grad``."""
    tensors = run(graph, [Tensor(leaf, requires_grad=True) for leaf in graph.leaves])
    for number in graph.retained:
        tensors[number].retain_grad()
    return tensors, upstream(graph, tensors), [*range(len(graph.leaves)), *graph.retained]


def check_gradients(graph):
    """Those of all leaves and retained values, from all outputs, two walks each; then a third frees the graph."""
    reference = Reference(graph, graph.leaves)
    tensors, weights, wanted = tensors_of(graph)
    for walks in (1, 2):
        for number, u in zip(graph.outputs, weights, strict=True):
            tensors[number].backward(u, retain_graph=True)
        for number, tensor in enumerate(tensors):
            expected = reference.gradient(number) if number in wanted else None
            assert_close(tensor.grad, expected if expected is None else walks * expected, f"value {number}")
    tensors[-1].backward(np.ones(tensors[-1].shape))
    with pytest.raises(GraphError, match="second time"):
        tensors[-1].backward(np.ones(tensors[-1].shape))


def check_chosen_inputs(graph):
    """``gradients`` by leaves and by intermediate values, all at once and each alone, leaves no ``grad`` behind."""
    reference = Reference(graph, graph.leaves)
    tensors, weights, wanted = tensors_of(graph)
    outputs = [tensors[number] for number in graph.outputs]
    found = tg.gradients(outputs, [tensors[n] for n in wanted], weights, retain_graph=True)
    for number, gradient in zip(wanted, found, strict=True):
        expected = reference.gradient(number)
        expected = np.zeros(gradient.shape) if expected is None else expected
        assert_close(gradient, expected, f"value {number}")
        alone = tg.gradients(outputs, tensors[number], weights, retain_graph=True)
        np.testing.assert_array_equal(alone.data, gradient.data)
    assert all(t.grad is None for t in tensors)


def check_finite_differences(graph):
    """The sums over paths themselves; then the gradient of Σ (gradient · v), by backward() and by ``gradients``."""
    v = [arrays(3000 + number, leaf.shape) for number, leaf in enumerate(graph.leaves)]

    def path_sums(*leaves):
        gradients = [Reference(graph, leaves).gradient(number) for number in range(len(leaves))]
        return [np.zeros(x.shape) if g is None else g for g, x in zip(gradients, leaves, strict=True)]

    def slope(gradients):
        return sum((g * w).sum() for g, w in zip(gradients, v, strict=True) if g is not None)

    expected = finite_differences(lambda *leaves: Reference(graph, leaves).loss(), graph.leaves)
    for actual, numeric in zip(path_sums(*graph.leaves), expected, strict=True):
        assert_close(actual, numeric, "path sums", rtol=2e-5, atol=2e-6)

    tensors, weights, _ = tensors_of(graph)
    leaves, outputs = tensors[: len(graph.leaves)], [tensors[number] for number in graph.outputs]
    for output, u in zip(outputs, weights, strict=True):
        output.backward(u, create_graph=True)
    first = slope([leaf.grad for leaf in leaves])
    nested = slope(tg.gradients(outputs, leaves, weights, create_graph=True))
    expected = finite_differences(lambda *leaves: slope(path_sums(*leaves)), graph.leaves)
    for total in (first, nested):
        second = [Tensor(np.zeros(leaf.shape)) for leaf in leaves]
        if total.requires_grad:  # else the graph is linear
            second = tg.gradients(total, leaves, retain_graph=True)
        for actual, numeric in zip(second, expected, strict=True):
            scale = max(1, abs(total.item()))
            assert_close(actual, numeric, "second derivative", rtol=2e-5, atol=2e-6 * scale)


EXAMPLES = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=400, **EXAMPLES)
@given(graphs())
def test_gradients_are_the_sum_over_all_paths(graph):
    check_gradients(graph)


@settings(max_examples=200, **EXAMPLES)
@given(graphs())
def test_gradients_by_chosen_values_are_the_sum_over_all_paths(graph):
    check_chosen_inputs(graph)


@settings(max_examples=200, **EXAMPLES)
@given(graphs(most_steps=5))
def test_first_and_second_derivatives_are_finite_differences(graph):
    check_finite_differences(graph)


# What the random graphs contain, and what the checks catch -----------------------------------------------------------


def first_graph(condition, most_steps=8, among=1000):
    """The first of the random graphs that fulfils the condition; an error when there is none."""
    options = settings(max_examples=among, phases=[Phase.generate], **EXAMPLES)
    return find(graphs(most_steps), condition, settings=options)


def uses(graph, number):
    return [i.number for step in graph.steps for i in step.inputs if isinstance(i, At)].count(number)


def has_step(operation, condition=lambda step: True):
    return lambda graph: any(step.operation == operation and condition(step) for step in graph.steps)


def has_constant(kind, place):
    return lambda graph: any(isinstance(step.inputs[place], kind) for step in graph.steps)


def twice_the_same(step):
    return all(isinstance(i, At) for i in step.inputs) and step.inputs[0] == step.inputs[1]


CONTENTS = {
    "a shared node": lambda g: any(uses(g, n) > 2 for n in range(len(g.leaves), len(g.leaves) + len(g.steps))),
    "y * y": has_step("multiply", twice_the_same),
    "y + y": has_step("add", twice_the_same),
    "np.maximum": has_step("maximum"),
    "np.split": has_step("split"),
    "np.linalg.eigh": has_step("eigh"),
    "a matrix product": has_step("matmul"),
    "an unused leaf": lambda g: any(uses(g, n) == 0 for n in range(len(g.leaves))),
    "a 0-d leaf": lambda g: any(leaf.shape == () for leaf in g.leaves),
    "a number on the left": has_constant((int, float), 0),
    "an array on the left": has_constant(np.ndarray, 0),
    "a constant Tensor": has_constant(Tensor, -1),
    "several outputs": lambda g: len(set(g.outputs)) == 3,
    "an output that others use": lambda g: any(uses(g, number) for number in g.outputs),
    "an output that is retained": lambda g: bool(set(g.retained) & set(g.outputs)),
    "eight steps": lambda g: len(g.steps) == 8,
}


@pytest.mark.parametrize("condition", CONTENTS.values(), ids=CONTENTS)
def test_the_random_graphs_contain(condition):
    first_graph(condition)


def fails(check):
    def condition(graph):
        try:
            check(graph)
        except (AssertionError, GraphError, ShapeError):
            return True
        return False

    return condition


PRODUCT = TABLE[np.multiply].rules
WRONG_RULES = {
    "a sign": (np.subtract, lambda g, out, x, y: g, lambda g, out, x, y: g),
    "the other factor": (np.multiply, lambda g, out, x, y: g * x, PRODUCT[1]),
    "an input forgotten": (np.multiply, PRODUCT[0], None),
    "the upstream gradient left out": (np.tanh, lambda g, out, x: 1 - out * out),
    "one in a million": (np.sin, lambda g, out, x: g * np.cos(x) * (1 + 1e-6)),
    "the wrong order": (np.cumsum, lambda g, out, x, axis=None: np.cumsum(g, axis)),
    "repeated rows counted once": (shaping.getitem, lambda g, out, x, index: put(np.zeros(x.shape), index, g)),
    "one result of several": (shaping.unpack, lambda g, out, x, i: shaping.Bundle(a * 0 + g.sum() for a in x)),
}


def put(total, index, g):
    total[index] = g
    return total


@pytest.mark.parametrize("check", [check_gradients, check_chosen_inputs])
@pytest.mark.parametrize(("function", "rules"), [(f, r) for f, *r in WRONG_RULES.values()], ids=WRONG_RULES)
def test_a_wrong_rule_is_caught(monkeypatch, function, rules, check):
    monkeypatch.setitem(TABLE, function, Op(function, tuple(rules), None))
    first_graph(fails(check))


def test_a_rule_that_cuts_the_second_derivative_is_caught(monkeypatch):
    cut = lambda g, out, x: g * np.cos(x.data if isinstance(x, Tensor) else x)
    monkeypatch.setitem(TABLE, np.sin, Op(np.sin, (cut,), None))
    with pytest.raises(NoSuchExample):
        first_graph(fails(check_gradients), among=200)
    first_graph(fails(check_finite_differences), most_steps=5)


WRONG_WALKS = {
    "broadcasting undone by a mean": ("unbroadcast", lambda g, shape: unbroadcast(g, shape) * np.prod(shape) / g.size),
    "the oldest node first": ("heappop", lambda waiting: waiting.pop(waiting.index(max(waiting)))),
    "the last discovered node first": ("heappop", lambda waiting: waiting.pop()),
}


@pytest.mark.parametrize(("name", "wrong"), WRONG_WALKS.values(), ids=WRONG_WALKS)
def test_a_wrong_walk_is_caught(monkeypatch, name, wrong):
    monkeypatch.setattr(engine, name, wrong)
    first_graph(fails(check_gradients))
