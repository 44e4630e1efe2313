"""The update rules: against the formulas in plain NumPy, against PyTorch, and in everything they have in common."""

import copy
import pickle
import warnings

import numpy as np
import pytest

import tinygrad_opt as tg
from tinygrad_opt import GraphError, StateDictError, Tensor, nn, optim
from tinygrad_opt.optim import optimizer as machinery

# The formulas, as the text has them: each takes θ, the state (a dict, empty at first), g and t, and returns the new θ


def gradient_descent(theta, state, g, t, lr):
    return theta - lr * g


def sgd(theta, state, g, t, lr, momentum=0, dampening=0, weight_decay=0, nesterov=False):
    g = g + weight_decay * theta
    state["b"] = momentum * state["b"] + (1 - dampening) * g if t > 1 else g
    step = g + momentum * state["b"] if nesterov else state["b"]
    return theta - lr * step


def momentum(theta, state, g, t, lr, beta):
    state["v"] = beta * state.get("v", 0) + (1 - beta) * g
    return theta - lr * state["v"]


def adam(theta, state, g, t, lr, betas=(0.9, 0.999), eps=1e-8, eps_in_sqrt=True):
    state["m"] = betas[0] * state.get("m", 0) + (1 - betas[0]) * g
    state["v"] = betas[1] * state.get("v", 0) + (1 - betas[1]) * g**2
    m_hat, v_hat = state["m"] / (1 - betas[0] ** t), state["v"] / (1 - betas[1] ** t)
    return theta - lr * m_hat / (np.sqrt(v_hat + eps) if eps_in_sqrt else np.sqrt(v_hat) + eps)


def divisor(x, eps, eps_in_sqrt):
    return np.sqrt(x + eps) if eps_in_sqrt else np.sqrt(x) + eps


def adagrad(theta, state, g, t, lr, eps=1e-10, eps_in_sqrt=True):
    state["G"] = state.get("G", 0) + g**2
    return theta - lr * g / divisor(state["G"], eps, eps_in_sqrt)


def rmsprop(theta, state, g, t, lr, gamma, eps=1e-8, momentum=0, centered=False, eps_in_sqrt=True):
    state["E"] = gamma * state.get("E", 0) + (1 - gamma) * g**2
    state["M"] = gamma * state.get("M", 0) + (1 - gamma) * g
    variance = np.maximum(state["E"] - state["M"] ** 2, 0) if centered else state["E"]
    state["b"] = momentum * state.get("b", 0) + g / divisor(variance, eps, eps_in_sqrt)
    return theta - lr * state["b"]


def adadelta(theta, state, g, t, lr, rho, eps=1e-6):
    state["E"] = rho * state.get("E", 0) + (1 - rho) * g**2
    before = state.get("D", 0)
    delta = g * np.sqrt(before + eps) / np.sqrt(state["E"] + eps)
    state["D"] = rho * before + (1 - rho) * delta**2
    return theta - lr * delta


def adamw(theta, state, g, t, lr, weight_decay=0.01, **options):
    return adam(theta - lr * weight_decay * theta, state, g, t, lr, **options)


def nadam(theta, state, g, t, lr, betas=(0.9, 0.999), eps=1e-8, momentum_decay=0.004, eps_in_sqrt=True):
    state["m"] = betas[0] * state.get("m", 0) + (1 - betas[0]) * g
    state["v"] = betas[1] * state.get("v", 0) + (1 - betas[1]) * g**2
    mu = betas[0] * (1 - 0.5 * 0.96 ** (momentum_decay * np.arange(1, t + 2)))
    m_hat = mu[-1] * state["m"] / (1 - np.prod(mu)) + (1 - mu[-2]) * g / (1 - np.prod(mu[:-1]))
    return theta - lr * m_hat / divisor(state["v"] / (1 - betas[1] ** t), eps, eps_in_sqrt)


