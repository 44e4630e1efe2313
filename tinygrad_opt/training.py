"""fit: the training loop, written once; the History that it returns, and EarlyStopping, which can end it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tinygrad_opt.compiler import compile as compiled
from tinygrad_opt.errors import ShapeError, StateDictError
from tinygrad_opt.graph import no_grad
from tinygrad_opt.nn.module import Module
from tinygrad_opt.nn.utils import clip_grad_norm_, clip_grad_value_
from tinygrad_opt.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from tinygrad_opt.optim.optimizer import Optimizer
from tinygrad_opt.tensor import Tensor

Metric = Callable[[Any, Any], Any]
Closure = Callable[[], Tensor]
Predictor = Callable[[Any, Any], tuple[Tensor, Any]]


class History:
    """What `fit` saw: one number per epoch for each quantity, ``history["loss"]`` for example.

    The quantities are ``loss``, one per metric, the same with ``val_`` before the name where there is validation data,
    ``lr`` where there is a schedule, and ``seconds``, how long the epoch took; NaN where there was none. ``columns`` is
    a dict of all of them, which pandas takes: ``pandas.DataFrame(history.columns)``; ``viz.plot_history`` draws them.
    ``interrupted`` says whether the user stopped the run.

    >>> from tinygrad_opt.training import History
    >>> history = History()
    >>> history.append({"loss": 0.5}); history.append({"loss": 0.25})
    >>> history["loss"], history.epochs, history.last["loss"]
    ([0.5, 0.25], 2, 0.25)
    """

    def __init__(self) -> None:
        self.columns: dict[str, list[float]] = {}
        self.interrupted = False

    def append(self, row: Mapping[str, float]) -> None:
        """Add the numbers of one epoch."""
        epochs = self.epochs
        for name in {**self.columns, **row}:
            column = self.columns.setdefault(name, [])
            column += [math.nan] * (epochs - len(column)) + [row.get(name, math.nan)]

    def __getitem__(self, name: str) -> list[float]:
        if name not in self.columns:
            raise KeyError(f"the history has no {name!r}; it has {', '.join(self.columns) or 'no epochs yet'}")
        return self.columns[name]

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    @property
    def epochs(self) -> int:
        """How many epochs were completed."""
        return max(map(len, self.columns.values()), default=0)

    @property
    def last(self) -> dict[str, float]:
        """The numbers of the last epoch."""
        return {name: values[-1] for name, values in self.columns.items()}

    def table(self, every: int = 1) -> str:
        """The numbers as a table, which is Markdown too: a line for each epoch, or ``every`` so many, and the last.

        >>> from tinygrad_opt.training import History
        >>> history = History()
        >>> history.append({"loss": 0.5}); history.append({"loss": 0.25})
        >>> print(history.table())
        | epoch | loss |
        | ----: | ---: |
        |     1 |  0.5 |
        |     2 | 0.25 |
        """
        shown = [t for t in range(1, self.epochs + 1) if t % every == 0 or t == self.epochs]
        rows = [["epoch", *self.columns], *([str(t), *self._numbers(t)] for t in shown)]
        widths = [max(4, *map(len, column)) for column in zip(*rows, strict=True)]
        rows.insert(1, ["-" * (width - 1) + ":" for width in widths])
        lines = (" | ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows)
        return "\n".join(f"| {line} |" for line in lines)

    def _numbers(self, epoch: int) -> list[str]:
        return [f"{values[epoch - 1]:.4g}" for values in self.columns.values()]

    def state_dict(self) -> dict[str, Any]:
        """All there is: what `load_state_dict` takes, and `tinygrad_opt.save` saves."""
        return {"columns": {name: list(values) for name, values in self.columns.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the numbers of another History; raises StateDictError for anything else."""
        columns = state["columns"] if isinstance(state, Mapping) and state.keys() == {"columns"} else None
        if not isinstance(columns, Mapping) or len({len(values) for values in columns.values()}) > 1:
            raise StateDictError(
                f"the state of a History has 'columns', a dict of lists of one length; this one is {state!r:.80}"
            )
        self.columns = {name: [float(value) for value in values] for name, values in columns.items()}

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name}={value:.4g}" for name, value in self.last.items())
        return f"History({self.epochs} epochs{': ' + numbers if numbers else ''})"


