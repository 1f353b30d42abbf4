"""docs/datasets.md: every command of it, on a small folder of each layout; and its data set for torch."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipes.cli import main
from clipes.scenes import THINGS

PAGE = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
LINES = [
    line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE) for line in block.splitlines()
]


def _layouts(photos: Path) -> None:
    """Beside ``photos``, the same three pictures in each layout of the page."""
    root = photos.parent
    pictures = {"a": photos / "a.jpg", "b": photos / "b.png", "c": photos / "sub" / "c.jpg"}
    for folder in ("VOCdevkit/VOC2012/JPEGImages", "coco/train2014", "imagefolder"):
        (root / folder).mkdir(parents=True)
        for name, path in pictures.items():
            with Image.open(path) as image:
                image.convert("RGB").save(root / folder / f"{name}.jpg")
    (root / "labels.jsonl").write_text('{"image": "photos/b", "labels": ["cat"]}\n')
    (root / "list.txt").write_text("photos/b.png\n")
    (root / "photos.csv").write_text("image,labels\nphotos/a.jpg,cat;tree\nphotos/sub/c.jpg,\n")

    voc = root / "VOCdevkit/VOC2012"
    (voc / "Annotations").mkdir()
    (voc / "ImageSets/Segmentation").mkdir(parents=True)
    (voc / "ImageSets/Segmentation/train.txt").write_text("a\nb\n")
    for name, label in (("a", "dog"), ("b", "tvmonitor")):
        (voc / f"Annotations/{name}.xml").write_text(f"<annotation><object><name>{label}</name></object></annotation>")

    rows = [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}]
    kinds = [{"id": 18, "name": "dog"}, {"id": 90, "name": "toothbrush"}]
    shown = [{"id": 1, "image_id": 7, "category_id": 90, "segmentation": [[1.5, 2, 3, 4, 5, 6]], "iscrowd": 0}]
    (root / "coco/annotations").mkdir()
    instances = json.dumps({"images": rows, "annotations": shown, "categories": kinds})
    (root / "coco/annotations/instances_train2014.json").write_text(instances)

    for number, (name, path) in enumerate([*pictures.items()][:2]):
        with tarfile.open(root / f"shards-{number:03}.tar", "w") as tar:
            (root / "one.json").write_text('{"labels": ["cat"]}')
            tar.add(path, f"{name}{path.suffix}")
            tar.add(root / "one.json", f"{name}.json")
    (root / "imagefolder/metadata.jsonl").write_text('{"file_name": "a.jpg", "labels": ["cat", "tree"]}\n')
    vectors = {name: np.eye(len(THINGS))[number] for number, name in enumerate(("a", "b", "c"))}
    np.save(root / "cls_labels.npy", vectors, allow_pickle=True)  # type: ignore[arg-type]


EXPECTED = {
    "folder": {"a", "b", "sub/c"},
    "pattern": {"a"},
    "list": {"photos/b"},
    "table": {"photos/a", "photos/sub/c"},
    "voc": {"a", "b"},
    "coco": {"a", "b"},
    "shards": {"a", "b"},
    "imagefolder": {"a"},
    "npy": {"a", "b", "sub/c"},
}


def test_every_command(photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _layouts(photos)
    monkeypatch.chdir(photos.parent)
    assert len(LINES) == len(EXPECTED) + 3
    for line in LINES:
        if line.startswith("clipes "):
            assert main(shlex.split(line)[1:]) == 0, (line, capsys.readouterr())
        else:
            subprocess.run(line, shell=True, check=True)
    for name, ids in EXPECTED.items():
        masks = Path("masks", name)
        found = {path.relative_to(masks).with_suffix("").as_posix() for path in masks.rglob("*.png")}
        assert found == ids, name
    assert set(Path("train.txt").read_text().split()) == EXPECTED["folder"]
    assert json.loads(Path("status.json").read_text())["ok"] == 3
    assert json.loads(Path("masks/coco/run.json").read_text())["category_ids"] == {"dog": 18, "toothbrush": 90}


def test_its_data_set_for_torch(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos.parent)
    assert main(["generate", "photos", "--labels", "labels.csv", "--out", "masks", "--save-confidence"]) == 0
    (code,) = re.findall(r"^```python\n(from pathlib.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {}
    exec(code, names)
    pairs = names["PseudoMasks"]("photos", "masks")  # type: ignore[operator]
    assert len(pairs) == 3
    for pixels, mask in pairs:
        assert pixels.shape[1:] == mask.shape and 0 <= pixels.min() <= pixels.max() <= 1
        assert set(mask.unique().tolist()) <= {*range(17), 255}
