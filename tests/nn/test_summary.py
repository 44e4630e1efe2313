"""The table of a model: shapes and numbers against those of the model itself, and what it leaves alone."""

import numpy as np
import pytest

import tinygrad_opt as tg
from tinygrad_opt import ShapeError, nn


def network():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(),
        nn.Linear(8 * 4 * 4, 1000),
    )  # fmt: skip


def test_the_table():
    assert repr(nn.summary(network(), (1, 8, 8))).splitlines() == [
        "   layer        output shape  parameters",
        "────────────────────────────────────────",
        "   Sequential   (N, 1000)",
        "0  Conv2d       (N, 8, 8, 8)          80",
        "1  BatchNorm2d  (N, 8, 8, 8)          16",
        "2  ReLU         (N, 8, 8, 8)",
        "3  MaxPool2d    (N, 8, 4, 4)",
        "4  Flatten      (N, 128)",
        "5  Dropout      (N, 128)",
        "6  Linear       (N, 1000)        129,000",
        "129,096 parameters; 17 numbers in buffers",
    ]


def test_the_rows_are_those_of_the_model():
    model, x, shapes = network(), np.zeros((5, 1, 8, 8)), []
    for layer in model:
        x = layer(x)
        shapes.append(f"(N, {', '.join(map(str, x.shape[1:]))})")
    found = nn.summary(model, (1, 8, 8))
    assert isinstance(found, nn.Summary)
    assert [row.output_shape for row in found.rows[1:]] == shapes
    assert [row.name for row in found.rows] == [name for name, _ in model.named_modules()]
    assert [row.parameters for row in found.rows[1:]] == [sum(p.size for p in m.parameters()) for m in model]
    assert found.total == found.trainable == sum(p.size for p in model.parameters())
    assert found.buffers == sum(b.size for b in model.buffers())


def test_the_model_is_left_as_it_was():
    model = network()
    model[2].eval()
    state, generator = model.state_dict(), tg.get_rng_state()
    modes = [module.training for module in model.modules()]
    for shape in [(1, 8, 8), (3, 8, 8)]:
        try:
            nn.summary(model, shape)
        except ShapeError:
            assert shape == (3, 8, 8)
    assert [module.training for module in model.modules()] == modes
    assert tg.get_rng_state() == generator
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    assert not any(module._hooks.after for module in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_frozen_parameters_are_counted():
    model = nn.MLP([3, 2, 1])
    for parameter in model[0].parameters():
        parameter.requires_grad = False
    found = nn.summary(model, 3)
    assert (found.total, found.trainable) == (11, 3)
    assert repr(found).endswith("11 parameters, 3 of them trainable")


def test_indices_several_inputs_and_results_of_any_kind():
    class Net(nn.Module):
        def __init__(self):
            self.words = nn.Embedding(10, 4)
            self.shift = nn.Parameter(np.zeros(4))
            self.never = nn.Linear(2, 2)

        def forward(self, x, y):
            h = self.words(x) + self.shift
            return {"h": h, "both": (h.sum(), y), "name": "net"}

    found = nn.summary(Net(), [(7,), (2, 3)], "int")
    assert [row[:3] for row in found.rows] == [
        ("", "Net", "(N, 7, 4), (), (N, 2, 3), str"),
        ("words", "Embedding", "(N, 7, 4)"),
        ("never", "Linear", "not used"),
    ]
    assert [row.parameters for row in found.rows] == [4, 40, 6]
    assert found.total == 50


def test_a_shared_module_is_counted_once():
    shared = nn.Linear(3, 3)
    found = nn.summary(nn.Sequential(shared, nn.ReLU(), shared), (3,))
    assert [row.name for row in found.rows] == ["", "0", "1"]
    assert found.total == sum(row.parameters for row in found.rows) == 12


@pytest.mark.parametrize("shape", [3, (3,), [3], [(3,)], np.int64(3)])
def test_one_shape_in_many_ways(shape):
    assert nn.summary(nn.MLP([3, 2]), shape).rows[-1].output_shape == "(N, 2)"


def test_shapes_that_the_model_cannot_take():
    with pytest.raises(
        ShapeError, match=r"Sequential cannot take inputs of the shape \(3, 8, 8\).*without the batch.*1 ch"
    ):
        nn.summary(network(), (3, 8, 8))
    with pytest.raises(ShapeError, match=r"Embedding cannot take.*\(7,\).*integer dtype.*float64"):
        nn.summary(nn.Embedding(5, 3), (7,))
    with pytest.raises(ShapeError, match=r"MLP cannot take.*\(3,\), \(2,\)"):
        nn.summary(nn.MLP([3, 2]), [(3,), (2,)])
