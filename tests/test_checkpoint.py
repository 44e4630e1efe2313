"""Checkpoints: what goes out comes back, a file is whole or not there, and a bad one is refused with a reason.

Files of the format .safetensors need the package safetensors, and the exchange of weights needs PyTorch: without them
those tests are skipped.
"""

import errno
import io
import itertools
import json
import math
import os
import pickle
import re
import signal
import struct
import subprocess
import sys
import threading
import tracemalloc
import types
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

import tinygrad_opt as tg
from tests.optim.test_optimizers import OPTIMIZERS
from tinygrad_opt import CheckpointError, Tensor, archive, nn, optim

try:
    import safetensors.numpy
except ImportError:
    safetensors = None

needs_safetensors = pytest.mark.skipif(safetensors is None, reason="safetensors is not installed")
FORMATS = [".npz", pytest.param(".safetensors", marks=needs_safetensors)]
every_format = pytest.mark.parametrize("ending", FORMATS)


def same(a, b):
    """Whether two values agree in type, nesting and every bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        kinds = [{(type(key), key) for key in mapping} for mapping in (a, b)]
        return kinds[0] == kinds[1] and all(same(value, b[key]) for key, value in a.items())
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (np.ndarray, np.generic)):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    return a == b


def round_trip(obj, path):
    tg.save(obj, path)
    return tg.load(path)


# What goes out comes back ---------------------------------------------------------------------------------------------

A = np.arange(6.0).reshape(2, 3)
NANS = np.array([0x7FF8000000000000, 0xFFF8000000000001, 0x7FF0000000000001, 1], np.uint64).view(np.float64)
DTYPES = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]
VALUES = {
    "nothing": None,
    "a string": "θ \ud800 \0 \n 😀",
    "a bool": True,
    "ints": [0, -1, 2**63 - 1, 2**63, -(2**63), 2**64, -(2**200), 10**5000],
    "floats": [0.0, -0.0, 0.1, 1e308, 5e-324, math.inf, -math.inf, *NANS.tolist()],
    "an array": A,
    "no dicts": [],
    "empty containers": [{}, [], (), {"a": {}}, ((),)],
    "an empty dict": {},
    "a tuple": (0.9, 0.999),
    "a NumPy scalar": np.float32(0.1),
    "NumPy scalars": [np.dtype(dtype).type(1) for dtype in DTYPES],
    "scalars in a dict": {"a": np.float64(1), "b": np.array(1.0), "c": 1.0},
    "0-d arrays": {"a": np.array(3), "b": np.array(True), "c": [np.array(0.5, np.float16)]},
    "empty arrays": {"a": np.zeros(0), "b": np.zeros((0, 3)), "c": np.zeros((3, 0), np.float16)},
    "all dtypes": {dtype: np.array([0, 1, 2]).astype(dtype) for dtype in DTYPES},
    "bits of NaNs": {"nan": NANS, "half": np.array([0x7E01], np.uint16).view(np.float16)},
    "big-endian arrays": {"a": A.astype(">f8"), "b": np.arange(3, dtype=">i2"), "c": [np.array(1, ">u4")]},
    "arrays that are not contiguous": [A[:, ::2], A.T, A[::-1], np.broadcast_to(A, (2, 2, 3)), np.asfortranarray(A)],
    "int keys": {0: {"step": 3, "v": A}, 1: {}, -1: "x", 2**70: 1, 10**5000: A},
    "keys alike": {1: A, "1": A + 1, "01": A + 2},
    "keys that make one path": {"a/b": A, "a": {"b": A + 1, "": A + 2}, "a/": A + 3, "a/b~1": A + 4},
    "keys that zip files do not tell apart": {"a": A, "a.npy": A + 1, "a.npy.npy": A + 2, "": A + 3, ".npy": A + 4},
    "keys that zip files cannot have": {"a\0b": A, "a\0c": A + 1, "a": A + 2, "\ud800": A + 3, "a\\b": A + 4},
    "a very long key": {"x" * 70_000: A, "θ" * 10_000: A + 1, "x" * 70_001: A + 2},
    "keys that have a meaning": {archive.TEXT: A, "__metadata__": A + 1, "file": A + 2, "array": A + 3},
    "flat, with a key that has a meaning": {archive.TEXT: A},
    "keys in all scripts": {"θ": A, "权重/0": A + 1, "é": A + 2, "e\u0301": A + 3, "../../etc": A + 4, "/": A + 5},
    "kinds as keys": {"array": "a", "dict": [["a", 1]], "tuple": [1], "int": "0x1"},
    "ninety levels": list(itertools.accumulate(range(90), lambda inner, _: [inner], initial=A))[-1],
}  # fmt: skip


@every_format
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_values_come_back_bit_for_bit(value, ending, tmp_path):
    assert same(round_trip(value, tmp_path / f"x{ending}"), value)
    assert same(round_trip({"deep": [value, (value,)]}, tmp_path / f"x{ending}"), {"deep": [value, (value,)]})


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(st.characters(codec=None))
    | arrays_of.arrays(st.sampled_from(DTYPES), arrays_of.array_shapes(min_dims=0, min_side=0, max_side=3))
    | arrays_of.arrays(st.sampled_from([">f4", ">i8"]), (2,))
    | st.sampled_from(DTYPES).map(lambda dtype: np.dtype(dtype).type(1))
)  # fmt: skip
KEYS = (
    st.text(st.sampled_from("ab/.~\0\\θ\ud800"), max_size=4) | st.integers(-2, 2) | st.sampled_from(["a.npy", "array"])
)
OBJECTS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple) | st.dictionaries(KEYS, inner),
    max_leaves=12,
)


@every_format
@given(obj=OBJECTS)
@settings(max_examples=60, deadline=None)
def test_any_nesting_comes_back(obj, ending, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / f"nested{ending}"
    assert same(round_trip(obj, path), obj)


@every_format
@given(obj=st.dictionaries(st.text(max_size=5), arrays_of.arrays(st.sampled_from(DTYPES), (2, 1)), max_size=4))
@settings(max_examples=40, deadline=None)
def test_any_dict_of_arrays_comes_back(obj, ending, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / f"flat{ending}"
    assert same(round_trip(obj, path), obj)


@every_format
def test_what_is_saved_in_place_of_objects(ending, tmp_path):
    model = nn.MLP([2, 3, 1])
    optimizer = optim.Adam(model.parameters())
    generator = np.random.Generator(np.random.MT19937(0))
    loader = tg.DataLoader(A, shuffle=True, generator=generator)
    state = round_trip(
        {"all": [model, (optimizer, {1: optim.lr_scheduler.StepLR(optimizer, 3)}), loader], "generator": generator,
         "tensor": Tensor(A), "parameter": model[0].weight, "mapping": types.MappingProxyType({"a": A})},
        tmp_path / f"x{ending}",
    )  # fmt: skip
    weights, (adam, schedule), loading = state["all"]
    assert same(weights, model.state_dict())
    assert same(adam, optimizer.state_dict())
    assert schedule == {1: {"last_epoch": 0, "base_lrs": [0.001]}}
    assert same(loading, loader.state_dict())
    assert same(state["generator"], generator.bit_generator.state)
    assert same(state["tensor"], A)
    assert same(state["parameter"], model[0].weight.data)
    assert same(state["mapping"], {"a": A})
    generator.random(5)
    expected = generator.random(3)
    other = np.random.Generator(np.random.MT19937(7))
    other.bit_generator.state = state["generator"]
    other.random(5)
    np.testing.assert_array_equal(other.random(3), expected)


@every_format
def test_loaded_arrays_are_ones_own(ending, tmp_path):
    a, b = round_trip([A, A], tmp_path / f"x{ending}")
    a[...] = 7
    assert same(b, A)
    tg.save([a, b], tmp_path / f"x{ending}")


@every_format
def test_paths_are_strings_or_path_objects(ending, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tg.save(1, f"a{ending}")
    assert tg.load(tmp_path / f"a{ending}") == 1
    tg.save(2, os.fsencode(f"a{ending}"))
    assert tg.load(f"a{ending}") == 2


# The files -----------------------------------------------------------------------------------------------------------


@every_format
def test_a_dict_of_arrays_has_its_keys_as_names(ending, tmp_path):
    path = tmp_path / f"x{ending}"
    model = nn.MLP([2, 3, 1])
    tg.save(model, path)
    if ending == ".npz":
        with np.load(path) as file:
            read = dict(file)
    else:
        read = safetensors.numpy.load_file(path)
    assert same(read, model.state_dict())
    assert same(tg.load(path), model.state_dict())


def test_numpy_reads_every_array_and_the_structure(tmp_path):
    tg.save({"model": {"0.weight": A}, "epoch": 3, 5: A.astype(">f8"), "θ": A}, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as file:
        assert set(file.files) == {"model/0.weight", "5", "θ", "structure.json"}
        assert same(file["model/0.weight"], A)
        np.testing.assert_array_equal(file["5"], A)
        assert same(file["θ"], A)
        assert json.loads(file["structure.json"]) == {
            "dict": [
                ["model", {"dict": [["0.weight", {"array": "model/0.weight"}]]}],
                ["epoch", 3],
                [5, {"swapped": "5"}],
                ["θ", {"array": "θ"}],
            ]
        }


@needs_safetensors
def test_safetensors_reads_every_array_and_the_structure(tmp_path):
    tg.save({"model": {"0.weight": A}, "epoch": 3}, tmp_path / "x.safetensors")
    assert same(safetensors.numpy.load_file(tmp_path / "x.safetensors"), {"model/0.weight": A})
    with safetensors.safe_open(tmp_path / "x.safetensors", "np") as file:
        assert json.loads(file.metadata()["structure.json"])["dict"][1] == ["epoch", 3]


def test_files_that_numpy_wrote_are_dicts_of_arrays(tmp_path):
    arrays = {
        "0.weight": A,
        "0.bias": np.float32([1]),
        "n": np.array(3),
        "f": np.asfortranarray(A),
        "b": A.astype(">f4"),
    }
    np.savez(tmp_path / "x.npz", **arrays)
    assert same(tg.load(tmp_path / "x.npz"), arrays)
    np.savez(tmp_path / "x.npz")
    assert tg.load(tmp_path / "x.npz") == {}


@needs_safetensors
def test_files_that_safetensors_wrote_are_dicts_of_arrays(tmp_path):
    arrays = {"0.weight": A, "n": np.array(3), "e": np.zeros((0, 2), np.float16)}
    for metadata in (None, {"format": "pt"}):
        safetensors.numpy.save_file(arrays, tmp_path / "x.safetensors", metadata)
        assert same(tg.load(tmp_path / "x.safetensors"), arrays)


@every_format
def test_the_same_object_makes_the_same_file(ending, tmp_path):
    for name in "ab":
        tg.save({"a": A, "n": [1, (2.5, None)]}, tmp_path / f"{name}{ending}")
    assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


# Weights to PyTorch and back -----------------------------------------------------------------------------------------


def torch_model(torch, dtype):
    layers = torch.nn
    return layers.Sequential(layers.Linear(4, 8), layers.Tanh(), layers.Linear(8, 3)).to(getattr(torch, dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_format
def test_weights_go_to_pytorch(dtype, ending, tmp_path):
    torch = pytest.importorskip("torch")
    tg.set_default_dtype(dtype)
    model, theirs = nn.MLP([4, 8, 3], nn.Tanh), torch_model(torch, dtype)
    path = tmp_path / f"x{ending}"
    tg.save(model, path)
    if ending == ".npz":
        with np.load(path) as file:
            theirs.load_state_dict({name: torch.from_numpy(array) for name, array in file.items()})
    else:
        from safetensors.torch import load_file

        theirs.load_state_dict(load_file(path))
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(dtype)
    for name, parameter in theirs.state_dict().items():
        assert same(parameter.numpy(), model.state_dict()[name])
    np.testing.assert_allclose(theirs(torch.from_numpy(x)).detach(), model(x).data, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_format
def test_weights_come_from_pytorch(dtype, ending, tmp_path):
    torch = pytest.importorskip("torch")
    tg.set_default_dtype(dtype)
    model, theirs = nn.MLP([4, 8, 3], nn.Tanh), torch_model(torch, dtype)
    path = tmp_path / f"x{ending}"
    if ending == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in theirs.state_dict().items()})
    else:
        from safetensors.torch import save_file

        save_file(theirs.state_dict(), path)
    model.load_state_dict(tg.load(path))
    for name, parameter in model.named_parameters():
        assert same(parameter.data, theirs.state_dict()[name].numpy())


@needs_safetensors
def test_the_manual_s_code_for_pytorch_runs(tmp_path, pytestconfig, monkeypatch):
    pytest.importorskip("torch")
    page = (pytestconfig.rootpath / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    there, back = re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10))
    weights = {name: array.astype(np.float32) for name, array in model.state_dict().items()}
    names = {"tg": tg, "model": model}
    exec(there, names)
    model[0].weight.data[...] = 0
    exec(back, names)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, weights[name])


@needs_safetensors
def test_half_the_bits_of_a_float32_are_no_numpy_array(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    save_file({"w": torch.ones(3, dtype=torch.bfloat16)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="bfloat16"):
        tg.load(tmp_path / "x.safetensors")


# What cannot be saved ------------------------------------------------------------------------------------------------


class Odd:
    """Nothing that a file can hold."""


class OddState:
    def state_dict(self):
        return {"arrays": [A, Odd()]}


class Itself:
    def state_dict(self):
        return self


UNSAVEABLE = {
    "an object": ({"model": {"x": Odd()}}, r'obj\["model"\]\["x"\] is a tests\.test_checkpoint\.Odd, which cannot be'),
    "within a state": ([1, OddState()], r'obj\[1\]\["arrays"\]\[1\] is a tests'),
    "a state without end": (Itself(), r"obj is a tests\.test_checkpoint\.Itself"),
    "a class": ({"model": nn.Linear}, r'obj\["model"\] is a type'),
    "a function": ([len], r"obj\[0\] is a builtin_function_or_method"),
    "bytes": ({1: b"x"}, r"obj\[1\] is a bytes"),
    "a set": (({1},), r"obj\[0\] is a set"),
    "a complex number": ([1j], r"is a complex"),
    "complex numbers": ({"a": np.ones(2) * 1j}, r'obj\["a"\] is a numpy\.ndarray of dtype complex128'),
    "strings in an array": ([np.array(["a"])], r"ndarray of dtype <U1"),
    "Python objects in an array": ([np.array([Odd()])], r"ndarray of dtype object"),
    "a table": ([np.zeros(2, "f4,i4")], r"ndarray of dtype \["),
    "dates": ([np.datetime64("2020-01-01")], r"datetime64 of dtype datetime64"),
    "a masked array": ([np.ma.masked_array([1.0], [True])], r"MaskedArray of dtype float64"),
    "a matrix": ([np.ones((2, 2)).view(np.matrix)], r"matrix of dtype float64"),
    "a float that depends on the machine": ([np.ones(2, np.longdouble) * 1], r"of dtype (float128|float96|longdouble)"),
    "a generator of Python's": ([iter([])], r"obj\[0\] is a list_iterator"),
    "a tuple as key": ({"a": {(1, 2): 3}}, r'obj\["a"\] has the key \(1, 2\).*strings and ints'),
    "a bool as key": ({True: 3}, r"obj has the key True"),
    "a float as key": ([{0.5: 3}], r"obj\[0\] has the key 0\.5"),
    "None as key": ({None: 3}, r"obj has the key None"),
}  # fmt: skip


@every_format
@pytest.mark.parametrize(("obj", "text"), UNSAVEABLE.values(), ids=UNSAVEABLE)
def test_what_cannot_be_saved_is_named_before_anything_is_written(obj, text, ending, tmp_path):
    if "longdouble" in text and np.dtype(np.longdouble).itemsize == 8:
        pytest.skip("a long double is a double here")
    path = tmp_path / f"x{ending}"
    tg.save(A, path)
    before = path.read_bytes()
    with pytest.raises(TypeError, match=text):
        tg.save(obj, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def cycles():
    inner, outer, mapping = [], [], {}
    inner.append(inner)
    outer.append({"a": (outer,)})
    mapping[0] = mapping
    deep = A
    for _ in range(100_000):
        deep = [deep]
    return {"a list in itself": inner, "three kinds": outer, "a dict in itself": mapping, "a hundred thousand": deep}


@pytest.mark.parametrize("obj", cycles().values(), ids=cycles())
def test_what_contains_itself_is_refused(obj, tmp_path):
    with pytest.raises(ValueError, match=r"over 100 levels deep: does it contain itself\?"):
        tg.save({"a": obj}, tmp_path / "x.npz")
    assert not os.listdir(tmp_path)


@every_format
def test_too_many_numbers_outside_of_arrays_are_refused(ending, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "LONGEST_TEXT", 1000)
    tg.save([0.1] * 100, tmp_path / f"x{ending}")
    with pytest.raises(ValueError, match=r"outside of arrays.*more than the 1,000.*turn long lists"):
        tg.save([0.1] * 1000, tmp_path / f"x{ending}")
    assert tg.load(tmp_path / f"x{ending}") == [0.1] * 100


# Paths ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x", "x.pt", "x.NPZ", "x.npz.bak", "npz", "x.safetensor"])
def test_another_ending_is_refused(name, tmp_path):
    for call in (lambda: tg.save(A, tmp_path / name), lambda: tg.load(tmp_path / name)):
        with pytest.raises(ValueError, match=r"ends in \.npz or \.safetensors.*got '"):
            call()
    assert not os.listdir(tmp_path)


def test_arguments_the_wrong_way_round(tmp_path):
    with pytest.raises(TypeError, match="Linear"):
        tg.save(str(tmp_path / "x.npz"), nn.Linear(2, 1))


@every_format
def test_a_missing_folder_or_file_is_named(ending, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder '.*nowhere' to save in.*makedirs"):
        tg.save(A, tmp_path / "nowhere" / f"x{ending}")
    with pytest.raises(FileNotFoundError, match=f"x{ending}"):
        tg.load(tmp_path / f"x{ending}")
    (tmp_path / f"folder{ending}").mkdir()
    for call in (lambda path: tg.save(A, path), tg.load):
        with pytest.raises(OSError, match=r"(?i)directory|permission"):
            call(tmp_path / f"folder{ending}")
    assert os.listdir(tmp_path) == [f"folder{ending}"]


def test_without_safetensors_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    (tmp_path / "x.safetensors").write_bytes(b"")
    for call in (lambda path: tg.save(A, path), tg.load):
        with pytest.raises(ImportError, match=r"pip install 'tinygrad_opt\[checkpoint\]'"):
            call(tmp_path / "x.safetensors")
    assert same(round_trip(A, tmp_path / "x.npz"), A)


# A file is whole or not there ----------------------------------------------------------------------------------------


class Interrupting:
    """Counts the calls of a function, and fails at one of them."""

    def __init__(self, function, at, error):
        self.function, self.left, self.error = function, at, error

    def __call__(self, *args, **kwargs):
        self.left -= 1
        if not self.left:
            raise self.error
        return self.function(*args, **kwargs)


PLACES = [
    (".npz", "npy.write_array", 1),
    (".npz", "npy.write_array", 3),
    (".npz", "os.fsync", 1),
    (".npz", "os.replace", 1),
    pytest.param(".safetensors", "os.fsync", 1, marks=needs_safetensors),
    pytest.param(".safetensors", "os.replace", 1, marks=needs_safetensors),
]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")], ids=repr)
@pytest.mark.parametrize(("ending", "function", "at"), PLACES)
def test_a_save_that_fails_leaves_the_old_file(ending, function, at, error, tmp_path, monkeypatch):
    path = tmp_path / f"x{ending}"
    for old in (None, {"old": A}):
        if old is not None:
            tg.save(old, path)
        module, name = function.split(".")
        with monkeypatch.context() as patch:
            owner = getattr(archive, module)
            patch.setattr(owner, name, Interrupting(getattr(owner, name), at, error))
            with pytest.raises(type(error)):
                tg.save([A] * 5, path)
        if old is None:
            assert not os.listdir(tmp_path)
        else:
            assert os.listdir(tmp_path) == [path.name]
            assert same(tg.load(path), old)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of a process")
@every_format
def test_a_full_disk_leaves_the_old_file(ending, tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / f"x{ending}"
    tg.save({"old": A}, path)

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    code = f"import numpy as np, tinygrad_opt as tg; tg.save([np.zeros(9_000)] * 3, {str(path)!r})"
    run = subprocess.run([sys.executable, "-c", code], preexec_fn=limit, capture_output=True, text=True, timeout=60)
    assert "OSError" in run.stderr
    assert os.listdir(tmp_path) == [path.name]
    assert same(tg.load(path), {"old": A})


KILLED = """
import os, random, signal, sys, time
import numpy as np, tinygrad_opt as tg

