"""Compares the time of one training step in tinygrad_opt with other ways to compute the same step.

    python tests/benchmarks/train_step.py
    python tests/benchmarks/train_step.py --networks tiny --contenders numpy tinygrad_opt

A step is zero_grad, forward, softmax cross-entropy, backward and Adam's update, in float32 on one
core. All contenders start from the same weights with the same batch, and before anything is timed
their first losses are compared: when they differ, the script stops with an error.

To add a contender, write a module in `contenders/` (its `problem.py` says what it needs) and name
it in `CONTENDERS` below; to compare it, add a line to `COMPARISONS`.
"""

import argparse
import contextlib
import math
import platform
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path

from contenders.problem import NETWORKS
from interleaved import Worker, time_in_turn

# name -> (module, further arguments of its training_step)
CONTENDERS = {
    "numpy": ("contenders.numpy_textbook", {}),
    "tinygrad_opt": ("contenders.tinygrad_eager", {}),
    "tinygrad_opt compiled": ("contenders.tinygrad_eager", {"compiled": True}),
    "torch foreach": ("contenders.torch_eager", {"adam": "foreach"}),
    "torch fused": ("contenders.torch_eager", {"adam": "fused"}),
    "mygrad": ("contenders.mygrad_eager", {}),
    "jax.jit": ("contenders.jax_jit", {}),
}


@dataclass(frozen=True)
class Comparison:
    """The time of one contender divided by the smallest time of some others."""

    title: str
    contender: str
    others: list[str]
    targets: dict[str, float] = field(default_factory=dict)  # network -> the ratio to reach


COMPARISONS = [
    Comparison(
        "tinygrad_opt ÷ numpy",
        "tinygrad_opt",
        ["numpy"],
        {"tiny": 0.85, "digits": 0.95, "mnist": 0.60},
    ),
    Comparison(
        "tinygrad_opt ÷ best torch",
        "tinygrad_opt",
        ["torch foreach", "torch fused"],
        {"tiny": 0.40, "digits": 0.65, "mnist": 1.05},
    ),
    Comparison("tinygrad_opt ÷ jax.jit", "tinygrad_opt", ["jax.jit"]),
    Comparison(
        "compiled ÷ best torch",
        "tinygrad_opt compiled",
        ["torch foreach", "torch fused"],
        {"tiny": 0.25, "digits": 0.50, "mnist": 1.00},
    ),
    Comparison(
        "compiled ÷ jax.jit",
        "tinygrad_opt compiled",
        ["jax.jit"],
        {"tiny": 0.60, "digits": 1.00, "mnist": 1.60},
    ),
]

COMPARED_LOSSES = 20
RELATIVE_TOLERANCE = 1e-3


def main():
    options = parse_options()
    times, versions, missing = {}, {}, {}
    for network in options.networks:
        print(f"{network}: {NETWORKS[network]}", file=sys.stderr)
        with contextlib.ExitStack() as stack:
            workers = [start_worker(stack, name, network) for name in options.contenders]
            missing |= {worker.name: worker.missing for worker in workers if worker.missing}
            workers = [worker for worker in workers if not worker.missing]
            versions |= {worker.name: worker.version for worker in workers}
            if not workers:
                raise SystemExit(f"None of the contenders is installed: {missing}")
            check_same_losses(workers)
            times[network] = time_in_turn(workers, options.rounds, options.seconds)

    text = report(times, versions, missing, options.rounds)
    print(text)
    if options.output:
        options.output.write_text(text + "\n", encoding="utf-8")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--rounds", type=int, default=40, help="turns of each contender")
    parser.add_argument("--seconds", type=float, default=20, help="time for each network, roughly")
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="write the report here too")
    return parser.parse_args()


def start_worker(stack, name, network):
    """Start the process of a contender; it ends with the stack."""
    module, arguments = CONTENDERS[name]
    worker = Worker(name, module, "training_step", {"network": network} | arguments)
    stack.callback(worker.close)
    return worker


def check_same_losses(workers):
    """Stop unless all workers report the losses of the first one, step by step."""
    losses = {worker.name: worker.first_results(COMPARED_LOSSES) for worker in workers}
    first = workers[0].name
    for name in losses:
        for step, (a, b) in enumerate(zip(losses[first], losses[name], strict=True), start=1):
            if not math.isclose(a, b, rel_tol=RELATIVE_TOLERANCE):
                raise SystemExit(
                    f"{name} does not compute what {first} computes: "
                    f"the loss at step {step} is {b:.7g} instead of {a:.7g}."
                )


def report(times, versions, missing, rounds):
    """The whole result as Markdown."""
    lines = [
        f"One training step, float32, one core: median of {rounds} rounds in µs a step (in brackets the quartiles).",
        "",
        *table(["network", *versions], time_rows(times, versions)),
        "",
        "Ratios of the medians, with the target of each where there is one.",
        "",
        *table(["network", *(comparison.title for comparison in COMPARISONS)], ratio_rows(times)),
        "",
        f"- All gave the same losses over the first {COMPARED_LOSSES} steps (to {RELATIVE_TOLERANCE:g}, relative).",
        *(f"- Left out: {name} ({reason})." for name, reason in missing.items()),
        f"- Machine: {processor()}, {platform.system()} {platform.machine()}.",
        f"- Python {platform.python_version()}; {', '.join(dict.fromkeys(versions.values()))}.",
    ]
    return "\n".join(lines)


def time_rows(times, names):
    for network, by_name in times.items():
        yield [f"{network} ({NETWORKS[network]})", *(spread(by_name[name]) for name in names)]


def spread(seconds, digits=0):
    """Median and quartiles in µs, such as 104 (103–108)."""
    microseconds = [1e6 * s for s in seconds]
    median = statistics.median(microseconds)
    if len(microseconds) == 1:
        return f"{median:.{digits}f}"
    low, _, high = statistics.quantiles(microseconds, n=4, method="inclusive")
    return f"{median:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def ratio_rows(times):
    for network, by_name in times.items():
        medians = {name: statistics.median(seconds) for name, seconds in by_name.items()}
        yield [network, *(ratio_cell(c, medians, network) for c in COMPARISONS)]


def ratio_cell(comparison, medians, network):
    """The ratio beside its target, such as 0.832 (≤ 0.85: met)."""
    others = [medians[name] for name in comparison.others if name in medians]
    if comparison.contender not in medians or not others:
        return "-"
    ratio = medians[comparison.contender] / min(others)
    target = comparison.targets.get(network)
    if target is None:
        return f"{ratio:.3f}"
    return f"{ratio:.3f} (≤ {target:.2f}: {'met' if ratio <= target else 'not met'})"


def table(header, rows):
    """The lines of a Markdown table, with its columns aligned for the terminal."""
    rows = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines


def processor():
    """The processor's name: Linux keeps it in a file, other systems tell it to Python."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


if __name__ == "__main__":
    main()
