"""The gradient rule of an operation as text: the statement in the rule table that gives it, as it stands there."""

from __future__ import annotations

import ast
import functools
import linecache
import textwrap
from collections.abc import Callable
from typing import Any

from tinygrad_opt.rules.registry import Op


@functools.cache
def rule_text(op: Op) -> str:
    """The source of the rules of ``op``; empty where it is not to be had, as of a function typed in by hand.

    >>> import numpy as np
    >>> from tinygrad_opt.rules.registry import TABLE
    >>> from tinygrad_opt.viz.rule_text import rule_text
    >>> print(rule_text(TABLE[np.sin]))
    defvjp(np.sin, lambda g, _out, x: g * np.cos(x))
    """
    rules = [rule for rule in (op.each, *(op.rules if op.each is None else ())) if rule is not None]
    texts = dict.fromkeys(statement(rule) for rule in rules)
    return "\n".join(filter(None, texts))


def statement(function: Callable[..., Any]) -> str:
    """The whole statement that a function is defined in."""
    code = getattr(function, "__code__", None)
    if code is None:
        return ""
    node = _statements(code.co_filename).get(code.co_firstlineno)
    if node is None:
        return ""
    lines = linecache.getlines(code.co_filename)[node.lineno - 1 : node.end_lineno]
    return textwrap.dedent("".join(lines)).strip()


@functools.cache
def _statements(file: str) -> dict[int, ast.stmt]:
    """Line -> the innermost statement that it belongs to, of a file of rules."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return {}
    found: dict[int, ast.stmt] = {}
    for node in ast.walk(tree):  # from the outside in: an inner statement takes the place of the outer one
        if isinstance(node, ast.stmt):
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            found.update(dict.fromkeys(range(first, (node.end_lineno or first) + 1), node))
    return found
