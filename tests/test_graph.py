"""The graph: what backward() computes, keeps and frees, and that no stale gradient is ever returned in silence."""

import copy
import gc
import time
import weakref

import numpy as np
import pytest

import tinygrad_opt as tg
from tests.gradients import check_first_order, check_second_order
from tinygrad_opt import GraphError, MissingRuleError, ShapeError, Tensor, nn, optim
from tinygrad_opt.graph import Node


def leaf(data, **options):
    return Tensor(data, requires_grad=True, **options)


# .grad ---------------------------------------------------------------------------------------------------------------


def test_gradients_accumulate_until_they_are_forgotten():
    x = leaf([1.0, 2.0])
    assert x.grad is None
    (x * 3).sum().backward()
    (x * x).sum().backward()
    np.testing.assert_array_equal(x.grad.data, [5, 7])
    x.grad = None
    (x * 3).sum().backward()
    np.testing.assert_array_equal(x.grad.data, [3, 3])


def test_a_gradient_can_be_set_and_is_checked():
    x = leaf([1.0, 2.0])
    x.grad = [1, 2]
    (x * 3).sum().backward()
    np.testing.assert_array_equal(x.grad.data, [4, 5])
    with pytest.raises(ShapeError, match=r"\(2,\).*\(3,\)"):
        x.grad = np.ones(3)
    with pytest.raises(GraphError, match="does not require"):
        Tensor([1.0]).grad = [1.0]


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: (a + b).sum(),
        lambda a, b: a.sum() + b.sum(),
        lambda a, b: (a.reshape(3, 2).T.reshape(2, 3) + b).mean(),
        lambda a, b: (+a + +b).sum(),
        lambda a, b: np.concatenate([a, b]).sum(),
        lambda a, b: np.stack([a, b]).sum(),
        lambda a, b: np.broadcast_to(a, (2, 2, 3)).sum() + (b[0] + b[1]).sum(),
        lambda a, b: np.where(np.ones((2, 3), bool), a, b).sum(),
    ],
)
def test_no_two_tensors_share_a_gradients_memory(function):
    a, b = leaf(np.ones((2, 3))), leaf(np.ones((2, 3)))
    middle = a * 1
    middle.retain_grad()
    function(middle, b).backward()
    gradients = [a.grad.data, b.grad.data, middle.grad.data]
    before = [g.copy() for g in gradients]
    for i, g in enumerate(gradients):
        g[...] = 100 + i
    for i, (g, old) in enumerate(zip(gradients, before, strict=True)):
        assert np.all(g == 100 + i), "a gradient is a view of another, or of itself"
        assert not np.all(old == 100 + i)


def test_the_seed_is_not_shared_with_the_gradient():
    x, seed = leaf([1.0, 2.0]), np.array([3.0, 4.0])
    (+x).backward(seed)
    x.grad.data[...] = 0
    np.testing.assert_array_equal(seed, [3, 4])
    tensor_seed = Tensor(seed)
    y = leaf([1.0, 2.0])
    y.backward(tensor_seed)
    y.grad.data[...] = 0
    np.testing.assert_array_equal(tensor_seed.data, [3, 4])


def test_intermediate_gradients_are_kept_on_request_only():
    x = leaf(2.0)
    y = x * x
    z = y * 3
    y.retain_grad()
    (z * z).backward()
    assert z.grad is None
    assert y.grad.item() == 18 * 4
    assert x.grad.item() == 36 * 8
    with pytest.raises(GraphError, match="part of a graph"):
        Tensor(1.0).retain_grad()


def test_backward_of_a_leaf_and_of_one_element():
    x = leaf([[4.0]])
    x.backward()
    np.testing.assert_array_equal(x.grad.data, [[1]])


@pytest.mark.parametrize("seed", [[1.0, 10.0], Tensor([1.0, 10.0]), np.array([1, 10]), np.float32([1, 10])])
def test_backward_from_a_gradient(seed):
    x = leaf([1.0, 2.0])
    (x * x).backward(seed)
    np.testing.assert_array_equal(x.grad.data, [2, 40])
    assert x.grad.dtype == np.float64


def test_tensors_off_the_path_have_no_gradient():
    x, unused, constant = leaf(1.0), leaf(1.0), Tensor(1.0)
    (x * constant).backward()
    assert unused.grad is None
    assert constant.grad is None
    assert not constant.requires_grad


