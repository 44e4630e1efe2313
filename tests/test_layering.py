"""Reading order is import order: each file imports only files above it, and importing the package loads little."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tinygrad_opt

ROOT = Path(tinygrad_opt.__file__).parent

ORDER = [
    "errors",
    "rules.registry",
    "rules.elementwise",
    "rules.shaping",
    "rules.reductions",
    "rules.linalg",
    "rules.network",
    "rules.windows",
    "rules.composites",
    "rules",
    "graph",
    "tensor",
    "transforms",
    "gradcheck",
    "landscapes",
    "rng",
    "nn.module",
    "nn.init",
    "nn.functional",
    "nn.containers",
    "nn.layers",
    "nn.losses",
    "nn.summary",
    "nn.utils",
    "nn",
    "compiler.program",
    "compiler.guards",
    "compiler.watch",
    "compiler.trace",
    "compiler.passes",
    "compiler.source",
    "compiler.step",
    "compiler",
    "optim.optimizer",
    "optim.line_search",
    "optim.descent",
    "optim.sgd",
    "optim.adaptive",
    "optim.lr_scheduler",
    "optim",
    "data",
    "archive",
    "checkpoint",
    "training",
    "viz.rule_text",
    "viz.model",
    "viz.folding",
    "viz.text",
    "viz.render",
    "viz.dot",
    "viz.formula",
    "viz.steps",
    "viz.stepper",
    "viz.plots",
    "viz.health",
    "viz.around",
    "viz",
    "",  # the package itself
]
LOADED_WHEN_USED = {"matplotlib", "graphviz", "pygraphviz", "tqdm", "sklearn", "scipy", "torch", "pandas", "IPython"}
LOADED_WHEN_USED |= {"safetensors"}


def module_name(path):
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in ROOT.rglob("*.py")}
every_file = pytest.mark.parametrize("name", sorted(FILES), ids=lambda name: name or "__init__")


def imported(path):
    """The full names of all modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full.removeprefix("tinygrad_opt.") in FILES else node.module


def own(modules):
    """The part after ``tinygrad_opt``, of those modules that are ours."""
    return {m.removeprefix("tinygrad_opt").lstrip(".") for m in modules if m.split(".")[0] == "tinygrad_opt"}


def test_the_list_names_every_file_once():
    assert len(ORDER) == len(set(ORDER))
    assert set(ORDER) == set(FILES)


@every_file
def test_a_file_imports_only_files_above_it(name):
    above = set(ORDER[: ORDER.index(name)])
    below = own(imported(FILES[name])) - above
    assert not below, f"{name} imports {below}, which do not stand above it"


@pytest.mark.parametrize("name", [name for name in sorted(FILES) if name.split(".")[0] == "rules"])
def test_rules_know_only_numpy_and_each_other(name):
    allowed = ("numpy", "tinygrad_opt.rules", *sys.stdlib_module_names)
    for module in imported(FILES[name]):
        assert module.startswith("tinygrad_opt.rules") or module.split(".")[0] in allowed, f"{name} imports {module}"


@every_file
def test_a_file_opens_with_a_sentence(name):
    text = ast.get_docstring(ast.parse(FILES[name].read_text()))
    assert text, f"{name} has no docstring"
    first = text.split("\n\n")[0].strip()
    assert first[-1] in ".:", f"{name} opens with {first!r}, which is no sentence"
    assert len(first.split()) >= 4


def test_import_loads_nothing_heavier_than_numpy():
    code = "import sys, tinygrad_opt; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(run.stdout.split())
    assert "numpy" in loaded
    assert not {name.split(".")[0] for name in loaded} & LOADED_WHEN_USED
    assert not loaded & {"numpy.random", "tinygrad_opt.viz.model", "tinygrad_opt.viz.plots", "json"}  # some ms each


def test_a_planted_import_from_below_is_noticed(tmp_path):
    path = tmp_path / "planted.py"
    path.write_text("def late():\n    from tinygrad_opt.nn import functional\n    import tinygrad_opt.tensor\n")
    assert own(imported(path)) == {"nn.functional", "tensor"}
