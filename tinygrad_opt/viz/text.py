"""The graph as text: a tree for the terminal, and Mermaid, which many web pages draw. It needs no Graphviz."""

from __future__ import annotations

import html
from typing import Any

from tinygrad_opt.viz.folding import graph_model
from tinygrad_opt.viz.model import Box, GraphModel, GraphNode


class Text(str):
    """Text that shows itself, in a terminal or a notebook, line by line."""

    def __repr__(self) -> str:
        return str(self)


def tree(output: Any, *inputs: Any, **options: Any) -> Text:
    """The graph as an indented tree: below each call, what went into it. The arguments are those of `graph_model`.

    What is used several times is written out once, and referred to by its number, #1, #2, ..., after that. In a
    terminal and in a notebook it shows itself; a program prints it.

    Raises GraphError where there is no graph, or one that ``backward()`` has freed.

    >>> import tinygrad_opt as tg
    >>> from tinygrad_opt import viz
    >>> a = tg.Tensor(2.0, requires_grad=True, name="a")
    >>> viz.tree(a * (a + 1), values=True, gradients=True)
    × = 6, gradient 1
    ├── a = 2, gradient 5  #1
    └── + 1 = 3, gradient 2
        └── a: see #1
    """
    picture = graph_model(output, *inputs, **options)
    nodes = {node.id: node for node in picture.nodes}
    below: dict[str, list[str]] = {node.id: [] for node in picture.nodes}
    uses: dict[str, int] = dict.fromkeys(below, 0)
    for edge in picture.edges:
        if not edge.again:
            below[edge.target].append(edge.source)
            uses[edge.source] += 1
    numbers: dict[str, int] = {}
    lines: list[str] = []
    root = next(node.id for node in picture.nodes if node.output)
    uses[root] += 1  # the tree begins with it: folded modules may lead back there
    waiting = [(root, "", "")]
    while waiting:  # a deep graph would be too much for recursion
        name, first, rest = waiting.pop()
        node = nodes[name]
        if name in numbers:
            lines.append(f"{first}{_one_line(node.label)}: see #{numbers[name]}")
            continue
        mark = ""
        if uses[name] > 1:
            numbers[name] = len(numbers) + 1
            mark = f"  #{numbers[name]}"
        lines.append(f"{first}{_describe(node, picture)}{mark}")
        children = below[name]
        for position in range(len(children) - 1, -1, -1):
            last = position == len(children) - 1
            waiting.append(
                (children[position], rest + ("└── " if last else "├── "), rest + ("    " if last else "│   "))
            )
    return Text("\n".join(lines))


def _describe(node: GraphNode, picture: GraphModel) -> str:
    """One line of the tree."""
    text = _one_line(node.label) + (f" {node.detail}" if node.detail else "")
    if node.value is not None:
        text += f" = {node.value}"
    parts = [text, *([f"shape {node.shape}"] if node.shape else [])]
    parts += [f"gradient {node.gradient}"] if node.gradient is not None else []
    parts += [f"in {picture.titles[box]}" for box in _boxes(node.box) if box[-1].startswith("repeat")]
    return ", ".join(parts)


def _boxes(box: Box) -> list[Box]:
    return [box[:end] for end in range(1, len(box) + 1)]


def _one_line(text: str) -> str:
    return " ".join(text.split()) or repr(text)


SHAPES = {"op": ("([", "])"), "parameter": ("[", "]"), "constant": ("[/", "/]"), "module": ("[[", "]]")}


def mermaid(picture: GraphModel, direction: str = "LR") -> str:
    """The graph in the language of Mermaid, with the modules as subgraphs."""
    lines = [f"flowchart {direction}"]
    lines += _members(picture, ())
    for edge in picture.edges:
        lines.append(f"  {edge.source} {'-. again .->' if edge.again else '-->'} {edge.target}")
    for kind, style in (("parameter", "fill:#FDF0D5,stroke:#E69F00"), ("module", "fill:#E3F1FA,stroke:#0072B2")):
        members = [node.id for node in picture.nodes if node.kind == kind]
        if members:
            lines += [f"  classDef {kind} {style}", f"  class {','.join(members)} {kind}"]
    return "\n".join(lines) + "\n"


def _members(picture: GraphModel, box: Box) -> list[str]:
    """The lines of the nodes and boxes right inside a box."""
    lines, indent = [], "  " * (len(box) + 1)
    inner: dict[Box, None] = {}
    for node in picture.nodes:
        if node.box == box:
            left, right = SHAPES[node.kind]
            lines.append(f'{indent}{node.id}{left}"{_mermaid_text(node)}"{right}')
        elif node.box[: len(box)] == box:
            inner[node.box[: len(box) + 1]] = None
    for number, child in enumerate(inner):
        title = _quoted(picture.titles[child])
        name = "b" + "_".join(map(str, [len(child), number, *(ord(c) for c in "".join(child)[:8])]))
        lines += [f'{indent}subgraph {name}["{title}"]', *_members(picture, child), f"{indent}end"]
    return lines


def _mermaid_text(node: GraphNode) -> str:
    parts = [node.label, node.detail, "" if node.shape is None else f"{node.shape} {node.dtype}"]
    parts += [node.value or "", "" if node.gradient is None else f"gradient {node.gradient}"]
    return "<br>".join(_quoted(part) for part in parts if part)


def _quoted(text: str) -> str:
    """Text that Mermaid shows as it is: its signs as entities, written with # in place of &."""
    escaped = html.escape(text, quote=True).replace("#", "#35;").replace("&#35;", "&#")
    return escaped.replace("&", "#").replace("\n", "<br>")
