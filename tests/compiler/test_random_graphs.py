"""Random graphs, compiled: one output or several, values and gradients are those of the graph itself.

Bit for bit, but for the gradients of several outputs, which may be added up in another order.
"""

import pytest
from hypothesis import HealthCheck, given, settings

import tinygrad_opt as tg
from tests.compiler.compare import Unchanged, assert_close, assert_equal, gradients, kinds, values, weighted
from tests.gradients import leaves
from tests.graphs import graphs, run
from tinygrad_opt.compiler import source

EXAMPLES = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": list(HealthCheck)}


def leaf_sets(graph):
    """The leaves of the graph, and others of the same shapes that are not far away."""
    return [graph.leaves, [0.97 * leaf for leaf in graph.leaves]]


@pytest.mark.parametrize("large", [source.LARGE, 0])
@settings(max_examples=120, **EXAMPLES)
@given(graph=graphs())
def test_the_outputs_of_a_graph_are_the_same_compiled(monkeypatch, large, graph):
    """With the leaves as arguments, and all that the graph gives as results; also where every array is a large one."""
    monkeypatch.setattr(source, "LARGE", large)

    def outputs(*tensors):
        found = run(graph, tensors)
        return [found[number] for number in graph.outputs]

    compiled, unchanged = tg.compile(outputs), Unchanged()
    for arrays in leaf_sets(graph):
        ours, theirs = leaves(arrays), leaves(arrays)
        found, expected = compiled(*ours), outputs(*theirs)
        assert kinds(found) == kinds(expected)
        assert_equal(values(found), values(expected), "values")
        unchanged.keep(values(found))
        if any(e.requires_grad for e in expected):
            found = gradients(weighted(found), ours)
            assert_close(found, gradients(weighted(expected), theirs), "gradients")
            unchanged.keep(found)
    unchanged.check()


@settings(max_examples=120, **EXAMPLES)
@given(graphs())
def test_the_loss_of_a_graph_is_the_same_compiled(graph):
    """With the leaves as parameters, and two losses whose gradients flow after both are computed."""
    parameters = leaves(graph.leaves)

    def loss_of(tensors):
        found = run(graph, tensors)
        return weighted([found[number] for number in graph.outputs])

    compiled, unchanged = tg.compile(lambda: loss_of(parameters)), Unchanged()
    for arrays in leaf_sets(graph):
        others = leaves(arrays)
        for parameter, other in zip(parameters, others, strict=True):
            parameter.data = other.data.copy()
        loss, another, expected = compiled(), compiled(), loss_of(others)
        assert_equal([loss.data, another.data], [expected.data, expected.data], "loss")
        expected = gradients(expected, others)
        for one in (loss, another):
            found = gradients(one, parameters)
            assert_equal(found, expected, "gradients")
            unchanged.keep(found)
    unchanged.check()