def accuracy(prediction: Any, target: Any) -> float:
    """The share of examples, 0 to 1, whose class is predicted: classes by argmax, scores for labels ±1 by sign.

    ``prediction`` is (batch, classes) for class indices of shape (batch,), or has the shape of ``target`` for labels
    of -1 and 1. Raises ShapeError for other shapes, ValueError for other labels.

    >>> from tinygrad_opt.training import accuracy
    >>> accuracy([[2.0, 1.0], [0.0, 3.0]], [0, 0])
    0.5
    >>> accuracy([0.3, -2.0], [1, -1])
    1.0
    """
    scores = np.asarray(prediction.detach() if isinstance(prediction, Tensor) else prediction)
    labels = np.asarray(target.detach() if isinstance(target, Tensor) else target)
    if scores.shape[:-1] == labels.shape and scores.ndim == labels.ndim + 1 and scores.shape[-1] > 1:
        return float(np.mean(scores.argmax(axis=-1) == labels))
    if scores.shape != labels.shape:
        raise ShapeError(
            "accuracy needs scores of shape (batch, classes) with class indices of shape (batch,), or scores and "
            f"labels of -1 and 1 of one shape; got {scores.shape} and {labels.shape}"
        )
    if np.any(np.abs(labels) != 1):
        raise ValueError(f"accuracy needs labels of -1 or 1; got {labels[np.abs(labels) != 1].flat[0]:g}")
    return float(np.mean(np.where(scores >= 0, 1, -1) == labels))


class EarlyStopping:
    """Ends a training when a number has not improved for ``patience`` epochs, and puts the best weights back.

    For `fit`: ``fit(..., early_stopping=EarlyStopping(patience=5))``. The number is ``history[monitor]``; ``mode``
    "min" or "max" says what improving means, and it has to improve by more than ``min_delta``. A NaN is no improvement.
    With ``patience`` None the training is never ended. With ``restore_best`` the model has, after `fit`, the parameters
    and buffers of the best epoch, also when it ended by itself or with Ctrl-C. ``best`` is the best number,
    ``best_epoch`` when it was reached, counted from 1 (0: never). In another `fit` it begins anew, unless that
    continues the ``history`` of the first.

    Raises ValueError for a ``patience`` below 1, another mode, or a negative ``min_delta``.

    Source: Prechelt, "Early Stopping - But When?" (1998).

    >>> import numpy as np, tinygrad_opt as tg
    >>> from tinygrad_opt import nn, optim
    >>> model = nn.Linear(1, 1)
    >>> loader = tg.DataLoader(np.ones((8, 1)), np.ones((8, 1)), batch_size=4)
    >>> stopping = tg.EarlyStopping(patience=2, monitor="loss")
    >>> optimizer = optim.SGD(model.parameters(), lr=1.0)  # each step overshoots, and the next one comes back
    >>> history = tg.fit(model, nn.MSELoss(), optimizer, loader, 100, progress=False, early_stopping=stopping)
    >>> history.epochs < 100
    True
    """

    def __init__(
        self,
        patience: int | None = 5,
        monitor: str = "val_loss",
        mode: str = "min",
        min_delta: float = 0.0,
        restore_best: bool = True,
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f'mode must be "min" or "max"; got {mode!r}')
        if (patience is not None and not patience >= 1) or not min_delta >= 0:
            raise ValueError(
                f"patience must be at least 1, or None, and min_delta at least 0; got {patience!r} and {min_delta!r}"
            )
        self.patience, self.monitor, self.mode, self.min_delta = patience, monitor, mode, min_delta
        self.restore_best = restore_best
        self.start()

    def start(self) -> None:
        """Forget what was best."""
        self.best = math.inf if self.mode == "min" else -math.inf
        self.best_epoch = 0
        self.bad_epochs = 0
        self.best_weights: dict[str, Any] | None = None
        self.ended = False

    def update(self, history: History, model: Module) -> bool:
        """Take note of the last epoch; return whether the training should end."""
        value = history[self.monitor][-1]
        better = value < self.best - self.min_delta if self.mode == "min" else value > self.best + self.min_delta
        if better:
            self.best, self.best_epoch, self.bad_epochs = value, history.epochs, 0
            self.best_weights = model.state_dict() if self.restore_best else None
        else:
            self.bad_epochs += 1
        return self.patience is not None and self.bad_epochs >= self.patience

    def restore(self, model: Module) -> None:
        """Put the best weights back, where there are any: the training is over."""
        self.ended = True
        if self.best_weights is not None:
            model.load_state_dict(self.best_weights)

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, with the best weights: what `load_state_dict` takes."""
        return {name: getattr(self, name) for name in ("best", "best_epoch", "bad_epochs", "best_weights")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict`; raises StateDictError for anything else."""
        if not isinstance(state, Mapping) or state.keys() != self.state_dict().keys():
            raise StateDictError(
                f"the state of EarlyStopping has {sorted(self.state_dict())}; this one is {state!r:.80}"
            )
        vars(self).update(state, ended=False)


