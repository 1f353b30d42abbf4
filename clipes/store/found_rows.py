"""Rows for masks that have none: what is left of a run whose records were damaged or lost.

A mask is claimed if all of it fits: it bears the mark of runs, it can be read, it shows no class that is not a label of
its image, the files beside it are there, and no record says that it is of other settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from clipes.ids import ignore_index
from clipes.io.atomic import has_mark
from clipes.io.images import TarMember
from clipes.io.retry import LastingTrouble, retried
from clipes.io.walk import walk_files
from clipes.label_rules import foreground_share, missing_ids

from .checksums import checksum, size_of
from .images import run_labels
from .layout import RECORDS, SAVED, TAR_FILE
from .record import read_records
from .row import Row
from .rows import LatestRows
from .store import Store
from .tar_index import tar_images

MADE_AGAIN = "start `clipes generate` again, which makes it"
"""The cure for a mask that is lost."""


@dataclass(frozen=True)
class Unclaimed:
    """A mask without a row that cannot be vouched for: the id of its image, why, and what to do."""

    id: str
    reason: str
    cure: str = MADE_AGAIN

    def __str__(self) -> str:
        return f"{self.id}: it has no row, and its mask gets none: {self.reason}; {self.cure}"


def find_rows(store: Store, salvaged: Mapping[str, Row]) -> Iterator[Row | Unclaimed | None]:
    """A row for each mask of the folder without one, or why there is none; None for a PNG that no run wrote.

    ``salvaged`` are rows of records whose settings are not known: their labels count, where the mask is still theirs.
    """
    candidates = list(_without_row(store))
    if not candidates:
        return
    labels = _Labels(store, salvaged, {row.id for row in candidates})
    with ExitStack() as stack:
        digests = {record.settings for record in read_records(store.folder) if not record.fault} - {store.digest}
        others = [stack.enter_context(LatestRows(store.folder, digest)) for digest in digests]
        for row in candidates:
            try:
                yield _claim(store, row, labels, others)
            except LastingTrouble:  # it says nothing of the mask
                raise
            except (ValueError, OSError) as error:
                yield Unclaimed(row.id, str(error))


def _without_row(store: Store) -> Iterator[Row]:
    """What is known of the masks that have no row, in the order of their files; those in a .tar tell their labels."""
    if store.settings.get("output", {}).get("format") != "tar":
        for name in walk_files(store.folder, (".png",), skip=(RECORDS, *SAVED)):
            if name.endswith(".png") and store.latest.get(name.removesuffix(".png")) is None:
                yield Row(name.removesuffix(".png"), "ok")
        return
    for path in sorted(store.folder.glob("masks-*.tar")):
        if TAR_FILE.fullmatch(path.name) and path.is_file():
            for image_id, labels in tar_images(path):
                if store.latest.get(image_id) is None:
                    yield Row(image_id, "ok", labels=labels, shard=path.name)


class _Labels:
    """The labels of images without a row; the source is read when the first of them is asked for."""

    def __init__(self, store: Store, salvaged: Mapping[str, Row], ids: set[str]) -> None:
        self._store, self._salvaged, self._ids = store, salvaged, ids
        self._of_source: dict[str, tuple[str, ...]] | None = None
        self._fault = "its image is not in the source"

    def of(self, row: Row) -> tuple[str, ...]:
        """The labels of a row's image; ValueError where nothing tells them."""
        earlier = self._salvaged.get(row.id)
        if row.shard is not None:
            return row.labels
        if earlier and earlier.checksum == row.checksum:
            return earlier.labels
        if self._of_source is None:
            self._of_source = self._read_source()
        if (labels := self._of_source.get(row.id)) is not None:
            return labels
        if (maps := self._store.cams(row)) is not None:
            return tuple(self._store.class_names[index - 1] for index in maps.class_ids.tolist())
        raise ValueError(f"nothing tells its labels: {self._fault}")

    def _read_source(self) -> dict[str, tuple[str, ...]]:
        try:
            return run_labels(self._store.manifest, self._ids)
        except (ValueError, TypeError, OSError) as error:
            self._fault = str(error)
            return {}


def _claim(store: Store, row: Row, labels: _Labels, others: list[LatestRows]) -> Row | Unclaimed | None:
    """The whole row of a mask; None for one that no run wrote. ValueError for one that cannot be vouched for."""
    path = store.path(row)
    if isinstance(path, Path) and not path.is_file():
        raise ValueError(f"{path} is no ordinary file")
    data = retried(path.read, path.tar) if isinstance(path, TarMember) else retried(path.read_bytes, path)
    if not has_mark(data, "mask"):
        return _unmarked(path, row, store)
    if mixed := store.manifest.get("mixed"):
        raise ValueError(f"it may be of other settings; {mixed}")
    row = replace(row, checksum=checksum(path))
    if any((other := rows.get(row.id)) and other.checksum == row.checksum for rows in others):
        raise ValueError("it is of other settings")
    row = replace(row, labels=labels.of(row))
    mask = store.mask(row)
    _check_labels(mask, row, store)
    row = replace(row, size=mask.shape, **_fit(mask, row, store))
    store.confidence(row), store.cams(row)  # they raise ValueError where they are not whole
    files = {kind: store.path(row, kind) for kind in SAVED if store.has(kind)}
    return replace(row, saved={kind: (size_of(file), checksum(file)) for kind, file in files.items()} or None)


def _fit(mask: np.ndarray, row: Row, store: Store) -> dict[str, Any]:
    """What a row says of how its mask fits the labels: ``missing`` and ``foreground``."""
    names = store.class_names
    missing = missing_ids(mask, [names.index(label) + 1 for label in row.labels])
    share = foreground_share(mask, ignore_index(len(names)))
    return {"missing": tuple(names[index - 1] for index in missing), "foreground": round(share, 6)}


def _unmarked(path: Path | TarMember, row: Row, store: Store) -> Unclaimed | None:
    """What to do about a PNG without the mark of runs: nothing if it is a mask, which others made."""
    if not size_of(path):
        return Unclaimed(row.id, f"{path} is empty")
    try:
        store.mask(row)
    except ValueError as error:
        return Unclaimed(row.id, str(error), f"move the file away, and {MADE_AGAIN}")
    return None


def _check_labels(mask: np.ndarray, row: Row, store: Store) -> None:
    """Raise ValueError if a mask shows a class that is no label of its image, or a label is no class."""
    names = store.class_names
    if unknown := set(row.labels) - set(names):
        raise ValueError(f"its label {min(unknown)!r} is no class of the run")
    shown = {names[index - 1] for index in np.unique(mask).tolist() if index not in (0, ignore_index(len(names)))}
    if other := shown - set(row.labels):
        raise ValueError(f"it shows {min(other)!r}, which is no label of its image")
