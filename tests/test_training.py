"""fit, evaluate, accuracy and History: the training loop does what the loop written out by hand does."""

import builtins
import sys

import numpy as np
import pytest

import tinygrad_opt as tg
from tinygrad_opt import History, Tensor, nn, optim
from tinygrad_opt.nn import functional as F

rng = np.random.default_rng(0)
X = rng.normal(size=(30, 2))
CLASSES = (X[:, 0] + X[:, 1] > 0).astype(int)
VALIDATION = X[:10] + 0.1, CLASSES[:10]


def classifier():
    return nn.MLP([2, 8, 2], nn.Tanh, generator=np.random.default_rng(1))


def train(model=None, loss_fn=F.cross_entropy, epochs=3, batch_size=7, progress=False, **options):
    model = model or classifier()
    loader = tg.DataLoader(X, CLASSES, batch_size=batch_size, shuffle=True, generator=np.random.default_rng(2))
    return model, tg.fit(
        model, loss_fn, optim.Adam(model.parameters(), lr=0.02), loader, epochs, progress=progress, **options
    )


# fit -----------------------------------------------------------------------------------------------------------------


def test_fit_is_the_loop_written_out():
    fitted, history = train()
    model = classifier()
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    loader = tg.DataLoader(X, CLASSES, batch_size=7, shuffle=True, generator=np.random.default_rng(2))
    losses = []
    for _ in range(3):
        total = 0.0
        for x, y in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        losses.append(total / len(X))
    for mine, theirs in zip(model.parameters(), fitted.parameters(), strict=True):
        np.testing.assert_array_equal(mine.data, theirs.data)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-12)


def test_fit_learns():
    model, history = train(epochs=60)
    assert history["loss"][-1] < 0.3 * history["loss"][0]
    assert tg.accuracy(model(X), CLASSES) > 0.95


def test_history_has_a_number_per_epoch_for_each_quantity():
    _, history = train(validation=VALIDATION, metrics={"accuracy": tg.accuracy})
    names = ["loss", "accuracy", "val_loss", "val_accuracy", "seconds"]
    assert list(history.columns) == names
    assert all(len(history[name]) == 3 for name in names)
    assert all(0 <= value <= 1 for value in history["accuracy"] + history["val_accuracy"])
    assert all(value > 0 for value in history["seconds"])
    assert history.epochs == 3
    assert not history.interrupted
    assert "val_loss" in history
    assert "val_speed" not in history
    assert history.last["loss"] == history["loss"][-1]
    assert "3 epochs" in repr(history)


def test_validation_may_be_a_loader_and_is_measured_after_the_epoch():
    model, history = train(epochs=1, validation=tg.DataLoader(*VALIDATION, batch_size=4))
    assert history["val_loss"] == [pytest.approx(F.cross_entropy(model(VALIDATION[0]), VALIDATION[1]).item())]


def test_batches_of_unequal_size_count_by_their_examples():
    """With 30 examples in batches of 7 the last batch has 2: a plain mean over batches would be off."""
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.parameters(), lr=1e-12)
    targets = np.arange(30.0)[:, None]
    history = tg.fit(
        model,
        F.mse_loss,
        optimizer,
        tg.DataLoader(X, targets, batch_size=7),
        1,
        metrics={"largest": largest},
        progress=False,
    )
    assert history["loss"][0] == pytest.approx(F.mse_loss(model(X), targets).item(), rel=1e-6)
    assert history["largest"][0] == pytest.approx((6 * 7 + 13 * 7 + 20 * 7 + 27 * 7 + 29 * 2) / 30)


def largest(prediction, target):
    return target.max()


class Modes(nn.Module):
    """Notes the mode and the grad mode of every call."""

    def __init__(self):
        self.linear = nn.Linear(2, 2)
        self.seen = []

    def forward(self, x):
        self.seen.append((self.training, tg.is_grad_enabled()))
        return self.linear(x)


