"""Source: a Program as the Python code that a person would have written.

The code is one function, ``bind``. It is called with the arrays of the parameters, makes the views of them that are
needed, and returns two functions: ``forward`` and ``backward``. A result is written into the array of one that nobody
reads any more, where there is such an array. What is handed out, the outputs and the gradients, is never written over.
"""

from __future__ import annotations

import itertools
import keyword
import linecache
import math
import re
import unicodedata
import weakref
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_opt.compiler.program import Call, Function, Program, Value, values_in
from tinygrad_opt.rules import elementwise, network, shaping
from tinygrad_opt.rules.registry import name_of

Bind = Callable[..., tuple[Callable[..., Any], Callable[..., Any]]]

VIEWS = {np.transpose, np.swapaxes, np.moveaxis, np.expand_dims, np.squeeze, np.broadcast_to, shaping.getitem}
NO_VIEWS = {np.dot, np.where, np.concatenate, np.clip, elementwise.astype, network.pick}  # nor are ufuncs
LARGE = 16_384  # bytes: arrays that are larger are held no longer than they are needed, which costs a little time
LARGEST_CONSTANT = 65_536  # bytes: larger ones, such as the zeros of relu, are made where they are used
NEVER = math.inf
OWN_NAMES = ("np", "bind", "forward", "backward", "saved", "slice", "inf", "nan")  # what the code calls so itself


class Memory:
    """Which results are written into the array of another Value, and which large ones are given back before the end.

    ``into[value]`` is the Value whose array it is written into; ``gone[call]`` are the Values that nobody reads after
    that call: what has no name any more is given back. Forward and backward are looked at separately,
    for the way back can be gone twice: it writes into no array of the forward pass.
    """

    def __init__(self, program: Program) -> None:
        self.known = program.known
        self.roots: dict[Value, set[Value]] = {value: {value} for value in self.known}  # whose array it is in
        self.arrays_of: dict[Call, list[Value]] = {}  # the arrays that a call reads and makes, each by its root
        self.last: dict[Value, float] = {}  # of each array, by its root, the number of the last call that reads it
        for number, call in enumerate(program.calls):
            shared = set().union(*(self.roots[x] for x in call.shares))
            self.roots.update((value, shared or {value}) for value in call.results)
            self.arrays_of[call] = [root for x in (*call.operands, *call.results) for root in self.roots[x]]
            self.last.update(dict.fromkeys(self.arrays_of[call], number))
        self.last.update((root, NEVER) for value in values_in(program.wanted) for root in self.roots[value])
        # What others than these read, such as a reshape, may live on in a view, or not: as it lies in memory.
        readers = [call for call in program.calls if call.function not in VIEWS and not makes_array(call.function)]
        self.pinned = {root for call in readers for x in call.operands for root in self.roots[x]}
        self.into: dict[Value, Value] = {}
        self.gone: dict[Call, list[Value]] = {}
        for backward in (False, True):
            calls = [(n, call) for n, call in enumerate(program.calls) if call.backward is backward]
            self._take_over(calls)
            self._give_back(calls)

    @property
    def arrays(self) -> list[Value]:
        """The Values, one for each array, whose arrays a step makes."""
        own = [value for value, roots in self.roots.items() if roots == {value} and value not in self.known]
        return [value for value in own if value.shape and value not in self.into]

    def _take_over(self, calls: list[tuple[int, Call]]) -> None:
        """Find what is written into the array of another."""
        ours: set[Value] = set()  # arrays that may be written over when nobody reads them any more,
        free: dict[Any, list[Value]] = {}  # and those that nobody reads any more
        for number, call in calls:
            result = call.result
            if is_elementwise(call) and result.shape:
                operands = reversed(call.operands)  # the first of them is taken before others
                dying = [x for x in operands if x in ours and self.last[x] == number and x.kind == result.kind]
                candidates = dying or free.get(result.kind)
                if candidates:
                    self.into[result] = taken = candidates.pop()
                    ours.discard(taken)
            if makes_array(call.function):
                ours.update(value for value in call.results if value not in self.pinned)
            for root in dict.fromkeys(self.arrays_of[call]):
                if root in ours and self.last[root] == number and root.nbytes <= LARGE:
                    free.setdefault(root.kind, []).append(root)

    def _give_back(self, calls: list[tuple[int, Call]]) -> None:
        """Find the names of large arrays that nobody reads any more."""
        for value, taken in reversed(self.into.items()):
            self.last[taken] = self.last[value]  # the array lives as long as the last that is written into it
        by_number: dict[float, Call] = dict(calls)
        for value in dict.fromkeys(x for _, call in calls for x in (*call.operands, *call.results)):
            roots = [root for root in self.roots[value] if root.nbytes > LARGE and root not in self.known]
            end = by_number.get(min((self.last[root] for root in roots), default=NEVER))
            if end is not None:
                self.gone.setdefault(end, []).append(value)


