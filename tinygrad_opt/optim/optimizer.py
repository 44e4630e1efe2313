"""Optimizer: the base of all update rules, and the vector θ that they work on.

The parameters of a group lie one after the other in one flat vector θ, and each parameter's array becomes a view of its
part; the optimizer's state (a momentum, say) lies in vectors of the same length. An update rule is then the formula of
the textbook on whole vectors. It is applied block by block, so that what it reads and writes stays in the cache.
Gradients of large parameters are read where they are; the many small ones are put together first.
"""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tinygrad_opt import graph
from tinygrad_opt.errors import GraphError, ShapeError, StateDictError
from tinygrad_opt.nn.module import Parameter
from tinygrad_opt.tensor import Tensor, _unwrap

Array = npt.NDArray[Any]
Group = dict[str, Any]

ONLY_ARRAYS = {np.ndarray}
NO_LEAF = graph.record(None, None, {}, None, ())  # in the place of the leaf of what requires no gradient
BLOCK = 32_768  # elements: so many of θ, g, the state and what an update computes stay in the second-level cache

# Where a block lies: its part of θ, of g, and of each state vector. The gradient of a large parameter is not in g: its
# part of g is None then, and the number of the parameter and the part of its gradient follow, which else are not used.
Block = tuple[Array, Array | None, list[Array], int, slice]


class Vector:
    """Parameters of one dtype as one vector ``theta``; beside it the state, and ``g``, the small ones' gradients."""

    def __init__(self, group: Group, parameters: list[Parameter]) -> None:
        self.group = group
        self.parameters = parameters
        self.theta = np.concatenate([p.data for p in parameters], axis=None)
        self.g = np.empty_like(self.theta)
        self.state: dict[str, Array] = {}
        self.steps = [0] * len(parameters)  # how many updates each parameter has had
        ends = np.cumsum([p.size for p in parameters]).tolist()
        self.slices = [slice(end - p.size, end) for p, end in zip(parameters, ends, strict=True)]
        self.views: list[Array] = [self.theta[s].reshape(p.shape) for s, p in zip(self.slices, parameters, strict=True)]
        self.places = {  # of the small ones' gradients, by the number of the parameter
            i: self.g[s].reshape(p.shape)
            for i, (s, p) in enumerate(zip(self.slices, parameters, strict=True))
            if p.size <= BLOCK // 2
        }
        self.large = [i for i in range(len(parameters)) if i not in self.places]
        self.whole = slice(0, self.theta.size)
        self.spans = [graph.watch(self.theta)]
        self.date = 0
        self.leaves: list[Any] = []  # of the parameters, as they were at that date
        self._blocks: tuple[Any, list[Block]] = (None, [])  # the last blocks, and what they were for
        for p, view in zip(parameters, self.views, strict=True):
            p.data = view

    def state_vector(self, name: str) -> Array:
        """The state called ``name``; zero at the start."""
        if name not in self.state:
            self.state[name] = np.zeros_like(self.theta)
        return self.state[name]

    def blocks(
        self, names: tuple[str, ...], run: slice, large: dict[int, Array]
    ) -> Iterator[tuple[Array, Array, list[Array]]]:
        """θ, g and the named states over ``run``, block by block: what `Optimizer.update` is called with, in turn.

        ``large`` are the gradients of large parameters, by their numbers.
        """
        if (names, run) != self._blocks[0]:
            self._blocks = (names, run), [*self._cut(names, run)]
        for theta, g, state, number, part in self._blocks[1]:
            yield theta, large[number][part] if g is None else g, state

    def _cut(self, names: tuple[str, ...], run: slice) -> Iterator[Block]:
        """The blocks of ``run``: parts of a large parameter, or of several small ones side by side."""
        vectors = [self.state_vector(name) for name in names]
        members = [i for i, s in enumerate(self.slices) if run.start <= s.start and s.stop <= run.stop]
        for number, group in itertools.groupby(members, lambda i: -1 if i in self.places else i):
            stretch = [self.slices[i] for i in group]
            first, last = stretch[0].start, stretch[-1].stop
            for start in range(first, last, BLOCK):
                cut = slice(start, min(start + BLOCK, last))
                g = read_only(self.g[cut]) if number < 0 else None
                yield self.theta[cut], g, [v[cut] for v in vectors], number, slice(start - first, cut.stop - first)

    def _in_a_row(self, number: int, grad: Array) -> Array:
        """The gradient of a large parameter as a vector: a view of it, where that can be."""
        shape = self.views[number].shape
        if grad.shape != shape:
            raise ShapeError(
                f"the gradient of parameter {self.parameters[number].name or number} has shape {grad.shape}, and the "
                f"parameter {shape}: call zero_grad() after assigning to its data, and backward() again"
            )
        flat = grad.astype(self.theta.dtype, copy=False).reshape(-1)
        return read_only(flat.copy() if np.may_share_memory(flat, self.theta) else flat)

    def runs(self) -> list[tuple[slice, int, dict[int, Array]]]:
        """Gather the gradients; list each stretch of θ that has them, and the number t of its coming update.

        Parameters side by side with gradients and the same t form one stretch: nearly always, that is all of θ. With
        each come the gradients of large parameters, which are not in g.
        """
        grads = [leaf.grad for leaf in self.current_leaves()]
        complete = {*map(type, grads)} == ONLY_ARRAYS  # nearly always; a user may have set a Tensor, or None
        if not complete:
            grads = [_unwrap(grad) for grad in grads]
            complete = all(grad is not None for grad in grads)
        large = {i: self._in_a_row(i, grads[i]) for i in self.large if grads[i] is not None}
        for i, place in self.places.items():
            if complete or grads[i] is not None:
                place[...] = grads[i]
        steps = self.steps
        if complete and steps.count(steps[0]) == len(steps):
            graph.note_changes(self.spans)
            self.steps = [steps[0] + 1] * len(steps)
            return [(self.whole, self.steps[0], large)]
        runs = []
        kinds = [None if grad is None else t for grad, t in zip(grads, steps, strict=True)]
        for t, members in itertools.groupby(range(len(kinds)), kinds.__getitem__):
            if t is not None:
                run = list(members)
                for i in run:
                    steps[i] = t + 1
                stretch = slice(self.slices[run[0]].start, self.slices[run[-1]].stop)
                graph.note_changes([graph.watch(self.theta[stretch])])
                runs.append((stretch, t + 1, large))
        return runs

    def current_leaves(self) -> list[Any]:
        """The node of every parameter, NO_LEAF for one that requires no gradient; θ holds the parameters' values."""
        date = graph.last_rebinding  # read first: what another thread changes meanwhile is seen at the next step
        if self.date != date:
            self._gather_moved()
            self.leaves = [p._node or NO_LEAF for p in self.parameters]
            self.date = date
        return self.leaves

    def _gather_moved(self) -> None:
        """Take up the values of parameters that another optimizer, or an assignment to ``p.data``, has moved."""
        for p, view, s in zip(self.parameters, self.views, self.slices, strict=True):
            if p.shape != view.shape:
                raise ShapeError(
                    f"parameter {p.name} had shape {view.shape} when the optimizer was made, and {p.shape} now: "
                    "make a new optimizer for it"
                )
            if p.data is not view:
                self.theta[s] = p.data.ravel()
                graph.note_changes([graph.watch(view)])
                p.data = view

    def __getstate__(self) -> dict[str, Any]:
        """What a copy is made from; θ itself is laid out anew, since copies of views are not views."""
        return {name: getattr(self, name) for name in ("group", "parameters", "state", "steps")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["group"], state["parameters"])  # type: ignore[misc]
        self.state, self.steps = state["state"], state["steps"]


