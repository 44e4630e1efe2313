"""Bad input: what is done wrong, the exception, and what its text must show: the shapes or values, and the remedy."""

import numpy as np
import pytest

import tinygrad_opt as tg
from tinygrad_opt import GraphError, MissingRuleError, ShapeError, StateDictError, Tensor, nn, optim
from tinygrad_opt.nn import functional as F

COLUMN, FLAT = np.zeros((4, 1)), np.zeros(4)
LOGITS = np.zeros((4, 3))


def leaf(data=(1.0, 2.0)):
    return Tensor(data, requires_grad=True)


def walked_twice():
    loss = (leaf() * 2).sum()
    loss.backward()
    loss.backward()


def changed_in_place(name, value):
    w = leaf()
    getattr(w, name)(*value)


def loaded(change):
    model = nn.Linear(3, 2)
    state = model.state_dict()
    change(state)
    model.load_state_dict(state)


def fitted(**options):
    model = nn.Linear(1, 1)
    options = {"loader": tg.DataLoader(COLUMN, COLUMN), "epochs": 1, **options}
    tg.fit(model, nn.MSELoss(), optim.SGD(model.parameters()), progress=False, **options)


# what is done: (the call, the exception, the text)
BAD_INPUT = {
    "integer Tensor requiring grad": (
        lambda: leaf([1, 2]), TypeError, r"floating-point.*int64.*dtype=float",
    ),
    "boolean Tensor requiring grad": (
        lambda: Tensor([True]).requires_grad_(), TypeError, r"floating-point.*bool.*dtype=float",
    ),
    "non-scalar backward": (
        lambda: (leaf() * 2).backward(), GraphError, r"non-scalar.*\(2,\).*\.sum\(\).*gradient",
    ),
    "backward from a gradient of another shape": (
        lambda: (leaf() * 2).backward(np.ones(3)), ShapeError, r"\(2,\).*\(3,\)",
    ),
    "backward without a graph": (
        lambda: Tensor(1.0).backward(), GraphError, r"requires_grad=True.*no_grad",
    ),
    "second backward": (walked_twice, GraphError, r"second time.*retain_graph=True"),
    "in place on a leaf, +=": (
        lambda: changed_in_place("__iadd__", [1.0]), GraphError, r"leaf.*\(2,\).*tg\.no_grad\(\).*w = w",
    ),
    "in place on a leaf, [0] =": (
        lambda: changed_in_place("__setitem__", [0, 1.0]), GraphError, r"leaf.*\(2,\).*tg\.no_grad\(\)",
    ),
    "array of a Tensor in a graph": (lambda: np.asarray(leaf()), GraphError, r"\(2,\).*\.detach\(\)"),
    "function without a rule": (lambda: np.unwrap(leaf()), MissingRuleError, r"unwrap has no.*tg\.defvjp\(.*unwrap"),
    "requires_grad of a result": (
        lambda: setattr(leaf() * 2, "requires_grad", False), GraphError, r"leaves.*detach\(\)",
    ),
    "complex data": (lambda: Tensor([1j]), TypeError, r"real numbers.*complex128"),

    "mse_loss, (N,) against (N, 1)": (
        lambda: F.mse_loss(COLUMN, FLAT), ShapeError, r"mse_loss.*\(4, 1\).*\(4,\).*\[:, None\]",
    ),
    "mse_loss, (N, 1) against (N,)": (
        lambda: F.mse_loss(Tensor(FLAT), Tensor(COLUMN)), ShapeError, r"\(4,\).*\(4, 1\).*reshape",
    ),
    "mse_loss, a number as the target": (
        lambda: F.mse_loss(FLAT, 1.0), ShapeError, r"\(4,\).*\(\)",
    ),
    "binary_cross_entropy, (N, 1) against (N,)": (
        lambda: F.binary_cross_entropy(COLUMN, FLAT), ShapeError, r"binary_cross_entropy .*\(4, 1\).*\(4,\).*reshape",
    ),
    "with_logits, (N, 1) against (N,)": (
        lambda: F.binary_cross_entropy_with_logits(COLUMN, FLAT), ShapeError, r"with_logits .*\(4, 1\).*\(4,\)",
    ),
    "hinge_loss, (N, 1) against (N,)": (
        lambda: F.hinge_loss(COLUMN, FLAT + 1), ShapeError, r"hinge_loss .*\(4, 1\).*\(4,\).*reshape",
    ),
    "class index too large": (
        lambda: F.cross_entropy(LOGITS, [0, 1, 3, 2]), ValueError, r"0 \.\.\. 2 for 3 classes; got 3",
    ),
    "class index negative": (
        lambda: F.cross_entropy(LOGITS, [0, -1, 1, 2]), ValueError, r"0 \.\.\. 2 for 3 classes; got -1",
    ),
    "class indices as a column": (
        lambda: F.cross_entropy(LOGITS, [[0], [1], [2], [0]]), ShapeError, r"\(4,\).*3 classes.*\(4, 1\)",
    ),
    "too few class indices": (lambda: F.cross_entropy(LOGITS, [0, 1]), ShapeError, r"\(4,\).*\(2,\)"),
    "class indices as floats": (
        lambda: F.cross_entropy(LOGITS, np.zeros(4)), ShapeError, r"integer class indices of shape \(4,\).*float64",
    ),
    "class probabilities above 1": (
        lambda: F.cross_entropy(LOGITS, np.full((4, 3), 1.5)), ValueError, r"\[0, 1\]; got 1\.5",
    ),
    "logits without classes": (lambda: F.cross_entropy(1.0, 0), ShapeError, r"\(batch, classes\); got \(\)"),
    "label smoothing above 1": (
        lambda: F.cross_entropy(LOGITS, [0, 1, 2, 0], label_smoothing=1.5), ValueError, r"\[0, 1\]; got 1\.5",
    ),
    "label smoothing below 0": (
        lambda: nn.CrossEntropyLoss(label_smoothing=-0.5)(LOGITS, [0, 1, 2, 0]), ValueError, r"\[0, 1\]; got -0\.5",
    ),
    "label smoothing NaN": (
        lambda: F.cross_entropy(LOGITS, [0, 1, 2, 0], label_smoothing=float("nan")), ValueError, r"\[0, 1\]; got nan",
    ),
    "probability above 1": (lambda: F.binary_cross_entropy([1.5], [1]), ValueError, r"predictions.*\[0, 1\]; got 1\.5"),
    "probability NaN": (lambda: F.binary_cross_entropy([np.nan], [1.0]), ValueError, r"predictions.*\[0, 1\]; got nan"),
    "label -1 for log loss": (lambda: F.binary_cross_entropy([0.5], [-1.0]), ValueError, r"targets.*\[0, 1\]; got -1"),
    "label 2 for log loss with logits": (
        lambda: F.binary_cross_entropy_with_logits([0.5], [2]), ValueError, r"targets.*\[0, 1\]; got 2",
    ),
    "label 0 for hinge loss": (lambda: F.hinge_loss([0.5, 1.0], [1, 0]), ValueError, r"-1 or 1; got 0.*2 \* y - 1"),
    "label NaN for hinge loss": (lambda: F.hinge_loss([0.5], [np.nan]), ValueError, r"-1 or 1; got nan"),
    **{
        f"unknown reduction, {name}": (call, ValueError, r'"mean", "sum" or "none"; got .avg.')
        for name, call in {
            "mse_loss": lambda: F.mse_loss(FLAT, FLAT, "avg"),
            "binary_cross_entropy": lambda: F.binary_cross_entropy(FLAT, FLAT, "avg"),
            "with_logits": lambda: F.binary_cross_entropy_with_logits(FLAT, FLAT, "avg"),
            "hinge_loss": lambda: F.hinge_loss(FLAT, FLAT + 1, "avg"),
            "cross_entropy": lambda: F.cross_entropy(LOGITS, [0, 1, 2, 0], "avg"),
            "cross_entropy of probabilities": lambda: F.cross_entropy(LOGITS, LOGITS, "avg"),
            "MSELoss": lambda: nn.MSELoss("avg"),
            "CrossEntropyLoss": lambda: nn.CrossEntropyLoss(reduction="avg"),
        }.items()
    },

    "wrong number of features": (
        lambda: nn.Linear(3, 2)(np.ones((5, 4))), ShapeError, r"\(\.\.\., 3\).*\(2, 3\).*\(5, 4\)",
    ),
    "wrong number of features in a model": (
        lambda: nn.MLP([3, 4, 2])(Tensor(np.ones(7))), ShapeError, r"\(\.\.\., 3\).*\(7,\)",
    ),
    "a number for a layer": (lambda: nn.Linear(3, 2)(1.0), ShapeError, r"\(\.\.\., 3\).*\(\)"),
    "a layer without outputs": (lambda: nn.Linear(3, 0), ValueError, r"at least one.*Linear\(3, 0\)"),
    "an MLP of one size": (lambda: nn.MLP([3]), ValueError, r"\[2, 16, 1\]; got \[3\]"),
    "a class in Sequential": (lambda: nn.Sequential(nn.ReLU), TypeError, r"number 0 is.*ReLU.*Did you mean"),
    "a seed for a generator": (lambda: nn.Linear(3, 2, generator=0), TypeError, r"default_rng\(0\).*got 0"),

    "state with a missing entry": (
        lambda: loaded(lambda s: s.pop("bias")), StateDictError, r"nothing was loaded.*missing: bias \(2,\)",
    ),
    "state with an extra entry": (
        lambda: loaded(lambda s: s.update(more=np.ones(3))), StateDictError, r"nothing was loaded.*unknown: more",
    ),
    "state with a misshapen entry": (
        lambda: loaded(lambda s: s.update(weight=np.ones((3, 2)))),
        StateDictError, r"weight: shape \(3, 2\) in the state, \(2, 3\) in the model",
    ),

    "step() without backward": (
        lambda: optim.SGD([nn.Parameter([1.0])]).step(), GraphError, r"no gradient.*loss\.backward\(\)",
    ),
    **{
        f"learning rate {lr}, {kind.__name__}": (
            lambda lr=lr, kind=kind: kind([nn.Parameter([1.0])], lr=lr), ValueError, rf"lr must be.*got {lr}",
        )
        for kind in (optim.GradientDescent, optim.SGD, optim.Momentum, optim.Adam)
        for lr in (0, -1, float("nan"), float("inf"))
    },
    "no parameters": (lambda: optim.Adam(nn.ReLU().parameters()), ValueError, r"Adam got no.*model\.parameters"),

    "unequal lengths": (lambda: tg.DataLoader(FLAT, np.zeros(3)), ShapeError, r"one length.*\[4, 3\]"),
    "no arrays": (lambda: tg.DataLoader(), ValueError, r"at least one array"),
    "a number as data": (lambda: tg.DataLoader(3.0), ValueError, r"first axis"),
    "batch size 0": (lambda: tg.DataLoader(FLAT, batch_size=0), ValueError, r'from 1 on, or "all"; got 0'),
    "batch size 1.5": (lambda: tg.DataLoader(FLAT, batch_size=1.5), ValueError, r"batch_size.*got 1\.5"),
    "a batch size in words": (lambda: tg.DataLoader(FLAT, batch_size="half"), ValueError, r"batch_size.*got 'half'"),
    "a seed for a loader": (lambda: tg.DataLoader(FLAT, generator=3), TypeError, r"default_rng\(0\).*got 3"),
    "no epochs": (lambda: fitted(epochs=0), ValueError, r"epochs.*at least 1; got 0"),
    "a loader without batches": (
        lambda: fitted(loader=tg.DataLoader(COLUMN, COLUMN, batch_size=9, drop_last=True)),
        ValueError, r"no batches.*drop_last",
    ),
    "a history without that column": (lambda: tg.History()["loss"], KeyError, r"no 'loss'.*no epochs yet"),
    "an integer default dtype": (lambda: tg.set_default_dtype("int32"), ValueError, r"float32.*got 'int32'"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "exception", "text"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_gets_a_clear_error(call, exception, text):
    with pytest.raises(exception, match=f"(?s){text}"):
        call()
