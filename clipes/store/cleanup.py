"""The only two functions that delete a run's files, and the check that a folder may be written."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from clipes.ids import CLASSES, MANIFEST
from clipes.io import atomic
from clipes.io.atomic import is_dead, owned

from .layout import DAMAGED, HAND_FILE, MANIFEST_COPY, RECORD_FILE, RECORDS, RESERVED, SAVED, TAR_FILE
from .lease import FolderInUse, owners, take_lease
from .manifest import read_manifest


def check_output_folder(folder: Path, overwrite: bool = False) -> None:
    """Raise ValueError if a file that no run wrote has the name of one that runs write.

    With ``overwrite``, what a run wrote may be broken, but no process of this machine may be writing there.
    """
    taken = [name for name in RESERVED if os.path.lexists(folder / name)]
    if overwrite and RECORDS in taken:
        for owner in owners(folder).values():
            raise FolderInUse(f"{folder}: {owner or 'another process'} is writing there; stop it before --overwrite")
        for name in (MANIFEST, MANIFEST_COPY, CLASSES):
            if (folder / name).is_dir():
                raise ValueError(f"{folder / name} is a folder, which no run writes; move it away")
    elif os.path.lexists(folder / MANIFEST):  # checked last: a run that starts right now writes it first
        read_manifest(folder)
    elif taken and not any(RECORD_FILE.fullmatch(name) for name in _names(folder / RECORDS)):  # else it was lost
        raise ValueError(f"{folder / taken[0]} is not of an earlier run; choose another folder for the masks")


def clear(folder: Path) -> None:
    """Remove everything that runs have written to ``folder``; files of others stay.

    Masks are recognised by the software they name (:func:`clipes.io.atomic.owned`), so that those of a killed run,
    which have no row yet, are removed too. Interrupted, it can be called again.

    Raises :class:`clipes.store.lease.FolderInUse` while another process writes there.
    """
    if folder.is_dir():
        with take_lease(folder, "", "clipes generate --overwrite", alone=True):
            _clear(folder)


def _clear(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name.partition("/")[0] not in SAVED and owned(path, "mask"):
            for kind, suffix in SAVED.items():
                if not (beside := folder / kind / f"{name}{suffix}").is_dir():
                    beside.unlink(missing_ok=True)
            path.unlink()
    for path in folder.glob("masks-*.tar"):
        if TAR_FILE.fullmatch(path.name):
            path.unlink()
    for name in _names(folder / RECORDS):
        if RECORD_FILE.fullmatch(name.partition(DAMAGED)[0]) or HAND_FILE.fullmatch(name):
            (folder / RECORDS / name).unlink()
    for name in (MANIFEST, CLASSES):
        for path in folder.glob(f"{name}{DAMAGED}*"):
            if path.is_file() or path.is_symlink():
                path.unlink()
    for name in (MANIFEST_COPY, MANIFEST, CLASSES):
        (folder / name).unlink(missing_ok=True)
    for name in (RECORDS, *SAVED):
        for inner, _, _ in os.walk(folder / name, topdown=False):
            with suppress(OSError):  # not empty: others' files stay
                os.rmdir(inner)


def remove_stale(folder: Path, recorded_tars: Collection[str] | None) -> None:
    """Remove what killed processes of this machine left in ``folder``: temporary files, and .tar files without rows.

    The images of a .tar without rows are made again, and a training would see them twice. ``recorded_tars`` are the
    names of those with rows; None, where they are not all known, removes none. A process that is killed leaves one
    such .tar beside its record. More of them, or no record, are a record that was damaged or lost: they stay.
    """
    atomic.remove_stale(folder)
    unrecorded = defaultdict(list)
    for path in folder.glob("masks-*.tar") if recorded_tars is not None else ():
        match = TAR_FILE.fullmatch(path.name)
        if match and is_dead(match) and path.name not in (recorded_tars or ()):
            unrecorded[_record_of(path)].append(path)
    for record, tars in unrecorded.items():
        if len(tars) == 1 and record.is_file():
            tars[0].unlink()


def _record_of(tar: Path) -> Path:
    """The record of the process that wrote a .tar."""
    return tar.parent / RECORDS / f"{tar.stem.removeprefix('masks-').rpartition('-')[0]}.jsonl"


def _names(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []
