"""The loop over a run's masks and pictures that all formats share, and the interface of a format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipes.datasets import Sample
from clipes.datasets.sample import AnyImage, RegionPlace
from clipes.ids import ignore_index
from clipes.io.retry import LastingTrouble, retried
from clipes.io.tempdb import encode_name, temporary_database, transaction
from clipes.regions import read_regions
from clipes.regions.folder import FoundRegions, find_regions
from clipes.store.record import read_records
from clipes.store.row import Row
from clipes.store.store import Store

from .pictures import Picture, PictureReader

MAX_PROBLEMS = 20
"""How many reasons for failures are kept."""


@dataclass(frozen=True)
class Item:
    """An image to be exported.

    Attributes:
        id: the image's id.
        labels: the image's class names.
        mask: (H, W), uint8 or uint16: 0 background, 1..K classes, ``ignore`` undecided.
        ignore: 255, or 65535 for more than 254 classes.
        confidence: (H, W) uint8, 255 standing for 1; None if the run saved no confidence.
        picture: the image's picture.
        regions: (H, W) int32, the image's regions; None if the export takes none.
    """

    id: str
    labels: tuple[str, ...]
    mask: NDArray[Any]
    ignore: int
    confidence: NDArray[np.uint8] | None
    picture: Picture
    regions: NDArray[np.int32] | None = None


class FormatWriter(ABC):
    """Writes one format. It receives the images one by one, in the order of their ids."""

    def __init__(self) -> None:
        self._open = ExitStack()  # of the files that stay open until close()

    @abstractmethod
    def check(self, item: Item) -> None:
        """Raise ValueError for an image that cannot be written. Writes nothing."""

    @abstractmethod
    def add(self, item: Item) -> None:
        """Write the image's files."""

    @abstractmethod
    def finish(self) -> None:
        """Write the files that describe all images together."""

    def close(self) -> None:
        """Close the open files. A second call does nothing."""
        self._open.close()

    def notes(self) -> Iterator[str]:
        """Remarks for the user about this export."""
        return iter(())


@dataclass
class ExportCounts:
    """The counts of the images exported so far; see :class:`clipes.export.ExportResult`."""

    images: int = 0
    pixels: int = 0
    ignored_pixels: int = 0
    failed: int = 0
    turned: int = 0
    converted: int = 0
    problems: list[str] = field(default_factory=list)  # reasons of the first MAX_PROBLEMS failures


def write_all(
    run: Store,
    rows: Iterable[Row],
    pictures: PictureReader | None,
    regions: FoundRegions | None,
    writer: FormatWriter,
    count: ExportCounts,
) -> None:
    """Pass all images to ``writer``, one in memory at a time; count those that cannot be read or named as failed.

    ``pictures`` is None for a form that has none, ``regions`` for one that takes none.

    Raises OSError if a file cannot be written, :class:`clipes.io.retry.LastingTrouble` where no file can be read.
    """
    ignore = ignore_index(len(run.class_names))
    for row in rows:
        try:
            mask = run.mask(row)
            height, width = mask.shape
            picture = pictures.read(row.id, (height, width)) if pictures else Picture("")
            found = None if regions is None else _read(regions.of(row.id), (height, width))
            item = Item(row.id, row.labels, mask, ignore, run.confidence(row), picture, found)
            writer.check(item)
        except LastingTrouble:
            raise
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


def count_masks(run: Store) -> int:
    """How many images have a mask; ValueError for none."""
    if masks := run.counts().get("ok", 0):
        return masks
    raise ValueError(f"{run.folder}: the run has no mask to export; `clipes status` says why")


def find_run_regions(run: Store, place: Path, files: Mapping[str, AnyImage] | None = None) -> FoundRegions:
    """The regions in ``place`` of the run's images that have a mask; ``files`` are their pictures, if these are known.

    Errors as of :func:`clipes.regions.folder.find_regions`.
    """
    known = files or {}
    return find_regions((Sample(row.id, known.get(row.id, Path(row.id)), ()) for row in run.rows("ok")), place)


def notes_on_older(run: Store) -> Iterator[str]:
    """Yield how many images have a mask of other settings, and no row with the run's settings, if there are any."""
    if not run.latest.other_records:
        return
    with closing(temporary_database()) as database:
        database.execute("CREATE TABLE older (id BLOB PRIMARY KEY) WITHOUT ROWID")
        with transaction(database, "masks of other settings"):
            for record in read_records(run.folder):
                if record.settings != run.digest:
                    rows = (row for row in record.rows() if row.status == "ok" and run.latest.get(row.id) is None)
                    database.executemany(
                        "INSERT OR IGNORE INTO older VALUES (?)", ((encode_name(row.id),) for row in rows)
                    )
        count: int = database.execute("SELECT count(*) FROM older").fetchone()[0]
    if count:
        yield f"{count} mask(s) of other settings are left out: `clipes finalize` had no maps to decide them again"


def _read(place: RegionPlace, size: tuple[int, int]) -> NDArray[np.int32]:
    return retried(partial(read_regions, place, size), place.path)


def new_file(folder: Path, name: str) -> Path:
    """The path ``folder/name``; creates its parent folder. The name must have a suffix and no ``..``."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
