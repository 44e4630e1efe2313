"""Archives: files of arrays with names, and perhaps a text beside them; ``checkpoint.py`` makes them of objects.

There are two formats: ``.npz``, NumPy's, and ``.safetensors``. An archive is written whole or not at all, and what is
read is looked at first: a file from anywhere takes no more memory for its arrays than it has bytes, and runs no code.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

import numpy.typing as npt
from numpy.lib import format as npy

from tinygrad_opt.errors import CheckpointError

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo  # loaded when first needed, as safetensors is

Arrays = dict[str, npt.NDArray[Any]]
Text = str | bytes | None

TEXT = "structure.json"  # the name of the text in an archive
LONGEST_TEXT = 2**24  # bytes; Python's objects for a JSON text are many times larger than the text


def write(path: str, arrays: Arrays, text: str | None) -> None:
    """Write an archive: if this fails or is interrupted, the file is what it was before.

    ``arrays`` are native and contiguous, their names `usable`.
    """
    write_to, _ = find_format(path)
    if text is not None and len(text) > LONGEST_TEXT:
        raise ValueError(
            f"the numbers and strings outside of arrays make a text of {len(text):,} bytes, more than the "
            f"{LONGEST_TEXT:,} that a checkpoint may have: turn long lists of numbers into arrays"
        )
    from pathlib import Path

    target = Path(path).resolve()  # a symbolic link stays, and what it leads to is replaced
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder '{target.parent}' to save in: make it first, with os.makedirs")
    part = target.with_name(f".saving-{os.urandom(8).hex()}.tmp")
    try:
        with open(part, "xb") as file:
            write_to(file, arrays, text)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            os.chmod(part, target.stat().st_mode)
        os.replace(part, target)
    except BaseException:  # Ctrl-C is one
        part.unlink(missing_ok=True)
        raise


def usable(name: str) -> bool:
    """Whether an array can have this name: zip files cannot hold some, and in .safetensors one has a meaning."""
    return len(name) <= 10_000 and not re.search("[\0\\\\\ud800-\udfff]|^__metadata__$", name)


def check(fine: bool, otherwise: str) -> None:
    """Raise CheckpointError unless all is fine."""
    if not fine:
        raise CheckpointError(otherwise)


def find_format(path: str) -> tuple[Callable[..., None], Callable[..., tuple[Arrays, Text]]]:
    """The functions that write and read open files of this ending; ValueError or ImportError if there are none."""
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


def _write_npz(file: IO[bytes], arrays: Arrays, text: str | None) -> None:
    """A .npz file is a zip file with one entry, ``name.npy``, for each array."""
    from zipfile import ZipFile, ZipInfo

    with ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                npy.write_array(entry, array, allow_pickle=False)
        if text is not None:
            archive.writestr(ZipInfo(TEXT), text)


def _read_npz(file: IO[bytes]) -> tuple[Arrays, Text]:
    from zipfile import ZipFile

    with ZipFile(file) as archive:
        entries = archive.infolist()
        size = os.fstat(file.fileno()).st_size
        _check_entries(entries, size)
        file.seek(size - len(archive.comment) - 12)  # the zip file's own count of entries, which zipfile does not check
        check(min(len(entries), 0xFFFF) == int.from_bytes(file.read(2), "little"), "some of its entries are lost")
        text = archive.read(TEXT) if TEXT in archive.namelist() else None
        return {e.filename[:-4]: _read_array(archive, e) for e in entries if e.filename != TEXT}, text


def _check_entries(entries: list[ZipInfo], size: int) -> None:
    """Refuse what would take more memory than the file has bytes, and what could be read in two ways."""
    end = 0
    for e in sorted(entries, key=lambda e: e.header_offset):
        name = e.filename
        known = name.endswith(".npy") or (name == TEXT and e.file_size <= LONGEST_TEXT)
        check(e.compress_type == 0, f"{name!r} in it is compressed; np.load reads what np.savez_compressed wrote")
        check(known, f"it is a zip file with an entry {name!r} of {e.file_size} bytes, which no checkpoint has")
        check(name.isascii() or bool(e.flag_bits & 0x800), f"the name {name!r} in it is in an unknown encoding")
        check(e.compress_size == e.file_size and end <= e.header_offset, f"{name!r} in it overlaps something else")
        end = e.header_offset + e.file_size
    check(end <= size, "its entries are said to be larger than the file is")
    check(len({e.filename for e in entries}) == len(entries), "several entries in it have the same name")


def _read_array(archive: ZipFile, entry: ZipInfo) -> npt.NDArray[Any]:
    """The array of an entry, after a look at its header, which says how much memory to take."""
    name = entry.filename
    with archive.open(entry) as stream:
        read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(stream)]
        shape, _, dtype = read_header(stream)
        check(not dtype.hasobject, f"{name!r} in it holds Python objects: to read these would be to run their code")
        check(dtype.kind in "biuf", f"{name!r} in it has dtype {dtype}; a checkpoint has bools, ints and floats")
        size = stream.tell() + math.prod(shape) * dtype.itemsize
        check(size == entry.file_size and min(shape, default=0) >= 0, f"{name!r} in it cannot have shape {shape}")
    with archive.open(entry) as stream:
        return npy.read_array(stream, allow_pickle=False)


def _write_safetensors(file: IO[bytes], arrays: Arrays, text: str | None) -> None:
    from safetensors.numpy import save

    file.write(save(arrays, None if text is None else {TEXT: text}))


def _read_safetensors(file: IO[bytes]) -> tuple[Arrays, Text]:
    from safetensors import safe_open

    with safe_open(file.name, "np") as archive:  # it checks that the arrays fill the file, without gaps or overlaps
        names, texts = archive.keys(), archive.metadata() or {}
        return {name: archive.get_tensor(name) for name in names}, texts.get(TEXT)
