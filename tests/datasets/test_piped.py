"""Tables of labels as JSON, and through a pipe: what they hold says their form."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from generating import CommandLine

import clipes
from clipes.datasets import DatasetError, TableFormat, find_samples, piped
from clipes.datasets.piped import PipedTable, read_pipe
from clipes.store.store import open_run

LABELS = {"a": ("cat",), "b": ("cat", "tree"), "sub/c": ()}
FORMS = {
    "csv": "image,labels\na.jpg,cat\nb.png,cat;tree\nsub/c.jpg,\n",
    "semicolons": "image;labels\na.jpg;cat\nb.png;['cat', 'tree']\nsub/c.jpg;\n",
    "tsv": "image\tlabels\na.jpg\tcat\nb.png\tcat;tree\nsub/c.jpg\t\n",
    "jsonl": '{"image": "a.jpg", "labels": ["cat"]}\n{"image": "b.png", "labels": ["cat", "tree"]}\n'
    '{"image": "sub/c.jpg", "labels": []}\n',
    "list": '[{"image": "a.jpg", "labels": ["cat"]},\n {"image": "b.png", "labels": "cat;tree"},'
    ' {"image": "sub/c.jpg", "labels": []}]',
    "mapping": '{"a.jpg": ["cat"], "b.png": ["cat", "tree"],\n "sub/c.jpg": []}',
}


@contextmanager
def _pipe(content: bytes) -> Iterator[str]:
    """The path of a pipe's end to be read, as the shell writes ``<(...)``."""
    end, other = os.pipe()

    def write() -> None:
        with os.fdopen(other, "wb") as file:
            file.write(content)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield f"/dev/fd/{end}"
    finally:
        os.close(end)
        writer.join()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_told_by_its_content(photos: Path, form: str) -> None:
    with _pipe(b"\xef\xbb\xbf" + FORMS[form].encode()) as path:
        samples = find_samples(photos, path)
    assert {sample.id: sample.labels for sample in samples} == LABELS
    assert samples[0].origin.startswith(f"{path}, ")


@pytest.mark.parametrize("form", ["list", "mapping"])
def test_a_file_of_json(photos: Path, tmp_path: Path, form: str) -> None:
    (tmp_path / "labels.json").write_text(FORMS[form])
    (photos / "labels.json").write_text(FORMS[form])
    assert {sample.id: sample.labels for sample in find_samples(photos, tmp_path / "labels.json")} == LABELS
    assert {sample.id: sample.labels for sample in find_samples(photos / "labels.json")} == LABELS  # as the source


def test_other_columns(photos: Path) -> None:
    table = TableFormat(image_column="name", label_column="tags")
    with _pipe(b'{"name": "a", "tags": ["cat"]}') as path:
        assert find_samples(photos / "a.jpg", path, table=table)[0].labels == ("cat",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no image in it"),
        (b"a.jpg,cat\n", "line 1: the header is"),
        (b'{"image": "a.jpg", "labels": ["cat"]}\n{broken\n', "line 2: broken JSON"),
        (b"[1]", 'entry 1: not of the form {"image": ..., "labels": ...}: 1'),
        (b'[{"image": "a.jpg"}]', "entry 1: not of the form"),
        (b'{"a.jpg": 3}', "entry 1: not of the form"),
        (b'{"images": [], "annotations": [], "categories": []}', "of COCO's form, which is a source: give coco:"),
        (b"image,labels\na\xff,cat\n", "byte 0xff is not UTF-8"),
        (b"\x93NUMPY\x01", "a cls_labels.npy, which cannot be read from a pipe; give its file"),
    ],
)
def test_wrong_content_is_told_with_its_place(photos: Path, content: bytes, message: str) -> None:
    with _pipe(content) as path, pytest.raises(DatasetError) as caught:
        find_samples(photos, path)
    assert str(caught.value).startswith(path) and message in str(caught.value)


def test_it_is_read_once_and_goes_with_its_content(photos: Path) -> None:
    with _pipe(FORMS["csv"].encode()) as path:
        table = read_pipe(path)
    again = pickle.loads(pickle.dumps(table))
    assert isinstance(again, PipedTable) and again == path and read_pipe(again) is again
    assert {sample.id: sample.labels for sample in find_samples(photos, again)} == LABELS
    assert type(read_pipe(photos)) is str and type(read_pipe("cat")) is str


def test_python_runs_with_it(photos: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "labels.fifo")
    text = FORMS["csv"].replace("cat", "boat")
    writer = threading.Thread(target=(tmp_path / "labels.fifo").write_text, args=(text,))
    writer.start()
    status = clipes.run(photos, tmp_path / "m", tmp_path / "labels.fifo")
    writer.join()
    assert status.ok == 3


@pytest.mark.slow
def test_the_command_reads_it_and_its_processes_do_not(photos: Path, tmp_path: Path) -> None:
    """From standard input, by two processes that find the images again; the record has the path."""
    command = [sys.executable, "-m", "clipes", "generate", str(photos), "--labels", "/dev/stdin", "--out"]
    options = [str(tmp_path / "m"), "--devices", "cpu,cpu", "-q"]
    text = FORMS["jsonl"].replace("cat", "boat")
    done = subprocess.run([*command, *options], input=text, capture_output=True, text=True)
    assert done.returncode == 0 and "3 of 3 masks" in done.stdout, done.stderr
    with open_run(tmp_path / "m") as run:
        assert run.manifest["plan"]["labels"] == "/dev/stdin"
        assert {row.id: row.labels for row in run.rows("ok")}["b"] == ("boat", "tree")


@pytest.mark.parametrize("given", ["/dev/stdin", "-"])
def test_an_ordinary_file_as_standard_input(photos: Path, tmp_path: Path, given: str) -> None:
    """``< labels.csv``: a file without a suffix."""
    command = [sys.executable, "-m", "clipes", "generate", str(photos), "--labels", given, "--dry-run", "--out"]
    with open(tmp_path / "labels.csv", "rb") as file:
        done = subprocess.run([*command, str(tmp_path / "m")], stdin=file, capture_output=True, text=True)
    assert done.returncode == 0 and "images     3" in done.stdout, done.stderr


def test_a_source_of_cocos_form_is_named(photos: Path, cli: CommandLine) -> None:
    file = photos / "_annotations.coco.json"
    file.write_text('{"images": [], "annotations": [], "categories": []}')
    code, _, error = cli("generate", file, "--out", "m")
    assert code == 2 and f"a file of COCO's form, which is a source: give coco:{file}" in error


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_waits_for_its_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the first byte takes; but not for a writer that does not come."""
    path = tmp_path / "labels"
    os.mkfifo(path)
    monkeypatch.setattr(piped, "_WRITER_SECONDS", 0.2)
    with pytest.raises(DatasetError, match="a pipe that nothing writes to"):
        piped.read_pipe(path)

    def write() -> None:
        with path.open("wb") as file:
            time.sleep(0.5)
            file.write(b"image,labels\n")
            file.flush()
            time.sleep(0.1)
            file.write(b"a.png,cat\n")

    monkeypatch.setattr(piped, "_WRITER_SECONDS", 20.0)
    writer = threading.Thread(target=write)
    writer.start()
    table = piped.read_pipe(path)
    writer.join()
    assert isinstance(table, piped.PipedTable) and table.text == "image,labels\na.png,cat\n"


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_is_refused(device: str) -> None:
    if not Path(device).is_char_device():
        pytest.skip(f"no {device} here")
    with pytest.raises(DatasetError, match="a device or a terminal, not a table of labels"):
        piped.read_pipe(device)
