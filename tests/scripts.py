"""Scripts run as a user would, each in a process of its own, but without the seconds that their imports take.

The processes are forked from one that has imported NumPy, Matplotlib and scikit-learn already, and nothing else.
"""

import contextlib
import io
import multiprocessing
import os
import runpy
import sys
import traceback
import warnings
from unittest import mock

ENVIRONMENT = {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
IMPORTED = ["matplotlib.pyplot", "sklearn.datasets", "sklearn.model_selection", "sklearn.preprocessing"]

forking = multiprocessing.get_context("forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else None)
forking.set_forkserver_preload(IMPORTED)


def run(script, folder, *arguments):
    """What the script printed, run in ``folder`` with warnings as errors; AssertionError with its errors if it fails.

    It may write to ``sys.stdout`` and ``sys.stderr`` only through Python.
    """
    ours, theirs = forking.Pipe(duplex=False)
    process = forking.Process(target=_run, args=(theirs, str(script), str(folder), [*map(str, arguments)]))
    with mock.patch.dict(os.environ, ENVIRONMENT):  # the first time, this starts the process that forks
        process.start()
    theirs.close()
    try:
        assert ours.poll(120), f"{script} takes more than two minutes"
        code, printed, errors = ours.recv()
    except EOFError:
        raise AssertionError(f"{script} died without a word") from None
    finally:
        process.kill()
        process.join()
    assert code == 0, f"{script} ended with {code}: {errors[-2000:]}"
    return printed


def _run(answer, script, folder, arguments):
    os.chdir(folder)
    sys.argv = [script, *arguments]
    sys.path[0] = os.path.dirname(script)
    printed, errors, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors), warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
            if isinstance(code, str):
                print(code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
            code = 1
    answer.send((code, printed.getvalue(), errors.getvalue()))
