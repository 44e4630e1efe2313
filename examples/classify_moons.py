"""Separate two interleaved half moons with a small network and the hinge loss, and draw where it decides.

    python classify_moons.py
    python classify_moons.py --optimizer sgd --lr 0.1 --seed 3

The hinge loss max(0, 1 - y s) asks a score s above 1 of the points labelled y = +1, and one below -1 of those labelled
-1. The picture shows the decision boundary, where s = 0, between the two lines s = -1 and s = 1: the margin.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draw into files: no screen is needed

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons
from sklearn.model_selection import train_test_split

import tinygrad_opt as tg
from tinygrad_opt import nn, optim

# name -> (class, step size, epochs, batch size): values that work well here
OPTIMIZERS = {
    "adam": (optim.Adam, 0.01, 60, 32),
    "momentum": (optim.Momentum, 0.3, 150, 32),
    "sgd": (optim.SGD, 0.3, 150, 32),
    "gradient_descent": (optim.GradientDescent, 0.3, 3000, "all"),
}
BLUE, ORANGE = "#0072B2", "#E69F00"


def main():
    options = parse_options()
    optimizer_class, lr, epochs, batch_size = OPTIMIZERS[options.optimizer]
    tg.manual_seed(options.seed)

    x, classes = make_moons(600, noise=0.2, random_state=options.seed)
    y = (2 * classes - 1).reshape(-1, 1)  # labels -1 and +1, one column like the network's score
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.25, stratify=y, random_state=options.seed)

    model = nn.MLP([2, 16, 16, 1], nn.Tanh)
    print(model)
    tg.fit(
        model,
        nn.HingeLoss(),
        optimizer_class(model.parameters(), lr=lr if options.lr is None else options.lr),
        tg.DataLoader(x_train, y_train, batch_size=batch_size, shuffle=True),
        epochs=epochs if options.epochs is None else options.epochs,
        validation=(x_test, y_test),
        metrics={"accuracy": tg.accuracy},
    )

    measured = tg.evaluate(model, (x_test, y_test), {"accuracy": tg.accuracy, "hinge loss": nn.HingeLoss()})
    print(f"\nheld-out accuracy: {100 * measured['accuracy']:.1f} %, hinge loss {measured['hinge loss']:.3f}")

    options.output.mkdir(parents=True, exist_ok=True)
    picture = options.output / "moons.png"
    draw(picture, model, x_train, y_train[:, 0], x_test, y_test[:, 0], measured["accuracy"])
    print(f"picture: {picture.resolve()}")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="adam")
    parser.add_argument("--lr", type=float, help="step size (default: one that suits the optimizer)")
    parser.add_argument("--epochs", type=int, help="passes over the data (default: enough for the optimizer)")
    parser.add_argument("--seed", type=int, default=0, help="for the points, the initial weights and the shuffling")
    parser.add_argument("--output", type=Path, default=Path("output"), metavar="FOLDER", help="default: ./output")
    return parser.parse_args()


def draw(path, model, x_train, y_train, x_test, y_test, accuracy):
    """The score as colour, its lines -1, 0 and 1, and all points; the held-out ones are large, with a black edge."""
    plt.rcParams.update({"font.size": 14})
    figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")

    (left, bottom), (right, top) = x_train.min(axis=0) - 0.4, x_train.max(axis=0) + 0.4
    x1, x2 = np.meshgrid(np.linspace(left, right, 300), np.linspace(bottom, top, 300))
    with tg.no_grad():
        score = model(np.stack([x1.ravel(), x2.ravel()], axis=1)).numpy().reshape(x1.shape)
    axes.contourf(x1, x2, score, levels=[-np.inf, 0, np.inf], colors=[BLUE, ORANGE], alpha=0.2)
    lines = axes.contour(x1, x2, score, levels=[-1, 0, 1], colors="black", linestyles=["--", "-", "--"], linewidths=2)
    axes.clabel(lines, fmt="%g", fontsize=14)

    classes = ((-1, BLUE, "o"), (1, ORANGE, "^"))
    for label, colour, marker in classes:
        axes.scatter(*x_train[y_train == label].T, s=18, c=colour, marker=marker, alpha=0.6)
    for label, colour, marker in classes:
        held_out = x_test[y_test == label]
        axes.scatter(*held_out.T, s=55, c=colour, marker=marker, edgecolors="black", label=f"y = {label:+}")
    axes.set(xlabel="$x_1$", ylabel="$x_2$")
    axes.set_title(f"{100 * accuracy:.1f} % of the held-out points (black edge) are on the right side", fontsize=16)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
