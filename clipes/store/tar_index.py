"""Where the members of a run's .tar files lie, so that each can be read by itself."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock

from clipes.io.images import TarMember
from clipes.io.retry import LastingTrouble, retried
from clipes.io.tempdb import encode_name, temporary_database, transaction

from .layout import MEMBERS, member_name

_MAX_ABOUT = 1 << 24  # bytes of a member that says of an image its id and its labels


class TarIndex:
    """The members of the .tar files in ``folder``, in a temporary database on disk.

    A .tar is indexed when the first of its members is asked for, as far as it is complete. For any thread.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = Lock()
        self._indexed: set[str] = set()
        self._members = temporary_database()
        self._members.execute(
            "CREATE TABLE member (tar BLOB, name BLOB, start INTEGER, size INTEGER, PRIMARY KEY (tar, name))"
            " WITHOUT ROWID"
        )

    def get(self, tar: str, name: str) -> TarMember | None:
        """The member ``name`` of ``folder/tar``; None where there is none."""
        query = "SELECT start, size FROM member WHERE tar = ? AND name = ?"
        with self._lock:
            if tar not in self._indexed:
                members = list(self._read(tar))
                with transaction(self._members, "the members of .tar files"):
                    self._members.executemany("INSERT OR REPLACE INTO member VALUES (?, ?, ?, ?)", members)
                self._indexed.add(tar)
            place = self._members.execute(query, (encode_name(tar), encode_name(name))).fetchone()
        return TarMember(self._folder / tar, name, *place) if place else None

    def close(self) -> None:
        """Delete the temporary database; a second call does nothing."""
        self._members.close()

    def _read(self, tar: str) -> Iterator[tuple[bytes, bytes, int, int]]:
        if Path(tar).name == tar:
            for member in _read_members(self._folder / tar):
                yield encode_name(tar), encode_name(member.name), member.offset, member.size


def tar_images(path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Id and labels of the images in a .tar, in order, as their members say; without those that do not say it.

    Raises :class:`clipes.io.retry.LastingTrouble` where the folder does not answer.
    """
    for member in _read_members(path):
        if not member.name.endswith(f".{MEMBERS['about']}") or member.size > _MAX_ABOUT:
            continue
        try:
            about = json.loads(retried(member.read, path))
            image_id, labels = str(about["id"]), tuple(map(str, about["labels"]))
        except LastingTrouble:
            raise
        except (OSError, ValueError, TypeError, KeyError):
            continue
        if member_name(image_id, "about") == member.name:
            yield image_id, labels


def _read_members(path: Path) -> list[TarMember]:
    if not path.is_file():
        return []
    try:
        return retried(partial(_members, path), path)
    except LastingTrouble:
        raise
    except OSError:
        return []


def _members(path: Path) -> list[TarMember]:
    """The files in a .tar, as far as it is complete."""
    found: list[TarMember] = []
    with suppress(tarfile.TarError, ValueError, OverflowError), tarfile.open(path, "r:") as archive:
        for member in archive:  # cut off: its last images are done again
            if member.isreg():
                found.append(TarMember(path, member.name, member.offset_data, member.size))
    return found