class Optimizer:
    """The base class: an optimizer says in `update` how one step changes θ, and here is everything else.

    ``params`` is an iterable of Parameters, or of dicts (parameter groups): ``{"params": [...], "lr": 0.1}``.
    ``defaults`` are the hyperparameters of groups that do not set their own. ``param_groups`` is the list of groups;
    ``optimizer.param_groups[0]["lr"] = 0.01`` counts from the next step.

    Raises TypeError for anything that is not a Parameter, ValueError when there is none, when one is given twice, or
    when a hyperparameter is out of range.
    """

    state_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: Iterable[Any], defaults: Group) -> None:
        self.defaults = defaults
        self.param_groups: list[Group] = []
        self._vectors: list[Vector] = []
        self._warned = False
        self._size = 0
        if not isinstance(params, Iterable):
            raise TypeError(
                f"{type(self).__name__} takes parameters, such as model.parameters(); got a {type(params).__name__}"
            )
        given: list[Any] = [params] if isinstance(params, (Tensor, Mapping)) else list(params)
        if not given:
            raise ValueError(f"{type(self).__name__} got no parameters: pass model.parameters()")
        for group in given if isinstance(given[0], Mapping) else [{"params": given}]:
            self.add_param_group(group)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Take on more parameters: a dict with ``params`` and the hyperparameters that differ from the defaults."""
        given = group.get("params", ())
        parameters: list[Any] = [given] if isinstance(given, Tensor) else list(given)
        if not parameters:
            raise ValueError(f"a parameter group is a dict with a non-empty 'params'; got one with {sorted(group)}")
        taken = {id(p) for other in self.param_groups for p in other["params"]}
        for p in parameters:
            if not isinstance(p, Tensor) or not p.is_leaf or p.dtype.kind != "f":
                raise TypeError(f"an optimizer takes Parameters (leaf Tensors that require gradients); got {p!r:.80}")
            if id(p) in taken:
                raise ValueError(f"parameter {p.name or p.shape} was given twice")
            taken.add(id(p))
        unknown = group.keys() - self.defaults.keys() - {"params"}
        if unknown:
            raise ValueError(
                f"{type(self).__name__} has no hyperparameter {sorted(unknown)}; it has {sorted(self.defaults)}"
            )
        complete = {"params": parameters, **self.defaults, **{k: v for k, v in group.items() if k != "params"}}
        self.check(complete)
        self.param_groups.append(complete)
        self._size += sum(p.size for p in parameters)
        for dtype in dict.fromkeys(p.dtype for p in parameters):
            self._vectors.append(Vector(complete, [p for p in parameters if p.dtype == dtype]))

    # What a subclass writes ------------------------------------------------------------------------------------------

    def check(self, group: Group) -> None:
        """Raise ValueError for a hyperparameter out of range."""
        check_range("lr", group["lr"], 0, math.inf, open_low=True)

    def state_of(self, group: Group) -> tuple[str, ...]:
        """The names of the state vectors that `update` is given."""
        return self.state_names

    def update(self, group: Group, t: int, theta: Array, g: Array, *state: Array) -> None:
        """Change ``theta`` in place by the rule; ``g``, the gradient, can only be read; ``t`` counts from 1."""
        raise NotImplementedError(f"{type(self).__name__} has no update rule")

    # What a user calls -----------------------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Change the parameters by one step of the rule, from the gradients that ``backward()`` left.

        With a ``closure``, a function that returns the loss and does not call ``backward()``, the gradients are
        computed afresh first, and the loss is returned.

        Raises GraphError when no parameter has a gradient. Single ones without are skipped, with one warning.
        """
        loss = None if closure is None else self._backward(closure)
        moved = 0
        for vector in self._vectors:
            names = self.state_of(vector.group)
            for run, t, large in vector.runs():
                moved += run.stop - run.start
                for theta, g, state in vector.blocks(names, run, large):
                    self.update(vector.group, t, theta, g, *state)
        if moved < self._size:
            self._check_missing(moved)
        return loss

    def zero_grad(self) -> None:
        """Forget all gradients: ``grad`` of every parameter is None again."""
        for vector in self._vectors:
            for p in vector.parameters:
                leaf = p._node
                if leaf is not None:
                    leaf.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Everything but the parameters that the coming steps depend on: ``state`` and ``param_groups``, as in PyTorch.

        ``state[i]`` holds the state of the i-th parameter: ``step`` and one array per state vector.
        """
        state: dict[int, dict[str, Any]] = {}
        numbers = self._numbers()
        for vector in self._vectors:
            for p, s, t in zip(vector.parameters, vector.slices, vector.steps, strict=True):
                arrays = {name: values[s].reshape(p.shape).copy() for name, values in vector.state.items()}
                state[numbers[id(p)]] = {"step": t, **arrays}
        groups = [{**group, "params": [numbers[id(p)] for p in group["params"]]} for group in self.param_groups]
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a `state_dict` bit for bit.

        Raises StateDictError when groups, parameters or shapes differ; nothing is changed then.
        """
        self._check_state(state_dict)
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=True):
            group.update({name: value for name, value in saved.items() if name != "params"})
        numbers = self._numbers()
        for vector in self._vectors:
            for values in vector.state.values():
                values[...] = 0
            for i, (p, s) in enumerate(zip(vector.parameters, vector.slices, strict=True)):
                saved = dict(state_dict["state"][numbers[id(p)]])
                vector.steps[i] = int(saved.pop("step"))
                for name, values in saved.items():
                    vector.state_vector(name)[s] = np.asarray(values).ravel()

    # Helpers ---------------------------------------------------------------------------------------------------------

    def _backward(self, closure: Callable[[], Tensor], create_graph: bool = False) -> Tensor:
        """The loss that the closure returns, with its gradients in ``grad`` and in nothing else."""
        loss = closure()
        if not isinstance(loss, Tensor):
            raise TypeError(f"the closure must return the loss, a Tensor, without calling backward(); got {loss!r}")
        if loss.node is not None and loss.node.op is not None and loss.node.values is None:
            raise GraphError("the closure has called backward(): it only returns the loss, and the optimizer does that")
        self.zero_grad()
        loss.backward(create_graph=create_graph)
        return loss

    def _numbers(self) -> dict[int, int]:
        """The position of every parameter, by its id."""
        return {id(p): i for i, p in enumerate(p for group in self.param_groups for p in group["params"])}

    def _check_state(self, state_dict: Mapping[str, Any]) -> None:
        if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= state_dict.keys():
            what = sorted(state_dict) if isinstance(state_dict, Mapping) else repr(state_dict)[:80]
            raise StateDictError(f"an optimizer's state has 'state' and 'param_groups'; this one is {what}")
        own = [len(group["params"]) for group in self.param_groups]
        saved = [len(group["params"]) for group in state_dict["param_groups"]]
        if own != saved:
            raise StateDictError(f"the state is of groups of {saved} parameters; this optimizer has groups of {own}")
        for saved_group in state_dict["param_groups"]:
            if saved_group.keys() != {"params", *self.defaults}:
                raise StateDictError(
                    f"the state has hyperparameters {sorted(saved_group)}; {type(self).__name__} has "
                    f"{sorted(['params', *self.defaults])}. Load it into the class that it was saved from."
                )
            zero = saved_group["lr"] == 0  # a schedule may have brought it there
            self.check({**saved_group, "lr": self.defaults["lr"]} if zero else dict(saved_group))
        numbers = self._numbers()
        saved_as = dict(zip(map(id, self.param_groups), state_dict["param_groups"], strict=True))
        for vector in self._vectors:
            state_names = self.state_of(saved_as[id(vector.group)])
            for p in vector.parameters:
                number = numbers[id(p)]
                entry = state_dict["state"].get(number)
                if entry is None or not isinstance(entry.get("step"), (int, np.integer)) or entry["step"] < 0:
                    raise StateDictError(
                        f"the state has no entry for parameter {number} with a valid step: {p.name or p.shape}"
                    )
                names = {"step", *(state_names if entry["step"] else ())}
                if not names <= entry.keys():
                    raise StateDictError(f"the state of parameter {number} lacks {sorted(names - entry.keys())}")
                for name, values in entry.items():
                    if name == "step":
                        continue
                    if np.asarray(values).dtype.kind not in "fiu":
                        raise StateDictError(f"{name} of parameter {number} is no array of real numbers in the state")
                    if np.shape(values) != p.shape:
                        raise StateDictError(
                            f"{name} of parameter {number} has shape {np.shape(values)} in the state, {p.shape} here"
                        )

    def _check_missing(self, moved: int) -> None:
        """Raise when no parameter had a gradient; warn, once, when some had none."""
        if moved and self._warned:
            return
        if not moved:
            raise GraphError(
                "step() found no gradient in any parameter: call loss.backward() first, after zero_grad(), with a loss "
                "of the model whose parameters this optimizer has"
            )
        self._warned = True
        parameters = [p for group in self.param_groups for p in group["params"]]
        frozen = [not p.requires_grad for p in parameters]
        names = [
            p.name or f"{i} of shape {p.shape}" for i, p in enumerate(parameters) if p.grad is None and not frozen[i]
        ]
        if not names:
            return
        warnings.warn(
            f"step() skips parameters without a gradient: {', '.join(names)}. Does the loss depend on them?",
            stacklevel=3,
        )

    def __repr__(self) -> str:
        lines = [
            f"  {sum(p.size for p in group['params']):,} parameters: "
            + ", ".join(f"{name}={value}" for name, value in group.items() if name != "params")
            for group in self.param_groups
        ]
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])


