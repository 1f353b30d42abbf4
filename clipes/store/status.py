"""The status of a run: counts, speed and reasons, from the records of all its workers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from .manifest import read_manifest
from .record import Row, Status
from .rows import LatestRows, WorkerCounts

_WORD = re.compile(r"'[^']*'|[^\s']+?(?=[:,;)]*(?:\s|$))")  # a name between quotes may hold spaces


@dataclass(frozen=True)
class Reason:
    """Why images were skipped or failed.

    Attributes:
        status: "skipped" or "failed".
        text: the reason of the first such image, without its name.
        count: how many images share it, the first included.
        first: the id of the first.
    """

    status: Status
    text: str
    count: int
    first: str


@dataclass(frozen=True)
class Worker:
    """One process that wrote a record.

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
    """The state of a run at one moment.

    Attributes:
        folder: where its masks are.
        total: the images of the data set, from the record of the worker that began last; None where none says it.
        ok, skipped, failed: how many images have such a newest row.
        left: images of ``total`` without any row; None where ``total`` is. A run started again also retries those that
            failed.
        rate: images a second of all workers together, over the time in which any was at work; None before the first.
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
    """The status of the run in ``folder``, with the ``reasons`` commonest reasons.

    Raises FileNotFoundError where ``folder`` holds no run, ValueError for a broken record.
    """
    with LatestRows(folder, read_manifest(folder)["digest"]) as rows:
        return status_of(folder, rows, reasons)


def status_of(folder: str | os.PathLike[str], rows: LatestRows, reasons: int = 10) -> RunStatus:
    """The status of a run whose newest rows are ``rows``."""
    counts, workers = rows.counts(), rows.workers
    totals = [worker.record.header.get("total") for worker in workers]
    total = next((total for total in reversed(totals) if isinstance(total, int)), None)
    return RunStatus(
        folder=str(folder),
        total=total,
        ok=counts["ok"],
        skipped=counts["skipped"],
        failed=counts["failed"],
        left=None if total is None else max(total - counts.total(), 0),
        rate=_rate(
            sum(worker.counts.total() for worker in workers), sum(end - start for start, end in active_spans(workers))
        ),
        reasons=Reasons(rows.not_done()).common(reasons),
        workers=tuple(map(_worker, workers)),
        other_records=rows.other_records,
    )


class Reasons:
    """Counts why images have no mask. Reasons that differ only in the image's name or in numbers count as one."""

    def __init__(self, rows: Iterable[Row] = ()):
        self._reasons: dict[tuple[Status, str], Reason] = {}
        for row in rows:
            self.add(row)

    def add(self, row: Row) -> None:
        """Count the reason of a row, if it has one."""
        if not row.reason:
            return
        text = normalised_reason(row)
        key = (row.status, re.sub(r"\d+", "0", text))
        before = self._reasons.get(key, Reason(row.status, text, 0, row.id))
        self._reasons[key] = Reason(before.status, before.text, before.count + 1, before.first)

    def common(self, most: int) -> tuple[Reason, ...]:
        """The ``most`` commonest reasons; of equally common ones the earlier first.

        >>> rows = [Row("a", "failed", "in/a.jpg: cut at byte 12"), Row("b", "failed", "in/b.jpg: cut at byte 7")]
        >>> Reasons(rows).common(10)
        (Reason(status='failed', text='cut at byte 12', count=2, first='a'),)
        """
        return tuple(sorted(self._reasons.values(), key=lambda reason: -reason.count)[:most])


def normalised_reason(row: Row) -> str:
    """The reason of a row without the name of its image.

    >>> normalised_reason(Row("sub/a", "failed", "/data/my photos/sub/a.jpg: the file is empty"))
    'the file is empty'
    >>> normalised_reason(Row("sub/a", "failed", "cannot read '/data/sub/a.jpg'"))
    'cannot read ...'
    """
    parts, length = row.reason.split(": "), 1 + row.id.count(": ")  # an id may hold ": "
    has_name = len(parts) > length and _names_image(": ".join(parts[:length]), row.id)
    text = ": ".join(parts[length:]) if has_name else row.reason
    return _WORD.sub(lambda word: "..." if _is_path(word[0], row.id) else word[0], text)


def _is_path(word: str, id: str) -> bool:
    """Whether a word of a reason is the path of the image. An unquoted word that equals the id may be just a word."""
    quoted = word.startswith("'")
    return _names_image(word.strip("'"), id) and (quoted or word != id)


def _names_image(path: str, id: str) -> bool:
    """Whether a path without its suffixes ends in ``id``."""
    path = path.replace("\\", "/")
    while path != id and not path.endswith(f"/{id}"):
        shorter = os.path.splitext(path)[0]
        if shorter == path:
            return False
        path = shorter
    return True


def _worker(worker: WorkerCounts) -> Worker:
    record, counts = worker.record, worker.counts
    machine, shard = record.header.get("machine"), record.header.get("shard")
    return Worker(
        file=record.path.name,
        machine=str(machine or "?"),
        shard=None if shard is None else str(shard),
        started=record.started,
        last=worker.last,
        ok=counts["ok"],
        skipped=counts["skipped"],
        failed=counts["failed"],
        rate=_rate(counts.total(), worker.last - record.started),
    )


def _rate(rows: int, seconds: float) -> float | None:
    return rows / seconds if rows and seconds > 0 else None


def active_spans(workers: Iterable[WorkerCounts]) -> list[tuple[float, float]]:
    """The spans of time, seconds since 1970, in which at least one worker was between its start and its last row."""
    spans: list[tuple[float, float]] = []
    for start, end in sorted((worker.record.started, worker.last) for worker in workers):
        if spans and start <= spans[-1][1]:
            spans[-1] = spans[-1][0], max(spans[-1][1], end)
        else:
            spans.append((start, end))
    return spans