# Sharing -------------------------------------------------------------------------------------------------------------


def test_a_repeated_parent_counts_twice():
    a = leaf(3.0)
    (a * a).backward()
    assert a.grad.item() == 6


def test_doubling_sixty_times_takes_linear_time():
    x = leaf(1.0)
    y = x
    start = time.perf_counter()
    for _ in range(60):
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**60
    assert time.perf_counter() - start < 1


def chain_of(length):
    """A chain of calls, and a weak reference to the result of the first."""
    y = leaf(1.0) + 0.5
    first = weakref.ref(y.data)
    for _ in range(length - 1):
        y = y + 0.5
    return y, first


def test_a_long_chain_needs_no_recursion():
    y, first = chain_of(300_000)
    y.backward(retain_graph=True)
    assert y.item() == 150_001
    assert first() is not None
    del y  # freeing the chain must not recurse either
    assert first() is None


def test_a_long_chain_can_be_dropped_without_a_backward_walk():
    y, first = chain_of(300_000)
    assert y.requires_grad
    del y
    assert first() is None


def test_a_long_chain_is_differentiated_twice_without_recursion():
    x = leaf(1.0)
    y, n = x, 5_000
    for _ in range(n - 1):
        y = y * x
    y.backward(create_graph=True)
    slope, x.grad = x.grad, None
    slope.backward()
    assert slope.item() == n
    assert x.grad.item() == n * (n - 1)
    del y, slope


# Freeing -------------------------------------------------------------------------------------------------------------


def test_a_second_walk_needs_retain_graph():
    x = leaf(3.0)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 12
    with pytest.raises(GraphError, match=r"second time.*multiply.*retain_graph=True"):
        y.backward()
    assert x.grad.item() == 12


def test_a_trunk_shared_by_two_losses_is_freed_by_the_first():
    x = leaf(3.0)
    trunk = x * x
    first, second = trunk * 2, trunk * 5
    first.backward()
    with pytest.raises(GraphError, match="second time"):
        second.backward()
    x.grad = None
    trunk = x * x
    first, second = trunk * 2, trunk * 5
    first.backward(retain_graph=True)
    second.backward()
    assert x.grad.item() == 42


# Grad mode -----------------------------------------------------------------------------------------------------------


def test_no_grad_as_a_context_nests_and_survives_errors():
    x = leaf(1.0)
    with tg.no_grad():
        assert not (x * 2).requires_grad
        with tg.set_grad_enabled(True):
            assert (x * 2).requires_grad
        assert not tg.is_grad_enabled()
    with pytest.raises(KeyError), tg.no_grad():
        raise KeyError
    assert tg.is_grad_enabled()
    assert (x * 2).requires_grad


def test_no_grad_as_a_decorator():
    @tg.no_grad()
    def double(x, depth=2):
        return double(x, depth - 1) if depth else x * 2

    x = leaf(1.0)
    assert not double(x).requires_grad
    assert tg.is_grad_enabled()


# In place ------------------------------------------------------------------------------------------------------------

CHANGES_IN_PLACE = {
    "+=": lambda w: w.__iadd__(1.0),
    "-=": lambda w: w.__isub__(1.0),
    "*=": lambda w: w.__imul__(3.0),
    "/=": lambda w: w.__itruediv__(3.0),
    "**=": lambda w: w.__ipow__(3.0),
    "%=": lambda w: w.__imod__(0.7),
    "[0] =": lambda w: w.__setitem__(0, 9.0),
    "[mask] =": lambda w: w.__setitem__(w > 1, 9.0),
}


@pytest.mark.parametrize("change", CHANGES_IN_PLACE.values(), ids=CHANGES_IN_PLACE)
def test_a_leaf_changes_in_place_under_no_grad_only(change):
    w = leaf([1.0, 2.0])
    memory = w.data
    with pytest.raises(GraphError, match=r"leaf.*\(2,\).*no_grad"):
        change(w)
    np.testing.assert_array_equal(w.data, [1, 2])
    with tg.no_grad():
        result = change(w)
    assert result is w or result is None
    assert w.data is memory
    assert not np.array_equal(w.data, [1, 2])
    assert w.requires_grad


