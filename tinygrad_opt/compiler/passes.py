"""Passes: each makes a Program shorter without changing what it computes. All are short walks over its calls.

They are correct for the reason that is given in `program.py`: no Value ever changes. `simplify` runs them in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_opt.compiler.program import Call, Program, Value, replaced, values_in
from tinygrad_opt.rules import elementwise

COPIES = {np.positive, np.copy, np.conjugate, np.real, elementwise.astype, np.ascontiguousarray}
SHAPES = {np.reshape, np.ravel, np.squeeze, np.expand_dims, np.broadcast_to, np.swapaxes, np.moveaxis, np.transpose}


def simplify(program: Program) -> None:
    """Run all passes, and note in ``program.history`` how many calls each left."""
    program.history["traced"] = len(program.calls)
    for name, run in PASSES.items():
        run(program)
        program.history[name] = len(program.calls)


def rewrite(program: Program, simplifier: Callable[[Call], Any]) -> None:
    """Ask ``simplifier`` for each call in turn what takes the place of its result; None says that the call stays."""
    instead: dict[Value, Any] = {}

    def new(leaf: Any) -> Any:
        return instead.get(leaf, leaf) if isinstance(leaf, Value) else leaf

    kept = []
    for call in program.calls:
        call.args, call.kwargs = replaced((call.args, call.kwargs), new)
        call.shares = [value for value in map(new, call.shares) if isinstance(value, Value)]
        for value in call.results:
            value.of = value.of and (new(value.of) if isinstance(new(value.of), Value) else None)
        simpler = simplifier(call)
        if simpler is None:
            kept.append(call)
        else:
            instead.update(zip(call.results, simpler if isinstance(call.result, tuple) else (simpler,), strict=True))
    program.calls = kept
    for values in (program.outputs, program.updates, program.gradients):
        values[:] = map(new, values)


# The passes ----------------------------------------------------------------------------------------------------------


def fold_constants(program: Program) -> None:
    """A call of nothing but constants is made now."""

    def fold(call: Call) -> Any:
        return call.function(*call.args, **call.kwargs) if call.pure and not call.operands else None

    rewrite(program, fold)


def clean_up(program: Program) -> None:
    """x + 0, x · 1, x / 1, copies, transposes of transposes, shapes that stay, and repeating what broadcasts itself."""
    makers: dict[Value, Call] = {}

    def clean(call: Call) -> Any:
        if not isinstance(call.result, Value):
            return None
        _broadcast_by_itself(call, makers)
        makers[call.result] = call
        simpler = _neutral(call) if call.function in NEUTRAL else _same_array(call, makers)
        return simpler if isinstance(simpler, Value) and simpler.kind == call.result.kind else None

    rewrite(program, clean)


def merge_equal_calls(program: Program) -> None:
    """A call that was made before with the same arguments has the same result."""
    seen: dict[Any, Any] = {}

    def merge(call: Call) -> Any:
        key = call.function, _key(call.args), _key(call.kwargs)
        first = seen.setdefault(key, call.result) if call.pure else call.result
        return first if first is not call.result else None

    rewrite(program, merge)


def drop_unused(program: Program) -> None:
    """A call stays only if its result is used, or if it does something besides: draws random numbers, or checks."""
    wanted = set(values_in(program.wanted))
    kept = []
    for call in reversed(program.calls):
        if not call.pure or not wanted.isdisjoint(call.results):
            wanted.update(call.operands)
            kept.append(call)
    program.calls = kept[::-1]
    program.bound = {value: tensor for value, tensor in program.bound.items() if value in wanted}


PASSES: dict[str, Callable[[Program], None]] = {
    "algebraic clean-up": clean_up,
    "constant folding": fold_constants,
    "common subexpressions": merge_equal_calls,
    "dead code": drop_unused,
}

# What they ask --------------------------------------------------------------------------------------------------------

# By position, left or right: the operand that leaves the other as it is.
NEUTRAL: dict[Any, dict[int, int]] = {np.add: {0: 0, 1: 0}, np.subtract: {1: 0}}
NEUTRAL |= {np.multiply: {0: 1, 1: 1}, np.divide: {1: 1}, np.power: {1: 1}}


def _neutral(call: Call) -> Any:
    """The other operand, where one is neutral."""
    if len(call.args) == 2 and not call.kwargs:
        for position, number in NEUTRAL[call.function].items():
            if _is_all(call.args[position], number):
                return call.args[1 - position]
    return None


def _is_all(operand: Any, number: float) -> bool:
    """Whether an operand is a constant, a number or an array, that is ``number`` everywhere."""
    return isinstance(operand, (int, float, np.generic, np.ndarray)) and bool(np.all(np.equal(operand, number)))


def _same_array(call: Call, makers: dict[Value, Call]) -> Any:
    """The operand of a call that only copies it; or what calls of SHAPES start from that move no element in the end."""
    if call.function in COPIES:
        return call.args[0] if call.args else None
    chain: list[Call] = []
    last: Call | None = call
    while last is not None and last.function in SHAPES and last.operands == [*last.args[:1]]:
        chain.insert(0, last)
        if last.args[0].contiguous:  # else it may be far larger than its memory
            start = moved = np.empty(last.args[0].shape, np.int8)  # never read: it tells where each element lies
            start.flags.writeable = False
            for each in chain:
                moved = each.function(moved, *each.args[1:], **each.kwargs)
            if moved.__array_interface__ == start.__array_interface__:
                return last.args[0]
        last = makers.get(last.args[0])
    return None


def _broadcast_by_itself(call: Call, makers: dict[Value, Call]) -> None:
    """Give a ufunc the array that was repeated, where another operand has the shape of the result."""
    if isinstance(call.function, np.ufunc) and not call.function.signature and not call.kwargs:
        for position, operand in enumerate(call.args):
            maker = makers.get(operand) if isinstance(operand, Value) else None
            if maker is not None and maker.function is np.broadcast_to and maker.args:
                args = (*call.args[:position], maker.args[0], *call.args[position + 1 :])
                if np.broadcast_shapes(*map(np.shape, args)) == call.result.shape:
                    call.args = args


def _key(tree: Any) -> Any:
    """What two arguments have in common when they are equal: Values by identity, constants by type and value."""
    if isinstance(tree, (tuple, list)):
        return type(tree), tuple(map(_key, tree))
    if isinstance(tree, dict):
        return _key(sorted(tree.items()))
    if isinstance(tree, np.ndarray) and tree.size <= 100_000:
        return tree.shape, tree.dtype, tree.tobytes()
    if isinstance(tree, (int, float, str, bool, np.generic, np.dtype, slice, type(None))):
        return type(tree), repr(tree)
    return id(tree)