class Writer:
    """Writes the code of a program: names first, then line by line."""

    def __init__(self, program: Program, title: str) -> None:
        self.program = program
        self.title = re.sub(r"\s+", " ", title)
        self.memory = Memory(program)
        self.namespace: dict[str, Any] = {"np": np, "inf": math.inf, "nan": math.nan}
        self.constants: dict[Any, str] = {}  # by id, or by the code that makes it
        self.made: list[str] = []  # lines that make constants
        self.names: dict[Value, str] = {}
        self.numbers: Any = defaultdict(lambda: itertools.count(1))  # those that are left for each stem
        self.taken = {*keyword.kwlist, *keyword.softkwlist, *OWN_NAMES}
        for call in program.calls:  # functions have the names that are theirs
            if call.function not in SPELLED:
                self.function(call.function)
        self.makers = {value: call.function for call in program.calls for value in call.results}
        self.hoisted = self._hoisted()
        self._name_values()

    # Names ------------------------------------------------------------------------------------------------------------

    def _name_values(self) -> None:
        """A name for every Value: where several would have the same, they are numbered."""
        values = [*self.program.known, *self.makers]
        count = Counter((value.name, value.of) for value in values)
        for value in values:
            stem = value.name if value.of is None else value.name.format(self.names.get(value.of, "x"))
            several = count[value.name, value.of] > 1
            self.names[value] = self._fresh(identifier(stem), numbered=several)

    def _fresh(self, stem: str, numbered: bool) -> str:
        """A name that nothing has yet: the stem, with a number where there are several."""
        names = itertools.chain([] if numbered else [stem], (f"{stem}{number}" for number in self.numbers[stem]))
        name = next(name for name in names if name not in self.taken)
        self.taken.add(name)
        return name

    def _constant(self, stem: str, value: Any, code: str | None = None) -> str:
        """The name of something that the code cannot write down where it is used."""
        key = code or id(value)
        if key not in self.constants:
            name = self._fresh(identifier(stem), numbered=code is not None or stem == "constant")
            self.constants[key] = name
            self.namespace[name] = value
            if code:
                self.made.append(f"{name} = {code}")
            elif isinstance(value, np.ndarray):
                self.made.append(f"# {name} is an array of shape {value.shape} and dtype {value.dtype}")
        return self.constants[key]

    # Operands ---------------------------------------------------------------------------------------------------------

    def text(self, operand: Any) -> str:
        """An argument of a call."""
        if isinstance(operand, Value):
            return self.names[operand]
        if isinstance(operand, np.ndarray):
            return self._array(operand)
        if isinstance(operand, np.dtype):
            return f"np.{operand.name}" if hasattr(np, operand.name) else repr(operand.str)
        if isinstance(operand, (tuple, list)) and not hasattr(operand, "_fields"):
            items = [self.text(item) for item in operand]
            return f"[{', '.join(items)}]" if isinstance(operand, list) else f"({listed(items)})"
        if operand is None or type(operand) in (bool, int, float, str, slice):
            return repr(operand)
        if operand is Ellipsis:
            return "..."
        if isinstance(operand, np.generic):
            return repr(operand) if np.isfinite(operand) else self._constant("constant", operand)
        return self._constant(getattr(operand, "__name__", type(operand).__name__), operand)

    def _array(self, array: Any) -> str:
        """A constant array: one that is the same number everywhere is written down."""
        first = array.ravel()[:1]
        same = array.tobytes() == first.tobytes() * array.size  # not so 0.0 and -0.0
        if not array.size or array.dtype.kind not in "fiub" or not same or str(first.item()) in ("-0.0", "nan"):
            return self._constant("constant", array)
        maker = {0: "zeros", 1: "ones"}.get(first.item(), "full")
        number = f"{first.item()!r}, " if maker == "full" else ""
        code = f"np.{maker}({array.shape}, {number}{self.text(array.dtype)})"
        return code if array.nbytes > LARGEST_CONSTANT else self._constant(maker, array, code)

    def function(self, function: Function) -> str:
        """The name of a function in the code."""
        name = name_of(function)
        found: Any = np
        for part in name.split(".")[1:]:
            found = getattr(found, part, None)
        if name.startswith("np.") and found == function:
            return name
        stem = re.sub(r"\W", "_", function.__name__).strip("_") if function.__name__ != "<lambda>" else "rule"
        plain = function if getattr(function, "prepare", None) else getattr(function, "forward", function)
        return self._constant(stem, plain)

    # Lines ------------------------------------------------------------------------------------------------------------

    def _hoisted(self) -> set[Value]:
        """The views that are made once: those of bound arrays."""
        fixed = set(self.program.bound)
        for call in self.program.calls:
            if call.function in VIEWS and call.shares and fixed.issuperset(call.operands):
                fixed.add(call.result)
        return fixed.difference(self.program.bound)

    def line(self, call: Call) -> str:
        """A call as an assignment."""
        names = [self.names[value] for value in call.results]
        left = listed(names) if isinstance(call.result, tuple) else names[0]
        return f"{left} = {self.expression(call)}" if left else self.expression(call)

    def expression(self, call: Call) -> str:
        """The right side, spelled as people spell it."""
        function, args = call.function, call.args
        if args and isinstance(args[0], (Value, np.ndarray)):
            x = self.text(args[0])
            if function in SPELLED_AS_RESHAPE and is_plain(call):
                return f"{x}.reshape({self.text(call.result.shape)})"
            if function is np.transpose:
                axes = args[1] if len(args) > 1 else call.kwargs.get("axes")
                return f"{x}.T" if axes is None else f"{x}.transpose({self.text(tuple(map(int, axes)))})"
            if function is shaping.getitem or (function is network.pick and len(args[0].shape) == 2):
                return f"{x}[{self.index(args[1])}]"
            if function in METHODS and not call.kwargs and (args[0].shape or function is not np.dot):
                return f"{x}.{METHODS[function]}({', '.join(map(self.text, args[1:]))})"
        number = isinstance(call.result, Value) and call.result.shape == () and call.result.dtype.kind == "f"
        if function in SYMBOLS and number and not call.kwargs:
            return SYMBOLS[function].format(*map(self.text, args))  # of numbers, a tenth of the time
        given = [*map(self.text, args), *(f"{name}={self.text(value)}" for name, value in call.kwargs.items())]
        if call.result in self.memory.into:
            given.append(f"out={self.names[self.memory.into[call.result]]}")
        return f"{self.function(function)}({', '.join(given)})"

    def index(self, index: Any) -> str:
        """What stands between the brackets."""

        def part(index: Any) -> str:
            if not isinstance(index, slice):
                return self.text(index)
            ends = ["" if n is None else self.text(n) for n in (index.start, index.stop, index.step)]
            return ":".join(ends if ends[2] else ends[:2])

        return listed([part(item) for item in index]) if isinstance(index, tuple) and index else part(index)

    def handed(self, value: Any, given: set[Value]) -> str:
        """Something that comes out: as it is where that is an array of its own, and otherwise as a copy."""
        maker = self.makers.get(value) if isinstance(value, Value) else None
        if maker is None or value in given or self.memory.roots[value] != {value}:
            return f"np.array({self.text(value)})"
        given.add(value)
        if makes_array(maker):
            return self.names[value]
        return f"{self._constant('own', own)}({self.names[value]})"

    # The code ---------------------------------------------------------------------------------------------------------

    def source(self) -> str:
        """All of it."""
        once = [f"    {self.line(call)}" for call in self.program.calls if call.result in self.hoisted]
        calls = [call for call in self.program.calls if call.result not in self.hoisted]
        forward, backward = ([call for call in calls if call.backward is back] for back in (False, True))
        given: set[Value] = set()
        outputs = [self.handed(value, given) for value in self.program.outputs + self.program.updates]
        gradients = [self.handed(value, given) for value in self.program.gradients]
        saved = self._saved(forward, backward)
        names = listed([self.names[value] for value in saved])
        unpacked = [f"        {names} = saved", "        saved.clear()"] if saved else []
        # An index that is an argument may change before the way back; floating-point arguments are the caller's care.
        indices = {value for value in self.program.inputs if value.dtype.kind in "iub"}
        kept = ", ".join(self.names[value] + ".copy()" * (value in indices) for value in saved)
        body = [
            f"def bind({', '.join(self.names[value] for value in self.program.bound)}):",
            *(["    # Views of the parameters: made once.", *once, ""] if once else []),
            f"    def forward({', '.join(self.names[value] for value in self.program.inputs)}):",
            *self._body(forward),
            f"        return ({listed(outputs)}), [{kept}]",
            "",
            f"    def backward({', '.join([*(self.names[value] for value in self.program.seeds), 'saved'])}):",
            *unpacked,
            *self._body(backward),
            f"        return {listed(gradients) or '()'}",
            "",
            "    return forward, backward",
        ]
        made = [*self.made, "", ""] if self.made else []
        return "\n".join([f"# {self.title}", "", *made, *body, ""])

    def _body(self, calls: list[Call]) -> list[str]:
        lines = []
        for call in calls:
            lines.append(f"        {self.line(call)}")
            if call in self.memory.gone and call is not calls[-1]:
                lines.append(f"        del {', '.join(self.names[value] for value in self.memory.gone[call])}")
        return lines

    def _saved(self, forward: list[Call], backward: list[Call]) -> list[Value]:
        """What the forward pass leaves for the backward pass, besides what was made once."""
        there = {*self.program.inputs, *(value for call in forward for value in call.results)}
        used = [x for call in backward for x in call.operands] + values_in(self.program.gradients)
        return [value for value in dict.fromkeys(used) if value in there]

    def compile(self) -> tuple[str, Bind]:
        """The code, and its function ``bind``."""
        source = self.source()
        filename = f"<compiled: {self.title} #{id(self)}>"
        linecache.cache[filename] = len(source), None, source.splitlines(keepends=True), filename
        exec(compile(source, filename, "exec"), self.namespace)
        bind = self.namespace["bind"]
        weakref.finalize(bind, linecache.cache.pop, filename, None)
        return source, bind


