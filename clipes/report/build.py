"""Builds a report: reads every image's files, counts and draws them in threads, and writes the page's data."""

from __future__ import annotations

import csv
import json
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from clipes.evaluation.accumulate import Progress, available_cpus
from clipes.io.images import TarMember, file_of
from clipes.io.masks import check_size, read_ids
from clipes.io.paths import as_spelled, existing_folders, source_text, spellings
from clipes.io.retry import LastingTrouble, read_retried, retried
from clipes.io.walk import walk_files
from clipes.store.row import Row
from clipes.store.store import Store

from .counts import ImageCounts, RunTotals, Throughput, count_image
from .overview import overview
from .thumbnails import draw_thumbnails, open_reduced

_TEMPLATES = {"page.html": "index.html", "style.css": "style.css", "script.js": "script.js"}
_STATUS = {"ok": 0, "skipped": 1, "failed": 2}
_UNREADABLE = 3  # a further status: the mask was written, but a file of the image cannot be read any more
_MAX_REASONS = 20
_IMAGES_PER_FOLDER = 1000
_TRIED, _VARYING = 16, 0.05  # images, and their share of pixels, from which saved confidences are shown
_QUEUED_PER_WORKER = 4  # images read ahead for each thread


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        page: the HTML file to open.
        images: how many images the run has a row for.
        shown: how many of them are in the gallery.
        troubled: how many images with a mask could not be read, or not be compared with their truth.
        reasons: why, for the first 20 of them.
    """

    page: Path
    images: int
    shown: int
    troubled: int
    reasons: tuple[str, ...]


class _Job(NamedTuple):
    row: Row
    number: int | None  # of its card in the gallery; None if it has no card
    image: Path | TarMember | None


class _JobResult(NamedTuple):
    job: _Job
    numbers: ImageCounts | None = None
    reason: str = ""
    unreadable: bool = False
    truth: bool = False


class Builder:
    """Writes one report into an existing, empty folder."""

    def __init__(
        self,
        run: Store,
        images: Mapping[str, Path | TarMember],
        source: str | tuple[str, ...],
        truth: Path | None,
        limit: int,
        folder: Path,
    ) -> None:
        self.run, self.images, self.source, self.truth, self.folder = run, images, source, truth, folder
        self.classes, self.folders = len(run.class_names), existing_folders(source)
        self.totals = RunTotals(run.class_names, truth is not None)
        self.clock = Throughput(run.latest.workers)
        optional = {"confidence": _saved_scores_vary(run), "truth": truth is not None}
        self.panels = ["picture", "overlay", *(panel for panel, exists in optional.items() if exists)]
        self.done = run.counts().get("ok", 0)
        self.rest = len(run.latest) - self.done
        rest = min(self.rest, max(limit - self.done, limit // 2))
        self.shown = {"done": min(self.done, limit - rest), "rest": rest}
        self.unreadable = 0
        self.reasons: list[str] = []
        self.troubled = 0

    def write(self, target: Path, progress: Progress) -> Report:
        """Write all files; ``target`` is the folder that the report will be moved to."""
        for template, name in _TEMPLATES.items():
            (self.folder / name).write_bytes(files("clipes.report").joinpath(template).read_bytes())
        (self.folder / "data").mkdir()
        (self.folder / "pictures").mkdir()
        with open(self.folder / "data" / "rows.js", "w", encoding="ascii", newline="\n") as file, self._images_csv():
            file.write("window.rows = [\n")
            with closing(self._rows(progress)) as rows:  # stops the threads if a write fails, as on a full disk
                for row in rows:
                    file.write(f"{script_json(row)},\n")
            file.write("];\n")
        missing = self._missing_truth()
        data = overview(self.run, self.source, self.totals, self.clock)
        gallery = {"panels": self.panels, "shown": self.shown, "done": self.done, "rest": self.rest}
        data |= {**gallery, "unreadable": self.unreadable, "missing": missing}
        text = f"window.report = {script_json(data)};\n"
        (self.folder / "data" / "overview.js").write_text(text, encoding="ascii", newline="\n")
        shown = sum(self.shown.values())
        return Report(target / "index.html", self.done + self.rest, shown, self.troubled, tuple(self.reasons))

    def _rows(self, progress: Progress) -> Generator[list[Any], None, None]:
        """Yield the row of each card; count all images, with and without a card."""
        jobs = progress(self._jobs(), self.done, "images")
        with closing(_map_in_order(self._process, jobs)) as results:
            for result in results:
                self._count(result)
                self._list(result)
                if result.job.number is not None:
                    yield self._card(result)
        number = self.shown["done"]
        for index, row in enumerate(self.run.latest.not_done()):
            self.clock.add(row.time)
            self._list(_JobResult(_Job(row, None, None)))
            if is_chosen(index, self.rest, self.shown["rest"]):
                yield self._card(_JobResult(_Job(row, number, None)))
                number += 1

    def _jobs(self) -> Iterator[_Job]:
        number = 0
        for index, row in enumerate(self.run.rows("ok")):
            chosen = is_chosen(index, self.done, self.shown["done"])
            yield _Job(row, number if chosen else None, self.images.get(row.id) if chosen else None)
            number += chosen

    def _process(self, job: _Job) -> _JobResult:
        """Read an image's files, count their pixels, and draw its pictures if it has a card. Runs in threads."""
        row, picture, confidence = job.row, None, None
        truth, numbers, reason = None, None, ""
        try:
            ids = self.run.mask(row)
            confidence = self.run.confidence(row)
            truth, reason = self._truth(row, ids.shape)
            numbers = count_image(ids, confidence, truth, self.classes)
            if job.number is not None:
                if job.image is None:
                    raise ValueError(
                        f"{row.id}: no such image in {source_text(self.source)}; say where it is (--source)"
                    )
                picture = self._picture(job.image, (ids.shape[0], ids.shape[1]))
        except LastingTrouble:
            raise
        except (ValueError, OSError, MemoryError) as error:
            return _JobResult(job, numbers, str(error) or "out of memory", unreadable=True)
        if picture is not None and job.number is not None:
            stem = self.folder / "pictures" / str(job.number // _IMAGES_PER_FOLDER) / str(job.number)
            stem.parent.mkdir(exist_ok=True)
            try:
                shown = confidence if "confidence" in self.panels else None
                draw_thumbnails(stem, picture, ids, shown, truth, self.classes, len(self.panels))
            except MemoryError:
                for path in stem.parent.glob(f"{stem.name}-*"):
                    path.unlink()
                return _JobResult(job, numbers, f"{row.id}: out of memory", unreadable=True)
        return _JobResult(job, numbers, reason, truth=truth is not None)

    def _picture(self, place: Path | TarMember, size: tuple[int, int]) -> Image.Image:
        return read_retried(partial(open_reduced, place, size), file_of(place), self.folders)

    def _truth(self, row: Row, size: tuple[int, ...]) -> tuple[Any, str]:
        """The true mask of an image or None, and why an existing one cannot be used."""
        path = None if self.truth is None else Path(as_spelled(str(self.truth / f"{row.id}.png")))
        if path is None or not os.path.lexists(path):
            return None, ""
        try:
            truth = retried(partial(read_ids, path, self.classes), path)
            check_size(size, f"the mask of {row.id}", truth.shape, path)
        except LastingTrouble:
            raise
        except (ValueError, OSError, MemoryError) as error:
            return None, str(error) or "out of memory"
        return truth, ""

    def _count(self, result: _JobResult) -> None:
        self.clock.add(result.job.row.time)
        if result.numbers:
            self.totals.add(result.job.row, result.numbers)
        if result.reason:
            self.troubled += 1
            self.reasons = [*self.reasons, result.reason][:_MAX_REASONS]
            self.unreadable += result.unreadable
            self.totals.unjudged += not result.unreadable

    @contextmanager
    def _images_csv(self) -> Iterator[None]:
        """Open ``images.csv``: every image, with its labels as ``clipes generate --labels`` reads them."""
        with open(self.folder / "images.csv", "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            self._table = csv.writer(file, lineterminator="\n")
            figures = ("confidence", "ignored", "miou", "foreground")
            self._table.writerow(("image", "labels", "status", *figures, "missing", "reason", "scores"))
            yield

    def _list(self, result: _JobResult) -> None:
        row, numbers = result.job.row, result.numbers
        status = "unreadable" if result.unreadable else row.status
        measured = (row.confidence, numbers.ignored, numbers.miou, numbers.area) if numbers else (None,) * 4
        figures = ["" if value is None else round(value, 6) for value in measured]
        missing = ";".join(self.totals.missing(row, numbers)) if numbers else ""
        scores = "" if row.scores is None else ";".join(f"{row.scores.get(label, 0):.6g}" for label in row.labels)
        reason = result.reason or row.reason
        self._table.writerow((row.id, ";".join(row.labels), status, *figures, missing, reason, scores))

    def _card(self, result: _JobResult) -> list[Any]:
        """The data of a card, which the page's script reads by position.

        Number, id, status, classes and their shares, width, height, seconds, confidence, area, ignored share, mIoU,
        reason, whether the image has truth, how many of the classes are its labels (they come first), their scores
        where CLIP found them.
        """
        row, numbers = result.job.row, result.numbers
        height, width = row.size or (None, None)
        if numbers:
            own = self.totals.class_ids(row)
            shares: list[Any] = numbers.shares(own)
            labels = len(set(own))
        else:
            labels = len(row.labels)
            shares = [value for label in row.labels for value in (self.totals.ids.get(label, label), -1)]
        status = _UNREADABLE if result.unreadable else _STATUS[row.status]
        measured = (row.confidence, numbers.area, numbers.ignored, numbers.miou) if numbers else (None,) * 4
        rounded = [None if value is None else round(value, 6) for value in measured]
        reason, number = result.reason or row.reason, result.job.number
        place = [number, row.id, status, shares, width, height, row.seconds]
        return [*place, *rounded, reason, int(result.truth), labels, self.totals.tag_scores(row)]

    def _missing_truth(self) -> int:
        """How many files of truth have no mask; a file that ends in .PNG counts as one, as in `clipes evaluate`."""
        if self.truth is None:
            return 0
        names = walk_files(self.truth, (".png",))
        return sum(not self._has_mask(name) for name in names)

    def _has_mask(self, name: str) -> bool:
        stems = spellings(name.removesuffix(".png")) if name.endswith(".png") else ()
        return any((row := self.run.latest.get(stem)) is not None and row.status == "ok" for stem in stems)


def _saved_scores_vary(run: Store) -> bool:
    """Whether the saved confidence is worth a picture: of the first images 1 pixel in 20 is below 0.95.

    After the CRF nearly every pixel is at 1, and the pictures would be blank.
    """
    shares = []
    for row in islice(run.rows("ok"), _TRIED) if run.has("confidence") else ():
        with suppress(ValueError, OSError, MemoryError):  # reported with the image
            saved = run.confidence(row)
            shares.append(0.0 if saved is None else float((saved < 0.95 * 255).mean()))
    return sum(shares) >= _VARYING * max(len(shares), 1)


def script_json(value: Any) -> str:
    """``value`` as ASCII JSON that is safe inside a script: ``<``, ``>`` and ``&`` are escaped.

    >>> script_json(["</script>", "\\u2028"])
    '["\\\\u003c/script\\\\u003e","\\\\u2028"]'
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def is_chosen(index: int, count: int, wanted: int) -> bool:
    """Whether item ``index`` is chosen if ``wanted`` of ``count`` items are chosen at equal distances."""
    return index * wanted % count < wanted


def _map_in_order(work: Callable[[_Job], _JobResult], jobs: Iterable[_Job]) -> Generator[_JobResult, None, None]:
    """The results in the order of the jobs, computed in one thread per core, with a bounded number of pending jobs."""
    workers = available_cpus()
    pending: deque[Future[_JobResult]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="clipes-report")
    try:
        for job in jobs:
            pending.append(pool.submit(work, job))
            if len(pending) > _QUEUED_PER_WORKER * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
