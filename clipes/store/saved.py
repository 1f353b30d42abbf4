"""The masks that a run has written, as its records and its folder hold them."""

from __future__ import annotations

import os
import sqlite3
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipes.datasets import find_images
from clipes.ids import read_class_names
from clipes.io.images import TarMember
from clipes.io.masks import read_ids, read_png
from clipes.io.tempdb import blob, filling, scratch_database

from .history import History
from .manifest import read_manifest
from .output import MEMBERS, SAVED, inside, mask_path, tar_key
from .record import Row


class SavedMasks:
    """The masks of a run, files or members of .tar shards, read one at a time. Use it in a ``with``.

    Iterating gives the newest row of every image that has a mask, by id; memory does not grow with their number.

    Attributes:
        folder: the run's.
        class_names: K names, in the data set's order, the background apart.
        manifest: all of ``run.json``.
        history: the newest rows of all images, those without a mask among them.

    Raises FileNotFoundError where there is no run, ValueError for a broken record, or masks of mixed settings.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.manifest = read_manifest(folder)
        if mixed := self.manifest.get("mixed"):
            raise ValueError(f"{folder}: {mixed}")
        self.class_names = read_class_names(self.folder, None)
        self.history = History(folder, self.manifest["digest"])
        self._members = _index(self.folder, self.history.shards)

    def __enter__(self) -> SavedMasks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Delete what was kept on disk meanwhile; a second call does nothing."""
        self.history.close()
        self._members.close()

    def __len__(self) -> int:
        """The number of images that have a mask."""
        return self.history.counts()["ok"]

    def __iter__(self) -> Iterator[Row]:
        return self.history.finished_rows()

    def check_unchanged(self) -> None:
        """Raise ValueError where other settings have come to the run meanwhile, so that its masks may be of both."""
        now = read_manifest(self.folder)
        if now.get("mixed") or now["digest"] != self.manifest["digest"]:
            raise ValueError(f"{self.folder}: its masks were decided again meanwhile; start again")

    def source(self, given: str | os.PathLike[str] | None = None) -> str:
        """Where the images are: ``given``, else what the run's record says; ValueError where there is neither."""
        found = self.manifest.get("source") if given is None else os.fspath(given)
        if not isinstance(found, str) or not found:
            raise ValueError(f"{self.folder}: its record does not say where the images are; say it (--source)")
        return found

    def images(self, source: str) -> Mapping[str, Path | TarMember]:
        """The images of :meth:`source` by their ids; errors as of :func:`clipes.datasets.find_images`."""
        try:
            return find_images(source)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}; say where the images are (--source)") from error

    @property
    def has_confidence(self) -> bool:
        """Whether the run saved the confidences."""
        return bool(self.manifest["settings"].get("output", {}).get("confidence"))

    def mask(self, row: Row) -> NDArray[Any]:
        """The mask (H, W), uint8, above 254 classes uint16: 0 background, 1..K, 255 (65535) ignored.

        Raises ValueError, naming the file, for one that is not there, no PNG of ids, broken, of other values or of
        another size than the row's. It may have been edited since the run; then it is taken as it is now.
        """
        place = self._place(row, "mask")
        ids = read_ids(place, len(self.class_names))
        _check_size(place, ids, row)
        return ids.astype(np.uint8 if len(self.class_names) <= 254 else np.uint16, copy=False)

    def confidence(self, row: Row) -> NDArray[np.uint8] | None:
        """The confidence (H, W), 255 for 1, where the run saved it, else None.

        Raises ValueError, naming the file, for one that cannot be read or does not fit the row.
        """
        if not self.has_confidence:
            return None
        place = self._place(row, "confidence")
        found = read_png(place, ("L",), "is no confidence, which is 8-bit grey")
        _check_size(place, found, row)
        return found

    def _place(self, row: Row, kind: str) -> Path | TarMember:
        """Where the file of an image is."""
        if row.shard is None:
            path = mask_path(row.id, self.folder)
            return path if kind == "mask" else inside(self.folder / kind / f"{row.id}{SAVED[kind]}", self.folder)
        name = f"{tar_key(row.id)}.{MEMBERS[kind]}"
        query = "SELECT start, size FROM member WHERE shard = ? AND name = ?"
        found = self._members.execute(query, (blob(row.shard), blob(name))).fetchone()
        if found is None:
            raise ValueError(f"{self.folder / row.shard}/{name}: no such member; start the run again to make it anew")
        return TarMember(self.folder / row.shard, name, *found)


def _check_size(place: Path | TarMember, pixels: NDArray[Any], row: Row) -> None:
    if row.size is not None and pixels.shape != row.size:
        ours, theirs = (f"{height} x {width}" for height, width in (pixels.shape, row.size))
        raise ValueError(f"{place}: {ours} pixels, but the run wrote {theirs}; was it replaced?")


def _index(folder: Path, shards: set[str]) -> sqlite3.Connection:
    """Where each member of the shards lies; a shard that ends too early is read as far as it goes."""
    database = scratch_database()
    database.execute(
        "CREATE TABLE member (shard BLOB, name BLOB, start INTEGER, size INTEGER, PRIMARY KEY (shard, name))"
        " WITHOUT ROWID"
    )
    with filling(database, "the members of .tar shards"):
        for shard in sorted(shards):
            database.executemany("INSERT OR REPLACE INTO member VALUES (?, ?, ?, ?)", _placed(folder, shard))
    return database


def _placed(folder: Path, shard: str) -> Iterator[tuple[bytes, bytes, int, int]]:
    path = folder / shard
    if Path(shard).name != shard or not path.is_file():
        return
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.isreg():
                    yield blob(shard), blob(member.name), member.offset_data, member.size
    except (OSError, tarfile.TarError, ValueError, OverflowError):
        return
