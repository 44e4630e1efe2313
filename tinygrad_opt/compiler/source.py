"""Source: a Program as the Python code that a person would have written, with memory that every call uses again.

The code is one function, ``bind``. It is called with the arrays of the parameters; it makes the memory, and all views
of both, and returns two functions that use them: ``forward`` and ``backward``. What is handed out, the outputs and the
gradients, is in fresh arrays, so nothing that a user has is ever written over.
"""

from __future__ import annotations

import itertools
import keyword
import linecache
import math
import re
import unicodedata
import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tinygrad_opt.compiler.program import Call, Function, Program, Value, values_in
from tinygrad_opt.rules import elementwise, network, shaping
from tinygrad_opt.rules.registry import name_of

Bind = Callable[..., tuple[Callable[..., Any], Callable[..., Any]]]

ALWAYS_VIEWS = {np.transpose, np.swapaxes, np.moveaxis, np.expand_dims, np.squeeze, np.broadcast_to}
VIEWS_OF_MEMORY = {np.reshape, np.ravel}  # of memory that lies in order, as ours does
WRITTEN_INTO = {np.dot, np.concatenate, np.clip}  # besides ufuncs and their reductions: functions with out=
LARGE = 65_536  # bytes: a constant that is larger is made where it is used, which costs less than to hold it
NEVER = math.inf


