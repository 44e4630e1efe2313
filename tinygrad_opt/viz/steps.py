"""The forward and the backward pass as plain data, call by call: what `step_through` shows.

The backward steps are those of `graph.backpropagate` itself: it walks over a copy of the graph whose rules write down
what they are asked and what they answer. So nothing changes the graph or any ``grad``.
"""

from __future__ import annotations

import copy
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_opt import graph
from tinygrad_opt.errors import GraphError
from tinygrad_opt.graph import Node
from tinygrad_opt.nn.module import Module
from tinygrad_opt.rules.shaping import pack
from tinygrad_opt.tensor import Tensor
from tinygrad_opt.viz import model
from tinygrad_opt.viz.formula import LONGEST, Formula, formula_of, is_small, shape_text, value_text
from tinygrad_opt.viz.model import GraphModel, Run, describe_run

MOST_STEPS = 200  # nobody sits through more
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


@dataclass(slots=True)
class Contribution:
    """What a call hands on to one of its inputs, the node ``target``.

    ``answer`` is what the rule returned, ``value`` the same in the shape of the input; ``before`` is the gradient that
    had arrived there until then, None if nothing had, and ``total`` the sum. It is number ``number`` of ``count``.
    """

    target: str
    formula: Formula
    answer: Any
    value: Any
    before: Any
    total: Any
    number: int = 1
    count: int = 1


@dataclass(slots=True)
class Step:
    """One step: "start", "forward" and "backward" (each of one call), "turn" between them, and "end"."""

    phase: str
    sentence: str
    node: str = ""
    inputs: list[str] = field(default_factory=list)
    symbols: str = ""
    numbers: str = ""
    gradient: Any = None
    contributions: list[Contribution] = field(default_factory=list)


@dataclass(slots=True)
class Walk:
    """The picture, the name and the value of each of its nodes, the steps, and the gradients of the leaves.

    All but the steps go by the ids of the nodes.
    """

    picture: GraphModel
    names: dict[str, str]
    values: dict[str, Any]
    steps: list[Step]
    gradients: dict[str, Any]


def steps_of(
    output: Tensor | Module,
    *inputs: Any,
    loss: Callable[[Any], Tensor] | None = None,
    names: Module | Mapping[str, Any] | None = None,
    expand: bool = False,
) -> Walk:
    """Describe the steps that `step_through` shows, as data.

    >>> import tinygrad_opt as tg
    >>> from tinygrad_opt.viz.steps import steps_of
    >>> a = tg.Tensor(3.0, requires_grad=True, name="a")
    >>> for part in steps_of(a * a).steps[3].contributions:
    ...     print(part.formula.symbols, "=", part.formula.numbers, "=", part.value, "total", part.total)
    g · y = 1 × 3 = 3.0 total 3.0
    g · x = 1 × 3 = 3.0 total 6.0
    """
    run = Run(output, inputs, loss, names)
    while expand:
        calls, run = len(run.nodes), run.opened()
        expand = len(run.nodes) > calls
    for node in run.nodes:
        if node.op is not None and node.op.function is None:
            raise GraphError(f"a {node.op.name} has no rules to show: step through what the function itself returns")
    calls = sum(node.op is not None and node.op.function is not pack for node in run.nodes)
    if 2 * calls + 3 > MOST_STEPS:
        raise ValueError(
            f"{calls:,} calls would take {2 * calls + 3:,} steps, forward and backward, and {MOST_STEPS} are the most "
            "for one page: step through a smaller model, fewer layers or time steps, or a part of the loss; "
            "viz.draw_graph draws large graphs whole"
        )
    return _Story(run).walk()


# The steps ----------------------------------------------------------------------------------------------------------


