"""Train a two-layer network with Tensors alone: no layers, no optimizer, every step in sight.

    python from_scratch.py
    python from_scratch.py --lr 0.2 --epochs 500

All that is used of the library is `Tensor`, `backward()` and `no_grad()`; everything else is written out below, in
NumPy's functions, as on a blackboard. The data are scikit-learn's handwritten digits, a quarter of them held out.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draw into files: no screen is needed

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import tinygrad_opt as tg
from tinygrad_opt import Tensor


def main():
    options = parse_options()
    generator = np.random.default_rng(options.seed)

    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        x / 16, y, test_size=0.25, stratify=y, random_state=options.seed
    )

    # 64 pixels -> 32 hidden units -> 10 scores, one for each digit
    w1 = Tensor(generator.normal(0, 1 / np.sqrt(64), (64, 32)), requires_grad=True)
    b1 = Tensor(np.zeros(32), requires_grad=True)
    w2 = Tensor(generator.normal(0, 1 / np.sqrt(32), (32, 10)), requires_grad=True)
    b2 = Tensor(np.zeros(10), requires_grad=True)
    parameters = [w1, b1, w2, b2]

    def scores(x):
        return np.tanh(x @ w1 + b1) @ w2 + b2

    def cross_entropy(scores, y):
        """The mean of -log p(y), with p = exp(scores) / Σ exp(scores)."""
        scores = scores - scores.max(axis=1, keepdims=True)  # p stays the same, and nothing overflows
        log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return -log_p[np.arange(len(y)), y].mean()

    losses = []
    for epoch in range(1, options.epochs + 1):
        loss = cross_entropy(scores(x_train), y_train)
        loss.backward()
        with tg.no_grad():
            for w in parameters:
                w -= options.lr * w.grad
                w.grad = None
        losses.append(loss.item())
        if epoch % max(options.epochs // 10, 1) == 0:
            print(f"epoch {epoch:4}: loss {loss.item():.4f}")

    with tg.no_grad():
        read = scores(x_test).argmax(axis=1)
    accuracy = np.mean(read == y_test)
    print(f"\nheld-out accuracy: {100 * accuracy:.1f} %")

    options.output.mkdir(parents=True, exist_ok=True)
    picture = options.output / "from_scratch.png"
    draw(picture, losses, accuracy)
    print(f"picture: {picture.resolve()}")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--optimizer", choices=["gradient_descent"], default="gradient_descent", help="the one shown")
    parser.add_argument("--lr", type=float, default=0.5, help="step size")
    parser.add_argument("--epochs", type=int, default=500, help="steps, each over all the data")
    parser.add_argument("--seed", type=int, default=0, help="for the initial weights and the split")
    parser.add_argument("--output", type=Path, default=Path("output"), metavar="FOLDER", help="default: ./output")
    return parser.parse_args()


def draw(path, losses, accuracy):
    plt.rcParams.update({"font.size": 14})
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    axes.plot(
        range(1, len(losses) + 1), losses, color="#0072B2", linewidth=2.5, marker="o" if len(losses) == 1 else None
    )
    axes.set(xlabel="step", ylabel="cross-entropy on the training part", yscale="log")
    axes.set_title(f"{100 * accuracy:.1f} % of the held-out digits are read right", fontsize=16)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(which="both", alpha=0.3)
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
