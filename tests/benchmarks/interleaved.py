"""Times several contenders in turn, each in a process of its own and all on one core.

Separate processes keep the imports and thread pools of one contender away from the others. Taking
turns many times lets what slows the machine for a while slow all of them alike.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}

# Every chunk is a fresh start. It is kept short, so that all contenders time the same early stretch
# of training: much later, gradients fade into denormal numbers, which are slow in some libraries.
WARM_UP = 5
FEWEST_CALLS = 5
MOST_CALLS = 400


class Worker:
    """The parent's end of one contender's process.

    `missing` says what is not installed, or is None; `version` is the contender's version.
    """

    def __init__(self, name, module, function, arguments):
        self.name = name
        search_path = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), module, function, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ONE_THREAD | {"PYTHONPATH": os.pathsep.join(search_path)},
        )
        hello = self._read()
        self.missing = hello.get("missing")
        self.version = hello.get("version")

    def first_results(self, calls):
        return self._ask(first_results=calls)["results"]

    def seconds_per_call(self, calls, warm_up):
        return self._ask(warm_up=warm_up, calls=calls)["seconds"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()

    def _ask(self, **request):
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return self._read()

    def _read(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"The process of {self.name} stopped: its error is printed above.")
        return json.loads(line)


def time_in_turn(workers, rounds, seconds, warm_up=WARM_UP, fewest_calls=FEWEST_CALLS):
    """Time every worker once a round, in about `seconds` altogether.

    Returns a dict from each worker's name to its seconds per call, one number a round. The order is
    shuffled from round to round, so that nobody always runs after the same neighbour.
    """
    calls = calls_per_chunk(workers, rounds, seconds, warm_up, fewest_calls)
    print(f"  {rounds} rounds of {calls} calls ...", file=sys.stderr)
    times = {worker.name: [] for worker in workers}
    order = random.Random(0)
    for _ in range(rounds):
        for worker in order.sample(workers, len(workers)):
            times[worker.name].append(worker.seconds_per_call(calls, warm_up))
    return times


def calls_per_chunk(workers, rounds, seconds, warm_up, fewest_calls):
    """How many calls to time in each chunk: the same number for every worker."""
    one_call_of_each = sum(worker.seconds_per_call(fewest_calls, warm_up) for worker in workers)
    affordable = int(seconds / rounds / one_call_of_each) - warm_up
    return min(max(affordable, fewest_calls), MOST_CALLS)
