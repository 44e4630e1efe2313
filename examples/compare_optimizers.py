"""Run nine optimization rules on the same problems, and check what is said for and against each of them.

    python compare_optimizers.py
    python compare_optimizers.py --epochs 10 --seeds 2 --problems digits quadratic --output /tmp/compared

The problems: two small networks on real data that come with scikit-learn (handwritten digits, and cells of tumours),
and the valley J = (x1² + 100 x2²) / 2, a hundred times as steep across as along. The valley has no data: there an epoch
is one step, and the rules that work on batches get noise in the gradient, the less the larger their batch is.

One pass over the data is one step for a rule that uses all data at once, 43 steps of mini-batches and 1,347 of single
digits: no number of epochs is fair to all. On the networks full-batch rules get ten times --epochs, the stochastic rule
a quarter. Each rule's rate is the one of the same grid with the lowest training loss after half the epochs on the
first seed; line searches need none. The rate that ends lowest is not always the one that arrives first. Runs share the
processor, so seconds are rough. A "-" in the tables means: not reached, or not measured.
"""

import argparse
import csv
import itertools
import math
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path
from statistics import mean, median, pstdev

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the runs go side by side: one thread each, set before NumPy is loaded
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import tinygrad_opt as tg
from tinygrad_opt import nn, optim

# name -> (how to make the optimizer, batch size)
METHODS = {
    "gradient_descent": (optim.GradientDescent, "all"),
    "armijo_goldstein": (partial(optim.GradientDescent, line_search=optim.ArmijoGoldstein()), "all"),
    "armijo_full_relaxation": (partial(optim.GradientDescent, line_search=optim.ArmijoFullRelaxation()), "all"),
    "stochastic": (optim.SGD, 1),
    "sgd": (optim.SGD, 32),  # on mini-batches
    "momentum": (partial(optim.Momentum, beta=0.9), 32),
    "adagrad": (optim.Adagrad, 32),
    "rmsprop": (optim.RMSprop, 32),
    "adam": (optim.Adam, 32),
}
LINE_SEARCHES = ("armijo_goldstein", "armijo_full_relaxation")
# name -> (the data, the layers, the training loss that counts as having arrived)
PROBLEMS = {
    "digits": (load_digits, [64, 32, 10], 0.1),
    "breast_cancer": (load_breast_cancer, [30, 16, 2], 0.05),
    "quadratic": (None, None, 0.01),
}
RATES = np.geomspace(1e-3, 10, 9)
STEEPNESS = np.array([1.0, 100.0])  # of the valley
ARRIVED = 1e-9  # closer to the valley's bottom than this, a change of sign is no longer a swing
cross_entropy = nn.CrossEntropyLoss()


def main():
    options = parse_options()
    methods = [options.optimizer] if options.optimizer else list(METHODS)
    seeds = range(options.seed, options.seed + options.seeds)
    table, claims, runs = compare(options.problems, methods, seeds, epochs=options.epochs, lr=options.lr)

    options.output.mkdir(parents=True, exist_ok=True)
    for name, rows in (("optimizers", table), ("claims", claims)):
        text = markdown(rows)
        print(f"{text}\n")
        (options.output / f"{name}.md").write_text(text + "\n", encoding="utf-8")
        with open(options.output / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        print(f"table: {(options.output / name).resolve()}.csv\ntable: {(options.output / name).resolve()}.md\n")
    if "digits" in options.problems:
        picture = options.output / "optimizers.png"
        draw(picture, {method: runs["digits", method] for method in methods})
        print(f"picture: {picture.resolve()}")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--optimizer", choices=METHODS, help="only this rule (default: all nine)")
    parser.add_argument("--lr", type=float, help="use this step size, instead of the best of a grid")
    parser.add_argument(
        "--epochs", type=positive, default=40, help="passes over the data for mini-batches; default: 40"
    )
    parser.add_argument("--seed", type=int, default=0, help="the first, for the split, the weights and the batches")
    parser.add_argument("--seeds", type=positive, default=5, help="how many runs of each rule; default: 5")
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS), help="default: all three")
    parser.add_argument("--output", type=Path, default=Path("output"), metavar="FOLDER", help="default: ./output")
    return parser.parse_args()


