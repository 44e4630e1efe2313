"""Squeeze handwritten digits through a bottleneck of two numbers, and draw what is left of them, beside PCA.

    python autoencoder.py
    python autoencoder.py --code 8 --epochs 200

An autoencoder learns to give back what it is given. Between its two halves, the encoder and the decoder, there are so
few numbers, the code, that it cannot just copy: it has to find out what digits have in common. No labels are used in
training. The best that can be done with weighted sums alone is principal component analysis (PCA), which has a formula;
the autoencoder has to beat it, on a quarter of the 1,797 digits that was held out.
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
from tinygrad_opt import nn, optim

# name -> (class, step size at the start): values that work well here
OPTIMIZERS = {"adam": (optim.Adam, 0.005), "momentum": (optim.Momentum, 15), "sgd": (optim.SGD, 15)}
GRID = 14  # the decoder is shown at so many places across, and down
COLOURS = plt.get_cmap("tab10").colors


def main():
    options = parse_options()
    optimizer_class, lr = OPTIMIZERS[options.optimizer]
    tg.manual_seed(options.seed)

    x, digits = load_digits(return_X_y=True)
    x_train, x_test, _, digits_test = train_test_split(
        x / 16, digits, test_size=0.25, stratify=digits, random_state=options.seed
    )
    # The decoder is the encoder's mirror image. The hyperbolic tangent keeps the code between -1 and 1, a limited space
    # which the digits have to share; the sigmoid makes pixels from 0 to 1.
    encoder = nn.Sequential(nn.MLP([64, 128, 64, options.code], nn.GELU), nn.Tanh())
    decoder = nn.Sequential(nn.MLP([options.code, 64, 128, 64], nn.GELU), nn.Sigmoid())
    model = nn.Sequential(encoder, decoder)
    print(nn.summary(model, (64,)))

    optimizer = optimizer_class(model.parameters(), lr=lr if options.lr is None else options.lr)
    tg.fit(
        model,
        nn.MSELoss(),
        optimizer,
        tg.DataLoader(x_train, x_train, batch_size=32, shuffle=True),  # the target is the input itself
        epochs=options.epochs,
        validation=(x_test, x_test),
        scheduler=optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=options.epochs),
    )

    with tg.no_grad():
        codes = encoder(x_test).numpy()
        remade = decoder(codes).numpy()
    by_pca = pca(x_train, x_test, options.code)
    errors = {"PCA": np.mean((by_pca - x_test) ** 2), "autoencoder": np.mean((remade - x_test) ** 2)}
    print(f"\nheld-out mean squared error per pixel, with {options.code} numbers for a digit")
    print(f"the mean digit  {np.mean((x_train.mean(axis=0) - x_test) ** 2):.4f}")
    print("\n".join(f"{name:14}  {error:.4f}" for name, error in errors.items()))

    options.output.mkdir(parents=True, exist_ok=True)
    weights = options.output / "autoencoder.npz"
    tg.save(model, weights)
    pictures = [options.output / "reconstructions.png"]
    draw_reconstructions(pictures[0], digits_test, {"original": x_test, "autoencoder": remade, "PCA": by_pca}, errors)
    if options.code == 2:
        pictures.append(options.output / "codes.png")
        draw_codes(pictures[1], codes, digits_test, decoder)
    for picture in pictures:
        print(f"picture: {picture.resolve()}")
    print(f"weights: {weights.resolve()}")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--code", type=int, default=2, help="how many numbers a digit is squeezed into (default: 2)")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="adam")
    parser.add_argument("--lr", type=float, help="step size at the start (default: one that suits the optimizer)")
    parser.add_argument("--epochs", type=int, default=120, help="passes over the data (default: 120)")
    parser.add_argument("--seed", type=int, default=0, help="for the initial weights, the split and the shuffling")
    parser.add_argument("--output", type=Path, default=Path("output"), metavar="FOLDER", help="default: ./output")
    return parser.parse_args()


def pca(x_train, x_test, size):
    """The nearest points to ``x_test`` in the plane of ``size`` directions along which ``x_train`` varies most."""
    mean = x_train.mean(axis=0)
    _, _, directions = np.linalg.svd(x_train - mean, full_matrices=False)
    return mean + (x_test - mean) @ directions[:size].T @ directions[:size]


def draw_reconstructions(path, digits, rows, errors):
    """The first of the held-out examples of every digit, and what is made of it."""
    plt.rcParams.update({"font.size": 16})
    shown = [np.flatnonzero(digits == digit)[0] for digit in range(10)]
    figure, grid = plt.subplots(len(rows), len(shown), figsize=(15, 5.6), layout="constrained")
    for line, (name, images) in zip(grid, rows.items(), strict=True):
        for axes, i in zip(line, shown, strict=True):
            axes.imshow(images[i].reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(name + (f"\n(error {errors[name]:.3f})" if name in errors else ""))
    figure.suptitle("Held-out digits, and what is left of them", fontsize=20)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def draw_codes(path, codes, digits, decoder):
    """The map of the codes of the held-out digits, and what the decoder makes of points on a grid over it."""
    plt.rcParams.update({"font.size": 16, "axes.titlesize": 20})
    figure, (left, right) = plt.subplots(1, 2, figsize=(16, 8.5), layout="constrained", sharex=True, sharey=True)
    for digit in range(10):
        points = codes[digits == digit]
        left.scatter(*points.T, s=70, color=COLOURS[digit], marker=f"${digit}$")  # not by colour alone
        # the label is at the point nearest to all others: in the midst of them, wherever a few may have strayed
        middle = np.linalg.norm(points[:, None] - points, axis=2).sum(axis=1).argmin()
        style = {"boxstyle": "circle,pad=0.2", "facecolor": "white", "edgecolor": COLOURS[digit], "linewidth": 3}
        left.text(*points[middle], str(digit), fontsize=20, weight="bold", ha="center", va="center", bbox=style)
    left.set(xlabel="first number of the code", ylabel="second number of the code")
    left.set(title="Where the held-out digits lie", aspect="equal")

    places = (np.arange(GRID) + 0.5) / GRID * 2 - 1
    first, second = np.meshgrid(places, -places)  # the largest second number on top
    with tg.no_grad():
        images = decoder(np.stack([first.ravel(), second.ravel()], axis=1)).numpy().reshape(GRID, GRID, 8, 8)
    images = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))  # a margin, so that they do not run together
    picture = images.transpose(0, 2, 1, 3).reshape(GRID * 10, GRID * 10)  # rows of images -> rows of pixels
    right.imshow(picture, cmap="gray_r", vmin=0, vmax=1, extent=(-1, 1, -1, 1))
    right.set(xlabel="first number of the code", title="What the decoder makes of each place")
    right.set(xlim=(-1.04, 1.04), ylim=(-1.04, 1.04), xticks=np.linspace(-1, 1, 5), yticks=np.linspace(-1, 1, 5))
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
