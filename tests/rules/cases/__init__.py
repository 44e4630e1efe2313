"""The table of test cases, filled: `table.py` says what a case is, and the other files add one for every rule."""

from tests.rules.cases import elementwise, linalg, network, reductions, shaping, windows
from tests.rules.cases.table import CASES, LIBRARY_FUNCTIONS, every_case

__all__ = ["CASES", "LIBRARY_FUNCTIONS", "every_case"]
__all__ += ["elementwise", "linalg", "network", "reductions", "shaping", "windows"]
