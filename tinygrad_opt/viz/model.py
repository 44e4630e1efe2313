"""The graph as plain data: nodes and edges with their texts, which ``dot.py`` and ``text.py`` turn into pictures.

`Run` walks from a result back to the leaves, as the backward pass does; `describe_run` says what is found there: every
call, every leaf, every constant. Nothing here needs Graphviz, and nothing changes the graph or any ``grad``.
"""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_opt import graph
from tinygrad_opt.errors import GraphError
from tinygrad_opt.graph import Node
from tinygrad_opt.nn.module import Module
from tinygrad_opt.rng import generator_or_default
from tinygrad_opt.rules.registry import TABLE, Op
from tinygrad_opt.rules.shaping import Bundle, pack, unpack
from tinygrad_opt.tensor import Tensor, apply, get_default_dtype, lift
from tinygrad_opt.viz.rule_text import rule_text

Box = tuple[str, ...]

SYMBOLS = {
    "np.add": "+", "np.subtract": "−", "np.multiply": "×", "np.divide": "÷", "np.power": "^", "np.negative": "−x",
    "np.matmul": "@", "np.dot": "@", "np.sum": "Σ", "np.prod": "Π", "np.absolute": "|x|", "np.sqrt": "√",
    "np.square": "x²", "np.maximum": "max", "np.minimum": "min", "np.logaddexp": "log(eˣ + eʸ)", "np.transpose": "xᵀ",
    "getitem": "[ ]", "linear": "x Wᵀ + b", "relu": "ReLU", "leaky_relu": "LeakyReLU", "elu": "ELU",
    "silu": "SiLU", "gelu": "GELU", "sigmoid": "σ", "normal_cdf": "Φ", "squared_error": "(x − y)²",
    "absolute_error": "|x − y|", "softmax_log_loss": "cross-entropy", "log_loss": "log loss",
    "log_loss_with_logits": "log loss of logits", "hinge": "hinge loss", "squared_hinge": "squared hinge loss",
    "huber": "Huber loss", "standardize": "(x − μ) ÷ σ", "conv2d": "convolution", "max_pool2d": "max pooling",
    "avg_pool2d": "mean pooling", "log_softmax": "log softmax", "logsumexp": "log Σ eˣ",
}  # fmt: skip
SHORT = 6  # elements: so many are written out, of more there is the mean, the spread and the range


@dataclass(slots=True)
class GraphNode:
    """A node of the picture: a call ("op"), a leaf that gets a gradient ("parameter"), a "constant", or a "module".

    ``label`` is in the field's notation, ``detail`` are the options of a call, ``rule`` is its gradient rule. ``box``
    names the modules around it, from the outermost inwards. ``value`` and ``gradient`` are texts, None where they were
    not asked for; ``magnitude`` is the root mean square of the gradient, None where there is none.
    """

    id: str
    kind: str
    label: str
    detail: str = ""
    shape: tuple[int, ...] | None = None
    dtype: str = ""
    box: Box = ()
    value: str | None = None
    gradient: str | None = None
    magnitude: float | None = None
    rule: str = ""
    output: bool = False


@dataclass(slots=True)
class GraphEdge:
    """An arrow from what is used to what uses it; ``again`` leads from one repetition of a block to the next."""

    source: str
    target: str
    again: bool = False


@dataclass(slots=True)
class GraphModel:
    """A picture as data: its nodes and edges, in the order of the computation, and the titles of its boxes."""

    nodes: list[GraphNode]
    edges: list[GraphEdge]
    titles: dict[Box, str] = field(default_factory=dict)


# What was computed, and where --------------------------------------------------------------------------------------