def test_in_place_on_a_result_binds_the_name_anew():
    x = leaf([1.0, 2.0])
    y = before = x * 1
    y *= 3
    y += x
    assert y is not before
    np.testing.assert_array_equal(before.data, [1, 2])
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, [4, 4])


def test_assignment_to_elements_of_a_result_is_refused():
    y = leaf([1.0, 2.0]) * 2
    with pytest.raises(GraphError, match=r"np\.where.*no_grad"):
        y[0] = 1.0
    constant = Tensor([1.0, 2.0])
    with pytest.raises(GraphError, match="not recorded"):
        constant[0] = leaf(1.0)
    constant[0] = 5
    assert constant.tolist() == [5, 2]


def under_no_grad(w):
    with tg.no_grad():
        w *= 2


def through_a_view(w):
    with tg.no_grad():
        part = w[:1]
        part += 1


def through_data(w):
    w.data -= 0.5


def elements(w):
    with tg.no_grad():
        w[0] = 7


@pytest.mark.parametrize("change", [under_no_grad, through_a_view, through_data, elements])
@pytest.mark.parametrize(
    "use",
    [lambda w: w * w, lambda w: np.exp(np.sin(w)), lambda w: 3 / w, lambda w: nn.functional.linear(w * 1, w[None])],
)
def test_a_stale_value_is_never_used(use, change):
    w = nn.Parameter([1.0, 2.0])
    loss = use(w).sum()
    change(w)
    with pytest.raises(GraphError, match=r"shape \(.*2,?\).*changed in place.*copy"):
        loss.backward()
    assert w.grad is None


def values_in_a_tuple():
    """Losses whose rules read one array of several: a list of inputs, several results."""
    x = leaf([[2.0, 1.0], [1.0, 5.0]])
    values, vectors = np.linalg.eigh(x)
    return {
        "a list of arrays": (np.linalg.multi_dot([x, x, x]), x),
        "several results": (vectors * [[1.0, 2.0], [3.0, 4.0]] + values, vectors),
    }


@pytest.mark.parametrize("which", ["a list of arrays", "several results"])
def test_a_stale_value_among_several_is_never_used(which):
    result, value = values_in_a_tuple()[which]
    under_no_grad(value)
    with pytest.raises(GraphError, match="changed in place"):
        result.sum().backward()


@pytest.mark.parametrize("index", [[0], np.array([0]), Tensor([0]), (0, [0])], ids=lambda index: type(index).__name__)
def test_an_index_that_changes_after_it_was_used(index):
    x = leaf(np.ones((2, 3)))
    total = 0
    for column in range(3):
        with tg.no_grad():
            (index[1] if isinstance(index, tuple) else index)[0] = column
        total = total + (x if isinstance(index, tuple) else x[0])[index].sum()
    total.backward()
    np.testing.assert_array_equal(x.grad.data, [[1, 1, 1], [0, 0, 0]])


@pytest.mark.parametrize("change", [under_no_grad, through_a_view, through_data, elements])
def test_a_value_that_no_rule_reads_may_change(change):
    w = nn.Parameter([1.0, 2.0])
    loss = (w + 1 - 3 * w).sum()
    change(w)
    loss.backward()
    np.testing.assert_array_equal(w.grad.data, [-2, -2])


OPTIMIZERS = [optim.GradientDescent, optim.SGD, optim.Momentum, optim.Adam]


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_optimizers_step_between_forward_and_backward_is_seen(optimizer, create_graph):
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = optimizer(model.parameters(), lr=0.1)
    first, second, third = ((model(np.ones((2, 3))) ** 2).sum() for _ in range(3))
    first.backward()
    optimizer.step()
    optimizer.zero_grad()
    with pytest.raises(GraphError, match="changed in place"):
        second.backward(create_graph=create_graph)
    with pytest.raises(GraphError, match="changed in place"):
        tg.gradients(third, list(model.parameters()), create_graph=create_graph)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_between_a_gradient_and_its_own_gradient_is_seen(optimizer):
    w = nn.Parameter([1.0, 2.0])
    optimizer = optimizer([w], lr=0.1)
    (w * w * w).sum().backward(create_graph=True)
    slope = w.grad.sum()
    optimizer.step()
    w.grad = None
    with pytest.raises(GraphError, match="changed in place"):
        slope.backward()
    assert w.grad is None


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_backward_then_step_then_forward_again_is_no_alarm(optimizer, create_graph):
    """Also while another model, whose loss waits for its walk, belongs to another optimizer."""
    trained, waiting = nn.Parameter([1.0, 2.0]), nn.Parameter([3.0, 4.0])
    optimizer, _ = optimizer([trained], lr=0.1), optimizer([waiting], lr=0.1)
    kept = (waiting * waiting * waiting).sum()
    for _ in range(3):
        optimizer.zero_grad()
        (trained * trained).sum().backward(create_graph=create_graph)
        np.testing.assert_array_equal(trained.grad.data, 2 * trained.data)
        optimizer.step()
    kept.backward(create_graph=create_graph)
    np.testing.assert_array_equal(waiting.grad.data, [27, 48])