class _Story:
    """Tells what happens in a graph, in the words of its picture."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.picture = describe_run(run, values=True, gradients=False)
        self.shown = [node for node in run.nodes if not _is_list(node)]
        self.calls = [node for node in self.shown if node.op is not None]
        drawn = [node for node in self.picture.nodes if node.kind != "constant"]
        self.place = {id(node): there.id for node, there in zip(self.shown, drawn, strict=True)}
        self.inputs: dict[str, list[str]] = {node.id: [] for node in self.picture.nodes}
        for edge in self.picture.edges:
            self.inputs[edge.target].append(edge.source)
        self.values = {self.place[id(node)]: node.out for node in self.shown}
        for node in self.calls:
            for source, place in zip(model._sources(node), self.inputs[self.place[id(node)]], strict=True):
                if isinstance(source, np.ndarray):  # a constant, which has no Node
                    self.place[id(source)], self.values[place] = place, source
        self.names = self._name()

    def _name(self) -> dict[str, str]:
        """A name for each node of the picture: its own, or a letter and a number; L is a result, y an array."""
        own = {self.place[id(node)]: self.run.named.get(id(node)) or getattr(node, "name", None) for node in self.shown}
        own |= {node.id: node.label for node in self.picture.nodes if node.kind == "constant" != node.label}
        numbers: Counter[str] = Counter()
        names = {}
        for node in self.picture.nodes:
            name = own.get(node.id)
            if name is None:
                letter = {"op": "v", "parameter": "p"}.get(node.kind, "c")
                numbers[letter] += 1
                name = letter + str(numbers[letter]).translate(SUBSCRIPTS)
                if node.output:
                    name = "y" if node.shape else "L"
                node.label = f"{name} = {node.label}" if node.kind == "op" else name
            node.shape = node.shape or None  # of a number there is nothing to say
            names[node.id] = " ".join(name.split()) or repr(name)
        return names

    def walk(self) -> Walk:
        """All steps, from the leaves to the result and back."""
        root = self.run.root
        place, ones = self.place[id(root)], np.ones(root.out.shape, root.out.dtype)
        turn = f"The backward pass starts at the result: ∂L/∂{self.names[place]} = 1"
        if ones.shape:
            turn = (
                f"{self.names[place]} has {ones.size} elements: the backward pass starts with ones, as for L, their sum"
            )
        heard, gradients = _listen(self.run)
        steps = [
            Step("start", "The leaves are given. The forward pass computes the rest from them, call by call."),
            *map(self._forward, self.calls),
            Step("turn", f"{turn}.", place, gradient=ones),
            *self._backward(heard),
            Step("end", "Done: backward() puts these gradients into .grad of the leaves."),
        ]
        leaves = {self.place[id(node)]: gradient for node, gradient in gradients.items()}
        return Walk(self.picture, self.names, self.values, steps, leaves)

    def _step(self, phase: str, node: Node, **fields: Any) -> Step:
        place = self.place[id(node)]
        return Step(phase, "", place, list(dict.fromkeys(self.inputs[place])), **fields)

    def _forward(self, node: Node) -> Step:
        step = self._step("forward", node, symbols=self._call(node), numbers=self._call(node, numbers=True))
        written = is_small(node.out) and not isinstance(node.out, tuple)
        value = value_text(node.out) if written else shape_text(node.out)
        step.sentence = f"{self.names[step.node]} = {step.symbols} = {value}"
        if len(step.numbers) > LONGEST or not all(map(is_small, (node.out, *node.values))):
            step.numbers = ""
        return step

    def _call(self, node: Node, numbers: bool = False) -> str:
        """A call as one writes it, with the names or with the numbers of its inputs."""
        taken = range(min(node.op.inputs, len(node.values)))
        given = [self._input(node, i, numbers) for i in taken if node.values[i] is not None]
        symbol = model.SYMBOLS.get(node.op.name, "")
        if len(given) == 2 and symbol in tuple("+−×÷^@"):
            return f" {symbol} ".join(f"({text})" if text.startswith("-") else text for text in given)
        if node.op.name in ("getitem", "unpack"):
            return f"{given[0]}[{model._label(node)[0].removeprefix('result ').strip('[]')}]"
        return f"{node.op.name.removeprefix('np.')}({', '.join(given)})"

    def _input(self, node: Node, position: int, numbers: bool = False) -> str:
        parent, value = node.parents[position], node.values[position]
        if parent is not None and _is_list(parent):
            return f"[{', '.join(self._input(parent, i, numbers) for i in range(len(parent.parents)))}]"
        place = self.place.get(id(value if parent is None else parent))
        return value_text(value) if numbers or place is None else self.names[place]

    def _backward(self, heard: list[_Heard]) -> Iterator[Step]:
        """One step for each call; what goes to a list of arrays goes to each of them, in the same step."""
        steps: dict[Node, Step] = {}
        lists: dict[Node, _Heard] = {}  # a list -> what was heard of the call that it went into
        arrived: dict[Node, list[Contribution]] = {}
        for one in heard:
            target: Any = one.node.parents[one.position]
            asked = lists.get(one.node, one)
            step = steps.setdefault(asked.node, self._step("backward", asked.node, gradient=asked.g))
            if _is_list(target):
                lists[target] = one
                continue
            value = one.answer
            if value.shape != target.out.shape:
                value = graph.unbroadcast(value, target.out.shape)
            if value.dtype != target.out.dtype:
                value = value.astype(target.out.dtype)
            earlier = arrived.setdefault(target, [])
            before = earlier[-1].total if earlier else None
            total = value if before is None else before + value
            new = Contribution(self.place[id(target)], self._formula(asked), one.answer, value, before, total)
            earlier.append(new)
            step.contributions.append(new)
        for parts in arrived.values():
            for number, part in enumerate(parts, start=1):
                part.number, part.count = number, len(parts)
        for step in steps.values():
            step.sentence = self._told(step)
        yield from steps.values()

    def _told(self, step: Step) -> str:
        """What arrives where, in numbers as far as there are few."""
        arrivals = [
            f"∂L/∂{self.names[part.target]} = {value_text(part.value)}"
            if part.before is None
            else f"∂L/∂{self.names[part.target]} = {value_text(part.before)} + {value_text(part.value)} = "
            + value_text(part.total)
            for part in step.contributions
        ]
        told = f"{self.names[step.node]} hands its gradient on: {', '.join(arrivals)}."
        if len(told) <= 90:
            return told
        counts = Counter(self.names[part.target] for part in step.contributions)
        targets = [name if count == 1 else f"{name} ({count} times)" for name, count in counts.items()]
        return f"{self.names[step.node]} hands its gradient on to {', '.join(targets)}."

    def _formula(self, asked: _Heard) -> Formula:
        """The rule that was asked, with what its symbols mean in this graph."""
        formula = formula_of(asked.node, asked.position, asked.g)
        name = self.names[self.place[id(asked.node)]]
        for symbol in formula.where:
            if symbol.position == -2:
                symbol.meaning = f"∂L/∂{name}, the gradient that came"
            elif symbol.position == -1:
                symbol.meaning = f"{name}, the result"
            elif 0 <= symbol.position < len(asked.node.values):
                symbol.meaning = self._input(asked.node, symbol.position)
        return formula


def _is_list(node: Any) -> bool:
    """Whether a node is a list of arrays that goes into a call such as `np.concatenate`; the picture leaves it out."""
    return node.op is not None and node.op.function is pack


# The walk, listened to -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Heard:
    """A rule was asked, with ``g``, for the gradient of the input at ``position`` of a call, and gave ``answer``."""

    node: Node
    position: int
    g: Any
    answer: Any


class _Rules:
    """The rules of a call, which write down what they are asked and what they answer."""

    def __init__(self, node: Node, heard: list[_Heard]) -> None:
        self.node, self.heard = node, heard

    def __getitem__(self, position: int) -> Callable[..., Any]:
        rule = self.node.op.rules[position]

        @functools.wraps(rule)
        def asked(g: Any, *args: Any, **kwargs: Any) -> Any:
            answer = rule(g, *args, **kwargs)
            self.heard.append(_Heard(self.node, position, g, answer))
            return answer

        return asked


def _listen(run: Run) -> tuple[list[_Heard], dict[Node, Any]]:
    """All that rules are asked for by a backward pass over a copy of the graph, and the gradients of the leaves."""
    heard: list[_Heard] = []
    copies: dict[Node, Node] = {}
    for node in run.nodes:
        op = copy.copy(node.op)
        if op is not None:
            op.rules = _Rules(node, heard)
        parents = [None if parent is None else copies[parent] for parent in node.parents]
        copies[node] = graph.record(op, node.values, node.kwargs, node.out, parents)
        copies[node].index = node.index  # the order of the walk, and the date for changes in place
    gradients = graph.backpropagate([(copies[run.root], np.ones(run.root.out.shape, run.root.out.dtype))])
    return heard, {node: gradients[copies[node]] for node in run.nodes if copies[node] in gradients}
