"""Learning-rate schedules: against PyTorch, against their formulas, and with bad input."""

import math

import pytest

from tinygrad_opt import StateDictError, nn, optim
from tinygrad_opt.optim import lr_scheduler

# name, options, formula of the rate in epoch t for a group that started with base
SCHEDULES = [
    ("StepLR", {"step_size": 3, "gamma": 0.5}, lambda base, t: base * 0.5 ** (t // 3)),
    ("ExponentialLR", {"gamma": 0.9}, lambda base, t: base * 0.9**t),
    (
        "LinearLR",
        {"start_factor": 0.25, "end_factor": 0.75, "total_iters": 4},
        lambda base, t: base * (0.25 + 0.5 * min(t, 4) / 4),
    ),
    (
        "CosineAnnealingLR",
        {"T_max": 5, "eta_min": 0.01},
        lambda base, t: 0.01 + (base - 0.01) * (1 + math.cos(math.pi * t / 5)) / 2,
    ),
    ("LambdaLR", {"lr_lambda": lambda t: 1 / (1 + t)}, lambda base, t: base / (1 + t)),
]
every_schedule = pytest.mark.parametrize(("name", "options", "formula"), SCHEDULES, ids=[s[0] for s in SCHEDULES])


def an_optimizer():
    return optim.SGD([{"params": nn.Parameter([1.0])}, {"params": nn.Parameter([2.0]), "lr": 0.4}], lr=0.2)


@every_schedule
def test_rates_follow_the_formula(name, options, formula):
    optimizer = an_optimizer()
    scheduler = getattr(lr_scheduler, name)(optimizer, **options)
    for t in range(12):
        assert scheduler.get_last_lr() == pytest.approx([formula(0.2, t), formula(0.4, t)], rel=1e-14)
        assert [group["lr"] for group in optimizer.param_groups] == scheduler.get_last_lr()
        scheduler.step()


@every_schedule
def test_rates_agree_with_pytorch(name, options, formula):
    torch = pytest.importorskip("torch")
    theirs = torch.optim.SGD([{"params": [torch.ones(1)]}, {"params": [torch.ones(1)], "lr": 0.4}], lr=0.2)
    their_scheduler = getattr(torch.optim.lr_scheduler, name)(theirs, **options)
    ours = getattr(lr_scheduler, name)(an_optimizer(), **options)
    for _ in range(12):
        assert ours.get_last_lr() == pytest.approx(their_scheduler.get_last_lr(), rel=1e-12)
        theirs.step()
        their_scheduler.step()
        ours.step()


@every_schedule
def test_a_schedule_resumes(name, options, formula):
    first, second = an_optimizer(), an_optimizer()
    scheduler = getattr(lr_scheduler, name)(first, **options)
    for _ in range(4):
        scheduler.step()
    twin = getattr(lr_scheduler, name)(second, **options)
    twin.load_state_dict(scheduler.state_dict())
    assert twin.get_last_lr() == scheduler.get_last_lr()
    scheduler.step()
    twin.step()
    assert twin.get_last_lr() == scheduler.get_last_lr()


METRICS = [5.0, 4.0, 4.0, 3.9999, 4.0, 3.0, 3.1, 3.2, float("nan"), 3.0, 3.0, 3.0, 3.0, 2.0, 2.0, 2.0, 2.0, 2.0]
PLATEAUS = [
    {"patience": 1},
    {"patience": 1, "cooldown": 2},
    {"patience": 0, "threshold": 0.5, "threshold_mode": "abs"},
    {"patience": 1, "min_lr": 0.05},
    {"patience": 1, "mode": "max"},
    {"patience": 1, "mode": "max", "threshold": 0.01, "threshold_mode": "abs", "factor": 0.7},
]


@pytest.mark.parametrize("options", PLATEAUS)
def test_reducing_on_a_plateau_agrees_with_pytorch(options):
    torch = pytest.importorskip("torch")
    theirs = torch.optim.SGD([torch.ones(1)], lr=0.2)
    their_scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)
    optimizer = optim.SGD([nn.Parameter([1.0])], lr=0.2)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, **options)
    for metric in METRICS:
        their_scheduler.step(metric)
        scheduler.step(metric)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12)


def test_reducing_on_a_plateau_waits_reduces_and_resumes():
    optimizer = optim.SGD([nn.Parameter([1.0])], lr=1.0)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2)
    rates = []
    for loss in [3.0, 3.0, 3.0, 3.0, 1.0, 1.0]:
        scheduler.step(loss)
        rates += scheduler.get_last_lr()
    assert rates == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5]
    twin = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2)
    twin.load_state_dict(scheduler.state_dict())
    twin.step(1.0)
    twin.step(1.0)
    assert twin.get_last_lr() == [0.25]


