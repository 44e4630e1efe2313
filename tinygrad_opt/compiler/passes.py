"""Passes: each makes a Program shorter without changing what it computes. All are short walks over its calls.

They are correct for the reason that is given in `program.py`: no Value ever changes. `simplify` runs them in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_opt.compiler.program import Call, Program, Value, replaced, values_in
from tinygrad_opt.rules import elementwise

Simplifier = Callable[[Call], Any]  # what takes the place of a call's result, or None: the call stays

COPIES = {np.positive, np.copy, np.conjugate, np.real, elementwise.astype, np.ascontiguousarray}
SHAPES = {np.reshape, np.ravel, np.squeeze, np.expand_dims, np.broadcast_to, np.swapaxes, np.moveaxis, np.transpose}


def simplify(program: Program) -> None:
    """Run all passes, and note in ``program.history`` how many calls each left."""
    program.history["traced"] = len(program.calls)
    for name, run in PASSES.items():
        run(program)
        program.history[name] = len(program.calls)


def rewrite(program: Program, simplifier: Simplifier) -> None:
    """Ask ``simplifier`` for each call in turn whether something known can take its place."""
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
    program.outputs, program.updates, program.gradients = replaced(
        [program.outputs, program.updates, program.gradients], new
    )


# The passes ----------------------------------------------------------------------------------------------------------


def fold_constants(program: Program) -> None:
    """A call of nothing but constants is made now."""

    def fold(call: Call) -> Any:
        if not call.pure or call.operands:
            return None
        return call.function(*call.args, **call.kwargs)

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
        return simpler if _looks_like(simpler, call.result) else None

    rewrite(program, clean)


def merge_equal_calls(program: Program) -> None:
    """A call that was made before with the same arguments has the same result."""
    seen: dict[Any, Any] = {}

    def merge(call: Call) -> Any:
        if not call.pure:
            return None
        key = (call.function, _key(call.args), _key(call.kwargs))
        if key in seen:
            return seen[key]
        seen[key] = call.result
        return None

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

NEUTRAL: dict[Any, tuple[float | None, float | None]] = {  # the operand, left or right, that leaves the other as it is
    np.add: (0, 0),
    np.subtract: (None, 0),
    np.multiply: (1, 1),
    np.divide: (None, 1),
    np.power: (None, 1),
}


def _neutral(call: Call) -> Any:
    """The other operand, where one is neutral."""
    if len(call.args) != 2 or call.kwargs:
        return None
    for operand, other, neutral in zip(call.args, call.args[::-1], NEUTRAL[call.function], strict=True):
        if neutral is not None and _is_all(operand, neutral):
            return other
    return None


def _is_all(operand: Any, number: float) -> bool:
    """Whether an operand is a constant, a number or an array, that is ``number`` everywhere."""
    return isinstance(operand, (int, float, np.generic, np.ndarray)) and bool(np.all(np.equal(operand, number)))


def _same_array(call: Call, makers: dict[Value, Call]) -> Any:
    """The operand of a call that only copies it, or gives it the shape that it has; the inner one of two transposes."""
    x = call.args[0] if call.args else None
    if call.function in COPIES:
        return x
    if not isinstance(x, Value) or call.function not in SHAPES:
        return None
    maker = makers.get(x)
    if maker is not None and call.function is maker.function is np.transpose and len(call.args[1:]) < 2:
        first, second = _axes(maker), _axes(call)
        if [first[a] for a in second] == sorted(first):
            return maker.args[0]
    moves = call.function in (np.swapaxes, np.moveaxis, np.transpose)
    return x if x.shape == call.result.shape and not (moves and len(x.shape) > 1) else None


def _axes(call: Call) -> list[int]:
    """The permutation of a transpose."""
    axes = call.args[1] if len(call.args) > 1 else call.kwargs.get("axes")
    ndim = len(call.result.shape)
    return [int(a) % ndim for a in (range(ndim)[::-1] if axes is None else axes)]


def _looks_like(operand: Any, result: Any) -> bool:
    """Whether an operand has the shape, dtype and order of the result that it should take the place of."""
    if not isinstance(operand, (Value, np.ndarray)) or operand.shape != result.shape or operand.dtype != result.dtype:
        return False
    return not isinstance(operand, Value) or operand.order == result.order


def _broadcast_by_itself(call: Call, makers: dict[Value, Call]) -> None:
    """Give a ufunc the array that was repeated, where another operand has the shape of the result."""
    if not isinstance(call.function, np.ufunc) or call.function.signature or call.kwargs:
        return
    full = [isinstance(a, (Value, np.ndarray)) and a.shape == call.result.shape for a in call.args]
    for position, operand in enumerate(call.args):
        maker = makers.get(operand) if isinstance(operand, Value) else None
        others = full[:position] + full[position + 1 :]
        if maker is not None and maker.function is np.broadcast_to and any(others):
            call.args = (*call.args[:position], maker.args[0], *call.args[position + 1 :])
            full[position] = False


def _key(tree: Any) -> Any:
    """What two arguments have in common when they are equal: Values by identity, constants by type and value."""
    if isinstance(tree, (tuple, list)):
        return type(tree), tuple(map(_key, tree))
    if isinstance(tree, dict):
        return tuple((name, _key(value)) for name, value in sorted(tree.items()))
    if isinstance(tree, slice):
        return slice, tree.start, tree.stop, tree.step
    if isinstance(tree, np.ndarray) and tree.size <= 100_000:
        return tree.shape, tree.dtype, tree.tobytes()
    if isinstance(tree, (int, float, str, bool, np.generic, np.dtype, type(None))):
        return type(tree), repr(tree)
    return id(tree)
