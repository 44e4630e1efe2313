"""gradcheck: are the gradients that ``backward()`` computes the derivatives of the function? On ``transforms.py``.

The judge is the central difference (f(x + h) - f(x - h)) / 2h, which knows nothing of rules. The hard part is h:
curvature spoils the difference when h is large, and rounding when it is small. So h shrinks until the difference
settles on a value; where it never does, that is said, and nothing passes. All arguments together are one vector x. Its
elements are moved one by one or, when there are very many, in groups, which are halved where something is wrong.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_opt import graph
from tinygrad_opt.errors import GradcheckError
from tinygrad_opt.tensor import Tensor
from tinygrad_opt.transforms import _described, _rebuild, _walk, vjp

GROUPS = 1000  # up to so many elements are moved one by one, more of them in so many groups
MOST_WRONG = 100  # the search ends when it has found so many wrong elements
STEPS = 4.0 ** np.arange(5, -21, -1)  # times eps, times max(1, |x|): with the default eps from 1e-3 down to 1e-18
ROUNDING = 4 * float(np.finfo(np.float64).eps)

KINK = "the function has a kink there"
UNDEFINED = "the function is NaN or infinite right beside it, so there is nothing to compare that with"
JUMP = (
    "there is nothing to compare that with: finite differences settle on no value. The function jumps or is infinitely "
    "steep there, or its rounding errors hide the slope (then take a larger eps or atol)"
)

FlatFunction = Callable[[list[Tensor]], dict[str, Tensor]]  # of a list of variables; the results have names


@dataclass(frozen=True, repr=False)
class GradcheckResult:
    """What `gradcheck` found; true when all is right.

    ``compared`` counts the elements that were compared, over all orders. ``kinks`` has those that were not, because the
    function has two slopes there, as pairs (argument, index). ``problem`` says what is wrong.
    """

    passed: bool
    compared: int
    kinks: tuple[tuple[str, tuple[int, ...]], ...] = ()
    problem: str = ""

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        text = f"GradcheckResult({'passed' if self.passed else 'failed'}: {self.compared} elements compared"
        if self.kinks:
            some = ", ".join(f"{argument} {list(index)}" for argument, index in self.kinks[:5])
            text += f"; {len(self.kinks)} at a kink: {some}{', ...' if len(self.kinks) > 5 else ''}"
        return text + (f"; {self.problem})" if self.problem else ")")


def gradcheck(
    function: Callable[..., Any],
    *inputs: Any,
    order: int = 1,
    eps: float = 1e-6,
    rtol: float = 1e-4,
    atol: float = 1e-6,
    seed: int = 0,
    raise_exception: bool = True,
) -> GradcheckResult:
    """Compare the gradients of ``function`` at ``inputs`` with finite differences; with ``order=2`` also theirs.

    ``inputs`` may be nested in lists, tuples and dicts. What is floating-point in them is copied in float64 and
    checked; the rest stays constant. One tuple alone is taken as the arguments. The function returns Tensors, nested
    likewise. Each result is contracted with random numbers, drawn from ``seed``. A gradient g is right when
    |g - d| ≤ atol + rtol |d|, with d the finite difference; its steps shrink from 1000 eps max(1, |x|) until d settles.
    (So gradients as small as atol are hardly checked: multiply the result by a large number then.)
    Where the function has a kink, at or very close to the point, the element is not compared but listed in the result.

    Raises GradcheckError, unless ``raise_exception=False``, for a gradient that is wrong, and where there is nothing to
    compare it with: the function draws random numbers, jumps, is NaN or infinite, or its rounding errors hide the
    slope. Raises TypeError when no input is floating-point or a result is no float64 Tensor; ValueError for options
    out of range, and for inputs that are NaN or infinite.

    >>> import numpy as np, tinygrad_opt as tg
    >>> tg.gradcheck(lambda x, y: np.sin(x) * y, np.array([1.0, 2.0]), 3.0)
    GradcheckResult(passed: 3 elements compared)
    >>> tg.gradcheck(np.abs, np.array([-1.0, 0.0, 2.0]))
    GradcheckResult(passed: 2 elements compared; 1 at a kink: argument 0 [1])

    Source: Griewank and Walther, "Evaluating Derivatives" (2008), section 1.1 (difference quotients).
    """
    if len(inputs) == 1 and type(inputs[0]) is tuple:
        (inputs,) = inputs
    if not callable(function):
        raise TypeError(f"gradcheck(function, *inputs) needs a function; got {_described(function)}")
    if not (isinstance(order, int) and order >= 1 and 0 < eps < 1 and rtol >= 0 and atol >= 0):
        raise ValueError(f"order is 1, 2, ..., eps in (0, 1), rtol and atol ≥ 0; got {order}, {eps}, {rtol}, {atol}")
    flat, arguments = _flattened(function, inputs)
    rng, tolerances = np.random.default_rng(seed), (eps, rtol, atol)
    compared, kinks = 0, np.zeros(0, int)
    try:
        with graph.set_grad_enabled(True), np.errstate(all="ignore"):
            for n in range(1, order + 1):
                check = _Check(flat, arguments, rng, tolerances, higher=n < order)
                positions = np.delete(np.arange(check.x.size), kinks)
                found = check.compare(positions, f"order {n}: " if order > 1 else "")
                compared += len(positions) - len(found)
                kinks = np.append(kinks, found).astype(int)  # where there is no gradient there is no second one
                flat, arguments = _gradient(flat, arguments, check.upstream)
    except GradcheckError as error:
        if raise_exception:
            raise
        return GradcheckResult(False, compared, problem=str(error))
    return GradcheckResult(True, compared, tuple(check.place(i) for i in np.sort(kinks)))


# ---------------------------------------------------------------------------------------------------------------------
# Functions of a list of Tensors, whose results have names


def _flattened(function: Callable[..., Any], inputs: tuple[Any, ...]) -> tuple[FlatFunction, dict[str, Any]]:
    """``function`` as one of the floating-point leaves of ``inputs``, and these leaves by name."""
    leaves = [leaf for i, tree in enumerate(inputs) for leaf in _named(tree, f"argument {i}")]
    values = [np.asarray(value.data if isinstance(value, Tensor) else value) for _, value in leaves]
    floating = [i for i, value in enumerate(values) if value.dtype.kind == "f"]
    if not floating:
        given = ", ".join(_described(value) for _, value in leaves) or "no inputs"
        raise TypeError(f"gradcheck needs a floating-point input, such as 3.0 instead of 3; got {given}")
    arguments = {leaves[i][0]: values[i].astype(np.float64) for i in floating}
    for name, array in arguments.items():
        if not np.all(np.isfinite(array)):
            raise ValueError(f"gradcheck: {name} holds NaN or infinity, which cannot be moved")

    def flat(variables: list[Tensor]) -> dict[str, Tensor]:
        filled = [value for _, value in leaves]
        for i, variable in zip(floating, variables, strict=True):
            filled[i] = variable
        results = dict(_named(function(*_rebuild(inputs, filled)), "result"))
        for name, y in results.items() or [("result", None)]:
            if not isinstance(y, Tensor) or y.dtype != np.float64:
                raise TypeError(
                    f"gradcheck: the {name} is {_described(y)}, but only a float64 Tensor has a gradient to check: "
                    "compute it from the arguments in float64, or leave it out of what the function returns"
                )
        return results

    return flat, arguments


def _named(tree: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Everything in nested lists, tuples and dicts, with where it is: ``argument 0['w'][1]``."""
    if isinstance(tree, (list, tuple, dict)):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _named(value, f"{name}[{key!r}]")
    else:
        yield name, tree