def fit(
    model: Module,
    loss_fn: Callable[[Any, Any], Tensor],
    optimizer: Optimizer,
    loader: Iterable[tuple[Any, Any]],
    epochs: int,
    validation: Iterable[tuple[Any, Any]] | tuple[Any, Any] | None = None,
    metrics: Mapping[str, Metric] | None = None,
    progress: bool = True,
    *,
    scheduler: LRScheduler | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    early_stopping: EarlyStopping | None = None,
    callbacks: Callable[[History], Any] | Iterable[Callable[[History], Any]] | None = None,
    history: History | None = None,
    compile: bool = False,
) -> History:
    """Train ``model`` for a number of passes over ``loader``, and return what happened as a `History`.

    ``loss_fn(prediction, target)`` is the loss; ``loader`` yields pairs (input, target). ``validation`` is another
    loader, or one pair of arrays, measured after every epoch in evaluation mode. ``metrics`` maps names to functions
    ``metric(prediction, target) -> number``, averaged over the examples, as the loss is. With ``progress`` there is a
    tqdm bar where tqdm is installed, else a line per epoch.

    In every step, gradients are clipped to ``clip_norm`` (their norm altogether) or ``clip_value`` (each element).
    After every epoch ``scheduler`` is stepped (`ReduceLROnPlateau` with ``val_loss``, or ``loss`` where there is no
    validation data), ``early_stopping`` looks at the history, and the ``callbacks``, one function or several, are
    called with it; the training ends when one returns True. ``history`` is one to continue, of a run that is resumed;
    ``epochs`` counts the further ones.

    With ``compile``, prediction and loss of a batch are computed by compiled code (`tinygrad_opt.compile`): the numbers
    are the same, sooner, where the model and ``loss_fn`` can be compiled. What they look at besides the batch and the
    attributes of modules, such as an item of a dict, is taken to stay what it is.

    Ctrl-C stops the training: the model stays usable, and the History has the completed epochs. Afterwards the model is
    in training mode: call ``model.eval()`` before using it, where `Dropout` or batch normalisation is in it.

    Raises ValueError for ``epochs`` below 1, a loader without batches, one whose batches are no pairs, or one that can
    be gone through only once, ``early_stopping`` that looks at a number that there is not, a ``scheduler`` of another
    optimizer, clipping with a line search, or ``compile`` with one that needs second derivatives; TypeError for an
    argument of another kind, such as a pair of arrays in the place of the loader.

    >>> import numpy as np, tinygrad_opt as tg
    >>> from tinygrad_opt import nn, optim
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> model = nn.Linear(1, 1, generator=np.random.default_rng(0))
    >>> loader = tg.DataLoader(x, 3 * x, batch_size=5)
    >>> history = tg.fit(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.5), loader, 20, progress=False)
    >>> history["loss"][-1] < 1e-6
    True
    """
    callbacks = [callbacks] if callable(callbacks) else list(callbacks or ())
    metrics = {} if metrics is None else metrics
    _check_kinds(optimizer, metrics, scheduler, early_stopping, callbacks)
    _check(epochs, loader, metrics, validation, early_stopping)
    measures = {"loss": loss_fn, **metrics}
    take_step = _stepper(optimizer, clip_norm, clip_value)
    predict = _predictor(model, loss_fn, optimizer, compile)
    if early_stopping is not None and early_stopping.ended and history is None:
        early_stopping.start()
    history = History() if history is None else history
    reporter = _Progress(history.epochs, epochs, progress)
    try:
        for _ in range(epochs):
            start = time.perf_counter()
            totals = _Averages(measures)
            model.train()
            for x, y in map(_pair, loader):
                before: list[Any] = []  # the prediction before the step; a line search makes others after it

                def closure(x: Any = x, y: Any = y, before: list[Any] = before) -> Tensor:
                    loss, prediction = predict(x, y)
                    if not before:
                        before.append(prediction)
                    return loss

                loss = take_step(closure)
                totals.add(before[0], y, loss)
            row = totals.means()
            if validation is not None:
                row |= {f"val_{name}": value for name, value in evaluate(model, validation, measures).items()}
            if scheduler is not None:
                row["lr"] = scheduler.get_last_lr()[0]
                _advance(scheduler, row)
            history.append({**row, "seconds": time.perf_counter() - start})
            reporter.show(row, history)
            ended = [early_stopping is not None and early_stopping.update(history, model)]
            answers = [callback(history) for callback in callbacks]
            ended += [isinstance(answer, (bool, np.bool_)) and bool(answer) for answer in answers]
            if any(ended):
                break
    except KeyboardInterrupt:
        history.interrupted = True
    finally:
        reporter.close()
    if early_stopping is not None:
        early_stopping.restore(model)
    return history


