"""The passes of the compiler and its plan of memory: each leaves what a program computes as it was.

A program is traced, or written by hand; `execute` runs its calls one by one, as the definition of what it computes.
"""

import numpy as np
import pytest
from hypothesis import given, settings

import tinygrad_opt as tg
from tests import graphs
from tinygrad_opt import Tensor, nn
from tinygrad_opt.compiler import passes
from tinygrad_opt.compiler.program import Call, Program, Value, replaced
from tinygrad_opt.compiler.source import Memory, Writer
from tinygrad_opt.compiler.trace import Tracing, trace
from tinygrad_opt.nn import functional as F
from tinygrad_opt.rules.registry import primitive

X = np.array([[0.5, -1.5, 2.0], [1.0, 0.3, -0.7]])
S = np.array([[1.0, 2.0], [3.0, 4.0]])


def leaf(data):
    return Tensor(data, requires_grad=True)


def traced(function, *args):
    """The program of a function, as it is before the passes."""
    tracing = Tracing()
    trace(tracing, function, args, {}, [f"x{i}" for i in range(len(args))])
    return tracing.program


def execute(program, *args, memory=None):
    """What comes out of a program: outputs, updates and gradients.

    With ``memory``, results lie where it says, what it says is gone is gone, and the way back is gone twice.
    """
    known = dict(zip(program.inputs, (x.data if isinstance(x, Tensor) else x for x in args), strict=True))
    known |= {value: tensor.data for value, tensor in program.bound.items()}
    known |= {seed: np.full(seed.shape, 0.5 + number, seed.dtype) for number, seed in enumerate(program.seeds)}
    find = lambda leaf: known[leaf] if isinstance(leaf, Value) else leaf
    forward, backward = ([call for call in program.calls if call.backward is back] for back in (False, True))
    run(forward, known, memory)
    if memory:
        run(backward, dict(known), memory)
    run(backward, known, memory)
    return [np.array(find(leaf)) for leaf in program.wanted]


def run(calls, known, memory):
    """Make calls, and put their results to what is known."""
    for call in calls:
        inner, options = replaced(
            (call.args, call.kwargs), lambda leaf: known[leaf] if isinstance(leaf, Value) else leaf
        )
        result = call.function(*inner, **options)
        for value, array in zip(call.results, result if isinstance(call.result, tuple) else (result,), strict=False):
            assert np.shape(array) == value.shape
            assert array.dtype == value.dtype
            known[value] = array
            if memory and value in memory.into:
                known[value] = known[memory.into[value]]
                known[value][...] = array
        for value in memory.gone.get(call, []) if memory else []:
            del known[value]


def functions(program):
    return [call.function for call in program.calls]


def assert_same(found, expected):
    for actual, value in zip(found, expected, strict=True):
        np.testing.assert_array_equal(actual, value)
        assert actual.dtype == value.dtype


def after(run, function, *args):
    """The program of a function after one pass, which computes what it did before."""
    program = traced(function, *args)
    expected = execute(program, *args)
    run(program)
    assert_same(execute(program, *args), expected)
    return program


# Algebraic clean-up --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x + 0,
        lambda x: 0 + x,
        lambda x: x - 0.0,
        lambda x: x * 1,
        lambda x: 1.0 * x,
        lambda x: x / 1,
        lambda x: x**1,
        lambda x: x * np.ones((2, 3)),
        lambda x: np.zeros(3) + x,
        lambda x: +x,
        lambda x: np.copy(x),
        lambda x: np.conjugate(x),
        lambda x: np.reshape(x, (2, 3)),
        lambda x: np.broadcast_to(x, (2, 3)),
        lambda x: np.squeeze(x),
        lambda x: x.T.T,
        lambda x: np.transpose(x, (1, 0)).T,
        lambda x: (x + 0) * 1 - 0,
    ],
)
def test_what_changes_nothing_is_left_out(f):
    program = after(passes.clean_up, lambda x: np.sin(f(x)), X)
    assert [f for f in functions(program) if f is not np.transpose] == [np.sin]
    passes.drop_unused(program)
    assert functions(program) == [np.sin]
    assert program.calls[0].args == (program.inputs[0],)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: 0 - x,
        lambda x: x * 0,
        lambda x: x - 1,
        lambda x: 1 / x,
        lambda x: 1 + x,
        lambda x: x**0,
        lambda x: 1**x,
        lambda x: x / np.array([1.0, 1.0, 2.0]),
        lambda x: x * np.array([1.0, 1.0, 0.0]),
        lambda x: x + np.zeros((4, 1, 3)),
        lambda x: x * np.ones((1, 2, 3)),
        lambda x: x.T,
        lambda x: np.reshape(x, (3, 2)),
        lambda x: np.broadcast_to(x, (2, 2, 3)),
        lambda x: x.astype(np.float32),
        lambda x: np.add(x, 0, dtype=np.float32),
        lambda x: np.concatenate([x, x]) + 0 * x[0],
    ],
)
def test_what_changes_something_stays(f):
    before = traced(f, X)
    program = after(passes.clean_up, f, X)
    assert functions(program) == functions(before)