def _gradient(
    function: FlatFunction, arguments: dict[str, Any], upstream: dict[str, Any]
) -> tuple[FlatFunction, dict[str, Any]]:
    """The function from (arguments, upstream gradients) to gradients: what the next order differentiates."""
    count = len(arguments)

    def gradient(variables: list[Tensor]) -> dict[str, Tensor]:
        _, pullback = vjp(lambda *x: list(function(list(x)).values()), *variables[:count])
        return {f"gradient for {name}": g for name, g in zip(arguments, pullback(variables[count:]), strict=True)}

    return gradient, arguments | {f"the upstream gradient of the {name}": u for name, u in upstream.items()}


# ---------------------------------------------------------------------------------------------------------------------
# The comparison


class _Check:
    """The comparison of one order, in rows: one for each result, and one for all of them together.

    A row is the number Σ (result · upstream gradient), as a function of the vector x of all arguments.
    """

    def __init__(
        self,
        function: FlatFunction,
        arguments: dict[str, Any],
        rng: np.random.Generator,
        tolerances: tuple[float, float, float],
        higher: bool,
    ) -> None:
        self.function, self.arguments, self.rng = function, arguments, rng
        self.eps, self.rtol, self.atol = tolerances
        self.x = np.concatenate([array.ravel() for array in arguments.values()])
        variables, results = self.run(self.x)
        self.before = {name: y.data.copy() for name, y in results.items()}
        self.upstream = {name: _random(rng, y.shape) for name, y in results.items()}
        self.rows = [f"the {name}{'' if y.requires_grad else ' (a constant)'}" for name, y in results.items()]
        self.rows.append("all results together" + (", with create_graph=True" if higher else ""))
        walks = [([y], [self.upstream[name]], False) for name, y in results.items()]
        walks.append((list(results.values()), list(self.upstream.values()), higher))  # as the next order will walk
        walked = [_walk(ys, us, variables, True, create_graph) for ys, us, create_graph in walks]
        self.gradients = np.array([np.concatenate([np.ravel(g.data) for g in row]) for row in walked])

    def run(self, x: Any) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Fresh variables for x, so that nothing of the user's is touched, and the results."""
        ends = np.cumsum([array.size for array in self.arguments.values()])
        parts = zip(np.split(x, ends[:-1]), self.arguments.values(), strict=True)
        variables = [Tensor(part.reshape(a.shape), requires_grad=True, dtype=np.float64) for part, a in parts]
        return variables, self.function(variables)

    def change(self, move: Any) -> Any:
        """For each row how much it changes from x to x + move, and how much of that may be rounding: (2, rows)."""
        after = {name: y.data for name, y in self.run(self.x + move)[1].items()}
        if {name: y.shape for name, y in after.items()} != {name: y.shape for name, y in self.before.items()}:
            raise GradcheckError("the results change in number or shape when the inputs move a little")
        rows = []
        for name, u in self.upstream.items():
            change = u * (after[name] - self.before[name])  # subtract, then sum: what did not move adds no rounding
            rows.append((np.sum(change), ROUNDING * np.max(np.abs(u * self.before[name] * (change != 0)), initial=0)))
        changes, rounding = np.transpose(rows)
        return np.array([[*changes, np.sum(changes)], [*rounding, np.max(rounding)]])

    def compare(self, positions: Any, order: str) -> list[int]:
        """Compare the derivatives by these elements of x; return those at a kink, or raise GradcheckError."""
        self.refuse_what_cannot_be_compared()
        kinks: list[int] = []
        wrong: list[tuple[float, str]] = []
        waiting = np.array_split(positions, min(GROUPS, len(positions)) or 1)[::-1]
        while waiting and len(wrong) < MOST_WRONG:
            group = waiting.pop()
            problems = self.problems(group)
            if problems and len(group) > 1:
                waiting += np.array_split(group, 2)[::-1]
            elif problems and max(problems)[1] == KINK:
                kinks.append(group[0])
            elif problems:
                wrong.append(max(problems))
        if wrong:
            count = f"{len(wrong) - 1}{' or more' if waiting else ''}"
            raise GradcheckError(order + max(wrong)[1] + (f"; other wrong elements: {count}" if len(wrong) > 1 else ""))
        return kinks

    def refuse_what_cannot_be_compared(self) -> None:
        """Raise for results that are not finite, or that are no function of the inputs."""
        for name, y in self.before.items():
            if not np.all(np.isfinite(y)):
                raise GradcheckError(f"the {name} is NaN or infinite at these inputs")
        change, rounding = self.change(np.zeros(self.x.shape))
        if np.any(np.abs(change) > 1e6 * rounding):
            raise GradcheckError("two calls with the same inputs gave different results: are random numbers drawn?")

    def problems(self, group: Any) -> list[tuple[float, str]]:
        """What is wrong with the derivatives by one element of x, or along a random mixture of several.

        Each problem is a pair: how far the gradient is off, and a message.
        """
        scale = np.maximum(1, np.abs(self.x[group]))
        mixture = scale / np.max(scale, initial=1) * (1 if len(group) == 1 else _random(self.rng, group.shape))
        direction = np.zeros(self.x.shape)
        direction[group] = mixture
        steps = self.eps * np.max(scale, initial=1) * STEPS
        steps = steps[steps > 1000 * ROUNDING * np.max(np.abs(self.x[group]), initial=0)]

        @functools.cache  # the same steps serve all rows
        def slopes(k: int) -> Any:
            right, left = self.change(steps[k] * direction), self.change(-steps[k] * direction)
            return np.stack([right[0], -left[0], np.maximum(right[1], left[1])]) / steps[k]

        found = []
        for row, parts in enumerate(self.gradients[:, group] * mixture):
            # A mixture must be as exact as its smallest part alone would have to be: nothing hides behind a large part.
            least = np.inf if len(group) == 1 else np.min(np.abs(parts), initial=np.inf)
            g, d = float(np.sum(parts)), self.settle((slopes(k)[:, row] for k in range(len(steps))), least)
            if isinstance(d, str) or not abs(g - d) <= self.tolerance(d, least):
                found.append(self.described(group[0], row, g, d))
        return found

    def tolerance(self, slope: float, least: float) -> float:
        """By how much a gradient may differ from ``slope``, or from ``least`` if that is smaller."""
        return self.atol + self.rtol * min(abs(slope), least)

    def settle(self, slopes: Iterable[Any], least: float) -> float | str:
        """The slope that the differences settle on as the step shrinks, or why there is none.

        ``slopes`` has for each step those to the right and to the left, and how much of them may be rounding.
        """
        window: list[Any] = []
        kinks, both_moved = 0, False
        for right, left, rounding in slopes:
            window = [*window[-2:], (right, left, rounding)]
            both_moved = both_moved or (right != 0 and left != 0)
            if len(window) < 3:
                continue
            rights, lefts, roundings = np.transpose(window)  # at three steps
            central = (rights + lefts) / 2  # (f(x + h) - f(x - h)) / 2h
            tolerance = self.tolerance(central[1], least)
            steady = np.ptp(central) <= tolerance / 2 and np.max(roundings) <= tolerance
            # What curvature does to the gap between the two sides is proportional to h; less that, a kink's remains.
            gap = rights - lefts
            before, now = np.abs(4 * gap[1:] - gap[:-1]) / 3
            # No change at all, where larger steps changed something on both sides, is rounding, not a slope of zero.
            lost = both_moved and not np.any([rights, lefts])
            if steady and now <= max(tolerance, 0.7 * before) and not lost:
                return float(central[1])
            clear = now > max(tolerance, 50 * np.max(roundings))
            kinks = kinks + 1 if clear and abs(now - before) <= 0.1 * now else 0
            if kinks == 6:  # the same gap all the way from a step h to h / 1000: neither rounding nor a sharp bend
                return KINK
        return JUMP if np.all(np.isfinite(window)) else UNDEFINED

    def described(self, i: int, row: int, g: float, d: float | str) -> tuple[float, str]:
        """How far the gradient of element i is off, and the message that says so."""
        argument, index = self.place(i)
        element = f"{argument}, element {list(index)}," if index else argument
        text = f"the derivative of {self.rows[row]} with respect to {element} is {g:.8g} by backward()"
        if isinstance(d, str):
            return (-1, KINK) if d == KINK and np.isfinite(g) else (0, f"{text}, but {d}")
        off = abs(g - d) if np.isfinite(g) else np.inf
        return off, f"{text}, but {d:.8g} by finite differences: off by {off:.3g}"

    def place(self, i: int) -> tuple[str, tuple[int, ...]]:
        """The name of the argument that element i of x belongs to, and its index there."""
        for name, array in self.arguments.items():
            if i < array.size:
                return name, tuple(int(k) for k in np.unravel_index(i, array.shape))
            i -= array.size
        raise IndexError(i)


def _random(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Random numbers of both signs, none near zero."""
    return np.asarray(rng.uniform(0.5, 1.5, shape) * rng.choice([-1, 1], shape))