def positive(text):
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return int(text)


# The runs ------------------------------------------------------------------------------------------------------------


def compare(problems, methods, seeds, executor=None, epochs=40, lr=None):
    """The table of rules, the table of claims, and the runs behind them; ``executor`` runs them side by side."""
    workers = partial(ProcessPoolExecutor, mp_context=multiprocessing.get_context("spawn"))
    with workers() if executor is None else nullcontext(executor) as executor:
        pairs = [(problem, method) for problem in problems for method in methods]
        rates = choose_rates(executor, pairs, seeds[0], epochs, RATES if lr is None else [lr])
        jobs = [(run, *pair, seed, epochs_for(*pair, epochs), rates[pair]) for pair in pairs for seed in seeds]
        results = iter(side_by_side(executor, jobs, "runs"))
        runs = {pair: [next(results) for _ in seeds] for pair in pairs}
        table = [summary(*pair, rates[pair], runs[pair]) for pair in pairs]
        jobs = [(check, *claim, list(seeds), epochs, table) for claim in CLAIMS]
        return table, side_by_side(executor, jobs, "claims"), runs


def side_by_side(executor, jobs, label):
    """The results of all jobs, (function, arguments...), in their order; with a bar where tqdm is installed."""
    futures = [executor.submit(*job) for job in jobs]
    try:
        from tqdm import tqdm
    except ImportError:
        return [future.result() for future in futures]
    return [future.result() for future in tqdm(futures, desc=label)]


def epochs_for(problem, method, epochs):
    if problem == "quadratic":
        return 25 * epochs
    return {"all": 10 * epochs, 1: math.ceil(epochs / 4)}.get(METHODS[method][1], epochs)


def choose_rates(executor, pairs, seed, epochs, rates):
    """The best of the rates for each pair of problem and method; None for line searches."""
    tuned = [pair for pair in pairs if pair[1] not in LINE_SEARCHES]
    if len(rates) == 1:
        return dict.fromkeys(pairs) | dict.fromkeys(tuned, rates[0])
    jobs = [(run, *pair, seed, math.ceil(epochs_for(*pair, epochs) / 2), lr) for pair in tuned for lr in rates]
    losses = np.reshape([final_loss(result) for result in side_by_side(executor, jobs, "rates")], (-1, len(rates)))
    return dict.fromkeys(pairs) | {pair: float(rates[i]) for pair, i in zip(tuned, losses.argmin(axis=1), strict=True)}


def final_loss(result):
    """The mean over the last tenth of the run, less a game of chance than the last loss; inf if it blew up."""
    losses = result["losses"][-math.ceil(len(result["losses"]) / 10) :]
    return mean(losses) if all(map(math.isfinite, losses)) else math.inf


@cache
def load(problem):
    return PROBLEMS[problem][0](return_X_y=True)


class Network:
    """A network, its training data in batches, and the data that are held out."""

    def __init__(self, problem, batch_size, seed):
        x, y = load(problem)
        x, self.x_test, self.y, self.y_test = train_test_split(x, y, test_size=0.25, stratify=y, random_state=seed)
        scaler = StandardScaler().fit(x)
        self.x, self.x_test = (
            (x / 16, self.x_test / 16) if problem == "digits" else map(scaler.transform, (x, self.x_test))
        )
        generator = np.random.default_rng(seed)
        self.model = nn.MLP(PROBLEMS[problem][1], nn.ReLU, generator=generator)
        self.loader = tg.DataLoader(
            self.x, self.y, batch_size=batch_size, shuffle=batch_size != "all", generator=generator
        )

    def closures(self):
        """A function for each batch of an epoch that computes its loss."""
        for x, y in self.loader:
            yield lambda x=x, y=y: cross_entropy(self.model(x), y)

    def training_loss(self):
        with tg.no_grad():
            return cross_entropy(self.model(self.x), self.y).item()

    def test_accuracy(self):
        with tg.no_grad():
            return 100 * tg.accuracy(self.model(self.x_test), self.y_test)


