"""The building of a report: every image looked at, counted, drawn, and written down."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from clipes.evaluation.accumulate import Progress, available_cpus
from clipes.io.images import TarMember
from clipes.io.masks import check_size, read_ids
from clipes.io.walk import walk_files
from clipes.store.record import Row
from clipes.store.store import Store

from .counts import ImageCounts, RunTotals, Throughput, count_image
from .overview import overview
from .thumbnails import draw_thumbnails, open_reduced

_TEMPLATES = {"page.html": "index.html", "style.css": "style.css", "script.js": "script.js"}
_STATUS = {"ok": 0, "skipped": 1, "failed": 2}
_UNREADABLE = 3
_REASONS = 20
_PER_FOLDER = 1000
_AHEAD = 4  # images in hand for each worker


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        page: the file to open.
        images: how many images the run has a row for.
        shown: how many of them are in the gallery.
        troubled: how many finished images could not be read, or judged, any more.
        reasons: of the first 20 of them.
    """

    page: Path
    images: int
    shown: int
    troubled: int
    reasons: tuple[str, ...]


class _Job(NamedTuple):
    row: Row
    number: int | None  # of its card; None where it has none
    image: Path | TarMember | None


class _Look(NamedTuple):
    job: _Job
    numbers: ImageCounts | None = None
    reason: str = ""
    unreadable: bool = False
    truth: bool = False


