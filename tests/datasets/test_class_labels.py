"""clipes.datasets.class_labels: cls_labels.npy, and pickles that are none."""

import io
import os
import pickle
import pickletools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipes.datasets import DatasetError, find_samples
from clipes.datasets.class_labels import read_class_labels

FUZZ = settings(
    max_examples=int(os.environ.get("CLIPES_FUZZ", "300")),  # CLIPES_FUZZ=100000 for a night
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
CLASSES = ("dog", "cat", "fox")


def _header(shape="()", descr="|O"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": eval(shape)})
    return buffer.getvalue()


def _save(path, content, protocol=3):
    """What np.save writes, by any protocol."""
    path.write_bytes(_header() + pickle.dumps(np.array(content, dtype=object), protocol=protocol))
    return path


def _rows(path, class_names=CLASSES):
    return {row.image: row.labels for row in read_class_labels(path, class_names)}


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "u1", "i8", "bool", ">f4", ">i4"])
@pytest.mark.parametrize("protocol", [1, 2, 3, 4])
def test_vectors_are_read_as_numpy_reads_them(tmp_path, dtype, protocol):
    labels = {"2007_000032": [1, 0, 1], "a": [0, 0, 0], "b/c.jpg": [0, 1, 0]}
    vectors = {name: np.array(vector, dtype=dtype) for name, vector in labels.items()}
    path = _save(tmp_path / "l.npy", vectors, protocol)
    oracle = np.load(path, allow_pickle=True).item()
    expected = {name: tuple(np.array(CLASSES)[vector.astype(bool)]) for name, vector in oracle.items()}
    assert _rows(path) == expected == {"2007_000032": ("dog", "fox"), "a": (), "b/c.jpg": ("cat",)}


def test_what_np_save_writes(tmp_path):
    shared = np.array([1.0, 0, 0], dtype=np.float32)
    np.save(tmp_path / "l.npy", {"a": shared, "b": shared, "c": [0, 1, 1]}, allow_pickle=True)
    assert _rows(tmp_path / "l.npy") == {"a": ("dog",), "b": ("dog",), "c": ("cat", "fox")}


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("kind", [int, np.int32, np.int64, np.str_])
def test_keys_of_irn_are_numbers(tmp_path, protocol, kind):
    """IRN keeps 2007_000032 as the int32 2007000032."""
    key = kind("2007_000032") if kind is np.str_ else kind(2007000032)
    path = _save(tmp_path / "l.npy", {key: np.array([0, 1, 0.0])}, protocol)
    assert _rows(path) == {"2007_000032": ("cat",)}
    assert _rows(_save(path, {kind(7): np.zeros(3)}, protocol)) == {"7": ()}


def test_rows_match_as_those_of_a_table(tmp_path):
    for name in ("x/a.jpg", "b.jpg"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).touch()
    path = _save(tmp_path / "l.NPY", {"c": np.ones(3), "a": np.array([0, 0, 1]), "b": np.zeros(3)})
    samples = find_samples(tmp_path / "images", path, class_names=CLASSES)
    assert {sample.id: sample.labels for sample in samples} == {"x/a": ("fox",), "b": ()}
    assert samples[1].origin == f"{path}, 'a'"
    assert (samples.unused_rows, samples.first_unused) == (1, "c")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": np.ones(4)}, r"l\.npy, 'a': 4 numbers for 3 classes; give the file's own classes"),
        ({"a": np.full(3, 0.5)}, "'a': not a vector of 0 and 1, one for each class"),
        ({"a": np.full(3, np.nan)}, "'a': not a vector of 0 and 1"),
        ({"a": np.ones((3, 1))}, "'a': not a vector of 0 and 1"),
        ({"a": "dog"}, "'a': not a vector of 0 and 1"),
        ({"a": ["dog"]}, "'a': not a vector of 0 and 1"),
        ({"a": np.array(["dog"])}, "'a': not a vector of 0 and 1"),
        ({}, "no image in it"),
        ([1, 2], "not a cls_labels.npy: not a dict of labels"),
        ({1.5: np.ones(3)}, "a key is neither a string nor a whole number"),
        ({("a",): np.ones(3)}, "a key is neither a string nor a whole number"),
        ({"a": np.array([1j, 0, 0])}, "its values are of type 'c16'"),
        ({"a": {1, 2}}, "not a cls_labels.npy"),
        ({"a": slice(3)}, r"it asks for 'builtins\.slice'|it asks for '__builtin__\.slice'"),
    ],
)
def test_wrong_content(tmp_path, content, message):
    with pytest.raises(DatasetError, match=message):
        _rows(_save(tmp_path / "l.npy", content))


def test_wrong_files(tmp_path):
    path = tmp_path / "l.npy"
    with pytest.raises(FileNotFoundError, match=r"no such file: .*l\.npy; a labels file is"):
        _rows(path)
    np.save(path, np.ones(3))
    with pytest.raises(DatasetError, match=r"l\.npy: not a cls_labels.npy: an array \(3,\) of float64, not a dict"):
        _rows(path)
    path.write_bytes(b"image,labels")
    with pytest.raises(DatasetError, match=r"not a cls_labels\.npy: ValueError: the magic string is not"):
        _rows(path)
    _save(path, {"a": np.ones(3)})
    with pytest.raises(DatasetError, match="its labels are indices of classes, but no classes are given; give them"):
        _rows(path, None)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DatasetError, match=r"not a cls_labels\.npy: "):
        _rows(path)


