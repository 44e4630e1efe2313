"""Tensor: what it holds, its operators and methods, its dtypes, and the way in and out of NumPy."""

import copy
import operator
import pickle
import subprocess
import sys

import numpy as np
import pytest

import tinygrad_opt as tg
from tests.gradients import check_first_order
from tinygrad_opt import GraphError, MissingRuleError, Tensor, nn

X = np.array([[0.5, 1.5, 2.0], [3.0, 0.25, 1.0]])
Y = np.array([1.0, 2.0, 0.5])

BINARY = [
    operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.mod,
    operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ipow, operator.imod,
]  # fmt: skip
COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge, operator.floordiv]


def leaf(data, **options):
    return Tensor(data, requires_grad=True, **options)


# Operators -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", BINARY, ids=lambda f: f.__name__)
@pytest.mark.parametrize("other", [Y, 2.0, 3, np.float64(1.5), np.array(2.0)], ids=lambda v: type(v).__name__)
def test_operators_both_ways_round(op, other):
    plain = {"iadd": operator.add, "isub": operator.sub, "imul": operator.mul, "itruediv": operator.truediv}
    plain |= {"ipow": operator.pow, "imod": operator.mod}
    of_arrays = plain.get(op.__name__, op)
    x = leaf(X) * 1  # a result: operators in place bind the name anew
    for result, expected in [
        (op(x, other), of_arrays(X, other)),
        (of_arrays(other, x), of_arrays(other, X)),
        (of_arrays(x, Tensor(other)), of_arrays(X, other)),
    ]:
        assert isinstance(result, Tensor)
        np.testing.assert_array_equal(result.data, expected)
        assert result.requires_grad
    np.testing.assert_array_equal(x.data, X)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: 2 - x, lambda x: 2 / x, lambda x: 2**x, lambda x: x**2, lambda x: Y - x, lambda x: Y / x,
        lambda x: Y**x, lambda x: -x + +x * 3, lambda x: abs(x - 10), lambda x: Y @ x.T, lambda x: x @ Y,
        lambda x: X.T @ x, lambda x: 7.3 % x, lambda x: np.float64(3) * x, lambda x: np.float64(3) / x,
    ],
)  # fmt: skip
def test_operators_are_differentiated(call):
    np.testing.assert_array_equal(call(leaf(X)).data, call(X))
    check_first_order(call, [X])


@pytest.mark.parametrize("op", COMPARISONS, ids=lambda f: f.__name__)
def test_comparisons_give_plain_arrays(op):
    for left, right in [(leaf(X), Y), (X, leaf(Y)), (leaf(X), leaf(Y)), (leaf(X), 1.0), (1.0, leaf(X))]:
        result = op(left, right)
        assert type(result) is np.ndarray
        np.testing.assert_array_equal(result, op(*[v.data if isinstance(v, Tensor) else v for v in (left, right)]))


def test_logic_gives_plain_arrays():
    a, b = Tensor([True, False, True]), np.array([True, True, False])
    for op in (operator.and_, operator.or_, operator.xor):
        np.testing.assert_array_equal(op(a, b), op(a.data, b))
        np.testing.assert_array_equal(op(b, a), op(b, a.data))
    np.testing.assert_array_equal(~a, [False, True, False])


@pytest.mark.parametrize(
    "function",
    [np.sign, np.floor, np.ceil, np.rint, np.isnan, np.argmax, np.argsort, np.round, np.any, np.shape, np.zeros_like],
)
def test_piecewise_constant_functions_give_plain_results(function):
    result = function(leaf(X))
    assert not isinstance(result, Tensor)
    np.testing.assert_array_equal(result, function(X))


# Methods -------------------------------------------------------------------------------------------------------------

METHODS = {
    "sum": [{}, {"axis": 0}, {"axis": (0, 1), "keepdims": True}],
    "mean": [{}, {"axis": -1}, {"keepdims": True}],
    "var": [{}, {"axis": 0, "ddof": 1}],
    "std": [{}, {"axis": 1, "keepdims": True}],
    "prod": [{}, {"axis": 0}],
    "max": [{}, {"axis": 1}],
    "min": [{}, {"axis": 0, "keepdims": True}],
    "cumsum": [{}, {"axis": 1}],
    "squeeze": [{}],
    "ravel": [{}],
    "flatten": [{}],
    "transpose": [{}],
    "copy": [{}],
    "clip": [{"min": 0.6, "max": 1.7}, {"min": 0.6}, {"max": 1.7}],
}