path, number = sys.argv[1], -1
random.seed(0)
for round in range(1000):  # until a save was hit, and 40 times at least
    if round >= 40 and len(os.listdir(os.path.dirname(path))) > 1:
        break
    child = os.fork()
    if not child:
        while True:
            number += 1
            tg.save({"number": number, "arrays": [np.full(20_000, number)] * 4}, path)
    time.sleep(random.random() * 0.03)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    state = tg.load(path)
    number = state["number"]
    assert all((array == number).all() and array.shape == (20_000,) for array in state["arrays"]), state
print(number)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork and SIGKILL")
def test_a_save_that_is_killed_leaves_a_whole_file(tmp_path):
    path = tmp_path / "x.npz"
    tg.save({"number": -1, "arrays": [np.full(20_000, -1)] * 4}, path)
    run = subprocess.run([sys.executable, "-c", KILLED, path], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    left = {name for name in os.listdir(tmp_path) if name != "x.npz"}
    assert left, "no save was hit"
    assert all(name.startswith(".saving-") and name.endswith(".tmp") for name in left)
    tg.save({"number": 0}, path)
    assert tg.load(path) == {"number": 0}


@every_format
def test_a_file_is_whole_while_others_write_it(ending, tmp_path):
    path = tmp_path / f"x{ending}"
    tg.save([np.zeros(5000)] * 2, path)
    stop = threading.Event()

    def write(number):
        while not stop.is_set():
            tg.save([np.full(5000, float(number))] * 2, path)

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write, number) for number in range(3)]
        for _ in range(50):
            a, b = tg.load(path)
            assert same(a, b)
            assert (a == a[0]).all()
        stop.set()
        for writer in writers:
            writer.result()
    assert os.listdir(tmp_path) == [path.name]


