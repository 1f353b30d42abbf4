"""Several sources on one command line, as the shell makes them of a pattern without quotation marks."""

from __future__ import annotations

import glob
import json
from pathlib import Path
from typing import Any

import pytest

import clipes
from clipes.cli import main
from clipes.datasets import DatasetError, PseudoMaskDataset, absolute_source, find_images, find_samples
from clipes.runs.plan import read_plan


def _made(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("pattern", ["*.jpg", "*/*.jpg", "?.*"])
def test_they_are_what_the_quoted_pattern_is(tmp_path: Path, pattern: str) -> None:
    folder = _made(tmp_path / "images", "a.jpg", "b.jpg", "x/c.jpg", "y/d.jpg")
    given = sorted(glob.glob(str(folder / pattern)))
    several, quoted = find_samples(given, ["cat"]), find_samples(folder / pattern, ["cat"])
    assert list(several) == list(quoted) and len(several) == 2
    assert dict(find_images(given)) == {sample.id: sample.image for sample in quoted}


def test_folders_and_images(tmp_path: Path) -> None:
    folder = _made(tmp_path / "images", "a.jpg", "x/c.jpg", "x/deep/d.png", "x/t.txt", "z/e.psd")
    samples = find_samples([folder / "a.jpg", folder / "x", folder / "z"], ["cat"])
    assert [sample.id for sample in samples] == ["a", "x/c", "x/deep/d"]
    assert "1 file(s) are images of kinds that are not read" in samples.notes[0]
    assert [sample.id for sample in find_samples([folder / "x", folder / "x/c.jpg"], ["cat"])] == ["x/c", "x/deep/d"]
    assert [sample.id for sample in find_samples([folder / "x"], ["cat"])] == ["c", "deep/d"]
    with pytest.raises(ValueError, match="no source is given"):
        find_samples([], ["cat"])
    with pytest.raises(DatasetError, match=r"a\.jpg and 1 more: no labels; give a labels file"):
        find_samples([folder / "a.jpg", folder / "x"])


@pytest.mark.parametrize(
    ("name", "message"), [("t.csv", r"t\.csv: one of 2 sources, and neither"), ("q.jpg", "no such")]
)
def test_what_is_no_image_is_named(tmp_path: Path, name: str, message: str) -> None:
    folder = _made(tmp_path / "images", "a.jpg", "t.csv")
    with pytest.raises((DatasetError, FileNotFoundError), match=message):
        find_samples([folder / "a.jpg", folder / name], ["cat"])


def test_absolute_sources(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(_made(tmp_path, "a.jpg", "b.jpg"))
    assert absolute_source(["a.jpg", Path("b.jpg")]) == (str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg"))
    assert absolute_source(["a.jpg"]) == absolute_source("a.jpg") == str(tmp_path / "a.jpg")


def test_the_command_and_all_that_follows(photos: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(photos.parent)
    given = ["photos/a.jpg", "photos/b.png", "photos/sub"]
    flags = ["--labels", "cat,tree", "--save-patch-cams"]
    assert main(["generate", *given, *flags, "--out", "m"]) == 0
    assert main(["generate", *flags, "--out", "flags-first", *given]) == 0
    clipes.run(given, "python", ["cat", "tree"])
    masks = [
        {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*.png")}
        for folder in ("m", "flags-first", "python")
    ]
    assert masks[0] == masks[1] == masks[2] and {str(name) for name in masks[0]} == {"a.png", "b.png", "sub/c.png"}
    manifest = json.loads(Path("m/run.json").read_text())
    assert manifest["source"] == manifest["plan"]["source"] == [str(photos.parent / name) for name in given]
    assert read_plan("m").source == tuple(manifest["source"])
    assert main(["generate", "--like", "m", "--out", "again"]) == 0
    assert main(["generate", *given, *flags, "--out", "m", "--dry-run"]) == 0
    assert "photos/a.jpg and 2 more" in capsys.readouterr().out
    assert main(["finalize", "m", "--refine", "par"]) == 0
    assert main(["export", "m", "--to", "coco", "--out", "x"]) == 0
    assert main(["report", "m", "--out", "r"]) == 0
    assert len(PseudoMaskDataset("m")) == 3
    for command in (["sharpness", *given, "--templates", "a {}.", "--out", "s"], ["background", *given]):
        assert main([*command, "--labels", "cat,tree"]) == 0


def test_masks_among_the_images_are_refused(photos: Path, monkeypatch: Any, capsys: Any) -> None:
    """The next pattern without quotation marks would match them."""
    monkeypatch.chdir(photos)
    assert main(["generate", "a.jpg", "b.png", "--labels", "cat", "--out", "."]) == 2
    assert "lies in the source a.jpg and 1 more" in capsys.readouterr().err
    assert main(["generate", "a.jpg", "sub", "--labels", "cat", "--out", "sub/m"]) == 2