# class, options, formula, PyTorch's name for the class (None where PyTorch has another rule)
OPTIMIZERS = {
    "GradientDescent": (optim.GradientDescent, {"lr": 0.1}, gradient_descent, "SGD"),
    "SGD": (optim.SGD, {"lr": 0.1}, sgd, "SGD"),
    "SGD momentum": (optim.SGD, {"lr": 0.05, "momentum": 0.9}, sgd, "SGD"),
    "SGD dampening": (optim.SGD, {"lr": 0.1, "momentum": 0.8, "dampening": 0.3}, sgd, "SGD"),
    "SGD nesterov": (optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}, sgd, "SGD"),
    "SGD weight decay": (optim.SGD, {"lr": 0.1, "weight_decay": 0.2}, sgd, "SGD"),
    "SGD all": (optim.SGD, {"lr": 0.05, "momentum": 0.7, "nesterov": True, "weight_decay": 0.1}, sgd, "SGD"),
    "Momentum": (optim.Momentum, {"lr": 0.2, "beta": 0.8}, momentum, None),
    "Adam": (optim.Adam, {"lr": 0.1}, adam, None),
    "Adam betas": (optim.Adam, {"lr": 0.05, "betas": (0.5, 0.9), "eps": 0.1}, adam, None),
    "Adam eps outside": (optim.Adam, {"lr": 0.05, "eps": 0.1, "eps_in_sqrt": False}, adam, "Adam"),
    "Adam eps outside, betas": (optim.Adam, {"lr": 0.1, "betas": (0.8, 0.95), "eps_in_sqrt": False}, adam, "Adam"),
    "Adagrad": (optim.Adagrad, {"lr": 0.5}, adagrad, None),
    "Adagrad eps": (optim.Adagrad, {"lr": 0.5, "eps": 0.1}, adagrad, None),
    "Adagrad eps outside": (optim.Adagrad, {"lr": 0.5, "eps": 0.1, "eps_in_sqrt": False}, adagrad, "Adagrad"),
    "RMSprop": (optim.RMSprop, {"lr": 0.05, "gamma": 0.9}, rmsprop, None),
    "RMSprop eps outside": (optim.RMSprop, {"lr": 0.02, "gamma": 0.8, "eps_in_sqrt": False}, rmsprop, "RMSprop"),
    "RMSprop centered": (
        optim.RMSprop,
        {"lr": 0.02, "gamma": 0.9, "eps": 0.1, "centered": True, "eps_in_sqrt": False},
        rmsprop,
        "RMSprop",
    ),
    "RMSprop momentum": (
        optim.RMSprop,
        {"lr": 0.02, "gamma": 0.95, "momentum": 0.5, "eps_in_sqrt": False},
        rmsprop,
        "RMSprop",
    ),
    "RMSprop all": (
        optim.RMSprop,
        {"lr": 0.02, "gamma": 0.9, "eps": 0.1, "centered": True, "momentum": 0.5},
        rmsprop,
        None,
    ),
    "Adadelta": (optim.Adadelta, {"lr": 1.0, "rho": 0.8, "eps": 1e-2}, adadelta, "Adadelta"),
    "AdamW": (optim.AdamW, {"lr": 0.1, "weight_decay": 0.2}, adamw, None),
    "AdamW eps outside": (optim.AdamW, {"lr": 0.1, "weight_decay": 0.2, "eps_in_sqrt": False}, adamw, "AdamW"),
    "NAdam": (optim.NAdam, {"lr": 0.1}, nadam, None),
    "NAdam eps outside": (
        optim.NAdam,
        {"lr": 0.1, "betas": (0.8, 0.95), "momentum_decay": 0.01, "eps_in_sqrt": False},
        nadam,
        "NAdam",
    ),
}
IN_PYTORCH = {"gamma": "alpha"}  # the names of hyperparameters that differ
every_optimizer = pytest.mark.parametrize(
    ("kind", "options", "formula"), [o[:3] for o in OPTIMIZERS.values()], ids=OPTIMIZERS
)

START = [np.array([[1.0, -2.0, 0.5], [3.0, 0.0, -1.0]]), np.array(0.7), np.array([2.0, -0.3])]
CURVATURES = [np.array([[1.0, 4.0, 0.1], [2.0, 1.0, 3.0]]), np.array(0.5), np.array([5.0, 0.3])]


def parameters(dtype=None):
    return [nn.Parameter(a, dtype=dtype) for a in START]


def gradients(arrays, step):
    """Of ½ Σ curvature · (θ - target)², with targets that move, so that no two steps are alike."""
    return [c * (a - 0.1 * np.sin(step + a.size)) for c, a in zip(CURVATURES, arrays, strict=True)]


def take_steps(optimizer, params, steps):
    for step in steps:
        for p, g in zip(params, gradients([p.data for p in params], step), strict=True):
            p.grad = g
        optimizer.step()