@every_format
def test_a_symbolic_link_stays(ending, tmp_path):
    (tmp_path / "runs").mkdir()
    target, link = tmp_path / "runs" / "5.npz", tmp_path / f"latest{ending}"
    for _ in range(2):
        try:
            link.is_symlink() or link.symlink_to(target)
        except OSError:
            pytest.skip("no symbolic links here")
        tg.save(A, link)
        assert link.is_symlink()
        assert not target.is_symlink()
        assert same(tg.load(link), A)
    assert os.listdir(tmp_path / "runs") == ["5.npz"]


@pytest.mark.skipif(os.name != "posix", reason="permissions")
def test_permissions_are_those_of_other_new_files_and_then_stay(tmp_path):
    path, plain = tmp_path / "x.npz", tmp_path / "plain"
    plain.write_text("")
    tg.save(A, path)
    assert path.stat().st_mode == plain.stat().st_mode
    path.chmod(0o640)
    tg.save(A, path)
    assert path.stat().st_mode & 0o777 == 0o640


# Damaged files -------------------------------------------------------------------------------------------------------

SAVED = {
    "flat": {"0.weight": A, "θ": np.arange(5, dtype=np.int16), "n": np.array(True)},
    "nested": {"model": {"0.weight": A}, 3: [np.float32(2), (1.5, None, 2**90, math.nan)], "θ": "θ", "e": np.zeros(0)},
}


