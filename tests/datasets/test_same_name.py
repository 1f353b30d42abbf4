"""Images that differ in their suffix alone: a row of the labels that has the suffix says which is meant."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import clipes
from clipes.cli import main
from clipes.datasets import DatasetError, find_images, find_samples


def _made(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def _table(folder: Path, *rows: str) -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join(["image,labels", *rows]) + "\n")
    return path


@pytest.mark.parametrize("row", ["sub/a.{}", "a.{}", "images/sub/a.{}", "./sub/a.{}"])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_the_row_says_which(tmp_path: Path, row: str, suffix: str) -> None:
    folder = _made(tmp_path / "images", "sub/a.jpg", "sub/a.png", "sub/a.webp", "b.jpg")
    table = _table(tmp_path, f"{row.format(suffix)},cat", "b,tree")
    samples = find_samples(folder, table)
    assert [(sample.image, sample.labels) for sample in samples] == [
        (folder / "b.jpg", ("tree",)),
        (folder / f"sub/a.{suffix}", ("cat",)),
    ]
    assert re.match("2 image.* left out, as the labels file names another of their name .*'sub/a", samples.notes[0])
    assert find_images(folder, table)["sub/a"] == folder / f"sub/a.{suffix}"


@pytest.mark.parametrize("rows", [["a,cat"], ["a.jpg,cat", "a.png,cat"], ["b.jpg,cat"]])
def test_rows_that_do_not_say_it(tmp_path: Path, rows: list[str]) -> None:
    folder = _made(tmp_path / "images", "a.jpg", "a.png")
    with pytest.raises(
        DatasetError, match=r"a\.jpg and .*a\.png would both become one mask; name the one .* suffix, in"
    ):
        find_samples(folder, _table(tmp_path, *rows))
    with pytest.raises(DatasetError, match="would both become one mask"):
        find_samples(folder, ["cat"])


def test_what_the_error_says_works(tmp_path: Path) -> None:
    folder = _made(tmp_path / "images", "a.jpg", "a.png")
    assert find_samples(folder, _table(tmp_path, "a.png,cat"))[0].image == folder / "a.png"
    assert find_samples(folder / "*.jpg", ["cat"])[0].image == folder / "a.jpg"
    assert find_samples(_table(folder, "a.png,cat"))[0].image == folder / "a.png"


def test_in_a_shard(tmp_path: Path) -> None:
    _made(tmp_path, "a.jpg", "a.png", "a.json")
    (tmp_path / "a.json").write_text('["cat"]')
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name in ("a.jpg", "a.png", "a.json"):
            tar.add(tmp_path / name, name)
    with pytest.raises(
        DatasetError, match=r"s\.tar/a\.jpg and .*s\.tar/a\.png would both become one mask; name the one"
    ):
        find_samples(tmp_path / "s.tar")
    (sample,) = find_samples(tmp_path / "s.tar", _table(tmp_path, "a.png,tree"))
    assert sample.labels == ("tree",) and str(sample.image).endswith("a.png")


def test_labels_that_are_missing_in_other_sources_are_skipped_too(tmp_path: Path) -> None:
    _made(tmp_path, "a.jpg", "b.jpg", "a.json")
    (tmp_path / "a.json").write_text('["cat"]')
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name in ("a.jpg", "a.json", "b.jpg"):
            tar.add(tmp_path / name, name)
    folder = _made(tmp_path / "folder", "a.jpg", "b.jpg")
    rows = [{"file_name": "a.jpg", "labels": ["cat"]}, {"file_name": "b.jpg", "labels": None}]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    root = _made(tmp_path / "voc", "JPEGImages/a.jpg", "JPEGImages/b.jpg")
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Main").mkdir()
    (root / "ImageSets/Segmentation/train.txt").write_text("a\nb\n")
    (root / "ImageSets/Main/cat_train.txt").write_text("a 1\n")
    for source in (tmp_path / "s.tar", folder, f"voc:{root}"):
        with pytest.raises(DatasetError, match=r"no labels.*, or leave such images out \(--unlabelled skip\)"):
            find_samples(source)
        samples = find_samples(source, unlabelled="skip")
        assert [(sample.id, sample.labels) for sample in samples] == [("a", ("cat",))]
        assert samples.notes[0].startswith("1 image(s) without labels are left out; ")


def test_the_command_python_and_what_comes_after(photos: Path, monkeypatch: Any, capsys: Any) -> None:
    """The run, the decision by colours and the export take the image that the table names."""
    monkeypatch.chdir(photos.parent)
    with Image.open("photos/a.jpg") as image:
        image.rotate(180).save("photos/a.png")
    Path("t.csv").write_text("image,labels\na.jpg,cat\nb.png,tree\nsub/c,cat\n")
    assert main(["generate", "photos", "--labels", "t.csv", "--save-patch-cams", "--out", "m"]) == 0
    assert "1 image(s) are left out, as the labels file names another" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="1 image.* are left out, as the labels file names another"):
        clipes.run("photos", "p", "t.csv")
    assert Path("m/a.png").read_bytes() == Path("p/a.png").read_bytes()
    assert main(["finalize", "m", "--refine", "par"]) == 0
    assert main(["export", "m", "--to", "voc", "--out", "x"]) == 0
    assert Path("x/JPEGImages/a.jpg").read_bytes() == Path("photos/a.jpg").read_bytes()


def test_labels_that_are_no_table_any_more_are_not_read_again(photos: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(photos.parent)
    np.save("l.npy", {name: np.eye(16)[0] for name in ("a", "b", "sub/c")})  # type: ignore[arg-type]
    Path("t.csv").write_text("image,labels\na,cat\nb,cat\nsub/c,cat\n")
    for labels in ("l.npy", "t.csv"):
        assert main(["generate", "photos", "--labels", labels, "--save-patch-cams", "--out", f"m-{labels}"]) == 0
        Path(labels).write_text("broken")
        assert main(["finalize", f"m-{labels}", "--refine", "par"]) == 0
