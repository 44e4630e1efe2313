"""fit: the training loop, written once, and the History that it returns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tinygrad_opt.errors import ShapeError
from tinygrad_opt.graph import no_grad
from tinygrad_opt.nn.module import Module
from tinygrad_opt.optim.optimizer import Optimizer
from tinygrad_opt.tensor import Tensor

Metric = Callable[[Any, Any], Any]


class History:
    """What `fit` saw: one number per epoch for each quantity, ``history["loss"]`` for example.

    The quantities are ``loss``, one per metric, the same with ``val_`` before the name where there is validation data,
    and ``seconds``, how long the epoch took. ``interrupted`` says whether the user stopped the run.

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
        for name, value in row.items():
            self.columns.setdefault(name, []).append(value)

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


def fit(
    model: Module,
    loss_fn: Callable[[Any, Any], Tensor],
    optimizer: Optimizer,
    loader: Iterable[tuple[Any, Any]],
    epochs: int,
    validation: Iterable[tuple[Any, Any]] | tuple[Any, Any] | None = None,
    metrics: Mapping[str, Metric] | None = None,
    progress: bool = True,
) -> History:
    """Train ``model`` for a number of passes over ``loader``, and return what happened as a `History`.

    ``loss_fn(prediction, target)`` is the loss; ``loader`` yields pairs (input, target). ``validation`` is another
    loader, or one pair of arrays, measured after every epoch in evaluation mode. ``metrics`` maps names to functions
    ``metric(prediction, target) -> number``, averaged over the examples, as the loss is. With ``progress`` there is a
    tqdm bar where tqdm is installed, else a line per epoch.

    Ctrl-C stops the training: the model stays usable, and the History has the completed epochs.

    Raises ValueError for ``epochs`` below 1, or a loader without batches.

    >>> import numpy as np, tinygrad_opt as tg
    >>> from tinygrad_opt import nn, optim
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> model = nn.Linear(1, 1, generator=np.random.default_rng(0))
    >>> loader = tg.DataLoader(x, 3 * x, batch_size=5)
    >>> history = tg.fit(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.5), loader, 20, progress=False)
    >>> history["loss"][-1] < 1e-6
    True
    """
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1; got {epochs}")
    if {"loss", "seconds"} & set(metrics or {}):
        raise ValueError(
            'a metric cannot be called "loss" or "seconds": the history has its own columns of these names'
        )
    history = History()
    measures = {"loss": loss_fn, **(metrics or {})}
    reporter = _Progress(epochs, progress)
    try:
        for _ in range(epochs):
            start = time.perf_counter()
            totals = _Averages(measures)
            model.train()
            for x, y in loader:
                before: list[Any] = []  # the prediction before the step; a line search makes others after it

                def closure(x: Any = x, y: Any = y, before: list[Any] = before) -> Tensor:
                    prediction = model(x)
                    if not before:
                        before.append(prediction)
                    return loss_fn(prediction, y)

                loss = optimizer.step(closure)
                totals.add(before[0], y, loss)
            row = totals.means()
            if validation is not None:
                row |= {f"val_{name}": value for name, value in evaluate(model, validation, measures).items()}
            history.append({**row, "seconds": time.perf_counter() - start})
            reporter.show(history)
    except KeyboardInterrupt:
        history.interrupted = True
    finally:
        reporter.close()
    return history


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
            for x, y in batches:
                totals.add(model(x), y)
    finally:
        for module, training in modes:
            module.training = training
    return totals.means()


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
                "the loader has no batches: is the data empty, or drop_last on and the data smaller than one?"
            )
        return {name: total / self.examples for name, total in self.sums.items()}


class _Progress:
    """A tqdm bar over the epochs where tqdm is installed, else one printed line per epoch."""

    def __init__(self, epochs: int, wanted: bool) -> None:
        self.epochs = epochs
        self.wanted = wanted
        self.bar = _tqdm(epochs) if wanted else None

    def show(self, history: History) -> None:
        numbers = {name: f"{value:.4g}" for name, value in history.last.items() if name != "seconds"}
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