class Valley:
    """(x1² + 100 x2²) / 2 from (-4, 1). A batch of one has noise of deviation 1 in each gradient, one of k 1/√k."""

    def __init__(self, batch_size="all", seed=0):
        self.x = nn.Parameter([-4.0, 1.0])
        self.noise = 0 if batch_size == "all" else 1 / math.sqrt(batch_size)
        self.generator = np.random.default_rng(seed)
        self.model = self

    def parameters(self):
        return [self.x]

    def closures(self):
        """A function that computes the loss, plus a plane that tilts it at random."""
        tilt = self.noise * self.generator.normal(size=2)
        yield lambda: (self.x * self.x * (STEEPNESS / 2) + tilt * self.x).sum()

    def training_loss(self):
        return float(STEEPNESS @ np.square(self.x.data) / 2)

    def test_accuracy(self):
        return math.nan


@np.errstate(all="ignore")  # rates that are too large are tried too
def run(problem, method, seed, epochs, lr):
    """What happened in one run: numbers, the training loss after every epoch, and in the valley the path of x2."""
    make, batch_size = METHODS[method]
    task = Valley(batch_size, seed) if problem == "quadratic" else Network(problem, batch_size, seed)
    optimizer = make(task.model.parameters(), **({"lr": lr} if lr else {}))
    losses, seconds, x2, steps, evaluations = [], [], [1.0], 0, 0
    for _ in range(epochs):
        start = time.perf_counter()
        for closure in task.closures():
            optimizer.step(closure)
            steps += 1
            evaluations += optimizer.last_search.evaluations if method in LINE_SEARCHES else 1
        seconds.append(time.perf_counter() - start)  # without the time to measure the loss
        losses.append(task.training_loss())
        x2 += [float(task.x.data[1])] if problem == "quadratic" else []
        if not math.isfinite(losses[-1]) or losses[-1] > 1e6:
            losses[-1] = math.inf
            break
    arrived = next((i for i, loss in enumerate(losses) if loss <= PROBLEMS[problem][2]), None)
    return {
        "losses": losses,
        "x2": x2,
        "epochs to target": math.inf if arrived is None else arrived + 1,
        "seconds to target": math.inf if arrived is None else sum(seconds[: arrived + 1]),
        "accuracy": task.test_accuracy(),
        "µs per step": 1e6 * sum(seconds) / steps,
        "state bytes per parameter": state_bytes(optimizer),
        "sign changes of x2": sign_changes(x2) if problem == "quadratic" else math.nan,
        "backward passes": steps * (2 if method == "armijo_full_relaxation" else 1),  # its gᵀHg is one more
        "loss evaluations": evaluations,
    }


def state_bytes(optimizer):
    parameters = sum(p.size for group in optimizer.param_groups for p in group["params"])
    arrays = [value for entry in optimizer.state_dict()["state"].values() for value in entry.values()]
    return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray)) / parameters


def sign_changes(x2):
    signs = [x > 0 for x in x2 if abs(x) > ARRIVED]
    return sum(a != b for a, b in itertools.pairwise(signs))


def summary(problem, method, rate, results):
    """A row of the table: the median over the seeds, but the mean and standard deviation of the accuracy."""
    accuracy = [result["accuracy"] for result in results]
    numbers = {name: median(result[name] for result in results) for name in results[0] if name not in ("losses", "x2")}
    del numbers["accuracy"]
    return {
        "problem": problem,
        "method": method,
        "rate": rate or "searched",
        "epochs": len(results[0]["losses"]),
        "epochs to target": numbers.pop("epochs to target"),
        "seconds to target": numbers.pop("seconds to target"),
        "final loss": median(map(final_loss, results)),
        "test accuracy %": "-" if problem == "quadratic" else f"{mean(accuracy):.1f} ± {pstdev(accuracy):.1f}",
        **numbers,
    }


# The claims ----------------------------------------------------------------------------------------------------------


def check(claim, experiment, function, seeds, epochs, table):
    numbers, checks = function(seeds, epochs, table)
    held = "-" if not checks else "yes" if all(checks) else "partly" if any(checks) else "no"
    return {"claim": claim, "experiment": experiment, "numbers": numbers, "held here": held}


