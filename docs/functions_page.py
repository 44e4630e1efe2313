"""Writes the tables of functions.md from the files of rules, so that the manual shows each rule as it stands there.

A file of rules is read statement by statement, under its ``# Banner ---`` headings. A statement that fills the table
becomes an entry with the names of its functions and its rules, cut out of the call; any other one is a helper.
"""

import ast
import importlib
import inspect
import io
import re
import textwrap
import tokenize
from dataclasses import dataclass, field

import numpy as np

from tinygrad_opt.rules.registry import COMPOSITES, NON_DIFFERENTIABLE, TABLE, name_of

FAMILIES = {  # file -> heading
    "elementwise": "Element by element",
    "shaping": "Shape, order and picking",
    "reductions": "Sums, products and extremes",
    "linalg": "Linear algebra",
    "network": "Layers, activations and losses",
    "windows": "Convolution and pooling",
    "composites": "Functions that need no rule",
}


@dataclass
class Entry:
    """What one statement says: the rules of some functions, or how they are made of others, or a helper of these."""

    functions: list = field(default_factory=list)
    name: str = ""  # of a helper
    rules: list[str] = field(default_factory=list)  # one per input, where the statement calls defvjp
    code: list[str] = field(default_factory=list)  # all there is to show
    uses: list = field(default_factory=list)  # functions and classes of the files of rules that the code mentions


@dataclass
class Section:
    """What stands under one banner of a file."""

    title: str = ""
    entries: list[Entry] = field(default_factory=list)


