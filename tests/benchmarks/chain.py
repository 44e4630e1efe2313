"""Compares the time of an operation in a long chain of elementwise ones, forward and backward.

    python tests/benchmarks/chain.py
    python tests/benchmarks/chain.py --lengths 1000 100000 --contenders tinygrad_opt torch

The operations (multiply, add, sine, subtract) work on 32 numbers in float32, so what is timed is
not arithmetic but the recording of a graph and the walk over it. All contenders must compute the
same sum. The last lines tell how the time of an operation grows with the length of the chain.
"""

import argparse
import contextlib
import math
import statistics
import sys

from interleaved import Worker, time_in_turn
from train_step import spread, table

CONTENDERS = {
    "tinygrad_opt": "contenders.tinygrad_eager",
    "torch": "contenders.torch_eager",
    "mygrad": "contenders.mygrad_eager",
}
LENGTHS = [1_000, 10_000, 100_000, 1_000_000]
LONGEST = {"mygrad": 100_000}  # a longer chain takes it a minute
TARGETS = {1_000: 0.65, 100_000: 0.65}  # tinygrad_opt ÷ torch


def main():
    options = parse_options()
    times = {}
    for length in options.lengths:
        print(f"{length:,} operations", file=sys.stderr)
        with contextlib.ExitStack() as stack:
            names = [name for name in options.contenders if length <= LONGEST.get(name, length)]
            workers = [start_worker(stack, name, length) for name in names]
            workers = [worker for worker in workers if not worker.missing]
            check_same_sum(workers)
            seconds = time_in_turn(workers, options.rounds, options.seconds, warm_up=1, fewest_calls=1)
        times[length] = {name: [s / length for s in per_call] for name, per_call in seconds.items()}
    print(report(times, options.contenders))


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--rounds", type=int, default=10, help="turns of each contender")
    parser.add_argument("--seconds", type=float, default=20, help="time for each length, roughly, at least")
    return parser.parse_args()


def start_worker(stack, name, length):
    """Start the process of a contender; it ends with the stack."""
    worker = Worker(name, CONTENDERS[name], "chain", {"length": length})
    stack.callback(worker.close)
    return worker


def check_same_sum(workers):
    sums = {worker.name: worker.first_results(1)[0] for worker in workers}
    if any(not math.isclose(a, b, rel_tol=1e-3) for a in sums.values() for b in sums.values()):
        raise SystemExit(f"The contenders do not compute the same sum: {sums}")


def report(times, names):
    """The whole result as Markdown."""
    medians = {
        length: {name: statistics.median(seconds) for name, seconds in by_name.items()}
        for length, by_name in times.items()
    }
    rows = [
        [
            f"{length:,}",
            *(spread(by_name[name], 2) if name in by_name else "-" for name in names),
            ratio(medians, length),
        ]
        for length, by_name in times.items()
    ]
    shortest, longest = min(times), max(times)
    growth = [f"{name} {medians[longest][name] / medians[shortest][name]:.2f}" for name in medians[longest]]
    return "\n".join(
        [
            "One operation, forward and backward, one core: median in µs (in brackets the quartiles).",
            "",
            *table(["operations", *names, "tinygrad_opt ÷ torch"], rows),
            "",
            f"Time of an operation at {longest:,} over that at {shortest:,}: {', '.join(growth)}.",
        ]
    )


def ratio(medians, length):
    """The ratio beside its target, such as 0.832 (≤ 0.85: met)."""
    by_name = medians[length]
    if not {"tinygrad_opt", "torch"} <= by_name.keys():
        return "-"
    value, target = by_name["tinygrad_opt"] / by_name["torch"], TARGETS.get(length)
    if target is None:
        return f"{value:.3f}"
    return f"{value:.3f} (≤ {target:.2f}: {'met' if value <= target else 'not met'})"


if __name__ == "__main__":
    main()