def memory(rule, count, seeds, epochs, table):
    """Whether a rule needs ``count`` state vectors: none is less than any other rule has, two are more."""
    sizes = {}
    for name in ("sgd", "momentum", "adagrad", "rmsprop", "adam"):
        valley = Valley()
        optimizer = METHODS[name][0](valley.parameters())
        optimizer.step(next(valley.closures()))
        sizes[name] = state_bytes(optimizer)
    others = [size for name, size in sizes.items() if name != rule]
    rank = {0: [sizes[rule] < min(others)], 1: [sizes[rule] > sizes["sgd"]], 2: [sizes[rule] > max(others)]}[count]
    return in_words(sizes), [sizes[rule] == count * valley.x.data.itemsize, *rank]


def sgd_is_noisy(seeds, epochs, table):
    variances = {}
    for size in (1, 32):
        task = Network("digits", size, seeds[0])
        gradients = []
        for closure, _ in zip(task.closures(), range(40), strict=False):
            closure().backward()
            gradients.append(np.concatenate([p.grad.data.ravel() for p in task.model.parameters()]))
            task.model.zero_grad()
        variances[size] = np.var(gradients, axis=0).sum()
    ratio = variances[1] / variances[32]
    return f"batch 1: {variances[1]:.3g}, batch 32: {variances[32]:.3g} ({ratio:.3g} times less)", [ratio > 2]


def mini_batches_save_time(seeds, epochs, table):
    times = {(row["problem"], row["method"]): row["seconds to target"] for row in table}
    problems = [p for p in ("digits", "breast_cancer") if (p, "sgd") in times and (p, "stochastic") in times]
    words = [f"{p}: {shown(times[p, 'sgd'])} s, stochastic {shown(times[p, 'stochastic'])} s" for p in problems]
    pairs = [(times[p, "sgd"], times[p, "stochastic"]) for p in problems]
    checks = [mini < single for mini, single in pairs if math.isfinite(min(mini, single))]
    return "; ".join(words) or "skipped: needs sgd and stochastic on a network", checks


@np.errstate(all="ignore")
def descend(make, steps, target=0.0, **options):
    """The path of x2 down the valley without noise, and the steps to the target (inf where it is not reached)."""
    valley, path = Valley(), [1.0]
    optimizer = make(valley.parameters(), **options)
    for step in range(1, steps + 1):
        optimizer.step(next(valley.closures()))
        path.append(float(valley.x.data[1]))
        if not valley.training_loss() < 1e6 or valley.training_loss() <= target:
            return path, step if valley.training_loss() <= target else math.inf
    return path, math.inf


def momentum_damps(seeds, epochs, table):
    words, checks = [], []
    for lr in (0.005, 0.012, 0.016, 0.0199):
        plain, smooth = (descend(make, 200, lr=lr)[0] for make in (optim.GradientDescent, optim.Momentum))
        for measure in (sign_changes, lambda path: np.abs(np.diff(path)).sum()):
            checks.append(bool(measure(smooth) < measure(plain)))
            words.append(f"{measure(plain):.3g} → {measure(smooth):.3g}")
        words[-2:] = [f"rate {lr}: {words[-2]} swings, {words[-1]} travelled"]
    return "; ".join(words), checks


def best_steps(epochs, make, **options):
    """The fewest steps to the target over a fine grid of rates, and that rate."""
    rates, steps = np.geomspace(0.002, 2, 31 if epochs >= 10 else 11), 60 * min(epochs, 10)
    return min((descend(make, steps, 1e-4, lr=float(lr), **options)[1], float(lr)) for lr in rates)


def momentum_is_faster(seeds, epochs, table):
    (plain, plain_lr), (fast, lr) = best_steps(epochs, optim.GradientDescent), best_steps(epochs, optim.Momentum)
    words = f"plain {shown(plain)} steps (rate {plain_lr:.3g}), momentum {shown(fast)} (rate {lr:.3g})"
    return words, [fast < plain]


def momentum_needs_tuning(seeds, epochs, table):
    betas = (0.5, 0.8, 0.9, 0.95, 0.99)
    _, lr = best_steps(epochs, optim.Momentum)
    same = {beta: descend(optim.Momentum, 600, 1e-4, lr=lr, beta=beta)[1] for beta in betas}
    tuned = {beta: best_steps(epochs, optim.Momentum, beta=beta)[0] for beta in betas}
    words = f"steps at the rate {lr:.3g}: {in_words(same)}; at the best rate of each β: {in_words(tuned)}"
    ranges = [(min(steps.values()), max(steps.values())) for steps in (same, tuned)]
    return words, [most >= 2 * least for least, most in ranges if math.isfinite(least)]


