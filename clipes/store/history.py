"""What earlier starts of a run have done: the newest row of every image, and whether its mask is still there."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from clipes.io.tempdb import blob, filling, scratch_database

from .output import tar_key
from .record import Record, Row, Status, read_records


@dataclass(frozen=True)
class Tally:
    """How many rows of each status a worker's record holds, and when it wrote the last, seconds since 1970."""

    record: Record
    counts: Counter[Status]
    last: float


class History:
    """The newest row of every image, of all records of ``folder`` whose settings have ``digest``.

    Newest is the row with the latest time, of equal ones that of the worker that began last. The rows are kept in a
    private temporary database on disk, deleted when it is closed; memory does not grow with the number of images.

    Attributes:
        tallies: each worker's record, in the order in which they began.
        shards: the .tar files that rows name.
        others: the number of records of other settings, which are left out.

    Raises ValueError for a broken record: see :func:`clipes.store.record.read_records`.
    """

    def __init__(self, folder: str | os.PathLike[str], digest: str) -> None:
        self._folder = Path(folder)
        self._rows = scratch_database()
        self._rows.execute("CREATE TABLE rows (id BLOB PRIMARY KEY, time REAL, status TEXT, line TEXT) WITHOUT ROWID")
        self._rows.execute(
            "CREATE TABLE members (shard BLOB, name BLOB, checksum TEXT, PRIMARY KEY (shard, name)) WITHOUT ROWID"
        )
        self._read_shards: set[str] = set()
        self.shards: set[str] = set()
        self.tallies: list[Tally] = []
        self.others = 0
        with filling(self._rows, "what earlier starts have done"):
            for record in read_records(folder):
                if record.settings == digest:
                    self.tallies.append(self._read(record))
                else:
                    self.others += 1

    def __enter__(self) -> History:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Delete the temporary database; a second call does nothing."""
        self._rows.close()

    def __len__(self) -> int:
        """The number of images that have a row."""
        return sum(self.counts().values())

    def counts(self) -> Counter[Status]:
        """How many images ended with each status."""
        return Counter(dict(self._rows.execute("SELECT status, count(*) FROM rows GROUP BY status")))

    def get(self, id: str) -> Row | None:
        """The newest row of an image; None where it has none."""
        found = self._rows.execute("SELECT line FROM rows WHERE id = ?", (blob(id),)).fetchone()
        return Row.from_json(found[0]) if found else None

    def unfinished(self) -> Iterator[Row]:
        """The newest rows of the images that were skipped or failed, by id."""
        for (line,) in self._rows.execute("SELECT line FROM rows WHERE status <> 'ok' ORDER BY id"):
            yield Row.from_json(line)

    def finished_rows(self) -> Iterator[Row]:
        """The newest rows of the images that ended with a mask, by id."""
        for (line,) in self._rows.execute("SELECT line FROM rows WHERE status = 'ok' ORDER BY id"):
            yield Row.from_json(line)

    def finished(self, id: str, labels: Sequence[str]) -> bool:
        """Whether nothing is left to do for an image: it was ok, had these labels, and its mask has the checksum.

        Reads the mask; a .tar of masks is read through once, when the first of its masks is asked for.
        """
        row = self.get(id)
        if row is None or row.status != "ok" or row.checksum is None or row.labels != tuple(labels):
            return False
        found = self._member(row.shard, id) if row.shard is not None else _checksum(self._folder / f"{id}.png")
        return found == row.checksum

    def _read(self, record: Record) -> Tally:
        """Take over the rows of a record that are newer than what is there."""
        counts: Counter[Status] = Counter()
        last = record.started

        def values() -> Iterator[tuple[bytes, float, str, str]]:
            nonlocal last
            for row in record.rows():
                counts[row.status] += 1
                last = max(last, row.time)
                if row.shard is not None:
                    self.shards.add(row.shard)
                yield blob(row.id), row.time, row.status, row.to_json()

        self._rows.executemany(
            "INSERT INTO rows VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            "time = excluded.time, status = excluded.status, line = excluded.line WHERE excluded.time >= time",
            values(),
        )
        return Tally(record, counts, last)

    def _member(self, shard: str, id: str) -> str | None:
        """The checksum of an image's mask in a .tar."""
        if shard not in self._read_shards:
            with filling(self._rows, "the checksums of masks"):
                self._rows.executemany(
                    "INSERT OR REPLACE INTO members VALUES (?, ?, ?)",
                    ((blob(shard), blob(name), checksum) for name, checksum in _members(self._folder / shard)),
                )
            self._read_shards.add(shard)
        query = "SELECT checksum FROM members WHERE shard = ? AND name = ?"
        found = self._rows.execute(query, (blob(shard), blob(f"{tar_key(id)}.png"))).fetchone()
        return found[0] if found else None


def _checksum(path: Path) -> str | None:
    """SHA-256 of a file's bytes; None where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    except OSError:
        return None


def _members(path: Path) -> Iterator[tuple[str, str]]:
    """The name and the checksum of every PNG of a .tar, as far as it is whole."""
    if not path.is_file():
        return
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isreg() else None
                if file is not None and member.name.endswith(".png"):
                    yield member.name, hashlib.sha256(file.read()).hexdigest()
    except (
        OSError,
        tarfile.TarError,
        ValueError,
        OverflowError,
    ):  # a killed run's: the rest is done again
        return
