"""DOT text as a picture: by the system's Graphviz where there is one, else by the one that comes with pygraphviz."""

from __future__ import annotations

import graphviz


def render(source: str, format: str) -> bytes:
    """The picture of a graph in DOT, as the bytes of an SVG, PNG, PDF or another format of Graphviz.

    Raises ImportError, which says what to install, where there is no Graphviz; ValueError for an unknown format.

    >>> from tinygrad_opt.viz.render import render
    >>> b"</svg>" in render("digraph { a -> b }", "svg")
    True
    """
    if format not in graphviz.FORMATS:
        raise ValueError(f"Graphviz has no format {format!r}; there are svg, png, pdf and others")
    try:
        picture: bytes = graphviz.pipe("dot", format, source.encode())
        return picture
    except graphviz.ExecutableNotFound:
        pass  # the system has none
    try:
        import pygraphviz
    except ImportError as error:
        raise ImportError(
            "pictures of graphs need Graphviz: pip install 'tinygrad_opt[pictures]'. Without it there are the text of "
            "the picture in DOT, .source, and for Mermaid, .mermaid, both of which .write() saves"
        ) from error
    return pygraphviz.AGraph(string=source).draw(format=format, prog="dot")  # type: ignore[no-any-return]