def adagrad_adapts(seeds, epochs, table):
    valley = Valley()
    optimizer = optim.Adagrad(valley.parameters(), lr=0.1)
    gradients = []
    for _ in range(20):
        optimizer.step(next(valley.closures()))
        gradients.append(valley.x.grad.data.copy())
    along, across = effective_steps(optimizer, "G")
    sizes = np.sqrt(np.mean(np.square(gradients), axis=0))
    words = f"steep gradient {sizes[1] / sizes[0]:.3g} times the flat one; its step {along / across:.3g} times smaller"
    return f"{words} (SGD: 1)", [along / across > 2]


def effective_steps(optimizer, name):
    """α / √(G + ε) of every parameter that has had a gradient."""
    group, entries = optimizer.param_groups[0], optimizer.state_dict()["state"].values()
    squares = np.concatenate([entry[name].ravel() for entry in entries])
    return group["lr"] / np.sqrt(squares[squares > 0] + group["eps"])


def adagrad_suits_sparse_features(seeds, epochs, table):
    finals = {}
    for name in ("sgd", "adagrad"):
        losses = [sparse_losses(name, seeds[0], min(epochs, 10), lr)[0] for lr in RATES]
        lr = float(RATES[np.nanargmin(losses)])
        finals[name] = [(*sparse_losses(name, seed, min(epochs, 10), lr), lr) for seed in seeds[:3]]
    words = [
        f"{name} (rate {runs[0][2]:.3g}): training loss {mean(run[0] for run in runs):.3g}, "
        f"held-out {mean(run[1] for run in runs):.3g}"
        for name, runs in finals.items()
    ]
    pairs = list(zip(finals["adagrad"], finals["sgd"], strict=True))
    return "; ".join(words), [mean(a[i] - b[i] for a, b in pairs) < 0 for i in (0, 1)]


@np.errstate(all="ignore")
def sparse_losses(name, seed, epochs, lr):
    """Training and held-out loss of a logistic regression: 20 common features say nothing, 180 rare ones everything."""
    generator = np.random.default_rng(seed)
    frequency = np.repeat([0.5, 0.02], [20, 180])
    weights = np.repeat([0.0, 3.0], [20, 180]) * generator.choice([-1, 1], 200)
    x = (generator.random((4000, 200)) < frequency).astype(float)
    y = (generator.random(4000) < 1 / (1 + np.exp(-x @ weights))).astype(float)[:, None]
    model, loss = nn.Linear(200, 1, generator=generator), nn.BCEWithLogitsLoss()
    optimizer = METHODS[name][0](model.parameters(), lr=float(lr))
    for _ in range(epochs):
        for some_x, some_y in tg.DataLoader(x[:2000], y[:2000], batch_size=32, shuffle=True, generator=generator):
            optimizer.step(lambda: loss(model(some_x), some_y))
    with tg.no_grad():
        return loss(model(x[:2000]), y[:2000]).item(), loss(model(x[2000:]), y[2000:]).item()


def decay(make, name, seeds):
    """How many times smaller the median parameter's step on the digits is in step 1000 than in step 1 and 100."""
    ratios = []
    for seed in seeds[:3]:
        task = Network("digits", 32, seed)
        optimizer = make(task.model.parameters(), lr=0.003)
        sizes = {}
        batches = itertools.chain.from_iterable(task.closures() for _ in itertools.count())
        for step, closure in zip(range(1, 1001), batches, strict=False):
            optimizer.step(closure)
            if step in (1, 100, 1000):
                sizes[step] = np.median(effective_steps(optimizer, name))
        ratios.append([sizes[1] / sizes[1000], sizes[100] / sizes[1000]])
    since_1, since_100 = np.median(ratios, axis=0)
    return since_1, since_100, f"in step 1 it was {since_1:.3g} times, in step 100 {since_100:.3g} times as large"