@pytest.mark.parametrize(("method", "options"), [(m, o) for m, options in METHODS.items() for o in options])
def test_methods_are_ndarrays(method, options):
    call = operator.methodcaller(method, **options)
    np.testing.assert_array_equal(call(leaf(X)).data, call(X), strict=True)
    check_first_order(call, [X])


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.reshape(3, 2), lambda x: x.reshape((3, 2)), lambda x: x.reshape(-1), lambda x: x.reshape([6]),
        lambda x: x.transpose(1, 0), lambda x: x.transpose((0, 1)), lambda x: x.T, lambda x: x.swapaxes(0, 1),
        lambda x: x.dot(Y), lambda x: x.take([0, 0, 5]), lambda x: x.take([2, 2], axis=1), lambda x: x.take(1, axis=-1),
        lambda x: x.sum(0), lambda x: x.mean(1), lambda x: x.astype(np.float64), lambda x: x[1], lambda x: x[:, [0, 0]],
        lambda x: x[x > 0.8], lambda x: x[..., None], lambda x: x[-1, ::-1],
    ],
)  # fmt: skip
def test_methods_with_arguments(call):
    np.testing.assert_array_equal(call(leaf(X)).data, call(X), strict=True)
    check_first_order(call, [X])


@pytest.mark.parametrize("method", ["argmax", "argmin", "argsort", "all", "any", "round"])
def test_methods_without_gradient_give_plain_results(method):
    result = getattr(leaf(X), method)()
    assert not isinstance(result, Tensor)
    np.testing.assert_array_equal(result, getattr(X, method)())


def test_properties_and_python_protocols():
    x = leaf(X, name="x")
    assert (x.shape, x.ndim, x.size, len(x), x.name) == (X.shape, 2, 6, 2, "x")
    assert x.tolist() == X.tolist()
    assert 0.25 in x
    assert 9.0 not in x
    assert float(leaf(2.5)) == 2.5
    assert int(leaf(2.5)) == 2
    assert f"{leaf(2.5):.3f}" == "2.500"
    assert bool(Tensor(1.0))
    assert not Tensor(0.0)
    assert [10, 20, 30][Tensor(1)] == 20
    assert len({x, x, leaf(X)}) == 2
    with pytest.raises(ValueError, match=r"one element.*\(2, 3\)"):
        x.item()
    with pytest.raises(ValueError, match="ambiguous"):
        bool(x)


def test_iteration_goes_over_the_first_axis_and_is_differentiated():
    x = leaf(X)
    first, second = x
    (first * second).sum().backward()
    np.testing.assert_array_equal(x.grad.data, X[::-1])
    with pytest.raises(TypeError, match="0-d"):
        iter(leaf(1.0))


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (Tensor([1.0, 2.0]), "Tensor([1., 2.])"),
        (Tensor([1.0], requires_grad=True), "Tensor([1.], requires_grad=True)"),
        (Tensor([1.0], dtype="float32"), "Tensor([1.], dtype=float32)"),
        (Tensor([1, 2], name="n"), "Tensor([1, 2], name='n')"),
        (Tensor(1.0, requires_grad=True) * 2, "Tensor(2., op=np.multiply)"),
    ],
)
def test_repr(tensor, text):
    assert repr(tensor) == text


# Dtypes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [1.5, [1.5, 2], np.float32([1.5]), np.float16([1.5]), Tensor([1.5], dtype="float32")])
def test_floating_data_get_the_default_dtype(data):
    assert Tensor(data).dtype == np.float64
    assert Tensor(data, dtype="float32").dtype == np.float32
    tg.set_default_dtype(np.float32)
    assert Tensor(data).dtype == tg.get_default_dtype() == np.float32
    assert Tensor(data, dtype="float64").dtype == np.float64


@pytest.mark.parametrize(("data", "dtype"), [([1, 2], int), ([True], bool), (np.uint8([1]), np.uint8), (3, int)])
def test_integers_and_booleans_stay(data, dtype):
    assert Tensor(data).dtype == dtype
    assert Tensor(data, dtype=float).dtype == np.float64


def test_default_dtype_must_be_floating():
    with pytest.raises(ValueError, match=r"floating-point.*int"):
        tg.set_default_dtype(int)


@pytest.mark.parametrize("data", ["text", [1 + 2j], [None]])
def test_data_that_are_not_numbers_are_refused(data):
    with pytest.raises(TypeError, match="real numbers"):
        Tensor(data)


