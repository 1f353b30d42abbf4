"""The documentation's blocks and commands, and data sets of every layout that it names, for tests."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from clipes.cli import COMMANDS
from clipes.commands.parser import Parser
from clipes.scenes import THINGS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(block: str) -> list[list[str]]:
    """The `clipes` commands of a block of shell, as arguments."""
    lines = block.replace("\\\n", " ").splitlines()
    lines = [line.removeprefix("$ ") for line in lines]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("clipes ")]


def command_parsers() -> dict[str, argparse.ArgumentParser]:
    """Each command's parser by its name."""
    subparsers = Parser().add_subparsers()
    for command in COMMANDS:
        command.add(subparsers)
    return dict(subparsers.choices)


def layouts(photos: Path) -> None:
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

    for file, folder in (("train/_annotations.coco.json", "train"), ("result.json", "images")):
        (root / folder).mkdir()
        shutil.copy(pictures["a"], root / folder / "a.jpg")
        name = "a.jpg" if folder == "train" else "images/a.jpg"
        kinds = [{"id": number, "name": "cat"} for number in (0, 1)]
        shown = [{"image_id": 7, "category_id": 1}]
        content = {"images": [{"id": 7, "file_name": name}], "annotations": shown, "categories": kinds}
        (root / file).write_text(json.dumps(content))

    for label, name in (("cat", "a"), ("tree", "b")):
        (root / "animals" / label).mkdir(parents=True)
        shutil.copy(pictures[name], root / "animals" / label)

    for number, (name, path) in enumerate([*pictures.items()][:2]):
        with tarfile.open(root / f"shards-{number:03}.tar", "w") as tar:
            (root / "one.json").write_text('{"labels": ["cat"]}')
            tar.add(path, f"{name}{path.suffix}")
            tar.add(root / "one.json", f"{name}.json")
    (root / "imagefolder/metadata.jsonl").write_text('{"file_name": "a.jpg", "labels": ["cat", "tree"]}\n')
    vectors = {name: np.eye(len(THINGS))[number] for number, name in enumerate(("a", "b", "c"))}
    np.save(root / "cls_labels.npy", vectors, allow_pickle=True)  # type: ignore[arg-type]
