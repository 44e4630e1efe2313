"""The exceptions of the library. Nothing is imported here, so every other file may raise them.

Each is also one of Python's own exceptions, so ``except ValueError`` keeps working. A wrong value that
needs no name of its own (a learning rate of -1, an unknown reduction) is a plain ``ValueError``.
"""


class AnomalyError(FloatingPointError):
    """Inside `detect_anomaly`, a call or a gradient rule made a NaN or an infinity."""


class CheckpointError(ValueError):
    """A file is not a checkpoint that can be loaded: damaged, of another kind, or made to do harm."""


class CompileError(TypeError):
    """A function cannot be compiled: what it does depends on a value that is known only when it runs, for example."""


class GradcheckError(AssertionError):
    """A gradient that `gradcheck` looked at is wrong, or has nothing that it could be compared with."""


class GraphError(RuntimeError):
    """The graph cannot do what was asked: it was freed, changed in place, or has no gradient to give."""


class MissingRuleError(TypeError):
    """A NumPy function, or one of its options, has no gradient rule."""


class ShapeError(ValueError):
    """Two shapes that have to agree do not."""


class StateDictError(ValueError):
    """A state dict does not fit the model, the optimizer or whatever else should load it."""
