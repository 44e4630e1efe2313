"""The README's Python code runs, as a reader would run it, one block after the other; the manual has all names."""

import re
from pathlib import Path

import pytest

import tinygrad_opt as tg

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
COMMANDS = re.findall(r"^python3 -m venv.*$", README, flags=re.MULTILINE)


def test_the_readme_shows_python_code():
    assert BLOCKS


def test_python_blocks_run_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    namespace = {"__name__": "__main__"}
    for number, block in enumerate(BLOCKS, start=1):
        exec(compile(block, f"README.md, python block {number}", "exec"), namespace)
    assert len(namespace) > 2


def test_two_commands_install_and_run():
    assert len(COMMANDS) >= 2
    assert COMMANDS[0].rstrip("`").endswith("examples/train_digits.py")
    assert "pytest" in COMMANDS[1]


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:|#)([^)#\s]+)", README))))
def test_links_lead_to_files(link):
    assert (ROOT / link).exists()


PUBLIC = {
    *(f"tinygrad_opt.{name}" for name in tg.__all__),
    *(f"tinygrad_opt.{kind}.{name}" for kind in ("nn", "optim", "viz") for name in getattr(tg, kind).__all__),
} - {"tinygrad_opt.summary"}  # tinygrad_opt.nn.summary


def documented():
    """What the page of the API shows: the names after its directives, and the members of its modules."""
    text = (DOCS / "api.md").read_text()
    names = set(re.findall(r"^\.\. auto\w+:: ([\w.]+)", text, flags=re.MULTILINE))
    for module in re.findall(r"^\.\. automodule:: tinygrad_opt\.([\w.]+)", text, flags=re.MULTILINE):
        parent, _, last = f"tinygrad_opt.{module}".rpartition(".")
        owner = tg
        for part in module.split("."):
            owner = getattr(owner, part)
        names |= {f"{parent}.{last}", *(f"{parent}.{last}.{name}" for name in vars(owner))}
        names |= {f"tinygrad_opt.{name}" for name in vars(owner)} if module == "errors" else set()
    return names


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_is_on_the_page_of_the_api(name):
    parts = documented()
    assert name in parts or any(other.startswith(f"{name}.") for other in parts)


def test_every_layer_and_loss_is_in_the_manual():
    """The classes of `nn`, each as ``Name(`` or ``Name`` in code on the pages of layers and losses."""
    text = (DOCS / "layers.md").read_text() + (DOCS / "networks-and-losses.md").read_text()
    classes = {name: getattr(tg.nn, name) for name in tg.nn.__all__ if isinstance(getattr(tg.nn, name), type)}
    names = {name for name, kind in classes.items() if issubclass(kind, tg.nn.Module)} - {"Module"}
    assert len(names) > 30
    assert not {name for name in names if not re.search(rf"`(nn\.)?{name}[`(]|nn\.{name}\(", text)}
