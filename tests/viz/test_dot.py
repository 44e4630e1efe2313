"""The graph as a picture: its DOT text, what it shows, how it is rendered, and texts that would break it."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import graphviz
import numpy as np
import pytest

import tinygrad_opt as tg
from tinygrad_opt import Tensor, nn, viz
from tinygrad_opt.nn import functional as F
from tinygrad_opt.viz import dot
from tinygrad_opt.viz import render as rendering
from tinygrad_opt.viz.text import mermaid

pytest.importorskip("pygraphviz")

rng = np.random.default_rng(0)
X = rng.normal(size=(5, 4))
CLASSES = np.array([0, 2, 1, 1, 0])


def leaf(value, name=None):
    return Tensor(value, requires_grad=True, name=name)


def network(**options):
    tg.manual_seed(0)
    return viz.draw_graph(nn.MLP([4, 8, 3]), X, loss=lambda scores: F.cross_entropy(scores, CLASSES), **options)


def svg_of(picture):
    return ET.fromstring(picture.pipe("svg"))


def texts(svg):
    """All text in the picture, and that of the tooltips."""
    shown = ["".join(e.itertext()) for e in svg.iter("{http://www.w3.org/2000/svg}text")]
    tips = [e.get("{http://www.w3.org/1999/xlink}title") for e in svg.iter("{http://www.w3.org/2000/svg}a")]
    return shown, [tip for tip in tips if tip]


def test_the_same_code_gives_the_same_text():
    assert network(values=True, gradients=True).source == network(values=True, gradients=True).source


def test_the_text_does_not_depend_on_what_was_computed_before():
    code = """
