"""Compares the time of one step of Adam, `optimizer.step()` alone, with gradients that stay the same.

    python tests/benchmarks/adam_step.py

The parameters are those of the networks of `train_step.py`, in float32, on one core. The textbook is a
loop over the parameters in NumPy. After ten steps all contenders must have the same parameters.
"""

import contextlib
import math
import statistics
import sys

from contenders.problem import NETWORKS
from interleaved import Worker, time_in_turn
from train_step import spread, table

CONTENDERS = {
    "numpy": ("contenders.numpy_textbook", {}),
    "tinygrad_opt": ("contenders.tinygrad_eager", {}),
    "torch foreach": ("contenders.torch_eager", {"adam": "foreach"}),
    "torch fused": ("contenders.torch_eager", {"adam": "fused"}),
}
# tinygrad_opt ÷ other, network, at most
TARGETS = [("torch fused", "tiny", 0.5), ("numpy", "mnist", 0.5), ("torch fused", "mnist", 4.0)]


def main():
    medians, rows = {}, []
    for network in NETWORKS:
        print(network, file=sys.stderr)
        with contextlib.ExitStack() as stack:
            workers = []
            for name, (module, arguments) in CONTENDERS.items():
                worker = Worker(name, module, "adam_step", {"network": network, **arguments})
                stack.callback(worker.close)
                if not worker.missing:
                    workers.append(worker)
            check_same_sum(workers)
            seconds = time_in_turn(workers, rounds=30, seconds=20)
        medians[network] = {name: statistics.median(times) for name, times in seconds.items()}
        rows.append(
            [f"{network} ({NETWORKS[network].parameters:,})", *(spread(times, 1) for times in seconds.values())]
        )
    print("One step of Adam, float32, one core: median in µs (in brackets the quartiles).\n")
    print("\n".join(table(["parameters", *medians["tiny"]], rows)))
    print("\nRatios of the medians, tinygrad_opt ÷ the other:\n")
    for other, network, most in TARGETS:
        if other in medians[network]:
            ratio = medians[network]["tinygrad_opt"] / medians[network][other]
            print(f"- {network}, ÷ {other}: {ratio:.3f} (≤ {most}: {'met' if ratio <= most else 'not met'})")


def check_same_sum(workers):
    sums = {worker.name: worker.first_results(10)[-1] for worker in workers}
    if any(not math.isclose(a, b, rel_tol=1e-4) for a in sums.values() for b in sums.values()):
        raise SystemExit(f"The contenders do not compute the same parameters: {sums}")


if __name__ == "__main__":
    main()