def test_data_are_copied_and_detach_shares_them():
    array = X.copy()
    x = leaf(array)
    array[0, 0] = 99
    assert x.data[0, 0] == 0.5
    assert np.shares_memory(x.detach().data, x.data)
    assert not x.detach().requires_grad


def test_numbers_do_not_change_a_float32_tensor(float32):
    x = leaf([1.0, 2.0])
    result = ((x * 2.5 + 1) ** 2 / 3).mean() - np.exp(x).sum()
    assert result.dtype == np.float32
    result.backward()
    assert x.grad.dtype == np.float32


def test_astype_brings_the_gradient_back_in_its_own_dtype():
    x = leaf([1.0, 2.0], dtype="float32")
    y = x.astype("float64")
    assert y.dtype == np.float64
    (y * y).sum().backward()
    assert x.grad.dtype == np.float32
    np.testing.assert_array_equal(x.grad.data, [2, 4])


# NumPy ---------------------------------------------------------------------------------------------------------------


def test_numpy_functions_take_mixed_lists():
    x, c = leaf(Y), np.array([9.0])
    joined = np.concatenate([c, x, x])
    stacked = np.stack([x, Y, 2 * x])
    np.testing.assert_array_equal(joined.data, np.concatenate([c, Y, Y]))
    np.testing.assert_array_equal(stacked.data, np.stack([Y, Y, 2 * Y]))
    (joined * np.arange(7)).sum().backward()
    np.testing.assert_array_equal(x.grad.data, [5, 7, 9])


def test_keyword_tensors_move_to_their_places():
    low = leaf(0.6)
    result = np.clip(X, a_min=low, a_max=1.7)
    np.testing.assert_array_equal(result.data, np.clip(X, 0.6, 1.7))
    result.sum().backward()
    assert low.grad.item() == 2


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: np.unwrap(x), r"unwrap has no gradient rule.*tg\.defvjp\(np\.unwrap"),
        (lambda x: np.frexp(x), r"frexp has no gradient rule.*tg\.defvjp\(np\.frexp"),
        (lambda x: np.add.at(x, 0, 1.0), r"tg\.defvjp"),
        (lambda x: np.exp(x, where=X > 1), r"exp has no gradient rule for its option where="),
        (lambda x: np.sum(x, initial=3.0), r"sum has no gradient rule for its option initial="),
        (lambda x: np.mean(x, out=np.zeros(())), r"mean\(out=\.\.\.\) cannot be recorded"),
    ],
)
def test_functions_and_options_without_a_rule_are_refused(call, text):
    with pytest.raises(MissingRuleError, match=text) as caught:
        call(leaf(X))
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize("convert", [np.asarray, np.array, lambda t: t.numpy(), lambda t: np.array([t, t])])
def test_conversion_of_a_tensor_in_a_graph_is_refused(convert):
    for tensor in (leaf(X), leaf(X) * 2):
        with pytest.raises(GraphError, match=r"\(2, 3\).*\.detach\(\)"):
            convert(tensor)
        assert np.asarray(tensor.detach()).shape == X.shape


def test_writing_a_tensor_into_an_array_is_refused():
    array = X.copy()
    with pytest.raises(GraphError, match=r"array = array \+ tensor"):
        array += leaf(X)
    with pytest.raises(GraphError, match=r"out="):
        np.add(X, leaf(X), out=array)
    np.testing.assert_array_equal(array, X)
    array += Tensor(X)
    np.testing.assert_array_equal(array, 2 * X)


def test_shape_errors_are_numpys():
    with pytest.raises(ValueError, match="broadcast"):
        leaf(X) + np.ones(4)


# Copies --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"]
)
def test_copies_of_a_model_are_independent_and_learn(duplicate):
    model = nn.MLP([3, 4, 2], nn.Tanh)
    model(X).sum().backward()
    twin = duplicate(model)
    np.testing.assert_array_equal(twin(X).data, model(X).data)
    for mine, its in zip(model.parameters(), twin.parameters(), strict=True):
        assert type(its) is nn.Parameter
        assert its.requires_grad
        assert not np.shares_memory(mine.data, its.data)
    twin.zero_grad()
    twin(X).sum().backward()
    for mine, its in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_array_equal(mine.grad.data, its.grad.data)
        assert not np.shares_memory(mine.grad.data, its.grad.data)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_a_copied_tensor_keeps_what_it_is(duplicate):
    twin = duplicate(leaf(X, name="x"))
    assert (twin.name, twin.requires_grad, twin.tolist()) == ("x", True, X.tolist())
    (twin * twin).sum().backward()
    np.testing.assert_array_equal(twin.grad.data, 2 * X)


