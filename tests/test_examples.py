"""The examples: each runs alone in any folder and writes the files that it says it wrote."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
EXPECTED = {"classify_moons.py", "compare_optimizers.py", "from_scratch.py", "predict_diabetes.py", "train_digits.py"}


def run(script, folder, *arguments):
    """What the script printed, run in ``folder`` as a user would run it."""
    environment = {**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(script), "--output", str(folder / "results"), *arguments]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def files_named_in(text):
    """Every path that the script printed."""
    return [Path(match) for match in re.findall(r"/\S+\.(?:png|svg|pdf|npz|npy|csv|json|pkl|txt)\b", text)]


def test_the_examples_are_there():
    assert {path.name for path in EXAMPLES} >= EXPECTED


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs_and_writes_its_files(script, tmp_path):
    files = files_named_in(run(script, tmp_path, "--epochs", "2", "--seed", "1"))
    assert files, "it should say where its files are"
    for path in files:
        assert path.stat().st_size > 0
        assert path.is_relative_to(tmp_path / "results")
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.name)
def test_every_option_is_explained(script, tmp_path):
    text = run(script, tmp_path, "--help")
    for option in ("--optimizer", "--lr", "--epochs", "--seed", "--output"):
        assert option in text


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.name)
def test_another_optimizer_and_learning_rate(script, tmp_path):
    name = "gradient_descent" if script.name == "from_scratch.py" else "sgd"
    assert run(script, tmp_path, "--epochs", "1", "--optimizer", name, "--lr", "0.001")


def accuracy_in(text):
    return float(re.search(r"held-out accuracy:?\s*([\d.]+)\s*%", text).group(1))


def test_digits_are_read_with_at_least_97_percent_accuracy(tmp_path):
    text = run(next(path for path in EXAMPLES if path.name == "train_digits.py"), tmp_path)
    assert accuracy_in(text) >= 97
    table = [line.split() for line in text.splitlines() if re.fullmatch(r"[\s\d|.]+", line) and len(line.split()) >= 10]
    assert len(table) >= 10, "a confusion table of the ten digits"
