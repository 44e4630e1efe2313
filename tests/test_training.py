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
