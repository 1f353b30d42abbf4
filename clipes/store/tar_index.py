"""Where the members of a run's .tar files lie, so that each can be read by itself."""

from __future__ import annotations

import tarfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock

from clipes.io.images import TarMember
from clipes.io.retry import LastingTrouble, retried
from clipes.io.tempdb import encode_name, temporary_database, transaction

_Member = tuple[bytes, bytes, int, int]  # .tar, name, start, size


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
                members = self._read(tar)
                with transaction(self._members, "the members of .tar files"):
                    self._members.executemany("INSERT OR REPLACE INTO member VALUES (?, ?, ?, ?)", members)
                self._indexed.add(tar)
            place = self._members.execute(query, (encode_name(tar), encode_name(name))).fetchone()
        return TarMember(self._folder / tar, name, *place) if place else None

    def close(self) -> None:
        """Delete the temporary database; a second call does nothing."""
        self._members.close()

    def _read(self, tar: str) -> list[_Member]:
        path = self._folder / tar
        if Path(tar).name != tar or not path.is_file():
            return []
        try:
            return retried(partial(_members, path), self._folder)
        except LastingTrouble:
            raise
        except OSError:
            return []


def _members(path: Path) -> list[_Member]:
    """The members of a .tar, as far as it is complete."""
    found: list[_Member] = []
    with suppress(tarfile.TarError, ValueError, OverflowError), tarfile.open(path, "r:") as archive:
        for member in archive:  # cut off: its last images are done again
            if member.isreg():
                found.append((encode_name(path.name), encode_name(member.name), member.offset_data, member.size))
    return found
