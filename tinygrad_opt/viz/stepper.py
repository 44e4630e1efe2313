"""The stepper: a web page on which a class walks the forward pass, and then the backward pass, call by call.

The data are those of ``steps.py``, the picture is that of ``dot.py``; ``stepper.html`` is the page, with its script.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tinygrad_opt.nn.module import Module
from tinygrad_opt.tensor import Tensor
from tinygrad_opt.viz.dot import picture_of
from tinygrad_opt.viz.formula import brief_text, value_text
from tinygrad_opt.viz.render import render
from tinygrad_opt.viz.steps import Walk, steps_of


def step_through(
    output: Tensor | Module,
    path: str | Path = "backprop.html",
    *,
    inputs: Any = (),
    loss: Callable[[Any], Tensor] | None = None,
    names: Module | Mapping[str, Any] | None = None,
    expand: bool = False,
    title: str | None = None,
) -> Path:
    """Write a web page that walks through the forward and the backward pass call by call, and return its path.

    Each step shows the node in the graph, its numbers, its local rule from the table with the numbers put in, and how
    the gradients add up at the inputs. The page is one file that loads nothing else; it works in any browser, by
    buttons, slider and keyboard (arrows, Home, End, space).

    ``output`` is a Tensor, such as a loss; or a model, which is run on ``inputs`` (a tuple, if it takes several), and
    then ``loss`` on its result. ``names`` and ``expand`` are those of `draw_graph`. A result of several elements starts
    with ones, so the gradients are those of its sum. Neither the graph nor any ``grad`` changes.

    Raises GraphError where there is no graph, or one that ``backward()`` has freed; ValueError for more than 200 steps;
    ImportError, which says what to install, where there is no Graphviz.

    >>> import tempfile, tinygrad_opt as tg
    >>> from tinygrad_opt import viz
    >>> a, b = (tg.Tensor(v, requires_grad=True, name=n) for v, n in [(2.0, "a"), (3.0, "b")])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = viz.step_through(a * b + a, f"{folder}/product.html", title="A product")
    ...     page.name, "<title>A product</title>" in page.read_text(encoding="utf-8")
    ('product.html', True)
    """
    if not isinstance(path, (str, Path)):
        raise TypeError(f"path is the file to write, such as 'backprop.html'; got {path!r:.60}: inputs go into inputs=")
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    page = _page(
        steps_of(output, *inputs, loss=loss, names=names, expand=expand), title or "Back-propagation, step by step"
    )
    path = Path(path)
    path.write_text(page, encoding="utf-8")
    return path


def _page(walk: Walk, title: str) -> str:
    """The template with the picture, the data, and a policy that lets no script run but its own."""
    nodes = []
    for node in walk.picture.nodes:
        inside = " › ".join(walk.picture.titles[node.box[:end]] for end in range(1, len(node.box) + 1))
        final = walk.gradients.get(node.id)
        nodes.append(
            {"id": node.id, "name": walk.names[node.id], "kind": node.kind, "label": node.label, "detail": node.detail}
            | {"shape": " × ".join(map(str, node.shape or ())) or "a number", "inside": inside, "value": node.value}
            | {"final": None if final is None else value_text(final)}
        )
        node.value = brief_text(walk.values[node.id])
        totals = [brief_text(c.total) for step in walk.steps for c in step.contributions if c.target == node.id]
        if node.kind != "constant":
            node.gradient = max([*totals, "1"], key=len)  # room for the longest that will stand there
    edges = [[edge.source, edge.target] for edge in walk.picture.edges]
    steps = [
        _plain(step)
        | {"brief": [brief_text(total) for total in (step.gradient, *(c.total for c in step.contributions))]}
        for step in walk.steps
    ]
    data = json.dumps({"nodes": nodes, "edges": edges, "steps": steps}).replace("<", "\\u003c")
    svg = render(picture_of(walk.picture, "TB", legend=False).source, "svg").decode()
    template = Path(__file__).with_name("stepper.html").read_text(encoding="utf-8")
    script = template.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {"title": html.escape(title), "graph": svg[svg.index("<svg") :], "data": data, "hash": digest}
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def _plain(value: Any) -> Any:
    """Data as JSON can hold them: of an array its text."""
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, list):
        return list(map(_plain, value))
    return value if value is None or isinstance(value, (str, int)) else value_text(value)
