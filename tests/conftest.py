"""What all tests share: the default dtype and the random generator are put back after each."""

import sys

import pytest

import tinygrad_opt as tg

collect_ignore = ["benchmarks"]


@pytest.fixture(autouse=True)
def fresh_library_state():
    """Every test starts with the same random numbers, and leaves the default dtype as it was."""
    tg.manual_seed(0)
    dtype = tg.get_default_dtype()
    yield
    tg.set_default_dtype(dtype)


@pytest.fixture
def float32(fresh_library_state):
    """float32 as the default dtype for one test."""
    tg.set_default_dtype("float32")


@pytest.fixture
def busy():
    """Threads take turns as often as they can: what may come between two steps of a thread, soon does."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)