@pytest.mark.parametrize("dtype", ["int64", "float32", "bool"])
def test_what_changes_the_dtype_stays(dtype):
    x = X.astype(dtype)
    for f in (lambda x: x * np.float64(1), lambda x: x + np.zeros(3), lambda x: x / np.ones(3)):
        assert len(after(passes.clean_up, f, x).calls) == 1


@pytest.mark.parametrize(
    ("f", "left"),
    [
        (lambda x: x.T, 1),
        (lambda x: np.swapaxes(x, 0, 1), 1),
        (lambda x: np.moveaxis(x, 0, 1), 1),
        (lambda x: np.transpose(np.transpose(x, (1, 0)), (1, 0)), 0),
        (lambda x: np.transpose(x.T, (0, 1)), 1),
    ],
)
def test_moved_axes_of_equal_length_are_not_the_same_array(f, left):
    program = after(passes.simplify, lambda x: np.sin(f(x)), S)
    assert len(program.calls) >= left + 1


def test_transposes_that_do_not_undo_each_other_stay():
    cube = np.arange(8.0).reshape(2, 2, 2)
    twice = lambda second: lambda x: np.transpose(np.transpose(x, (1, 2, 0)), second) * 2
    assert len(after(passes.simplify, twice((1, 2, 0)), cube).calls) == 3
    assert len(after(passes.simplify, twice((2, 0, 1)), cube).calls) == 1
    strided = np.arange(16.0).reshape(4, 2, 2)[::2]
    assert len(after(passes.simplify, twice((1, 2, 0)), strided).calls) == 3
    assert len(after(passes.simplify, lambda x: np.transpose(x, axes=(-2, -1, 0)).T * 2, cube).calls) == 3
    assert (
        len(
            after(passes.simplify, lambda x: np.transpose(np.transpose(x, axes=(0, 2, 1)), axes=(0, -1, 1)), cube).calls
        )
        == 0
    )


def test_what_broadcasts_by_itself_is_not_repeated():
    repeat = lambda x: np.broadcast_to(x, (2, 3))
    row, column = X[0], X[:, :1]
    assert np.broadcast_to not in functions(after(passes.simplify, lambda x, b: x * repeat(b), X, row))
    assert np.broadcast_to not in functions(after(passes.simplify, lambda x, b: repeat(b) - x, X, column))
    assert np.broadcast_to in functions(after(passes.simplify, lambda a: np.exp(repeat(a)), row))
    both = after(passes.simplify, lambda a, b: repeat(a) * repeat(b) - repeat(a), row, row)
    assert functions(both).count(np.broadcast_to) == 1


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.copy(a=x),
        lambda x: np.real(val=x),
        lambda x: np.transpose(a=x),
        lambda x: np.broadcast_to(array=x, shape=(2, 2, 3)) + np.ones((2, 2, 3)),
    ],
)
def test_operands_by_keyword(f):
    after(passes.simplify, lambda x: f(x) * 2, X)


def test_what_only_looks_large_takes_no_memory():
    huge = lambda x: np.broadcast_to(x[:1, :1], (10**6, 10**6))
    after(passes.simplify, lambda x: huge(x).T[:2, :2] * 2, X)
    after(passes.simplify, lambda x: np.expand_dims(huge(x), 0)[0, :2, :2] * 2, X)


