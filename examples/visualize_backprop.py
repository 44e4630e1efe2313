"""Train a small network on two half moons, and draw all there is to see of its back-propagation.

    python visualize_backprop.py
    python visualize_backprop.py --optimizer sgd --lr 0.5 --output /tmp/pictures

It writes the graph of the loss before and after the training (values, gradients, modules), the same graph folded and
opened up, one neuron as a picture and as a page that goes through back-propagation step by step, and pictures of the
training's health: gradients and activations in every layer, the decision boundary, and the loss around the weights.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draw into files: no screen is needed

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons

import tinygrad_opt as tg
from tinygrad_opt import nn, optim, viz
from tinygrad_opt.nn import functional as F

OPTIMIZERS = {"adam": (optim.Adam, 0.02), "momentum": (optim.Momentum, 0.5), "sgd": (optim.SGD, 0.3)}


def main():
    options = parse_options()
    optimizer_class, lr = OPTIMIZERS[options.optimizer]
    tg.manual_seed(options.seed)
    x, y = make_moons(400, noise=0.15, random_state=options.seed)
    model = nn.MLP([2, 8, 8, 2], nn.ReLU)
    options.output.mkdir(parents=True, exist_ok=True)

    def save(name, picture):
        path = options.output / name
        if isinstance(picture, plt.Figure):
            picture.savefig(path, dpi=100)
            plt.close(picture)
        else:
            picture.write(path)
        print(f"{what_it_shows(name):55} {path.resolve()}")

    # The graph is drawn for a few examples: it is the same for all of them, only the numbers differ.
    few = x[:6], y[:6]

    def draw(**choices):
        return viz.draw_graph(model, few[0], loss=lambda scores: F.cross_entropy(scores, few[1]), **choices)

    save("graph_before.png", draw(values=True, gradients=True))

    with viz.Health(model) as health:
        history = tg.fit(
            model,
            nn.CrossEntropyLoss(),
            optimizer_class(model.parameters(), lr=lr if options.lr is None else options.lr),
            tg.DataLoader(x, y, batch_size=20, shuffle=True),
            options.epochs or 60,
            metrics={"accuracy": tg.accuracy},
            progress=False,
            callbacks=health,
        )
    print(f"accuracy after {history.epochs} epochs: {100 * history['accuracy'][-1]:.1f} %\n")

    save("graph_after.png", draw(values=True, gradients=True))
    save("graph_after.svg", draw(values=True, gradients=True))  # in a browser, the pointer shows the rules
    save("graph_folded.png", draw(gradients=True, depth=1))
    save("graph_opened.png", draw(expand=True, direction="TB"))
    save("graph_of_the_gradient.png", graph_of_a_gradient())

    # One neuron and one example make numbers that fit on a blackboard.
    loss = loss_of_a_neuron()
    save("neuron.png", viz.draw_graph(loss, values=True, gradients=True))
    page = viz.step_through(loss, path=options.output / "backprop.html")
    print(f"{what_it_shows(page.name):55} {page.resolve()}")

    save("history.png", viz.plot_history(history))
    save("health.png", viz.plot_health(health))
    axes = viz.plot_decision_boundary(model, x, y)
    save("boundary.png", axes.figure)
    surface = viz.loss_surface(
        lambda: F.cross_entropy(model(x), y), model, generator=np.random.default_rng(options.seed)
    )
    save("surface.png", viz.plot_loss_surface(surface).figure)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="adam")
    parser.add_argument("--lr", type=float, help="step size (default: one that suits the optimizer)")
    parser.add_argument("--epochs", type=int, help="passes over the data (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="for the data, the initial weights and the shuffling")
    parser.add_argument("--output", type=Path, default=Path("output"), metavar="FOLDER", help="default: ./output")
    return parser.parse_args()


def graph_of_a_gradient():
    """A gradient is computed too, so it has a graph of its own: here that of the derivative of sin(a) a."""
    a = tg.Tensor(2.0, requires_grad=True, name="a")
    (np.sin(a) * a).backward(create_graph=True)
    return viz.draw_graph(a.grad, values=True)


def loss_of_a_neuron():
    """The squared error of one neuron with two inputs, with a name for every weight."""
    w1, w2 = tg.Tensor(0.5, requires_grad=True, name="w₁"), tg.Tensor(-1.0, requires_grad=True, name="w₂")
    b = tg.Tensor(0.25, requires_grad=True, name="b")
    x1, x2, target = 2.0, 1.0, 1.0
    output = np.tanh(w1 * x1 + w2 * x2 + b)
    return (output - target) ** 2


def what_it_shows(name):
    return {
        "graph_before.png": "back-propagation before the training",
        "graph_after.png": "back-propagation after it",
        "graph_after.svg": "the same, with the rule of each operation",
        "graph_folded.png": "the same, a box for each module",
        "graph_opened.png": "the same, with every call that NumPy gets",
        "graph_of_the_gradient.png": "the graph of a gradient",
        "neuron.png": "back-propagation through one neuron",
        "backprop.html": "the same, step by step",
        "history.png": "loss and accuracy",
        "health.png": "gradients and activations in every layer",
        "boundary.png": "where the network sees which moon",
        "surface.png": "the loss around the weights that were found",
    }[name]


if __name__ == "__main__":
    main()