import numpy as np, tinygrad_opt as tg
from tinygrad_opt import viz
{}
a = tg.Tensor([1.0, 2.0], requires_grad=True, name="a")
print(viz.draw_graph(np.sin(a).sum(), gradients=True).source)
"""
    runs = [
        subprocess.run(
            [sys.executable, "-c", code.format(more)], capture_output=True, text=True, check=True, timeout=60
        )
        for more in ("", "b = tg.Tensor(1.0, requires_grad=True) * 2 + 3")
    ]
    assert runs[0].stdout == runs[1].stdout
    assert "digraph" in runs[0].stdout


def test_nodes_edges_and_boxes_are_in_the_picture():
    picture = network(values=True, gradients=True)
    svg = svg_of(picture)
    ids = {e.get("id") for e in svg.iter()}
    assert {node.id for node in picture.model.nodes} <= ids
    assert {f"{e.source}-{e.target}" for e in picture.model.edges} <= ids
    shown, tips = texts(svg)
    for text in ("MLP", "0: Linear", "1: ReLU", "0.weight", "x Wᵀ + b", "cross-entropy", "8 × 4, float64", "∂ 1"):
        assert text in shown, text
    assert "gradient: not computed" in shown
    assert any("network.py" not in tip and "defvjp" in tip and "linear" in tip for tip in tips)


def test_kinds_differ_in_shape_and_in_colour():
    looks = [(style["shape"], style["style"], style["color"]) for style in dot.STYLES.values()]
    assert len({look[:2] for look in looks}) == 4
    source = network().source
    for kind in ("parameter", "constant", "op"):
        assert dot.STYLES[kind]["fillcolor"] in source


def test_the_legend_explains_what_is_there():
    plain, shaded = network().source, network(gradients=True).source
    assert dot.MEANINGS["op"] in plain
    assert dot.MEANINGS["module"] not in plain
    assert "root mean square" not in plain
    assert "root mean square" in shaded
    assert all(fill in shaded for _, fill, _ in dot.SCALE)
    assert dot.MEANINGS["module"] in network(depth=1).source
    assert "labelloc" not in network(legend=False).source


@pytest.mark.parametrize(
    ("magnitude", "fill"),
    [(0.0, "#053061"), (1e-12, "#053061"), (1e-7, "#2166AC"), (0.5, "#FFFFFF"), (50.0, "#F4A582"), (1e9, "#67001F")],
)
def test_the_colour_is_the_magnitude_of_the_gradient(magnitude, fill):
    assert dot.colour_of(magnitude)[0] == fill
    a = leaf([1.0, 1.0], "a")
    source = viz.draw_graph((a * magnitude).sum(), gradients=True, legend=False).source
    line = next(line for line in source.splitlines() if "<B>a</B>" in line)
    assert f'fillcolor="{fill}"' in line


def test_gradients_that_are_no_numbers_have_a_colour_too():
    assert dot.colour_of(float("nan"))[0] == dot.colour_of(float("inf"))[0] == "#67001F"
    with np.errstate(all="ignore"):
        a = leaf([1.0, 0.0], "a")
        picture = viz.draw_graph(np.sqrt(a).sum(), gradients=True, values=True)
        assert b"</svg>" in picture.pipe("svg")


def test_the_direction():
    for direction in ("LR", "TB"):
        picture = network(direction=direction)
        assert f"rankdir={direction}" in picture.source
        assert picture.mermaid.startswith(f"flowchart {direction}\n")
    width, height = (float(svg_of(network(direction="LR", legend=False)).get(k)[:-2]) for k in ("width", "height"))
    tall, wide = (float(svg_of(network(direction="TB", legend=False)).get(k)[:-2]) for k in ("height", "width"))
    assert width / height > wide / tall
    with pytest.raises(ValueError, match='direction must be "LR" or "TB"; got \'sideways\''):
        network(direction="sideways")


def test_a_picture_that_nobody_could_read_is_refused():
    a = x = leaf(0.5)
    for i in range(900):
        x = np.sin(x * (1 + i)) + a
    with pytest.raises(ValueError, match=r"would have 2,701 nodes, and 800 are the most.*depth=1"):
        viz.draw_graph(x)


# Names ---------------------------------------------------------------------------------------------------------------

NAMES = [
    "<script>alert(1)</script>", 'quotes " and \'', "two\nlines", "back\\slash \\n \\l", "ünïcödé 重み ∂",
    "a & b &amp; <b>", "<B>bold</B>", "<", ">", "{record|fields}", "%s {0}", "n0", "legend", "null\x00 and \x1b[31m",
    "\ud800", " ", "#35; &#35;", "x" * 300, "--> n1", 'end"]', "]]>",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_any_name_shows_as_text(name):
    a = leaf(2.0, name)
    picture = viz.draw_graph(a * 3, gradients=True, values=True)
    svg = svg_of(picture)
    shown, _ = texts(svg)
    printable = re.sub("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", name)
    for line in printable.split("\n"):
        assert any(line.strip() in text.replace("\N{NO-BREAK SPACE}", " ") for text in shown), shown
    assert not list(svg.iter("{http://www.w3.org/2000/svg}script"))
    assert "<script" not in picture.pipe("svg", encoding="utf-8").lower()
    assert isinstance(viz.tree(a * 3), str)


def test_equal_names_and_names_of_modules():
    class Odd(nn.Module):
        def __init__(self):
            setattr(self, '<b>&"', nn.Linear(4, 4))

        def forward(self, x):
            return getattr(self, '<b>&"')(x) * leaf(1.0, "w") * leaf(2.0, "w")

    shown, _ = texts(svg_of(viz.draw_graph(Odd(), X)))
    assert '<b>&": Linear' in shown
    assert shown.count("w") == 2


# Mermaid -------------------------------------------------------------------------------------------------------------


def test_mermaid_has_the_nodes_edges_and_boxes():
    text = network(values=True).mermaid
    assert text.splitlines()[0] == "flowchart LR"
    assert len(re.findall(r"^ *n\d+[\[(]", text, flags=re.MULTILINE)) == 10
    assert len(re.findall(r"^  n\d+ --> n\d+$", text, flags=re.MULTILINE)) == 9
    assert text.count("subgraph ") == 4 == len(re.findall(r"^ *end$", text, flags=re.MULTILINE))
    names = re.findall(r"subgraph (\w+)\[", text)
    assert len(set(names)) == 4


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_mermaid_text_has_no_signs_that_mean_something(name):
    text = mermaid(viz.graph_model(leaf(1.0, name) * 2))
    (label,) = re.findall(r'n0\["(.*?)"\]', text)
    assert not re.search(r"[<>\"]", label.replace("<br>", ""))
    assert len(text.splitlines()) == 6


# Rendering -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "start"),
    [(".svg", b"<?xml"), (".png", b"\x89PNG"), (".pdf", b"%PDF"), (".dot", b"digraph"), (".gv", b"digraph"),
     (".mmd", b"flowchart"), (".PNG", b"\x89PNG")],
)  # fmt: skip
def test_a_picture_is_saved_by_its_ending(tmp_path, ending, start):
    path = network(depth=1).write(tmp_path / f"graph{ending}")
    assert path.read_bytes().startswith(start)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"saved as .svg, .png, .pdf, .dot, .gv or .mmd; got 'graph.bmp'"):
        network().write(tmp_path / "graph.bmp")
    with pytest.raises(ValueError, match="Graphviz has no format 'bmpp'"):
        rendering.render("digraph {}", "bmpp")


def test_the_methods_of_graphviz_work_without_the_systems(tmp_path, monkeypatch):
    without_dot(monkeypatch)
    picture = network(depth=1)
    assert picture.render(tmp_path / "graph", format="png") == str(tmp_path / "graph.png")
    assert (tmp_path / "graph.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "graph").read_text().startswith("digraph")
    assert isinstance(picture, graphviz.Digraph)


def test_it_shows_itself_in_jupyter(monkeypatch):
    without_dot(monkeypatch)
    bundle = network()._repr_mimebundle_()
    assert "</svg>" in bundle["image/svg+xml"]


def without_dot(monkeypatch):
    def missing(*args, **kwargs):
        raise graphviz.ExecutableNotFound(["dot"])

    monkeypatch.setattr(graphviz, "pipe", missing)


def test_the_systems_graphviz_and_pygraphviz_draw_the_same(monkeypatch):
    """Where both are there; and the one that is there is chosen by itself."""
    picture = network(values=True, gradients=True)
    try:
        by_system = ET.fromstring(graphviz.pipe("dot", "svg", picture.source.encode()))
    except graphviz.ExecutableNotFound:
        pytest.skip("the system has no Graphviz")
    without_dot(monkeypatch)
    by_pygraphviz = svg_of(picture)
    assert sorted(texts(by_system)[0]) == sorted(texts(by_pygraphviz)[0])
    ids = [
        {e.get("id") for e in svg.iter() if re.match(r"n\d", e.get("id") or "")} for svg in (by_system, by_pygraphviz)
    ]
    assert ids[0] == ids[1]


def test_without_any_graphviz_it_says_what_to_install_and_texts_still_work(monkeypatch, tmp_path):
    without_dot(monkeypatch)
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    picture = network()
    with pytest.raises(ImportError, match=r"pip install 'tinygrad_opt\[pictures\]'.*\.source.*\.mermaid"):
        picture.pipe("svg")
    with pytest.raises(ImportError, match="pip install"):
        picture.write(tmp_path / "graph.svg")
    assert not list(tmp_path.iterdir())
    assert picture.write(tmp_path / "graph.dot").read_text() == picture.source
    assert picture.write(tmp_path / "graph.mmd").read_text() == picture.mermaid
    assert set(picture._repr_mimebundle_()) == {"text/plain"}
    assert "pip install" in picture._repr_mimebundle_()["text/plain"]


def test_graphviz_is_loaded_when_the_first_graph_is_drawn():
    code = """