BAD = [
    ("StepLR", {"step_size": 0}, "step_size"),
    ("StepLR", {"step_size": 2, "gamma": 0}, "gamma"),
    ("ExponentialLR", {"gamma": -1}, "gamma"),
    ("LinearLR", {"start_factor": 0}, "start_factor"),
    ("LinearLR", {"total_iters": 1.5}, "total_iters"),
    ("CosineAnnealingLR", {"T_max": -1}, "T_max"),
    ("CosineAnnealingLR", {"T_max": 5, "eta_min": -1}, "eta_min"),
    ("LambdaLR", {"lr_lambda": [abs]}, "2 groups; got 1"),
    ("ReduceLROnPlateau", {"factor": 1}, "factor"),
    ("ReduceLROnPlateau", {"mode": "smallest"}, "mode"),
    ("ReduceLROnPlateau", {"threshold_mode": "both"}, "threshold_mode"),
    ("ReduceLROnPlateau", {"patience": -1}, "patience"),
]


@pytest.mark.parametrize(("name", "options", "text"), BAD)
def test_bad_settings_are_named(name, options, text):
    with pytest.raises(ValueError, match=text):
        getattr(lr_scheduler, name)(an_optimizer(), **options)


def test_other_bad_input_is_explained():
    with pytest.raises(TypeError, match="optimizer first"):
        lr_scheduler.ExponentialLR(0.1, gamma=0.5)
    with pytest.raises(TypeError, match="number to watch"):
        lr_scheduler.ReduceLROnPlateau(an_optimizer()).step()
    scheduler = lr_scheduler.ExponentialLR(an_optimizer(), gamma=0.5)
    with pytest.raises(StateDictError, match="base_lrs"):
        scheduler.load_state_dict({"last_epoch": 3})
    with pytest.raises(StateDictError, match="2 groups"):
        scheduler.load_state_dict({"last_epoch": 3, "base_lrs": [0.1]})
    with pytest.raises(StateDictError, match="best"):
        lr_scheduler.ReduceLROnPlateau(an_optimizer()).load_state_dict(scheduler.state_dict())


COMBINED = [
    (("LinearLR", {"start_factor": 0.1, "total_iters": 3}), ("ExponentialLR", {"gamma": 0.9})),
    (("StepLR", {"step_size": 2, "gamma": 0.5}), ("ExponentialLR", {"gamma": 0.8})),
    (("ExponentialLR", {"gamma": 0.9}), ("LambdaLR", {"lr_lambda": lambda t: 1 / (1 + t)})),
]


@pytest.mark.parametrize("schedules", COMBINED)
def test_two_schedules_multiply(schedules):
    def both():
        optimizer = an_optimizer()
        return [getattr(lr_scheduler, name)(optimizer, **options) for name, options in schedules]

    alone = [getattr(lr_scheduler, name)(an_optimizer(), **options) for name, options in schedules]
    start = an_optimizer()
    together = both()
    for epoch in range(8):
        expected = [
            a * b / group["lr"]
            for a, b, group in zip(alone[0].get_last_lr(), alone[1].get_last_lr(), start.param_groups, strict=True)
        ]
        assert together[1].get_last_lr() == pytest.approx(expected, rel=1e-12)
        if epoch == 4:  # resume
            again = both()
            for new, old in zip(again, together, strict=True):
                new.load_state_dict(old.state_dict())
            together = again
        for schedule in (*alone, *together):
            schedule.step()


def test_a_rate_that_was_changed_by_hand_stays_changed():
    optimizer = an_optimizer()
    schedule = lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    schedule.step()
    optimizer.param_groups[0]["lr"] *= 3
    before = schedule.get_last_lr()
    schedule.step()
    assert schedule.get_last_lr() == pytest.approx([rate / 2 for rate in before])
    zero = lr_scheduler.LambdaLR(optimizer, lambda t: 1.0 if t > 1 else 0.0)
    zero.step()
    zero.step()
    assert all(zero.get_last_lr())


@pytest.mark.parametrize(
    "state", [3, None, {"last_epoch": "3", "base_lrs": [0.1, 0.2]}, {"last_epoch": -1, "base_lrs": [1, 1]}]
)
def test_states_that_are_none_change_nothing(state):
    for schedule in (lr_scheduler.ExponentialLR(an_optimizer(), 0.5), lr_scheduler.ReduceLROnPlateau(an_optimizer())):
        before = schedule.state_dict(), schedule.get_last_lr()
        with pytest.raises(StateDictError):
            schedule.load_state_dict(state)
        assert (schedule.state_dict(), schedule.get_last_lr()) == before