class Run:
    """A graph, and which module each of its nodes was made in."""

    def __init__(self, output: Any, inputs: tuple[Any, ...], loss: Any, names: Any) -> None:
        self.titles: dict[Box, str] = {}
        self.boxes: dict[Node, Box] = {}
        self.named: dict[int, str] = {}  # id of a Node or an array -> name
        self.kept: list[Any] = [output, names]  # so that no id is used again for something else
        spans: list[tuple[int, int, Box]] = []
        if names is not None and not isinstance(names, (Module, Mapping)):
            raise TypeError(f"names is a model, or a dict from names to Tensors; got {names!r:.80}")
        if isinstance(output, Module):
            if not inputs:
                raise TypeError("a model is drawn with what goes into it, an example: draw_graph(model, x)")
            names = output if names is None else names
            inputs = tuple(map(_as_input, inputs))
            self.kept += inputs
            for number, value in enumerate(inputs):
                self.named[id(value)] = "input" if len(inputs) == 1 else f"input {number}"
            output = self._record(output, inputs, loss, spans)
        elif inputs or loss is not None:
            raise TypeError("inputs and loss= go with a model: draw_graph(model, x), or draw_graph(result) alone")
        if not isinstance(output, Tensor):
            raise TypeError(f"a graph is that of one Tensor, such as a loss; got {output!r:.80}")
        if output.node is None:
            raise GraphError("there is no graph to see: nothing that this Tensor was computed from requires a gradient")
        self.root = output.node
        self.nodes = _ancestors(self.root)
        self._take_names(names)
        self._locate(spans)

    def _record(self, model: Module, inputs: tuple[Any, ...], loss: Any, spans: list[tuple[int, int, Box]]) -> Any:
        """Run the model, and note which numbers the nodes get that are made in each of its modules."""
        begun: list[tuple[int, Box, Box]] = []  # when it was called, its box, and its path in the model
        calls: Counter[Box] = Counter()
        names = {module: tuple(name.split(".")) if name else () for name, module in model.named_modules()}
        for module, path in names.items():
            kind = type(module).__name__
            self.titles["model", *path] = f"{path[-1]}: {kind}" if path else kind

        def before(module: Any, args: Any) -> None:
            path = names[module]
            _, outer, above = begun[-1] if begun else (0, ("model",), ())
            if path[: len(above)] != above:  # a module that does not lie in the one that calls it
                outer, above = ("model",), ()
            box: Box = (*outer, *path[len(above) :])
            for end in range(len(above) + 1, len(path) + 1):
                self.titles.setdefault(box[: len(outer) + end - len(above)], self.titles["model", *path[:end]])
            calls[box] += 1
            if calls[box] > 1:
                again = (*box[:-1], f"{box[-1]}, call {calls[box]}")
                self.titles[again] = f"{self.titles[box]}, call {calls[box]}"
                box = again
            begun.append((next(graph._clock), box, path))

        def after(module: Any, args: Any, result: Any) -> None:
            start, box, _ = begun.pop()
            spans.append((start, next(graph._clock), box))

        hooks = [(m.register_forward_pre_hook(before), m.register_forward_hook(after)) for m in names]
        handles = [handle for pair in hooks for handle in pair]
        buffers = [(buffer, buffer.data) for buffer in model.buffers()]
        generators = [generator_or_default(None), *(getattr(module, "generator", None) for module in names)]
        bits = {g.bit_generator for g in generators if isinstance(g, np.random.Generator)}
        states = [(source, source.state) for source in bits]
        try:
            result = model(*inputs)
        finally:  # to draw a model does not change it
            for handle in handles:
                handle.remove()
            for buffer, array in buffers:
                buffer.data = array
            for source, state in states:
                source.state = state
        return result if loss is None else loss(result)

    def _take_names(self, names: Any) -> None:
        given = dict(names.named_parameters()) if isinstance(names, Module) else dict(names or {})
        if isinstance(names, Module):
            given |= dict(names.named_buffers())
        for name, value in given.items():
            node, array = (value.node, value.data) if isinstance(value, Tensor) else (None, value)
            self.named[id(array if node is None else node)] = name
            box = ("model", *name.split(".")[:-1])
            if node is not None and box in self.titles:
                self.boxes[node] = box

    def _locate(self, spans: list[tuple[int, int, Box]]) -> None:
        """Each node is in the innermost module that was running when it was made."""
        spans.sort()
        running: list[tuple[int, int, Box]] = []
        position = 0
        for node in self.nodes:
            if node.op is None:
                continue
            while position < len(spans) and spans[position][0] < node.index:
                running.append(spans[position])
                position += 1
            while running and running[-1][1] < node.index:
                running.pop()
            if running:
                self.boxes[node] = running[-1][2]

    def opened(self) -> Run:
        """The same computation, made again with the fused primitives as the calls that they are made of."""
        made: dict[Node, Any] = {}
        run = object.__new__(Run)
        run.titles, run.boxes, run.named, run.kept = self.titles, {}, dict(self.named), [self]
        for node in self.nodes:
            if node.op is None:
                leaf = made[node] = Tensor(node.out, dtype=node.out.dtype)
                leaf.requires_grad = True
                leaf.name = self.named.get(id(node)) or getattr(node, "name", None)
                new = [leaf.node]
            else:
                start = next(graph._clock)
                made[node] = _call_again(node, made)
                result = made[node]
                roots = result if isinstance(result, (tuple, list)) else [result]
                new = [n for t in roots for n in _ancestors(t.node) if n.index > start]
            if node in self.boxes:
                run.boxes.update((n, self.boxes[node]) for n in new if n is not None)
        run.root = made[self.root].node
        run.nodes = _ancestors(run.root)
        return run


