"""clipes.io.atomic: files are whole or absent, and hold what was asked for."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from clipes.ids import voc_palette
from clipes.io import atomic as writer
from clipes.io.atomic import atomic, remove_stale, write_json
from clipes.io.masks import write_mask


def test_atomic_makes_folders_and_moves_into_place(tmp_path):
    target = tmp_path / "a" / "b" / "mask.png"
    with atomic(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.name.startswith(".") and temporary.suffix == ".png"
        temporary.write_bytes(b"new")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert os.listdir(target.parent) == ["mask.png"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_atomic_keeps_the_old_file_on_failure(tmp_path, error):
    target = tmp_path / "mask.png"
    target.write_bytes(b"old")
    with pytest.raises(error), atomic(target) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["mask.png"]


def test_atomic_says_when_nothing_was_written(tmp_path):
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "a.png"):
        pass
    assert os.listdir(tmp_path) == []


def test_atomic_takes_the_longest_name(tmp_path):
    name = "x" * 251 + ".png"
    with atomic(tmp_path / name) as temporary:
        temporary.write_bytes(b"")
    assert os.listdir(tmp_path) == [name]


def test_atomic_syncs_before_the_final_name(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append("fsync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda old, new: (calls.append("replace"), replace(old, new)))
    write_json(tmp_path / "a.json", 1)
    assert calls == ["fsync", "replace"]


def test_writers_of_one_file_have_temporaries_of_their_own(tmp_path):
    with atomic(tmp_path / "a") as first, atomic(tmp_path / "a") as second:
        first.write_bytes(b"1")
        second.write_bytes(b"2")
    assert (tmp_path / "a").read_bytes() == b"1"


def test_concurrent_writers_of_one_file_never_mix(tmp_path):
    target = tmp_path / "a.json"
    values = [[number] * 2000 for number in range(4)]

    def write(value):
        for _ in range(10):
            write_json(target, value)

    threads = [threading.Thread(target=write, args=(value,)) for value in values]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if target.exists():
            assert json.loads(target.read_text()) in values
    assert json.loads(target.read_text()) in values
    assert os.listdir(tmp_path) == ["a.json"]


def _killed_writer(folder):
    """Leave a temporary file behind as a killed process does; return its path."""
    program = (
        "import os, sys; from clipes.io.atomic import atomic\n"
        "with atomic(sys.argv[1]) as temporary:\n"
        "    temporary.write_bytes(b'half'); print(temporary, flush=True); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(folder / "a.png")], capture_output=True, text=True)
    assert done.returncode == 9
    return done.stdout.strip()


@pytest.mark.skipif(os.name != "posix", reason="whether a process lives is only asked on POSIX")
def test_sweep_removes_what_a_killed_run_left(tmp_path):
    left_over = _killed_writer(tmp_path / "sub")
    assert os.path.exists(left_over)
    for kept in ("mask.png", ".hidden.png", ".clipes-notes.tmp.png"):
        (tmp_path / "sub" / kept).write_bytes(b"kept")
    assert remove_stale(tmp_path) == 1
    assert sorted(os.listdir(tmp_path / "sub")) == [".clipes-notes.tmp.png", ".hidden.png", "mask.png"]


def test_sweep_spares_runs_that_are_alive(tmp_path):
    with atomic(tmp_path / "a.png") as temporary:
        temporary.write_bytes(b"")
        elsewhere = tmp_path / f".clipes-{'0' * 8}-999999999-{'0' * 16}.tmp.png"
        elsewhere.write_bytes(b"another machine's")
        assert remove_stale(tmp_path) == 0
        os.utime(elsewhere, (0, 0))  # how old it looks says nothing where a clock is wrong
        assert remove_stale(tmp_path) == 0
    assert sorted(os.listdir(tmp_path)) == sorted(["a.png", elsewhere.name])


def test_sweep_of_nothing_is_nothing(tmp_path):
    assert remove_stale(tmp_path / "absent") == 0


def test_process_number_of_an_ended_process_is_not_alive():
    process = multiprocessing.get_context("spawn").Process(target=int)
    process.start()
    process.join()
    assert writer.is_alive(os.getpid())
    assert not writer.is_alive(process.pid)
    assert not writer.is_alive(10**30)


def test_palette_is_vocs():
    palette = voc_palette()
    assert palette.shape == (256, 3) and palette.dtype == np.uint8
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    assert {index: tuple(palette[index].tolist()) for index in known} == known
    assert tuple(palette[255].tolist()) == (224, 224, 192)
    assert len({tuple(colour) for colour in palette.tolist()}) == 256


@pytest.mark.parametrize("ids", [[[0, 1], [20, 255]], [[0, 0], [0, 0]]])
def test_mask_is_a_palette_png_of_the_ids(tmp_path, ids):
    mask = np.array(ids, dtype=np.uint8)
    write_mask(tmp_path / "a.PNG", mask, class_count=20)
    with Image.open(tmp_path / "a.PNG") as image:
        assert (image.format, image.mode, image.size) == ("PNG", "P", (2, 2))
        np.testing.assert_array_equal(np.asarray(image), mask)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), voc_palette()[mask])
        assert len(image.getpalette()) == 768


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_many_classes_become_a_16_bit_png(tmp_path, order):
    mask = np.array([[0, 255, 256], [300, 65535, 1]]).astype(order)
    write_mask(tmp_path / "a.png", mask, class_count=300)
    assert (tmp_path / "a.png").read_bytes()[24] == 16  # the bit depth in a PNG's header
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), mask)


def test_views_are_written_as_they_look(tmp_path):
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)[::-1, ::2].T
    write_mask(tmp_path / "a.png", mask, class_count=20)
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), mask)


def test_same_mask_same_bytes(tmp_path):
    mask = np.random.default_rng(0).integers(0, 21, (30, 40), dtype=np.uint8)
    write_mask(tmp_path / "a.png", mask, 20)
    write_mask(tmp_path / "b.png", mask.copy(), 20)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("name", "mask", "classes", "message"),
    [
        ("a.jpg", np.zeros((2, 2), np.uint8), 20, r"PNG file, not 'a\.jpg'; end its name in \.png"),
        ("a", np.zeros((2, 2), np.uint8), 20, "PNG file, not 'a'"),
        ("a.png", np.zeros((2, 2, 3), np.uint8), 20, r"\(H, W\), not \(2, 2, 3\)"),
        ("a.png", np.zeros((0, 2), np.uint8), 20, r"\(H, W\), not \(0, 2\)"),
        ("a.png", np.zeros((2, 2), np.int64), 20, "20 classes is uint8, not int64; convert it"),
        ("a.png", np.zeros((2, 2), np.uint8), 300, "300 classes is uint16, not uint8"),
        ("a.png", np.full((2, 2), 21, np.uint8), 20, r"holds 21, but 20 classes allow 0\.\.20 and 255"),
        ("a.png", np.zeros((2, 2), np.uint8), 0, "1 to 65534 classes"),
    ],
)
def test_wrong_masks_are_refused_and_leave_nothing(tmp_path, name, mask, classes, message):
    with pytest.raises(ValueError, match=message):
        write_mask(tmp_path / name, mask, classes)
    assert os.listdir(tmp_path) == []


def test_json_is_read_back(tmp_path):
    value = {"1": "Käfer", "2": None, "name\udcff": [1.5, "</script>"]}
    write_json(tmp_path / "sub" / "a.json", value)
    text = (tmp_path / "sub" / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == value and text.endswith("}\n")


@pytest.mark.parametrize(("value", "error"), [(float("nan"), ValueError), ({1, 2}, TypeError)])
def test_json_refuses_what_it_cannot_hold(tmp_path, value, error):
    with pytest.raises(error, match="JSON"):
        write_json(tmp_path / "a.json", {"value": value})
    assert os.listdir(tmp_path) == []


def test_what_is_no_ordinary_file_is_not_written_over(tmp_path):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "folder", "pipe"):
        with pytest.raises(FileExistsError, match="is a folder, a link or a device, which is not written over"):
            write_json(tmp_path / name, {})
    assert (tmp_path / "file").read_text() == "kept" and (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "link", "pipe"]
