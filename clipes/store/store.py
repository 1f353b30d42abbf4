"""The folder of a run: created or opened, its rows, masks, confidences and maps read, its status summarised."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipes.datasets.sample import AnySource
from clipes.ids import CLASSES, class_table, read_class_names
from clipes.io.atomic import write_json
from clipes.io.cams_npz import PatchCams
from clipes.io.images import TarMember
from clipes.io.paths import list_sources

from .checksums import are_there, is_intact
from .cleanup import check_output_folder, remove_stale
from .images import run_images
from .in_hand import remove_stale_hands
from .layout import FilePaths, Kind, member_name
from .lease import FolderInUse, Lease, owners, take_lease
from .manifest import OVERWRITE, copy_manifest, create_or_verify_manifest, read_manifest
from .reading import read_confidence, read_maps, read_mask
from .row import Row, Status
from .rows import LatestRows
from .status import RunStatus, read_status
from .tar_index import TarIndex

AnyPath = str | os.PathLike[str]
Labelled = tuple[str, tuple[str, ...] | None]  # an image's id and labels; None: those that CLIP found


def open_run(folder: AnyPath) -> Store:
    """Open the folder of a run to read its masks, confidences, maps, rows and status.

    >>> import clipes
    >>> with clipes.open_run("masks") as run:  # doctest: +SKIP
    ...     print(run.status().ok)
    ...     for row in run.rows("ok"):
    ...         mask = run.mask(row)

    Raises FileNotFoundError where there is no run, ValueError for a broken ``run.json``, masks of mixed settings,
    and the folder of `clipes tag`, which has none.
    """
    store = Store.open(folder)
    store.check_not_mixed()
    if not store.has_masks:
        raise ValueError(f"{folder} is of `clipes tag` and has no masks; give the --out folder of a `clipes generate`")
    return store


class Store:
    """The folder of a run. Making one has no side effects: see :meth:`create` and :meth:`open`. Use it in a ``with``.

    Attributes:
        folder: where it is.
        manifest: all of ``run.json``.
        lease: this process's claim to write masks there; None for a reader. Closing gives it back.
    """

    def __init__(self, folder: AnyPath, manifest: Mapping[str, Any]) -> None:
        self.folder, self.manifest = Path(folder), manifest
        self.lease: Lease | None = None
        self._lock = Lock()
        self._latest: LatestRows | None = None
        self._tars = TarIndex(self.folder)

    @classmethod
    def open(cls, folder: AnyPath) -> Store:
        """Open the folder of a run. Only ``run.json`` is read; everything else when it is asked for.

        Raises FileNotFoundError where there is no run, ValueError where ``run.json`` is broken.
        """
        return cls(folder, read_manifest(folder))

    @classmethod
    def create(
        cls, folder: AnyPath, settings: Mapping[str, Any], class_names: Iterable[str], about: Mapping[str, Any]
    ) -> Store:
        """Make ``folder`` that of a run with ``settings``, or open it if it is one already.

        Args:
            settings: what the files depend on; two starts in one folder must agree on them.
            class_names: K names, for ``classes.json``.
            about: what else ``run.json`` says: versions, command, machine, source.

        Raises ValueError for a folder of other settings, with the differences, for masks of mixed settings, and for
        files in the folder that no run wrote; :class:`clipes.store.lease.FolderInUse` while a process writes masks of
        other settings; OSError where it cannot be written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        check_output_folder(folder)
        create_or_verify_manifest(folder, settings, about)
        store = cls.open(folder)
        try:
            store.lease = take_lease(folder, store.digest, check=store.check_unchanged)
            store.check_not_mixed(f", or {OVERWRITE}")
            write_json(folder / CLASSES, class_table(class_names))
            copy_manifest(folder)
        except BaseException:
            store.close()
            raise
        return store

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete the temporary databases, and give the lease back; a second call does nothing."""
        if self.lease is not None:
            self.lease.close()
        self._tars.close()
        if self._latest is not None:
            self._latest.close()

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {status}" for status, count in sorted(self.counts().items()))
        return f"<run {os.fspath(self.folder)!r}: {len(self.class_names)} classes, {counts or 'no images'}>"

    # --- settings

    @property
    def settings(self) -> dict[str, Any]:
        """What the files of the run depend on."""
        return dict(self.manifest["settings"])

    @property
    def digest(self) -> str:
        """The hash of :attr:`settings`: :func:`clipes.store.manifest.settings_digest`."""
        return str(self.manifest["digest"])

    @property
    def config(self) -> dict[str, Any]:
        """The settings of the method, as :meth:`clipes.Config.from_dict` takes them."""
        return dict(self.settings.get("config", {}))

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """K names, in the order of their ids, as ``run.json`` holds them; older ones do not, then ``classes.json``."""
        names = self.settings.get("class_names")
        return tuple(map(str, names)) if isinstance(names, list) else read_class_names(self.folder, None)

    def has(self, kind: Kind) -> bool:
        """Whether the run saves files of this kind."""
        return kind == "mask" or bool(self.settings.get("output", {}).get(kind))

    @property
    def has_masks(self) -> bool:
        """Whether the run makes masks, and not only scores or patches of `clipes tag`."""
        return self.settings.get("output", {}).get("format") not in ("none", "patches")

    def check_not_mixed(self, cure: str = "") -> None:
        """Raise ValueError if ``run.json`` says that some masks are of other settings: a stopped ``finalize``."""
        if mixed := self.manifest.get("mixed"):
            for owner in owners(self.folder).values():
                if owner is not None and owner.alone:
                    raise FolderInUse(f"{self.folder}: {owner} is deciding its masks again; wait until it ends")
            raise ValueError(f"{self.folder}: {mixed}{cure}")

    def check_unchanged(self) -> None:
        """Raise ValueError if ``run.json`` has changed since it was read, so that masks may be of two settings."""
        manifest = read_manifest(self.folder)
        if manifest.get("mixed") != self.manifest.get("mixed") or manifest["digest"] != self.digest:
            raise ValueError(f"{self.folder}: its masks were decided again meanwhile; start again")

    @property
    def is_lost(self) -> bool:
        """Whether this process must stop writing, because the folder is no longer its own; soon after the fact."""
        return self.lease is not None and self.lease.fault is not None

    def check_lease(self) -> None:
        """Raise what :attr:`is_lost` is about, looking once more now."""
        if self.lease is not None:
            self.lease.verify()

    # --- images

    def source(self, source: AnySource | None = None) -> str | tuple[str, ...]:
        """``source``, by default where the run found its images; ValueError where neither is known."""
        place = self.manifest.get("source") if source is None else source
        if not place or not isinstance(place, str | os.PathLike | list | tuple):
            raise ValueError(f"{self.folder}: its record does not say where the images are; say it (--source)")
        return os.fspath(place) if isinstance(place, str | os.PathLike) else list_sources(place)

    def images(self, source: AnySource) -> Mapping[str, Path | TarMember]:
        """The images of a source by their ids; errors as of :func:`clipes.datasets.find_images`."""
        try:
            return run_images(self.manifest, source)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}; say where the images are (--source)") from error

    # --- rows

    @property
    def latest(self) -> LatestRows:
        """The newest row of every image, as the records are when it is first asked for; a damaged line is warned of."""
        with self._lock:
            if self._latest is None:
                self._latest = LatestRows(self.folder, self.digest)
                self._latest.warn_of_unreadable()
            return self._latest

    def rows(self, status: Status | None = None) -> Iterator[Row]:
        """The newest row of every image, by id; with ``status`` only those that ended so."""
        return iter(self.latest) if status is None else self.latest.select(status)

    def counts(self) -> dict[Status, int]:
        """How many images ended with each status."""
        return self.latest.counts()

    def status(self, reasons: int = 10) -> RunStatus:
        """Counts, speed, workers, and the ``reasons`` most common reasons why images have no mask."""
        return read_status(self.folder, self.latest, reasons)

    def are_done(self, images: Sequence[Labelled], kinds: Collection[Kind] = ()) -> list[bool]:
        """Which images need no work: the newest row is ok and has their labels, the mask, if the run makes masks, and
        ``kinds`` are intact.
        """
        rows, paths = self.latest.get_many(id for id, _ in images), FilePaths(self.folder)
        masks = self.has_masks

        def intact(row: Row) -> bool:
            place, classes = partial(self._place, paths, row), lambda: len(self.class_names)
            return is_intact(row, kinds, place, classes) if masks else are_there(row, kinds, place)

        found = ((rows.get(id), labels) for id, labels in images)
        return [row is not None and row.is_done(labels, masks) and intact(row) for row, labels in found]

    # --- files

    def path(self, row: Row, kind: Kind = "mask") -> Path | TarMember:
        """Where an image's file of a kind is, whether it exists or not. ValueError for a member that does not exist."""
        place = self._place(FilePaths(self.folder), row, kind)
        return place if isinstance(place, TarMember) else Path(place)

    def _place(self, paths: FilePaths, row: Row, kind: Kind) -> str | TarMember:
        if row.shard is None:
            return paths.get(row.id, kind)
        name = member_name(row.id, kind)
        if member := self._tars.get(row.shard, name):
            return member
        raise ValueError(f"{self.folder / row.shard}/{name}: no such member; start the run again, which makes it")

    def mask(self, image: Row | str) -> NDArray[Any]:
        """The mask (H, W) of a row or an id, uint8, above 254 classes uint16: 0 background, 1..K, 255 (65535) ignored.

        A mask that was edited since the run is read as it is. Raises ValueError, naming the file, for one that does
        not exist, is no PNG of class ids, is broken, holds other values, or has another size than the row's.
        """
        row, classes = self._row(image), len(self.class_names)
        ids = read_mask(self.path(row), row, self.folder, classes)
        return ids.astype(np.uint8 if classes <= 254 else np.uint16, copy=False)

    def confidence(self, image: Row | str) -> NDArray[np.uint8] | None:
        """The confidence (H, W) of a row or an id, 255 for 1; None unless the run saves them.

        Raises ValueError, naming the file, for one that cannot be read or has another size than the row's.
        """
        row = self._row(image)
        if not self.has("confidence"):
            return None
        return read_confidence(self.path(row, "confidence"), row, self.folder)

    def cams(self, image: Row | str) -> PatchCams | None:
        """The maps of a row or an id on the patch grid; None unless the run saves them.

        Raises ValueError, naming the file, for maps that cannot be read or are of an image of another size.
        """
        row = self._row(image)
        if not self.has("cams"):
            return None
        return read_maps(self.path(row, "cams"), row, self.folder, len(self.class_names))

    def _row(self, image: Row | str) -> Row:
        row = self.latest.get(image) if isinstance(image, str) else image
        if row is None:
            raise ValueError(f"{self.folder}: the run has no image {image!r}")
        if row.status != "ok":
            raise ValueError(f"{self.folder}: {row.id!r} has no mask, it has {row.status}: {row.reason}")
        return row

    # --- writing

    def remove_stale(self) -> None:
        """Remove what killed processes left: :func:`.cleanup.remove_stale`, :func:`.in_hand.remove_stale_hands`."""
        latest = self.latest
        remove_stale(self.folder, None if latest.other_records or latest.unreadable else latest.tar_files)
        remove_stale_hands(self.folder, self.digest, latest)
