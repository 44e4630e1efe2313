"""The manual's page of differentiable functions: it shows every function, and what it shows is what runs."""

import ast
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinygrad_opt.rules.registry import COMPOSITES, NON_DIFFERENTIABLE, TABLE, name_of

DOCS = Path(__file__).parent.parent / "docs"
SPEC = importlib.util.spec_from_file_location("functions_page", DOCS / "functions_page.py")
functions_page = importlib.util.module_from_spec(SPEC)
sys.modules["functions_page"] = functions_page  # where dataclasses look for it
SPEC.loader.exec_module(functions_page)

PAGE = functions_page.markdown()
FILES = {name: functions_page.RuleFile(name) for name in functions_page.FAMILIES}
ENTRIES = [(name, entry) for name, file in FILES.items() for section in file.sections() for entry in section.entries]
OURS = {"tinygrad_opt.rules." + name for name in FILES}


def in_the_package(function):
    """Whether a row of the table is the package's own, and not one that an example or another test has added."""
    op = TABLE[function]
    rules = [op.each] if op.each else [rule for rule in op.rules if rule is not None]
    return all(rule.__module__ in OURS for rule in rules)


ROWS = [function for function in TABLE if in_the_package(function)]


def same_code(one, other):
    """Whether two code objects do the same, wherever they stand."""
    if not hasattr(one, "co_code"):
        return type(one) is type(other) and one == other
    parts = ("co_code", "co_names", "co_varnames", "co_argcount", "co_kwonlyargcount", "co_flags")
    return (
        all(getattr(one, part) == getattr(other, part) for part in parts)
        and len(one.co_consts) == len(other.co_consts)
        and all(map(same_code, one.co_consts, other.co_consts))
    )


def spaces_alike(text):
    return " ".join(text.split())


def test_every_file_of_rules_is_read():
    files = {path.stem for path in (Path(functions_page.__file__).parent.parent / "tinygrad_opt/rules").glob("*.py")}
    assert files - {"__init__", "registry"} == set(FILES)


def test_every_function_is_shown_once():
    shown = [function for _, entry in ENTRIES for function in entry.functions]
    assert len(shown) == len(set(shown))
    assert set(shown) == {*ROWS, *COMPOSITES}


def test_every_name_is_on_the_page():
    for function in (*ROWS, *COMPOSITES, *NON_DIFFERENTIABLE):
        assert f"`{name_of(function)}`" in PAGE, name_of(function)


def test_piecewise_constant_functions_stand_in_one_sorted_list():
    (line,) = [line for line in PAGE.splitlines() if "`np.argmax`" in line and "`np.floor`" in line]
    names = re.findall("`([^`]+)`", line)
    assert names == sorted(names)
    assert {name_of(function) for function in NON_DIFFERENTIABLE} <= set(names)


def test_all_the_code_of_the_entries_is_on_the_page():
    page = spaces_alike(PAGE)
    for _, entry in ENTRIES:
        for code in entry.code:
            assert code.startswith("NON_DIFFERENTIABLE") or spaces_alike(code) in page, code


def test_all_code_of_the_page_compiles():
    blocks = re.findall(r"```python\n(.*?)```", re.sub("^(: |  )", "", PAGE, flags=re.MULTILINE), flags=re.DOTALL)
    assert len(blocks) > 150
    for block in blocks:
        compile(block, "functions.md", "exec")


def test_the_rules_shown_are_the_rules_of_the_table():
    compared = 0
    for name, entry in ENTRIES:
        for function in entry.functions if entry.rules else []:
            op = TABLE[function]
            rules = [op.each] if op.each else op.rules[: op.inputs]
            assert len(rules) == len(entry.rules), name_of(function)
            for text, rule in zip(entry.rules, rules, strict=True):
                if text == "None":
                    assert rule is None
                    continue
                given = _evaluated(text, FILES[name].module)
                assert same_code(given.__code__, rule.__code__), f"{name_of(function)}: {text}"
                assert given.__defaults__ == rule.__defaults__
                assert given.__kwdefaults__ == rule.__kwdefaults__
                compared += 1
    assert compared > 150


def _evaluated(text, module):
    """The function that a text makes below the imports of a file of rules."""
    statements = ast.parse(inspect.getsource(module)).body
    imports = "\n".join(ast.unparse(node) for node in statements if isinstance(node, (ast.Import, ast.ImportFrom)))
    names = dict(vars(module))
    exec(f"{imports}\n{text}" if text.startswith("def ") else f"{imports}\nrule = {text}", names)
    return names[re.match(r"def (\w+)", text)[1] if text.startswith("def ") else "rule"]


@pytest.mark.parametrize(
    ("function", "position", "arguments", "expected"),
    [
        (np.multiply, 0, (3.0, None, 2.0, 5.0), 15.0),
        (np.divide, 1, (1.0, 0.5, 2.0, 4.0), -0.125),
        (np.tanh, 0, (2.0, 0.5, None), 1.5),
        (np.absolute, 0, (1.0, None, 0.0), 0.0),
    ],
)
def test_rules_that_are_shown_can_be_tried(function, position, arguments, expected):
    (entry,) = [entry for _, entry in ENTRIES if function in entry.functions]
    assert eval(entry.rules[position], {"np": np})(*arguments) == expected


def test_a_rule_that_several_functions_share_is_shown_once_with_all_names():
    (entry,) = [entry for _, entry in ENTRIES if np.tile in entry.functions]
    assert entry.functions[:2] == [np.tile, np.repeat]
    assert "moves(" in entry.code[0]
    assert "moves" in [used.__name__ for used in entry.uses]
    (line,) = [line for line in PAGE.splitlines() if line.startswith("`np.deg2rad`{")]
    assert "`np.radians`" in line


def test_links_lead_to_names_and_every_name_stands_in_one_place():
    anchors = re.findall(r"\{#([^}]+)\}", PAGE)
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= set(anchors)


def test_helpers_that_rules_call_are_shown():
    for _, entry in ENTRIES:
        for used in entry.uses:
            assert re.search(rf"(def|class) {used.__name__}\(", PAGE), used


def test_what_others_add_to_the_table_is_not_on_the_page():
    code = (
        "import numpy as np, tinygrad_opt as tg, functions_page; before = functions_page.markdown();"
        "tg.defvjp(np.spacing, lambda g, out, x: 0 * g); assert functions_page.markdown() == before"
    )
    subprocess.run([sys.executable, "-c", code], cwd=DOCS, check=True, timeout=60)


def test_comments_of_a_rule_are_shown_with_it():
    (entry,) = [entry for _, entry in ENTRIES if np.remainder in entry.functions]
    assert entry.code[0].startswith("# x - n y")