def _as_input(value: Any) -> Any:
    """An input as the array that the graph will hold: in the default dtype, where it is floating-point."""
    if isinstance(value, Tensor):
        return value
    array = np.asarray(value)
    return array.astype(get_default_dtype(), copy=False) if array.dtype.kind == "f" else array


def _call_again(node: Node, made: Mapping[Node, Any]) -> Any:
    """What a node computed, computed again from Tensors; a fused primitive runs as plain NumPy calls on Tensors."""
    if node.op.function not in TABLE:
        raise GraphError(f"expand=True cannot look into a {node.op.name}: draw what the function itself returns")
    args = [
        made[parent] if parent is not None else lift(value, None) if isinstance(value, np.ndarray) else value
        for value, parent in zip(node.values, node.parents, strict=True)
    ]
    kwargs = {name: value for name, value in node.kwargs.items() if name != "prepared"}
    if node.op.function is unpack:
        return args[0][args[1]]
    if node.op.function is not pack and not node.op.name.startswith("np."):
        options = {**kwargs, "prepared": node.op.prepare(*args, **kwargs)} if node.op.prepare else kwargs
        try:
            result = node.op.function.forward(*args, **options)
        except (TypeError, ValueError, GraphError):  # it works on the memory of arrays, as a convolution does
            result = None
        if isinstance(result, Tensor) and result.node is not None:
            return result
    return apply(node.op.function, tuple(args), kwargs)


def _ancestors(root: Node) -> list[Node]:
    """All nodes that ``root`` was computed from, and itself, in the order in which they were made."""
    found, waiting = {root}, [root]
    while waiting:
        node = waiting.pop()
        if node.op is not None and node.values is None:
            raise GraphError(
                "the graph was freed by backward(): draw it before, or call backward(retain_graph=True). "
                f"(What is gone is how {node.op.name} was called.)"
            )
        for parent in node.parents:
            if parent is not None and parent not in found:
                found.add(parent)
                waiting.append(parent)
    return sorted(found, key=lambda node: node.index)


# Nodes and edges ----------------------------------------------------------------------------------------------------


def describe_run(run: Run, values: bool, gradients: bool) -> GraphModel:
    """Every node of the graph, and every constant that went into a call, as nodes and edges."""
    grads = _gradients(run) if gradients else {}
    nodes: list[GraphNode] = []
    edges: list[GraphEdge] = []
    place: dict[int, str] = {}  # id of a Node or a constant array -> id in the picture
    for node in run.nodes:
        if node.op is not None and node.op.function is pack:
            continue
        sources = _sources(node)
        for source in sources:
            if isinstance(source, np.ndarray) and id(source) not in place:
                place[id(source)] = name = f"n{len(nodes)}"
                given = run.named.get(id(source)) or graph.name_of_array(source)
                constant = GraphNode(
                    name, "constant", given or "constant", box=() if given else run.boxes.get(node, ())
                )
                constant.gradient = "not computed" if gradients else None
                nodes.append(_with_array(constant, source, values))
        place[id(node)] = name = f"n{len(nodes)}"
        if node.op is None:
            label = run.named.get(id(node)) or getattr(node, "name", None) or "leaf"
            new = GraphNode(name, "parameter", label)
        else:
            label, detail = _label(node)
            given = run.named.get(id(node)) or getattr(node, "name", None)
            new = GraphNode(name, "op", f"{given} = {label}" if given else label, detail, rule=rule_text(node.op))
        new.box = run.boxes.get(node, ())
        new.output = node is run.root
        _with_array(new, node.out, values)
        if gradients:
            _with_gradient(new, grads.get(node))
        nodes.append(new)
        edges += [GraphEdge(place[id(source)], name) for source in sources]
    return GraphModel(nodes, edges, dict(run.titles))