def test_training_and_evaluation_modes():
    model = Modes().eval()
    train(model, epochs=2, batch_size="all", validation=VALIDATION)
    assert model.seen == [(True, True), (False, False)] * 2
    model.linear.eval()
    model.train(False)
    model.linear.train()
    tg.evaluate(model, VALIDATION, {"loss": F.cross_entropy})
    assert (model.training, model.linear.training) == (False, True)


def test_modes_are_put_back_when_a_metric_fails():
    def broken(prediction, target):
        raise RuntimeError("broken metric")

    model = Modes()
    with pytest.raises(RuntimeError, match="broken metric"):
        tg.evaluate(model, VALIDATION, {"broken": broken})
    assert model.training
    assert tg.is_grad_enabled()


# Early stopping, schedules, clipping, callbacks -----------------------------------------------------------------------


def stop_at(values, epochs=10, **options):
    """A run whose metric takes these values on the validation data, one for each epoch."""
    numbers = iter(values)
    stopping = tg.EarlyStopping(monitor="val_script", **options)
    model, weights = classifier(), []
    _, history = train(
        model,
        epochs=epochs,
        validation=VALIDATION,
        metrics={"script": lambda _, target: next(numbers) if target is VALIDATION[1] else 0.0},
        early_stopping=stopping,
        callbacks=lambda history: weights.append(model.state_dict()),
    )
    return model, history, stopping, weights


STOPS = {  # values, options -> epochs, best epoch
    "never better": ([3, 4, 5, 6, 7], {"patience": 2}, 3, 1),
    "better in between": ([3, 4, 2, 5, 6, 7], {"patience": 2}, 5, 3),
    "equal is not better": ([3, 3, 3, 3], {"patience": 3}, 4, 1),
    "too little is not better": ([3, 2.9, 2.8, 2.7, 1], {"patience": 2, "min_delta": 0.5}, 3, 1),
    "the larger the better": ([3, 4, 5, 1, 1], {"patience": 2, "mode": "max"}, 5, 3),
    "NaN": ([3, float("nan"), float("nan"), 1], {"patience": 2}, 3, 1),
    "only NaN": ([float("nan")] * 3, {"patience": 2}, 2, 0),
    "no patience needed": ([5, 4, 3, 2, 1], {"patience": 1}, 5, 5),
    "never ended": ([1, 2, 3, 4, 5], {"patience": None}, 5, 1),
}


@pytest.mark.parametrize(("values", "options", "epochs", "best"), STOPS.values(), ids=STOPS)
def test_early_stopping_ends_and_restores_the_best_weights(values, options, epochs, best):
    model, history, stopping, weights = stop_at(values, epochs=len(values), **options)
    assert history.epochs == epochs
    assert stopping.best_epoch == best
    if best:
        assert stopping.best == values[best - 1]
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, weights[(best or epochs) - 1][name])


def test_without_restore_best_the_last_weights_stay():
    model, _, _, weights = stop_at([1, 2, 3], epochs=3, patience=None, restore_best=False)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, weights[-1][name])


def test_the_best_weights_are_restored_after_an_interrupt():
    def interrupt(history):
        weights.append(model.state_dict())
        if history.epochs == 3:
            raise KeyboardInterrupt

    model, weights = classifier(), []
    _, history = train(
        model, epochs=9, early_stopping=tg.EarlyStopping(monitor="loss", mode="max"), callbacks=[interrupt]
    )
    assert history.interrupted
    np.testing.assert_array_equal(model[0].weight.data, weights[0]["0.weight"])


def test_buffers_are_restored_too():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
    seen = []
    stopping = tg.EarlyStopping(monitor="loss", mode="max", patience=None)
    train(model, early_stopping=stopping, callbacks=lambda _: seen.append(model[0].running_mean.data.copy()))
    assert not np.array_equal(seen[0], seen[-1])
    np.testing.assert_array_equal(model[0].running_mean.data, seen[stopping.best_epoch - 1])


def rates_by_hand(make, losses):
    optimizer = optim.Adam(classifier().parameters(), lr=0.02)
    scheduler = make(optimizer)
    rates = []
    for loss in losses:
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step(*([loss] if isinstance(scheduler, optim.lr_scheduler.ReduceLROnPlateau) else []))
    return rates


