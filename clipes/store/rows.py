"""The newest row of every image, from the records of all workers of a run."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import get_args

from clipes.io.tempdb import encode_name, insert_rows, temporary_database, transaction

from .manifest import repair_command
from .record import Record, Unreadable, read_records
from .row import Row, Status
from .row_key import LACKS_LABEL, LITTLE_FOREGROUND, NOTHING_FOUND, SUSPECT, RowKey

_MOST_NAMES = 500  # in one question to the database, which takes 999 at most where it is old

_DELETE_OLDER = """
WITH repeated AS (SELECT id FROM rows GROUP BY id HAVING count(*) > 1),
last_of_record AS (SELECT max(rowid) AS place FROM rows WHERE id IN repeated GROUP BY id, record),
ranked AS (
    SELECT place, row_number() OVER (PARTITION BY id ORDER BY start DESC, time DESC, record DESC) AS rank
    FROM last_of_record JOIN rows ON rows.rowid = place JOIN records ON records.number = record
)
DELETE FROM rows WHERE id IN repeated AND rowid NOT IN (SELECT place FROM ranked WHERE rank = 1)
"""


@dataclass(frozen=True)
class Worker:
    """One process that wrote a record.

    Attributes:
        file: its name in ``records/``.
        machine: where the worker ran.
        shard: its part of the data set, ``1/4``; None for all of it.
        started, last: when it started and when it wrote its last row, in seconds since 1970.
        ok, skipped, failed: how many rows of each status it wrote.
        rate: rows per second from its start to its last row; None before that, and for rows that were only found.
        repair: whether it made no masks, but found their rows again.
    """

    file: str
    machine: str
    shard: str | None
    started: float
    last: float
    ok: int
    skipped: int
    failed: int
    rate: float | None
    repair: bool = False

    @property
    def rows(self) -> int:
        """How many rows it wrote."""
        return self.ok + self.skipped + self.failed


@dataclass(frozen=True)
class SuspectCounts:
    """How many masks do not fit the labels of their image: see :attr:`clipes.store.row.Row.suspect`.

    Attributes:
        images: all of them.
        missing_label: those that have no pixel of a label.
        little_foreground: those that show classes at less than 1 % of their pixels.
    """

    images: int
    missing_label: int
    little_foreground: int


class LatestRows:
    """The newest row of every image, of all records of ``folder`` whose settings have ``digest``.

    Newest is the row of the latest start. In one record it is the last one, and of workers that started together the
    one with the latest time. The rows are in a temporary database on disk; memory does not grow with the number of
    images.

    Attributes:
        workers: in the order in which they started.
        total: the images of the data set, by the last worker that gives their number; None where none does.
        tar_files: the names of the .tar files that rows name.
        other_records: the number of records of other settings, which are left out.
        unreadable: the number of lines that were passed over.
        first_unreadable: the first of them that is damaged, else the first; None where there is none.

    Raises ValueError for what is no ordinary file among the records: see :func:`clipes.store.record.read_records`.
    """

    def __init__(self, folder: str | os.PathLike[str], digest: str) -> None:
        self._rows = temporary_database()
        self._rows.execute("CREATE TABLE records (number INTEGER PRIMARY KEY, start INTEGER)")
        columns = "id BLOB, record INTEGER, time REAL, status TEXT, line BLOB, flags INTEGER"
        self._rows.execute(f"CREATE TABLE rows ({columns})")
        self.tar_files: set[str] = set()
        self.workers: list[Worker] = []
        self.total: int | None = None
        self.other_records = self.unreadable = 0
        self.first_unreadable: Unreadable | None = None
        with transaction(self._rows, "the rows of a run"):
            for record in read_records(folder):
                if record.fault:
                    self._pass_over(record.fault)
                    continue
                if record.settings != digest:
                    self.other_records += 1
                    continue
                self.workers.append(self._insert(record))
                if isinstance(total := record.header.get("total"), int):
                    self.total = total
            # one sort takes half the time of an index that grows; what counting asks for is in it
            self._rows.execute("CREATE INDEX ids ON rows (id, status, flags)")
            self._rows.execute(_DELETE_OLDER)

    def __enter__(self) -> LatestRows:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete the temporary database; a second call does nothing."""
        self._rows.close()

    def warn_of_unreadable(self) -> None:
        """Warn of the lines that were passed over, if there are any."""
        if first := self.first_unreadable:
            folder = first.path.parent.parent
            cure = f"{repair_command(folder)} mends it" if first.damaged else "a newer clipes may have written it"
            text = f"{self.unreadable} line(s) of the records are passed over, and their images made again"
            warnings.warn(f"{text}; the first: {first}; {cure}", stacklevel=3)

    def _pass_over(self, line: Unreadable) -> None:
        self.unreadable += 1
        if self.first_unreadable is None or (line.damaged and not self.first_unreadable.damaged):
            self.first_unreadable = line

    def __len__(self) -> int:
        """The number of images that have a row."""
        return sum(self.counts().values())

    def counts(self) -> Counter[Status]:
        """How many images ended with each status."""
        return Counter(dict(self._rows.execute("SELECT status, count(*) FROM rows GROUP BY status")))

    def suspect_counts(self) -> SuspectCounts:
        """How many masks do not fit the labels of their image."""
        lacks_label, little_foreground = f"flags & {LACKS_LABEL}", f"(flags & {LITTLE_FOREGROUND}) > 0"
        query = f"SELECT count(*), total({lacks_label}), total({little_foreground}) FROM rows WHERE flags & {SUSPECT}"
        return SuspectCounts(*map(int, self._rows.execute(query).fetchone()))

    def nothing_found(self) -> int:
        """In how many images CLIP looked for labels and found none: :attr:`clipes.store.row.Row.nothing_found`."""
        query = f"SELECT count(*) FROM rows WHERE flags & {NOTHING_FOUND}"
        return int(self._rows.execute(query).fetchone()[0])

    def suspects(self) -> Iterator[Row]:
        """The newest rows, by id, of the images whose masks do not fit their labels."""
        query = f"SELECT line FROM rows WHERE flags & {SUSPECT} ORDER BY id"
        return (Row.from_checked_json(line) for (line,) in self._rows.execute(query))

    def get(self, id: str) -> Row | None:
        """The newest row of an image; None where it has none."""
        return self.get_many([id]).get(id)

    def get_many(self, ids: Iterable[str]) -> dict[str, Row]:
        """The newest rows of images by their ids, without those that have none."""
        found, rest = {}, iter(ids)
        while names := [encode_name(id) for id in islice(rest, _MOST_NAMES)]:
            query = f"SELECT line FROM rows WHERE id IN ({', '.join('?' * len(names))})"
            rows = (Row.from_checked_json(line) for (line,) in self._rows.execute(query, names))
            found.update({row.id: row for row in rows})
        return found

    def order(self, id: str) -> tuple[int, float] | None:
        """What says which of two rows of an image is newer: the number of its start, and its time."""
        query = "SELECT start, time FROM rows JOIN records ON records.number = record WHERE id = ?"
        found: tuple[int, float] | None = self._rows.execute(query, (encode_name(id),)).fetchone()
        return found

    def select(self, *statuses: Status) -> Iterator[Row]:
        """The newest rows, by id, of the images that ended with one of ``statuses``."""
        places = ", ".join("?" * len(statuses))
        query = f"SELECT line FROM rows WHERE status IN ({places}) ORDER BY id"
        return (Row.from_checked_json(line) for (line,) in self._rows.execute(query, statuses))

    def not_done(self) -> Iterator[Row]:
        """The newest rows, by id, of the images that were skipped or failed."""
        return self.select("skipped", "failed")

    def __iter__(self) -> Iterator[Row]:
        """The newest rows of all images, by id."""
        return self.select(*get_args(Status))

    def _insert(self, record: Record) -> Worker:
        """Insert the rows of a record."""
        counts: Counter[Status] = Counter()
        last = record.started
        number = len(self.workers)

        def values() -> Iterator[tuple[bytes, int, float, str, bytes, int]]:
            nonlocal last
            for row in record.parsed(RowKey.from_json):
                if isinstance(row, Unreadable):
                    self._pass_over(row)
                    continue
                id, status, time, tar_file, line, flags = row
                counts[status] += 1
                if time > last:
                    last = time
                if tar_file is not None:
                    self.tar_files.add(tar_file)
                yield id, number, time, status, line, flags

        self._rows.execute("INSERT INTO records VALUES (?, ?)", (number, record.start))
        insert_rows(self._rows, "rows", 6, values())
        machine, shard = record.header.get("machine"), record.header.get("shard")
        repair = record.header.get("repair") is True
        return Worker(
            file=record.path.name,
            machine=str(machine or "?"),
            shard=None if shard is None else str(shard),
            started=record.started,
            last=last,
            ok=counts["ok"],
            skipped=counts["skipped"],
            failed=counts["failed"],
            rate=None if repair else rate(counts.total(), last - record.started),
            repair=repair,
        )


def rate(rows: int, seconds: float) -> float | None:
    """Rows per second; None without rows or time."""
    return rows / seconds if rows and seconds > 0 else None


def active_spans(workers: Iterable[Worker]) -> list[tuple[float, float]]:
    """The spans of time, seconds since 1970, in which at least one worker was between its start and its last row."""
    spans: list[tuple[float, float]] = []
    for start, end in sorted((worker.started, worker.last) for worker in workers):
        if spans and start <= spans[-1][1]:
            spans[-1] = spans[-1][0], max(spans[-1][1], end)
        else:
            spans.append((start, end))
    return spans
