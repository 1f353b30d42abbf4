"""The one way through a run's masks and their pictures, which every format takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clipes.ids import ignore_index
from clipes.store.record import Row
from clipes.store.store import Store

from .pictures import Picture, PictureReader

MAX_PROBLEMS = 20
"""How many reasons of failures are kept."""


@dataclass(frozen=True)
class Item:
    """An image that is exported.

    Attributes:
        id: the image's.
        labels: the class names given for it.
        mask: (H, W), uint8 or uint16: 0 background, 1..K classes, ``ignore`` not decided.
        ignore: 255, above 254 classes 65535.
        confidence: (H, W) uint8, 255 for 1; None where the run saved none.
        picture: its picture.
    """

    id: str
    labels: tuple[str, ...]
    mask: NDArray[Any]
    ignore: int
    confidence: NDArray[np.uint8] | None
    picture: Picture


class FormatWriter(Protocol):
    """A format: takes the images one by one, in the order of their ids."""

    def check(self, item: Item) -> None:
        """Raise ValueError for an image that cannot be written; nothing is written yet."""

    def add(self, item: Item) -> None:
        """Write the image's files."""

    def finish(self) -> None:
        """Write what stands above all images."""

    def close(self) -> None:
        """Close the open files; a second call does nothing."""

    def notes(self) -> Iterator[str]:
        """What the reader of the report should know of this format."""


@dataclass
class ExportCounts:
    """What became of the images so far."""

    images: int = 0
    pixels: int = 0
    ignored_pixels: int = 0
    failed: int = 0
    turned: int = 0
    converted: int = 0
    problems: list[str] = field(default_factory=list)  # of the first that failed


def write_all(
    run: Store, rows: Iterable[Row], pictures: PictureReader, writer: FormatWriter, count: ExportCounts
) -> None:
    """Give all images to ``writer``, one in memory at a time; one that cannot be read or named is counted as failed.

    Raises OSError where nothing can be written.
    """
    ignore = ignore_index(len(run.class_names))
    for row in rows:
        try:
            mask = run.mask(row)
            height, width = mask.shape
            picture = pictures.read(row.id, (height, width))
            item = Item(row.id, row.labels, mask, ignore, run.confidence(row), picture)
            writer.check(item)
        except (ValueError, OSError, MemoryError) as error:
            count.failed += 1
            if len(count.problems) < MAX_PROBLEMS:
                count.problems.append(str(error) or f"{row.id!r}: out of memory")
            continue
        writer.add(item)
        count.images += 1
        count.pixels += mask.size
        count.turned += picture.turned
        count.converted += picture.converted
        count.ignored_pixels += int(np.count_nonzero(mask == ignore))


def new_file(folder: Path, name: str) -> Path:
    """``folder/name``, whose folder is made if need be. The name has a suffix and no ``..``."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