@pytest.mark.parametrize("validation", [None, VALIDATION], ids=["loss", "val_loss"])
@pytest.mark.parametrize(
    "make",
    [
        lambda optimizer: optim.lr_scheduler.StepLR(optimizer, 2, 0.5),
        lambda optimizer: optim.lr_scheduler.CosineAnnealingLR(optimizer, 6),
        lambda optimizer: optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.5),
    ],
    ids=["StepLR", "CosineAnnealingLR", "ReduceLROnPlateau"],
)
def test_a_schedule_is_stepped_after_every_epoch(make, validation):
    model = classifier()
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    loader = tg.DataLoader(X, CLASSES, batch_size=7)
    history = tg.fit(
        model, F.cross_entropy, optimizer, loader, 6, validation, progress=False, scheduler=make(optimizer)
    )
    expected = rates_by_hand(make, history["val_loss" if validation else "loss"])
    assert history["lr"] == expected
    assert len(set(expected)) > 1
    assert list(history.columns)[-2:] == ["lr", "seconds"]


@pytest.mark.parametrize(
    ("option", "limit", "norm"),
    [
        ("clip_norm", 0.01, lambda grads: np.sqrt(sum((g * g).sum() for g in grads))),
        ("clip_value", 0.001, lambda grads: max(np.abs(g).max() for g in grads)),
    ],
)
def test_gradients_are_clipped_before_the_step(option, limit, norm):
    class Watched(optim.SGD):
        def step(self, closure=None):
            norms.append(norm([p.grad.data for group in self.param_groups for p in group["params"]]))
            return super().step(closure)

    norms, model = [], classifier()
    loader = tg.DataLoader(X, CLASSES, batch_size=10)
    history = tg.fit(
        model, F.cross_entropy, Watched(model.parameters(), lr=0.5), loader, 2, progress=False, **{option: limit}
    )
    assert history.epochs == 2
    np.testing.assert_allclose(norms, limit, rtol=1e-3)
    assert len(norms) == 6


def test_both_clippings_together_and_none():
    plain, _ = train()
    wide, _ = train(clip_norm=1e9, clip_value=1e9)
    tight, _ = train(clip_norm=1e-9, clip_value=1.0)
    np.testing.assert_array_equal(wide[0].weight.data, plain[0].weight.data)
    assert not np.array_equal(tight[0].weight.data, plain[0].weight.data)


def test_callbacks_are_called_after_every_epoch_and_may_end_the_training():
    seen = []
    _, history = train(epochs=9, callbacks=[lambda h: seen.append(h.last["loss"]), lambda h: h.epochs == 4])
    assert seen == history["loss"]
    assert history.epochs == 4
    _, history = train(epochs=3, callbacks=lambda h: "a value that is not True")
    assert history.epochs == 3
    _, history = train(epochs=3, callbacks=(f for f in [lambda h: seen.clear()]))
    assert history.epochs == 3
    assert not seen


def test_a_history_can_be_continued():
    model, history = train(epochs=2)
    _, same = train(model, epochs=3, history=history)
    assert same is history
    assert history.epochs == 5
    assert all(len(values) == 5 for values in history.columns.values())


MISUSES = {
    "no validation": ({"early_stopping": tg.EarlyStopping()}, ValueError, "monitors 'val_loss'.*pass validation data"),
    "no such metric": (
        {"early_stopping": tg.EarlyStopping(monitor="val_accuracy"), "validation": VALIDATION},
        ValueError,
        "monitors 'val_accuracy', and there is loss, val_loss",
    ),
    "lr as a metric": ({"metrics": {"lr": largest}}, ValueError, "cannot be called 'lr'"),
    "scheduler": ({"scheduler": 0.1}, TypeError, r"scheduler is one of optim.lr_scheduler.*got 0.1"),
    "early stopping": ({"early_stopping": 5}, TypeError, r"early_stopping is an EarlyStopping\(patience=5\); got 5"),
    "callbacks": ({"callbacks": ["print"]}, TypeError, "a callback is a function of the History; got 'print'"),
    "validation that ends": ({"validation": iter([VALIDATION])}, ValueError, "validation is a list_iterator.*once"),
}


