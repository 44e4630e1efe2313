"""Transforms: functions that take a function and give its derivatives. They stand on the backward walk of ``graph.py``.

Each runs the function on fresh variables, walks back from the result to those variables, and gives back what it was
given: arrays for arrays, Tensors that can be differentiated again for Tensors. Inside a function that is itself being
differentiated, everything is a Tensor, so transforms nest: ``grad(grad(f))``.

An argument may be any nesting of lists, tuples and dicts; its gradient has the same nesting.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from tinygrad_opt import graph
from tinygrad_opt.errors import GraphError, ShapeError
from tinygrad_opt.graph import is_grad_enabled
from tinygrad_opt.tensor import Tensor, _unwrap, _wrap, apply, as_array, get_default_dtype, lift

Function = Callable[..., Any]
Argnums = int | Sequence[int]

# ---------------------------------------------------------------------------------------------------------------------
# The primitive: gradients of results that exist already


def gradients(
    outputs: Any, inputs: Any, grad_outputs: Any = None, create_graph: bool = False, *, retain_graph: bool = False
) -> Any:
    """The gradients of ``outputs`` with respect to ``inputs``, without touching any ``grad``.

    ``outputs`` are Tensors that were computed from ``inputs``, which require gradients; both may be nested in lists,
    tuples and dicts. ``grad_outputs``, nested like ``outputs``, says where the walk starts; scalars start with 1. The
    gradients are Tensors nested like ``inputs``; zeros stand for an input that no output depends on. With
    ``create_graph`` they can be differentiated again. The graph is freed unless ``retain_graph`` or ``create_graph``.

    Raises GraphError for an output or an input that is not part of a graph, and for a non-scalar output without
    ``grad_outputs``; ShapeError for ``grad_outputs`` of another shape.

    >>> import tinygrad_opt as tg
    >>> x = tg.Tensor([1.0, 2.0], requires_grad=True)
    >>> tg.gradients((x * x * x).sum(), x)
    Tensor([ 3., 12.])

    Source: Griewank and Walther, "Evaluating Derivatives" (2008), section 3.2 (the reverse mode).
    """
    for name, tree in (("output", outputs), ("input", inputs)):
        for i, leaf in enumerate(_leaves(tree)):
            if not isinstance(leaf, Tensor) or leaf.node is None:
                raise GraphError(
                    f"gradients: {name} {i} is not part of a graph (requires_grad=False, a plain array, or computed "
                    "under no_grad()), so nothing is known of how it depends on anything"
                )
    results = _leaves(outputs)
    given = [None] * len(results) if grad_outputs is None else _leaves(grad_outputs)
    if len(given) != len(results):
        raise ShapeError(f"gradients: {len(results)} outputs, but {len(given)} grad_outputs")
    seeds = [result._seed(seed) for result, seed in zip(results, given, strict=True)]
    retain_graph = retain_graph or create_graph
    return _rebuild(inputs, _walk(results, seeds, _leaves(inputs), retain_graph, create_graph))


def _walk(
    outputs: list[Any], seeds: list[Any], variables: list[Tensor], retain_graph: bool, create_graph: bool
) -> list[Tensor]:
    """The gradient of Σ (output · seed) with respect to each variable; outputs without a graph are constants."""
    pairs = [(y.node, seed) for y, seed in zip(outputs, seeds, strict=True) if isinstance(y, Tensor) and y.node]
    wanted = {variable.node for variable in variables if variable.node is not None}
    with graph.set_grad_enabled(create_graph):
        if create_graph:
            roots = [(node, lift(seed, None)) for node, seed in pairs]
            found = graph.backpropagate(roots, inputs=wanted, retain_graph=True, lift=lift)
        else:
            roots = [(node, _unwrap(seed)) for node, seed in pairs]
            found = graph.backpropagate(roots, inputs=wanted, retain_graph=retain_graph)
    result = []
    for variable in variables:
        g = found.get(variable.node) if variable.node is not None else None
        if g is None:
            g = np.zeros(variable.shape, variable.dtype)
        if not isinstance(g, Tensor):
            g = _wrap(as_array(g) if g.base is None else g.copy(), None)
        result.append(g)
    return result


# ---------------------------------------------------------------------------------------------------------------------
# The transforms


def grad(function: Function, argnums: Argnums = 0) -> Function:
    """The function that gives the gradient of ``function``, whose result is a scalar.

    ``argnums`` says with respect to which arguments: an int for one gradient, a sequence of ints for a tuple of them.
    A gradient has the shape of its argument; it is zero where the result does not depend on it.

    Raises TypeError for arguments that are not floating-point numbers, ShapeError when the result is no scalar.

    >>> import numpy as np, tinygrad_opt as tg
    >>> f = lambda x: (x**3).sum()
    >>> tg.grad(f)(np.array([1.0, 2.0]))
    array([ 3., 12.])
    >>> float(tg.grad(tg.grad(tg.grad(np.sin)))(0.0))  # the third derivative
    -1.0

    Source: Griewank and Walther, "Evaluating Derivatives" (2008), section 3.2.
    """
    both = value_and_grad(function, argnums)

    @functools.wraps(function, assigned=("__module__", "__doc__"))
    def gradient(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return gradient


def value_and_grad(function: Function, argnums: Argnums = 0) -> Function:
    """The function that gives the pair (result, gradient) of ``function``, whose result is a scalar.

    ``scipy.optimize.minimize(value_and_grad(f), x0, jac=True)`` wants just this. ``argnums`` and errors as in `grad`.

    >>> import numpy as np, tinygrad_opt as tg
    >>> value, gradient = tg.value_and_grad(lambda x: (x * x).sum())(np.array([3.0, 4.0]))
    >>> float(value), gradient
    (25.0, array([6., 8.]))

    Source: Griewank and Walther, "Evaluating Derivatives" (2008), section 3.2.
    """

    def both(*args: Any, **kwargs: Any) -> Any:
        run = _Run("grad", function, args, kwargs, argnums)
        if isinstance(run.value, (list, tuple, dict)) or np.size(run.value) != 1:
            raise ShapeError(
                f"grad needs a function whose result is a scalar; this one returned {_described(run.value)}. Reduce it "
                "(.sum(), .mean()), or use jacobian or vjp"
            )
        (output,) = run.outputs
        gradient = run.pull([np.ones(output.shape, output.dtype)], retain_graph=False)
        return run.result(run.value), gradient

    return both


def vjp(function: Function, *args: Any) -> tuple[Any, Function]:
    """The pair (result, pullback) of ``function(*args)``: the pullback gives vector-Jacobian products.

    ``pullback(v)``, with v nested and shaped like the result, is a tuple with one gradient of Σ (result · v) for each
    argument: vᵀJ. It may be called any number of times.

    Raises TypeError for arguments that are not floating-point numbers, ShapeError for v of another shape.

    >>> import numpy as np, tinygrad_opt as tg
    >>> value, pullback = tg.vjp(lambda x, y: x * y, np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    >>> pullback(np.array([1.0, 10.0]))
    (array([ 3., 40.]), array([ 1., 20.]))

    Source: Griewank and Walther, "Evaluating Derivatives" (2008), section 3.2.
    """
    run = _Run("vjp", function, args, {}, range(len(args)))

    def pullback(v: Any) -> Any:
        return run.pull(run.seeds(v))

    return run.result(run.value), pullback


def jvp(function: Function, args: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """The pair (result, tangent) of ``function(*args)``: how the result moves when ``args`` move along ``tangents``.

    ``tangents`` are nested and shaped like ``args``; the tangent J·t is nested and shaped like the result. The
    pullback u ↦ uᵀJ is linear in u, and its gradient with respect to u, from t, is J·t: two walks back.

    Raises TypeError for arguments that are not floating-point numbers, ShapeError for tangents of another shape.

    >>> import numpy as np, tinygrad_opt as tg
    >>> value, tangent = tg.jvp(np.sin, (np.array([0.0, np.pi]),), (np.array([1.0, 2.0]),))
    >>> tangent
    array([ 1., -2.])

    Source: J. Townsend, "A new trick for calculating Jacobian vector products" (2017).
    """
    if not isinstance(args, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise TypeError("jvp(function, args, tangents) takes a tuple of arguments and a tuple of tangents")
    run = _Run("jvp", function, args, {}, range(len(args)))
    directions = _seeds_like("tangent", run.variables, tangents)
    with graph.set_grad_enabled(True):
        u = [Tensor(np.zeros(y.shape), requires_grad=True, dtype=y.dtype) for y in run.outputs]
    pulled = _walk(run.outputs, u, run.variables, retain_graph=True, create_graph=True)
    moved = _walk(pulled, directions, u, retain_graph=True, create_graph=run.differentiable)
    run.own |= {variable.node for variable in u}
    return run.result(run.value), run.result(_rebuild(run.value, moved))


def jacobian(function: Function, argnums: Argnums = 0) -> Function:
    """The function that gives the Jacobian of ``function``: all first derivatives of all elements of its result.

    Its shape is the shape of the result followed by the shape of the argument: J[i, j] = ∂yᵢ/∂xⱼ. A nested result gives
    the same nesting of Jacobians, and so does a nested argument or a sequence ``argnums`` inside it.

    Raises TypeError for arguments that are not floating-point numbers.

    >>> import numpy as np, tinygrad_opt as tg
    >>> tg.jacobian(lambda x: x * x)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])

    Source: Griewank and Walther, "Evaluating Derivatives" (2008), section 3.2: one walk back for each element.
    """

    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        run = _Run("jacobian", function, args, kwargs, argnums)
        return _rebuild(run.value, [_jacobians(run, position) for position in range(len(run.outputs))])

    return jacobian_of


def _jacobians(run: _Run, position: int) -> Any:
    """The Jacobians of one output with respect to each argument: one walk back for each of its elements."""
    y = run.outputs[position]
    rows = []
    for index in np.ndindex(y.shape):
        seeds = [np.zeros(output.shape, output.dtype) for output in run.outputs]
        seeds[position][index] = 1
        rows.append(_leaves(run.pull(seeds)))
    if not rows:
        return _rebuild(run.argument, [np.zeros(y.shape + x.shape, x.dtype) for x in run.variables])
    stacked = [np.stack(column) for column in zip(*rows, strict=True)]
    return _rebuild(
        run.argument, [np.reshape(s, y.shape + x.shape) for s, x in zip(stacked, run.variables, strict=True)]
    )


def hessian(function: Function, argnums: Argnums = 0) -> Function:
    """The function that gives the Hessian of ``function``, whose result is a scalar: the Jacobian of its gradient.

    Its shape is the shape of the argument, twice: H[i, j] = ∂²f/∂xᵢ∂xⱼ. ``argnums`` and errors as in `grad`.

    >>> import numpy as np, tinygrad_opt as tg
    >>> tg.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])

    Source: Griewank and Walther, "Evaluating Derivatives" (2008), section 5.1.
    """
    return jacobian(grad(function, argnums), argnums)


def hvp(function: Function) -> Function:
    """The function of (x, v) that gives the product of the Hessian of ``function`` at x with v, without the Hessian.

    v is nested and shaped like x. As H is symmetric, H·v is the vector-Jacobian product of the gradient: two walks
    back, whatever the size of x. Errors as in `grad` and `vjp`.

    >>> import numpy as np, tinygrad_opt as tg
    >>> tg.hvp(lambda x: (x**3).sum())(np.array([1.0, 2.0]), np.array([1.0, 10.0]))
    array([  6., 120.])

    Source: B. A. Pearlmutter, "Fast Exact Multiplication by the Hessian" (1994).
    """

    def product(x: Any, v: Any) -> Any:
        return vjp(grad(function), x)[1](v)[0]

    return product


# ---------------------------------------------------------------------------------------------------------------------
# Running a function on variables


class _Run:
    """One run of a function on variables that stand for some of its arguments, and the way back to them."""

    def __init__(
        self, transform: str, function: Function, args: Sequence[Any], kwargs: dict[str, Any], argnums: Argnums
    ) -> None:
        several = isinstance(argnums, Iterable)
        try:
            numbers = [*map(operator.index, argnums if isinstance(argnums, Iterable) else [argnums])]
        except TypeError:
            raise TypeError(f"{transform}: argnums is a whole number, or several; got {argnums!r}") from None
        if not all(-len(args) <= n < len(args) for n in numbers):
            raise TypeError(f"{transform}: argnums={argnums} with {len(args)} positional arguments")
        numbers = [n % len(args) for n in numbers]
        self.tensors = graph.differentiating.depth > 0 or any(
            isinstance(x, Tensor) for x in _leaves([list(args), kwargs])
        )
        self.differentiable = self.tensors and is_grad_enabled()
        with graph.set_grad_enabled(True):
            inner = list(args)
            for n in numbers:
                path = f"{transform}: argument {n}"
                inner[n] = _map(functools.partial(_variable, path, self.differentiable), args[n])
            graph.differentiating.depth += 1
            try:
                self.value = function(*inner, **kwargs)
            finally:
                graph.differentiating.depth -= 1
        chosen = tuple(inner[n] for n in numbers)
        self.argument = chosen if several else chosen[0]
        self.variables: list[Tensor] = _leaves(chosen)
        self.own = {v.node for v in self.variables if v.is_leaf}
        self.outputs = [y if isinstance(y, Tensor) else _constant(transform, y) for y in _leaves(self.value)]

    def seeds(self, v: Any) -> list[Any]:
        return _seeds_like("vector", self.outputs, v)

    def pull(self, seeds: list[Any], retain_graph: bool = True) -> Any:
        """The gradients of Σ (output · seed), nested like the argument or arguments."""
        grads = _walk(self.outputs, seeds, self.variables, retain_graph, self.differentiable)
        return self.result(_rebuild(self.argument, grads))

    def result(self, tree: Any) -> Any:
        """What the user gets: Tensors, or arrays; without the graph where it leads to our own variables only."""

        def give(value: Any) -> Any:
            if not self.tensors:
                return (value.data if isinstance(value, Tensor) else as_array(value))[()]
            if isinstance(value, Tensor) and value.node is not None and not self._leads_elsewhere(value):
                return value.detach()
            return value

        return _map(give, tree)

    def _leads_elsewhere(self, tensor: Tensor) -> bool:
        """Whether a Tensor depends on any leaf besides the variables of this run."""
        seen, waiting = set(), [tensor.node]
        while waiting:
            node = waiting.pop()
            if node is None or node in seen or node in self.own:
                continue
            if node.op is None:
                return True
            seen.add(node)
            waiting += node.parents
        return False


def _variable(path: str, connected: bool, value: Any) -> Tensor:
    """A fresh variable with the value of an argument; it is computed from the argument where that has a history."""
    if isinstance(value, Tensor) and value.node is not None and connected:
        return apply(np.positive, (value,))
    array = value.data if isinstance(value, Tensor) else as_array(value)
    if array.dtype.kind != "f":
        raise TypeError(
            f"{path} is {_described(value)}: derivatives are taken with respect to floating-point numbers. Write 3.0 "
            "instead of 3, or array.astype(float)"
        )
    if isinstance(value, float) and not isinstance(value, np.generic):
        array = array.astype(get_default_dtype())
    return _wrap(array, None).requires_grad_()


def _constant(transform: str, value: Any) -> Tensor:
    array = as_array(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{transform} needs a function that returns numbers; this one returned {_described(value)}")
    return _wrap(array.astype(float) if array.dtype.kind != "f" else array, None)


def _seeds_like(what: str, tensors: list[Any], given: Any) -> list[Any]:
    """The leaves of ``given``, checked to fit ``tensors``."""
    seeds = [s if isinstance(s, Tensor) else as_array(s) for s in _leaves(given)]
    shapes, wanted = [s.shape for s in seeds], [t.shape for t in tensors]
    if shapes != wanted:
        raise ShapeError(f"each {what} needs the shape of what it belongs to, {wanted}; got {shapes}")
    return [s.astype(t.dtype) for s, t in zip(seeds, tensors, strict=True)]


def _described(value: Any) -> str:
    if isinstance(value, (np.ndarray, Tensor)):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    return f"{value!r:.60} (a {type(value).__name__})"


# ---------------------------------------------------------------------------------------------------------------------
# Nested lists, tuples and dicts


def _map(function: Function, tree: Any) -> Any:
    """The same nesting with ``function`` applied to everything that is not a list, tuple or dict."""
    if isinstance(tree, dict):
        return {key: _map(function, value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        items = [_map(function, item) for item in tree]
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    return function(tree)


def _leaves(tree: Any) -> list[Any]:
    """What is nested in ``tree``, in order."""
    found: list[Any] = []
    _map(found.append, tree)
    return found


def _rebuild(tree: Any, leaves: Sequence[Any]) -> Any:
    """The nesting of ``tree`` around other leaves."""
    following = iter(leaves)
    return _map(lambda _: next(following), tree)