def assert_equal(params, expected, **tolerance):
    for p, e in zip(params, expected, strict=True):
        actual = p.data if isinstance(p, Tensor) else p
        if tolerance:
            np.testing.assert_allclose(actual, e, **tolerance)
        else:
            np.testing.assert_array_equal(actual, e)


def test_every_optimizer_is_in_the_table():
    classes = {getattr(optim, name) for name in optim.__all__}
    public = {c for c in classes if isinstance(c, type) and issubclass(c, optim.Optimizer)} - {optim.Optimizer}
    missing = sorted(c.__name__ for c in public - {row[0] for row in OPTIMIZERS.values()})
    assert not missing, f"add {missing} to OPTIMIZERS"


# The rules -----------------------------------------------------------------------------------------------------------


@every_optimizer
@pytest.mark.parametrize("block", [None, 1, 4])
def test_steps_follow_the_formula(kind, options, formula, block, monkeypatch):
    if block:
        monkeypatch.setattr(machinery, "BLOCK", block)
    params = parameters()
    optimizer = kind(params, **options)
    arrays, states = [a.copy() for a in START], [{} for _ in START]
    for t in (1, 2, 3):
        take_steps(optimizer, params, [t])
        arrays = [formula(a, s, g, t, **options) for a, s, g in zip(arrays, states, gradients(arrays, t), strict=True)]
        assert_equal(params, arrays, rtol=1e-13)


def test_where_eps_stands_makes_a_difference():
    inside, outside = (optim.Adam(p := parameters(), lr=0.1, eps=0.5, eps_in_sqrt=i) for i in (True, False))
    for optimizer, divisor in ((inside, np.sqrt(4 + 0.5)), (outside, 2 + 0.5)):
        p = optimizer.param_groups[0]["params"][1]
        p.grad = 2.0
        with pytest.warns(UserWarning, match="without a gradient"):
            optimizer.step()
        assert p.item() == pytest.approx(0.7 - 0.1 * 2 / divisor, rel=1e-12)


@pytest.mark.parametrize(("kind", "options", "torch_name"), [(k, o, t) for k, o, _, t in OPTIMIZERS.values() if t])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-5)])
def test_sixty_steps_agree_with_pytorch(kind, options, torch_name, dtype, tolerance):
    torch = pytest.importorskip("torch")
    if kind is optim.NAdam:
        tolerance = max(tolerance, 1e-6)  # PyTorch keeps the product of μ in float32
    params = parameters(dtype)
    optimizer = kind(params, **options)
    theirs = [torch.tensor(a, dtype=getattr(torch, dtype), requires_grad=True) for a in START]
    their_options = {IN_PYTORCH.get(k, k): v for k, v in options.items() if k != "eps_in_sqrt"}
    their_optimizer = getattr(torch.optim, torch_name)(theirs, **their_options)
    for step in range(60):
        take_steps(optimizer, params, [step])
        for p, g in zip(theirs, gradients([p.detach().numpy() for p in theirs], step), strict=True):
            p.grad = torch.tensor(g, dtype=p.dtype)
        their_optimizer.step()
        assert_equal(params, [p.detach().numpy() for p in theirs], rtol=tolerance, atol=tolerance)


@every_optimizer
def test_parameters_bigger_than_a_block(kind, options, formula):
    size = machinery.BLOCK + 7
    start = np.random.default_rng(0).normal(size=(2, size))
    big, small = nn.Parameter(start), [nn.Parameter(start[:, i : i + 100]) for i in (0, 16_300, size - 100)]
    ours, theirs = kind([big], **options), kind(small, **options)
    for step in range(3):
        big.grad = np.cos(start + step)
        ours.step()
        for p, i in zip(small, (0, 16_300, size - 100), strict=True):
            p.grad = big.grad.data[:, i : i + 100]
        theirs.step()
    for p, i in zip(small, (0, 16_300, size - 100), strict=True):
        np.testing.assert_array_equal(big.data[:, i : i + 100], p.data)


def test_a_rule_can_only_read_the_gradient(monkeypatch):
    """It is that of the parameter itself where that is large."""

    class Careless(optim.GradientDescent):
        def update(self, group, t, theta, g, *state):
            g *= 2

    for block in (1, 100):
        monkeypatch.setattr(machinery, "BLOCK", block)
        params = parameters()
        optimizer = Careless(params)
        for p in params:
            p.grad = np.ones(p.shape)
        with pytest.raises(ValueError, match="read-only"):
            optimizer.step()
        assert all((p.grad.data == 1).all() for p in params)
        params[0].grad.data[...] = 2  # its owner can change it still