@every_format
@pytest.mark.parametrize("obj", SAVED.values(), ids=SAVED)
def test_a_truncated_file_is_refused(obj, ending, tmp_path):
    path = tmp_path / f"x{ending}"
    tg.save(obj, path)
    data = path.read_bytes()
    for part in range(40):
        path.write_bytes(data[: len(data) * part // 40])
        with pytest.raises(CheckpointError, match=f"x{ending} could not be loaded.*older"):
            tg.load(path)
    for cut in (1, 2, 3, 8):
        path.write_bytes(data[:-cut])
        with pytest.raises(CheckpointError):
            tg.load(path)


@every_format
@pytest.mark.parametrize("obj", SAVED.values(), ids=SAVED)
@pytest.mark.filterwarnings("ignore")  # as a user runs it: what makes NumPy warn must not slip through either
def test_a_flipped_byte_is_noticed_where_there_is_a_checksum(obj, ending, tmp_path):
    path = tmp_path / f"x{ending}"
    tg.save(obj, path)
    data = bytearray(path.read_bytes())
    generator = np.random.default_rng(0)
    refused = 0
    for place in range(len(data)):
        for flip in (*generator.integers(1, 256, 1), 1 << generator.integers(8)):
            data[place] ^= flip
            path.write_bytes(data)
            try:
                loaded = tg.load(path)
            except CheckpointError:
                refused += 1
            else:
                assert ending != ".npz" or same(loaded, obj)
            data[place] ^= flip
    assert refused > len(data) / 4


def zip_of(*entries, compression=zipfile.ZIP_STORED):
    """The bytes of a zip file with such names and contents."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return file.getvalue()


def npy(array, **kwargs):
    file = io.BytesIO()
    np.save(file, array, **kwargs)
    return file.getvalue()


def header(text, data=b"", version=b"\x01\x00"):
    text = text.encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


def array_header(shape, descr="'<f8'", data=b""):
    return zip_of(("a.npy", header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}", data)))


def compressed(array):
    file = io.BytesIO()
    np.savez_compressed(file, a=array)
    return file.getvalue()


def objects():
    file = io.BytesIO()
    np.savez(file, a=np.array([Odd(), None]))
    return file.getvalue()


def structured(structure, *entries):
    text = structure if isinstance(structure, (str, bytes)) else json.dumps(structure)
    return zip_of(*entries, ("structure.json", text))


def twice_the_same_entry():
    data = zip_of(("a.npy", npy(A)), ("b.npy", npy(A)))
    return data.replace(b"b.npy", b"a.npy")


def overlapping(copies=50):
    """Many names for the same bytes: the directory's entries all lead to the first array."""
    data = zip_of(*((f"{number:04}.npy", npy(A) if number else npy(np.zeros(100_000))) for number in range(copies)))
    start = data.index(b"PK\x01\x02")
    directory, end = data[start : data.index(b"PK\x05\x06")], data[data.index(b"PK\x05\x06") :]
    size = len(directory) // copies
    first = directory[:size]
    return data[:start] + b"".join(first.replace(b"0000.npy", b"%04d.npy" % i) for i in range(copies)) + end


def sizes_that_lie():
    data = zip_of(("a.npy", npy(A)))
    at = data.index(b"PK\x01\x02") + 20
    return data[:at] + struct.pack("<II", 2**31, 2**31) + data[at + 8 :]


ARRAY = ("a.npy", npy(A))
HOSTILE = {
    "empty": (b"", ""),
    "text": (b"epoch,loss\n1,0.5\n", ""),
    "an image": (b"\x89PNG\r\n\x1a\n" + bytes(100), ""),
    "a pickle": (pickle.dumps({"a": A}), ""),
    "one array": (npy(A), ""),
    "random bytes": (np.random.default_rng(0).bytes(5000), ""),
    "another zip": (zip_of(("README.md", "hello"), ARRAY), r"an entry 'README\.md' of 5 bytes, which no checkpoint"),
    "compressed": (compressed(A), r"'a\.npy' in it is compressed; np\.load reads what np\.savez_compressed wrote"),
    "a zip bomb": (compressed(np.zeros(10**7)), "compressed"),
    "Python objects": (objects(), r"'a\.npy' in it holds Python objects"),
    "strings": (zip_of(("a.npy", npy(np.array(["x"])))), "has dtype <U1"),
    "complex numbers": (zip_of(("a.npy", npy(np.ones(2) * 1j))), "has dtype complex128"),
    "no array": (zip_of(("a.npy", b"0123456789")), "magic"),
    "an empty entry": (zip_of(("a.npy", b"")), ""),
    "a future array": (zip_of(("a.npy", header("{}", version=b"\x09\x00"))), r"9, 0"),
    "an array without a header": (zip_of(("a.npy", header(""))), ""),
    "a header of brackets": (zip_of(("a.npy", header("(" * 9000 + ")" * 9000))), ""),
    "a header of signs": (zip_of(("a.npy", header("-" * 9000 + "1"))), ""),
    "a header of a list": (zip_of(("a.npy", header("[1]"))), "dictionary"),
    "an endless header": (zip_of(("a.npy", header("1" + " " * 60_000))), "large"),
    "a huge shape": (array_header((10**12,)), r"cannot have shape \(1000000000000,\)"),
    "a huge shape, wrapped around": (array_header((2**32, 2**32)), "cannot have shape"),
    "a negative shape": (array_header((-1, -3), data=bytes(24)), "cannot have shape"),
    "a huge shape of nothing": (array_header((2**62, 2**62, 0)), ""),
    "a shape that is too small": (array_header((1,), data=bytes(16)), "cannot have shape"),
    "a huge element": (array_header((1,), "'|V2000000000'"), "dtype"),
    "two arrays of one name": (twice_the_same_entry(), "several entries in it have the same name"),
    "overlapping entries": (overlapping(), "overlaps something else|larger than the file"),
    "sizes that lie": (sizes_that_lie(), "larger than the file is"),
    "no structure": (structured(b""), "JSON"),
    "a structure that is no text": (structured(b"\xff\xfe\x00"), ""),
    "a structure without end": (structured('{"dict": ['), "JSON"),
    "a deep structure": (structured("[" * 100_000 + "]" * 100_000), "RecursionError"),
    "a deep structure of tuples": (structured('{"tuple": [' * 5000 + "]}" * 5000), "RecursionError"),
    "a number of too many digits": (structured("9" * 10_000), "digits"),
    "an array that is not there": (structured({"array": "b"}, ARRAY), "an array that is not there"),
    "an array that is used twice": (structured([{"array": "a"}] * 2, ARRAY), "an array that is not there"),
    "an array copied many times": (structured([{"swapped": "a"}] * 9999, ARRAY), "an array that is not there"),
    "an array without a place": (structured([1], ARRAY), r"does not say where these arrays belong: \['a'\]"),
    "an array by number": (structured({"array": 0}, ARRAY), ""),
    "an array by list": (structured({"array": ["a"]}, ARRAY), ""),
    "an unknown kind": (structured({"object": "a"}, ARRAY), "means nothing"),
    "no kind": (structured({}), ""),
    "two kinds": (structured({"array": "a", "tuple": []}, ARRAY), ""),
    "a tuple of a string": (structured({"tuple": "ab"}), "means nothing"),
    "a tuple of a dict": (structured({"tuple": {"dict": []}}), "means nothing"),
    "a dict of a string": (structured({"dict": "ab"}), "means nothing"),
    "a dict of strings": (structured({"dict": ["ab"]}), "means nothing"),
    "a dict of numbers": (structured({"dict": [1]}), "means nothing"),
    "a dict of an object": (structured({"dict": {"ab": 1}}), "means nothing"),
    "a dict of triples": (structured({"dict": [["a", 1, 2]]}), ""),
    "a dict of nothing": (structured({"dict": [[]]}), ""),
    "a key twice": (structured({"dict": [["a", 1], ["a", 2]]}), "means nothing"),
    "a list as key": (structured({"dict": [[[], 1]]}), "means nothing"),
    "a bool as key": (structured({"dict": [[True, 1]]}), "means nothing"),
    "a float as key": (structured({"dict": [[0.5, 1]]}), "means nothing"),
    "a float of letters": (structured({"float": "zz"}), ""),
    "a float of too few bits": (structured({"float": "7ff8"}), ""),
    "a float of a number": (structured({"float": 1}), ""),
    "an int of letters": (structured({"int": "hello"}), ""),
    "an int of a number": (structured({"int": 1}), ""),
}  # fmt: skip


@pytest.mark.parametrize(("data", "text"), HOSTILE.values(), ids=HOSTILE)
@pytest.mark.filterwarnings("ignore")
def test_a_file_that_is_no_checkpoint_is_refused(data, text, tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"(?s)x\.npz could not be loaded: .*{text}.*another copy"):
        tg.load(path)


def test_a_long_structure_is_refused(tmp_path, monkeypatch):
    tg.save([0.1] * 1000, tmp_path / "x.npz")
    monkeypatch.setattr(archive, "LONGEST_TEXT", 1000)
    with pytest.raises(CheckpointError, match=r"an entry 'structure\.json' of \d+ bytes"):
        tg.load(tmp_path / "x.npz")


def tensors(entries, data=b"", metadata=None):
    text = json.dumps({**entries, **({} if metadata is None else {"__metadata__": metadata})}).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


HOSTILE_TENSORS = {
    "empty": b"",
    "text": b"epoch,loss\n1,0.5\n",
    "a pickle": pickle.dumps({"a": A}),
    "a zip": zip_of(ARRAY),
    "a header longer than the file": struct.pack("<Q", 2**40) + b"{}",
    "a header longer than any": struct.pack("<Q", 2**64 - 1) + b"{}",
    "no JSON": struct.pack("<Q", 4) + b"abcd",
    "deep JSON": struct.pack("<Q", 20_000) + b"[" * 20_000,
    "a huge shape": tensors({"a": tensor([10**12], 0, 4 * 10**12)}),
    "a shape that wraps around": tensors({"a": tensor([2**32, 2**32], 0, 0)}),
    "a shape that is too small": tensors({"a": tensor([1], 0, 8)}, bytes(8)),
    "overlapping": tensors({"a": tensor([2], 0, 8), "b": tensor([2], 0, 8)}, bytes(8)),
    "a gap": tensors({"a": tensor([1], 0, 4), "b": tensor([1], 8, 12)}, bytes(12)),
    "more than it says": tensors({"a": tensor([1], 0, 4)}, bytes(12)),
    "an unknown dtype": tensors({"a": tensor([1], 0, 4, "F31")}, bytes(4)),
    "a structure of nothing": tensors({}, metadata={"structure.json": ""}),
    "a deep structure": tensors({}, metadata={"structure.json": "[" * 100_000}),
    "an array that is not there": tensors({}, metadata={"structure.json": '{"array": "a"}'}),
    "an array without a place": tensors({"a": tensor([1], 0, 4)}, bytes(4), {"structure.json": "[]"}),
    "a structure that is no text": tensors({}, metadata={"structure.json": {"array": "a"}}),
}


@needs_safetensors
@pytest.mark.parametrize("data", HOSTILE_TENSORS.values(), ids=HOSTILE_TENSORS)
def test_a_file_that_safetensors_did_not_write_is_refused(data, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"(?s)x\.safetensors could not be loaded: .*another copy"):
        tg.load(path)


@pytest.mark.parametrize(
    "name", ["a huge shape", "sizes that lie", "overlapping entries", "a zip bomb", "a huge element"]
)
def test_a_hostile_file_takes_no_memory(name, tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(HOSTILE[name][0])
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError):
            tg.load(path)
        assert tracemalloc.get_traced_memory()[1] < 2**21 + 2 * path.stat().st_size
    finally:
        tracemalloc.stop()


@every_format
def test_loading_takes_as_much_memory_as_disk(ending, tmp_path):
    path = tmp_path / f"x{ending}"
    tg.save({"a": np.zeros(10**6), "b": [np.ones(10**6)]}, path)
    tracemalloc.start()
    try:
        tg.load(path)
        assert tracemalloc.get_traced_memory()[1] < 1.2 * path.stat().st_size
    finally:
        tracemalloc.stop()


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    for data in (
        pickle.dumps(Trap()),
        zip_of(("a.npy", npy(np.array([Trap()])))),
        zip_of(("a.npy", pickle.dumps(Trap()))),
    ):
        (tmp_path / "x.npz").write_bytes(data)
        with pytest.raises(CheckpointError):
            tg.load(tmp_path / "x.npz")
    assert not (tmp_path / "sprung").exists()


def test_entries_beside_the_crc(tmp_path):
    """The checksum is that of the array, also where the header was looked at before."""
    data = bytearray(zip_of(ARRAY))
    place = data.index(A.tobytes())
    data[place] ^= 1
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(CheckpointError, match="CRC"):
        tg.load(tmp_path / "x.npz")
    fixed = struct.pack("<I", zlib.crc32(npy(A)))
    assert fixed in zip_of(ARRAY)


# Training goes on ----------------------------------------------------------------------------------------------------

X = np.random.default_rng(0).normal(size=(30, 3))
Y = np.sin(X.sum(axis=1, keepdims=True))
MAKERS = {
    name: lambda p, kind=kind, options=options: kind(p, **options) for name, (kind, options, *_) in OPTIMIZERS.items()
}
for search in (optim.ArmijoGoldstein, optim.ArmijoFullRelaxation):
    MAKERS[search.__name__] = lambda p, search=search: optim.GradientDescent(p, lr=0.1, line_search=search())


class Run:
    """All that training consists of; made anew from a seed, it has nothing to do with what was saved."""

    def __init__(self, make, dtype, own_generator, seed):
        tg.manual_seed(seed)
        self.model = nn.MLP([3, 4, 1], nn.Tanh)
        self.optimizer = make(self.model.parameters())
        self.scheduler = optim.lr_scheduler.ExponentialLR(self.optimizer, gamma=0.9)
        generator = np.random.default_rng(seed) if own_generator else None
        self.loader = tg.DataLoader(X.astype(dtype), Y.astype(dtype), batch_size=7, shuffle=True, generator=generator)
        self.epoch = 0

    def save(self, path):
        parts = {name: getattr(self, name) for name in ("model", "optimizer", "scheduler", "loader", "epoch")}
        tg.save({**parts, "rng": tg.get_rng_state()}, path)

    def load(self, path):
        state = tg.load(path)
        for name in ("model", "scheduler", "optimizer", "loader"):  # a schedule sets the rates, the optimizer has them
            getattr(self, name).load_state_dict(state[name])
        self.epoch = state["epoch"]
        tg.set_rng_state(state["rng"])

    def train(self, epochs, save_at=None, path=None):
        """The losses of all steps; saved at (epoch, batch), or, if batch is None, at the end of the epoch."""
        losses = []
        while self.epoch < epochs:
            for number, (x, y) in enumerate(self.loader):
                x = x + 0.01 * np.asarray(tg.rng.generator_or_default(None).normal(size=x.shape), x.dtype)
                losses.append(self.optimizer.step(lambda x=x, y=y: nn.functional.mse_loss(self.model(x), y)).item())
                if (self.epoch, number) == save_at:
                    self.save(path)
                    losses.clear()
            self.scheduler.step()
            self.epoch += 1
            if (self.epoch - 1, None) == save_at:
                self.save(path)
                losses.clear()
        return losses


@pytest.mark.parametrize(
    "save_at", [(1, None), (1, 1), (1, 4)], ids=["between epochs", "within one", "after its last batch"]
)
@pytest.mark.parametrize("own_generator", [True, False], ids=["own generator", "the library's"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_training_resumes_bit_for_bit(make, dtype, own_generator, save_at, tmp_path):
    tg.set_default_dtype(dtype)
    path = tmp_path / ("x.npz" if own_generator or safetensors is None else "x.safetensors")
    whole = Run(make, dtype, own_generator, seed=0)
    after = whole.train(4, save_at, path)
    resumed = Run(make, dtype, own_generator, seed=1)
    resumed.load(path)
    assert resumed.train(4) == after
    assert len(after) >= 10
    assert same(resumed.model.state_dict(), whole.model.state_dict())
    assert same(resumed.optimizer.state_dict(), whole.optimizer.state_dict())
    assert same(resumed.loader.state_dict(), whole.loader.state_dict())
    assert tg.get_rng_state()["bit_generator"] == "PCG64"


FRESH = """
import sys, tinygrad_opt as tg
from tests.test_checkpoint import MAKERS, Run
run = Run(MAKERS["Adam"], "float64", True, seed=1)
run.load(sys.argv[1])
print(run.train(4))
tg.save(run.model, sys.argv[2])
"""


def test_training_resumes_in_another_process(tmp_path, pytestconfig):
    whole = Run(MAKERS["Adam"], "float64", True, seed=0)
    after = whole.train(4, (1, 2), tmp_path / "x.npz")
    command = [sys.executable, "-c", FRESH, tmp_path / "x.npz", tmp_path / "y.npz"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=pytestconfig.rootpath, timeout=60)
    assert run.stdout.strip() == str(after), run.stderr
    assert same(tg.load(tmp_path / "y.npz"), whole.model.state_dict())


def test_a_checkpoint_of_another_model_changes_nothing(tmp_path):
    model, other = nn.MLP([2, 3, 1]), nn.MLP([2, 4, 1])
    tg.save({"model": other}, tmp_path / "x.npz")
    before = model.state_dict()
    with pytest.raises(tg.StateDictError, match="nothing was loaded"):
        model.load_state_dict(tg.load(tmp_path / "x.npz")["model"])
    assert same(model.state_dict(), before)


class Fitted:
    """A run of `fit` with all its parts, in a model with buffers and dropout."""

    def __init__(self, seed):
        tg.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 1))
        self.optimizer = optim.Adam(self.model.parameters(), lr=0.05)
        self.scheduler = optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, patience=1)
        self.early_stopping = tg.EarlyStopping(patience=20, monitor="loss")
        self.loader = tg.DataLoader(X, Y, batch_size=8, shuffle=True)
        self.history = tg.History()

    def train(self, epochs, **options):
        parts = {name: part for name, part in vars(self).items() if name not in ("model", "optimizer", "loader")}
        options = {**parts, "progress": False, **options}
        tg.fit(self.model, nn.MSELoss(), self.optimizer, self.loader, epochs, **options)


@every_format
def test_a_run_of_fit_resumes_with_all_its_parts(ending, tmp_path):
    path = tmp_path / f"x{ending}"
    whole, resumed = Fitted(0), Fitted(1)

    def save(history):
        if history.epochs == 4:
            tg.save({**vars(whole), "rng": tg.get_rng_state()}, path)

    whole.train(8, callbacks=save)
    state = tg.load(path)
    for name, part in vars(resumed).items():
        part.load_state_dict(state[name])
    resumed.optimizer.load_state_dict(state["optimizer"])
    tg.set_rng_state(state["rng"])
    resumed.train(4)
    for run in (whole, resumed):
        del run.history.columns["seconds"]
    assert whole.history.epochs == 8
    for name, part in vars(whole).items():
        assert same(getattr(resumed, name).state_dict(), part.state_dict()), name
    assert "1.num_batches_tracked" in whole.model.state_dict()