class _Calls:
    """Pickled as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch HACKED",), "posix.system|nt.system"),
        (eval, ("1",), "builtins.eval|__builtin__.eval"),
        (getattr, ("a", "b"), "builtins.getattr|__builtin__.getattr"),
        (subprocess.Popen, (["touch", "HACKED"],), "Popen"),
        (np.load, ("x",), "numpy.load|numpy.lib"),
        (np.frombuffer, (b"1",), "frombuffer"),
    ],
)
@pytest.mark.parametrize("protocol", [1, 2, 4])
def test_a_hostile_pickle_is_refused_by_name(tmp_path, monkeypatch, function, arguments, name, protocol):
    monkeypatch.chdir(tmp_path)
    path = _save(tmp_path / "l.npy", {"a": _Calls(function, *arguments)}, protocol)
    with pytest.raises(DatasetError, match=rf"it asks for '.*({name}).*', which no labels need; do not trust"):
        _rows(path)
    assert not (tmp_path / "HACKED").exists()


G = b"cnumpy\nndarray\n"
D = b"cnumpy\ndtype\n"
R = b"cnumpy.core.multiarray\n_reconstruct\n"


def _doubled(times):
    """A dtype of a pair of pairs of pairs ...: small in memory, without end in print."""
    pairs = b"".join(bytes([104, n, 104, n, 134, 113, n + 1]) for n in range(times))
    return b"Nq\x00" + pairs + D + bytes([104, times]) + b"\x85R."


@pytest.mark.parametrize(
    "code",
    [
        b"r\xff\xff\xff\x7f.",  # a memo of 2^31 places
        b"N" + b"\x85" * 1_000_000 + b".",  # tuples a million deep
        b"}N" + b"\x85" * 1_000_000 + b"Ns.",  # hashing them would overflow the stack
        b"]" * 1_000_000 + b"a" * 999_999 + b".",
        b"\x8e" + b"\xff" * 7 + b"\x7f.",  # bytes without end
        b"\x95" + b"\xff" * 7 + b"\x7f.",
        R + b"}b.",  # BUILD of a class
        D + b"}b.",
        b"c_codecs\nencode\n}b.",
        R + b"(tR}b.",
        R + b"(tR(tb.",
        D + b"(S'f8'\ntR(tb.",
        D + b"(S'O8'\nI00\nI01\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb.",
        G + b"(I1000000000000\ntR.",
        b"c_codecs\nencode\n(S'a'\nS'zip'\ntR.",
        b"cnumpy.core.multiarray\nscalar\n(tR.",
        b"c_codecs\n__builtins__\n.",
        b"\x80\x04\x8c\x08_codecs.\x8c\x06encode\x93.",
        b"(ios\nsystem\n.",
        b"P1\n.",
        b"\x82\x01.",
        b"0" * 10,
        b"",
        b".",
        b"\xfe",
        D + b"(S'f1'\ntR.",
        _doubled(40),
    ],
    ids=lambda code: repr(code[:30]),
)
def test_pickles_that_would_break_things(tmp_path, code):
    """In a process of its own, with 4 GB: neither a crash nor all the memory."""
    path = tmp_path / "l.npy"
    path.write_bytes(_header() + code)
    check = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
        "from clipes.datasets.class_labels import DatasetError, read_class_labels\n"
        "try: list(read_class_labels(sys.argv[1], ['dog']))\n"
        "except DatasetError: sys.exit(7)\n"
    )
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", check, str(path)], capture_output=True, text=True, env=environment)
    assert done.returncode == 7, done.stderr


WHOLE = pickle.dumps(np.array({"a": np.array([1.0, 0, 0]), "b": [0, 1, 0]}, dtype=object), protocol=2)
CODES = st.sampled_from([code.code.encode("latin-1") for code in pickletools.opcodes])


@FUZZ
@given(
    data=st.binary().map(lambda data: _header() + data)
    | st.binary()
    | st.lists(
        CODES | st.sampled_from([R, G, D, b"(", b"t", b"R", b"b", b"I1\n", b"S'f8'\n"]) | st.binary(max_size=4)
    ).map(lambda codes: _header() + b"".join(codes) + b".")
    | st.tuples(st.integers(0, len(WHOLE)), st.binary(max_size=8)).map(
        lambda change: _header() + WHOLE[: change[0]] + change[1] + WHOLE[change[0] + len(change[1]) :]
    )
)
def test_any_bytes_are_rows_or_a_dataset_error(tmp_path, data):
    (tmp_path / "l.npy").write_bytes(data)
    try:
        assert all(set(labels) <= set(CLASSES) for labels in _rows(tmp_path / "l.npy").values())
    except DatasetError as error:
        assert "l.npy" in str(error)
