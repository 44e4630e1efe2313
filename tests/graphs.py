"""Random graphs for tests, and the definition that backward() stands for: the sum over all paths through a graph.

Hypothesis builds the graphs. The reference follows every path from an output back to a value on its own, multiplies
the local Jacobians along it (written out here as matrices) and adds up the products: no order of the nodes, no
accumulation, no broadcasting rule and none of the library's gradient rules has a part in it. It is slow, and plain.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from tests.gradients import results
from tinygrad_opt import Tensor

# The operations, each with its local Jacobians -----------------------------------------------------------------------


class Operation(NamedTuple):
    inputs: int
    function: Callable[..., Any]  # gives one result or several
    jacobian: Callable[..., Any]  # (position, *arrays) -> a matrix: elements of all results × elements of that input
    margin: Callable[..., Any] = lambda *arrays: np.inf  # how far the arrays are from a kink or a pole


def elementwise(function, *slopes, margin=lambda *arrays: np.inf):
    """An operation of elements, with the partial derivative for each input; inputs may be broadcast."""

    def jacobian(position, *arrays):
        x, out = arrays[position], np.asarray(function(*arrays))
        came_from = np.broadcast_to(np.arange(x.size).reshape(x.shape), out.shape).ravel()
        matrix = np.zeros((out.size, x.size))
        matrix[np.arange(out.size), came_from] = np.broadcast_to(slopes[position](*arrays), out.shape).ravel()
        return matrix

    return Operation(len(slopes), function, jacobian, margin)


def linear(inputs, function):
    """An operation that is linear in each input: column by column, what it makes of a single 1."""

    def jacobian(position, *arrays):
        x = arrays[position]

        def result(value):
            return flat(function(*arrays[:position], value, *arrays[position + 1 :]))

        units = np.eye(x.size).reshape(x.size, *x.shape)
        return np.stack([result(unit) - result(np.zeros(x.shape)) for unit in units], axis=1)

    return Operation(inputs, function, jacobian)


def flat(values):
    """The elements of one array or of several, one after the other."""
    return np.concatenate([np.ravel(v) for v in results(values)])


def symmetric_eigh(a):
    """The eigenvalues of a + aᵀ, and the squares of the vectors' components, which do not depend on their signs."""
    values, vectors = np.linalg.eigh(a + a.T)
    return values, vectors * vectors


def symmetric_eigh_jacobian(_position, a):
    """First-order perturbation theory: δλᵢ = vᵢᵀ δS vᵢ and δvᵢ = Σ vⱼ vⱼᵀ δS vᵢ / (λᵢ - λⱼ)."""
    values, v = np.linalg.eigh(a + a.T)
    gaps = values - values[:, None] + np.eye(len(a))
    columns = []
    for unit in np.eye(a.size).reshape(a.size, *a.shape):
        inner = v.T @ (unit + unit.T) @ v
        columns.append(flat([np.diag(inner), 2 * v * (v @ (inner / gaps * (1 - np.eye(len(a)))))]))
    return np.stack(columns, axis=1)


def least_gap(a):
    return a.shape == a.T.shape and np.diff(np.linalg.eigvalsh(a + a.T)).min(initial=np.inf)


MASK = np.array([True, False, True])

OPERATIONS = {
    "add": elementwise(lambda a, b: a + b, lambda a, b: 1, lambda a, b: 1),
    "subtract": elementwise(lambda a, b: a - b, lambda a, b: 1, lambda a, b: -1),
    "multiply": elementwise(lambda a, b: a * b, lambda a, b: b, lambda a, b: a),
    "divide": elementwise(
        lambda a, b: a / b, lambda a, b: 1 / b, lambda a, b: -a / b**2, margin=lambda a, b: np.abs(b).min()
    ),
    "maximum": elementwise(np.maximum, lambda a, b: a > b, lambda a, b: b > a, margin=lambda a, b: np.abs(a - b).min()),
    "logaddexp": elementwise(np.logaddexp, lambda a, b: 1 / (1 + np.exp(b - a)), lambda a, b: 1 / (1 + np.exp(a - b))),
    "where": elementwise(lambda a, b: np.where(MASK, a, b), lambda a, b: MASK, lambda a, b: ~MASK),
    "negative": elementwise(lambda a: -a, lambda a: -1),
    "sin": elementwise(np.sin, np.cos),
    "tanh": elementwise(np.tanh, lambda a: 1 / np.cosh(a) ** 2),
    "exp": elementwise(np.exp, np.exp),
    "power": elementwise(lambda a: a**3, lambda a: 3 * a * a),
    "matmul": linear(2, lambda a, b: a @ b),
    "matmul, transposed": linear(2, lambda a, b: a @ b.T),
    "concatenate": linear(2, lambda a, b: np.concatenate([a, b])),
    "sum": linear(1, lambda a: a.sum()),
    "sum of an axis": linear(1, lambda a: a.sum(axis=-1, keepdims=True)),
    "mean of an axis": linear(1, lambda a: np.mean(a, axis=0)),
    "cumsum": linear(1, lambda a: np.cumsum(a, axis=-1)),
    "transpose": linear(1, lambda a: a.T),
    "reshape": linear(1, lambda a: a.reshape(-1, 1)),
    "broadcast": linear(1, lambda a: np.broadcast_to(a, (2, 3))),
    "slice": linear(1, lambda a: a[..., 1:]),
    "element": linear(1, lambda a: a[-1, ..., 0]),
    "mask": linear(1, lambda a: a[..., np.arange(a.shape[-1]) % 2 == 0]),
    "repeated rows": linear(1, lambda a: a[[0, -1, 0]]),
    "split": linear(1, lambda a: np.split(a, [1], axis=-1)),
    "eigh": Operation(1, symmetric_eigh, symmetric_eigh_jacobian, least_gap),
}