@pytest.mark.parametrize(("options", "error", "text"), MISUSES.values(), ids=MISUSES)
def test_misuse_is_noticed_before_the_work(options, error, text):
    calls = []

    def loss_fn(prediction, target):
        calls.append(1)
        return F.cross_entropy(prediction, target)

    with pytest.raises(error, match=text):
        train(loss_fn=loss_fn, **options)
    assert not calls


def test_loaders_that_are_none():
    model = classifier()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(TypeError, match=r"not a pair of arrays: DataLoader\(x, y"):
        tg.fit(model, F.cross_entropy, optimizer, (X, CLASSES), 2, progress=False)
    with pytest.raises(ValueError, match="loader is a generator, which can be gone through only once"):
        tg.fit(model, F.cross_entropy, optimizer, ((X, CLASSES) for _ in range(3)), 2, progress=False)
    assert tg.fit(model, F.cross_entropy, optimizer, iter([(X, CLASSES)]), 1, progress=False).epochs == 1


def test_a_line_search_cannot_be_clipped():
    model = classifier()
    optimizer = optim.GradientDescent(model.parameters(), line_search=optim.ArmijoGoldstein())
    with pytest.raises(ValueError, match="line search needs the gradients as they are"):
        tg.fit(model, F.cross_entropy, optimizer, [(X, CLASSES)], 1, progress=False, clip_norm=1.0)


class Regularised(nn.Module):
    """A model with everything that is not the same in every call: a mode, random numbers, buffers."""

    def __init__(self):
        generator = np.random.default_rng(3)
        self.layers = nn.Sequential(
            nn.Linear(2, 8, generator=generator), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2)
        )
        self.calls = []

    def forward(self, x):
        self.calls.append(1)  # Python code, which runs once for every program
        return self.layers(x)


def trained(compile, make_optimizer=optim.Adam, **options):
    """The model and the columns of the history, without the seconds."""
    tg.manual_seed(0)
    model = Regularised()
    loader = tg.DataLoader(X, CLASSES, batch_size=7, shuffle=True)
    history = tg.fit(
        model,
        F.cross_entropy,
        make_optimizer(model.parameters()),
        loader,
        3,
        VALIDATION,
        {"accuracy": tg.accuracy},
        progress=False,
        compile=compile,
        **options,
    )
    return model, {name: values for name, values in history.columns.items() if name != "seconds"}


def searching(parameters):
    return optim.GradientDescent(parameters, line_search=optim.ArmijoGoldstein())


@pytest.mark.parametrize(
    ("make_optimizer", "options"),
    [
        (optim.Adam, {}),
        (optim.Adam, {"clip_norm": 0.1}),
        (optim.Adam, {"clip_value": 0.01}),
        (searching, {}),
    ],
    ids=["plain", "clip_norm", "clip_value", "line search"],
)
def test_compiled_training_is_the_same_training(make_optimizer, options):
    """Batches of 7 and a last one of 2: each is compiled once, and again without a graph for a line search."""
    plain, expected = trained(False, make_optimizer, **options)
    model, columns = trained(True, make_optimizer, **options)
    assert columns.keys() == expected.keys()
    for name in columns:
        np.testing.assert_allclose(columns[name], expected[name], rtol=1e-9)
    for key, value in plain.state_dict().items():
        np.testing.assert_allclose(model.state_dict()[key], value, rtol=1e-7, atol=1e-12)
    programs = 4 if make_optimizer is searching else 2
    assert len(model.calls) == programs + 3, "three are the validation's"
    assert len(plain.calls) >= 15 + 3


def test_a_compiled_line_search_cannot_have_second_derivatives():
    model = classifier()
    optimizer = optim.GradientDescent(model.parameters(), line_search=optim.ArmijoFullRelaxation())
    before = model[0].weight.data.copy()
    with pytest.raises(ValueError, match=r"ArmijoFullRelaxation needs second derivatives.*fit without compile"):
        tg.fit(model, F.cross_entropy, optimizer, [(X, CLASSES)], 1, progress=False, compile=True)
    np.testing.assert_array_equal(model[0].weight.data, before)
    assert tg.fit(model, F.cross_entropy, optimizer, [(X, CLASSES)], 1, progress=False).epochs == 1


