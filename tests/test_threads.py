"""Threads: each has its own grad mode, and many may train at once without an influence on each other's numbers."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import tinygrad_opt as tg
from tinygrad_opt import DataLoader, GraphError, Tensor, graph, nn, optim


def in_a_thread(work):
    """The result of ``work``, or its error, from a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


# Grad mode -----------------------------------------------------------------------------------------------------------


def test_grad_mode_belongs_to_a_thread():
    x = Tensor(1.0, requires_grad=True)
    with tg.no_grad():
        assert in_a_thread(lambda: (tg.is_grad_enabled(), (x * 2).requires_grad)) == (True, True)
        in_a_thread(tg.set_grad_enabled(True).__enter__)  # and never left there
        assert not tg.is_grad_enabled()


def test_a_function_under_no_grad_leaves_each_thread_in_the_mode_it_came_in():
    @tg.no_grad()
    def inside(arrived, leave):
        arrived.set()
        assert leave.wait(10)
        return tg.is_grad_enabled()

    def work(enabled, arrived, leave):
        with tg.set_grad_enabled(enabled):
            return inside(arrived, leave), tg.is_grad_enabled()

    with ThreadPoolExecutor(2) as pool:
        visits = []
        for enabled in (True, False):
            arrived, leave = threading.Event(), threading.Event()
            visits.append((pool.submit(work, enabled, arrived, leave), leave))
            assert arrived.wait(10)
        for (visit, leave), enabled in zip(visits, (True, False), strict=True):  # first in, first out
            leave.set()
            assert visit.result() == (False, enabled)


# Trainings -----------------------------------------------------------------------------------------------------------


def train(seed, steps=4):
    """The loss of every batch and the parameters at the end, of a small network that only ``seed`` decides about."""
    generator = np.random.default_rng(seed)
    x, y = generator.normal(size=(20, 3)), generator.integers(0, 2, 20)
    model = nn.MLP([3, 5, 2], nn.Tanh, generator=generator)
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(steps):
        for batch, labels in DataLoader(x, y, batch_size=8, shuffle=True, generator=generator):
            loss = nn.functional.cross_entropy(model(batch), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with tg.no_grad():
                losses.append(nn.functional.cross_entropy(model(x), y).item())
    return losses, [p.data.copy() for p in model.parameters()]


@pytest.mark.usefixtures("busy")
def test_32_trainings_in_8_threads_equal_those_one_after_the_other():
    expected = [train(seed) for seed in range(32)]
    with ThreadPoolExecutor(8) as pool:
        actual = list(pool.map(train, range(32)))
    assert len({tuple(losses) for losses, _ in expected}) == 32
    for (losses, parameters), (expected_losses, expected_parameters) in zip(actual, expected, strict=True):
        assert losses == expected_losses
        for p, e in zip(parameters, expected_parameters, strict=True):
            np.testing.assert_array_equal(p, e)


# One graph, several threads ------------------------------------------------------------------------------------------


def cube(x):
    return (x * x * x).sum()


def test_a_graph_of_one_thread_is_walked_in_another():
    x = Tensor([1.0, 2.0], requires_grad=True)
    loss = in_a_thread(lambda: cube(x))
    loss.backward()
    np.testing.assert_array_equal(x.grad.data, [3, 12])
    loss, x.grad = cube(x), None
    with tg.no_grad():
        in_a_thread(lambda: loss.backward(create_graph=True))
    gradient, x.grad = x.grad, None
    gradient.sum().backward()
    np.testing.assert_array_equal(x.grad.data, [6, 12])


def test_a_graph_built_by_several_threads():
    """Nodes are numbered over all threads, so the walk meets them in the right order."""
    x = Tensor(2.0, requires_grad=True)
    y = x
    for _ in range(3):
        y = in_a_thread(lambda y=y: y * x) + y * y
    y.backward()
    y1, dy1 = 2 * 4.0, 2 * 4.0  # y₁ = 2 x², and then y ← y x + y²
    y2, dy2 = y1 * 2 + y1**2, dy1 * 2 + y1 + 2 * y1 * dy1
    assert y.item() == y2 * 2 + y2**2
    assert x.grad.item() == dy2 * 2 + y2 + 2 * y2 * dy2


@pytest.mark.usefixtures("busy")
def test_a_walk_that_frees_nothing_may_run_in_many_threads_at_once():
    x = Tensor(np.arange(1.0, 20.0), requires_grad=True)
    loss = cube(np.sin(x) + x)
    expected = tg.gradients(loss, x, retain_graph=True).data
    with ThreadPoolExecutor(8) as pool:
        for g in pool.map(lambda _: tg.gradients(loss, x, retain_graph=True), range(64)):
            np.testing.assert_array_equal(g.data, expected)


# Changes in place ----------------------------------------------------------------------------------------------------


def subtract_one(t):
    with tg.no_grad():
        t -= 1


def test_a_change_in_another_thread_is_seen():
    w = Tensor([1.0, 2.0], requires_grad=True)
    loss = cube(w)
    in_a_thread(lambda: subtract_one(w))
    with pytest.raises(GraphError, match="changed in place"):
        loss.backward()


def test_a_change_is_not_forgotten_when_another_thread_changes_something_at_the_same_time(monkeypatch):
    """The other thread is held up after it has drawn the time of its change, and before it has written it down."""
    clock, drawn, go_on = graph._clock, threading.Event(), threading.Event()

    class Clock:
        def __next__(self):
            now = next(clock)
            if threading.current_thread() is not threading.main_thread():
                drawn.set()
                go_on.wait(0.3)
            return now

    other, w = Tensor([1.0]), Tensor([1.0, 2.0], requires_grad=True)
    monkeypatch.setattr(graph, "_clock", Clock())
    thread = threading.Thread(target=subtract_one, args=(other,))
    thread.start()
    assert drawn.wait(10)
    loss = cube(w)
    subtract_one(w)
    go_on.set()
    thread.join()
    with pytest.raises(GraphError, match="changed in place"):
        loss.backward()