@pytest.mark.parametrize("block", [2, 100])
def test_gradients_that_lie_in_another_order_or_are_the_parameters_themselves(block, monkeypatch):
    monkeypatch.setattr(machinery, "BLOCK", block)
    start = np.arange(6.0).reshape(2, 3)
    w = nn.Parameter(start)
    optimizer = optim.AdamW([w], lr=0.1, weight_decay=0.5)
    expected = nn.Parameter(start)
    other = optim.AdamW([expected], lr=0.1, weight_decay=0.5)
    for gradient, same in ((w.data, start), (np.asfortranarray(start), start), (start[:, ::-1], start[:, ::-1].copy())):
        w.grad, expected.grad = tg.Tensor(gradient), tg.Tensor(same)
        if gradient is w.data:
            w._node.grad = gradient  # without a copy
        optimizer.step()
        other.step()
        np.testing.assert_array_equal(w.data, expected.data)


@every_optimizer
def test_a_quadratic_converges(kind, options, formula):
    target = np.array([1.0, -2.0, 3.0])
    if kind is optim.AdamW:
        options = {**options, "weight_decay": 1e-5}  # where its decay and its steps balance depends on its past
    w = nn.Parameter(np.zeros(3))
    optimizer = kind([w], **options)
    weight_decay = options.get("weight_decay", 0)
    for _ in range(600):
        optimizer.step(lambda: ((w - target) ** 2 / 2).sum())
        optimizer.param_groups[0]["lr"] *= 0.995
    np.testing.assert_allclose(w.data, target / (1 + weight_decay), atol=1e-3)


ROSENBROCK = {optim.Adadelta: 0.5, optim.RMSprop: 0.002, optim.Adagrad: 0.5, optim.Momentum: 0.005, optim.NAdam: 0.05}
ROSENBROCK |= {optim.Adam: 0.05, optim.AdamW: 0.05, optim.SGD: 0.0005, optim.GradientDescent: 0.001}


@every_optimizer
def test_rosenbrocks_valley_is_followed(kind, options, formula):
    w = nn.Parameter(np.array([-1.2, 1.0]))
    options = {k: v for k, v in options.items() if k not in ("weight_decay", "eps")}
    optimizer = kind([w], **options | {"lr": ROSENBROCK[kind]} | ({"weight_decay": 0} if kind is optim.AdamW else {}))
    for _ in range(3000):
        loss = optimizer.step(lambda: 100 * (w[1] - w[0] ** 2) ** 2 + (1 - w[0]) ** 2)
    assert loss.item() < 0.2  # from 24.2; the valley's floor falls from 4


def test_linear_regression_by_gradient_descent():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3))
    y = x @ [[1.0], [2.0], [-1.0]] + 0.5
    model = nn.Linear(3, 1)
    optimizer = optim.GradientDescent(model.parameters(), lr=0.2)
    for _ in range(300):
        optimizer.step(lambda: nn.functional.mse_loss(model(x), y))
    np.testing.assert_allclose(model.weight.data, [[1, 2, -1]], atol=1e-6)
    np.testing.assert_allclose(model.bias.data, [0.5], atol=1e-6)


# Saving and resuming -------------------------------------------------------------------------------------------------