def _gradients(run: Run) -> dict[Node, Any]:
    """The gradient of the output (of its sum, where it has several elements) with respect to every node."""
    seed = np.ones(run.root.out.shape, run.root.out.dtype)
    single = {node for node in run.nodes if not isinstance(node.out, Bundle)}
    return graph.backpropagate([(run.root, seed)], inputs=single, retain_graph=True)


def _sources(node: Node) -> list[Any]:
    """The nodes and constant arrays that went into a call, in the order of its inputs; of a list, each in it."""
    found: list[Any] = []
    for position, parent in enumerate(node.parents):
        if parent is None:
            value = node.values[position]
            if value.__class__ is np.ndarray and position < node.op.inputs and not _is_number(value):
                found.append(value)
        elif parent.op is not None and parent.op.function is pack:
            found += _sources(parent)
        else:
            found.append(parent)
    return found


def _label(node: Node) -> tuple[str, str]:
    """A call in the field's notation, with the numbers that went into it; and its options."""
    op, values, kwargs = node.op, node.values, node.kwargs
    label = SYMBOLS.get(op.name) or op.name.removeprefix("np.")
    if op.name == "getitem":
        return f"[{_index_text(values[1])}]", ""
    if op.name == "unpack":
        return f"result {values[1]}", ""
    for position, (value, parent) in enumerate(zip(values, node.parents, strict=True)):
        if parent is None and position < op.inputs and value is not None and _is_number(value):
            text = f"{value:.4g}" if isinstance(value, (int, float)) else f"{value.item():.4g}"
            label = f"{label} {text}" if position else f"{text} {label}"
    if len(values) <= op.inputs and not kwargs:
        return label, ""
    options = dict(zip(_option_names(op)[op.inputs :], values[op.inputs :], strict=False)) if op.each is None else {}
    options |= {name: value for name, value in kwargs.items() if name != "prepared"}
    shown = [f"{name} {_option_text(value)}" for name, value in options.items() if _worth_showing(value)]
    return label, ", ".join(shown)


def _is_number(value: Any) -> bool:
    """Whether a constant is a single number without a name, which is written into the call that it goes into."""
    if isinstance(value, np.ndarray):
        return value.size == 1 and graph.name_of_array(value) is None
    return isinstance(value, (int, float, np.generic))


@functools.cache
def _option_names(op: Op) -> list[str]:
    return list(inspect.signature(op.function).parameters) if not op.name.startswith("np.") else list(op.parameters)


def _worth_showing(value: Any) -> bool:
    return not (isinstance(value, (np.ndarray, Tensor)) or value is None or value is False or value == ())


def _option_text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else f"{value}"


def _index_text(index: Any) -> str:
    if isinstance(index, tuple):
        return ", ".join(map(_index_text, index))
    if isinstance(index, slice):
        ends = [("" if end is None else str(end)) for end in (index.start, index.stop)]
        return ":".join(ends) + ("" if index.step is None else f":{index.step}")
    if isinstance(index, np.ndarray):
        return f"{index.size} places" if index.dtype.kind in "iu" else "mask"
    return "…" if index is Ellipsis else str(index)


def _with_array(node: GraphNode, array: Any, values: bool) -> GraphNode:
    if isinstance(array, Bundle):
        node.label += f", {len(array)} results"
        return node
    node.shape, node.dtype = array.shape, _dtype_name(array.dtype)
    if values:
        node.value = describe(array)
    return node


@functools.cache
def _dtype_name(dtype: np.dtype[Any]) -> str:
    return dtype.name  # NumPy takes its time to put it together


def _with_gradient(node: GraphNode, gradient: Any) -> None:
    if gradient is None or isinstance(gradient, tuple):
        node.gradient = "not computed"
        return
    array = np.asarray(gradient)
    node.gradient = describe(array)
    with np.errstate(all="ignore"):
        node.magnitude = float(np.sqrt(np.mean(np.square(array, dtype=float)))) if array.size else None


def describe(array: Any) -> str:
    """An array in a few words: its numbers, or, where there are many, mean ± standard deviation and the range."""
    array = np.asarray(array)
    if array.size <= SHORT:
        text = np.array2string(array, separator=", ", formatter={"float_kind": lambda number: f"{number:.4g}"})
        return " ".join(text.split())
    if array.dtype.kind == "b":
        return f"{np.count_nonzero(array)} of {array.size} are True"
    with np.errstate(all="ignore"):
        return f"{array.mean():.3g} ± {array.std():.3g}, {array.min():.3g} … {array.max():.3g}"
