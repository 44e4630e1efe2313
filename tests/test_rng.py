"""The library's random generator: its state goes out and in, and what is no state is refused."""

import numpy as np
import pytest

import tinygrad_opt as tg
from tinygrad_opt import StateDictError, nn
from tinygrad_opt.rng import restore


def draw():
    return nn.Linear(3, 3).weight.data.copy()


def test_the_same_numbers_follow_the_same_state():
    draw()
    state = tg.get_rng_state()
    first, second = draw(), draw()
    tg.manual_seed(9)
    tg.set_rng_state(state)
    np.testing.assert_array_equal(draw(), first)
    np.testing.assert_array_equal(draw(), second)
    assert state != tg.get_rng_state()


def test_a_half_used_word_is_part_of_the_state():
    generator = tg.manual_seed(0)
    generator.integers(10, dtype=np.uint32)
    state = tg.get_rng_state()
    assert state["has_uint32"] == 1
    first = generator.integers(2**32, size=3, dtype=np.uint32)
    tg.set_rng_state(state)
    np.testing.assert_array_equal(generator.integers(2**32, size=3, dtype=np.uint32), first)


PCG64, MT19937, PHILOX = (bits(0).state for bits in (np.random.PCG64, np.random.MT19937, np.random.Philox))
NO_STATES = {
    "nothing": None,
    "a seed": 0,
    "empty": {},
    "another kind": MT19937,
    "half of it": {"bit_generator": "PCG64"},
    "more than it": {**PCG64, "seed": 0},
    "negative": {**PCG64, "state": {"state": -1, "inc": 1}},
    "too large": {**PCG64, "state": {"state": 2**128, "inc": 1}},
    "rounded": {**PCG64, "state": {"state": float(PCG64["state"]["state"]), "inc": PCG64["state"]["inc"]}},
    "a string": {**PCG64, "state": {"state": "0", "inc": 1}},
    "an array": {**PCG64, "state": np.zeros(2)},
}


@pytest.mark.parametrize("state", NO_STATES.values(), ids=NO_STATES)
def test_what_is_no_state_changes_nothing(state):
    before = tg.get_rng_state()
    with pytest.raises(StateDictError, match=r"of the kind PCG64, nothing was changed.*get_rng_state"):
        tg.set_rng_state(state)
    assert tg.get_rng_state() == before


@pytest.mark.parametrize(
    ("bits", "state"),
    [
        (np.random.MT19937, {**MT19937, "state": {**MT19937["state"], "pos": 10**6}}),
        (np.random.MT19937, {**MT19937, "state": {**MT19937["state"], "pos": -1}}),
        (np.random.MT19937, {**MT19937, "state": {**MT19937["state"], "key": np.zeros(3, np.uint32)}}),
        (np.random.Philox, {**PHILOX, "buffer_pos": -1}),
        (np.random.Philox, {**PHILOX, "buffer": np.zeros(9, np.uint64)}),
    ],
    ids=["after the key", "before the key", "short key", "before the buffer", "long buffer"],
)
def test_a_state_that_points_outside_of_its_own_memory_is_refused(bits, state):
    generator = np.random.Generator(bits(1))
    before = generator.bit_generator.state
    with pytest.raises(StateDictError):
        restore(generator, state)
    np.testing.assert_equal(generator.bit_generator.state, before)
