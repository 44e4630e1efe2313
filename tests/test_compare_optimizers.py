"""The comparison of the optimizers: its tables, at a size that takes seconds."""

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("sklearn")

import tinygrad_opt as tg

SCRIPT = Path(__file__).parent.parent / "examples" / "compare_optimizers.py"
NINE = {
    "gradient_descent",
    "armijo_goldstein",
    "armijo_full_relaxation",
    "stochastic",
    "sgd",
    "momentum",
    "adagrad",
    "rmsprop",
    "adam",
}


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("compare_optimizers", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def compared(script):
    """Both tables and the runs; the executor is the caller's, and stays open."""
    with ThreadPoolExecutor(1) as executor:
        result = script.compare(["breast_cancer", "quadratic"], list(script.METHODS), [3, 4], executor, epochs=2)
        assert executor.submit(int).result() == 0
    return result


def test_a_row_for_every_problem_and_method(compared):
    table, _, _ = compared
    assert {row["method"] for row in table} == NINE
    assert {(row["problem"], row["method"]) for row in table} == {
        (problem, method) for problem in ("breast_cancer", "quadratic") for method in NINE
    }
    assert len(table) == 18
    assert set(table[0]) == {
        "problem",
        "method",
        "rate",
        "epochs",
        "epochs to target",
        "seconds to target",
        "final loss",
        "test accuracy %",
        "µs per step",
        "state bytes per parameter",
        "sign changes of x2",
        "backward passes",
        "loss evaluations",
    }
    assert all(row.keys() == table[0].keys() for row in table)


def test_a_row_for_every_claim(compared, script):
    _, claims, _ = compared
    assert [row["claim"] for row in claims] == [claim for claim, _, _ in script.CLAIMS]
    rules = [row["claim"].split(":")[0] for row in claims]
    counts = {"SGD": 2, "Mini-batch": 1, "Momentum": 3, "AdaGrad": 3, "RMSProp": 2, "Adam": 2}
    assert {rule: rules.count(rule) for rule in rules} == counts
    for row in claims:
        assert list(row) == ["claim", "experiment", "numbers", "held here"]
        assert row["held here"] in ("yes", "no", "partly", "-")
        assert row["numbers"]


def test_whether_a_claim_held_follows_from_its_numbers(script):
    for checks, held in (([True, True], "yes"), ([True, False], "partly"), ([False], "no"), ([], "-")):
        row = script.check("claim", "experiment", lambda *_, checks=checks: ("numbers", checks), [0], 1, [])
        assert row["held here"] == held


def test_sign_changes_are_those_of_the_path(compared, script):
    table, _, runs = compared
    for row in table:
        if row["problem"] != "quadratic":
            continue
        counts = []
        for result in runs["quadratic", row["method"]]:
            count, side = 0, 1
            for x in result["x2"]:
                if abs(x) > script.ARRIVED and x * side < 0:
                    count, side = count + 1, -side
            counts.append(count)
            assert result["sign changes of x2"] == count
        assert row["sign changes of x2"] == sum(counts) / 2


def test_the_path_is_that_of_the_rule(compared):
    """Plain descent multiplies x2 by 1 - 100 α in every step."""
    table, _, runs = compared
    rate = next(r["rate"] for r in table if (r["problem"], r["method"]) == ("quadratic", "gradient_descent"))
    path = runs["quadratic", "gradient_descent"][0]["x2"]
    assert path[:4] == pytest.approx([(1 - 100 * rate) ** i for i in range(4)], abs=1e-9)


def test_bytes_of_state(compared):
    table, _, _ = compared
    vector = tg.get_default_dtype().itemsize
    vectors = {"momentum": 1, "adagrad": 1, "rmsprop": 1, "adam": 2}
    for row in table:
        assert row["state bytes per parameter"] == vector * vectors.get(row["method"], 0)


def test_what_a_step_costs(compared):
    rows = {row["method"]: row for row in compared[0] if row["problem"] == "quadratic"}
    steps = rows["sgd"]["epochs"]
    assert rows["sgd"]["backward passes"] == rows["sgd"]["loss evaluations"] == steps
    assert rows["armijo_goldstein"]["backward passes"] == steps
    assert rows["armijo_full_relaxation"]["backward passes"] == 2 * steps
    for name in ("armijo_goldstein", "armijo_full_relaxation"):
        assert rows[name]["rate"] == "searched"
        assert rows[name]["loss evaluations"] > steps


def test_one_rule_at_a_given_rate(script):
    with ThreadPoolExecutor(1) as executor:
        table, claims, runs = script.compare(["quadratic"], ["sgd"], [0], executor, epochs=1, lr=0.01)
    assert [(row["method"], row["rate"]) for row in table] == [("sgd", 0.01)]
    assert list(runs) == [("quadratic", "sgd")]
    skipped = [row for row in claims if row["held here"] == "-"]
    assert skipped
    assert all(row["numbers"].startswith("skipped: ") for row in skipped)
