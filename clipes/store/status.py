"""The status of a run: counts, speed and reasons, from the records of all its workers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from .row import Row, Status
from .rows import LatestRows, SuspectCounts, Worker, active_spans, rate

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
class RunStatus:
    """The state of a run at one moment.

    Attributes:
        folder: where its masks are.
        total: the images of the data set, by the last worker that gives their number; None where none does.
        ok, skipped, failed: how many images have such a newest row.
        left: images of ``total`` without any row; None where ``total`` is. A run started again also retries those that
            failed.
        rate: images per second of all workers together, over the time in which at least one was running; None before
            the first image.
        suspect: how many of the masks do not fit the labels of their image, and why.
        nothing_found: in how many images CLIP looked for labels and found none of the list: all background.
        reasons: the most common first.
        workers: in the order in which they started.
        other_records: records of other settings in the folder, which are left out.
    """

    folder: str
    total: int | None
    ok: int
    skipped: int
    failed: int
    left: int | None
    rate: float | None
    suspect: SuspectCounts
    nothing_found: int
    reasons: tuple[Reason, ...]
    workers: tuple[Worker, ...]
    other_records: int

    def as_dict(self) -> dict[str, Any]:
        """Everything, as JSON holds it."""
        return asdict(self)


def read_status(folder: str | os.PathLike[str], rows: LatestRows, reasons: int = 10) -> RunStatus:
    """The status of the run in ``folder`` with the newest rows ``rows``, and the ``reasons`` most common reasons."""
    counts, workers = rows.counts(), rows.workers
    makers = [worker for worker in workers if not worker.repair]
    active = sum(end - start for start, end in active_spans(makers))
    return RunStatus(
        folder=str(folder),
        total=rows.total,
        ok=counts["ok"],
        skipped=counts["skipped"],
        failed=counts["failed"],
        left=None if rows.total is None else max(rows.total - counts.total(), 0),
        rate=rate(sum(worker.rows for worker in makers), active),
        suspect=rows.suspect_counts(),
        nothing_found=rows.nothing_found(),
        reasons=Reasons(rows.not_done()).common(reasons),
        workers=tuple(workers),
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
        """The ``most`` common reasons; of equally common ones the earlier first.

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