def test_what_cannot_be_compiled_says_so_and_leaves_the_model_as_it_is():
    def loss_fn(prediction, target):
        loss = F.cross_entropy(prediction, target)
        return loss if loss > 1 else 2 * loss

    model = classifier()
    before = model[0].weight.data.copy()
    with pytest.raises(tg.CompileError, match=r"(?s)would be decided once for all calls.*loss > 1"):
        train(model, loss_fn, compile=True)
    np.testing.assert_array_equal(model[0].weight.data, before)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"patience": 0}, "patience must be at least 1"),
        ({"min_delta": -1.0}, "min_delta at least 0"),
        ({"mode": "least"}, 'mode must be "min" or "max"'),
    ],
)
def test_early_stopping_refuses_options_out_of_range(options, text):
    with pytest.raises(ValueError, match=text):
        tg.EarlyStopping(**options)


def test_early_stopping_goes_on_where_it_was():
    losses = [3.0, 2.0, 2.5, 2.6, 2.7, 1.0]

    def run(stopping, history, model, values):
        ended = False
        for value in values:
            history.append({"loss": value})
            ended = stopping.update(history, model)
        return ended

    whole, model = tg.EarlyStopping(monitor="loss", patience=3), classifier()
    run(whole, History(), model, losses[:4])
    resumed, history = tg.EarlyStopping(monitor="loss", patience=3), History()
    resumed.load_state_dict(whole.state_dict())
    history.load_state_dict({"columns": {"loss": losses[:4]}})
    assert run(resumed, history, model, losses[4:5])
    assert (resumed.best, resumed.best_epoch) == (2.0, 2)
    with pytest.raises(tg.StateDictError, match=r"has \['bad_epochs', 'best'"):
        resumed.load_state_dict({"best": 1.0})


# Ctrl-C --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stop_at", "completed"), [(1, 0), (8, 1), (12, 2)])
def test_an_interrupted_run_leaves_a_usable_model_and_history(stop_at, completed, capsys):
    calls = []

    def loss_fn(prediction, target):
        calls.append(1)
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        return F.cross_entropy(prediction, target)

    model, history = train(loss_fn=loss_fn, epochs=9, progress=True)
    assert history.interrupted
    assert history.epochs == completed
    assert len(calls) == stop_at
    assert tg.is_grad_enabled()
    assert all(np.all(np.isfinite(p.data)) for p in model.parameters())
    _, more = train(model, epochs=2)
    assert more.epochs == 2
    assert repr(history)


def test_an_interrupt_during_validation_leaves_the_model_in_training_mode():
    def metric(prediction, target):
        if not tg.is_grad_enabled() and len(target) == 10:
            raise KeyboardInterrupt
        return 0.0

    model, history = train(validation=VALIDATION, metrics={"metric": metric})
    assert history.interrupted
    assert model.training
    assert tg.is_grad_enabled()


def test_other_errors_pass_through():
    def loss_fn(prediction, target):
        raise RuntimeError("broken loss")

    with pytest.raises(RuntimeError, match="broken loss"):
        train(loss_fn=loss_fn, progress=True)


# Progress ------------------------------------------------------------------------------------------------------------


