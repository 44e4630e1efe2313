"""Checkpoints: ``save`` writes a model, or a whole training run, to one file, and ``load`` reads it back.

A file holds arrays with names. What is saved is taken apart for it: every array gets a name that tells its place, such
as ``optimizer/state/0/v``, and the rest (the nesting, the numbers and strings, where each array belongs) is one JSON
text, ``structure.json``. A dict of arrays, such as the state of a model, needs no such text: the file has just its
names, and other programs read it. Nothing in a file is ever executed: it is read as arrays, numbers and strings.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from tinygrad_opt.errors import CheckpointError
from tinygrad_opt.tensor import Tensor

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo  # loaded when first needed, as safetensors is

Arrays = dict[str, npt.NDArray[Any]]

STRUCTURE = "structure.json"
LONGEST_STRUCTURE = 2**24  # bytes; Python's objects for a JSON text are many times larger than the text
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
    path = os.fsdecode(path)
    write, _ = _format(path)
    arrays: Arrays = {}
    structure = _encode(obj, (), arrays)
    plain = structure == {"dict": [[name, {"array": name}] for name in arrays]}
    text = None if plain else json.dumps(structure)
    if text is not None and len(text) > LONGEST_STRUCTURE:
        raise ValueError(
            f"the numbers and strings outside of arrays make a text of {len(text):,} bytes, more than the "
            f"{LONGEST_STRUCTURE:,} that a checkpoint may have: turn long lists of numbers into arrays"
        )
    _replace(path, lambda file: write(file, arrays, text))


def load(path: str | os.PathLike[str]) -> Any:
    """Read what `save` wrote: the same containers, with equal numbers, and arrays of the same dtypes, shapes and bits.

    Tensors come back as arrays. What had a ``state_dict()``, or was a Generator, comes back as that dict: hand it to
    ``load_state_dict``, or assign it to ``bit_generator.state``. A file of arrays from elsewhere (``np.savez``,
    safetensors) is a dict of arrays. A file from a stranger can be tried: nothing in it is executed, and it takes about
    as much memory as it has bytes.

    Raises CheckpointError for a file that is damaged or no checkpoint; FileNotFoundError when there is none; ValueError
    and ImportError as `save` does.

    >>> import os, tempfile, numpy as np, tinygrad_opt as tg
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "run.npz")
    ...     tg.save({"losses": [0.5, 0.25], "best": (3, np.ones(2))}, path)
    ...     tg.load(path)
    {'losses': [0.5, 0.25], 'best': (3, array([1., 1.]))}
    """
    path = os.fsdecode(path)
    _, read = _format(path)
    with open(path, "rb") as file:
        try:
            arrays, text = read(file)
            if text is None:
                return arrays
            result = _decode(json.loads(text), arrays)
            _check(not arrays, f"its {STRUCTURE} does not say where these arrays belong: {list(arrays)!r:.80}")
            return result
        except Exception as error:  # for a damaged file zipfile, json, NumPy and safetensors raise all kinds of them
            what = error if isinstance(error, CheckpointError) else f"{type(error).__name__}: {error}"
            raise CheckpointError(
                f"{path} could not be loaded: {what}. If it is a checkpoint, it was damaged, or not copied whole: take "
                "another copy of it, or an older one"
            ) from error


def _check(fine: bool, otherwise: str) -> None:
    if not fine:
        raise CheckpointError(otherwise)


def _format(path: str) -> tuple[Callable[..., None], Callable[..., tuple[Arrays, str | bytes | None]]]:
    """The functions that write and read files of such an ending."""
    if path.endswith(".npz"):
        return _write_npz, _read_npz
    if not path.endswith(".safetensors"):
        raise ValueError(f"the path of a checkpoint ends in .npz or .safetensors, which says its format; got {path!r}")
    try:
        import safetensors  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "the package for .safetensors files is missing: pip install 'tinygrad_opt[checkpoint]'. .npz needs none"
        ) from error
    return _write_safetensors, _read_safetensors


def _replace(path: str, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file under a name of its own, and rename it to ``path`` when it is whole and on the disk."""
    target = Path(path).resolve()  # a symbolic link stays, and what it leads to is replaced
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder '{target.parent}' to save in: make it first, with os.makedirs")
    part = target.with_name(f".saving-{os.urandom(8).hex()}.tmp")
    try:
        with open(part, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            os.chmod(part, target.stat().st_mode)
        os.replace(part, target)
    except BaseException:  # Ctrl-C is one
        part.unlink(missing_ok=True)
        raise


# Objects: taken apart and put together -------------------------------------------------------------------------------


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
    if re.search("[\0\\\\\ud800-\udfff]|^__metadata__$", name) or len(name) > 10_000:
        name = "array"  # such a name cannot stand in a zip file, or has a meaning in a .safetensors file
    while name in arrays:
        name += f"~{len(arrays)}"
    arrays[name] = np.asarray(value, value.dtype.newbyteorder("="), order="C")
    return {"scalar" if isinstance(value, np.generic) else "array" if value.dtype.isnative else "swapped": name}


def _place(path: tuple[Any, ...]) -> str:
    return "obj" + "".join(f"[{json.dumps(key)}]" for key in path)


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
    raise CheckpointError(f"in its {STRUCTURE}, {code!r:.80} means nothing, or an array that is not there")


# Formats: arrays with names, and perhaps a text ----------------------------------------------------------------------


def _write_npz(file: IO[bytes], arrays: Arrays, text: str | None) -> None:
    """A .npz file is a zip file with one entry, ``name.npy``, for each array."""
    from zipfile import ZipFile, ZipInfo

    with ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                npy.write_array(entry, array, allow_pickle=False)
        if text is not None:
            archive.writestr(ZipInfo(STRUCTURE), text)


def _read_npz(file: IO[bytes]) -> tuple[Arrays, str | bytes | None]:
    from zipfile import ZipFile

    with ZipFile(file) as archive:
        entries = archive.infolist()
        _check_entries(entries, os.fstat(file.fileno()).st_size)
        text = archive.read(STRUCTURE) if STRUCTURE in archive.namelist() else None
        return {e.filename[:-4]: _read_array(archive, e) for e in entries if e.filename != STRUCTURE}, text


def _check_entries(entries: list[ZipInfo], size: int) -> None:
    """Refuse what would take more memory than the file has bytes, and what could be read in two ways."""
    end = 0
    for e in sorted(entries, key=lambda e: e.header_offset):
        name = e.filename
        known = name.endswith(".npy") or (name == STRUCTURE and e.file_size <= LONGEST_STRUCTURE)
        _check(e.compress_type == 0, f"{name!r} in it is compressed; np.load reads what np.savez_compressed wrote")
        _check(known, f"it is a zip file with an entry {name!r} of {e.file_size} bytes, which no checkpoint has")
        _check(name.isascii() or bool(e.flag_bits & 0x800), f"the name {name!r} in it is in an unknown encoding")
        _check(e.compress_size == e.file_size and end <= e.header_offset, f"{name!r} in it overlaps something else")
        end = e.header_offset + e.file_size
    _check(end <= size, "its entries are said to be larger than the file is")
    _check(len({e.filename for e in entries}) == len(entries), "several entries in it have the same name")


def _read_array(archive: ZipFile, entry: ZipInfo) -> npt.NDArray[Any]:
    """The array of an entry, after a look at its header, which says how much memory to take."""
    name = entry.filename
    with archive.open(entry) as stream:
        read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(stream)]
        shape, _, dtype = read_header(stream)
        _check(not dtype.hasobject, f"{name!r} in it holds Python objects: to read these would be to run their code")
        _check(dtype.kind in "biuf", f"{name!r} in it has dtype {dtype}; a checkpoint has bools, ints and floats")
        size = stream.tell() + math.prod(shape) * dtype.itemsize
        _check(size == entry.file_size and min(shape, default=0) >= 0, f"{name!r} in it cannot have shape {shape}")
    with archive.open(entry) as stream:
        return npy.read_array(stream, allow_pickle=False)


def _write_safetensors(file: IO[bytes], arrays: Arrays, text: str | None) -> None:
    from safetensors.numpy import save

    file.write(save(arrays, None if text is None else {STRUCTURE: text}))


def _read_safetensors(file: IO[bytes]) -> tuple[Arrays, str | bytes | None]:
    from safetensors import safe_open

    with safe_open(file.name, "np") as archive:  # it checks that the arrays fill the file, without gaps or overlaps
        names, texts = archive.keys(), archive.metadata() or {}
        return {name: archive.get_tensor(name) for name in names}, texts.get(STRUCTURE)