def test_a_loss_from_before_the_optimizer_keeps_its_values():
    w = nn.Parameter([1.0, 2.0])
    loss, later = (w * w).sum(), (w * w * w).sum()
    optimizer = optim.SGD([w], lr=0.1)  # moves the parameter into its own memory
    loss.backward()
    optimizer.step()
    w.grad = None
    later.backward()
    np.testing.assert_array_equal(w.grad.data, [3, 12])


def test_a_change_of_one_parameter_is_no_alarm_for_its_neighbours():
    a, b = nn.Parameter([1.0, 2.0]), nn.Parameter([3.0, 4.0])
    optim.SGD([a, b], lr=0.1)  # both now lie in one vector
    loss = (b * b).sum()
    with tg.no_grad():
        a -= 1
    loss.backward()
    np.testing.assert_array_equal(b.grad.data, [6, 8])


def test_a_step_that_skips_a_parameter_is_no_alarm_for_it():
    a, b = nn.Parameter([1.0, 2.0]), nn.Parameter([3.0, 4.0])
    optimizer = optim.SGD([a, b], lr=0.1)
    loss = (b * b).sum()
    (a * a).sum().backward()
    with pytest.warns(UserWarning, match="without a gradient"):
        optimizer.step()
    loss.backward()
    np.testing.assert_array_equal(b.grad.data, [6, 8])


def test_load_state_dict_between_forward_and_backward_is_seen():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    loss = model(np.ones((1, 2))).sum()
    model.load_state_dict(model.state_dict())
    with pytest.raises(GraphError, match="changed in place"):
        loss.backward()


def test_changing_a_value_before_it_is_used_is_no_alarm():
    w = nn.Parameter([1.0, 2.0])
    for _ in range(3):
        under_no_grad(w)
        loss = (w * w).sum()
        w.grad = None
        loss.backward()
        np.testing.assert_array_equal(w.grad.data, 2 * w.data)


def test_assigning_new_data_leaves_recorded_values_alone():
    w = leaf([1.0, 2.0])
    loss = (w * w).sum()
    w.data = np.array([5.0, 5.0])
    loss.backward()
    np.testing.assert_array_equal(w.grad.data, [2, 4])


# Gradients of gradients ----------------------------------------------------------------------------------------------


def test_create_graph_gives_higher_derivatives():
    x = leaf(2.0)
    y = x**5
    expected = [5 * 2.0**4, 20 * 2.0**3, 60 * 2.0**2, 120 * 2.0, 120]
    for value in expected:
        x.grad = None
        y.backward(create_graph=True)
        assert x.grad.item() == pytest.approx(value)
        y = x.grad


def test_without_create_graph_gradients_are_constants():
    x = leaf(2.0)
    (x**3).backward()
    assert not x.grad.requires_grad


def test_create_graph_accumulates_and_works_under_no_grad():
    x = leaf(2.0)
    y = x**3
    with tg.no_grad():
        y.backward(create_graph=True)
        y.backward(create_graph=True)
    assert x.grad.item() == 24
    gradient, x.grad = x.grad, None
    gradient.backward()
    assert x.grad.item() == 24  # d 2·3x² / dx


def test_a_gradient_penalty_is_differentiated():
    rng = np.random.default_rng(0)
    inputs, weight = rng.normal(size=(3, 2)), rng.normal(size=(4, 2))
    check_second_order(
        lambda x, w: nn.functional.cross_entropy(np.tanh(nn.functional.linear(x, w)), [0, 3, 1]), [inputs, weight]
    )


# Functions of one's own ----------------------------------------------------------------------------------------------


