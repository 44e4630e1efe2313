"""How Sphinx builds the manual: ``python -m sphinx docs docs/_build/html``."""

import re
import sys
from pathlib import Path

import tinygrad_opt

sys.path.insert(0, str(Path(__file__).parent))
import functions_page

project = "tinygrad_opt"
author = "the tinygrad_opt authors"
version = release = tinygrad_opt.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "speed-table.md"]  # the table is a part of speed.md
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 3

# Every page's code runs at every build: a result that is shown is a result of the code as it is now.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_render_markdown_format = "myst"  # with tables
nb_merge_streams = True

default_role = "code"  # docstrings write `name` in single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True

html_theme = "pydata_sphinx_theme"
html_title = "tinygrad_opt"
html_static_path = ["_static"]
html_css_files = ["manual.css"]
html_sidebars = {"**": []}  # the pages are named at the top
html_show_sourcelink = False
html_theme_options = {"show_prev_next": True, "secondary_sidebar_items": ["page-toc"]}


def keep_bars(app, what, name, obj, options, lines):
    """Bars in a docstring mean absolute values: tell reStructuredText that they do not name a substitution."""
    doctest = False  # up to the next empty line
    for i, line in enumerate(lines):
        doctest = bool(line.strip()) and (doctest or line.lstrip().startswith(">>>"))
        if not doctest:
            lines[i] = re.sub(r"(``.*?``)|\|", lambda found: found[1] or r"\|", line)


def write_the_tables(app, docname, source):
    """Put the tables of rules into the page that is for them."""
    if docname == "functions":
        source[0] = source[0].replace("% The tables of functions_page.py come here.", functions_page.markdown())


def setup(app):
    app.connect("env-get-outdated", lambda *_: ["functions"])  # the rules may have changed, though the page did not
    app.connect("source-read", write_the_tables)
    app.connect("autodoc-process-docstring", keep_bars)
