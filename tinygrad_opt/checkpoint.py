"""Checkpoints: ``save`` writes a model, or a whole training run, to one file, and ``load`` reads it back.

A file holds arrays with names. What is saved is taken apart for it: every array gets a name that tells its place, such
as ``optimizer/state/0/v``, and the rest (the nesting, the numbers and strings, where each array belongs) is one JSON
text, ``structure.json``. A dict of arrays, such as the state of a model, needs no such text: the file has just its
names, and other programs read it. Nothing in a file is ever executed: it is read as arrays, numbers and strings.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from tinygrad_opt import archive
from tinygrad_opt.archive import TEXT, Arrays, check
from tinygrad_opt.errors import CheckpointError
from tinygrad_opt.tensor import Tensor

DEEPEST = 100  # levels of nesting, far from Python's own limit


def save(obj: Any, path: str | os.PathLike[str]) -> None:
    """Write an object to a file, whole or not at all: if this is interrupted, the file is what it was before.

    ``obj`` is anything with a ``state_dict()`` (a model, an optimizer, a schedule, a DataLoader), an array, a Tensor, a
    number, a string, None or a ``numpy.random.Generator``; or dicts (with strings or ints as keys), lists and tuples of
    these, in any nesting. Of what has a ``state_dict()`` that is written, of a Generator its ``bit_generator.state``.
    Arrays are of bools, ints, or floats of up to 64 bits.

    The ending of ``path`` chooses the format: ``.npz`` is NumPy's, ``.safetensors`` needs the package of that name. A
    dict of arrays is written with its keys as names: ``np.load`` and ``safetensors.torch.load_file`` read it.

    Raises TypeError for what cannot be saved, naming its place; ValueError for another ending, or an object that
    contains itself, is nested over 100 deep, or has over 16 MB of numbers and strings outside of arrays;
    FileNotFoundError when there is no such folder; ImportError without safetensors.

    >>> import os, tempfile, tinygrad_opt as tg
    >>> from tinygrad_opt import nn, optim
    >>> model = nn.Linear(2, 1)
    >>> optimizer = optim.Adam(model.parameters())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "run.npz")
    ...     tg.save({"model": model, "optimizer": optimizer, "epoch": 3}, path)
    ...     state = tg.load(path)
    >>> model.load_state_dict(state["model"])
    >>> optimizer.load_state_dict(state["optimizer"])
    >>> state["epoch"]
    3
    """
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f'the second argument of save is the path: tg.save(model, "run.npz"); got {path!r:.80}')
    path = os.fsdecode(path)
    arrays: Arrays = {}
    structure = _encode(obj, (), arrays)
    plain = structure == {"dict": [[name, {"array": name}] for name in arrays]}
    import json  # where it is used: it takes a while

    text = None if plain else json.dumps(structure)
    archive.write(path, arrays, text)


def load(path: str | os.PathLike[str]) -> Any:
    """Read what `save` wrote: the same containers, with equal numbers, and arrays of the same dtypes, shapes and bits.

    Tensors come back as arrays. What had a ``state_dict()``, or was a Generator, comes back as that dict: hand it to
    ``load_state_dict``, or assign it to ``bit_generator.state``. A file of arrays from elsewhere (``np.savez``,
    safetensors) is a dict of arrays. A file from a stranger can be tried: nothing in it is executed, and its arrays
    take as much memory as the file has bytes.

    Raises CheckpointError for a file that is damaged or no checkpoint; FileNotFoundError when there is none; ValueError
    and ImportError as `save` does.

    >>> import os, tempfile, numpy as np, tinygrad_opt as tg
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "run.npz")
    ...     tg.save({"losses": [0.5, 0.25], "best": (3, np.ones(2))}, path)
    ...     tg.load(path)
    {'losses': [0.5, 0.25], 'best': (3, array([1., 1.]))}
    """
    import json

    path = os.fsdecode(path)
    _, read = archive.find_format(path)
    with open(path, "rb") as file:
        try:
            arrays, text = read(file)
            if text is None:
                return arrays
            result = _decode(json.loads(text), arrays)
            check(not arrays, f"its {TEXT} does not say where these arrays belong: {list(arrays)!r:.80}")
            return result
        except Exception as error:  # for a damaged file zipfile, json, NumPy and safetensors raise all kinds of them
            what = error if isinstance(error, CheckpointError) else f"{type(error).__name__}: {error}"
            raise CheckpointError(
                f"{path} could not be loaded: {what}. If it is a checkpoint, it was damaged, or not copied whole: take "
                "another copy of it, or an older one"
            ) from error


def _encode(value: Any, path: tuple[Any, ...], arrays: Arrays) -> Any:
    """What JSON holds of a value; its arrays go to ``arrays``, under names made of ``path``, the keys that lead to it.

    None, bools, numbers, strings and lists stand for themselves. Everything else is a JSON object with one entry, named
    for what it is: ``{"tuple": [...]}``, ``{"dict": [[key, value], ...]}``, ``{"array": name}``.
    """
    if len(path) > DEEPEST:
        raise ValueError(f"{_place(path):.60}... is nested over {DEEPEST} levels deep: does it contain itself?")
    if hasattr(value, "state_dict") and not isinstance(value, type):
        value = value.state_dict()
    elif isinstance(value, np.random.Generator):
        value = value.bit_generator.state
    elif isinstance(value, Tensor):
        value = np.asarray(value.data)
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, np.generic) or type(value) in (np.ndarray, np.memmap):  # before float: a np.float64 is one
        if value.dtype.kind in "biuf" and value.dtype.itemsize <= 8:
            return _encode_array(value, path, arrays)
    elif isinstance(value, int):
        return value if abs(value) < 2**63 else {"int": hex(value)}
    elif isinstance(value, float):
        return value if math.isfinite(value) else {"float": struct.pack(">d", value).hex()}
    elif isinstance(value, (list, tuple)):
        items = [_encode(item, (*path, i), arrays) for i, item in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    elif isinstance(value, Mapping):
        pairs = [(_encode_key(key, path), item) for key, item in value.items()]
        return {"dict": [[key, _encode(item, (*path, key), arrays)] for key, item in pairs]}
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    dtype = f" of dtype {value.dtype}" if hasattr(value, "dtype") else ""
    raise TypeError(
        f"{_place(path)} is a {kind}{dtype}, which cannot be saved. What can be: numbers, strings, None, arrays of "
        "bools, ints, and floats of up to 64 bits, Tensors, random generators, what has a state_dict(), and dicts, "
        "lists and tuples of these"
    )


def _encode_key(key: Any, path: tuple[Any, ...]) -> Any:
    if isinstance(key, bool) or not isinstance(key, (str, int)):
        raise TypeError(f"{_place(path)} has the key {key!r:.80}: keys that can be saved are strings and ints")
    return _encode(key, (), {})


def _encode_array(value: Any, path: tuple[Any, ...], arrays: Arrays) -> dict[str, str]:
    name = "/".join(map(str, path)) or "array"
    name = name if archive.usable(name) else "array"
    while name in arrays:
        name += f"~{len(arrays)}"
    arrays[name] = np.asarray(value, value.dtype.newbyteorder("="), order="C")
    return {"scalar" if isinstance(value, np.generic) else "array" if value.dtype.isnative else "swapped": name}


def _place(path: tuple[Any, ...]) -> str:
    keys = (str(key) if isinstance(key, int) else '"' + key.replace('"', '\\"') + '"' for key in path)
    return "obj" + "".join(f"[{key}]" for key in keys)


def _decode(code: Any, arrays: Arrays) -> Any:
    """The value that `_encode` made ``code`` of; its arrays are taken out of ``arrays``, so that none is used twice."""
    if isinstance(code, list):
        return [_decode(item, arrays) for item in code]
    if not isinstance(code, dict):
        return code
    [(kind, content)] = code.items()
    if kind == "int":
        return int(content, 16)
    if kind == "float":
        return struct.unpack(">d", bytes.fromhex(content))[0]
    if kind in ("array", "scalar", "swapped") and content in arrays:
        array = arrays.pop(content)
        swapped = array.dtype.newbyteorder() if kind == "swapped" else array.dtype
        return array[()] if kind == "scalar" else array.astype(swapped, copy=False)
    if kind == "tuple" and isinstance(content, list):
        return tuple(_decode(content, arrays))
    if kind == "dict" and isinstance(content, list):
        pairs = [pair for pair in _decode(content, arrays) if isinstance(pair, list) and type(pair[0]) in (str, int)]
        if len(dict(pairs)) == len(content):
            return dict(pairs)
    raise CheckpointError(f"in its {TEXT}, {code!r:.80} means nothing, or an array that is not there")