def test_without_tqdm_there_is_a_line_per_epoch(monkeypatch, capsys):
    real_import = builtins.__import__

    def no_tqdm(name, *args, **kwargs):
        if name.split(".")[0] == "tqdm":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_tqdm)
    for module in [m for m in sys.modules if m.split(".")[0] == "tqdm"]:
        monkeypatch.delitem(sys.modules, module)
    _, history = train(validation=VALIDATION, progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for epoch, line in enumerate(lines, start=1):
        assert f"{epoch}/3" in line
        assert f"val_loss {history['val_loss'][epoch - 1]:.4g}" in line


def test_with_tqdm_there_is_a_bar(capsys):
    pytest.importorskip("tqdm")
    _, history = train(progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "3/3" in captured.err
    assert f"loss={history['loss'][-1]:.4g}" in captured.err


def test_progress_off_is_silent(capsys):
    train(progress=False)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


# evaluate and accuracy -----------------------------------------------------------------------------------------------


def test_evaluate_is_the_average_over_examples_whatever_the_batches():
    model = classifier()
    whole = tg.evaluate(model, (X, CLASSES), {"loss": F.cross_entropy, "accuracy": tg.accuracy})
    assert whole["loss"] == pytest.approx(F.cross_entropy(model(X), CLASSES).item())
    for batch_size in (1, 7, "all"):
        loader = tg.DataLoader(X, CLASSES, batch_size=batch_size)
        cut = tg.evaluate(model, loader, {"loss": F.cross_entropy, "accuracy": tg.accuracy})
        assert cut == pytest.approx(whole)
    assert all(type(value) is float for value in whole.values())


@pytest.mark.parametrize(
    ("prediction", "target", "expected"),
    [
        ([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]], [1, 0, 0, 0], 0.75),
        ([[3.0, 2.0, 1.0]], [2], 0.0),
        ([2.5, -0.1, 0.0, -3.0], [1, -1, 1, 1], 0.75),
        ([[2.5], [-0.1]], [[1], [1]], 0.5),
    ],
)
def test_accuracy(prediction, target, expected):
    for p in (prediction, np.array(prediction), Tensor(prediction, requires_grad=True)):
        for t in (target, np.array(target), Tensor(target)):
            result = tg.accuracy(p, t)
            assert type(result) is float
            assert result == expected


def test_history_by_hand():
    history = History()
    assert history.epochs == 0
    assert repr(history) == "History(0 epochs)"
    history.append({"loss": 1.0})
    history.append({"loss": 0.5})
    assert history["loss"] == [1.0, 0.5]
    assert history.last == {"loss": 0.5}
    with pytest.raises(KeyError, match=r"no 'val_loss'.*loss"):
        history["val_loss"]


@pytest.mark.parametrize(
    ("scores", "labels", "error"),
    [([0.9, 0.1], [1, 0], ValueError), ([0.9, -0.1], [[1], [-1]], ValueError), ([[0.9], [-0.1]], [1, -1], ValueError)],
)
def test_accuracy_refuses_what_it_cannot_compare(scores, labels, error):
    with pytest.raises(error, match="accuracy needs"):
        tg.accuracy(scores, labels)


def test_history_as_a_table():
    history = History()
    assert history.table() == "| epoch |\n| ----: |"
    for loss in (2.0, 0.123456, 1e-7):
        history.append({"loss": loss, "seconds": 1.0})
    history.append({"loss": 1.0, "seconds": 1.0, "accuracy": 0.5})
    lines = history.table(every=2).splitlines()
    assert lines == [
        "| epoch |   loss | seconds | accuracy |",
        "| ----: | -----: | ------: | -------: |",
        "|     2 | 0.1235 |       1 |      nan |",
        "|     4 |      1 |       1 |      0.5 |",
    ]
    assert len(history.table().splitlines()) == 6


def test_the_state_of_a_history():
    _, history = train()
    other = History()
    other.load_state_dict(history.state_dict())
    assert other.columns == history.columns
    other.append({"loss": 0.0})
    assert history.epochs == 3
    for wrong in ({}, {"columns": [1.0]}, {"columns": {}, "more": 1}):
        with pytest.raises(tg.StateDictError, match="the state of a History has 'columns'"):
            other.load_state_dict(wrong)


# What runs share, and what they do not --------------------------------------------------------------------------------


def test_early_stopping_begins_anew_with_another_run():
    stopping = tg.EarlyStopping(patience=3, monitor="loss")
    x = np.linspace(-1, 1, 20)[:, None]
    for target in (x, 10 - 5 * x):
        model = nn.Linear(1, 1)
        loader = tg.DataLoader(x, target, batch_size=5)
        history = tg.fit(
            model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1), loader, 20,
            progress=False, early_stopping=stopping,
        )  # fmt: skip
        assert stopping.best == min(history["loss"])
        assert nn.MSELoss()(model(x), target).item() < 0.1


