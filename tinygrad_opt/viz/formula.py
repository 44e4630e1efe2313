"""A gradient rule of the table as a formula: what it computes, in symbols, and with the numbers of one call put in."""

from __future__ import annotations

import ast
import copy
import functools
import inspect
import linecache
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_opt.graph import Node
from tinygrad_opt.viz.model import SHORT, describe
from tinygrad_opt.viz.rule_text import statement

HELPER = -9
BRIEF = 18  # letters of a value in the picture
LONGEST = 160  # letters of a formula with its numbers put in


@dataclass(slots=True)
class Symbol:
    """A name in a rule, and what it stands for in this call.

    ``position`` counts the inputs; -1 is the result, -2 the gradient that came, and HELPER a function of the rule.
    """

    name: str
    position: int
    shape: str
    value: str
    meaning: str = "computed in the forward pass"


@dataclass(slots=True)
class Formula:
    """A gradient rule: in symbols, with the numbers put in ("" where they are many), and as it stands in the table."""

    symbols: str
    numbers: str
    code: str
    where: list[Symbol]


def formula_of(node: Node, position: int, g: Any) -> Formula:
    """The rule of a call for the input at ``position``, given the gradient ``g`` of its result.

    >>> import tinygrad_opt as tg
    >>> from tinygrad_opt.viz.formula import formula_of
    >>> a = tg.Tensor(3.0, requires_grad=True)
    >>> formula = formula_of((a * 2.5).node, 0, 0.5)
    >>> formula.code, formula.symbols, formula.numbers
    ('lambda g, _out, _x, y: g * y', 'g · y', '0.5 × 2.5')
    """
    rule = node.op.rules[position]
    function, first = (rule.func, rule.args) if isinstance(rule, functools.partial) else (rule, ())
    bound = inspect.signature(function).bind(*first, g, node.out, *node.values, **node.kwargs)
    bound.apply_defaults()
    given = bound.arguments
    places = {name: place for place, name in enumerate(given, start=-2 - len(first))}  # g is -2, and out is -1
    inputs = 0 if first else node.op.inputs
    expression, code = _expression(function, given)
    put_in = _PutIn(given)
    numbers = _in_signs(put_in.visit(copy.deepcopy(expression)), "×")
    where = [
        Symbol(name, places[name], shape_text(value), value_text(value))
        for name, value in given.items()
        if name in put_in.read
        and (isinstance(value, np.ndarray) or (-2 <= places[name] < inputs and value is not None))
    ]
    for name in dict.fromkeys(n.id for n in ast.walk(expression) if isinstance(n, ast.Name) and n.id not in given):
        helper = getattr(function, "__globals__", {}).get(name)
        if inspect.isfunction(helper) and helper.__doc__:
            where.append(Symbol(name, HELPER, "", "", helper.__doc__.split("\n\n")[0].strip().replace("`", "")))
    short = not put_in.large and len(numbers) <= LONGEST
    return Formula(_in_signs(expression, "·"), numbers if short else "", code, where)


# What a rule computes ------------------------------------------------------------------------------------------------


def _expression(function: Any, given: Mapping[str, Any]) -> tuple[ast.expr, str]:
    """The expression that a rule returns for the given arguments, and the source of the rule."""
    text, name = statement(function), getattr(function, "__name__", "rule")
    if name == "<lambda>":
        source = "".join(linecache.getlines(function.__code__.co_filename))
        spans = [(line, column) for line, _, column, _ in function.__code__.co_positions() if column is not None]
        for node in _lambdas(source):
            start, end = (node.body.lineno, node.body.col_offset), (node.body.end_lineno, node.body.end_col_offset)
            if any(start <= span < end for span in spans):  # of several lambdas, the one that the code is from
                return node.body, " ".join((ast.get_source_segment(source, node) or "").split())
        return _as_call("rule", given), text
    for definition in ast.parse(text).body:
        if isinstance(definition, ast.FunctionDef):
            return _returned(definition, function, given) or _as_call(name, given), text
    return _as_call(name, given), text


@functools.lru_cache(maxsize=16)
def _lambdas(source: str) -> list[ast.Lambda]:
    """All lambdas in a source, the inner ones first."""
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Lambda)]
    return found[::-1]


def _as_call(name: str, given: Mapping[str, Any]) -> ast.expr:
    return ast.Call(ast.Name(name), [ast.Name(n) for n in given if not n.startswith("_")], [])


def _returned(rule: ast.FunctionDef, function: Any, given: Mapping[str, Any]) -> ast.expr | None:
    """The expression after the ``return`` that these arguments lead to; None where a rule has variables of its own."""
    for line in rule.body:
        if isinstance(line, ast.If) and isinstance(line.body[0], ast.Return) and not line.orelse:
            test = compile(ast.Expression(line.test), "rule", "eval")
            if eval(test, function.__globals__, dict(given)):
                return line.body[0].value
        elif isinstance(line, ast.Return):
            return line.value
        elif not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)):  # what is one is a docstring
            return None
    return None


class _PutIn(ast.NodeTransformer):
    """Puts the arguments' values in place of their names; ``read`` are those whose elements count."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self.read: set[str] = set()
        self.large = False

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and node.value.id in self.given and node.attr in ("shape", "size", "ndim"):
            return ast.Name(str(getattr(np, node.attr)(self.given[node.value.id])))
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id not in self.given:
            return node
        value = self.given[node.id]
        self.read.add(node.id)
        self.large |= not is_small(value)
        return ast.Name(_in_brackets(value_text(value)) if is_small(value) else node.id)


def _in_signs(expression: ast.AST, times: str) -> str:
    """An expression of Python in the signs of a formula."""
    text = re.sub(r"\bnp\.(linalg\.)?", "", ast.unparse(expression))
    return text.replace(" * ", f" {times} ").replace(" - ", " − ")


def _in_brackets(text: str) -> str:
    return f"({text})" if text.startswith("-") else text


# Values as text ------------------------------------------------------------------------------------------------------


def is_small(value: Any) -> bool:
    """Whether a value is short enough to stand in a formula."""
    if isinstance(value, tuple) and any(isinstance(array, np.ndarray) for array in value):
        return False
    return value.size <= SHORT if isinstance(value, np.ndarray) else len(repr(value)) < 40


def value_text(value: Any) -> str:
    """A value in a few words; several arrays one after the other."""
    if isinstance(value, (np.ndarray, np.generic, float, int)) and not isinstance(value, bool):
        return describe(value)
    if isinstance(value, tuple) and value and all(isinstance(array, np.ndarray) for array in value):
        return "; ".join(map(describe, value))
    return repr(value)


def brief_text(value: Any) -> str:
    """A value in a word or two, for a node of the picture: of many numbers mean ± standard deviation."""
    text = value_text(value)
    if len(text) <= BRIEF or not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        return text if len(text) <= BRIEF else "…"
    with np.errstate(all="ignore"):
        mean, spread = value.mean(), value.std()
    return f"{0 if abs(mean) < 1e-6 * spread else mean:.2g} ± {spread:.2g}"


def shape_text(value: Any) -> str:
    """The shape of a value, such as "2 × 3"."""
    if isinstance(value, tuple):
        return f"{len(value)} arrays"
    return " × ".join(map(str, np.shape(value))) or "a number"
