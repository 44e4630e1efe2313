"""The process of one contender: builds what is to be timed, and times it one chunk at a time.

Started by `interleaved.py` as `worker.py MODULE FUNCTION ARGUMENTS`, the last a JSON object.
`FUNCTION(**ARGUMENTS)` makes a fresh start and returns a callable without arguments: the thing to
time. The first line on standard output tells the contender's version, or what is not installed;
afterwards each JSON line read from standard input is answered by one:

    {"first_results": 20}         -> {"results": [...]}      what the first calls return
    {"warm_up": 5, "calls": 100}  -> {"seconds": 0.000123}   a call, after an untimed warm-up
"""

import gc
import importlib
import json
import os
import sys
import time


def main():
    replies, sys.stdout = sys.stdout, sys.stderr  # what a library prints must not mix with replies
    use_one_core()
    module_name, function_name, arguments = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])

    def reply(**message):
        print(json.dumps(message), file=replies, flush=True)

    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        reply(missing=str(error))
        return
    reply(version=module.VERSION)

    def start():
        return getattr(module, function_name)(**arguments)

    for line in sys.stdin:
        request = json.loads(line)
        if "first_results" in request:
            reply(results=first_results(start, request["first_results"]))
        else:
            reply(seconds=seconds_per_call(start, request["warm_up"], request["calls"]))


def use_one_core():
    """Stay on one core, before a library counts them. (Not every system can: macOS cannot.)"""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def first_results(start, calls):
    """What the first calls after a fresh start return, as plain numbers."""
    call = start()
    return [call().item() for _ in range(calls)]


def seconds_per_call(start, warm_up, calls):
    """The mean time of a call; the garbage collector stays on, for it is part of the cost."""
    gc.collect()  # what the previous chunk left
    call = start()
    for _ in range(warm_up):
        call()
    began = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - began) / calls


if __name__ == "__main__":
    main()
