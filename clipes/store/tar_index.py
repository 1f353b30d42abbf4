"""Where the members of a run's .tar files lie, so that each can be read by itself."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

from clipes.io.images import TarMember
from clipes.io.tempdb import encode_name, temporary_database, transaction


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
                with transaction(self._members, "the members of .tar files"):
                    self._members.executemany("INSERT OR REPLACE INTO member VALUES (?, ?, ?, ?)", self._read(tar))
                self._indexed.add(tar)
            place = self._members.execute(query, (encode_name(tar), encode_name(name))).fetchone()
        return TarMember(self._folder / tar, name, *place) if place else None

    def close(self) -> None:
        """Delete the temporary database; a second call does nothing."""
        self._members.close()

    def _read(self, tar: str) -> Iterator[tuple[bytes, bytes, int, int]]:
        path = self._folder / tar
        if Path(tar).name != tar or not path.is_file():
            return
        try:
            with tarfile.open(path, "r:") as archive:
                for member in archive:
                    if member.isreg():
                        yield encode_name(tar), encode_name(member.name), member.offset_data, member.size
        except (OSError, tarfile.TarError, ValueError, OverflowError):  # cut off: its last images are done again
            return
