"""The graph that running code leaves behind, and the backward walk over it.

It sits between the rule table (``rules/``), whose rules the walk applies, and ``Tensor``, which makes the nodes.
A Node remembers one call: the operation, the values that went in and came out, and the nodes those values came
from. Nodes are numbered as they are made, and a node can only be made after its parents. So the walk always goes on
with the highest number that has a gradient: all consumers of that node have been visited. No recursion, no sorting.
"""

from __future__ import annotations

import contextlib
import itertools
import linecache
import os
import threading
import traceback
import weakref
from collections.abc import Callable, Collection, Iterable, Sequence
from heapq import heapify, heappop, heappush
from types import TracebackType
from typing import Any

import numpy as np

from tinygrad_opt.errors import AnomalyError, GraphError, ShapeError
from tinygrad_opt.rules.registry import Op, unread_inputs

_clock = itertools.count(1)


class Node:
    """One recorded call, or (``op`` is None) a leaf: a Tensor that gradients are wanted for."""

    __slots__ = ("__weakref__", "grad", "index", "kwargs", "line", "name", "op", "out", "parents", "retain", "values")

    op: Any
    values: Any  # what the function was called with, each Tensor replaced by what it holds
    kwargs: dict[str, Any]
    out: Any
    parents: Sequence[Node | None]  # for each value the node that made it, or None for a constant
    index: int
    grad: Any  # of a leaf, or where it is retained: None, an array, or a Tensor (of those, `Tensor.grad` makes one)
    retain: bool
    line: str  # set by detect_anomaly: the user's line that made the call
    name: str | None  # set where the Tensor has one


_new = object.__new__


def record(
    op: Op | None, values: tuple[Any, ...] | None, kwargs: dict[str, Any], out: Any, parents: Sequence[Node | None]
) -> Node:
    """A new Node; one is made for every call, and a function takes half the time of a constructor."""
    node = _new(Node)
    node.op = op
    node.values = values
    node.kwargs = kwargs
    node.out = out
    node.parents = parents
    node.index = next(_clock)
    node.grad = None
    node.retain = False
    return node


# ---------------------------------------------------------------------------------------------------------------------
# Grad mode


class _Mode(threading.local):
    now = (True, False)  # whether calls are recorded, and whether results are searched for NaN and infinities


mode = _Mode()


class _Differentiating(threading.local):
    depth = 0  # how many functions are being run by transforms, one inside the other


differentiating = _Differentiating()


class set_grad_enabled(contextlib.ContextDecorator):  # noqa: N801 - named as in PyTorch
    """Switch the recording of the graph on or off, for this thread, inside a ``with`` block or a function.

    By itself, outside of a ``with`` statement, the call does nothing; in PyTorch it switches at once.

    >>> import tinygrad_opt as tg
    >>> x = tg.Tensor(2.0, requires_grad=True)
    >>> with tg.set_grad_enabled(False):
    ...     y = x * x
    >>> y.requires_grad
    False
    """

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self._previous: list[bool] = []

    def _recreate_cm(self) -> set_grad_enabled:
        return set_grad_enabled(self.enabled)  # a decorated function may run in several threads at once

    def __enter__(self) -> None:
        previous, anomaly = mode.now
        self._previous.append(previous)
        mode.now = (self.enabled, anomaly)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        mode.now = (self._previous.pop(), mode.now[1])


def no_grad() -> set_grad_enabled:
    """Record no graph inside a ``with tg.no_grad():`` block, or in a function under ``@tg.no_grad()``.

    >>> import tinygrad_opt as tg
    >>> w = tg.Tensor([1.0, 2.0], requires_grad=True)
    >>> with tg.no_grad():
    ...     w -= 0.5
    >>> w
    Tensor([0.5, 1.5], requires_grad=True)
    """
    return set_grad_enabled(False)


def is_grad_enabled() -> bool:
    """Whether calls on Tensors are recorded in this thread just now.

    >>> import tinygrad_opt as tg
    >>> tg.is_grad_enabled()
    True
    """
    return mode.now[0]


# ---------------------------------------------------------------------------------------------------------------------
# Anomalies: the first NaN or infinity