def test_a_rule_may_be_replaced_and_none_cuts_the_gradient():
    @tg.primitive
    def scale(x, factor):
        return x * factor

    tg.defvjp(scale, lambda g, _out, _x, factor: g * factor, None)
    x, factor = leaf([1.0, 2.0]), leaf(3.0)
    scale(x, factor).sum().backward()
    np.testing.assert_array_equal(x.grad.data, [3, 3])
    assert factor.grad is None
    assert not scale(np.ones(2), factor).requires_grad
    tg.defvjp(scale, lambda g, _out, _x, factor: -g * factor, None)
    x.grad = None
    scale(x, 3.0).sum().backward()
    np.testing.assert_array_equal(x.grad.data, [-3, -3])
    np.testing.assert_array_equal(scale(np.ones(2), 3), [3, 3])


def test_prepare_computes_what_function_and_rule_share_once():
    calls = []

    def sine(x):
        calls.append(1)
        return np.sin(x)

    @tg.primitive(prepare=sine)
    def sine_squared(_x, *, prepared):
        return prepared * prepared

    tg.defvjp(sine_squared, lambda g, _out, x, *, prepared: g * 2 * prepared * np.cos(x))
    x = leaf([0.5, 1.0])
    sine_squared(x).sum().backward()
    assert len(calls) == 1
    points = [np.array([0.3, -0.8])]
    np.testing.assert_allclose(sine_squared(points[0]), np.sin(points[0]) ** 2)
    check_first_order(sine_squared, points)
    check_second_order(sine_squared, points)


def test_each_serves_any_number_of_inputs():
    @tg.primitive
    def total_of_squares(*arrays):
        return sum(a * a for a in arrays)

    tg.defvjp(total_of_squares, each=lambda position, g, _out, *arrays: g * 2 * arrays[position])
    for count in (1, 2, 4):
        points = [np.arange(3.0) + i + 1 for i in range(count)]
        check_first_order(total_of_squares, points)
        check_second_order(total_of_squares, points)


def test_a_function_with_several_results():
    @tg.primitive
    def sine_and_cosine(x):
        return np.sin(x), np.cos(x)

    tg.defvjp(sine_and_cosine, lambda g, out, _x: g[0] * out[1] - g[1] * out[0])
    points = [np.array([0.5, 1.5, -2.0])]
    check_first_order(sine_and_cosine, points)
    check_second_order(sine_and_cosine, points)
    x = leaf(points[0])
    sine_and_cosine(x)[1].sum().backward()  # the other result is not used
    np.testing.assert_allclose(x.grad.data, -np.sin(points[0]))


@pytest.mark.parametrize(
    ("arguments", "options"),
    [((np.sin,), {}), ((np.sin, 3), {}), ((3, lambda g, out, x: g), {}), ((np.sin, None), {}),
     ((np.sin, lambda g, out, x: g), {"each": lambda p, g, out, *x: g})],
)  # fmt: skip
def test_defvjp_refuses_what_is_no_rule(arguments, options):
    with pytest.raises(TypeError, match="rule"):
        tg.defvjp(*arguments, **options)


def test_a_rule_of_the_wrong_shape_is_named():
    @tg.primitive
    def twice(x):
        return 2 * x

    tg.defvjp(twice, lambda g, out, x: np.ones(7))
    with pytest.raises(ShapeError, match=r"\(7,\).*\(2, 2\)\n.*twice"):
        twice(leaf(np.ones((2, 2)))).sum().backward()


# Memory --------------------------------------------------------------------------------------------------------------


def live_objects():
    return sum(issubclass(type(o), (Tensor, Node)) for o in gc.get_objects())


def test_two_thousand_steps_leave_no_tensors_or_nodes_behind():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 3)), rng.integers(0, 2, 8)
    model = nn.MLP([3, 4, 2], nn.Tanh)
    optimizer = optim.Adam(model.parameters())

    def train(steps):
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()

    train(10)
    gc.collect()
    gc.disable()
    try:
        before = live_objects()
        train(2000)
        after = live_objects()
    finally:
        gc.enable()
    assert before > 0
    assert after <= before


def test_graphs_that_are_never_walked_leave_nothing_behind():
    x = leaf(np.ones(3))
    gc.collect()
    gc.disable()
    try:
        before = live_objects()
        for _ in range(200):
            np.concatenate([np.exp(x) * x, x[1:]]).sum()
            (x * x).sum().backward()
            x.grad = None
        after = live_objects()
    finally:
        gc.enable()
    assert after <= before