def check_range(
    name: str, value: Any, low: float, high: float, *, open_low: bool = False, open_high: bool = True
) -> None:
    """Raise ValueError, with the name, when a hyperparameter is not a number from ``low`` to ``high``."""
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if number and (low < value if open_low else low <= value) and (value < high if open_high else value <= high):
        return
    interval = f"{'(' if open_low else '['}{low}, {high}{')' if open_high else ']'}"
    raise ValueError(f"{name} must be a number in {interval}; got {value!r}")


def read_only(x: Array) -> Array:
    """The same view of an array, through which nobody can change it."""
    x.flags.writeable = False
    return x


def average(mean: Array, beta: float, x: Array, room: Array | None = None) -> None:
    """mean ← β mean + (1 - β) x: a running average of roughly the last 1/(1 - β) values of x.

    ``room``, as in `root`, is an array that may be written over on the way; it may be x itself.
    """
    keep, share = weights(beta, mean.dtype)
    mean *= keep
    mean += np.multiply(x, share, room)


@functools.lru_cache
def weights(beta: float, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """β and 1 - β as arrays without axes, with which NumPy starts to compute sooner than with Python's numbers."""
    return np.array(beta, dtype), np.array(1 - beta, dtype)


def root(x: Array, eps: float, inside: bool, room: Array | None = None) -> Array:
    """√(x + ε), or (``inside`` is False) √x + ε, as PyTorch has it; in ``room`` if there is one."""
    y: Array = np.add(x, eps, room) if inside else np.sqrt(x, room)
    return np.sqrt(y, y) if inside else np.add(y, eps, y)