class RuleFile:
    """One file of rules, and what its statements say."""

    def __init__(self, name):
        self.module = importlib.import_module(f"tinygrad_opt.rules.{name}")
        self.source = inspect.getsource(self.module)
        self.lines = self.source.splitlines()
        tokens = tokenize.generate_tokens(io.StringIO(self.source).readline)
        self.comments = {token.start: token.string for token in tokens if token.type == tokenize.COMMENT}
        self.body = [n for n in ast.parse(self.source).body[1:] if not isinstance(n, (ast.Import, ast.ImportFrom))]
        self.definitions = {node.name: node for node in self.body if isinstance(node, ast.FunctionDef)}

    def sections(self):
        """The sections, with each definition in one place: in the entry whose rule it is, or else where it stands."""
        sections = {0: Section()}
        sections |= {
            i: Section(m[1]) for i, line in enumerate(self.lines, 1) if (m := re.fullmatch("# (.+?) -+", line))
        }
        taken = set()
        entries = [(node.lineno, self.entry(node, taken)) for node in self.body]
        for line, entry in entries:
            if entry.functions or entry.name not in taken:
                sections[max(start for start in sections if start < line)].entries.append(entry)
        return [section for section in sections.values() if section.entries]

    def entry(self, node, taken):
        functions = self.registered(node)
        calls = [n for n in ast.walk(node) if isinstance(n, ast.Call) and ast.unparse(n.func) == "defvjp"]
        if not functions or len(calls) != 1:
            return Entry(functions, getattr(node, "name", ""), code=[self.text(node)], uses=self.uses([node]))
        given = [*calls[0].args[1:], *(keyword.value for keyword in calls[0].keywords)]
        own = [getattr(functions[0], "__name__", ""), *(n.id for n in given if isinstance(n, ast.Name))]
        own = [name for name in dict.fromkeys(own) if name in self.definitions.keys() - taken]
        taken.update(own)
        definitions = [self.definitions[name] for name in own]
        shown = [n for n in given if ast.unparse(n) not in own]
        return Entry(
            functions,
            rules=[self.text(self.definitions.get(ast.unparse(n), n)) for n in given],
            code=[*map(self.text, definitions), "\n".join([*self.remarks(node, given), *map(self.text, shown)])],
            uses=self.uses([*definitions, *shown]),
        )

    def registered(self, node):
        """The functions that a statement enters in the table."""
        match node:
            case ast.If():
                return [f for child in node.body for f in self.registered(child)] if self.value(node.test) else []
            case ast.For():
                found = self.value(node.iter)
            case ast.FunctionDef():
                found = [self.value(arg) for d in node.decorator_list if isinstance(d, ast.Call) for arg in d.args]
            case ast.Expr(ast.Call(func=ast.Call(args=arguments))):  # composite(...)(...)
                found = [self.value(arg) for arg in arguments]
            case ast.Expr(ast.Call(args=[first, *_])):
                found = [self.value(first)]
            case _:
                found = []
        return [f for f in found if callable(f) and (f in TABLE or f in COMPOSITES)]

    def value(self, node):
        return eval(compile(ast.Expression(node), self.module.__name__, "eval"), vars(self.module))

    def first_line(self, node):
        """The line where a statement begins, with its decorators and the comments above it."""
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        while re.match("# .*[^-]$", self.lines[first - 2]):
            first -= 1
        return first

    def text(self, node):
        """The source of a statement or an expression."""
        if isinstance(node, ast.stmt):
            text = "\n".join(self.lines[self.first_line(node) - 1 : node.end_lineno])
        else:
            line = self.lines[node.lineno - 1]
            text = line[: len(line) - len(line.lstrip())] + ast.get_source_segment(self.source, node)
        return re.sub(" *# (noqa|fmt|type):.*", "", textwrap.dedent(text)).strip("\n")

    def remarks(self, node, given):
        """The comments above a call of defvjp, and those in it that are not in the rules."""
        spans = [((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for n in given]
        return [
            comment
            for place, comment in self.comments.items()
            if self.first_line(node) <= place[0] <= node.end_lineno
            and not any(start <= place < end for start, end in spans)
        ]

    def uses(self, nodes):
        """What the code mentions of the files of rules, besides itself."""
        names = dict.fromkeys(n.id for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name))
        own = {getattr(node, "name", "") for node in nodes}
        found = [vars(self.module).get(name) for name in names if name not in own]
        return [f for f in found if getattr(f, "__module__", "").rpartition(".")[2] in FAMILIES]


def all_names(function):
    """What NumPy calls a function, and its other names: `np.absolute` is `np.abs` too."""
    others = {f"np.{name}" for name, value in vars(np).items() if value is function}
    return [name_of(function), *sorted(others - {name_of(function)})]


def anchor(name):
    """Where a name stands on the page: ``functions.md#np-linalg-svd``, ``functions.md#rule-one-less``."""
    words = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
    return words if words.startswith("np-") else f"rule-{words}"


def markdown():
    """The tables, in Markdown."""
    families = {name: RuleFile(name).sections() for name in FAMILIES}
    every = [(name, entry) for name, sections in families.items() for section in sections for entry in section.entries]
    places = {}  # (file, function or class defined there) -> where it is shown
    for name, entry in every:
        for defined in re.findall(r"^(?:def|class) (\w+)", "\n".join(entry.code), flags=re.MULTILINE):
            first = all_names(entry.functions[0])[0] if entry.functions else defined
            places[f"tinygrad_opt.rules.{name}", defined] = anchor(first)

    names = {name for _, entry in every for function in entry.functions for name in all_names(function)}
    lines = ["## From A to Z"]
    for of_numpy in (True, False):  # then our own
        group = sorted((name for name in names if name.startswith("np.") == of_numpy), key=str.lower)
        lines += ["", ", ".join(f"[`{name}`](#{anchor(name)})" for name in group) + "."]
    for name, sections in families.items():
        docstring = inspect.getdoc(importlib.import_module(f"tinygrad_opt.rules.{name}"))
        lines += ["", f"## {FAMILIES[name]}", "", docstring]
        for section in sections:
            title, _, rest = section.title.partition(": ")
            lines += ["", f"### {title}"] if title else []
            lines += ["", f"{rest[0].upper()}{rest[1:]}."] if rest else []
            for entry in section.entries:
                lines += ["", *shown(entry, places)]
    return "\n".join(lines) + "\n"


def shown(entry, places):
    """An entry in Markdown: its names with the code beside them, and links to what the code uses."""
    names = [name for function in entry.functions for name in all_names(function)]
    code = ["```python", *"\n\n".join(filter(None, entry.code)).splitlines(), "```"]
    if code[1].startswith("NON_DIFFERENTIABLE.update"):
        constant = sorted((name for f in NON_DIFFERENTIABLE for name in all_names(f)), key=str.lower)
        return [", ".join(f"`{name}`" for name in constant) + "."]
    if not names and not entry.name:
        return code
    term = " ".join(f"`{name}`{{#{anchor(name)}}}" for name in names or [entry.name])
    uses = [f"[`{f.__name__}`](#{places[f.__module__, f.__name__]})" for f in entry.uses]
    definition = [*code, "", f"With {', '.join(uses)}."] if uses else code
    first, *following = definition
    return [term if names else f"*helper* {term}", f": {first}", *(f"  {line}" if line else "" for line in following)]