SPELLED_AS_RESHAPE = {np.reshape, np.expand_dims, np.squeeze, np.ravel}
METHODS = {np.dot: "dot", elementwise.astype: "astype", np.swapaxes: "swapaxes"}
SYMBOLS = {np.add: "{} + {}", np.subtract: "{} - {}", np.multiply: "{} * {}", np.divide: "{} / {}", np.negative: "-{}"}
SPELLED = {*SPELLED_AS_RESHAPE, *METHODS, np.transpose, shaping.getitem, network.pick}


def listed(items: list[str]) -> str:
    """What a tuple is written as: ``a, b``, and ``a,`` if that is all."""
    return ", ".join(items) + "," * (len(items) == 1)


def own(array: Any) -> Any:
    """An array as it is, or a copy if it is a view."""
    return array if array.base is None else array.copy()


def makes_array(function: Function) -> bool:
    """Whether the result of a function is a new array for certain."""
    return function in NO_VIEWS or isinstance(getattr(function, "__self__", function), np.ufunc)


def is_elementwise(call: Call) -> bool:
    """Whether the result of a call can be written into any array of its shape, also that of an operand."""
    function = call.function
    plain = isinstance(function, np.ufunc) and not function.signature and function.nout == 1
    return plain and "where" not in call.kwargs


def identifier(name: str) -> str:
    """A name for the code: ``0.weight`` becomes ``layer0_weight``."""
    name = re.sub(r"\W+", "_", unicodedata.normalize("NFKC", name)).strip("_")
    name = f"layer{name}" if name[:1].isdigit() else name
    return name if name.isidentifier() else "x"


def is_plain(call: Call) -> bool:
    """Whether a call that changes the shape keeps the order of the elements, and copies only where it must."""
    words = [arg for arg in (*call.args, *call.kwargs.values()) if isinstance(arg, str)]
    return set(words) <= {"C"} and not call.kwargs.get("copy")
