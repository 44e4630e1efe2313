"""Measures what `tg.compile` costs: the time to compile a training step, and the memory of one that is compiled.

    python tests/benchmarks/compile_cost.py

The time is that of the first call of a fresh function, with tracing, writing and one run. The memory is that of all
arrays, parameters and the optimizer's vectors among them, at the peak of a step: those that there are before it, which
are the same from step to step, and what the step adds to them at most.
"""

import gc
import statistics
import time
import tracemalloc

import numpy as np
from contenders.problem import NETWORKS, batch
from contenders.tinygrad_eager import training_step
from interleaved import WARM_UP
from train_step import table

import tinygrad_opt as tg
from tinygrad_opt import nn

MOST_MILLISECONDS = 50
FRESH_FUNCTIONS = 15


def main():
    milliseconds = compile_milliseconds("digits")
    limit = f"{milliseconds:.1f} (≤ {MOST_MILLISECONDS}: {met(milliseconds <= MOST_MILLISECONDS)})"
    print("\n".join(table(["network", "to compile it, ms"], [["digits", limit]])), end="\n\n")

    rows = []
    for network in NETWORKS:
        plain, compiled = (peak_kilobytes(network, compiled=compiled) for compiled in (False, True))
        rows.append([network, f"{plain:,.0f}", f"{compiled:,.0f} (≤ uncompiled: {met(compiled <= plain)})"])
    print("\n".join(table(["network", "peak of a step, kB", "compiled"], rows)))


def compile_milliseconds(network):
    """The median for several functions, each compiled for the first time."""
    tg.set_default_dtype("float32")
    x, y = batch(network)
    times = []
    for _ in range(FRESH_FUNCTIONS):
        model = nn.MLP(NETWORKS[network].sizes, activation=nn.ReLU)
        loss_fn = tg.compile(lambda x, y, model=model: nn.functional.cross_entropy(model(x), y))
        began = time.perf_counter()
        loss_fn(x, y)
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)


def peak_kilobytes(network, compiled):
    """The arrays at the peak of a step, in thousands of bytes."""
    tracemalloc.start()
    step = training_step(network, compiled=compiled)
    for _ in range(WARM_UP):
        step()
    gc.collect()
    numpys = tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)
    held = sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([numpys]).traces)
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    step()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (held + peak - before) / 1e3


def met(reached):
    return "met" if reached else "not met"


if __name__ == "__main__":
    main()