@every_optimizer
@pytest.mark.parametrize("transport", [lambda s: s, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_training_resumes_bit_for_bit(kind, options, formula, transport):
    params = parameters()
    optimizer = kind(params, **options)
    optimizer.param_groups[0]["lr"] *= 0.5
    take_steps(optimizer, params, range(5))
    saved, arrays = transport(optimizer.state_dict()), [p.data.copy() for p in params]
    take_steps(optimizer, params, range(5, 10))
    resumed = [nn.Parameter(a) for a in arrays]
    twin = kind(resumed, **options)
    twin.load_state_dict(saved)
    assert twin.param_groups[0]["lr"] == options["lr"] * 0.5
    take_steps(twin, resumed, range(5, 10))
    assert_equal(resumed, [p.data for p in params])
    optimizer.load_state_dict(saved)  # and in place: back to the middle
    for p, a in zip(params, arrays, strict=True):
        p.data = a.copy()
    take_steps(optimizer, params, range(5, 10))
    assert_equal(params, [p.data for p in resumed])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_model_and_optimizer_copied_together_go_on_together(duplicate):
    params = parameters()
    optimizer = optim.Adam(params, lr=0.1)
    take_steps(optimizer, params, range(3))
    twin_params, twin = duplicate((params, optimizer))
    take_steps(optimizer, params, range(3, 6))
    before = [p.data.copy() for p in twin_params]
    take_steps(twin, twin_params, range(3, 6))
    assert_equal(twin_params, [p.data for p in params])
    assert all(not np.array_equal(p.data, b) for p, b in zip(twin_params, before, strict=True))


def test_state_dict_is_a_copy_and_has_pytorchs_form():
    params = parameters()
    optimizer = optim.Adam(params, lr=0.1)
    take_steps(optimizer, params, range(2))
    state = optimizer.state_dict()
    assert state["param_groups"][0]["params"] == [0, 1, 2]
    assert {k: type(v) for k, v in state["state"][0].items()} == {"step": int, "m": np.ndarray, "v": np.ndarray}
    assert state["state"][0]["step"] == 2
    assert state["state"][0]["m"].shape == (2, 3)
    frozen = copy.deepcopy(state)
    take_steps(optimizer, params, range(3))
    np.testing.assert_array_equal(state["state"][2]["v"], frozen["state"][2]["v"])


def spoil(change):
    def apply(state):
        change(state)
        return state

    return apply


SPOILED = {
    "no state": (spoil(lambda s: s.pop("state")), r"'state'.*param_groups"),
    "a parameter missing": (spoil(lambda s: s["state"].pop(1)), r"no entry for parameter 1"),
    "step missing": (spoil(lambda s: s["state"][1].pop("step")), r"no entry for parameter 1"),
    "a shape": (spoil(lambda s: s["state"][0].update(m=np.ones(4))), r"m of parameter 0.*\(4,\).*\(2, 3\)"),
    "fewer parameters": (spoil(lambda s: s["param_groups"][0]["params"].pop()), r"\[2\].*\[3\]"),
    "an option missing": (spoil(lambda s: s["param_groups"][0].pop("eps")), r"hyperparameters.*eps"),
}


@pytest.mark.parametrize(("change", "text"), SPOILED.values(), ids=SPOILED)
def test_a_state_that_does_not_fit_changes_nothing(change, text):
    params = parameters()
    optimizer = optim.Adam(params, lr=0.1)
    take_steps(optimizer, params, range(2))
    state = change(optimizer.state_dict())
    fresh = optim.Adam(parameters(), lr=0.3)
    before = pickle.dumps(fresh.state_dict())
    with pytest.raises(StateDictError, match=text):
        fresh.load_state_dict(state)
    assert pickle.dumps(fresh.state_dict()) == before


def test_a_state_of_another_class_or_with_a_bad_value_is_refused():
    state = optim.SGD(parameters(), lr=0.1).state_dict()
    with pytest.raises(StateDictError, match="Adam"):
        optim.Adam(parameters()).load_state_dict(state)
    state["param_groups"][0]["lr"] = -1
    with pytest.raises(ValueError, match="lr"):
        optim.SGD(parameters(), lr=0.1).load_state_dict(state)


def test_a_state_after_a_schedule_has_come_to_its_end():
    params = parameters()
    optimizer = optim.SGD(params, lr=0.1)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, 2)
    for step in range(2):
        take_steps(optimizer, params, [step])
        schedule.step()
    twin = optim.SGD(parameters(), lr=0.1)
    twin.load_state_dict(optimizer.state_dict())
    assert twin.param_groups[0]["lr"] == 0


def test_the_momentum_that_counts_is_that_of_the_state():
    params = parameters()
    plain, heavy = optim.SGD(params, lr=0.1), optim.SGD(parameters(), lr=0.1, momentum=0.9)
    take_steps(plain, params, range(2))
    heavy.load_state_dict(plain.state_dict())
    assert heavy.param_groups[0]["momentum"] == 0
    state = plain.state_dict()
    state["param_groups"][0]["momentum"] = 0.9
    with pytest.raises(StateDictError, match=r"lacks \['b'\]"):
        optim.SGD(parameters(), lr=0.1).load_state_dict(state)


# Groups --------------------------------------------------------------------------------------------------------------


@every_optimizer
def test_groups_have_hyperparameters_of_their_own(kind, options, formula):
    together, alone = parameters(), parameters()
    slow = options["lr"] / 4
    groups = [{"params": together[:1], "lr": slow}, {"params": together[1:]}]
    optimizer = kind(groups, **options)
    assert [g["lr"] for g in optimizer.param_groups] == [slow, options["lr"]]
    first, rest = kind(alone[:1], **{**options, "lr": slow}), kind(alone[1:], **options)
    for step in range(4):
        take_steps(optimizer, together, [step])
        for p, g in zip(alone, gradients([p.data for p in alone], step), strict=True):
            p.grad = g
        first.step()
        rest.step()
    assert_equal(together, [p.data for p in alone])


@every_optimizer
def test_a_new_learning_rate_counts_from_the_next_step(kind, options, formula):
    params = parameters()
    optimizer = kind(params, **options)
    arrays, states = [a.copy() for a in START], [{} for _ in START]
    for t in (1, 2, 3):
        now = {**options, "lr": options["lr"] / t}
        optimizer.param_groups[0]["lr"] = now["lr"]
        take_steps(optimizer, params, [t])
        arrays = [formula(a, s, g, t, **now) for a, s, g in zip(arrays, states, gradients(arrays, t), strict=True)]
    assert_equal(params, arrays, rtol=1e-13)


def test_a_group_may_join_later():
    a, b = nn.Parameter([1.0]), nn.Parameter([1.0])
    optimizer = optim.Adam([a], lr=0.1)
    optimizer.step(lambda: (a * a).sum())
    optimizer.add_param_group({"params": b, "lr": 0.2})
    optimizer.step(lambda: (a * a + b * b).sum())
    assert b.item() == pytest.approx(0.8, abs=1e-6)  # its own first step: t counts for each parameter


# Parameters ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtypes", [("float32",) * 3, ("float64",) * 3, ("float32", "float64", "float32")])
@every_optimizer
def test_dtypes_stay_also_mixed(kind, options, formula, dtypes):
    params = [nn.Parameter(a, dtype=d) for a, d in zip(START, dtypes, strict=True)]
    alone = [nn.Parameter(a, dtype=d) for a, d in zip(START, dtypes, strict=True)]
    optimizer, singles = kind(params, **options), [kind([p], **options) for p in alone]
    take_steps(optimizer, params, range(3))
    for step in range(3):
        for p, single, g in zip(alone, singles, gradients([p.data for p in alone], step), strict=True):
            p.grad = g
            single.step()
    assert [p.dtype for p in params] == [np.dtype(d) for d in dtypes]
    assert_equal(params, [p.data for p in alone])


def test_the_step_count_belongs_to_a_parameter():
    a, b, c = (nn.Parameter([1.0]) for _ in range(3))
    c.name = "c"
    optimizer = optim.Adam([a, b, c], lr=0.1)
    with pytest.warns(UserWarning, match="1 of shape .1,., c") as caught:
        optimizer.step(lambda: (a * a).sum())
    assert len(caught) == 1
    assert (b.item(), c.item()) == (1.0, 1.0)
    optimizer.step(lambda: (a * a + c * c).sum())  # one warning is enough
    optimizer.step(lambda: (a * a + b * b + c * c).sum())
    state = optimizer.state_dict()["state"]
    assert [state[i]["step"] for i in range(3)] == [3, 1, 2]
    for p, steps in ((a, 3), (b, 1), (c, 2)):
        alone = nn.Parameter([1.0])
        single = optim.Adam([alone], lr=0.1)
        for _ in range(steps):
            single.step(lambda w=alone: (w * w).sum())
        np.testing.assert_array_equal(p.data, alone.data)


def test_a_full_first_step_does_not_use_up_the_warning():
    a, b = nn.Parameter([1.0]), nn.Parameter([1.0])
    optimizer = optim.SGD([a, b], lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step(lambda: (a * b).sum())
    assert a.item() == pytest.approx(0.9)


def test_zero_grad_between_forward_and_backward_changes_nothing_else():
    w = nn.Parameter([1.0, 2.0])
    first, second = optim.SGD([w], lr=0.1), optim.SGD([w], lr=0.2)
    w.data = w.data * 3
    loss = (w * w).sum()
    first.zero_grad()
    second.zero_grad()
    loss.backward()
    np.testing.assert_allclose(w.grad.data, [6.0, 12.0])


def test_two_optimizers_over_the_same_parameters():
    shared = parameters()
    first, second = optim.SGD(shared, lr=0.1, momentum=0.9), optim.Adam(shared, lr=0.05)
    arrays, states = [a.copy() for a in START], ([{} for _ in START], [{} for _ in START])
    for t in (1, 2, 3):
        for optimizer, rule, own, options in (
            (first, sgd, states[0], {"lr": 0.1, "momentum": 0.9}),
            (second, adam, states[1], {"lr": 0.05}),
        ):
            take_steps(optimizer, shared, [t])
            arrays = [rule(a, s, g, t, **options) for a, s, g in zip(arrays, own, gradients(arrays, t), strict=True)]
            assert_equal(shared, arrays, rtol=1e-13)


def test_loading_and_assigning_data_are_seen_by_the_next_step():
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    model.load_state_dict({"weight": [[5.0, 6.0]], "bias": [7.0]})
    model.weight.grad, model.bias.grad = [[1.0, 1.0]], [1.0]
    optimizer.step()
    np.testing.assert_array_equal(model.weight.data, [[4, 5]])
    np.testing.assert_array_equal(model.bias.data, [6])
    model.weight.data = np.array([[10.0, 20.0]])
    optimizer.step()
    np.testing.assert_array_equal(model.weight.data, [[9, 19]])
    np.testing.assert_array_equal(model.bias.data, [5])
    with tg.no_grad():
        model.weight -= 1
    optimizer.step()
    np.testing.assert_array_equal(model.weight.data, [[7, 17]])
    model.weight.data -= 2
    optimizer.step()
    np.testing.assert_array_equal(model.weight.data, [[4, 14]])


def test_assigned_data_are_not_changed_by_later_steps():
    w, mine = nn.Parameter([1.0, 2.0]), np.array([5.0, 6.0])
    optimizer = optim.SGD([w], lr=1.0)
    w.data = mine
    w.grad = [1.0, 1.0]
    optimizer.step()
    np.testing.assert_array_equal(w.data, [4, 5])
    np.testing.assert_array_equal(mine, [5, 6])


def test_parameters_that_are_not_contiguous():
    w = nn.Parameter(np.arange(6.0).reshape(2, 3))
    w.data = w.data.T
    optimizer = optim.SGD([w], lr=1.0)
    w.grad = np.ones((3, 2))
    optimizer.step()
    np.testing.assert_array_equal(w.data, np.arange(6.0).reshape(2, 3).T - 1)


# step() and zero_grad() ----------------------------------------------------------------------------------------------


@every_optimizer
def test_step_with_a_closure_computes_fresh_gradients(kind, options, formula):
    w = nn.Parameter([2.0])
    w.grad = [1e6]  # left over: must not count
    optimizer = kind([w], **options)
    loss = optimizer.step(lambda: (w * w).sum())
    assert loss.item() == 4.0
    np.testing.assert_allclose(w.data, formula(np.array([2.0]), {}, np.array([4.0]), 1, **options), rtol=1e-13)


@every_optimizer
def test_step_without_backward_raises(kind, options, formula):
    params = parameters()
    optimizer = kind(params, **options)
    with pytest.raises(GraphError, match=r"backward\(\)"):
        optimizer.step()
    take_steps(optimizer, params, [0])
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)
    before = [p.data.copy() for p in params]
    with pytest.raises(GraphError, match=r"backward\(\)"):
        optimizer.step()
    assert_equal(params, before)


def test_repr_shows_the_hyperparameters():
    assert "lr=0.1" in repr(optim.Adam(parameters(), lr=0.1))
    assert "9 parameters" in repr(optim.Adam(parameters()))


# Bad input -----------------------------------------------------------------------------------------------------------

BAD = [
    *[(row[0], {**row[1], "lr": value}, "lr") for row in OPTIMIZERS.values() for value in (0, -1, float("nan"), "x")],
    *[(optim.SGD, {"lr": value}, "lr") for value in (float("inf"), None, True, [0.1])],
    (optim.SGD, {"momentum": -0.1}, "momentum"),
    (optim.SGD, {"momentum": float("nan")}, "momentum"),
    (optim.SGD, {"weight_decay": -1}, "weight_decay"),
    (optim.SGD, {"momentum": 0.9, "dampening": 2}, "dampening"),
    (optim.SGD, {"nesterov": True}, r"nesterov.*momentum=0"),
    (optim.SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, r"nesterov.*dampening=0\.1"),
    (optim.Momentum, {"beta": 1.0}, "beta"),
    (optim.Momentum, {"beta": -0.1}, "beta"),
    (optim.Adam, {"betas": (1.0, 0.9)}, r"beta1.*1\.0"),
    (optim.Adam, {"betas": (0.9, -1)}, r"beta2.*-1"),
    (optim.Adam, {"betas": 0.9}, "betas.*pair"),
    (optim.Adam, {"betas": (0.9, 0.99, 0.999)}, "betas.*pair"),
    (optim.Adam, {"eps": 0}, "eps"),
    (optim.Adam, {"eps": float("nan")}, "eps"),
    (optim.Adagrad, {"eps": 0}, "eps"),
    (optim.RMSprop, {"gamma": 1.0}, "gamma"),
    (optim.RMSprop, {"eps": -1e-8}, "eps"),
    (optim.RMSprop, {"momentum": -0.1}, "momentum"),
    (optim.Adadelta, {"rho": 1.5}, "rho"),
    (optim.Adadelta, {"eps": 0}, "eps"),
    (optim.AdamW, {"weight_decay": -1}, "weight_decay"),
    (optim.AdamW, {"betas": (0.9, 1.0)}, "beta2"),
    (optim.NAdam, {"momentum_decay": float("nan")}, "momentum_decay"),
]


@pytest.mark.parametrize(("kind", "options", "text"), BAD)
def test_bad_hyperparameters_are_named(kind, options, text):
    with pytest.raises(ValueError, match=text):
        kind(parameters(), **options)
    with pytest.raises(ValueError, match=text):
        kind([{"params": parameters(), **options}])


def test_bad_parameters_are_named():
    w = nn.Parameter([1.0], name="w")
    with pytest.raises(ValueError, match=r"SGD got no parameters.*model\.parameters"):
        optim.SGD([])
    with pytest.raises(ValueError, match="w was given twice"):
        optim.SGD([w, w])
    with pytest.raises(ValueError, match="w was given twice"):
        optim.SGD([{"params": [w]}, {"params": [w]}])
    with pytest.raises(ValueError, match=r"no hyperparameter.*speed"):
        optim.SGD([{"params": [w], "speed": 1}])
    for wrong in (np.ones(3), w * 1, "w"):
        with pytest.raises(TypeError, match="Parameters"):
            optim.SGD([wrong])


@pytest.mark.parametrize("size", [3, machinery.BLOCK + 3])
def test_a_gradient_that_is_another_parameter_is_taken_before_that_moves(size):
    first, second = nn.Parameter(np.arange(float(size))), nn.Parameter(np.zeros(size))
    optimizer = optim.SGD([first, second], lr=1.0)
    first.grad = np.ones(size)
    second._node.grad = first.data
    optimizer.step()
    np.testing.assert_array_equal(second.data, -np.arange(float(size)))


def test_a_large_gradient_of_another_shape_is_refused_and_nothing_moves():
    w = nn.Parameter(np.zeros((200, 100)), name="w")
    optimizer = optim.SGD([w], lr=1.0)
    w._node.grad = np.ones((100, 200))
    with pytest.raises(tg.ShapeError, match=r"gradient of parameter w has shape \(100, 200\)"):
        optimizer.step()
    assert not w.data.any()


def test_a_closure_that_walks_back_itself_is_told_so():
    p = nn.Parameter([1.0, 2.0])
    optimizer = optim.GradientDescent([p], lr=0.1)

    def closure():
        loss = (p * p).sum()
        loss.backward()
        return loss

    with pytest.raises(GraphError, match="the optimizer does that"):
        optimizer.step(closure)


def test_a_model_in_the_place_of_its_parameters_is_told_so():
    with pytest.raises(TypeError, match=r"model\.parameters\(\); got a Linear"):
        optim.SGD(nn.Linear(2, 1))


@pytest.mark.parametrize("values", [["a", "b"], [None, None], [1j, 2j]])
def test_a_state_that_holds_no_real_numbers_changes_nothing(values):
    p = nn.Parameter([1.0, 2.0])
    optimizer = optim.Adam([p], lr=0.1)
    (p * p).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    state["param_groups"][0]["lr"] = 0.5
    state["state"][0]["m"] = np.array(values)
    before = pickle.dumps(optimizer.state_dict())
    for wrong in (state, 3, None):
        with pytest.raises(StateDictError):
            optimizer.load_state_dict(wrong)
    assert pickle.dumps(optimizer.state_dict()) == before