def adagrad_decays(seeds, epochs, table):
    """It decays, and too fast: the loss ends above that of RMSProp, which forgets."""
    since_1, since_100, words = decay(optim.Adagrad, "G", seeds)
    losses = {row["method"]: row["final loss"] for row in table if row["problem"] == "digits"}
    checks = [since_1 > 10, since_100 > 2]
    if {"adagrad", "rmsprop"} <= losses.keys():
        words += f"; final loss, both tuned: {shown(losses['adagrad'])}, RMSProp {shown(losses['rmsprop'])}"
        checks.append(losses["adagrad"] > losses["rmsprop"])
    return words, checks


def rmsprop_does_not_decay(seeds, epochs, table):
    """Its E starts at zero, so that the first steps are up to 1/√(1 - γ) = 3.2 times too long."""
    since_1, since_100, words = decay(optim.RMSprop, "E", seeds)
    return words, [since_1 < 2, since_100 < 2]


def adam_is_fast(seeds, epochs, table):
    words, checks = [], []
    for problem in dict.fromkeys(row["problem"] for row in table):
        rows = {row["method"]: row["epochs to target"] for row in table if row["problem"] == problem}
        if rows.keys() == METHODS.keys() and math.isfinite(min(rows.values())):
            rank = 1 + sum(value < rows["adam"] for value in rows.values())
            words.append(f"{problem}: rank {rank} ({shown(rows['adam'])} epochs, the best {shown(min(rows.values()))})")
            checks.append(rank <= 3 and math.isfinite(rows["adam"]))
    return "; ".join(words) or "skipped: needs all nine rules, and one that reaches a target", checks


MEMORY = "bytes of state per parameter after a step"
DECAY = "step size of the median parameter on the digits in step 1000"
CLAIMS = [
    ("SGD: needs little memory", MEMORY, partial(memory, "sgd", 0)),
    ("SGD: is noisy", "variance of the digits' gradient at the start, batch 1 against 32", sgd_is_noisy),
    (
        "Mini-batch: less time to converge than single examples",
        "seconds to the target, both tuned",
        mini_batches_save_time,
    ),
    ("Momentum: damps oscillation", "x2 in 200 steps down the valley, plain → momentum", momentum_damps),
    ("Momentum: converges faster", "steps down the valley to a loss of 0.0001, both tuned", momentum_is_faster),
    ("Momentum: β has to be tuned", "steps down the valley by β: a factor of 2 or more", momentum_needs_tuning),
    ("AdaGrad: adapts the rate per parameter", "step sizes in the valley after 20 steps", adagrad_adapts),
    (
        "AdaGrad: good for sparse features",
        "rare telling features, against SGD, both tuned",
        adagrad_suits_sparse_features,
    ),
    ("AdaGrad: the rate decays too fast", DECAY, adagrad_decays),
    ("RMSProp: the rate does not decay so", DECAY, rmsprop_does_not_decay),
    ("RMSProp: one more state vector than SGD", MEMORY, partial(memory, "rmsprop", 1)),
    ("Adam: fast", "rank among the nine by epochs to the target: one of the first three", adam_is_fast),
    ("Adam: needs memory for two moments", MEMORY, partial(memory, "adam", 2)),
]


# What is shown -------------------------------------------------------------------------------------------------------


def shown(value):
    if not isinstance(value, (int, float)):
        return str(value)
    if not math.isfinite(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def in_words(numbers):
    return ", ".join(f"{name}: {shown(value)}" for name, value in numbers.items())


def markdown(rows):
    lines = [list(rows[0]), *([shown(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines)


def draw(path, runs):
    """The training loss on the digits over the epochs, the median over the seeds."""
    import matplotlib  # here, as the processes that only train have no use for it

    matplotlib.use("Agg")  # draw into files: no screen is needed
    curves = {}
    for method, results in runs.items():
        length = min(len(result["losses"]) for result in results)
        curves[method.replace("_", " ")] = np.median([result["losses"][:length] for result in results], axis=0)
    axes = tg.viz.plot_losses(curves, ylabel="training loss")
    axes.axhline(PROBLEMS["digits"][2], color="#999999", linewidth=1)
    axes.set(xscale="log", title="Handwritten digits: median over the seeds; thin line: the target")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    axes.figure.set_size_inches(12, 6)
    axes.figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
