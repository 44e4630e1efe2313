"""tg.compile: trace a function (`trace.py`) into a Program (`program.py`), shorten it (`passes.py`), write it as Python
code (`source.py`), and run that in its place (`step.py`), for as long as it is right (`watch.py`, `guards.py`).
"""

from tinygrad_opt.compiler.step import CompiledFunction, Report, compile

__all__ = ["CompiledFunction", "Report", "compile"]
