"""Predict how diabetes progresses, with a small network and with linear regression, and see which is better.

    python predict_diabetes.py
    python predict_diabetes.py --optimizer sgd --seed 3

The data are real: ten measurements of each of 442 patients, and a measure of the disease's progression one year later,
from 25 to 346. They come with scikit-learn (Efron et al., "Least Angle Regression", 2004). Three models learn from
three quarters of the patients and are compared on the rest: scikit-learn's linear regression, the same model as an
nn.Linear trained by gradient descent (it has to come out the same), and a network with one hidden layer.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draw into files: no screen is needed

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score, root_mean_squared_error
from sklearn.model_selection import train_test_split

import tinygrad_opt as tg
from tinygrad_opt import nn, optim

# name -> (class, step size, epochs, batch size) for the network: values that work well here
OPTIMIZERS = {
    "adam": (optim.Adam, 0.003, 60, 32),
    "momentum": (optim.Momentum, 0.03, 100, 32),
    "sgd": (optim.SGD, 0.03, 100, 32),
    "gradient_descent": (optim.GradientDescent, 0.1, 400, "all"),
}


def main():
    options = parse_options()
    tg.manual_seed(options.seed)
    x, y = load_diabetes(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y.reshape(-1, 1), test_size=0.25, random_state=options.seed)

    # Every measurement, and the target, with mean 0 and standard deviation 1 over the training part.
    x_mean, x_std, y_mean, y_std = x_train.mean(axis=0), x_train.std(axis=0), y_train.mean(), y_train.std()
    x_train, x_test = (x_train - x_mean) / x_std, (x_test - x_mean) / x_std
    target = (y_train - y_mean) / y_std

    def predict(model):
        """The model's prediction for the held-out patients, in the units of the data."""
        with tg.no_grad():
            return model(x_test).numpy() * y_std + y_mean

    predictions = {"the training part's mean": np.full_like(y_test, y_mean)}
    predictions["linear regression, scikit-learn"] = LinearRegression().fit(x_train, y_train).predict(x_test)
    predictions["nn.Linear, gradient descent"] = predict(train_linear(x_train, target))
    predictions["network 10-16-1"] = predict(train_network(x_train, target, options))

    report(predictions, y_test)
    options.output.mkdir(parents=True, exist_ok=True)
    picture = options.output / "diabetes.png"
    draw(picture, predictions, y_test)
    print(f"picture: {picture.resolve()}")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="adam", help="of the network")
    parser.add_argument("--lr", type=float, help="step size (default: one that suits the optimizer)")
    parser.add_argument("--epochs", type=int, help="passes over the data (default: enough for the optimizer)")
    parser.add_argument("--seed", type=int, default=0, help="for the split, the initial weights and the shuffling")
    parser.add_argument("--output", type=Path, default=Path("output"), metavar="FOLDER", help="default: ./output")
    return parser.parse_args()


def train_linear(x, y):
    """Linear regression as a network without a hidden layer: all the data in every step, until it stands still."""
    model = nn.Linear(10, 1)
    optimizer = optim.GradientDescent(model.parameters(), lr=0.2)
    tg.fit(model, nn.MSELoss(), optimizer, tg.DataLoader(x, y, batch_size="all"), epochs=3000, progress=False)
    return model


def train_network(x, y, options):
    """A hidden layer of 16 units: more than that, or more epochs, and it learns the patients by heart."""
    optimizer_class, lr, epochs, batch_size = OPTIMIZERS[options.optimizer]
    model = nn.MLP([10, 16, 1], nn.Tanh)
    optimizer = optimizer_class(model.parameters(), lr=lr if options.lr is None else options.lr)
    loader = tg.DataLoader(x, y, batch_size=batch_size, shuffle=True)
    tg.fit(model, nn.MSELoss(), optimizer, loader, epochs=epochs if options.epochs is None else options.epochs)
    return model


def report(predictions, y):
    print(f"\n{len(y)} held-out patients" + " " * 16 + "root mean squared error     R²")
    errors = {name: root_mean_squared_error(y, predicted) for name, predicted in predictions.items()}
    for name, predicted in predictions.items():
        print(f"{name:40}{errors[name]:10.2f}{r2_score(y, predicted):z20.3f}")
    linear, network = errors["linear regression, scikit-learn"], errors["network 10-16-1"]
    better = "network" if network < linear else "linear regression"
    print(
        f"\nOn this split the {better} is better, by {100 * abs(network - linear) / linear:.1f} %. "
        "With so few patients the winner depends on the split:\ntry other values of --seed."
    )


def draw(path, predictions, y):
    """Predicted against true progression for the two models; a perfect prediction lies on the line."""
    plt.rcParams.update({"font.size": 14})
    figure, all_axes = plt.subplots(1, 2, figsize=(12, 6), sharex=True, sharey=True, layout="constrained")
    shown = {"linear regression, scikit-learn": ("#0072B2", "o"), "network 10-16-1": ("#D55E00", "^")}
    for axes, (name, (colour, marker)) in zip(all_axes, shown.items(), strict=True):
        axes.plot([0, 350], [0, 350], color="black", linewidth=1.5, label="predicted = true")
        axes.scatter(y, predictions[name], s=45, c=colour, marker=marker, alpha=0.7)
        axes.set(xlabel="true progression", aspect="equal")
        axes.set_title(f"{name}: R² = {r2_score(y, predictions[name]):.2f}", fontsize=15)
        axes.grid(alpha=0.3)
    all_axes[0].set_ylabel("predicted progression")
    all_axes[0].legend(loc="upper left")
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