class detect_anomaly(contextlib.ContextDecorator):  # noqa: N801 - named as in PyTorch
    """Raise at the first NaN or infinity that a call or its gradient makes, in this thread, inside a ``with`` block.

    The AnomalyError names the operation, the shapes, and the line of your code that made the call, also when it is the
    gradient that goes wrong later. Every result is searched, so this is slow: for finding an error, not for training.
    NumPy's own warnings of such results are off inside.

    >>> import numpy as np, tinygrad_opt as tg
    >>> x = tg.Tensor([0.0, 4.0], requires_grad=True)
    >>> with tg.detect_anomaly():
    ...     np.sqrt(x).sum().backward()
    Traceback (most recent call last):
    ...
    tinygrad_opt.errors.AnomalyError: the gradient rule of np.sqrt made infinity in 1 of 2 elements ...
    """

    def __init__(self) -> None:
        self._entered: list[tuple[bool, Any]] = []

    def _recreate_cm(self) -> detect_anomaly:
        return detect_anomaly()

    def __enter__(self) -> None:
        quiet = np.errstate(divide="ignore", over="ignore", invalid="ignore")
        quiet.__enter__()
        enabled, anomaly = mode.now
        self._entered.append((anomaly, quiet))
        mode.now = (enabled, True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        anomaly, quiet = self._entered.pop()
        mode.now = (mode.now[0], anomaly)
        quiet.__exit__(kind, error, trace)


def check_finite(result: Any, maker: str, shapes: str, line: str) -> None:
    """Raise AnomalyError when an array (or one of a bundle) holds a NaN or an infinity."""
    for array in result if isinstance(result, tuple) else [result]:
        array = getattr(array, "_data", array)  # with create_graph it is a Tensor
        if not isinstance(array, (np.ndarray, np.generic)) or array.dtype.kind != "f" or np.all(np.isfinite(array)):
            continue
        what = "NaN" if np.any(np.isnan(array)) else "infinity"
        count = array.size - np.count_nonzero(np.isfinite(array))
        raise AnomalyError(f"{maker} made {what} in {count} of {array.size} elements {shapes}\n{line}")


def shapes_of(values: Iterable[Any], out: Any) -> str:
    """The shapes of a call, such as ``(inputs (3, 2), (2,); result (3,))``."""
    given = ", ".join(str(np.shape(value)) for value in values if isinstance(value, (np.ndarray, float, int)))
    return f"(inputs {given}; result {getattr(out, 'shape', None)})"


LIBRARIES = (os.path.dirname(__file__) + os.sep, os.path.dirname(np.__file__) + os.sep)  # whose lines are no user's


def users_line() -> str:
    """Where the running code was called from, outside this package and NumPy: file, number, and the line itself."""
    for frame, number in traceback.walk_stack(None):
        name = frame.f_code.co_filename
        if not name.startswith(LIBRARIES):
            return f'  File "{name}", line {number}: {linecache.getline(name, number).strip()}'
    return "  (no line of yours)"


# ---------------------------------------------------------------------------------------------------------------------
# Names of constants, for pictures: of a Tensor without a gradient the graph holds the array alone

_array_names: dict[int, tuple[weakref.ref[np.ndarray], str | None]] = {}  # by id


def name_array(array: np.ndarray, name: str | None) -> None:
    """Remember the name of a constant for as long as it lives."""
    key = id(array)
    _array_names[key] = (weakref.ref(array, lambda _: _array_names.pop(key, None)), name)


def name_of_array(array: np.ndarray) -> str | None:
    """What the Tensor was called that holds this array, if it had a name."""
    reference, name = _array_names.get(id(array), (None, None))
    return name if reference is not None and reference() is array else None


# ---------------------------------------------------------------------------------------------------------------------
# The backward walk


def backpropagate(
    roots: Iterable[tuple[Node, Any]],
    *,
    inputs: Collection[Node] | None = None,
    retain_graph: bool = False,
    lift: Callable[[Any, Node], Any] | None = None,
) -> dict[Node, Any]:
    """Walk from ``roots``, each with its gradient, to the leaves; return the gradients that are asked for.

    Those are the gradients of ``inputs``, or, when None are given, of every leaf and retained node.
    ``lift(value, node)`` makes a value differentiable again; with it, gradients are Tensors (``create_graph``).
    """
    grads: dict[Node, Any] = {}
    for root, gradient in roots:
        grads[root] = grads[root] + gradient if root in grads else gradient
    first = min(node.index for node in inputs) if inputs else 0
    waiting = [(-root.index, root) for root in grads if root.op is not None and root.index > first]
    heapify(waiting)  # calls with a gradient, newest first
    _, anomaly = mode.now
    while waiting:
        node = heappop(waiting)[1]
        g = grads.pop(node)
        if node.retain or (inputs and node in inputs):
            grads[node] = g if lift is not None else g.copy()
        op, out, values, kwargs = node.op, node.out, node.values, node.kwargs
        if values is None:
            raise GraphError(
                f"backward through the same graph a second time: its values (here those of {op.name}) "
                "were freed by the first walk. Pass retain_graph=True to the first backward(), or compute the loss "
                "again."
            )
        if _last_change > node.index:
            _check_unchanged(node)
        if lift is not None:
            out, values, kwargs = _lifted(node, lift)
        parents = node.parents
        if first:  # what was made before the first input is not made from any of them
            parents = [parent if parent and parent.index >= first else None for parent in parents]
        for position, parent in enumerate(parents):
            if parent is None:
                continue
            try:
                rule = op.rules[position]
                contribution = rule(g, out, *values, **kwargs) if kwargs else rule(g, out, *values)
                like = parent.out
                if contribution.shape != like.shape:
                    contribution = unbroadcast(contribution, like.shape)
                if contribution.dtype is not like.dtype:
                    contribution = contribution.astype(like.dtype)
                if anomaly:
                    shapes = shapes_of(values, out) + ", of the call in"
                    line = getattr(node, "line", "  a line outside of detect_anomaly()")
                    check_finite(contribution, f"the gradient rule of {op.name}", shapes, line)
            except Exception as error:
                error.add_note(f"in the gradient rule of {op.name} for its input {position}")
                raise
            if parent in grads:
                grads[parent] = grads[parent] + contribution
            else:
                grads[parent] = contribution
                if parent.op is not None:
                    heappush(waiting, (-parent.index, parent))
                elif contribution is g and lift is None:
                    grads[parent] = g.copy()  # a user may change the gradient of a leaf: it shares no memory
        if not retain_graph:
            node.values, node.parents = None, ()
    return grads if inputs is None else {node: grads[node] for node in inputs if node in grads}


def _lifted(node: Node, lift: Callable[[Any, Node], Any]) -> tuple[Any, list[Any], dict[str, Any]]:
    """The result, values and options of a call, made differentiable again."""
    kwargs = node.kwargs
    values = [v if parent is None else lift(v, parent) for v, parent in zip(node.values, node.parents, strict=True)]
    if "prepared" in kwargs:
        kwargs = {name: value for name, value in kwargs.items() if name != "prepared"}
        kwargs["prepared"] = node.op.prepare(*values, **kwargs)
    return lift(node.out, node), values, kwargs


def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """Undo broadcasting: sum ``g`` over the axes along which a value of ``shape`` was repeated."""
    total = g
    extra = g.ndim - len(shape)
    if extra > 0:
        total = np.add.reduce(total, axis=tuple(range(extra)))
    if total.shape != shape and extra >= 0:
        repeated = tuple(i for i, n in enumerate(shape) if n == 1)
        total = np.add.reduce(total, axis=repeated, keepdims=True)
    if total.shape != shape:
        raise ShapeError(f"a gradient of shape {g.shape} cannot belong to an input of shape {shape}")
    return total


# ---------------------------------------------------------------------------------------------------------------------
# Changes in place: the clock that numbers the nodes also dates every change, so a stale value is seen


Span = tuple[int, int]
_changes: dict[Span, list[Any]] = {}  # span -> [time of its last change, weak reference to the memory's owner]
_last_change = 0
_changing = threading.RLock()


def watch(array: np.ndarray) -> Span:
    """The bytes that ``array`` spans: what `note_changes` takes."""
    span = np.lib.array_utils.byte_bounds(array)
    if span not in _changes:
        owner = array
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        _changes[span] = [0, weakref.ref(owner, lambda _: _changes.pop(span, None))]
    return span


def note_changes(spans: Iterable[Span]) -> None:
    """Date a change in place of the bytes in each of ``spans``."""
    global _last_change
    with _changing:  # another thread must not put back an earlier time
        _last_change = next(_clock)
        for span in spans:
            _changes[span][0] = _last_change


last_rebinding = 0  # when a leaf last got another array or node, or a module another attribute or hook


def note_rebinding(seen: int = 0) -> int:
    """Date such a change: who keeps what Tensors and modules hold compares `last_rebinding` with the date of that.

    Who makes such a change itself passes the date up to which it has seen all others as ``seen``, and keeps the result:
    the new date if nobody else changed anything meanwhile, and else ``seen``, so that it looks anew.
    """
    global last_rebinding
    with _changing:
        nothing_else = last_rebinding == seen
        last_rebinding = next(_clock)
        return last_rebinding if nothing_else else seen


def _check_unchanged(node: Node) -> None:
    """Raise if a value that a rule of ``node`` reads was changed in place after the node was made."""
    changed = [span for span, (time, _) in _changes.copy().items() if time > node.index]
    rules = [node.op.rules[position] for position, parent in enumerate(node.parents) if parent is not None]
    unread = set.intersection(*(unread_inputs(rule, len(node.values)) for rule in rules))
    used = [(i, value) for i, value in enumerate([node.out, *node.values], start=-1) if i not in unread]
    each = [(i, array) for i, value in used for array in (value if isinstance(value, (tuple, list)) else [value])]
    for position, value in each:  # of a tuple (a list of arrays, several results, an index) each element
        if not isinstance(value, np.ndarray):
            continue
        low, high = np.lib.array_utils.byte_bounds(value)
        if any(first < high and low < last for first, last in changed):
            what = "its result" if position < 0 else f"its input {position}"
            raise GraphError(
                f"{node.op.name} needs {what}, of shape {value.shape}, for the backward pass, but that value was "
                "changed in place after it was used. Call backward() before changing it, or use a copy: x.copy()."
            )
