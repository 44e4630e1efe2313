"""gradcheck: right rules pass, wrong ones are named, kinks are noticed, and nothing of the user's is touched."""

import numpy as np
import pytest

import tinygrad_opt as tg
from tests.gradients import leaves
from tinygrad_opt import GradcheckError, Tensor, gradcheck, nn
from tinygrad_opt.rules.registry import TABLE

F = nn.functional
RNG = np.random.default_rng(0)
MATRIX, VECTOR = RNG.normal(size=(3, 3)), RNG.normal(size=3)
LABELS = np.array([0, 2, 1])


@pytest.fixture(autouse=True)
def same_table_afterwards():
    rows = dict(TABLE)
    yield
    TABLE.clear()
    TABLE.update(rows)


def planted(forward, *rules):
    """A new primitive with these rules, right or wrong."""
    function = tg.primitive(lambda *args, **kwargs: forward(*args, **kwargs))
    tg.defvjp(function, *rules)
    return function


# Right rules ----------------------------------------------------------------------------------------------------------

RIGHT = {
    "elementwise": (lambda x, y: np.sin(x) * y / (2 + np.cos(y)), MATRIX, VECTOR),
    "power": (lambda x, y: x**y, np.abs(MATRIX) + 0.1, VECTOR),
    "reductions": (lambda x: (x.var(axis=0), np.prod(x, axis=1), np.max(x)), MATRIX),
    "shaping": (lambda x: np.concatenate([x[[0, 0, 2]], np.roll(x, 1, axis=0)]).T, MATRIX),
    "solve": (lambda a, b: np.linalg.solve(a + 3 * np.eye(3), b), MATRIX, VECTOR),
    "decompositions": (lambda a: next(iter(np.linalg.eigh(a @ a.T))), MATRIX),
    "einsum": (lambda a, b: np.einsum("ij,jk,k->i", a, a, b), MATRIX, VECTOR),
    "cross-entropy": (lambda x: F.cross_entropy(x, LABELS), MATRIX),
    "softmax": (lambda x: np.log(F.softmax(x)) * np.arange(3.0), MATRIX),
    "a scalar": (lambda x: x * x * x, 2.0),
    "an empty array": (lambda x: x * 2, np.zeros((0, 3))),
    "an input without effect": (lambda x, y: x * 2 + 0 * y.shape[0], VECTOR, VECTOR),
    "large and small numbers": (lambda x: x * x, np.array([1e6, 1e-6, 0.0, -3e4])),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_gradients_pass_to_second_order(name):
    function, *inputs = RIGHT[name]
    result = gradcheck(function, *inputs, order=2)
    assert result.passed
    assert result
    assert not result.kinks
    assert result.compared >= 2 * sum(np.size(x) for x in inputs)


def test_third_order():
    assert gradcheck(lambda x: np.exp(x) * x, VECTOR, order=3)


def test_arguments_nest_and_one_tuple_is_the_arguments():
    tree = {"w": [MATRIX, VECTOR], "b": (np.float64(0.5), 3)}
    assert gradcheck(lambda t, x: (t["w"][0] @ x + t["w"][1]) * t["b"][0] ** t["b"][1], tree, VECTOR, order=2)
    assert gradcheck(lambda a, b: a @ b, (MATRIX, VECTOR)).compared == 12


def test_results_nest():
    assert gradcheck(lambda x: {"y": x * x, "z": [np.sin(x), (x.sum(),)]}, VECTOR)


def test_a_large_input_is_checked_in_groups():
    x = RNG.normal(size=(100, 100))
    result = gradcheck(lambda x: np.tanh(x).sum(axis=0), x)
    assert result
    assert result.compared == 10_000


def test_nothing_of_the_users_is_touched():
    x = Tensor([1.0, 2.0], requires_grad=True, dtype="float32")
    x.grad = np.array([5.0, 6.0], np.float32)
    seen = []
    with tg.no_grad():
        assert gradcheck(lambda t: (seen.append(t.dtype), t * t)[1], x)
        assert not tg.is_grad_enabled()
    assert set(seen) == {np.dtype(float)}
    np.testing.assert_array_equal(x.data, np.array([1, 2], np.float32))
    np.testing.assert_array_equal(x.grad.data, [5, 6])


# Wrong rules ----------------------------------------------------------------------------------------------------------

WRONG = {
    "sign": lambda g, out, x: -2 * g * x,
    "factor": lambda g, out, x: g * x,
    "a thousandth": lambda g, out, x: 2.002 * g * x,
    "no upstream gradient": lambda g, out, x: 2 * x,
    "mean upstream gradient": lambda g, out, x: 2 * x * np.mean(g),
    "zero": lambda g, out, x: 0 * g,
    "NaN": lambda g, out, x: g * np.nan,
    "reversed": lambda g, out, x: 2 * np.flip(g * x),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_rules_fail(name):
    square = planted(lambda x: x * x, WRONG[name])
    with pytest.raises(GradcheckError, match="argument 0, element"):
        gradcheck(square, np.array([0.3, -1.2, 2.0]))
    assert not gradcheck(square, np.array([0.3, -1.2, 2.0]), raise_exception=False)


def test_the_message_names_argument_element_and_amounts():
    f = planted(lambda x, w: x * w, lambda g, out, x, w: g * w, lambda g, out, x, w: g * x + [[0, 0], [0, 1.0]])
    with pytest.raises(GradcheckError, match=r"argument 0\['w'\]\[1\], element \[1, 1\],.*by backward.*off by 1"):
        gradcheck(lambda t: f(t["w"][0], t["w"][1]), {"w": [np.ones((2, 2)), np.ones((2, 2))]})


def test_one_wrong_element_of_ten_thousand_is_found():
    wrong = np.ones(10_000)
    wrong[7_321] = 1.01
    f = planted(lambda x: np.sin(x), lambda g, out, x: g * np.cos(x) * wrong)
    with pytest.raises(GradcheckError, match=r"argument 0, element \[7321\],"):
        gradcheck(f, RNG.normal(size=10_000) / 4)


def test_many_wrong_elements_are_counted():
    f = planted(lambda x: x * x, lambda g, out, x: g * x)
    with pytest.raises(GradcheckError, match="other wrong elements: 4"):
        gradcheck(f, np.arange(1.0, 6.0))


def test_a_wrong_second_derivative_passes_at_first_order_only():
    f = planted(
        lambda x: x**3, lambda g, out, x: g * 3 * getattr(x, "data", x) ** 2 if isinstance(x, Tensor) else g * 3 * x**2
    )
    assert gradcheck(f, VECTOR)
    with pytest.raises(GradcheckError, match="order 2"):
        gradcheck(f, VECTOR, order=2)


def test_second_order_checks_the_upstream_gradient_too():
    f = planted(lambda x: x**2, lambda g, out, x: 2 * x * (g if isinstance(g, np.ndarray) else Tensor(g.data)))
    assert gradcheck(f, VECTOR)
    with pytest.raises(GradcheckError, match=r"order 2: .* the upstream gradient of the result"):
        gradcheck(f, VECTOR, order=2)


def test_a_rule_that_is_wrong_only_with_create_graph_is_found():
    f = planted(np.sin, lambda g, out, x: g * np.cos(x) * (1.5 if isinstance(x, Tensor) else 1))
    assert gradcheck(f, VECTOR)
    with pytest.raises(GradcheckError, match=r"order 1: .*with create_graph=True"):
        gradcheck(f, VECTOR, order=2)


def test_a_rule_that_sums_over_too_much_is_found():
    f = planted(lambda x, b: x + b, lambda g, out, x, b: g, lambda g, out, x, b: np.sum(g) + 0 * b)
    with pytest.raises(GradcheckError, match="argument 1, element"):
        gradcheck(f, MATRIX, VECTOR)
    g = planted(lambda x, b: x + b, lambda g, out, x, b: g, lambda g, out, x, b: np.sum(g, axis=1))
    with pytest.raises(GradcheckError, match="argument 1, element"):
        gradcheck(g, MATRIX, VECTOR)


def test_the_wrong_result_is_named():
    f = planted(lambda x: x * x, lambda g, out, x: g * x)
    with pytest.raises(GradcheckError, match=r"of the result\['b'\]\[1\] with respect to argument 0 is"):
        gradcheck(lambda x: {"a": np.sin(x), "b": [x, f(x)]}, 2.0)


def test_results_that_are_right_alone_and_wrong_together_are_found():
    def wrong_together(g, out, x):
        return g[0] * np.cos(x) - g[1] * np.sin(x) + 0.1 * g[0] * g[1]

    f = planted(lambda x: (np.sin(x), np.cos(x)), wrong_together)
    with pytest.raises(GradcheckError, match="all results together"):
        gradcheck(f, 0.3)


def test_a_small_gradient_does_not_hide_behind_large_ones():
    wrong = np.ones(1500)
    wrong[1000] = 1.01
    f = planted(lambda x: x**3, lambda g, out, x: g * 3 * x**2 * wrong)
    x = np.where(np.arange(1500) % 7, 1.0, 1e4) * (1.1 + np.sin(np.arange(1500)) ** 2)
    assert 1000 % 7
    with pytest.raises(GradcheckError, match=r"element \[1000\]"):
        gradcheck(f, x)


def test_a_missing_gradient_is_not_excused_by_noise():
    """A function in float32, and one with large rounding errors: no slope can be told, so nothing passes."""
    for forward in (lambda x: np.float64(np.float32(x) + np.float32(100)), lambda x: (x + 1e10) - 1e10):
        f = planted(forward, lambda g, out, x: 0 * g)
        for point in RNG.normal(size=30):
            with pytest.raises(GradcheckError):
                gradcheck(f, point)


def test_only_the_wrong_argument_is_named():
    f = planted(lambda x, y: x * y, lambda g, out, x, y: g * y, lambda g, out, x, y: g * y)
    with pytest.raises(GradcheckError, match="argument 1"):
        gradcheck(f, np.array([1.0, 2.0]), np.array([3.0, -4.0]))


def test_a_gradient_lost_on_the_way_is_noticed():
    with pytest.raises(GradcheckError, match="off by"):
        gradcheck(lambda x: x * 2 + x.detach() * 3, VECTOR)


# Points without a derivative ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "x", "kinks"),
    [
        (np.abs, [-1.0, 0.0, 2.0], {(1,)}),
        (F.relu, [0.0, 1.0, -1.0], {(0,)}),
        (np.max, [1.0, 3.0, 3.0], {(1,), (2,)}),
        (lambda x: np.linalg.norm(x), [0.0, 0.0], {(0,), (1,)}),
        (lambda x: np.clip(x, -1, 1) * x, [1.0, 0.5], {(0,)}),
    ],
)
def test_kinks_are_listed_not_compared(function, x, kinks):
    result = gradcheck(function, np.array(x))
    assert result
    assert {index for _, index in result.kinks} == kinks
    assert result.compared == len(x) - len(kinks)


def test_kinks_are_left_out_of_the_second_order_too():
    result = gradcheck(lambda x: F.relu(x) * np.exp(np.roll(x, 1)), np.array([-1.0, 0.0, 1e-9, 2.0, 0.5]), order=2)
    assert result
    assert {index for _, index in result.kinks} == {(1,), (2,)}
    assert result.compared == 3 + 3 + 5  # the elements, the elements again, the upstream gradients


def test_kinks_in_a_large_input():
    x = np.where(np.arange(2000) % 100, RNG.normal(size=2000), 0)
    result = gradcheck(np.abs, x)
    assert result
    assert [index for _, index in result.kinks] == [(i,) for i in range(0, 2000, 100)]
    assert result.compared == 1980


def test_a_kink_beside_large_numbers_is_no_flat_spot():
    assert gradcheck(lambda x: np.abs(x) + 1e6, np.zeros(1)).kinks
    with pytest.raises(GradcheckError, match="larger eps"):
        gradcheck(lambda x: np.abs(x) + 1e8, np.zeros(1))
    assert gradcheck(lambda x: np.abs(x) + 1e8, np.zeros(1), eps=1e-3).kinks


def test_a_kink_without_a_number_for_a_gradient_is_wrong():
    f = planted(np.abs, lambda g, out, x: g * x / out)
    with np.errstate(invalid="ignore"), pytest.raises(GradcheckError, match=r"nan by backward.*kink"):
        gradcheck(f, np.array([0.0, 1.0]))


def test_a_kink_does_not_excuse_a_wrong_rule_elsewhere():
    f = planted(np.abs, lambda g, out, x: -g * np.sign(x))
    with pytest.raises(GradcheckError, match=r"element \[2\]"):
        gradcheck(f, np.array([0.0, 0.0, 1.0]))


def test_sharp_bends_are_not_kinks():
    assert not gradcheck(lambda x: np.sqrt(x * x + 1e-6), np.array([0.0, 1e-4])).kinks
    f = planted(lambda x: np.exp(50 * x), lambda g, out, x: g * 49 * out)
    with pytest.raises(GradcheckError, match="off by"):
        gradcheck(f, np.array([0.5]))


# What cannot be checked -----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("function", "x", "message"),
    [
        (np.log, -1.0, "NaN or infinite"),
        (np.sqrt, 0.0, "NaN or infinite"),
        (lambda x: x * RNG.normal(), 1.0, "random"),
        (lambda x: x * np.sign(x - 1) + x.detach(), 1.0, "backward"),
        (np.cbrt, 0.0, "infinitely steep"),
        (lambda x: x % 1, 1.0, "jumps"),
        (lambda x: x[x.data > 1], 1.0, "number or shape"),
    ],
)
def test_what_has_no_derivative_is_said(function, x, message):
    with pytest.raises(GradcheckError, match=message):
        gradcheck(function, np.array([x]))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: gradcheck(np.sin, 3), TypeError, "floating-point"),
        (lambda: gradcheck(np.sin), TypeError, "no inputs"),
        (lambda: gradcheck(np.sign, 3.0), TypeError, "result is"),
        (lambda: gradcheck(lambda x: (x, np.argmax(x)), 3.0), TypeError, r"result\[1\] is .*int64"),
        (lambda: gradcheck(lambda x: (x, None), 3.0), TypeError, r"result\[1\] is None"),
        (lambda: gradcheck(lambda x: [], 3.0), TypeError, "result is None"),
        (lambda: gradcheck(np.sin, Tensor([1, 2])), TypeError, "floating-point"),
        (lambda: gradcheck(lambda x: x.astype("float32"), 3.0), TypeError, "float64"),
        (lambda: gradcheck("sin", 3.0), TypeError, "needs a function"),
        (lambda: gradcheck(np.sin, 3.0, order=0), ValueError, "order"),
        (lambda: gradcheck(np.sin, 3.0, eps=0), ValueError, "eps"),
        (lambda: gradcheck(np.sin, np.nan), ValueError, "NaN"),
    ],
)
def test_wrong_use_is_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_an_error_of_the_function_or_of_a_rule_is_passed_on():
    with pytest.raises(KeyError, match="gone"):
        gradcheck(lambda t: t["gone"], {"here": 1.0})
    f = planted(lambda x: x * 2, lambda g, out, x: np.ones(7))
    with pytest.raises(tg.ShapeError, match=r"\(7,\)"):
        gradcheck(f, VECTOR)


def test_the_result_without_an_exception():
    f = planted(lambda x: x * x, lambda g, out, x: g * x)
    result = gradcheck(f, 3.0, raise_exception=False)
    assert not result
    assert "by finite differences" in result.problem
    assert repr(result).startswith("GradcheckResult(failed: 0 elements compared; the derivative of the result")
    assert repr(gradcheck(np.abs, np.zeros(7))).endswith("argument 0 [4], ...)")


def test_integers_stay_constants():
    assert gradcheck(lambda x, i: x[i] * 2, VECTOR, np.array([0, 0, 2])).compared == 3


def test_a_network_of_parameters():
    w, b = leaves([RNG.normal(size=(4, 3)), RNG.normal(size=4)])
    assert gradcheck(lambda w, b: F.cross_entropy(F.linear(MATRIX, w, b), LABELS), w, b, order=2)
    assert w.grad is None
