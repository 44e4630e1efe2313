"""Cases of the rules in `rules/linalg.py`."""

import numpy as np

from tests.rules.cases.table import case, draw

FIXED = draw("fixed", (2, 3))
for a, b in [
    ((2, 3), (3, 4)), ((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)),
    ((2, 2, 3), (2, 3, 2)), ((2, 1, 2, 3), (3, 3, 2)), ((3,), (2, 3, 4)), ((2, 2, 3), (3,)), ((1, 2, 3), (3, 3, 2)),
    ((0, 3), (3, 2)), ((2, 0), (0, 2)),
]:  # fmt: skip
    case(np.matmul, f"{a} {b}", np.matmul, a, b)
for a, b in [
    ((), ()), ((), (2, 3)), ((2, 3), ()), ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)),
    ((2, 2, 3), (3,)), ((2, 2, 3), (3, 2)), ((3,), (2, 3, 2)), ((2, 3), (2, 3, 2)), ((2, 2, 3), (2, 3, 2)),
    ((2, 0), (0, 2)), ((0, 3), (3,)),
]:  # fmt: skip
    case(np.dot, f"{a} {b}", np.dot, a, b)
for function in (np.matmul, np.dot):
    case(function, "array on the left", lambda y, f=function: f(FIXED, y), (3, 2))
    case(function, "array on the right", lambda x, f=function: f(x, FIXED), (4, 2))
