"""The newest row of every image, from the records of all workers of a run."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

from clipes.io.tempdb import encode_name, temporary_database, transaction

from .record import Record, Row, Status, read_records


@dataclass(frozen=True)
class WorkerCounts:
    """One worker's record, its rows by status, and when it wrote the last, seconds since 1970."""

    record: Record
    counts: Counter[Status]
    last: float


class LatestRows:
    """The newest row of every image, of all records of ``folder`` whose settings have ``digest``.

    Newest is the row with the latest time, of equal ones that of the worker that began last. The rows are kept in a
    private temporary database on disk, deleted when it is closed; memory does not grow with the number of images.

    Attributes:
        workers: each worker's record and counts, in the order in which they began.
        tar_files: the names of the .tar files that rows name.
        other_records: the number of records of other settings, which are left out.

    Raises ValueError for a broken record: see :func:`clipes.store.record.read_records`.
    """

    def __init__(self, folder: str | os.PathLike[str], digest: str) -> None:
        self._rows = temporary_database()
        self._rows.execute("CREATE TABLE rows (id BLOB PRIMARY KEY, time REAL, status TEXT, line TEXT) WITHOUT ROWID")
        self.tar_files: set[str] = set()
        self.workers: list[WorkerCounts] = []
        self.other_records = 0
        with transaction(self._rows, "the rows of a run"):
            for record in read_records(folder):
                if record.settings == digest:
                    self.workers.append(self._insert(record))
                else:
                    self.other_records += 1

    def __enter__(self) -> LatestRows:
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
        line = self._rows.execute("SELECT line FROM rows WHERE id = ?", (encode_name(id),)).fetchone()
        return Row.from_json(line[0]) if line else None

    def done(self) -> Iterator[Row]:
        """The newest rows of the images that have a mask, by id."""
        return self._select("WHERE status = 'ok'")

    def not_done(self) -> Iterator[Row]:
        """The newest rows of the images that were skipped or failed, by id."""
        return self._select("WHERE status <> 'ok'")

    def __iter__(self) -> Iterator[Row]:
        """The newest rows of all images, by id."""
        return self._select("")

    def _select(self, condition: str) -> Iterator[Row]:
        for (line,) in self._rows.execute(f"SELECT line FROM rows {condition} ORDER BY id"):
            yield Row.from_json(line)

    def _insert(self, record: Record) -> WorkerCounts:
        """Insert the rows of a record that are newer than those of earlier records."""
        counts: Counter[Status] = Counter()
        last = record.started

        def values() -> Iterator[tuple[bytes, float, str, str]]:
            nonlocal last
            for row in record.rows():
                counts[row.status] += 1
                last = max(last, row.time)
                if row.shard is not None:
                    self.tar_files.add(row.shard)
                yield encode_name(row.id), row.time, row.status, row.to_json()

        self._rows.executemany(
            "INSERT INTO rows VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            "time = excluded.time, status = excluded.status, line = excluded.line WHERE excluded.time >= time",
            values(),
        )
        return WorkerCounts(record, counts, last)
