"""Learn to continue a text letter by letter, and compare the network with counting letters and groups of letters.

    python language_model.py
    python language_model.py --text my_novel.txt --epochs 10 --temperature 0.5
    python language_model.py --epochs 10 --resume output/language_model.npz

A language model gives every character a probability of being the next one. Here it sees the 5 characters before it;
each is looked up in a table of learned numbers, its embedding, and a network makes probabilities of these (Bengio,
Ducharme, Vincent and Jauvin, "A Neural Probabilistic Language Model", 2003). The cross-entropy, in bits, is how many
yes-or-no questions a character costs someone who asks as well as these probabilities allow. The text is the first
chapter of "Alice's Adventures in Wonderland" by Lewis Carroll (1865), in the public domain; its end is held out.
"""

import argparse
import math
import textwrap
from collections import Counter
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draw into files: no screen is needed

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_opt as tg
from tinygrad_opt import nn, optim

# name -> (class, step size at the start, further options): values that work well here
OPTIMIZERS = {
    "adamw": (optim.AdamW, 0.003, {"weight_decay": 0.1}),
    "adam": (optim.Adam, 0.002, {}),
    "momentum": (optim.Momentum, 0.1, {}),
    "sgd": (optim.SGD, 0.1, {}),
}
CONTEXT = 5  # how many characters the network sees
ALICE = Path(__file__).parent / "data" / "alice.txt"
BLUE, ORANGE = "#0072B2", "#D55E00"
KINDS = {"vowel": ("circle", "#E69F00"), "consonant": ("square", "#56B4E9"), "other": ("round", "white")}


def main():
    options = parse_options()
    optimizer_class, lr, further = OPTIMIZERS[options.optimizer]
    tg.manual_seed(options.seed)

    text = " ".join(options.text.read_text(encoding="utf-8").lower().split())  # it is too short to learn capitals
    if len(text) < 1000:
        raise SystemExit(f"{options.text} has {len(text)} characters: far too few to learn from")
    alphabet = sorted(set(text))
    codes = np.array([alphabet.index(character) for character in text])
    cut = len(codes) * 9 // 10
    training, held_out = examples(codes[:cut]), examples(codes[cut - CONTEXT :])

    # Much keeps the network from learning the text by heart: small embeddings, which grow where they are of use, the
    # dropout of embeddings and hidden units, and AdamW's weight decay.
    embedding = nn.Embedding(len(alphabet), 24)
    nn.init.normal_(embedding.weight, std=0.1)
    model = nn.Sequential(
        embedding,
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(CONTEXT * 24, 200),
        nn.LayerNorm(200),
        nn.ReLU(),
        nn.Dropout(0.4),
        nn.Linear(200, len(alphabet)),
    )
    print(nn.summary(model, (CONTEXT,), dtype=int))

    # This is all that changes in training, so a run that loads it goes on as if it had never been interrupted. The
    # schedule must not depend on the number of epochs, which a run that is resumed does not know beforehand.
    optimizer = optimizer_class(model.parameters(), lr=lr if options.lr is None else options.lr, **further)
    scheduler = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.93)
    loader = tg.DataLoader(*training, batch_size=64, shuffle=True)
    run = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "loader": loader, "history": tg.History()}
    if options.resume:
        state = tg.load(options.resume)
        for name, part in run.items():
            part.load_state_dict(state[name])
        tg.set_rng_state(state["rng"])
    history = tg.fit(
        model,
        bits,
        optimizer,
        loader,
        epochs=options.epochs,
        validation=held_out,
        scheduler=scheduler,
        history=run["history"],
    )

    options.output.mkdir(parents=True, exist_ok=True)
    picture, checkpoint = options.output / "language_model.png", options.output / "language_model.npz"
    tg.save({**run, "rng": tg.get_rng_state()}, checkpoint)

    rows = {"any character alike": [math.log2(len(alphabet))] * 2}
    for n in (1, 2, 3, CONTEXT + 1):
        name = "how often each one is" if n == 1 else f"after {n - 1} character{'s' if n > 2 else ''}, by counting"
        rows[name] = count_groups(text, cut, len(alphabet), n)
    rows[f"this network, epoch {history.epochs}"] = [
        tg.evaluate(model, data, {"bits": bits})["bits"] for data in (training, held_out)
    ]
    print(f"\n{'bits per character':32}{'training':>10}{'held out':>10}")
    for name, numbers in rows.items():
        print(f"{name:32}" + "".join(f"{number:10.4f}" for number in numbers))

    sample = write(model, alphabet, codes[cut - CONTEXT : cut], options)
    print(f"\nwhat it writes, at temperature {options.temperature:g}:\n{textwrap.fill(sample, 80)}\n")
    draw(picture, history, rows, alphabet, embedding.weight.data, np.bincount(codes))
    print(f"picture: {picture.resolve()}\ncheckpoint, for --resume: {checkpoint.resolve()}")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, default=ALICE, metavar="FILE", help="default: a chapter of Alice")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="a checkpoint to go on from, with the same options")
    parser.add_argument(
        "--temperature", type=float, default=0.7, help="low: likely characters; high: any (default: 0.7)"
    )
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="adamw")
    parser.add_argument("--lr", type=float, help="step size at the start (default: one that suits the optimizer)")
    parser.add_argument("--epochs", type=int, default=30, help="passes over the data (default: 30)")
    parser.add_argument("--seed", type=int, default=0, help="for the initial weights, the shuffling and the sample")
    parser.add_argument("--output", type=Path, default=Path("output"), metavar="FOLDER", help="default: ./output")
    options = parser.parse_args()
    if not options.temperature > 0:
        parser.error("--temperature must be above 0")
    return options