class Builder:
    """Writes one report into a folder that is there and empty."""

    def __init__(
        self,
        run: Store,
        images: Mapping[str, Path | TarMember],
        source: str,
        truth: Path | None,
        limit: int,
        folder: Path,
    ) -> None:
        self.run, self.images, self.source, self.truth, self.folder = run, images, source, truth, folder
        self.classes = len(run.class_names)
        self.totals = RunTotals(run.class_names, truth is not None)
        self.clock = Throughput(run.latest.workers)
        known = {"confidence": run.has("confidence"), "truth": truth is not None}
        self.panels = ["picture", "overlay", *(panel for panel, there in known.items() if there)]
        self.done = run.counts().get("ok", 0)
        self.rest = len(run.latest) - self.done
        rest = min(self.rest, max(limit - self.done, limit // 2))
        self.shown = {"done": min(self.done, limit - rest), "rest": rest}
        self.unreadable = 0
        self.reasons: list[str] = []
        self.troubled = 0

    def write(self, target: Path, progress: Progress) -> Report:
        """Write everything; ``target`` is where it will be."""
        for template, name in _TEMPLATES.items():
            (self.folder / name).write_bytes(files("clipes.report").joinpath(template).read_bytes())
        (self.folder / "data").mkdir()
        (self.folder / "pictures").mkdir()
        with open(self.folder / "data" / "rows.js", "w", encoding="ascii", newline="\n") as file:
            file.write("window.rows = [\n")
            with closing(self._rows(progress)) as rows:  # its threads write no more where the disk is full
                for row in rows:
                    file.write(f"{script_json(row)},\n")
            file.write("];\n")
        missing = self._missing_truth()
        found = overview(self.run, self.source, self.totals, self.clock)
        about = {"panels": self.panels, "shown": self.shown, "done": self.done, "rest": self.rest}
        found |= {**about, "unreadable": self.unreadable, "missing": missing}
        text = f"window.report = {script_json(found)};\n"
        (self.folder / "data" / "overview.js").write_text(text, encoding="ascii", newline="\n")
        shown = sum(self.shown.values())
        return Report(target / "index.html", self.done + self.rest, shown, self.troubled, tuple(self.reasons))

    def _rows(self, progress: Progress) -> Generator[list[Any], None, None]:
        """A row for each card, and everything counted on the way."""
        jobs = progress(self._jobs(), self.done, "images")
        with closing(_in_order(self._look, jobs)) as looks:
            for look in looks:
                self._count(look)
                if look.job.number is not None:
                    yield self._card(look)
        number = self.shown["done"]
        for index, row in enumerate(self.run.latest.not_done()):
            self.clock.add(row.time)
            if is_chosen(index, self.rest, self.shown["rest"]):
                yield self._card(_Look(_Job(row, number, None)))
                number += 1

    def _jobs(self) -> Iterator[_Job]:
        number = 0
        for index, row in enumerate(self.run.rows("ok")):
            chosen = is_chosen(index, self.done, self.shown["done"])
            yield _Job(row, number if chosen else None, self.images.get(row.id) if chosen else None)
            number += chosen

    def _look(self, job: _Job) -> _Look:
        """Read an image's files, count them, and draw its pictures if it has a card. Runs in threads."""
        row, picture, confidence = job.row, None, None
        truth, numbers, reason = None, None, ""
        try:
            ids = self.run.mask(row)
            confidence = self.run.confidence(row)
            truth, reason = self._truth(row, ids.shape)
            numbers = count_image(ids, confidence, truth, self.classes)
            if job.number is not None:
                if job.image is None:
                    raise ValueError(f"{row.id}: no such image in {self.source}; say where it is (--source)")
                picture = open_reduced(job.image, (ids.shape[0], ids.shape[1]))
        except (ValueError, OSError, MemoryError) as error:
            return _Look(job, numbers, str(error) or "out of memory", unreadable=True)
        if picture is not None and job.number is not None:
            stem = self.folder / "pictures" / str(job.number // _PER_FOLDER) / str(job.number)
            stem.parent.mkdir(exist_ok=True)
            try:
                draw_thumbnails(stem, picture, ids, confidence, truth, self.classes, len(self.panels))
            except MemoryError:
                for path in stem.parent.glob(f"{stem.name}-*"):
                    path.unlink()
                return _Look(job, numbers, f"{row.id}: out of memory", unreadable=True)
        return _Look(job, numbers, reason, truth=truth is not None)

    def _truth(self, row: Row, size: tuple[int, ...]) -> tuple[Any, str]:
        """The truth of an image, or None and, where there is one that cannot be used, why."""
        if self.truth is None or not os.path.lexists(path := self.truth / f"{row.id}.png"):
            return None, ""
        try:
            truth = read_ids(path, self.classes)
            check_size(size, f"the mask of {row.id}", truth.shape, path)
        except (ValueError, OSError, MemoryError) as error:
            return None, str(error) or "out of memory"
        return truth, ""

    def _count(self, look: _Look) -> None:
        self.clock.add(look.job.row.time)
        if look.numbers:
            self.totals.add(look.job.row, look.numbers)
        if look.reason:
            self.troubled += 1
            self.reasons = [*self.reasons, look.reason][:_REASONS]
            self.unreadable += look.unreadable
            self.totals.unjudged += not look.unreadable

    def _card(self, look: _Look) -> list[Any]:
        """Number, id, status, classes and their shares, width, height, seconds, confidence, area, ignored share,
        mIoU, reason, whether there is truth; the script reads them by place.
        """
        row, numbers = look.job.row, look.numbers
        height, width = row.size or (None, None)
        if numbers:
            shares: list[Any] = numbers.shares(self.totals.class_ids(row))
        else:
            shares = [value for label in row.labels for value in (self.totals.ids.get(label, label), -1)]
        status = _UNREADABLE if look.unreadable else _STATUS[row.status]
        measured = (numbers.confidence, numbers.area, numbers.ignored, numbers.miou) if numbers else (None,) * 4
        rounded = [None if value is None else round(value, 4) for value in measured]
        reason = look.reason or row.reason
        return [look.job.number, row.id, status, shares, width, height, row.seconds, *rounded, reason, int(look.truth)]

    def _missing_truth(self) -> int:
        """How many truth files there are without a mask; one that ends in .PNG has none, as for `clipes evaluate`."""
        if self.truth is None:
            return 0
        names = walk_files(self.truth, (".png",))
        return sum(not self._has_mask(name) for name in names)

    def _has_mask(self, name: str) -> bool:
        row = self.run.latest.get(name.removesuffix(".png")) if name.endswith(".png") else None
        return row is not None and row.status == "ok"


def script_json(value: Any) -> str:
    """``value`` as ASCII JSON that no browser takes for anything but data.

    >>> script_json(["</script>", "\\u2028"])
    '["\\\\u003c/script\\\\u003e","\\\\u2028"]'
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def is_chosen(index: int, count: int, wanted: int) -> bool:
    """Whether the one with this index is among ``wanted`` of ``count``, spread evenly."""
    return index * wanted % count < wanted


def _in_order(work: Callable[[_Job], _Look], jobs: Iterable[_Job]) -> Generator[_Look, None, None]:
    """The results in the order of the jobs, of which only some are in hand at a time, one thread per core."""
    workers = available_cpus()
    pending: deque[Future[_Look]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="clipes-report")
    try:
        for job in jobs:
            pending.append(pool.submit(work, job))
            if len(pending) > _AHEAD * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
