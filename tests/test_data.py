"""DataLoader: every example once per pass, in batches of the size asked for."""

import numpy as np
import pytest

import tinygrad_opt as tg
from tinygrad_opt import DataLoader, StateDictError, Tensor

X, Y = np.arange(20.0).reshape(10, 2), np.arange(10)


@pytest.mark.parametrize(
    ("batch_size", "drop_last", "sizes"),
    [(1, False, [1] * 10), (4, False, [4, 4, 2]), (4, True, [4, 4]), (5, True, [5, 5]), (10, False, [10]),
     ("all", False, [10]), ("all", True, [10]), (99, False, [10]), (99, True, []), (np.int64(6), False, [6, 4])],
)  # fmt: skip
@pytest.mark.parametrize("shuffle", [False, True])
def test_batches(batch_size, drop_last, sizes, shuffle):
    loader = DataLoader(X, Y, batch_size=batch_size, drop_last=drop_last, shuffle=shuffle)
    batches = list(loader)
    assert [len(x) for x, _ in batches] == [len(y) for _, y in batches] == sizes
    assert len(loader) == len(sizes)
    for x, y in batches:
        np.testing.assert_array_equal(x, X[y])
    seen = [int(i) for _, y in batches for i in y]
    assert len(set(seen)) == len(seen) == sum(sizes)
    if not shuffle:
        assert seen == list(range(sum(sizes)))


def test_the_default_is_one_example_in_order():
    assert [y.tolist() for _, y in DataLoader(X, Y)] == [[i] for i in range(10)]


def test_each_pass_has_a_new_order_that_the_generator_determines():
    def orders(generator, passes=3):
        loader = DataLoader(Y, batch_size=3, shuffle=True, generator=generator)
        return [np.concatenate([y for (y,) in loader]).tolist() for _ in range(passes)]

    first = orders(np.random.default_rng(1))
    assert first == orders(np.random.default_rng(1))
    assert first != orders(np.random.default_rng(2))
    assert len({tuple(order) for order in first}) == 3
    assert all(sorted(order) == Y.tolist() for order in first)
    tg.manual_seed(1)
    assert orders(None) == first


def test_any_number_of_arrays_of_any_kind():
    loader = DataLoader(X, Tensor(Y), Y.tolist(), X[:, :, None], batch_size=4)
    for a, b, c, d in loader:
        assert {type(a), type(b), type(c), type(d)} == {np.ndarray}
        np.testing.assert_array_equal(b, c)
        np.testing.assert_array_equal(a[:, :, None], d)
    assert all(len(batch) == 1 for batch in DataLoader(Y, batch_size=5))


def test_empty_data_have_no_batches():
    for batch_size in (1, "all"):
        loader = DataLoader(np.zeros((0, 3)), batch_size=batch_size)
        assert len(loader) == 0
        assert list(loader) == []


def test_batches_of_shuffled_data_are_copies():
    data = Y.copy()
    for (batch,) in DataLoader(data, batch_size=4, shuffle=True):
        batch[...] = -1
    np.testing.assert_array_equal(data, Y)


def test_batches_in_order_are_views_that_cannot_change_the_data():
    for (batch,) in tg.DataLoader(X, batch_size=2):
        assert np.shares_memory(batch, X)
        with pytest.raises(ValueError, match="read-only"):
            batch -= 1
    assert X.flags.writeable


def test_repr_says_what_it_goes_through():
    text = repr(DataLoader(X, Y, batch_size=4))
    assert "(10, 2), (10,)" in text
    assert "3 batches of 4" in text


# State ---------------------------------------------------------------------------------------------------------------

BIT_GENERATORS = [np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64]


def make_loader(bits=np.random.PCG64, seed=1, **options):
    generator = None if bits is None else np.random.Generator(bits(seed))
    return DataLoader(Y, **{"batch_size": 3, "shuffle": True, "generator": generator, **options})


def passes(loader, number):
    return [[y.tolist() for (y,) in loader] for _ in range(number)]


@pytest.mark.parametrize("after", range(1, 5))
@pytest.mark.parametrize("bits", [*BIT_GENERATORS, None])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_pass_goes_on_where_it_was_saved(after, bits, shuffle):
    whole = make_loader(bits, shuffle=shuffle)
    passes(whole, 1)
    seen, state, library = [], None, None
    for number, (y,) in enumerate(whole, start=1):
        seen.append(y.tolist())
        if number == after:
            state, library = whole.state_dict(), tg.get_rng_state()
    later = passes(whole, 2)
    resumed = make_loader(bits, seed=2, shuffle=shuffle)
    tg.manual_seed(5)
    resumed.load_state_dict(state)
    tg.set_rng_state(library)
    assert [y.tolist() for (y,) in resumed] == seen[after:]
    assert passes(resumed, 2) == later


@pytest.mark.parametrize("bits", [*BIT_GENERATORS, None])
def test_between_passes_the_next_one_follows(bits):
    whole = make_loader(bits)
    passes(whole, 2)
    state, library = whole.state_dict(), tg.get_rng_state()
    assert (state["order"], state["batches"]) == (None, 0)
    later = passes(whole, 2)
    resumed = make_loader(bits, seed=2)
    resumed.load_state_dict(state)
    tg.set_rng_state(library)
    assert passes(resumed, 2) == later