# Random graphs -------------------------------------------------------------------------------------------------------


class At(NamedTuple):
    """The value number so-and-so: first the leaves, then the results of the steps."""

    number: int


class Step(NamedTuple):
    operation: str
    inputs: tuple[Any, ...]  # At(number), or a constant: a number, a plain array, a Tensor without requires_grad

    def taken(self, values):
        return [values[i.number] if isinstance(i, At) else i for i in self.inputs]


class Graph(NamedTuple):
    leaves: list[np.ndarray]
    steps: list[Step]
    outputs: list[int]  # backward() starts at each in turn
    retained: list[int]  # values that keep their gradients


SHAPES = [(), (3,), (1, 3), (2, 1), (2, 3), (2, 2)]
LARGEST = 1e3  # beyond, rounding errors would outgrow the tolerances
MARGIN = 0.1  # closer to a kink or a pole, finite differences would not agree with derivatives


def arrays(seed, shape):
    """Numbers of both signs, none of them close to zero."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.uniform(0.3, 1.3, shape) * rng.choice([-1, 1], shape))


random_arrays = st.builds(arrays, st.integers(0, 1000), st.sampled_from(SHAPES))
constants = st.one_of(st.sampled_from([2, -0.5]), random_arrays, random_arrays.map(Tensor))


@st.composite
def graphs(draw, most_steps=8):
    """Every step picks its inputs among all values so far: shared, repeated and unused ones all happen."""
    leaves = draw(st.lists(random_arrays, min_size=1, max_size=3))
    values, steps = list(leaves), []

    def some_value():
        return At(len(values) - 1 - draw(st.integers(0, len(values) - 1)))

    for _ in range(draw(st.integers(1, most_steps))):
        first = some_value()
        second = draw(constants) if draw(st.sampled_from([True, False, False])) else some_value()
        pair = draw(st.permutations([first, second]))
        possible = {}
        for name, operation in OPERATIONS.items():
            step = Step(name, tuple(pair) if operation.inputs == 2 else (first,))
            out = result_on_arrays(step, values)
            if out is not None:
                possible[name] = step, out
        often = [name for name in ("eigh", "matmul", "maximum") if name in possible]  # else they would be rare
        step, out = possible[draw(st.sampled_from([*often, *possible, *often, *often]))]
        steps.append(step)
        values += out
    numbers = st.integers(len(leaves), len(values) - 1)
    outputs = [len(values) - 1, *draw(st.lists(numbers, max_size=2))]
    return Graph(leaves, steps, outputs, draw(st.lists(numbers, max_size=3, unique=True)))


def result_on_arrays(step, values):
    """What the step gives; None when the shapes do not fit, numbers get too large, or a kink or a pole is near."""
    operation, taken = OPERATIONS[step.operation], [plain(x) for x in step.taken(values)]
    try:
        with np.errstate(all="ignore"):
            out = [np.asarray(x) for x in results(operation.function(*taken))]
            if not operation.margin(*taken) > MARGIN:
                return None
    except (ValueError, IndexError):
        return None
    return out if all(0 < x.size <= 24 and np.all(np.abs(x) < LARGEST) for x in out) else None


def plain(x):
    return np.asarray(x.data if isinstance(x, Tensor) else x, float)


def run(graph, leaves):
    """All values of the graph, as Tensors."""
    values = list(leaves)
    for step in graph.steps:
        values += results(OPERATIONS[step.operation].function(*step.taken(values)))
    return values


def upstream(graph, values):
    """The gradient that each output starts with: another random array for each."""
    return [arrays(2000 + place, values[number].shape) for place, number in enumerate(graph.outputs)]


# The reference -------------------------------------------------------------------------------------------------------


class Reference:
    """The graph on plain arrays, and its derivatives as sums over paths."""

    def __init__(self, graph, leaves):
        self.graph, self.values = graph, list(leaves)
        self.made_by = [None] * len(leaves)  # the step, what it was given, and which of its results' elements
        for step in graph.steps:
            taken, start = [plain(x) for x in step.taken(self.values)], 0
            for out in map(np.asarray, results(OPERATIONS[step.operation].function(*taken))):
                self.values.append(out)
                self.made_by.append((step, taken, slice(start, start + out.size)))
                start += out.size

    def loss(self):
        """Σ (output · its upstream gradient)."""
        weights = upstream(self.graph, self.values)
        return sum((self.values[n] * u).sum() for n, u in zip(self.graph.outputs, weights, strict=True))

    def jacobian(self, target, source):
        """d target / d source, path by path; None where no path leads from one to the other."""
        if target == source:
            return np.eye(self.values[source].size)
        if self.made_by[target] is None:
            return None
        step, taken, rows = self.made_by[target]
        total = None
        for position, parent in enumerate(step.inputs):
            rest = self.jacobian(parent.number, source) if isinstance(parent, At) else None
            if rest is not None:
                product = OPERATIONS[step.operation].jacobian(position, *taken)[rows] @ rest
                total = product if total is None else total + product
        return total

    def gradient(self, source):
        """The gradient of the loss by the value ``source``; None where there is none."""
        total = None
        for number, u in zip(self.graph.outputs, upstream(self.graph, self.values), strict=True):
            matrix = self.jacobian(number, source)
            if matrix is not None:
                part = (u.ravel() @ matrix).reshape(self.values[source].shape)
                total = part if total is None else total + part
        return total
