"""Large graphs as small pictures: modules as single nodes, and blocks that repeat drawn once. And `graph_model`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygrad_opt.nn.module import Module
from tinygrad_opt.tensor import Tensor
from tinygrad_opt.viz.model import Box, GraphEdge, GraphModel, GraphNode, Run, describe_run

MANY = 60  # calls: from there on, repeated blocks are drawn once
LONGEST_BLOCK = 200  # calls in a block that repeats


def graph_model(
    output: Tensor | Module,
    *inputs: Any,
    loss: Callable[[Any], Tensor] | None = None,
    values: bool = False,
    gradients: bool = False,
    depth: int | None = None,
    names: Module | Mapping[str, Any] | None = None,
    expand: bool = False,
    fold: bool | None = None,
) -> GraphModel:
    """Describe how ``output`` was computed: the nodes and edges that `draw_graph` draws, with the same arguments.

    Raises GraphError where there is no graph, or one that ``backward()`` has freed.

    >>> import tinygrad_opt as tg
    >>> from tinygrad_opt import viz
    >>> a = tg.Tensor(2.0, requires_grad=True, name="a")
    >>> model = viz.graph_model(a * a + 1, gradients=True)
    >>> [(node.label, node.gradient) for node in model.nodes]
    [('a', '4'), ('×', '1'), ('+ 1', '1')]
    """
    run = Run(output, inputs, loss, names)
    while expand:
        calls, run = len(run.nodes), run.opened()
        expand = len(run.nodes) > calls  # what a fused primitive is made of may be fused itself
    picture = describe_run(run, values, gradients)
    if depth is not None:
        picture = _fold_modules(picture, depth)
    calls = sum(node.kind in ("op", "module") for node in picture.nodes)
    if fold or (fold is None and calls > MANY):
        picture = _fold_repeats(picture)
    return _numbered(picture)


def _fold_modules(picture: GraphModel, depth: int) -> GraphModel:
    """Each module that lies deeper than ``depth`` boxes as one node."""
    if not isinstance(depth, int) or depth < 0:
        raise ValueError(f"depth counts the boxes inside one another that are drawn, from 0 on; got {depth!r}")
    merged: dict[Box, GraphNode] = {}
    nodes: list[GraphNode] = []
    place: dict[str, str] = {}
    for node in picture.nodes:
        if len(node.box) <= depth:
            nodes.append(node)
            place[node.id] = node.id
            continue
        key = node.box[: depth + 1]
        if key not in merged:
            merged[key] = GraphNode(node.id, "module", picture.titles[key], box=key[:depth])
            nodes.append(merged[key])
        module = merged[key]
        place[node.id] = module.id
        if node.kind == "op":  # the last one is what comes out
            module.shape, module.dtype, module.value = node.shape, node.dtype, node.value
            module.gradient, module.magnitude, module.output = node.gradient, node.magnitude, node.output
    order = {node.id: number for number, node in enumerate(picture.nodes)}
    last = {place[i]: order[i] for i in place}
    nodes.sort(key=lambda node: last[node.id])
    hidden = {node.id for node in picture.nodes if node.kind != "op" and len(node.box) > depth}
    edges = [(place[e.source], place[e.target]) for e in picture.edges if e.source not in hidden]
    kept = [GraphEdge(*pair) for pair in dict.fromkeys(edges) if pair[0] != pair[1]]
    return GraphModel(nodes, kept, picture.titles)


def _fold_repeats(picture: GraphModel) -> GraphModel:
    """Blocks of calls that come several times in a row, drawn once, in a box that says how often."""
    calls = [node for node in picture.nodes if node.kind in ("op", "module")]
    number = {node.id: i for i, node in enumerate(calls)}
    stands_for = list(range(len(calls)))
    titles = dict(picture.titles)
    for start, period, times in _repeats(_codes(picture, calls, number), [node.box for node in calls]):
        for i in range(start, start + period * times):
            stands_for[i] = start + (i - start) % period
        block = calls[start : start + period]
        common = _common_box([node.box for node in calls[start : start + 2 * period]])  # of a block and the next one
        box = (*common, f"repeat {start}")
        titles[box] = f"× {times}"
        for node, last in zip(block, calls[start + period * (times - 1) :], strict=False):
            if node.magnitude is not None and last.magnitude is not None:
                node.gradient = f"rms {node.magnitude:.3g} in the first, {last.magnitude:.3g} in the last"
            if node.value != last.value:
                node.value = f"{node.value} in the first, {last.value} in the last"
            old = node.box
            node.box = box + old[len(common) :]
            for end in range(len(common) + 1, len(old) + 1):
                titles[(*box, *old[len(common) : end])] = titles[old[:end]]
    kept = {calls[i].id for i in stands_for}
    place = {node.id: calls[stands_for[number[node.id]]].id for node in calls}
    edges: dict[tuple[str, str], bool] = {}
    for e in picture.edges:
        source, target = place.get(e.source, e.source), place[e.target]
        again = e.source in number and number[e.source] < number[e.target] and number[source] >= number[target]
        if e.source in number or e.target in kept:
            edges.setdefault((source, target), again)
    used = {end for pair in edges for end in pair} | kept
    nodes = [node for node in picture.nodes if node.id in used]
    for node in nodes:
        node.output = node.output or any(n.output and place[n.id] == node.id for n in calls if n.output)
        if node.kind == "constant" or node.kind == "parameter":
            targets = [t for (s, t) in edges if s == node.id]
            node.box = calls[number[targets[0]]].box if len(targets) == 1 and node.box else node.box
    return GraphModel(nodes, [GraphEdge(*pair, again) for pair, again in edges.items()], titles)


def _codes(picture: GraphModel, calls: list[GraphNode], number: Mapping[str, int]) -> npt.NDArray[np.int64]:
    """A number for each call, the same for those that are alike in label, shape, and how far back their inputs are."""
    others = {node.id: (node.kind, node.shape) for node in picture.nodes}
    inputs: dict[str, list[Any]] = {node.id: [] for node in calls}
    for e in picture.edges:
        back = number[e.target] - number[e.source] if e.source in number else others[e.source]
        inputs[e.target].append(back)
    kinds: dict[Any, int] = {}
    keys = ((node.label.split(": ")[-1], node.shape, tuple(inputs[node.id])) for node in calls)
    return np.array([kinds.setdefault(key, len(kinds)) for key in keys], dtype=np.int64)


def _repeats(codes: npt.NDArray[np.int64], boxes: list[Box]) -> Iterator[tuple[int, int, int]]:
    """Where blocks repeat at least three times in a row: (start, calls in the block, times)."""
    count = len(codes)
    best, period = np.zeros(count, int), np.zeros(count, int)
    for p in range(1, min(LONGEST_BLOCK, count // 3) + 1):
        same = np.append(codes[:-p] == codes[p:], False)
        ends = np.flatnonzero(~same)
        here = np.arange(len(same))
        stretch = ends[np.searchsorted(ends, here)] - here + p  # calls from here on that go on with this period
        better = (stretch >= 3 * p) & (stretch // p * p > best[: len(stretch)])
        best[: len(stretch)][better], period[: len(stretch)][better] = stretch[better], p
    start = 0
    while start < count:
        if not best[start]:
            start += 1
            continue
        p, alike = int(period[start]), int(best[start])
        shift = _where_it_begins(boxes, start, p, alike)
        times = (alike - shift) // p
        if times > 1:
            yield start + shift, p, times
        start += shift + times * p


def _where_it_begins(boxes: list[Box], start: int, period: int, alike: int) -> int:
    """Of what goes round, where a block begins: where the outermost module does, and so that it ends with a block."""

    def rank(shift: int) -> tuple[int, bool]:
        i = start + shift
        depth = len(_common_box([boxes[i - 1], boxes[i]])) if i else 0
        return depth, (alike - shift) % period != 0

    return min(range(period), key=rank)


def _common_box(boxes: list[Box]) -> Box:
    common = boxes[0]
    for box in boxes[1:]:
        agree = [a == b for a, b in zip(common, box, strict=False)]
        common = common[: agree.index(False) if False in agree else len(agree)]
    return common


def _numbered(picture: GraphModel) -> GraphModel:
    """The same picture with ids in the order of its nodes, and no titles but those of boxes that have nodes."""
    place = {node.id: f"n{number}" for number, node in enumerate(picture.nodes)}
    for node in picture.nodes:
        node.id = place[node.id]
    edges = [GraphEdge(place[e.source], place[e.target], e.again) for e in picture.edges]
    boxes = {node.box[:end] for node in picture.nodes for end in range(1, len(node.box) + 1)}
    return GraphModel(picture.nodes, edges, {box: title for box, title in picture.titles.items() if box in boxes})
