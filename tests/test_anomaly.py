"""detect_anomaly: the first NaN or infinity raises, and names the operation, the shapes and the user's line."""

import threading

import numpy as np
import pytest

import tinygrad_opt as tg
from tinygrad_opt import AnomalyError, Tensor, nn


def leaf(data):
    return Tensor(data, requires_grad=True)


def test_a_nan_forward_names_the_operation_the_shapes_and_the_line():
    x = leaf([[1.0, -1.0, 2.0]])
    with pytest.raises(AnomalyError) as caught, tg.detect_anomaly():
        np.log(x)  # the guilty line
    text = str(caught.value)
    assert text.startswith("np.log made NaN in 1 of 3 elements (inputs (1, 3); result (1, 3))")
    assert "test_anomaly.py" in text
    assert "# the guilty line" in text


def test_an_infinity_backward_names_the_line_of_the_call():
    x = leaf([0.0, 4.0])
    with tg.detect_anomaly():
        y = np.sqrt(x)  # the guilty call
        loss = (y * y).sum() + (3 * y).sum()
        with pytest.raises(AnomalyError) as caught:
            loss.backward()
    text = str(caught.value)
    assert text.startswith("the gradient rule of np.sqrt made infinity in 1 of 2 elements")
    assert "# the guilty call" in text


def test_a_line_inside_the_library_is_never_blamed():
    model = nn.Linear(2, 1)
    with pytest.raises(AnomalyError) as caught, tg.detect_anomaly():
        model(np.array([[np.inf, 1.0]]))  # here
    assert "# here" in str(caught.value)


def test_a_call_made_outside_is_found_too():
    y = np.sqrt(leaf(0.0))
    with pytest.raises(AnomalyError, match="outside of detect_anomaly"), tg.detect_anomaly():
        y.backward()


def test_with_create_graph():
    with pytest.raises(AnomalyError, match=r"np\.sqrt"), tg.detect_anomaly():
        np.sqrt(leaf([0.0])).sum().backward(create_graph=True)


def test_finite_computations_and_integers_pass():
    x = leaf([1.0, 2.0])
    with tg.detect_anomaly():
        (np.log(x) * np.array([1, 2])).sum().backward()
        np.concatenate([x, x])
    assert np.all(np.isfinite(x.grad.data))


def test_it_ends_with_the_block_and_with_the_function():
    @tg.detect_anomaly()
    def guarded(x):
        return np.log(x)

    x = leaf([-1.0])
    with pytest.raises(AnomalyError):
        guarded(x)
    with np.errstate(invalid="ignore"):
        assert np.isnan(np.log(x).data).all()
    with tg.detect_anomaly():
        with tg.detect_anomaly():
            pass
        with pytest.raises(AnomalyError):
            np.log(x)


def test_it_is_per_thread():
    found = []

    def other():
        with np.errstate(invalid="ignore"):
            found.append(np.log(leaf(-1.0)).item())

    with tg.detect_anomaly():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert np.isnan(found[0])
