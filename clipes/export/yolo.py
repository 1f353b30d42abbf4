"""Ultralytics' YOLO segmentation: a text file of polygons for each image, and ``data.yaml``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from .names import file_name
from .outlines import outlines
from .walk import FormatWriter, Item, new_file

KEPT = frozenset({"JPEG", "PNG"})


class YoloWriter(FormatWriter):
    """``images/SPLIT/ID.jpg`` (or .png), ``labels/SPLIT/ID.txt``, ``data.yaml``.

    Each line of a text file is a 4-connected region: the class, counted from 0, then the x and y of its polygon's
    points, divided by width and height. See :func:`clipes.export.outlines.outlines` for the polygons.
    """

    def __init__(self, root: Path, class_names: Sequence[str], split: str) -> None:
        super().__init__()
        self._root, self._names, self._split = root, class_names, split
        self._renamed = self._ignored = 0
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)

    def check(self, item: Item) -> None:
        """As :class:`clipes.export.walk.FormatWriter` says."""
        _name(item.id)

    def add(self, item: Item) -> None:
        """As :class:`clipes.export.walk.FormatWriter` says."""
        name = _name(item.id)
        self._renamed += name != item.id
        self._ignored += int(np.count_nonzero(item.mask == item.ignore))
        item.picture.write(self._root / "images" / self._split / name)
        lines = "".join(f"{line}\n" for line in _lines(item))
        new_file(self._root, f"labels/{self._split}/{name}.txt").write_text(lines, encoding="ascii", newline="\n")

    def finish(self) -> None:
        """As :class:`clipes.export.walk.FormatWriter` says."""
        lines = [
            "# The folders are found from this file's own. Ultralytics wants a `val`: it is the training's own images",
            "# here, so that its figures say little; put a set with true masks there.",
            f"train: {_quoted(f'images/{self._split}')}",
            f"val: {_quoted(f'images/{self._split}')}",
            "names:",
            *(f"  {index}: {_quoted(name)}" for index, name in enumerate(self._names)),
            "",
        ]
        (self._root / "data.yaml").write_text("\n".join(lines), encoding="utf-8", newline="\n")

    def notes(self) -> Iterator[str]:
        """As :class:`clipes.export.walk.FormatWriter` says."""
        if self._renamed:
            yield f"{self._renamed} id(s) are percent-encoded in file names"
        if self._ignored:
            yield f"{self._ignored} ignored pixel(s) are background here: YOLO's polygons know no ignore"


def _name(image_id: str) -> str:
    """The path of an image's files, without suffix.

    A folder `images` is percent-encoded, because Ultralytics finds the labels of an image by replacing the last
    `/images/` of its path with `/labels/`.
    """
    *folders, last = file_name(image_id).split("/")
    return "/".join([*("%69mages" if folder == "images" else folder for folder in folders), last])


def _lines(item: Item) -> Iterator[str]:
    height, width = item.mask.shape
    for class_id in np.unique(item.mask).tolist():
        if class_id not in (0, item.ignore):
            for polygon in outlines(item.mask == class_id):
                points = " ".join(f"{x / width:.7g} {y / height:.7g}" for x, y in polygon)
                yield f"{class_id - 1} {points}"


def _quoted(text: str) -> str:
    """``text`` as a double-quoted YAML scalar."""
    letters = (f"\\{c}" if c in '"\\' else c if c.isprintable() else f"\\U{ord(c):08X}" for c in text)
    return f'"{"".join(letters)}"'