# Constant folding ----------------------------------------------------------------------------------------------------


def by_hand(*calls):
    """A program of calls (function, arguments): At(n) stands for the result of call number n."""
    program, results = Program(), []
    for function, args in calls:
        call = Call(function, tuple(results[a.number] if isinstance(a, graphs.At) else a for a in args), {}, False)
        call.result = Value("v", np.asarray(function(*(np.ones(3) if isinstance(a, Value) else a for a in call.args))))
        results.append(call.result)
        program.calls.append(call)
    program.outputs = [results[-1]]
    return program


def test_calls_of_constants_are_made_at_once():
    program = by_hand(
        (np.add, (2.0, np.ones(3))), (np.exp, (graphs.At(0),)), (np.multiply, (graphs.At(1), graphs.At(0)))
    )
    passes.fold_constants(program)
    assert program.calls == []
    np.testing.assert_array_equal(program.outputs[0], np.exp(np.full(3, 3.0)) * 3)
    x = after(passes.fold_constants, lambda x: np.exp(x) + 1, X)
    assert functions(x) == [np.exp, np.add]


def test_calls_that_do_something_besides_are_not_made_early():
    made = []

    @primitive(pure=False)
    def check(x):
        made.append(1)
        return x

    program = by_hand((check, (np.ones(3),)), (np.exp, (graphs.At(0),)))
    made.clear()
    passes.simplify(program)
    assert made == []
    assert functions(program) == [check, np.exp]


# Common subexpressions -----------------------------------------------------------------------------------------------


def test_equal_calls_are_made_once():
    w = leaf(X)
    f = lambda x: np.exp(np.sin(x) * w) + np.exp(np.sin(x) * w) * np.sin(x)[0:1] + np.sin(x)[0:1]
    program = after(passes.merge_equal_calls, f, X)
    found = functions(program)
    assert [found.count(g) for g in (np.sin, np.exp)] == [1, 1]
    same = after(passes.merge_equal_calls, lambda x: np.power(x, np.arange(3.0)) + np.power(x, np.arange(3.0)), X)
    assert functions(same) == [np.power, np.add]


@pytest.mark.parametrize(
    ("f", "calls"),
    [
        (lambda x: np.sum(x, axis=0)[0] + np.sum(x, axis=1), 4),
        (lambda x: np.sum(x, axis=0) + np.sum(x, axis=0, keepdims=True), 3),
        (lambda x: x - np.sin(x) + (np.sin(x) - x), 4),
        (lambda x: np.copysign(x, 0.0) + np.copysign(x, -0.0), 3),
        (lambda x: x[0:1] + x[1:2], 3),
        (lambda x: x[0:2:2] + x[0:2:1], 3),
        (lambda x: x[0] + x[None][0, 0], 4),
        (lambda x: np.power(x, np.array([1.0, 2.0, 3.0])) + np.power(x, np.array([1.0, 2.0, 4.0])), 3),
        (lambda x: np.clip(x, 0, 1) + np.clip(x, 0, None), 3),
        (lambda x: x[:, [0, 1]] + x[:, [1, 0]], 3),
        (lambda x: np.where(x > 0, x, 2) + np.where(x > 0, x, 2.5), 4),
        (lambda x: x.astype(np.float32).astype(np.float64) + x.astype(np.float16), 4),
    ],
)
def test_calls_that_differ_in_anything_are_made_both(f, calls):
    assert len(after(passes.merge_equal_calls, f, X).calls) == calls


def test_constants_of_other_types_make_other_calls():
    x = np.arange(6).reshape(2, 3)
    f = lambda x: (x * 2, x * 2.0, x * np.float32(2), x * True, x * 1, x + np.zeros(3, int), x + np.zeros(3))
    assert len(after(passes.merge_equal_calls, f, x).calls) == 7


def test_random_numbers_are_drawn_as_often_as_before():
    program = traced(lambda x: F.dropout(x, 0.5) + F.dropout(x, 0.5), X)
    tg.manual_seed(1)
    expected = execute(program, X)
    passes.simplify(program)
    tg.manual_seed(1)
    assert_same(execute(program, X), expected)
    assert sum(not call.pure for call in program.calls) == 2


# Dead code -----------------------------------------------------------------------------------------------------------


