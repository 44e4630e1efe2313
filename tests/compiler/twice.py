"""Run an example that trains with `fit`, uncompiled and compiled, and compare what it prints and what it has learned.

python tests/compiler/twice.py ../examples/train_digits.py --epochs 2 --output /tmp/results
"""

import contextlib
import io
import runpy
import sys

import numpy as np

import tinygrad_opt as tg

fit = tg.fit


def run(script, compiled):
    """What the example prints, and after each training the parameters, buffers and the history of the losses."""
    learned, text = [], io.StringIO()

    def watched_fit(model, *args, **options):
        history = fit(model, *args, **{**options, "compile": compiled})
        tensors = [*model.parameters(), *model.buffers()]
        learned.extend([*(t.data.copy() for t in tensors), np.array(history["loss"])])
        return history

    tg.fit = watched_fit
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(io.StringIO()):
        runpy.run_path(script, run_name="__main__")
    return text.getvalue(), learned


def main():
    script = sys.argv[1]
    sys.argv = sys.argv[1:]
    (text, learned), (compiled_text, compiled_learned) = (run(script, compiled) for compiled in (False, True))
    assert learned, "nothing was trained"
    for array, compiled in zip(learned, compiled_learned, strict=True):
        np.testing.assert_allclose(compiled, array, rtol=1e-3, atol=1e-5)
    assert compiled_text == text
    print(f"{len(learned)} arrays and {len(text.splitlines())} lines are the same")


if __name__ == "__main__":
    main()