def _check(
    epochs: int, loader: Any, metrics: Mapping[str, Metric], validation: Any, early_stopping: EarlyStopping | None
) -> None:
    """Raise for what would fail after an epoch of work, or do something else than is meant."""
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1; got {epochs}")
    taken = metrics.keys() & {"loss", "lr", "seconds", "val_loss", *(f"val_{name}" for name in metrics)}
    if taken:
        raise ValueError(f"a metric cannot be called {taken.pop()!r}: the history has a column of its own of this name")
    if isinstance(loader, tuple):
        raise TypeError("fit takes a loader of batches, not a pair of arrays: DataLoader(x, y, batch_size=32)")
    for what, data in {"loader": loader, "validation": validation}.items():
        if epochs > 1 and isinstance(data, Iterator):
            raise ValueError(
                f"{what} is a {type(data).__name__}, which can be gone through only once: use a DataLoader"
            )
    columns = ["loss", *metrics]
    columns += [f"val_{name}" for name in columns] if validation is not None else []
    if early_stopping is not None and early_stopping.monitor not in columns:
        hint = ": pass validation data" if early_stopping.monitor.startswith("val_") and validation is None else ""
        raise ValueError(f"early_stopping monitors {early_stopping.monitor!r}, and there is {', '.join(columns)}{hint}")


def _check_kinds(optimizer: Any, metrics: Any, scheduler: Any, early_stopping: Any, callbacks: list[Any]) -> None:
    """Raise TypeError for an argument that is something else than it should be."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer is one of optim, such as Adam(model.parameters()); got {optimizer!r:.80}")
    if not isinstance(metrics, Mapping):
        raise TypeError(f'metrics is a dict of functions, such as {{"accuracy": tg.accuracy}}; got {metrics!r:.80}')
    if scheduler is not None and not isinstance(scheduler, LRScheduler):
        raise TypeError(f"scheduler is one of optim.lr_scheduler, such as StepLR(optimizer, 10); got {scheduler!r:.80}")
    if scheduler is not None and scheduler.optimizer is not optimizer:
        raise ValueError("scheduler is a schedule of another optimizer: make it with the one that fit is given")
    if early_stopping is not None and not isinstance(early_stopping, EarlyStopping):
        raise TypeError(f"early_stopping is an EarlyStopping(patience=5); got {early_stopping!r:.80}")
    for callback in callbacks:
        if not callable(callback):
            raise TypeError(f"a callback is a function of the History; got {callback!r:.80}")


def _stepper(optimizer: Optimizer, clip_norm: float | None, clip_value: float | None) -> Callable[[Closure], Any]:
    """The function that takes one step: the optimizer's own, or one that clips the gradients before it."""
    if clip_norm is None and clip_value is None:
        return optimizer.step
    if getattr(optimizer, "line_search", None) is not None:
        raise ValueError("a line search needs the gradients as they are: use it without clip_norm and clip_value")

    def step(closure: Closure) -> Tensor:
        loss = closure()
        optimizer.zero_grad()
        loss.backward()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if clip_value is not None:
            clip_grad_value_(parameters, clip_value)
        if clip_norm is not None:
            clip_grad_norm_(parameters, clip_norm)
        optimizer.step()
        return loss

    return step


