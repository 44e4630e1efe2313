"""The examples: each runs alone in any folder and writes the files that it says it wrote."""

import re
from pathlib import Path

import pytest

from tests import scripts

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
EXPECTED = {
    "autoencoder.py",
    "classify_moons.py",
    "compare_optimizers.py",
    "convolve_digits.py",
    "from_scratch.py",
    "language_model.py",
    "predict_diabetes.py",
    "train_digits.py",
    "visualize_backprop.py",
}


SMALL = {"compare_optimizers.py": ["--seeds", "1"]}  # what makes an example small besides few epochs


def run(script, folder, *arguments):
    """What the script printed, run in ``folder`` as a user would run it."""
    return scripts.run(script, folder, "--output", folder / "results", *SMALL.get(script.name, []), *arguments)


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


def named(name):
    return next(path for path in EXAMPLES if path.name == name)


def numbers_after(name, text):
    """The numbers on the line of a printed table that starts with ``name``."""
    line = re.search(rf"^{re.escape(name)}.*?((?:\s+\d+\.\d+)+)$", text, re.MULTILINE)
    return [float(number) for number in line.group(1).split()]


def test_convolutions_read_at_least_98_and_a_half_percent_of_the_digits(tmp_path):
    text = run(named("convolve_digits.py"), tmp_path, "--epochs", "5")
    assert accuracy_in(text) >= 98.5
    misread, held_out = map(int, re.search(r"\((\d+) of (\d+) misread\)", text).groups())
    assert abs(accuracy_in(text) - 100 * (1 - misread / held_out)) < 0.06
    assert "Conv2d" in text
    assert "(N, 8, 8, 8)" in text, "the summary of the model"


def test_the_language_model_beats_counting_on_text_that_it_has_not_seen(tmp_path):
    text = run(named("language_model.py"), tmp_path, "--epochs", "9")
    _, network = numbers_after("this network", text)
    names = ("any character alike", "how often each one is", "after 1 char", "after 2 char", "after 5 char")
    baselines = [numbers_after(name, text)[1] for name in names]
    assert baselines == sorted(baselines, reverse=True), "the longer the groups that are counted, the better"
    assert network < min(baselines)


def test_a_language_model_that_is_resumed_is_the_same_as_one_that_never_stopped(tmp_path):
    script = named("language_model.py")
    first, second, whole = (tmp_path / name for name in ("first", "second", "whole"))
    for folder in (first, second, whole):
        folder.mkdir()
    run(script, first, "--epochs", "1")
    resumed = run(script, second, "--epochs", "1", "--resume", str(first / "results" / "language_model.npz"))
    at_once = run(script, whole, "--epochs", "2")
    assert "epoch 2 " in resumed
    assert resumed.replace(str(second), str(whole)) == at_once, "the same losses, and the same text written"


def test_a_text_of_the_users_own_is_learned_and_one_that_is_too_short_is_refused(tmp_path):
    text = tmp_path / "verse.txt"
    text.write_text("Row, row, row your boat, gently down the stream. " * 30, encoding="utf-8")
    printed = run(named("language_model.py"), tmp_path, "--epochs", "4", "--text", str(text))
    assert numbers_after("this network", printed)[1] < numbers_after("how often each one is", printed)[1]
    text.write_text("Row, row, row your boat.", encoding="utf-8")
    with pytest.raises(AssertionError, match="far too few to learn from"):
        run(named("language_model.py"), tmp_path, "--text", str(text))


@pytest.mark.parametrize("size", ["2", "5"])
def test_the_autoencoder_beats_pca_with_as_many_numbers(size, tmp_path):
    text = run(named("autoencoder.py"), tmp_path, "--epochs", "40", "--code", size)
    [mean], [pca], [autoencoder] = (numbers_after(name, text) for name in ("the mean digit", "PCA", "autoencoder"))
    assert autoencoder < 0.85 * pca < 0.85 * mean
    assert len([path for path in files_named_in(text) if path.suffix == ".png"]) == (2 if size == "2" else 1)