import sys, tinygrad_opt as tg
from tinygrad_opt import viz
assert "graphviz" not in sys.modules and "pygraphviz" not in sys.modules
viz.tree(tg.Tensor(1.0, requires_grad=True) * 2)
assert "graphviz" not in sys.modules
viz.draw_graph(tg.Tensor(1.0, requires_grad=True) * 2)
assert "graphviz" in sys.modules
try:
    viz.nothing
except AttributeError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "has no attribute 'nothing'" in run.stdout


# Order and repetition -------------------------------------------------------------------------------------------------


def head_labels(picture):
    return {line.split("[")[0].strip(): line.split("headlabel=")[1][0] for line in picture.source.splitlines()
            if "headlabel" in line}  # fmt: skip


def test_operands_that_cannot_change_places_are_numbered():
    a, b, c = (
        tg.Tensor(value, requires_grad=True, name=name) for name, value in zip("abc", (2.0, -3.0, 9.0), strict=True)
    )
    picture = viz.draw_graph((a - b) / (c - a))
    names = {node.id: node.label for node in picture.model.nodes}
    found = [(*(names[end.strip()] for end in arrow.split("->")), n) for arrow, n in head_labels(picture).items()]
    assert sorted(found) == [("a", "−", "1"), ("a", "−", "2"), ("b", "−", "2"), ("c", "−", "1"),
                             ("−", "÷", "1"), ("−", "÷", "2")]  # fmt: skip
    assert "first and second operand" in picture.source
    for commutative in (a * b + c, a - 1.0, a - a):
        picture = viz.draw_graph(commutative)
        assert not head_labels(picture)
        assert "operand" not in picture.source


def test_values_of_a_repeated_block_are_those_of_the_first_and_the_last():
    x = tg.Tensor(2.0, requires_grad=True)
    for _ in range(100):
        x = x * 1.01
    picture = viz.draw_graph(x, values=True)
    (result,) = [node for node in picture.model.nodes if node.output]
    assert result.value == f"2.04 in the first, {x.item():.3g} in the last"
    assert "drawn once" in picture.source


def test_drawing_a_model_does_not_change_it():
    own = np.random.default_rng(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Dropout(0.5, generator=own))
    before = model.state_dict(), tg.get_rng_state(), own.bit_generator.state
    arrays = [buffer.data for buffer in model.buffers()]
    viz.draw_graph(model, np.arange(8.0).reshape(4, 2))
    assert all(buffer.data is array for buffer, array in zip(model.buffers(), arrays, strict=True))
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[0][name])
    assert (tg.get_rng_state(), own.bit_generator.state) == before[1:]


def test_backslashes_in_names_mean_nothing():
    picture = viz.draw_graph(leaf(2.0, name=r"\N \G") * 2)
    assert r"\N \G" in texts(svg_of(picture))[0]


def test_gradients_without_elements_have_no_colour():
    picture = viz.draw_graph((leaf(np.zeros((0, 3))) * 2).sum(), gradients=True)
    assert [node.magnitude for node in picture.model.nodes if node.shape == (0, 3)] == [None, None]
