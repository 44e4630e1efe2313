"""summary: what a model is made of, as a table: its layers, the shapes of their results, and their parameters."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinygrad_opt.errors import ShapeError
from tinygrad_opt.graph import no_grad
from tinygrad_opt.nn.module import Module
from tinygrad_opt.tensor import Tensor, get_default_dtype


class Row(NamedTuple):
    """One module: its dotted name, its kind, the shapes of its result, and the number of its own parameters."""

    name: str
    layer: str
    output_shape: str
    parameters: int


class Summary:
    """What `summary` found: ``rows``, one for each module, and the totals; it shows itself as a table."""

    def __init__(self, rows: list[Row], total: int, trainable: int, buffers: int) -> None:
        self.rows = rows
        self.total = total
        self.trainable = trainable
        self.buffers = buffers

    def __repr__(self) -> str:
        table = [("", "layer", "output shape", "parameters")]
        table += [(r.name, r.layer, r.output_shape, f"{r.parameters:,}" if r.parameters else "") for r in self.rows]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = []
        for *texts, number in table:
            cells = [text.ljust(width) for text, width in zip(texts, widths, strict=False)]
            lines.append("  ".join([*cells, number.rjust(widths[-1])]).rstrip())
        lines.insert(1, "─" * (sum(widths) + 2 * (len(widths) - 1)))
        frozen = "" if self.trainable == self.total else f", {self.trainable:,} of them trainable"
        beside = f"; {self.buffers:,} numbers in buffers" if self.buffers else ""
        return "\n".join([*lines, f"{self.total:,} parameters{frozen}{beside}"])


def summary(model: Module, input_shape: Any, dtype: npt.DTypeLike | None = None) -> Summary:
    """Send zeros through a model, in evaluation mode, and tell what each module makes of them.

    ``input_shape`` is the shape of one example, without the batch: (1, 28, 28) for a grey image; for a model with
    several inputs, a list of shapes. In the result N stands for the batch. ``dtype`` is that of the inputs: "int" where
    the model begins with an `Embedding`. A module that is used several times is counted once. The model is not changed.

    Raises ShapeError where the model cannot take inputs of that shape, TypeError for what is no shape.

    >>> from tinygrad_opt import nn
    >>> nn.summary(nn.MLP([64, 32, 10]), (64,))
       layer   output shape  parameters
    ───────────────────────────────────
       MLP     (N, 10)
    0  Linear  (N, 32)            2,080
    1  ReLU    (N, 32)
    2  Linear  (N, 10)              330
    2,410 parameters
    """
    if isinstance(input_shape, (int, np.integer)):
        input_shape = (input_shape,)
    if not isinstance(input_shape, (tuple, list)):
        raise TypeError(
            f"summary takes the shape of one example, without the batch, such as x.shape[1:]; got a "
            f"{type(input_shape).__name__}"
        )
    several = isinstance(input_shape, list) and any(isinstance(shape, (tuple, list)) for shape in input_shape)
    shapes = [tuple(shape) for shape in input_shape] if several else [tuple(input_shape)]
    inputs = [np.zeros((1, *shape), dtype or get_default_dtype()) for shape in shapes]
    modules = dict(model.named_modules())
    results: dict[Module, str] = {}
    handles = [m.register_forward_hook(lambda m, _, out: results.__setitem__(m, _shape(out))) for m in modules.values()]
    modes = [(module, module.training) for module in modules.values()]
    model.eval()
    try:
        with no_grad():
            model(*inputs)
    except (ValueError, TypeError, IndexError) as error:
        raise ShapeError(
            f"{type(model).__name__} cannot take inputs of the shape {', '.join(map(str, shapes))}, the shape of one "
            f"example without the batch: {error}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training
    rows = [Row(name, type(m).__name__, results.get(m, "not used"), _own_parameters(m)) for name, m in modules.items()]
    sizes = [(p.size, p.requires_grad) for p in model.parameters()]
    trainable = sum(size for size, wanted in sizes if wanted)
    return Summary(rows, sum(size for size, _ in sizes), trainable, sum(b.size for b in model.buffers()))


def _shape(result: Any) -> str:
    """The shape of a result, with N for its first axis; of several results, each."""
    if isinstance(result, (tuple, list)):
        return ", ".join(map(_shape, result))
    if isinstance(result, dict):
        return _shape(list(result.values()))
    if not isinstance(result, (Tensor, np.ndarray)):
        return type(result).__name__
    return f"({', '.join(['N', *map(str, result.shape[1:])])})" if result.shape else "()"


def _own_parameters(module: Module) -> int:
    """How many numbers there are in the parameters of a module, without those of the modules in it."""
    below = {p for child in module.children().values() for p in child.parameters()}
    return sum(p.size for p in module.parameters() if p not in below)
