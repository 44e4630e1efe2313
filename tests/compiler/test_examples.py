"""The examples, compiled: each learns the same, and says the same, as without.

Those that train with `fit` run twice in a process of their own, see `twice.py`. The others have loops of their own.
"""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygrad_opt as tg
from tests import scripts
from tinygrad_opt.errors import GraphError
from tinygrad_opt.nn.functional import cross_entropy

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

EXAMPLES = Path(__file__).parents[2] / "examples"
OWN_LOOPS = {"from_scratch.py", "compare_optimizers.py"}
WITH_FIT = sorted(path.name for path in EXAMPLES.glob("*.py") if path.name not in OWN_LOOPS)


@pytest.mark.parametrize("name", WITH_FIT)
def test_an_example_that_uses_fit_learns_the_same(name, tmp_path):
    twice = Path(__file__).with_name("twice.py")
    options = ["--epochs", "1", "--seed", "1", "--output", tmp_path / "results"]
    assert "are the same" in scripts.run(twice, tmp_path, EXAMPLES / name, *options)


def test_the_network_from_scratch_learns_the_same(tmp_path, monkeypatch, capsys):
    code = (EXAMPLES / "from_scratch.py").read_text(encoding="utf-8")
    compiled, functions = re.subn(r"^    def (scores|cross_entropy)", r"    @tg.compile\n    def \1", code, flags=re.M)
    assert functions == 2
    printed = []
    for name, text in (("plain.py", code), ("compiled.py", compiled)):
        (tmp_path / name).write_text(text, encoding="utf-8")
        monkeypatch.setattr(sys, "argv", [name, "--epochs", "30", "--output", str(tmp_path / "results")])
        runpy.run_path(str(tmp_path / name), run_name="__main__")
        printed.append(capsys.readouterr().out)
    assert len(printed[0].splitlines()) > 10
    assert printed[1] == printed[0]


COMPARISON = runpy.run_path(str(EXAMPLES / "compare_optimizers.py"), run_name="example")


@pytest.mark.parametrize("problem", COMPARISON["PROBLEMS"])
@pytest.mark.parametrize("method", COMPARISON["METHODS"])
def test_each_method_that_is_compared_takes_the_same_way(method, problem, monkeypatch):
    run, task = COMPARISON["run"], COMPARISON["Valley" if problem == "quadratic" else "Network"]
    expected = run(problem, method, 0, 2, 0.01)
    plain = task.closures

    def closures(self):
        """As the example's, with one compiled function for all batches of a task."""
        if isinstance(self, COMPARISON["Valley"]):
            return map(tg.compile, plain(self))
        if not hasattr(self, "loss"):
            self.loss = tg.compile(lambda x, y: cross_entropy(self.model(x), y))
        return (lambda x=x, y=y: self.loss(x, y) for x, y in self.loader)

    monkeypatch.setattr(task, "closures", closures)
    if method == "armijo_full_relaxation":  # needs second derivatives of the loss
        with pytest.raises(GraphError, match="first derivatives only"):
            run(problem, method, 0, 2, 0.01)
        return
    found = run(problem, method, 0, 2, 0.01)
    np.testing.assert_allclose(found["losses"], expected["losses"], rtol=1e-9)
    np.testing.assert_allclose(found["x2"], expected["x2"], rtol=1e-9)