def test_nodes_are_not_counted_as_changed_memory_forever():
    """A short-lived Tensor that was changed in place must not make later, unrelated Tensors look stale."""
    for _ in range(300):
        t = leaf(np.ones(100))
        loss = (t * t).sum()
        loss.backward()
        with tg.no_grad():
            t -= 1
        del t, loss
    fresh = [leaf(np.ones(100)) for _ in range(50)]
    loss = sum((f * f).sum() for f in fresh)
    loss.backward()
    assert all(np.all(f.grad.data == 2) for f in fresh)


# What is refused rather than answered wrong --------------------------------------------------------------------------


def test_taking_up_moved_parameters_counts_as_a_change():
    w, b = (nn.Parameter([value]) for value in (2.0, 1.0))
    first, second = optim.SGD([w, b], lr=0.1), None
    loss = (w * w * w).sum()
    second = optim.SGD([w, b], lr=0.1)
    (w * b).sum().backward()
    second.step()
    second.zero_grad()
    (b * b).sum().backward()
    with pytest.warns(UserWarning, match="skips parameters"):
        first.step()
    with pytest.raises(GraphError, match="changed in place"):
        loss.backward()


def test_data_of_a_computed_tensor_is_not_replaced():
    y = Tensor([1.0, 2.0], requires_grad=True) * 3
    with pytest.raises(GraphError, match="detach"):
        y.data -= 1


def test_gradients_with_a_graph_are_not_shared():
    a, b = (Tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    (a + b).backward(np.ones(2), create_graph=True)
    with tg.no_grad():
        b.grad *= 0
    assert a.grad.tolist() == [1, 1]


def test_integers_carry_no_gradient():
    x = Tensor([1.5, 2.5], requires_grad=True)
    y = x.astype(int)
    assert not y.requires_grad
    (y * x).sum().backward()
    assert x.grad.tolist() == [1, 2]


def test_a_missing_rule_is_not_a_zero_gradient():
    times = tg.primitive(lambda x, y: x * y)
    tg.defvjp(times, lambda g, out, x, y: g * y)
    with pytest.raises(MissingRuleError, match="one rule per input"):
        times(Tensor(2.0, requires_grad=True), Tensor(3.0, requires_grad=True))


def test_a_tensor_of_tensors_would_lose_their_history():
    x = Tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(GraphError, match=r"np\.stack"):
        Tensor([x[0], x[1]])


def test_a_computed_tensor_is_not_copied_with_its_graph():
    with pytest.raises(GraphError, match="detach"):
        copy.deepcopy(Tensor(2.0, requires_grad=True) * 2)


@pytest.mark.parametrize(
    "function",
    [lambda x: np.concatenate([x, x]), lambda x: np.stack([x, x]), lambda x: np.split(x * 1, 2)[0], np.cumsum],
    ids=["concatenate", "stack", "split", "cumsum"],
)
def test_a_change_of_values_that_no_rule_reads_does_no_harm(function):
    x = leaf([1.0, 2.0])
    result = function(x)
    loss = result.sum()
    with tg.no_grad():
        x -= 1
        result -= 1
    loss.backward()
    assert x.grad.shape == (2,)


def test_lists_of_hundreds_of_tensors():
    tensors = [leaf(float(i)) for i in range(300)]
    (np.stack(tensors) * np.arange(300)).sum().backward()
    assert [t.grad.item() for t in tensors] == list(range(300))


def test_second_derivatives_find_one_of_several_results():
    """The gradient by x is made of the eigenvalues too: a derivative of it by them is not zero."""
    x = leaf([[2.0, 0.5], [0.5, 1.0]])
    values, vectors = np.linalg.eigh(x)
    by_x = tg.gradients((vectors**3).sum(), x, create_graph=True)
    by_values = tg.gradients((by_x * [[1.0, 2.0], [3.0, 4.0]]).sum(), values, create_graph=True)
    gap = values.data[1] - values.data[0]
    inner = (by_x * [[1.0, 2.0], [3.0, 4.0]]).sum().item()  # proportional to 1 / gap
    np.testing.assert_allclose(by_values.detach(), [inner / gap, -inner / gap], rtol=1e-12)
