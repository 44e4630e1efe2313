"""Compares the time of convolution and pooling with PyTorch's, on 32 images of 28 x 28 pixels, float32, one core.

    python tests/benchmarks/image_layers.py
    python tests/benchmarks/image_layers.py --seconds 5

Every layer is timed forward alone, without a graph, and forward and backward, with the gradients of
the images, the weight and the bias. Both must compute the same number.
"""

import argparse
import contextlib
import math
import statistics
import sys

from interleaved import Worker, time_in_turn
from train_step import spread, table

CONTENDERS = {"tinygrad_opt": "contenders.tinygrad_eager", "torch": "contenders.torch_eager"}
AT_MOST = 3.0  # tinygrad_opt ÷ torch
CONVOLUTIONS = [(8, 8, 3, 1), (8, 16, 3, 1), (16, 16, 3, 1), (16, 32, 3, 1), (32, 32, 3, 1)]
CONVOLUTIONS += [(8, 8, 5, 1), (16, 16, 5, 1), (32, 32, 5, 1), (8, 16, 3, 2), (16, 32, 3, 2)]
POOLS = [(layer, channels, size, 2) for layer in ("MaxPool2d", "AvgPool2d") for channels in (8, 32) for size in (2, 3)]


def layers():
    """The name of each layer, and the arguments of `image_layer`."""
    for inputs, outputs, size, stride in CONVOLUTIONS:
        options = {"layer": "Conv2d", "inputs": inputs, "outputs": outputs, "size": size, "stride": stride}
        yield f"Conv2d {inputs} → {outputs}, {size} x {size}" + (f", stride {stride}" if stride > 1 else ""), options
    for layer, channels, size, stride in POOLS:
        options = {"layer": layer, "inputs": channels, "size": size, "stride": stride}
        yield f"{layer} {channels} channels, {size} x {size}, stride {stride}", options


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="turns of each contender")
    parser.add_argument("--seconds", type=float, default=3, help="time for each layer and pass, roughly")
    options = parser.parse_args()
    rows, ratios = [], []
    for name, arguments in layers():
        print(name, file=sys.stderr)
        row = [name]
        for backward in (False, True):
            seconds = measure(arguments | {"backward": backward}, options)
            ours, theirs = (statistics.median(times) for times in seconds.values())
            row += [*(spread(times) for times in seconds.values()), f"{ours / theirs:.2f}"]
            ratios.append(ours / theirs)
        rows.append(row)
    columns = [f"{way} {name}" for way in ("forward", "both") for name in (*CONTENDERS, "ratio")]
    print("32 images of 28 x 28, float32, one core: median in µs (in brackets the quartiles).\n")
    print("\n".join(table(["layer", *columns], rows)))
    met = "met" if max(ratios) <= AT_MOST else "not met"
    print(f"\ntinygrad_opt ÷ torch: {min(ratios):.2f} to {max(ratios):.2f} (≤ {AT_MOST}: {met})")


def measure(arguments, options):
    """The seconds of a call, for each contender one number a round."""
    with contextlib.ExitStack() as stack:
        workers = []
        for name, module in CONTENDERS.items():
            workers.append(Worker(name, module, "image_layer", arguments))
            stack.callback(workers[-1].close)
            if workers[-1].missing:
                raise SystemExit(f"{name}: {workers[-1].missing}")
        numbers = [worker.first_results(1)[0] for worker in workers]
        if not math.isclose(*numbers, rel_tol=1e-3, abs_tol=1e-4):
            raise SystemExit(f"The contenders do not compute the same number: {numbers}")
        return time_in_turn(workers, options.rounds, options.seconds, warm_up=2, fewest_calls=2)


if __name__ == "__main__":
    main()
