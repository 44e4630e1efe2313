"""Train a small convolutional network to read handwritten digits, and show what its first convolution makes of one.

    python convolve_digits.py
    python convolve_digits.py --optimizer momentum --epochs 15 --output /tmp/convolution

A dense layer has a weight for every pixel, and has to learn anew in each place what a stroke looks like. A convolution
slides one small kernel of weights over the whole picture: what it learns in one place, it knows everywhere. The data
are the 1,797 digits of 8 x 8 pixels that come with scikit-learn, a quarter of which is held out, as in train_digits.py.
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

# name -> (class, step size at the start): values that work well here
OPTIMIZERS = {"adam": (optim.Adam, 0.005), "momentum": (optim.Momentum, 0.3), "sgd": (optim.SGD, 0.2)}
SHOWN = 3  # the digit whose feature maps are drawn


def main():
    options = parse_options()
    optimizer_class, lr = OPTIMIZERS[options.optimizer]
    tg.manual_seed(options.seed)

    x_train, x_test, y_train, y_test = load_data(options.seed)
    # The convolutions have no bias, because the batch normalisation after them subtracts the mean of what they give,
    # and has a bias of its own. Pooling keeps the strongest response of every 2 x 2 pixels: where exactly it was
    # matters little. Dropout keeps the dense layers, which hold most of the weights, from learning digits by heart.
    model = nn.Sequential(
        nn.Conv2d(1, 8, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 32, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(32 * 4 * 4, 64),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(64, 10),
    )
    print(nn.summary(model, (1, 8, 8)))

    # The step size falls to zero along half a cosine: large steps to get there soon, small ones to settle. So training
    # ends by itself after a number of epochs that is fixed beforehand, and nothing is chosen with the held-out digits.
    optimizer = optimizer_class(model.parameters(), lr=lr if options.lr is None else options.lr)
    history = tg.fit(
        model,
        nn.CrossEntropyLoss(label_smoothing=0.1),
        optimizer,
        tg.DataLoader(*with_shifted_copies(x_train, y_train), batch_size=64, shuffle=True),
        epochs=options.epochs,
        validation=(x_test, y_test),
        metrics={"accuracy": tg.accuracy},
        scheduler=optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=options.epochs),
        compile=True,
    )

    model.eval()  # no dropout any more, and batch normalisation with the means of the training
    with tg.no_grad():
        read = model(x_test).argmax(axis=1)
    wrong = np.count_nonzero(read != y_test)
    accuracy = f"{100 * (1 - wrong / len(y_test)):.1f} %"
    print(f"\nrows: the digit; columns: what it was read as\n{confusion_table(y_test, read)}\n")
    print(f"held-out accuracy: {accuracy} ({wrong} of {len(y_test)} misread)")

    options.output.mkdir(parents=True, exist_ok=True)
    picture, weights = options.output / "convolution.png", options.output / "convolution.npz"
    draw(picture, history, accuracy, model[0], x_test[y_test == SHOWN][0])
    tg.save(model, weights)
    print(f"picture: {picture.resolve()}\nweights: {weights.resolve()}")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="adam")
    parser.add_argument("--lr", type=float, help="step size at the start (default: one that suits the optimizer)")
    parser.add_argument("--epochs", type=int, default=10, help="passes over the data (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="for the initial weights, the split and the shuffling")
    parser.add_argument("--output", type=Path, default=Path("output"), metavar="FOLDER", help="default: ./output")
    return parser.parse_args()


def load_data(seed):
    """Images (1 channel, 8 rows, 8 columns) of pixels from 0 to 1, and digits; a quarter of every digit is held out."""
    x, y = load_digits(return_X_y=True)
    return train_test_split(x.reshape(-1, 1, 8, 8) / 16, y, test_size=0.25, stratify=y, random_state=seed)


def with_shifted_copies(x, y):
    """The images, and each of them moved by a pixel to the left, right, top and bottom: still the same digits.

    This is done after the split: a moved copy of a held-out digit in the training data would give it away.
    """
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    corners = [(1, 1), (1, 0), (1, 2), (0, 1), (2, 1)]
    copies = [padded[:, :, row : row + 8, column : column + 8] for row, column in corners]
    return np.concatenate(copies), np.tile(y, len(copies))


def confusion_table(y, read):
    counts = confusion_matrix(y, read, labels=range(10))
    lines = ["     " + "".join(f"{digit:4}" for digit in range(10))]
    lines += [f"{digit:4} " + "".join(f"{n or '.':>4}" for n in row) for digit, row in enumerate(counts)]
    return "\n".join(lines)


def draw(path, history, accuracy, convolution, image):
    """Above, the loss curves, and how one pixel of a feature map is computed; below, all kernels with their maps."""
    with tg.no_grad():
        kernels, maps = convolution.weight.data[:, 0], convolution(image[None]).numpy()[0]
    plt.rcParams.update({"font.size": 14, "axes.titlesize": 16})
    figure = plt.figure(figsize=(16, 9), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.25])

    left, right = top.subfigures(1, 2, width_ratios=[1, 2.3])
    axes = left.subplots()
    epochs = range(1, history.epochs + 1)
    axes.plot(epochs, history["loss"], "o-", color="#0072B2", linewidth=2.5, label="training, with dropout")
    axes.plot(epochs, history["val_loss"], "s--", color="#D55E00", linewidth=2.5, label="held out")
    axes.set(xlabel="epoch", ylabel="cross-entropy, smoothed", ylim=(0, None))
    axes.set_title(f"{accuracy} of the held-out\ndigits are read right")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()

    # the strongest response, but not at the rim, where the window would stick out of the picture
    k, row, column = np.unravel_index(maps[:, 1:-1, 1:-1].argmax(), (len(maps), 6, 6))
    digit, window, kernel, feature_map = right.subplots(1, 4)
    show(digit, image[0], f"nine pixels of\na held-out {SHOWN},", signed=False)
    show(window, image[0, row : row + 3, column : column + 3], "from near,", signed=False, numbers=True)
    show(kernel, kernels[k], f"times the weights\nof kernel {k + 1},", numbers=True)
    show(feature_map, maps[k], f"are in sum {maps[k, row + 1, column + 1]:.2f}: a\npixel of feature map {k + 1}")
    for axes, corner, size in ((digit, (column, row), 3), (feature_map, (column + 1, row + 1), 1)):
        corner = np.subtract(corner, 0.5)  # pixels are drawn around their coordinates
        axes.add_patch(plt.Rectangle(corner, size, size, fill=False, edgecolor="#009E73", linewidth=5, clip_on=False))

    bottom.suptitle(f"Each kernel finds something else in the {SHOWN} (violet: above 0, white: 0, orange: below 0)")
    grid = bottom.subplots(2, len(kernels))
    for number in range(len(kernels)):
        show(grid[0, number], kernels[number], f"{number + 1}")
        show(grid[1, number], maps[number], "")
    grid[0, 0].set_ylabel("kernel", fontsize=16)
    grid[1, 0].set_ylabel("feature map", fontsize=16)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def show(axes, values, title, signed=True, numbers=False):
    """A small matrix as a picture, in grey, or, where there are negative numbers, in two colours with white at 0."""
    limit = np.abs(values).max()
    colours = {"cmap": "PuOr", "vmin": -limit, "vmax": limit} if signed else {"cmap": "Greys", "vmin": 0, "vmax": 1}
    axes.imshow(values, **colours)
    axes.set(xticks=[], yticks=[], title=title)
    for (row, column), value in np.ndenumerate(values if numbers else np.empty(0)):
        ink = "white" if abs(value) > 0.6 * limit else "black"
        axes.text(column, row, f"{value:z.2f}".replace("-", "−"), ha="center", va="center", fontsize=16, color=ink)


if __name__ == "__main__":
    main()