def test_early_stopping_goes_on_with_the_history():
    stopping = tg.EarlyStopping(patience=None, monitor="loss")
    model, history = train(epochs=5, early_stopping=stopping)
    best = stopping.best
    train(model, epochs=1, early_stopping=stopping, history=history, loss_fn=lambda p, y: 100 + F.cross_entropy(p, y))
    assert (stopping.best, stopping.best_epoch <= 5, history.epochs) == (best, True, 6)


def test_a_history_goes_on_with_other_columns():
    model, history = train(epochs=2)
    train(model, epochs=1, history=history, validation=VALIDATION, metrics={"accuracy": tg.accuracy})
    train(model, epochs=1, history=history)
    assert {len(column) for column in history.columns.values()} == {4}
    for name in ("val_loss", "accuracy", "val_accuracy"):
        np.testing.assert_array_equal(np.isnan(history[name]), [True, True, False, True])
    assert np.isfinite(history["loss"]).all()


def test_progress_of_a_run_that_goes_on(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    model, history = train(epochs=2, progress=True, validation=VALIDATION)
    train(model, epochs=1, progress=True, history=history)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("epoch 3/3")
    assert "val_loss" not in last


@pytest.mark.parametrize("answer", [True, np.True_])
def test_a_callback_ends_the_run(answer):
    assert train(epochs=9, callbacks=lambda history: answer)[1].epochs == 1
    assert train(epochs=2, callbacks=lambda history: np.array([1.0]))[1].epochs == 2
    assert train(epochs=2, callbacks=None)[1].epochs == 2


def fit_with(loader=None, optimizer=None, **options):
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1) if optimizer is None else optimizer
    loader = tg.DataLoader(X, X[:, :1], batch_size=10) if loader is None else loader
    return tg.fit(model, nn.MSELoss(), optimizer, loader, 1, progress=False, **options)


OTHER = optim.lr_scheduler.StepLR(optim.SGD([nn.Parameter([1.0])], lr=0.1), 2)
MISTAKEN = {
    "one array": (lambda: fit_with(tg.DataLoader(X)), ValueError, r"a pair.*got 1 arrays.*DataLoader\(x, x\)"),
    "three arrays": (lambda: fit_with(tg.DataLoader(X, X, X)), ValueError, "a pair.*got 3 arrays"),
    "a list as validation": (lambda: fit_with(validation=[X, X[:, :1]]), ValueError, r"a pair.*ndarray.*\(x, y\)"),
    "evaluate of a list": (lambda: tg.evaluate(nn.Linear(2, 1), [X, X], {}), ValueError, "a pair.*ndarray"),
    "a metric alone": (lambda: fit_with(metrics=tg.accuracy), TypeError, "metrics is a dict.*accuracy"),
    "a class of optimizers": (lambda: fit_with(optimizer=optim.SGD), TypeError, r"optimizer is one.*Adam\(model"),
    "another's schedule": (lambda: fit_with(scheduler=OTHER), ValueError, "schedule of another optimizer"),
    "a metric val_loss": (lambda: fit_with(metrics={"val_loss": tg.accuracy}), ValueError, "'val_loss'"),
    "metrics a and val_a": (lambda: fit_with(metrics={"a": abs, "val_a": abs}), ValueError, "'val_a'"),
}


@pytest.mark.parametrize(("call", "error", "text"), MISTAKEN.values(), ids=MISTAKEN)
def test_arguments_of_another_kind_are_explained(call, error, text):
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize("state", [3, None, {"columns": {"loss": [1.0, 2.0], "val_loss": [1.0]}}, {"columns": [1.0]}])
def test_states_of_histories_and_early_stopping_that_are_none(state):
    history, stopping = History(), tg.EarlyStopping()
    for part in (history, stopping):
        with pytest.raises(tg.StateDictError):
            part.load_state_dict(state)
    assert (history.columns, stopping.best_epoch) == ({}, 0)