def examples(codes):
    """Every group of characters (examples, CONTEXT), and the one that follows it (examples,)."""
    windows = np.lib.stride_tricks.sliding_window_view(codes, CONTEXT + 1)
    return windows[:, :-1], windows[:, -1]


def bits(logits, target):
    """The cross-entropy to base 2."""
    return nn.functional.cross_entropy(logits, target) / math.log(2)


def count_groups(text, cut, characters, n):
    """The bits per character, in both parts, when the probabilities are counts of groups of n characters.

    A group that never occurred is not impossible: the probability that groups of n - 1 give is mixed in, as if it were
    5 occurrences; theirs is mixed with that of groups of n - 2, and so on down to equal probabilities.
    """
    groups = Counter(text[i - m : i + 1] for m in range(n) for i in range(m, cut))
    starts = Counter(text[i - m : i] for m in range(n) for i in range(m, cut))
    costs = []
    for i in range(CONTEXT, len(text)):
        p = 1 / characters
        for m in range(n):
            p = (groups[text[i - m : i + 1]] + 5 * p) / (starts[text[i - m : i]] + 5)
        costs.append(-math.log2(p))
    return np.mean(costs[: cut - CONTEXT]), np.mean(costs[cut - CONTEXT :])


def write(model, alphabet, start, options, length=300):
    """Draw one character after the other from the probabilities of the model, and let it see what was drawn."""
    rng = np.random.default_rng(options.seed)
    codes = list(start)
    model.eval()
    with tg.no_grad():
        for _ in range(length):
            logits = model([codes[-CONTEXT:]]).numpy()[0] / options.temperature
            p = np.exp(logits - logits.max())
            codes.append(rng.choice(len(alphabet), p=p / p.sum()))
    return "".join(alphabet[code] for code in codes)


def draw(path, history, rows, alphabet, vectors, counts):
    """The loss curves beside what counting achieves, and the embeddings of all common characters in a plane."""
    plt.rcParams.update({"font.size": 14, "axes.titlesize": 17})
    figure, (left, right) = plt.subplots(1, 2, figsize=(16, 8), layout="constrained", width_ratios=[1, 1.1])
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)

    epochs = range(1, history.epochs + 1)
    left.plot(epochs, history["loss"], "o-", color=BLUE, linewidth=2.5, label="training, with dropout")
    left.plot(epochs, history["val_loss"], "s--", color=ORANGE, linewidth=2.5, label="held out")
    *baselines, (_, (_, reached)) = rows.items()
    for name, (_, level) in baselines:
        left.axhline(level, color="grey", linewidth=1.5, linestyle=":")
        left.text(0.97, level + 0.02, name, ha="right", va="bottom", transform=left.get_yaxis_transform())
    left.set(xlabel="epoch", ylabel="bits per character", title=f"Held out: {reached:.2f} bits per character")
    left.xaxis.get_major_locator().set_params(integer=True)
    left.legend(loc="upper right", bbox_to_anchor=(1, 0.93))

    # The plane in which the embeddings differ most (PCA). Compared are their directions, as their lengths tell more of
    # how rare a character is; those of very rare ones have hardly been learned.
    common = [code for code in range(len(alphabet)) if counts[code] >= 20]
    unit = vectors[common] / np.linalg.norm(vectors[common], axis=1, keepdims=True)
    centred = unit - unit.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    for (x, y), code in zip(apart(centred @ directions[:2].T), common, strict=True):
        character = alphabet[code]
        kind = "vowel" if character in "aeiou" else "consonant" if character.isalpha() else "other"
        box, colour = KINDS[kind]
        style = {"boxstyle": f"{box},pad=0.25", "facecolor": colour, "edgecolor": "black"}
        letter = character.replace(" ", "␣")
        right.text(x, y, letter, fontsize=20, family="monospace", ha="center", va="center", bbox=style)
        right.plot(x, y, alpha=0)  # so that the axes reach as far as the letters
    right.set_title("Embeddings: vowels (round), consonants (square)\nand other characters (white)")
    right.set(xticks=[], yticks=[])
    right.margins(0.07)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def apart(places):
    """The places, from 0 to 1, with those that would overlap in the picture moved apart, a little at a time."""
    places = (places - places.min(axis=0)) / np.ptp(places, axis=0)
    for _ in range(200):
        away = places[:, None] - places
        distance = np.linalg.norm(away, axis=2, keepdims=True) + np.eye(len(places))[:, :, None]
        places = places + 0.1 * np.sum(away / distance * np.maximum(0.085 - distance, 0), axis=1)
    return places


if __name__ == "__main__":
    main()