def test_what_nobody_needs_is_left_out():
    w, unused = leaf(X), leaf(X)

    def f(x):
        np.exp(x * unused) + np.sin(x)
        return np.cos(x * w)

    program = after(passes.drop_unused, f, X)
    assert functions(program).count(np.exp) == 0
    assert {id(t) for t in program.bound.values()} == {id(w)}
    assert after(passes.drop_unused, lambda x: np.split(np.exp(x), 3, axis=1)[1], X).calls


def test_checks_and_draws_stay_with_what_they_need():
    def f(x, y):
        F.embedding(y, x)
        F.dropout(np.sin(x), 0.5)
        return np.cos(x)

    program = traced(f, X, np.array([0, 1]))
    passes.simplify(program)
    names = [g.__name__ for g in functions(program)]
    assert "_check_rows" in names
    assert "_kept" in names
    assert "cos" in names
    with pytest.raises(ValueError, match="indices must lie"):
        execute(program, X, np.array([0, 2]))


# All together --------------------------------------------------------------------------------------------------------


def test_the_history_counts_the_calls():
    program = traced(lambda x: np.sin(x * 1) + np.sin(x), leaf(X))
    before = len(program.calls)
    passes.simplify(program)
    assert list(program.history) == ["traced", *passes.PASSES]
    counts = list(program.history.values())
    assert counts[0] == before
    assert counts[-1] == len(program.calls)
    assert counts == sorted(counts, reverse=True)


def of_graph(graph):
    """A random graph as a function of its leaves."""

    def function(*leaves):
        values = graphs.run(graph, leaves)
        return tuple(values[number] for number in graph.outputs)

    return function, [leaf(array) for array in graph.leaves]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(graphs.graphs())
def test_random_programs_compute_the_same_after_each_pass_and_in_shared_memory(graph):
    function, args = of_graph(graph)
    program = traced(function, *args)
    expected = execute(program, *args)
    assert_same(execute(program, *args, memory=Memory(program)), expected)
    for run in passes.PASSES.values():
        run(program)
        for actual, value in zip(execute(program, *args), expected, strict=True):
            np.testing.assert_allclose(actual, value, rtol=1e-12, atol=1e-14)
            assert actual.shape == value.shape
    for actual, value in zip(execute(program, *args, memory=Memory(program)), expected, strict=True):
        np.testing.assert_allclose(actual, value, rtol=1e-12, atol=1e-14)


# The plan of memory --------------------------------------------------------------------------------------------------


def network():
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 4))
    program = traced(lambda x, y: F.cross_entropy(model(x), y), X, np.array([1, 3]))
    passes.simplify(program)
    return program


def test_a_network_computes_the_same_in_shared_memory():
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 5), nn.GELU(), nn.LayerNorm(5), nn.Linear(5, 4))
    args = X, np.array([1, 3])
    program = traced(lambda x, y: F.cross_entropy(model(x), y) + (model(x).T ** 2).mean(), *args)
    passes.simplify(program)
    assert_same(execute(program, *args, memory=Memory(program)), execute(program, *args))


def test_arrays_are_taken_from_values_that_nobody_reads_any_more():
    program = network()
    memory = Memory(program)
    number = {value: n for n, call in enumerate(program.calls) for value in call.results}
    of_backward = {value: call.backward for call in program.calls for value in call.results}
    readers = {}
    for n, call in enumerate(program.calls):
        for operand in call.operands:
            for root in memory.roots[operand]:
                readers.setdefault(root, []).append(n)
    assert len(memory.into) > 10
    assert len(set(memory.into.values())) == len(memory.into)
    for value, taken in memory.into.items():
        assert max(readers[taken]) <= number[value]
        assert of_backward[value] == of_backward[taken]
        assert (value.shape, value.dtype) == (taken.shape, taken.dtype)
        assert taken not in program.wanted


