"""draw_graph: the graph as a picture, made with the ``graphviz`` package from the data of ``model.py``."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import graphviz

from tinygrad_opt.nn.module import Module
from tinygrad_opt.tensor import Tensor
from tinygrad_opt.viz.folding import graph_model
from tinygrad_opt.viz.model import Box, GraphModel, GraphNode
from tinygrad_opt.viz.render import render
from tinygrad_opt.viz.text import mermaid

MOST_NODES = 800  # a picture of more takes Graphviz minutes, and nobody can read it

STYLES = {  # kind -> shape, fill, border
    "parameter": {"shape": "box", "style": "filled", "fillcolor": "#FDF0D5", "color": "#B87400", "penwidth": "2"},
    "constant": {"shape": "box", "style": "filled,dashed", "fillcolor": "#F2F2F2", "color": "#666666"},
    "op": {"shape": "box", "style": "filled,rounded", "fillcolor": "#E3F1FA", "color": "#0072B2"},
    "module": {"shape": "component", "style": "filled", "fillcolor": "#E3F1FA", "color": "#0072B2", "penwidth": "2"},
}
MEANINGS = {
    "parameter": "parameter, or another leaf that gets a gradient",
    "constant": "constant: no gradient",
    "op": "operation",
    "module": "module, folded",
}
# up to 10^n: the fill for a gradient of this root mean square, and whether the letters on it are white
SCALE = [
    (-8, "#053061", True), (-6, "#2166AC", True), (-4, "#6BACD1", False), (-2, "#D1E5F0", False), (0, "#FFFFFF", False),
    (1, "#FDDBC7", False), (2, "#F4A582", False), (4, "#C0392B", True), (math.inf, "#67001F", True),
]  # fmt: skip


class Picture(graphviz.Digraph):  # type: ignore[misc]
    """A graph in DOT, which shows itself in Jupyter: ``source`` is its text, ``model`` are its nodes and edges as data.

    ``write(path)`` saves it; all that a ``graphviz.Digraph`` can do works too, with pygraphviz where the system has no
    Graphviz.
    """

    model: GraphModel

    def pipe(self, format: str | None = None, *args: Any, encoding: str | None = None, **kwargs: Any) -> Any:
        """The picture as bytes, or as text in ``encoding``: what Jupyter asks for."""
        data = render(self.source, format or self.format)
        return data if encoding is None else data.decode(encoding)

    def render(
        self, filename: Any = None, directory: Any = None, *args: Any, format: str | None = None, **kwargs: Any
    ) -> str:
        """Save the text and the picture, and return the path of the picture, as graphviz does."""
        source = self.save(filename, directory=directory)
        path = f"{source}.{format or self.format}"
        Path(path).write_bytes(self.pipe(format))
        return path

    def _repr_mimebundle_(self, *args: Any, **kwargs: Any) -> dict[str, str]:
        """What Jupyter shows: the picture, or, where there is no Graphviz, what to install, and the text."""
        try:
            return {"image/svg+xml": self.pipe("svg", encoding="utf-8")}
        except ImportError as error:
            return {"text/plain": f"{error}\n\n{self.source}"}

    @property
    def mermaid(self) -> str:
        """The same graph in the language of Mermaid, which many web pages draw."""
        return mermaid(self.model, self.graph_attr["rankdir"])

    def write(self, path: str | Path) -> Path:
        """Save the picture in the format of the ending: .svg, .png, .pdf, or as text .dot, .gv or .mmd (Mermaid).

        Raises ValueError for another ending; ImportError, which says what to install, where a picture needs Graphviz.
        """
        path = Path(path)
        texts = {"dot": self.source, "gv": self.source, "mmd": self.mermaid}
        ending = path.suffix.removeprefix(".").lower()
        if ending in texts:
            path.write_text(texts[ending], encoding="utf-8")
        elif ending in ("svg", "png", "pdf"):
            path.write_bytes(self.pipe(ending))
        else:
            raise ValueError(f"a picture is saved as .svg, .png, .pdf, .dot, .gv or .mmd; got {path.name!r}")
        return path


def draw_graph(
    output: Tensor | Module,
    *inputs: Any,
    loss: Callable[[Any], Tensor] | None = None,
    values: bool = False,
    gradients: bool = False,
    depth: int | None = None,
    names: Module | Mapping[str, Any] | None = None,
    expand: bool = False,
    fold: bool | None = None,
    direction: str = "LR",
    legend: bool = True,
) -> Picture:
    """Draw how a result was computed, or what a model does with inputs: a picture that shows itself in Jupyter.

    ``output`` is a Tensor, such as a loss; or a model, which is run on ``inputs``, and then ``loss`` on its result,
    where it is given. Of a model the picture shows the modules as boxes; ``depth`` is how many of them lie inside one
    another before the inner ones are drawn as single nodes. With ``values`` the numbers are written out (of more than
    six the mean, the spread and the range); with ``gradients`` those of the output with respect to everything, computed
    for the picture: no ``grad`` changes, nor anything else of the model. Their magnitude is the colour.

    ``names`` is a model whose parameters' names are shown, or a dict from names to Tensors. ``expand`` opens up the
    functions that are one call here and several in a book. ``fold`` draws blocks that repeat once, from 60 calls on if
    it is not said. ``direction`` is "LR", from left to right, or "TB", downwards. The pointer over an operation shows
    its gradient rule.

    Raises GraphError where there is no graph, or one that ``backward()`` has freed; ValueError for a picture of more
    than 800 nodes, or an unknown direction.

    >>> import tinygrad_opt as tg
    >>> from tinygrad_opt import viz
    >>> a = tg.Tensor(2.0, requires_grad=True, name="a")
    >>> picture = viz.draw_graph(a * a + 1, values=True, gradients=True)
    >>> [node.label for node in picture.model.nodes], "digraph" in picture.source
    (['a', '×', '+ 1'], True)
    """
    if direction not in ("LR", "TB", "RL", "BT"):
        raise ValueError(f'direction must be "LR" or "TB"; got {direction!r}')
    model = graph_model(
        output,
        *inputs,
        loss=loss,
        values=values,
        gradients=gradients,
        depth=depth,
        names=names,
        expand=expand,
        fold=fold,
    )
    if len(model.nodes) > MOST_NODES:
        raise ValueError(
            f"the picture would have {len(model.nodes):,} nodes, and {MOST_NODES} are the most that can be drawn: fold "
            "modules with depth=1, or repeated blocks with fold=True, or draw a part; viz.graph_model gives all as data"
        )
    return picture_of(model, direction, legend)


def picture_of(model: GraphModel, direction: str = "LR", legend: bool = True) -> Picture:
    """The picture of nodes and edges; equal ones give the same text."""
    picture = Picture(
        "graph",
        graph_attr={"rankdir": direction, "fontname": "Helvetica", "nodesep": "0.25", "ranksep": "0.35"},
        node_attr={"fontname": "Helvetica", "fontsize": "14", "margin": "0.12,0.06"},
        edge_attr={"fontname": "Helvetica", "color": "#555555", "arrowsize": "0.7"},
        format="svg",
    )
    picture.model = model
    _add_members(picture, model, ())
    numbers = _operand_numbers(model)
    for edge in model.edges:
        look = {"style": "dashed", "constraint": "false"} if edge.again else {}
        if (edge.source, edge.target) in numbers:
            look |= {"headlabel": numbers[edge.source, edge.target], "labelfontsize": "11", "labeldistance": "1.4"}
        picture.edge(edge.source, edge.target, id=f"{edge.source}-{edge.target}", **look)
    if legend:
        picture.attr(label=_legend(model), labelloc="b")
    return picture


def _operand_numbers(model: GraphModel) -> dict[tuple[str, str], str]:
    """1 and 2 for the operands of a difference, a quotient, a power or a product of matrices, in any order drawn."""
    ordered = {node.id for node in model.nodes if node.label.split(" = ")[-1] in ("−", "÷", "^", "@")}
    operands: dict[str, list[str]] = {}
    for edge in model.edges:
        if edge.target in ordered and not edge.again:
            operands.setdefault(edge.target, []).append(edge.source)
    pairs = {target: sources for target, sources in operands.items() if len(sources) == len({*sources}) == 2}
    return {(source, target): f"{i}" for target, sources in pairs.items() for i, source in enumerate(sources, start=1)}


def _add_members(parent: Any, model: GraphModel, box: Box) -> None:
    """The nodes that lie right inside a box, and the boxes in it."""
    inner: dict[Box, None] = {}
    for node in model.nodes:
        if node.box == box:
            _add_node(parent, node)
        elif node.box[: len(box)] == box:
            inner[node.box[: len(box) + 1]] = None
    numbers = {name: number for number, name in enumerate(model.titles)}
    for child in inner:
        look = {"color": "#999999", "style": "rounded", "fontsize": "14", "labeljust": "l"}
        if child[-1].startswith("repeat "):
            look |= {"color": "#D55E00", "style": "rounded,bold"}
        with parent.subgraph(name=f"cluster_{numbers[child]}") as cluster:
            cluster.attr(label=f"<{_escaped(model.titles[child])}>", **look)
            _add_members(cluster, model, child)


def _add_node(parent: Any, node: GraphNode) -> None:
    style = dict(STYLES[node.kind])
    letters = "black"
    if node.magnitude is not None:
        fill, white = colour_of(node.magnitude)
        style["fillcolor"], letters = fill, "white" if white else "black"
    if node.output:
        style["peripheries"] = "2"
    tooltip = graphviz.escape(_printable(node.rule or node.label))
    parent.node(node.id, label=_node_text(node), id=node.id, tooltip=tooltip, fontcolor=letters, **style)


def colour_of(magnitude: float) -> tuple[str, bool]:
    """The fill for a gradient of this root mean square, and whether letters on it are white."""
    exponent = math.log10(magnitude) if 0 < magnitude < math.inf else (-math.inf if magnitude == 0 else math.inf)
    return next((fill, white) for most, fill, white in SCALE if exponent <= most)


def _node_text(node: GraphNode) -> str:
    """The label of a node, with its shape, value and gradient in smaller letters below."""
    lines = [node.detail]
    if node.shape is not None:
        shape = " × ".join(map(str, node.shape)) if node.shape else "a number"
        lines.append(f"{shape}, {node.dtype}")
    lines.append(node.value or "")
    if node.gradient is not None:
        known = node.magnitude is not None
        lines.append(f"gradient: {node.gradient}" if not known else f"∂ {node.gradient}")
    small = [f'<BR/><FONT POINT-SIZE="10">{_escaped(line)}</FONT>' for line in lines if line]
    return f"<<B>{_escaped(node.label) or '&#160;'}</B>{''.join(small)}>"


def _legend(model: GraphModel) -> str:
    """A table of what the shapes and colours mean, of those that are there."""
    cells = []
    for kind in [kind for kind in STYLES if any(node.kind == kind for node in model.nodes)]:
        style = STYLES[kind]
        border = "DASHED" if "dashed" in style["style"] else "ROUNDED" if "rounded" in style["style"] else ""
        border = f' STYLE="{border}"' if border else ""
        cells.append(f'<TD WIDTH="26" BGCOLOR="{style["fillcolor"]}" COLOR="{style["color"]}" BORDER="1"{border}></TD>')
        cells.append(f"<TD>{MEANINGS[kind]}&#160;&#160;</TD>")
    cells.append("<TD>double border: the result</TD>")
    table = '<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="3" CELLPADDING="3"><TR>{}</TR></TABLE>'
    if _operand_numbers(model):
        cells.append("<TD>1, 2: the first and second operand&#160;&#160;</TD>")
    if any(edge.again for edge in model.edges):
        cells.append('<TD WIDTH="26" COLOR="#D55E00" BORDER="2" STYLE="ROUNDED"></TD>')
        cells.append("<TD>drawn once: the dashed arrow leads to the next time&#160;&#160;</TD>")
    rows = [table.format("".join(cells))]
    if any(node.magnitude is not None for node in model.nodes):
        scale = [
            f'<TD BGCOLOR="{fill}" BORDER="1" COLOR="#BBBBBB">'
            f'<FONT COLOR="{"white" if white else "black"}">{text}</FONT></TD>'
            for (_, fill, white), text in zip(SCALE, [f"≤ 1e{most}" for most, *_ in SCALE[:-1]] + ["more"], strict=True)
        ]
        rows.append(table.format("<TD>root mean square of the gradient ∂:</TD>" + "".join(scale)))
    lines = "".join(f"<TR><TD>{row}</TD></TR>" for row in rows)
    return f'<<FONT POINT-SIZE="11"><TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0">{lines}</TABLE></FONT>>'


def _escaped(text: str) -> str:
    """Text for Graphviz's HTML-like labels: signs as entities, a line break as one."""
    return html.escape(_printable(text)).replace("\\", "\\\\").replace("\n", "<BR/>")


def _printable(text: str) -> str:
    """Without the control characters that no picture can have."""
    return re.sub("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]", "\N{REPLACEMENT CHARACTER}", text)
