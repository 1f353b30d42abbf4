"""PASCAL VOC's layout, which torchvision, mmsegmentation and CVAT ("Segmentation mask 1.1") read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from clipes.ids import voc_palette
from clipes.io.masks import mask_png

from .names import file_name, label_name
from .walk import FormatWriter, Item, new_file

KEPT = frozenset({"JPEG"})


class VocWriter(FormatWriter):
    """``JPEGImages/ID.jpg``, ``SegmentationClass/ID.png``, ``ImageSets/Segmentation/SPLIT.txt``, ``labelmap.txt``.

    Raises ValueError for more than 254 classes.
    """

    def __init__(self, root: Path, class_names: Sequence[str], split: str) -> None:
        if len(class_names) > 254:
            raise ValueError(
                f"VOC's masks have 8 bits, of which 255 says ignored: {len(class_names)} classes do not fit into 254; "
                "export --to coco or --to huggingface"
            )
        self._root, self._names = root, class_names
        super().__init__()
        path = new_file(root, f"ImageSets/Segmentation/{split}.txt")
        self._list = self._open.enter_context(open(path, "w", encoding="utf-8", newline="\n"))  # noqa: SIM115
        self._renamed = 0

    def check(self, item: Item) -> None:
        """As :class:`clipes.export.walk.FormatWriter` says."""
        file_name(item.id)

    def add(self, item: Item) -> None:
        """As :class:`clipes.export.walk.FormatWriter` says."""
        name = file_name(item.id)
        self._renamed += name != item.id
        item.picture.write(self._root / "JPEGImages" / name)
        path = new_file(self._root, f"SegmentationClass/{name}.png")
        path.write_bytes(mask_png(item.mask, len(self._names)))
        self._list.write(f"{name}\n")

    def finish(self) -> None:
        """As :class:`clipes.export.walk.FormatWriter` says."""
        self.close()
        labels = [*map(label_name, self._names)]
        background, ignored = (_unused_name(labels, name) for name in ("background", "ignored"))
        colours = voc_palette()[[*range(len(labels) + 1), 255]].tolist()
        lines = [
            f"{name}:{red},{green},{blue}::"
            for name, (red, green, blue) in zip([background, *labels, ignored], colours, strict=True)
        ]
        text = "\n".join(["# label:color_rgb:parts:actions", *lines, ""])
        (self._root / "labelmap.txt").write_text(text, encoding="utf-8", newline="\n")

    def notes(self) -> Iterator[str]:
        """As :class:`clipes.export.walk.FormatWriter` says."""
        if self._renamed:
            yield f"{self._renamed} id(s) are percent-encoded in file names, which lists of plain lines cannot hold"
        if changed := sum(label_name(name) != name for name in self._names):
            yield f"{changed} class name(s) are percent-encoded in labelmap.txt, whose fields end at a colon"


def _unused_name(labels: Sequence[str], name: str) -> str:
    """``name`` with as many ``_`` appended as are needed to differ from all ``labels``."""
    while name in labels:
        name += "_"
    return name
