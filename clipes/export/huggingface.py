"""An ``imagefolder`` of Hugging Face's datasets: a picture, a mask and its labels in each row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from clipes.io.masks import mask_png

from .names import check_unicode
from .walk import FormatWriter, Item, new_file

KEPT = frozenset({"JPEG", "PNG"})

_CARD = """\
---
configs:
- config_name: default
  data_files:
  - split: "{split}"
    path: "{split}/**"
task_categories:
- image-segmentation
---
# Pseudo masks made by clipes

{images} images of the split `{split}`. `image` is the picture; `mask` holds class ids, not colours:
`numpy.array(row["mask"])` is (H, W). `id` is the image's name in the source, `labels` are the class names that it was
given.{confidence}

| id in the mask | name |
| --- | --- |
"""
_CONFIDENCE = " `confidence` is grey, 255 for 1."


class HuggingFaceWriter(FormatWriter):
    """``SPLIT/metadata.jsonl``, ``SPLIT/images``, ``SPLIT/masks``, ``README.md``; ``SPLIT/confidence`` if saved.

    Files are numbered in the order of the ids, because datasets assigns a file such as ``test_1.jpg`` to a test split.
    The card names the split, because datasets otherwise renames ``val`` to ``validation`` and others to ``train``.
    """

    def __init__(self, root: Path, class_names: Sequence[str], split: str) -> None:
        self._root, self._names, self._split = root, class_names, split
        self._images, self._confident = 0, False
        super().__init__()
        metadata = new_file(root, f"{split}/metadata.jsonl")
        self._metadata = self._open.enter_context(open(metadata, "w", encoding="ascii", newline="\n"))  # noqa: SIM115

    def check(self, item: Item) -> None:
        """As :class:`clipes.export.walk.FormatWriter` says."""
        check_unicode(item.id)

    def add(self, item: Item) -> None:
        """As :class:`clipes.export.walk.FormatWriter` says."""
        name, folder = f"{self._images:07}", self._root / self._split
        self._images += 1
        item.picture.write(folder / "images" / name)
        new_file(folder, f"masks/{name}.png").write_bytes(mask_png(item.mask, len(self._names)))
        row: dict[str, Any] = {
            "file_name": f"images/{name}{item.picture.suffix}",
            "mask_file_name": f"masks/{name}.png",
            "id": item.id,
            "labels": item.labels,
        }
        if item.confidence is not None:
            self._confident = True
            row["confidence_file_name"] = f"confidence/{name}.png"
            Image.fromarray(item.confidence).save(new_file(folder, f"confidence/{name}.png"))
        self._metadata.write(json.dumps(row) + "\n")

    def finish(self) -> None:
        """As :class:`clipes.export.walk.FormatWriter` says."""
        self.close()
        confidence = _CONFIDENCE if self._confident else ""
        card = _CARD.format(images=self._images, split=self._split, confidence=confidence)
        ignore = 255 if len(self._names) <= 254 else 65535
        names = [(0, "background"), *enumerate(self._names, start=1), (ignore, "(ignored: not decided)")]
        rows = "".join(f"| {index} | {_cell(name)} |\n" for index, name in names)
        (self._root / "README.md").write_text(card + rows, encoding="utf-8", newline="\n")


def _cell(name: str) -> str:
    """A name escaped for a Markdown table."""
    return "".join(c if c.isalnum() or c in " ()" else f"&#{ord(c)};" for c in name)
