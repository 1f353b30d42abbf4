"""Files of kinds that are not read: counted and named wherever images are searched, not taken for missing ones."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from generating import CommandLine
from PIL import Image

import clipes
from clipes._version import install_hint
from clipes.datasets import DatasetError, find_images, find_samples
from clipes.io.images import ImageError, open_image
from clipes.io.kinds import HEIF, UNREAD_SUFFIXES
from clipes.runs.plan import Faults

ISSUE = (".jxl", ".svg", ".psd", ".dng", ".cr2", ".nef", ".ico")
CURE = "convert them to PNG or JPEG first"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.jpg", "d.avif", "e.jp2"):
        (folder / name).touch()
    for name in ("b.psd", "sub/c.SVG", "sub/d.psd", ".hidden.psd", "notes.txt", "labels.json"):
        (folder / name).touch()
    return folder


def test_kinds_that_were_passed_over_are_known() -> None:
    assert set(ISSUE) <= UNREAD_SUFFIXES


@pytest.mark.parametrize("pattern", ["", "**/*"])
def test_they_are_counted_by_kind(folder: Path, pattern: str) -> None:
    source = folder / pattern if pattern else folder
    samples = find_samples(source, ["cat"])
    assert [sample.id for sample in samples] == ["a", "d", "e"] == list(find_images(source))
    assert samples.notes == (
        f"{source}: 3 file(s) are images of kinds that are not read, and are left out: 2 .psd, 1 .svg, "
        f"'b.psd' the first; {CURE}",
    )


@pytest.mark.skipif(HEIF, reason="pillow-heif is installed")
def test_heic_is_told_which_package_reads_it(folder: Path) -> None:
    for name in ("x.heic", "y.HEIF", "z.hif"):
        (folder / name).touch()
    note = "1 .heic, 1 .heif, 1 .hif, 2 .psd, 1 .svg, 'b.psd' the first; convert them to PNG or JPEG first, or let HEIC"
    assert f"{note} be read: {install_hint('heif')}" in find_samples(folder, ["cat"]).notes[0]
    with pytest.raises(DatasetError, match=r"not read, \.HEIF; .* pip install pillow-heif"):
        find_samples(folder / "y.HEIF", ["cat"])


@pytest.mark.skipif(not HEIF, reason="pillow-heif is not installed")
def test_heic_is_read_where_its_package_is(photos: Path, tmp_path: Path, cli: CommandLine) -> None:
    """The command finds it in a folder; its EXIF's orientation does not count, which its format says."""
    picture = Image.open(photos / "a.jpg").convert("RGB")
    exif = Image.Exif()
    exif[274] = 6
    picture.save(photos / "x.heic", exif=exif, quality=95)
    read = np.asarray(open_image(photos / "x.heic"))
    assert np.abs(read.astype(int) - np.asarray(picture)).mean() < 8
    (tmp_path / "more.csv").write_text((tmp_path / "labels.csv").read_text() + "x.heic,cat\n")
    code, out, error = cli("generate", photos, "--labels", tmp_path / "more.csv", "--out", tmp_path / "out")
    assert code == 0 and "4 of 4 masks" in out and "not read" not in error
    assert Image.open(tmp_path / "out/x.png").size == picture.size
    (photos / "y.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(200))
    with pytest.raises(ImageError, match=r"y\.heic: a HEIC file that is broken, or of a kind that is not read"):
        open_image(photos / "y.heic")
    (photos / "x.heic").write_bytes((photos / "x.heic").read_bytes()[:400])
    with pytest.raises(ImageError, match=r"x\.heic"):
        open_image(photos / "x.heic")


def test_nothing_is_said_of_other_files(folder: Path) -> None:
    assert find_samples(folder / "*.jpg", ["cat"]).notes == ()


@pytest.mark.parametrize("row", ["b.psd", "b", "photos/b.psd", "../photos/b"])
@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl"])
def test_a_row_that_names_one_is_told_from_one_that_names_nothing(
    folder: Path, tmp_path: Path, row: str, name: str
) -> None:
    rows = [("a.jpg", "cat"), ("d", "cat"), ("e", "cat"), (row, "dog"), ("absent.jpg", "dog")]
    csv = "image,labels\n" + "".join(f"{image},{label}\n" for image, label in rows)
    jsonl = "".join(f'{{"image": "{image}", "labels": ["{label}"]}}\n' for image, label in rows)
    (tmp_path / name).write_text(csv if name == "labels.csv" else jsonl)
    samples = find_samples(folder, tmp_path / name)
    assert (samples.unused_rows, samples.first_unused) == (1, "absent.jpg")
    key = row.removeprefix("../")
    assert samples.notes[0].endswith(f"; 1 row(s) of the labels name them, '{key}' the first; {CURE}")


def test_a_folder_of_nothing_else(folder: Path, tmp_path: Path) -> None:
    for pattern in ("*.psd", "sub"):
        with pytest.raises(
            DatasetError, match=r"\d file\(s\) are images of kinds that are not read, and are left out: "
        ):
            find_samples(folder / pattern, ["cat"])
    with pytest.raises(DatasetError, match=r"b\.psd: an image of a kind that is not read, \.psd; convert it to"):
        find_samples(folder / "b.psd", ["cat"])


def test_in_a_tar(folder: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name in ("a.jpg", "a.psd", "b.psd", "b.txt"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    (tmp_path / "l.csv").write_text("image,labels\na,cat\nb.psd,dog\n")
    samples = find_samples(tmp_path / "s.tar", tmp_path / "l.csv")
    assert [sample.id for sample in samples] == ["a"] and samples.unused_rows == 0
    assert (
        "1 file(s) are images" in samples.notes[0] and "1 row(s) of the labels name them, 'b.psd'" in samples.notes[0]
    )


@pytest.mark.parametrize("form", ["table", "list", "voc", "coco", "imagefolder"])
def test_one_that_is_named_fails_with_its_kind(photos: Path, tmp_path: Path, form: str, cli: CommandLine) -> None:
    """A source that names its images counts it as one that cannot be read."""
    (photos / "b.psd").write_bytes(b"8BPS\0\1" + bytes(20))
    root = tmp_path / "root"
    source, labels = {
        "table": (photos / "t.csv", []),
        "list": (photos / "l.txt", ["--labels", "cat"]),
        "voc": (f"voc:{root}", ["--labels", "cat"]),
        "coco": (f"coco:{root}", []),
        "imagefolder": (photos, []),
    }[form]
    (photos / "l.txt").write_text("a.jpg\nb.psd\n")
    (photos / "t.csv").write_text("image,labels\na.jpg,cat\nb.psd,cat\n")
    if form == "imagefolder":
        (photos / "metadata.csv").write_text("file_name,labels\na.jpg,cat\nb.psd,cat\n")
    if form in ("voc", "coco"):
        for folder in ("ImageSets/Segmentation", "annotations"):
            (root / folder).mkdir(parents=True)
        photos.rename(root / "JPEGImages" if form == "voc" else root / "train")
        (root / "ImageSets/Segmentation/train.txt").write_text("a\nJPEGImages/b.psd x\n")
        images = '[{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.psd"}]'
        (root / "annotations/instances_train.json").write_text(
            f'{{"images": {images}, "annotations": [], "categories": [{{"id": 1, "name": "cat"}}]}}'
        )
    code, out, error = cli("generate", source, *labels, "--out", tmp_path / "out")
    assert code == 3 and "1 failed" in out and "but Photoshop; convert it to PNG or JPEG first" in error


def test_the_command_and_python_say_it(photos: Path, tmp_path: Path, cli: CommandLine) -> None:
    (photos / "x.psd").touch()
    Image.open(photos / "a.jpg").save(photos / "y.jp2")
    (tmp_path / "more.csv").write_text((tmp_path / "labels.csv").read_text() + "x.psd,cat\ny,cat\n")
    code, out, error = cli("generate", photos, "--labels", tmp_path / "more.csv", "--out", tmp_path / "out")
    note = "1 file(s) are images of kinds that are not read, and are left out: 1 .psd, 'x.psd' the first; 1 row(s)"
    assert code == 0 and note in error and "names no image" not in error and "4 of 4 masks" in out
    with pytest.warns(UserWarning, match=r"1 \.psd, 'x\.psd' the first; 1 row\(s\) of the labels name them"):
        status = clipes.run(photos, tmp_path / "python", tmp_path / "more.csv", faults=Faults())
    assert status.ok == 4
    assert "1 .psd" in cli("background", photos, "--labels", "cat", "--candidates", "ground")[2]
