"""The README: its Python code runs, as a reader would run it, one block after the other."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
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