class Memory:
    """Where the results of calls lie: which share one array, since they are not needed at the same time.

    ``place[value]`` is the number of an array, ``arrays[number]`` its (shape, dtype, order).
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.place: dict[Value, int] = {}
        self.arrays: list[tuple[tuple[int, ...], np.dtype[Any], str]] = []
        self.roots: dict[Value, set[Value]] = {value: {value} for value in program.known}  # whose memory it is in
        for call in program.calls:
            shared = set().union(*(self.roots[x] for x in call.shares))
            self.roots.update((value, shared or {value}) for value in call.results)
        self.handed_out = self._handed_out()
        self.last = self._last_uses()
        self._assign()

    @property
    def bytes(self) -> int:
        """The size of all arrays together."""
        return sum(math.prod(shape) * dtype.itemsize for shape, dtype, _ in self.arrays)

    def _handed_out(self) -> set[Value]:
        """The Values that are given to the user as they are: each in memory of its own, made by a call."""
        known, found = self.program.known, set[Value]()
        for value in self.program.wanted:
            if isinstance(value, Value) and self.roots[value] == {value} and value not in known:
                found.add(value)
        return found

    def _last_uses(self) -> dict[Value, float]:
        """For each memory, by the Value that it belongs to, the number of the last call that reads it.

        What the forward pass leaves for the backward pass is needed for ever: the way back can be gone twice.
        """
        last: dict[Value, float] = {}
        forward = {value for call in self.program.calls if not call.backward for value in call.results}
        for number, call in enumerate(self.program.calls):
            for value in call.results:
                last.setdefault(value, number)
            for operand in call.operands:
                for root in self.roots[operand]:
                    kept = call.backward and root in forward
                    last[root] = max(last.get(root, 0), NEVER if kept else number)
        for value in values_in(self.program.wanted):
            last.update(dict.fromkeys(self.roots[value], NEVER))
        return last

    def _assign(self) -> None:
        free: dict[Any, list[int]] = {}
        holds: dict[int, Value] = {}  # array -> the Value that it holds just now
        for number, call in enumerate(self.program.calls):
            value = call.result
            if isinstance(value, Value) and self._written_into_memory(call):
                kind = value.shape, value.dtype, value.order
                place = self._in_place(call, number, holds, kind)
                if place is None and free.get(kind):
                    place = free[kind].pop()
                elif place is None:
                    place = len(self.arrays)
                    self.arrays.append(kind)  # type: ignore[arg-type]
                self.place[value], holds[place] = place, value
            for place, held in list(holds.items()):
                if self.last[held] <= number:
                    del holds[place]
                    free.setdefault(self.arrays[place], []).append(place)

    def _written_into_memory(self, call: Call) -> bool:
        """Whether the function can write its result into an array that is there."""
        value, function = call.result, call.function
        if value.shape == () or value.order is None or value in self.handed_out or call.shares:
            return False
        if isinstance(function, np.ufunc):
            return function.nout == 1
        if function is np.dot:
            return bool(value.order == "C")
        if function is np.concatenate and "dtype" in call.kwargs:
            return False
        return function in WRITTEN_INTO or isinstance(getattr(function, "__self__", None), np.ufunc)

    def _in_place(self, call: Call, number: int, holds: dict[int, Value], kind: Any) -> int | None:
        """The array of an operand that is read for the last time: an elementwise result can take its place."""
        if isinstance(call.function, np.ufunc) and not call.function.signature:
            for operand in call.operands:
                place = self.place.get(operand)
                if place is None or holds.get(place) is not operand or self.last[operand] != number:
                    continue
                if self.arrays[place] == kind:
                    return place
        return None


class Writer:
    """Writes the code of a program: names first, then line by line."""

    def __init__(self, program: Program, title: str) -> None:
        self.program = program
        self.title = title
        self.memory = Memory(program)
        self.namespace: dict[str, Any] = {"np": np, "inf": math.inf, "nan": math.nan}
        self.constants: dict[Any, str] = {}  # by id, or by the code that makes it
        self.made: list[str] = []  # lines that make constants
        self.names: dict[Value, str] = {}
        self.taken = {*keyword.kwlist, *keyword.softkwlist, "np", "bind", "forward", "backward", "inf", "nan"}
        self.taken.update(self.array(place) for place in range(len(self.memory.arrays)))
        for call in program.calls:  # functions have the names that are theirs
            if call.function not in SPELLED:
                self.function(call.function)
        self.hoisted = self._hoisted()
        self._name_values()

    # Names ------------------------------------------------------------------------------------------------------------

    def _name_values(self) -> None:
        """A name for every Value: where several would have the same, they are numbered."""
        calls = self.program.calls
        values: list[Value] = [*self.program.bound, *self.program.inputs, *self.program.seeds]
        values += [value for call in calls for value in call.results]
        count = Counter((value.name, value.of) for value in values)
        for value in values:
            stem = value.name if value.of is None else value.name.format(self.names.get(value.of, "x"))
            several = count[value.name, value.of] > 1
            self.names[value] = self._fresh(identifier(stem), numbered=several)

    def _fresh(self, stem: str, numbered: bool) -> str:
        """A name that nothing has yet: the stem, with a number where there are several."""
        numbers = (f"{stem}{number}" for number in itertools.count(1))
        name = next(name for name in itertools.chain([] if numbered else [stem], numbers) if name not in self.taken)
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
            items = ", ".join(map(self.text, operand))
            if isinstance(operand, list):
                return f"[{items}]"
            return f"({items},)" if len(operand) == 1 else f"({items})"
        if isinstance(operand, slice):
            return f"slice({operand.start}, {operand.stop}, {operand.step})"
        if operand is None or operand is Ellipsis or type(operand) in (bool, int, float, str):
            return "..." if operand is Ellipsis else repr(operand)
        if isinstance(operand, np.generic):
            return repr(operand) if np.isfinite(operand) else self._constant("constant", operand)
        return self._constant(getattr(operand, "__name__", type(operand).__name__), operand)

    def _array(self, array: Any) -> str:
        """A constant array: one that is the same number everywhere is written down."""
        flat = array.ravel()
        if not array.size or array.dtype.kind not in "fiub" or not (flat == flat[0]).all():
            return self._constant("constant", array)
        dtype, first = self.text(array.dtype), flat[0].item()
        if array.shape == ():
            return self._constant("constant", array, f"np.array({first!r}, {dtype})")
        maker = {0: "zeros", 1: "ones"}.get(first, "full")
        inner = f"{array.shape}, {dtype}" if maker != "full" else f"{array.shape}, {first!r}, {dtype}"
        code = f"np.{maker}({inner})"
        return code if array.nbytes > LARGE else self._constant(maker, array, code)

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
        """The views that are made once: those of bound arrays and of memory."""
        fixed = {*self.program.bound, *self.memory.place}
        hoisted = set()
        for call in self.program.calls:
            view = call.function in ALWAYS_VIEWS or (call.function is shaping.getitem and is_basic(call.args[1]))
            operands = list(call.operands)
            if call.function in VIEWS_OF_MEMORY and call.shares:
                view = not any(root in self.program.known for x in operands for root in self.memory.roots[x])
            if view and isinstance(call.result, Value) and call.result.shape and fixed.issuperset(operands):
                hoisted.add(call.result)
                fixed.add(call.result)
        return hoisted

    def line(self, call: Call) -> str:
        """A call as an assignment."""
        place = self.memory.place.get(call.result) if isinstance(call.result, Value) else None
        right = self.expression(call, None if place is None else self.array(place))
        left = ", ".join(self.names[value] for value in call.results)
        if isinstance(call.result, tuple) and len(call.result) == 1:
            left += ","
        return f"{left} = {right}" if left else right

    def array(self, place: int) -> str:
        """The name of an array of our memory."""
        return f"memory{place + 1}"

    def expression(self, call: Call, out: str | None) -> str:
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
                inner = [*map(self.text, args[1:]), *([out] if out else [])]
                return f"{x}.{METHODS[function]}({', '.join(inner)})"
        number = isinstance(call.result, Value) and call.result.shape == () and call.result.dtype.kind == "f"
        if function in OPERATORS and number and not call.kwargs:
            return OPERATORS[function].format(*map(self.text, args))  # of numbers, a tenth of the time
        given = [*map(self.text, args), *(f"{name}={self.text(value)}" for name, value in call.kwargs.items())]
        if out:
            given.append(f"out={out}")
        return f"{self.function(function)}({', '.join(given)})"

    def index(self, index: Any) -> str:
        """What stands between the brackets."""

        def part(index: Any) -> str:
            if not isinstance(index, slice):
                return self.text(index)
            ends = ["" if n is None else repr(n) for n in (index.start, index.stop)]
            return ":".join(ends) + (f":{index.step}" if index.step is not None else "")

        if isinstance(index, tuple) and index:
            return ", ".join(map(part, index)) + ("," if len(index) == 1 else "")
        return part(index)

    def handed(self, value: Any, given: set[Value]) -> str:
        """Something that comes out: as it is where that is memory of its own, and otherwise as a copy."""
        if isinstance(value, Value) and value in self.memory.handed_out and value not in given:
            given.add(value)
            return self.names[value]
        return f"np.array({self.text(value)})"

    # The code ---------------------------------------------------------------------------------------------------------

    def source(self) -> str:
        """All of it."""
        forward = [call for call in self.program.calls if not call.backward]
        backward = [call for call in self.program.calls if call.backward]
        bound = ", ".join(self.names[value] for value in self.program.bound)
        given: set[Value] = set()
        outputs = [self.handed(value, given) for value in self.program.outputs + self.program.updates]
        gradients = [self.handed(value, given) for value in self.program.gradients]
        saved = self._saved(forward, backward)
        once = self._memory_and_views()
        first = self._body(forward)
        body = [
            f"def bind({bound}):",
            *(["    # Memory, and views of it and of the parameters: made once.", *once, ""] if once else []),
            f"    def forward({', '.join(self.names[value] for value in self.program.inputs)}):",
            *first,
            f"        return ({''.join(f'{output}, ' for output in outputs).strip()}), {self.text(tuple(saved))}",
            "",
            f"    def backward({', '.join(self.names[value] for value in [*self.program.seeds, *saved])}):",
            *self._body(backward),
            f"        return {', '.join(gradients)}" + ("," if len(gradients) == 1 else ""),
            "",
            "    return forward, backward",
        ]
        made = [*self.made, "", ""] if self.made else []
        return "\n".join([f"# {self.title}", "", *made, *body, ""])

    def _memory_and_views(self) -> list[str]:
        lines = []
        for place, (shape, dtype, order) in enumerate(self.memory.arrays):
            fortran = ', order="F"' if order == "F" else ""
            lines.append(f"    {self.array(place)} = np.empty({shape}, {self.text(dtype)}{fortran})")
        names = dict(self.names)
        self.names.update({value: self.array(place) for value, place in self.memory.place.items()})
        lines += [f"    {self.line(call)}" for call in self.program.calls if call.result in self.hoisted]
        self.names = names
        return lines

    def _body(self, calls: Iterable[Call]) -> list[str]:
        return [f"        {self.line(call)}" for call in calls if call.result not in self.hoisted]

    def _saved(self, forward: list[Call], backward: list[Call]) -> list[Value]:
        """What the forward pass leaves for the backward pass, besides what was made once."""
        there = {*self.program.inputs, *(value for call in forward for value in call.results)} - self.hoisted
        used = (x for call in backward if call.result not in self.hoisted for x in call.operands)
        handed = values_in(self.program.gradients)
        return [value for value in dict.fromkeys((*used, *handed)) if value in there]

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
OPERATORS = {
    np.add: "{} + {}",
    np.subtract: "{} - {}",
    np.multiply: "{} * {}",
    np.divide: "{} / {}",
    np.negative: "-{}",
}
SPELLED = {*SPELLED_AS_RESHAPE, *METHODS, np.transpose, shaping.getitem, network.pick}


def identifier(name: str) -> str:
    """A name for the code: ``0.weight`` becomes ``layer0_weight``."""
    name = re.sub(r"\W+", "_", unicodedata.normalize("NFKC", name)).strip("_")
    name = f"layer{name}" if name[:1].isdigit() else name
    return name if name.isidentifier() else "x"


def is_plain(call: Call) -> bool:
    """Whether a call that changes the shape keeps the order of the elements, and copies only where it must."""
    orders = [*(arg for arg in call.args if isinstance(arg, str)), call.kwargs.get("order", "C")]
    return set(orders) == {"C"} and not call.kwargs.get("copy")


def is_basic(index: Any) -> bool:
    """Whether an index makes a view: of whole numbers, slices, None and Ellipsis only."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        part is None or part is Ellipsis or (isinstance(part, (int, np.integer, slice)) and not isinstance(part, bool))
        for part in parts
    )
