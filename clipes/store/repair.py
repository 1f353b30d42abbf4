"""A damaged folder of a run, mended: what can be rebuilt is, from what else the folder holds, and the rest is listed.

``run.json`` comes from its copy beside the records, ``classes.json`` from ``run.json``, rows from the masks; records
are written again without their damaged lines. Nothing is deleted: what is damaged stays beside its successor, with
``.damaged`` behind its name. Rows of a newer version stay where they are.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from shutil import copyfile
from typing import Any

from clipes.ids import CLASSES, MANIFEST, class_table
from clipes.io.atomic import atomic, owned, write_json

from .checksums import has_size
from .found_rows import MADE_AGAIN, Unclaimed, find_rows
from .layout import DAMAGED, MANIFEST_COPY, RECORD_FILE, RECORDS, SAVED, Kind, member_name
from .lease import take_lease
from .manifest import MIXED, copy_manifest, is_copied, other_folder, parse_manifest, read_manifest, recorded_digest
from .record import Record, Recorder, Unreadable, read_records
from .row import Row
from .store import Store

MAX_TOLD = 20
"""How many things that could not be mended are kept."""


@dataclass
class Repair:
    """What came of a repair, in sentences.

    Attributes:
        changes: what was mended, or would be.
        left: the first :data:`MAX_TOLD` things that could not be mended, each with its cure.
        left_count: how many there are.
        notes: what was seen and left as it is.
    """

    changes: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    left_count: int = 0
    notes: list[str] = field(default_factory=list)

    def leave(self, what: str) -> None:
        """Tell of what cannot be mended."""
        self.left_count += 1
        if len(self.left) < MAX_TOLD:
            self.left.append(what)


def repair_run(folder: str | os.PathLike[str], dry_run: bool = False) -> Repair:
    """Mend the folder of a run; with ``dry_run`` only say what would be done. A second call finds nothing to do.

    Raises FileNotFoundError for a folder that is not a run's, :class:`clipes.store.lease.FolderInUse` while a process
    writes there, OSError where it cannot be written to.
    """
    folder = Path(folder)
    if not _is_of_run(folder):
        raise FileNotFoundError(
            f"{folder} has no {MANIFEST} and no records, without which nothing can be known of its files; "
            "give the --out folder of a `clipes generate`"
        )
    with take_lease(folder, "", "clipes repair", alone=True):
        return _Mender(folder, dry_run).mend()


def _is_of_run(folder: Path) -> bool:
    records = folder / RECORDS
    names = os.listdir(records) if records.is_dir() else []
    has_records = any(name == MANIFEST or RECORD_FILE.fullmatch(name) for name in names)
    return folder.is_dir() and (has_records or os.path.lexists(folder / MANIFEST))


class _Mender:
    """One repair. All changes go through :meth:`_do`, which a dry run leaves out."""

    def __init__(self, folder: Path, dry_run: bool) -> None:
        self._folder, self._dry_run, self._report = folder, dry_run, Repair()

    def mend(self) -> Repair:
        """Mend what can be mended, in the order in which one thing is rebuilt from another."""
        special = list(_special_files(self._folder / RECORDS))
        for path in special:
            self._report.leave(f"{path} is no ordinary file; move it away, and repair again")
        manifest = None if special else self._mend_manifest()
        if manifest is not None:
            self._mend_classes(manifest)
            salvaged = {row.id: row for record in list(read_records(self._folder)) for row in self._mend_record(record)}
            with Store(self._folder, manifest) as store:
                self._add_rows(store, salvaged)
                self._check(store)
        return self._report

    def _do(self, what: str, *actions: Callable[[], object]) -> None:
        self._report.changes.append(what)
        for action in () if self._dry_run else actions:
            action()

    def _mend_manifest(self) -> dict[str, Any] | None:
        """The settings of the run, from ``run.json`` or its copy; None where they are lost."""
        folder, path, copy = self._folder, self._folder / MANIFEST, self._folder / MANIFEST_COPY
        try:
            manifest = read_manifest(folder)
        except (FileNotFoundError, ValueError):
            return self._restore_manifest(path, copy)
        if not is_copied(folder):
            self._do(f"{copy}: written, a copy of {path}", lambda: copy_manifest(folder))
        elif copy.read_bytes() != path.read_bytes():
            self._report.notes.append(
                f"{path} and {copy} differ beside the settings: one was edited or damaged; both stay"
            )
        return manifest

    def _restore_manifest(self, path: Path, copy: Path) -> dict[str, Any] | None:
        digest = recorded_digest(self._folder)
        try:
            manifest = parse_manifest(copy)
        except (ValueError, RecursionError):
            if digest is None:
                what = "cannot be rebuilt, and nothing says of which settings the masks are"
                self._report.leave(f"{path} {what}; {other_folder(self._folder)}")
                return None
            self._set_aside(path)
            cure = "start `clipes generate` with the same settings, which writes it and keeps what is finished"
            self._report.leave(f"{path} cannot be rebuilt, as its copy is lost, too; {cure}")
            return None
        if digest not in (None, manifest["digest"]):
            manifest["mixed"] = MIXED
        self._set_aside(path)
        write, copy_back = lambda: write_json(path, manifest), lambda: copy_manifest(self._folder)
        self._do(f"{path}: written again from {copy}", write, copy_back)
        return manifest

    def _mend_classes(self, manifest: dict[str, Any]) -> None:
        names, path = manifest["settings"].get("class_names"), self._folder / CLASSES
        if not isinstance(names, list):
            return  # an older run's, whose names are in classes.json alone
        table, found = class_table(map(str, names)), None
        if path.is_file() and not path.is_symlink():
            with suppress(OSError, ValueError, RecursionError):
                found = json.loads(path.read_text(encoding="utf-8"))
        if found != table:
            self._set_aside(path)
            self._do(f"{path}: written again from {MANIFEST}", lambda: write_json(path, table))

    def _mend_record(self, record: Record) -> list[Row]:
        """Rid a record of its damaged lines; returns the rows of one whose settings are not known."""
        if record.fault:
            rows = [row for row in record.rows() if row.status == "ok"]
            if record.fault.damaged:
                self._set_aside(record.path)
            else:
                self._report.notes.append(f"{record.fault}; a newer clipes may have written this record, and it stays")
            return rows
        unreadable = [item for item in record.items() if isinstance(item, Unreadable)]
        damaged = {item.number for item in unreadable if item.damaged}
        if newer := len(unreadable) - len(damaged):
            self._report.notes.append(f"{record.path}: {newer} row(s) that a newer clipes may have written stay")
        if damaged:
            aside = _free_name(record.path)
            self._do(
                f"{record.path}: written again without {len(damaged)} damaged line(s); as it was it is {aside.name}",
                lambda: _copy(record.path, aside),
                lambda: _copy_lines(record.path, damaged),
            )
        return []

    def _add_rows(self, store: Store, salvaged: dict[str, Row]) -> None:
        """Write a row for each mask that has none and can be vouched for."""
        found = foreign = 0
        with ExitStack() as stack:
            recorder: Recorder | None = None
            for row in find_rows(store, salvaged):
                if isinstance(row, Unclaimed):
                    self._report.leave(str(row))
                elif row is None:
                    foreign += 1
                else:
                    found += 1
                    if recorder is None and not self._dry_run:
                        header = {"settings": store.digest, "repair": True, "command": "clipes repair"}
                        recorder = stack.enter_context(Recorder(self._folder, header))
                    if recorder:
                        recorder.add(row)
        if found:
            self._do(f"{found} row(s) written again for masks that had none")
        if foreign:
            self._report.notes.append(f"{foreign} PNG file(s) that no run wrote stay as they are")

    def _check(self, store: Store) -> None:
        """Tell of masks that have a row, but are not there as it says."""
        if mixed := store.manifest.get("mixed"):
            self._report.leave(f"{self._folder}: {mixed}")
            return
        kinds = [kind for kind in SAVED if store.has(kind)]
        for row in store.rows("ok"):
            if not all(store.are_done([(row.id, row.labels)], kinds)):
                self._set_aside_unmarked(store, row)
                self._report.leave(
                    f"{_damaged_file(store, row, kinds)}: not there, or not as it was written; {MADE_AGAIN}"
                )

    def _set_aside_unmarked(self, store: Store, row: Row) -> None:
        """Rename what is left of a mask whose mark is damaged, too: a start would not write over it."""
        with suppress(ValueError):  # a member of a .tar that is not there, a link out of the folder
            path = store.path(row)
            if isinstance(path, Path) and path.is_file() and not owned(path, "mask"):
                self._set_aside(path)

    def _set_aside(self, path: Path) -> None:
        """Rename what is damaged, if it is there."""
        if os.path.lexists(path):
            aside = _free_name(path)
            self._do(f"{path}: set aside as {aside.name}", lambda: os.rename(path, aside))


def _special_files(records: Path) -> Iterator[Path]:
    """What is no ordinary file among the records, or instead of their folder: nothing reads it, and it stays."""
    if records.is_symlink() or (os.path.lexists(records) and not records.is_dir()):
        yield records
        return
    for name in sorted(os.listdir(records)) if records.is_dir() else ():
        path = records / name
        if name.endswith((".jsonl", MANIFEST)) and not name.startswith(".") and not stat.S_ISREG(path.lstat().st_mode):
            yield path


def _damaged_file(store: Store, row: Row, kinds: Sequence[Kind]) -> str:
    """The file of an image that is not done for which this is so; its mask, unless it is one beside that."""
    for kind in kinds:
        try:
            if not has_size(path := store.path(row, kind), row, kind):
                return str(path)
        except (ValueError, OSError) as error:
            return str(error)
    return str(store.folder / row.shard / member_name(row.id, "mask") if row.shard else store.path(row))


def _free_name(path: Path) -> Path:
    """The name of a file that is set aside: with ``.damaged`` behind it, and a number if that is taken."""
    names = (path.with_name(f"{path.name}{DAMAGED}{f'-{number}' if number > 1 else ''}") for number in count(1))
    return next(name for name in names if not os.path.lexists(name))


def _copy(path: Path, to: Path) -> None:
    with atomic(to) as temporary:
        copyfile(path, temporary)


def _copy_lines(path: Path, without: set[int]) -> None:
    """Write a file again without the lines of these numbers, all others as they are."""
    with atomic(path) as temporary, open(path, "rb") as old, open(temporary, "xb") as new:
        new.writelines(line for number, line in enumerate(old, start=1) if number not in without)