def test_after_a_break_a_pass_starts_anew():
    loader, other = make_loader(), make_loader()
    for loop in (iter, enumerate, lambda loader: zip(loader, loader, strict=True)):
        for _ in loop(loader):
            assert loader.state_dict()["batches"] == 1
            break
        assert loader.state_dict()["batches"] == 0
    orders = passes(other, 5)
    assert passes(loader, 1) == orders[4:]


def test_a_break_after_loading_gives_up_the_rest_as_well():
    loader = make_loader()
    iterator = iter(loader)
    first = next(iterator)[0].tolist()
    state = loader.state_dict()
    rest = [y.tolist() for (y,) in iterator]
    resumed = make_loader()
    resumed.load_state_dict(state)
    for (y,) in resumed:
        assert y.tolist() == rest[0] != first
        break
    assert len(passes(resumed, 1)[0]) == 4


def test_loading_and_saving_again_gives_the_same_state():
    loader = make_loader()
    iterator = iter(loader)
    next(iterator)
    state = loader.state_dict()
    resumed = make_loader(seed=2)
    resumed.load_state_dict(state)
    np.testing.assert_equal(resumed.state_dict(), state)
    resumed.load_state_dict(make_loader().state_dict())
    assert len(passes(resumed, 1)[0]) == 4


def test_a_state_is_a_copy():
    loader = make_loader()
    iterator = iter(loader)
    next(iterator)
    state = loader.state_dict()
    resumed = make_loader()
    resumed.load_state_dict(state)
    state["order"][...] = 0
    assert [y.tolist() for (y,) in resumed] == [y.tolist() for (y,) in iterator]


def test_a_state_without_examples():
    empty = DataLoader(np.zeros((0, 2)), shuffle=True)
    empty.load_state_dict(empty.state_dict())
    assert list(empty) == []


OTHER_LOADERS = {
    "examples": (lambda: DataLoader(np.zeros(9), batch_size=3, shuffle=True), r"'examples': 10.*'examples': 9"),
    "batch size": (lambda: make_loader(batch_size=5), r"'batch_size': 3.*'batch_size': 5"),
    "order": (lambda: make_loader(shuffle=False), r"'shuffle': True.*'shuffle': False"),
    "the library's generator": (lambda: make_loader(None), "one has a generator of its own"),
    "another generator": (lambda: make_loader(np.random.MT19937), "of the kind MT19937, nothing was changed.*PCG64"),
}
BAD_STATES = {
    "nothing": lambda state: None,
    "a list": lambda state: [1],
    "a part": lambda state: {"batches": 1},
    "more": lambda state: {**state, "epoch": 1},
    "before the first batch": lambda state: {**state, "batches": -1},
    "after the last batch": lambda state: {**state, "batches": 5},
    "half a batch": lambda state: {**state, "batches": 0.5},
    "order between passes": lambda state: {**state, "batches": 0},
    "no order": lambda state: {**state, "order": None},
    "a short order": lambda state: {**state, "order": np.arange(9)},
    "an example twice": lambda state: {**state, "order": np.array([0, *range(9)])},
    "an order beyond the data": lambda state: {**state, "order": np.arange(1, 11)},
    "an order of floats": lambda state: {**state, "order": np.arange(10.0)},
    "an order in two dimensions": lambda state: {**state, "order": np.arange(10).reshape(2, 5)},
    "a list as order": lambda state: {**state, "order": list(range(10))},
    "no generator": lambda state: {**state, "generator": None},
    "an array as batch size": lambda state: {**state, "batch_size": np.array([3, 3])},
    "a seed for a generator": lambda state: {**state, "generator": 3},
}  # fmt: skip


def mid_pass():
    loader = make_loader()
    iterator = iter(loader)
    next(iterator)
    return loader, iterator


@pytest.mark.parametrize(("other", "text"), OTHER_LOADERS.values(), ids=OTHER_LOADERS)
def test_a_state_of_another_loader_changes_nothing(other, text):
    state = mid_pass()[0].state_dict()
    loader, twin = other(), other()
    with pytest.raises(StateDictError, match=text):
        loader.load_state_dict(state)
    tg.manual_seed(3)
    after = passes(loader, 2)
    tg.manual_seed(3)
    assert after == passes(twin, 2)


@pytest.mark.parametrize("spoil", BAD_STATES.values(), ids=BAD_STATES)
def test_a_state_that_does_not_fit_changes_nothing(spoil):
    source, running = mid_pass()
    loader, rest = mid_pass()
    before = loader.state_dict()
    with pytest.raises(StateDictError):
        loader.load_state_dict(spoil(source.state_dict()))
    np.testing.assert_equal(loader.state_dict(), before)
    assert [y.tolist() for (y,) in rest] == [y.tolist() for (y,) in running]
    assert passes(loader, 1) == passes(source, 1)