NEW_PROCESS = """
import pickle, sys
import tinygrad_opt as tg
p = pickle.loads(bytes.fromhex(sys.argv[1]))
print(tg.gradients((p * p).sum(), p).tolist(), p.grad.tolist(), p.node.name)
"""


def test_a_tensor_from_another_process_is_differentiated():
    p = nn.Parameter([3.0], name="w")  # the number of its node is larger than those of a process that just began
    (p * 2).sum().backward()
    result = subprocess.run(
        [sys.executable, "-c", NEW_PROCESS, pickle.dumps(p).hex()], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[6.0] [2.0] w\n"


def test_a_copy_has_a_gradient_of_its_own():
    w = leaf(X)
    twin = copy.copy(w)
    (twin * twin).sum().backward()
    assert w.grad is None
    assert twin.data is w.data


# Assignments that would lose a gradient -------------------------------------------------------------------------------


def test_integers_assigned_to_the_data_of_a_leaf():
    w = leaf([1.0, 2.0])
    w.data = [3, 4]
    ((w * 0.5) ** 2).sum().backward()
    assert w.dtype == float
    np.testing.assert_array_equal(w.grad.data, [1.5, 2.0])


@pytest.mark.parametrize("wrong", ["abc", None, [1j]])
def test_what_is_no_number_cannot_be_assigned(wrong):
    for tensor in (Tensor(X), leaf(X)):
        with pytest.raises(TypeError, match="real numbers"):
            tensor.data = wrong
        np.testing.assert_array_equal(tensor.data, X)


def test_a_refused_assignment_changes_nothing():
    y = leaf(X) * 2
    with pytest.raises(GraphError, match="detach"):
        y.data = X
    np.testing.assert_array_equal(y.data, 2 * X)


def test_a_tensor_of_a_graph_does_not_go_into_an_arrays_element():
    w, array = leaf(X), np.zeros(3)
    with pytest.raises(ValueError, match="sequence") as error:  # NumPy's, whose cause is ours
        array[0] = w.sum()
    assert isinstance(error.value.__cause__, GraphError)
    numbers = {}
    numbers["sum"] = float(w.sum())
    with tg.no_grad():
        array[1] = w.sum()
    array[2] = w.sum().detach()
    np.testing.assert_array_equal(array, [0, X.sum(), X.sum()])
    assert numbers["sum"] == X.sum()


def test_nested_lists_of_tensors_would_lose_their_history():
    with pytest.raises(GraphError, match="history"):
        Tensor([[leaf(1.0), 2.0]])
    np.testing.assert_array_equal(Tensor([[Tensor(1.0), 2.0]]).data, [[1, 2]])


@pytest.mark.parametrize(
    "f",
    [
        lambda w: w * 1j,
        lambda w: np.abs(np.exp(1j * w)),
        lambda w: w.astype(complex),
        lambda w: w.sum(dtype=complex),
        lambda w: np.array([1, 2, 3], object) * w,
    ],
)
def test_results_that_are_no_real_numbers_would_lose_a_gradient(f):
    with pytest.raises(TypeError, match="real numbers"):
        f(leaf(Y))


def test_one_tensor_in_the_place_of_a_list():
    def product(x):
        return np.linalg.multi_dot(x[:, :, None] * np.ones((1, 1, 3)))

    for function in (np.concatenate, np.stack, np.vstack, product):
        check_first_order(function, [X])
    np.testing.assert_array_equal(np.concatenate(Tensor(X)).data, np.concatenate(X))


def test_take_knows_no_masks():
    for indices in (np.array([True, False, True]), [True, False]):
        np.testing.assert_array_equal(Tensor(Y).take(indices).data, Y.take(indices))


def test_ufuncs_of_two_results_with_out():
    out = np.empty(3), np.empty(3)
    fractions, whole = np.modf(Tensor([1.5, 2.25, -1.0]), out=out)
    assert fractions is out[0]
    assert whole is out[1]
    np.testing.assert_array_equal(out, [[0.5, 0.25, 0], [1, 2, -1]])


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("cumprod", ()),
        ("cumprod", (1,)),
        ("repeat", (2,)),
        ("repeat", ([1, 0, 2], 1)),
        ("diagonal", ()),
        ("trace", (1,)),
    ],
)
def test_methods_are_those_of_ndarray(name, args):
    array = np.arange(1.0, 10.0).reshape(3, 3)
    result = getattr(Tensor(array, requires_grad=True), name)(*args)
    np.testing.assert_array_equal(result.data, getattr(array, name)(*args))
    assert result.requires_grad


