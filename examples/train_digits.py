"""Train a small network to read handwritten digits, and show which ones it gets wrong.

    python train_digits.py
    python train_digits.py --optimizer momentum --epochs 60 --output /tmp/digits

The data are 1,797 real digits of 8 x 8 pixels that come with scikit-learn. A quarter of them is held out: the network
never learns from these, so its accuracy on them tells how well it reads digits that it has not seen.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draw into files: no screen is needed

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import train_test_split

import tinygrad_opt as tg
from tinygrad_opt import nn, optim

# name -> (class, step size, epochs, batch size): values that work well here
OPTIMIZERS = {
    "adam": (optim.Adam, 0.002, 40, 32),
    "momentum": (optim.Momentum, 0.5, 40, 32),
    "sgd": (optim.SGD, 0.2, 40, 32),
    "gradient_descent": (optim.GradientDescent, 0.5, 600, "all"),
}


def main():
    options = parse_options()
    optimizer_class, lr, epochs, batch_size = OPTIMIZERS[options.optimizer]
    tg.manual_seed(options.seed)

    x_train, x_test, y_train, y_test = load_data(options.seed)
    model = nn.MLP([64, 128, 64, 10], nn.ReLU)
    print(model)

    # With only 1,347 digits to learn from, a target of 91 % for the right class and 1 % for each other one
    # keeps the network from becoming too sure of itself, and makes it read new digits better.
    loss_fn = nn.CrossEntropyLoss(label_smoothing=0.1)
    history = tg.fit(
        model,
        loss_fn,
        optimizer_class(model.parameters(), lr=lr if options.lr is None else options.lr),
        tg.DataLoader(x_train, y_train, batch_size=batch_size, shuffle=True),
        epochs=epochs if options.epochs is None else options.epochs,
        validation=(x_test, y_test),
        metrics={"accuracy": tg.accuracy},
        compile=True,
    )

    with tg.no_grad():
        read = model(x_test).argmax(axis=1)
    wrong = np.count_nonzero(read != y_test)
    print(f"\nrows: the digit; columns: what it was read as\n{confusion_table(y_test, read)}\n")
    print(f"held-out accuracy: {100 * tg.accuracy(model(x_test), y_test):.1f} % ({wrong} of {len(y_test)} misread)")

    options.output.mkdir(parents=True, exist_ok=True)
    picture, weights = options.output / "digits.png", options.output / "digits.npz"
    draw(picture, history, x_test, y_test, read)
    tg.save(model, weights)
    print(f"picture: {picture.resolve()}\nweights: {weights.resolve()}")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="adam")
    parser.add_argument("--lr", type=float, help="step size (default: one that suits the optimizer)")
    parser.add_argument("--epochs", type=int, help="passes over the data (default: enough for the optimizer)")
    parser.add_argument("--seed", type=int, default=0, help="for the initial weights, the split and the shuffling")
    parser.add_argument("--output", type=Path, default=Path("output"), metavar="FOLDER", help="default: ./output")
    return parser.parse_args()


def load_data(seed):
    """Pixels from 0 to 1, and digits; a quarter of every digit's pictures is held out."""
    x, y = load_digits(return_X_y=True)
    return train_test_split(x / 16, y, test_size=0.25, stratify=y, random_state=seed)


def confusion_table(y, read):
    counts = confusion_matrix(y, read, labels=range(10))
    lines = ["     " + "".join(f"{digit:4}" for digit in range(10))]
    lines += [f"{digit:4} " + "".join(f"{n or '.':>4}" for n in row) for digit, row in enumerate(counts)]
    return "\n".join(lines)


def draw(path, history, x, y, read):
    """The loss curves, and up to twelve digits that were misread."""
    plt.rcParams.update({"font.size": 14})
    figure = plt.figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.1, 1])

    axes = left.subplots()
    epochs = range(1, history.epochs + 1)
    marker = "o" if history.epochs == 1 else None  # of one epoch there is no line to see
    axes.plot(epochs, history["loss"], color="#0072B2", linewidth=2.5, marker=marker, label="training")
    axes.plot(epochs, history["val_loss"], color="#D55E00", linewidth=2.5, ls="--", marker=marker, label="held out")
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.set(xlabel="epoch", ylabel="cross-entropy, with label smoothing", ylim=(0, None))
    axes.set_title(f"{100 * history['val_accuracy'][-1]:.1f} % of the held-out digits are read right", fontsize=16)
    axes.grid(alpha=0.3)
    axes.legend()

    wrong = np.flatnonzero(read != y)
    right.suptitle("Some that are not" if len(wrong) else "None is misread", fontsize=16)
    for axes, i in zip(right.subplots(3, 4).flat, [*wrong[:12], *[None] * 12], strict=False):
        axes.axis("off")
        if i is not None:
            axes.imshow(x[i].reshape(8, 8), cmap="gray_r")
            axes.set_title(f"{y[i]}, read as {read[i]}", fontsize=13)
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
