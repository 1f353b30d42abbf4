"""clipes.datasets.class_folders and .layouts: folders of classes, and the source that a folder should be given as."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from generating import CommandLine

import clipes
from clipes.datasets import DatasetError, absolute_source, find_images, find_samples
from clipes.io.paths import source_folder, source_would_match


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return _touch(tmp_path / "root", "cat/1.jpg", "cat/deep/2.PNG", "potted plant/1.jpg", "cat/notes.txt", ".git/x.jpg")


def test_the_first_folder_is_the_label(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = find_samples(f"folders:{root}", class_names=("cat", "potted plant"))
    expected = {"cat/1": ("cat",), "cat/deep/2": ("cat",), "potted plant/1": ("potted plant",)}
    assert {sample.id: sample.labels for sample in samples} == expected
    assert samples[0].origin == str(root / "cat") and list(find_images(f"folders:{root}")) == list(expected)
    assert find_samples(f"folders:{root}", ["tree"])[0].labels == ("tree",)
    monkeypatch.chdir(root.parent)
    assert absolute_source("folders:root") == f"folders:{root}" and source_folder(f"folders:{root}") == root
    assert source_would_match(Path("folders:root"))(root / "masks/a.png")


def test_what_is_no_tree_of_classes(root: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"folders: no such folder: 'absent'; write folders:ROOT"):
        find_samples("folders:absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no image found"):
        find_samples(f"folders:{tmp_path / 'empty'}")
    (root / "cat/x.psd").touch()
    assert "1 .psd, 'cat/x.psd' the first" in find_samples(f"folders:{root}").notes[0]
    (root / "3.jpg").touch()
    with pytest.raises(DatasetError, match=r"root/3\.jpg: lies in no folder of a class, such as .*/cat/3\.jpg; move"):
        find_samples(f"folders:{root}")


def test_by_the_command_and_python(photos: Path, tmp_path: Path, cli: CommandLine) -> None:
    for name, label in (("a.jpg", "cat"), ("b.png", "tree")):
        (photos / label).mkdir()
        (photos / name).rename(photos / label / name)
    (photos / "sub").rename(photos / "boat")
    code, _, error = cli("generate", f"folders:{photos}", "--out", tmp_path / "out")
    assert code == 0, error
    with clipes.open_run(tmp_path / "out") as run:
        assert {row.id: row.labels for row in run.rows("ok")} == {
            "boat/c": ("boat",),
            "cat/a": ("cat",),
            "tree/b": ("tree",),
        }
        assert run.manifest["source"] == f"folders:{photos}"
    assert clipes.run(f"folders:{photos}", tmp_path / "python").ok == 3
    code, _, error = cli("generate", f"folders:{photos}", "--out", photos / "masks")
    assert code == 2 and "lies in the source" in error
    (photos / "boat").rename(photos / "baot")
    code, _, error = cli("generate", f"folders:{photos}", "--out", tmp_path / "other")
    assert code == 2 and "unknown class 'baot'" in error and "did you mean 'boat'" in error


INSTANCES = {"images": [], "annotations": [], "categories": []}


@pytest.mark.parametrize(
    ("names", "place", "source"),
    [
        (["JPEGImages/a.jpg", "ImageSets/Segmentation/train.txt"], ".", "voc:{}"),
        (["JPEGImages/a.jpg", "ImageSets/Segmentation/val.txt"], ".", "voc:{}:val"),
        (["VOC2012/JPEGImages/a.jpg", "VOC2012/ImageSets/Main/train.txt"], ".", "voc:{}/VOC2012"),
        (["VOCdevkit/VOC2012/JPEGImages/a.jpg", "VOCdevkit/VOC2012/ImageSets/x.txt"], ".", "voc:{}/VOCdevkit/VOC2012"),
        (["annotations/instances_val2017.json", "val2017/a.jpg"], ".", "coco:{}:val2017"),
        (["train/_annotations.coco.json", "train/a.jpg"], ".", "coco:{}/train/_annotations.coco.json"),
        (["train/_annotations.coco.json", "train/a.jpg"], "train", "coco:{}/train/_annotations.coco.json"),
        (["result.json", "images/a.jpg"], ".", "coco:{}/result.json"),
        (["cat/a.jpg", "dog/b.jpg"], ".", "folders:{}"),
        (["photos/a.jpg"], ".", ""),
        (["a.jpg", "sub/b.jpg", "x/c.jpg"], ".", ""),
    ],
)
def test_a_folder_of_a_known_layout_is_answered_with_its_source(
    tmp_path: Path, names: list[str], place: str, source: str, cli: CommandLine
) -> None:
    root = _touch(tmp_path / "root", *names)
    for file in root.rglob("*.json"):
        file.write_text(json.dumps(INSTANCES))
    with pytest.raises(DatasetError) as caught:
        find_samples(root / place)
    hint = f"it looks like the source {source.format(root)}: give that, or a labels file" if source else "give a labels"
    assert f"no labels; {hint}" in str(caught.value)
    code, _, error = cli("generate", root / place, "--out", tmp_path / "out")
    assert code == 2 and hint in error
    with pytest.raises(DatasetError, match="no labels"):
        clipes.run(root / place, tmp_path / "out")


def test_the_masks_of_voc_are_no_images(tmp_path: Path) -> None:
    names = ("JPEGImages/a.jpg", "ImageSets/Segmentation/train.txt", "SegmentationClass/a.png")
    root = _touch(tmp_path / "VOC2012", *names)
    for source in (root, root.parent):
        with pytest.raises(DatasetError, match=r"SegmentationClass would be taken for images; give voc:.*VOC2012, or"):
            find_samples(source, ["cat"])
    assert len(find_samples(root / "JPEGImages", ["cat"])) == 1


@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_a_source_of_another_kind_is_named(tmp_path: Path, kind: str) -> None:
    names = {
        "voc": ("JPEGImages/a.jpg", "ImageSets/Segmentation/train.txt"),
        "coco": ("annotations/instances_val.json", "val/a.jpg"),
        "folders": ("cat/a.jpg", "dog/b.jpg"),
    }
    for other, files in names.items():
        if other != kind:
            root = _touch(tmp_path / other, *files)
            with pytest.raises(
                (DatasetError, FileNotFoundError), match=rf"or {other}:{root}(:val)?, which it looks like"
            ):
                find_samples(f"{kind}:{root}")