def test_attributes_of_arrays_that_tensors_lack_are_explained():
    t = Tensor([[2.0, 1.0]])
    for name, hint in [("sort", r"np\.sort\(t\)"), ("partition", r"np\.partition\(t\)"), ("fill", r"t\.data\.fill")]:
        with pytest.raises(AttributeError, match=hint):
            getattr(t, name)
    with pytest.raises(AttributeError, match=r"no attribute 'sorted'$"):
        t.sorted  # noqa: B018
    assert not hasattr(t, "__array_interface__")


def test_methods_take_ndarrays_options():
    x = np.arange(6.0).reshape(2, 3)
    t = Tensor(x, requires_grad=True)
    for call in (
        lambda a: a.reshape((3, 2), order="F"),
        lambda a: a.ravel("F"),
        lambda a: a.flatten(order="F"),
        lambda a: a.take([7], mode="wrap"),
        lambda a: a.compress([True, False], axis=0),
        lambda a: a.conj(),
        lambda a: a.mT,
        lambda a: a.astype("float32", copy=False),
    ):
        np.testing.assert_array_equal(call(t).detach(), call(x), strict=True)
        assert call(t).requires_grad
    assert t.item(1, 2) == 5
    assert Tensor([1.0, 3.0]).searchsorted(2.0) == 1


def test_divmod_and_round():
    t = Tensor([-3.5, 5.25], requires_grad=True)
    quotient, remainder = divmod(t, 2.0)
    remainder.sum().backward()
    np.testing.assert_array_equal(quotient.detach(), [-2, 2])
    np.testing.assert_array_equal(t.grad, [1, 1])
    assert [np.asarray(part.detach()).tolist() for part in divmod(7.0, t)] == [[-2.0, 1.0], [0.0, 1.75]]


def test_reductions_take_ndarrays_arguments_in_its_order():
    x = np.arange(6.0).reshape(2, 3)
    t = Tensor(x, requires_grad=True)
    for call in (
        lambda a: a.sum(0, None, None, True),
        lambda a: a.mean(1, float),
        lambda a: a.prod((0, 1), None, None, True),
        lambda a: a.max(0, None, True),
        lambda a: a.min(-1, None),
        lambda a: a.var(0, None, None, 1),
        lambda a: a.std(0, None, None, 1, True),
        lambda a: a.cumsum(0, float),
        lambda a: a.cumprod(1, None),
    ):
        np.testing.assert_allclose(call(t).detach(), call(x), rtol=1e-15, strict=True)
        assert call(t).requires_grad
    with pytest.raises(MissingRuleError, match="out="):
        t.sum(0, None, np.zeros(3))
    with pytest.raises(MissingRuleError, match="out="):
        np.take(t, [0], 0, np.zeros((1, 3)))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("function", [np.var, np.std])
def test_no_degrees_of_freedom_give_no_number(function):
    t = Tensor([1.0, 2.0], requires_grad=True)
    function(t, ddof=2).backward()
    assert not np.any(np.isfinite(t.grad))


def test_arrays_of_other_libraries_are_told_apart():
    class Foreign:
        def __array__(self, dtype=None, copy=None):
            return np.array([1.0, 2.0, 4.0])

        def __array_wrap__(self, array, context=None, return_scalar=False):
            return self

    with pytest.raises(TypeError, match=r"np\.add.*Foreign: give it arrays"):
        Tensor(Y) + Foreign()


def test_functions_of_other_libraries_are_not_called_numpys():
    special = pytest.importorskip("scipy.special")
    with pytest.raises(MissingRuleError, match=r"^i1 has no gradient rule"):
        special.i1(leaf(Y))


def test_flatten_has_memory_of_its_own():
    x = leaf(X)
    flat = x.flatten()
    assert not np.shares_memory(flat.data, x.data)
    (flat * np.arange(6)).sum().backward()
    np.testing.assert_array_equal(x.grad.data, np.arange(6.0).reshape(2, 3))