def _predictor(model: Module, loss_fn: Any, optimizer: Optimizer, compile: bool) -> Predictor:
    """The function of a batch that computes the loss and the prediction, which is detached, for metrics."""

    def predict(x: Any, y: Any) -> tuple[Tensor, Any]:
        prediction = model(x)
        return loss_fn(prediction, y), prediction.detach() if isinstance(prediction, Tensor) else prediction

    search = getattr(optimizer, "line_search", None)
    if compile and search is not None and search.needs_curvature:
        raise ValueError(
            f"{type(search).__name__} needs second derivatives, which compiled code does not give: use fit without "
            "compile, or ArmijoGoldstein"
        )
    return compiled(predict) if compile else predict


def _advance(scheduler: LRScheduler, row: Mapping[str, float]) -> None:
    """One step of a schedule, after an epoch."""
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step(row.get("val_loss", row["loss"]))
    else:
        scheduler.step()


def evaluate(
    model: Module, data: Iterable[tuple[Any, Any]] | tuple[Any, Any], metrics: Mapping[str, Metric]
) -> dict[str, float]:
    """The average of each metric over ``data``, a loader or one pair of arrays, in evaluation mode, without a graph.

    >>> import numpy as np, tinygrad_opt as tg
    >>> from tinygrad_opt import nn
    >>> model = nn.Linear(1, 1)
    >>> x = np.ones((4, 1))
    >>> sorted(tg.evaluate(model, (x, model(x).detach()), {"loss": nn.MSELoss()}).items())
    [('loss', 0.0)]
    """
    modes = [(module, module.training) for module in model.modules()]
    batches = [data] if isinstance(data, tuple) else data
    totals = _Averages(metrics)
    model.eval()
    try:
        with no_grad():
            for x, y in map(_pair, batches):
                totals.add(model(x), y)
    finally:
        for module, training in modes:
            module.training = training
    return totals.means()


def _pair(batch: Any) -> Any:
    """A batch, if it is an input and a target."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        what = f"{len(batch)} arrays" if isinstance(batch, (tuple, list)) else f"a {type(batch).__name__}"
        raise ValueError(
            f"a batch is a pair, input and target, such as DataLoader(x, y) gives; got {what}. An autoencoder's target "
            "is its input: DataLoader(x, x). Whole arrays in the place of a loader are a tuple: (x, y)"
        )
    return batch


class _Averages:
    """Running averages of the measures, each batch weighted with its number of examples."""

    def __init__(self, measures: Mapping[str, Metric]) -> None:
        self.measures = measures
        self.sums = dict.fromkeys(measures, 0.0)
        self.examples = 0

    def add(self, prediction: Any, target: Any, loss: Any = None) -> None:
        count = len(target)
        self.examples += count
        prediction = prediction.detach() if isinstance(prediction, Tensor) else prediction
        with no_grad():
            for name, measure in self.measures.items():
                value = loss if name == "loss" and loss is not None else measure(prediction, target)
                self.sums[name] += float(value) * count

    def means(self) -> dict[str, float]:
        if not self.examples:
            raise ValueError(
                "the loader has no batches: is the data empty, or drop_last on and the data smaller than one, or its "
                "state that of a pass whose last batch was given?"
            )
        return {name: total / self.examples for name, total in self.sums.items()}


class _Progress:
    """A tqdm bar over the epochs where tqdm is installed, else one printed line per epoch."""

    def __init__(self, done: int, epochs: int, wanted: bool) -> None:
        self.epochs = done + epochs
        self.wanted = wanted
        self.bar = _tqdm(epochs) if wanted else None

    def show(self, row: Mapping[str, float], history: History) -> None:
        numbers = {name: f"{value:.4g}" for name, value in row.items()}
        if self.bar is not None:
            self.bar.set_postfix(numbers, refresh=False)
            self.bar.update()
        elif self.wanted:
            text = "  ".join(f"{name} {value}" for name, value in numbers.items())
            print(f"epoch {history.epochs}/{self.epochs}  {text}  ({history.last['seconds']:.2f} s)")

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _tqdm(epochs: int) -> Any:
    """A tqdm bar, or None where tqdm is not installed."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm(total=epochs, unit="epoch")
