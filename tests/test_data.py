"""DataLoader: every example once per pass, in batches of the size asked for."""

import numpy as np
import pytest

import tinygrad_opt as tg
from tinygrad_opt import DataLoader, Tensor

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


def test_repr_says_what_it_goes_through():
    text = repr(DataLoader(X, Y, batch_size=4))
    assert "(10, 2), (10,)" in text
    assert "3 batches of 4" in text
