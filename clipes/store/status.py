"""What a run has done so far, all its workers together, by their records."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from .history import History, Tally
from .manifest import read_manifest
from .record import Row, Status

_WORD = re.compile(r"'[^']*'|[^\s']+?(?=[:,;)]*(?:\s|$))")  # a name between quotes may hold spaces


@dataclass(frozen=True)
class Reason:
    """Why images were skipped or failed: as it was told of the first, without its name; how many more say the same."""

    status: Status
    text: str
    count: int
    first: str


@dataclass(frozen=True)
class Worker:
    """What the record of one worker says.

    Attributes:
        file: its name in ``records/``.
        machine: where the worker ran.
        shard: its part of the data set, ``1/4``; None for all of it.
        started, last: when it began and when it wrote its last row, seconds since 1970.
        ok, skipped, failed: how many rows of each it wrote.
        rate: rows a second from its start to its last row; None before that.
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


@dataclass(frozen=True)
class RunStatus:
    """A run as :func:`read_status` found it.

    Attributes:
        folder: where its masks are.
        total: the images of the data set, as the worker that began last was told; None where none was.
        ok, skipped, failed: how many images ended so, each counted once, as its newest row says.
        left: images of ``total`` without any row; None where that is unknown. A run started again tries those that
            failed again, too.
        rate: images a second of all workers together, over the time in which any was at work; None before that.
        reasons: the commonest first.
        workers: in the order in which they began.
        other_records: records of other settings in the folder, which are left out.
    """

    folder: str
    total: int | None
    ok: int
    skipped: int
    failed: int
    left: int | None
    rate: float | None
    reasons: tuple[Reason, ...]
    workers: tuple[Worker, ...]
    other_records: int

    def as_dict(self) -> dict[str, Any]:
        """Everything, as JSON holds it."""
        return asdict(self)


def read_status(folder: str | os.PathLike[str], reasons: int = 10) -> RunStatus:
    """What the run of ``folder`` has done, by its ``run.json`` and the records of all its workers.

    ``reasons`` is how many of the commonest are wanted. Raises FileNotFoundError where ``folder`` holds no run,
    ValueError for a broken record.
    """
    with History(folder, read_manifest(folder)["digest"]) as history:
        return status_of(folder, history, reasons)


def status_of(folder: str | os.PathLike[str], history: History, reasons: int = 10) -> RunStatus:
    """:func:`read_status` of a run whose rows are read already."""
    counts, tallies = history.counts(), history.tallies
    totals = [tally.record.header.get("total") for tally in tallies]
    total = next((found for found in reversed(totals) if isinstance(found, int)), None)
    return RunStatus(
        folder=str(folder),
        total=total,
        ok=counts["ok"],
        skipped=counts["skipped"],
        failed=counts["failed"],
        left=None if total is None else max(total - counts.total(), 0),
        rate=_rate(sum(tally.counts.total() for tally in tallies), _busy(tallies)),
        reasons=Reasons(history.unfinished()).common(reasons),
        workers=tuple(map(_worker, tallies)),
        other_records=history.others,
    )


class Reasons:
    """Counts why images have no mask; reasons that differ in the image's name or in numbers only are the same."""

    def __init__(self, rows: Iterable[Row] = ()):
        self._found: dict[tuple[Status, str], Reason] = {}
        for row in rows:
            self.add(row)

    def add(self, row: Row) -> None:
        """Count the reason of a row, if it has one."""
        if not row.reason:
            return
        text = bare_reason(row)
        key = (row.status, re.sub(r"\d+", "0", text))
        before = self._found.get(key, Reason(row.status, text, 0, row.id))
        self._found[key] = Reason(before.status, before.text, before.count + 1, before.first)

    def common(self, most: int) -> tuple[Reason, ...]:
        """The commonest, at most ``most``; of equally common ones the earlier first.

        >>> rows = [Row("a", "failed", "in/a.jpg: cut at byte 12"), Row("b", "failed", "in/b.jpg: cut at byte 7")]
        >>> Reasons(rows).common(10)
        (Reason(status='failed', text='cut at byte 12', count=2, first='a'),)
        """
        return tuple(sorted(self._found.values(), key=lambda reason: -reason.count)[:most])


def bare_reason(row: Row) -> str:
    """The reason of a row without the name of its image.

    >>> bare_reason(Row("sub/a", "failed", "/data/my photos/sub/a.jpg: the file is empty"))
    'the file is empty'
    >>> bare_reason(Row("sub/a", "failed", "cannot read '/data/sub/a.jpg'"))
    'cannot read ...'
    """
    parts, ends = row.reason.split(": "), 1 + row.id.count(": ")
    named = len(parts) > ends and _is_name(": ".join(parts[:ends]), row.id)
    text = ": ".join(parts[ends:]) if named else row.reason
    return _WORD.sub(lambda word: "..." if _is_path(word[0], row.id) else word[0], text)


def _is_path(word: str, id: str) -> bool:
    """Whether a word of a text is an image's file; a word that only looks like an id without one is not."""
    quoted = word.startswith("'")
    return _is_name(word.strip("'"), id) and (quoted or word != id)


def _is_name(path: str, id: str) -> bool:
    """Whether the file with this path, its suffixes left out, ends in ``id``."""
    path = path.replace("\\", "/")
    while path != id and not path.endswith(f"/{id}"):
        shorter = os.path.splitext(path)[0]
        if shorter == path:
            return False
        path = shorter
    return True


def _worker(tally: Tally) -> Worker:
    record, counts = tally.record, tally.counts
    machine, shard = record.header.get("machine"), record.header.get("shard")
    return Worker(
        file=record.path.name,
        machine=str(machine or "?"),
        shard=None if shard is None else str(shard),
        started=record.started,
        last=tally.last,
        ok=counts["ok"],
        skipped=counts["skipped"],
        failed=counts["failed"],
        rate=_rate(counts.total(), tally.last - record.started),
    )


def _rate(rows: int, seconds: float) -> float | None:
    return rows / seconds if rows and seconds > 0 else None


def _busy(tallies: Iterable[Tally]) -> float:
    """The seconds in which at least one worker was between its start and its last row."""
    busy, until = 0.0, float("-inf")
    for start, end in sorted((tally.record.started, tally.last) for tally in tallies):
        busy += max(end - max(start, until), 0)
        until = max(until, end)
    return busy