@pytest.mark.parametrize("function", [np.cos, np.reshape, np.ravel])
def test_what_may_be_a_view_of_an_array_keeps_it(function):
    """Whether a reshape is a view depends on the memory of its operand, which may be another one at the next call."""

    def f(x):
        y = np.exp(x)
        z = function(y, (3, 2)) if function is np.reshape else function(y)
        return z, np.sin(np.exp(y) * 2)

    for order, other in (("C", "F"), ("F", "C")):
        compiled = tg.compile(f)
        compiled(np.asarray(X, order=order))
        for found, expected in zip(compiled(np.asarray(X, order=other)), f(np.asarray(X, order=other)), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_large_arrays_are_given_back_when_nobody_reads_them_any_more():
    wide, narrow = np.zeros((300, 300)), np.zeros((300, 20))

    def f(x):
        z = np.exp(x) @ wide
        return np.sum(np.tanh(z @ narrow).T @ z)

    weight = leaf(wide)
    program = traced(lambda x: f(x * weight), wide)
    passes.simplify(program)
    memory = Memory(program)
    assert len(memory.gone) >= 3
    assert_same(execute(program, wide, memory=memory), execute(program, wide))
    source, _ = Writer(program, "f").compile()
    last = [[call for call in program.calls if call.backward is backward][-1] for backward in (False, True)]
    assert source.count(" del ") == len(memory.gone.keys() - set(last))


def products(x):
    """Results of one shape, each needed for the next only."""
    for k in range(3):
        x = np.cos(np.dot(np.exp(x), S + k) @ S)[::-1] + np.concatenate([x[:1], x[1:]])
    return x * 2


@pytest.mark.parametrize("make", [lambda: network(), lambda: traced(products, S)], ids=["network", "products"])
def test_what_is_read_while_it_is_written_is_elementwise(make):
    program = make()
    passes.simplify(program)
    memory = Memory(program)
    assert memory.into
    for call in program.calls:
        if call.result in memory.into:
            assert isinstance(call.function, np.ufunc)
            assert call.function.signature is None
            roots = [root for x in call.operands for root in memory.roots[x]]
            if memory.into[call.result] in roots:
                assert memory.into[call.result].shape == call.result.shape


def test_products_in_shared_memory():
    program = traced(products, S)
    passes.simplify(program)
    forward, _ = Writer(program, "products").compile()[1]()
    for x in (S, S / 3):
        np.testing.assert_allclose(forward(x)[0][0], products(x), rtol=1e-13)


def test_what_comes_out_is_in_no_shared_array():
    program = network()
    memory = Memory(program)
    for value in program.wanted:
        assert value not in memory.into.values()
        assert not any(value in gone for gone in memory.gone.values())


@pytest.mark.parametrize(
    "view", [lambda y: y.T, lambda y: y[0], lambda y: y[::-1], lambda y: np.reshape(y, -1), lambda y: y]
)
def test_the_code_hands_out_nothing_that_it_uses_again(view):
    program = traced(lambda x: (view(np.exp(x)), np.exp(x) * 2), X)
    passes.simplify(program)
    forward, _ = Writer(program, "f").compile()[1]()
    (first, _), _ = forward(X)
    kept = first.copy()
    (second, _), _ = forward(2 * X)
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_allclose(second, view(np.exp(2 * X)))


def test_what_goes_in_does_not_come_out_as_it_is():
    w = leaf(X)
    program = traced(lambda x: (x, x.T, w + 0, w), X)
    passes.simplify(program)
    forward, _ = Writer(program, "f").compile()[1](*(t.data for t in program.bound.values()))
    for result in forward(X)[0]:
        assert not np.shares_memory(result, X)
        assert not np.shares_memory(result, w.data)


def test_what_comes_out_twice_comes_out_as_two_arrays():
    program = traced(lambda x: (np.exp(x), np.exp(x)), X)
    passes.simplify(program)
    assert len(program.calls) == 1
    forward, _ = Writer(program, "f").compile()[1]()
    assert not np.shares_memory(*forward(X)[0])


def test_a_value_read_through_a_view_keeps_its_memory():
    def f(x):
        y = np.exp(x)
        view = y.T
        z = np.sin(x)
        for _ in range(3):
            z = np.cos(z) * 2
        return view @ z

    program = traced(f, X)
    passes.simplify(program)
    assert_same(execute(program, X, memory=Memory(program)), execute(program, X))
    source, bind = Writer(program, "f").compile()
    forward, _ = bind()
    (out,), _ = forward(X)
    np.testing.assert_allclose(out, f(X))
    assert source.count("out=") == 6
