"""A run's masks in the forms that other tools read: COCO, PASCAL VOC, YOLO, Hugging Face."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from clipes.datasets.tar import is_tar
from clipes.evaluation.accumulate import Progress
from clipes.io.atomic import check_target, publish, staging_folder, target_path
from clipes.io.tempdb import encode_name, temporary_database, transaction
from clipes.store.layout import MANIFEST
from clipes.store.record import read_records
from clipes.store.store import Store, open_run

from . import huggingface, voc, yolo
from .coco import CocoError, CocoWriter
from .huggingface import HuggingFaceWriter
from .pictures import PictureMode, PictureReader
from .voc import VocWriter
from .walk import ExportCounts, FormatWriter, write_all
from .yolo import YoloWriter

__all__ = ["CocoError", "ExportResult", "Target", "export"]

Target = Literal["coco", "voc", "yolo", "huggingface"]

_KEPT = {"coco": None, "voc": voc.KEPT, "yolo": yolo.KEPT, "huggingface": huggingface.KEPT}


@dataclass(frozen=True)
class ExportResult:
    """What an export has written.

    Attributes:
        to: the form.
        images: how many were written.
        pixels: of all their masks.
        ignored_pixels: of these, those that are not decided.
        failed: how many images could not be read, or named, and are left out.
        problems: why, of the first 20.
        without_mask: how many images the run has skipped or failed, which have no mask to export.
        turned: pictures that are upright only by their EXIF; where written, they were saved upright.
        converted: pictures saved in another format, which the other tool reads.
        notes: what else its reader should know.
    """

    to: Target
    images: int
    pixels: int
    ignored_pixels: int
    failed: int
    problems: tuple[str, ...]
    without_mask: int
    turned: int
    converted: int
    notes: tuple[str, ...]


def export(
    folder: str | os.PathLike[str],
    to: Target,
    out: str | os.PathLike[str] | None = None,
    *,
    source: str | os.PathLike[str] | None = None,
    images: PictureMode = "copy",
    split: str = "train",
    polygons: bool = False,
    regions: bool = False,
    overwrite: bool = False,
    progress: Progress = lambda items, total, unit: items,
) -> ExportResult:
    """Write the masks of a run into a new folder in another tool's form: docs/export.md describes each.

    Args:
        folder: the run's, its masks files or .tar shards.
        to: ``"coco"``, ``"voc"``, ``"yolo"`` or ``"huggingface"``.
        out: the new folder, which appears whole; None: ``folder`` with ``-coco`` (or the other form) behind its name.
            An empty folder or none may be there; an earlier export with ``overwrite``.
        source: where the images are, as for ``clipes generate``; None for where that found them.
        images: ``"copy"``; ``"link"``, symbolic links, but copies of what has to be turned or converted;
            ``"none"``, not for Hugging Face.
        split: the name of the list, file or folder.
        polygons: (COCO) outlines instead of RLE.
        regions: (COCO) an annotation for each connected region instead of each class.

    An image whose mask or picture cannot be read is counted in the report, and the others are written; if none can,
    ``out`` is not made. Memory does not grow with their number.

    Raises FileNotFoundError where there is no run or no source; ValueError for a run without masks, an ``out`` that
    is not ours to write, wrong arguments; CocoError without pycocotools; OSError where it cannot be written.
    """
    _check(to, images, split, polygons or regions)
    target = target_path(out, folder, to)
    with open_run(folder) as run:
        place = run.source(source)
        if images == "link" and is_tar(place):
            raise ValueError(f"the pictures of {place} are inside .tar files, which nothing can link to; copy them")
        masks = run.counts().get("ok", 0)
        if not masks:
            raise ValueError(f"{folder}: the run has no mask to export; `clipes status` says why")
        check_target(target, "export", run.folder, [place], overwrite)
        pictures, count = (
            PictureReader(run.images(place), images, _KEPT[to], "JPEG" if to == "voc" else "PNG"),
            ExportCounts(),
        )
        with ExitStack() as stack:
            root = stack.enter_context(staging_folder(target))
            writer = stack.enter_context(closing(_writer(to, root, run, split, place, polygons, regions)))
            write_all(run, progress(run.rows("ok"), masks, "images"), pictures, writer, count)
            writer.finish()
            run.check_unchanged()
            report = _report(to, run, count, writer)
            if report.images:
                about = {"run": run.digest, "split": split, **asdict(report)}
                publish(root, target, "export", about, overwrite)
    return report


def _report(to: Target, run: Store, count: ExportCounts, writer: FormatWriter) -> ExportResult:
    counts, older = run.counts(), _count_older(run)
    note = f"{older} mask(s) of other settings are left out: `clipes finalize` had no maps to decide them again"
    return ExportResult(
        to=to,
        images=count.images,
        pixels=count.pixels,
        ignored_pixels=count.ignored_pixels,
        failed=count.failed,
        problems=tuple(count.problems),
        without_mask=counts.get("skipped", 0) + counts.get("failed", 0),
        turned=count.turned,
        converted=count.converted,
        notes=(*writer.notes(), *([note] if older else [])),
    )


def _count_older(run: Store) -> int:
    """How many images have a mask of other settings, and no row of the run's."""
    if not run.latest.other_records:
        return 0
    with closing(temporary_database()) as database:
        database.execute("CREATE TABLE older (id BLOB PRIMARY KEY) WITHOUT ROWID")
        with transaction(database, "masks of other settings"):
            for record in read_records(run.folder):
                if record.settings != run.digest:
                    rows = (row for row in record.rows() if row.status == "ok" and run.latest.get(row.id) is None)
                    database.executemany(
                        "INSERT OR IGNORE INTO older VALUES (?)", ((encode_name(row.id),) for row in rows)
                    )
        count: int = database.execute("SELECT count(*) FROM older").fetchone()[0]
    return count


def _check(to: str, images: str, split: str, shaped: bool) -> None:
    for name, value, known in (("to", to, get_args(Target)), ("images", images, get_args(PictureMode))):
        if value not in known:
            raise ValueError(f"{name} is {value!r}; it is one of {', '.join(known)}")
    if not re.fullmatch(r"\w[\w.-]*", split):
        raise ValueError(f"the split is {split!r}; it names files and folders: letters, digits, . _ and -")
    if to == "coco" and split == "annotations":
        raise ValueError("the split is 'annotations', where COCO's JSON is, not its pictures; give another name")
    if to == "huggingface" and not re.fullmatch(r"\w+(\.\w+)*", split):
        raise ValueError(f"the split is {split!r}; Hugging Face takes letters, digits, _ and single dots")
    if to == "huggingface" and images == "none":
        raise ValueError("an imagefolder of Hugging Face holds its pictures; take images 'copy' or 'link'")
    if to != "coco" and shaped:
        raise ValueError(f"polygons and regions are for COCO; leave them out of an export to {to}")


def _writer(to: Target, root: Path, run: Store, split: str, source: str, polygons: bool, regions: bool) -> FormatWriter:
    names = run.class_names
    if to == "coco":
        ids = _category_ids(run)
        return CocoWriter(root, names, split, polygons=polygons, regions=regions, category_ids=ids, source=source)
    if to == "voc":
        return VocWriter(root, names, split)
    return (YoloWriter if to == "yolo" else HuggingFaceWriter)(root, names, split)


def _category_ids(run: Store) -> dict[str, int]:
    """COCO's ids of the source's classes by name, as the run's record holds them; none of another source."""
    ids = run.manifest.get("category_ids") or {}
    numbers = list(ids.values()) if isinstance(ids, dict) else [None]
    if not all(type(number) is int for number in numbers) or len(set(numbers)) < len(numbers):
        raise ValueError(f"{run.folder / MANIFEST}: its 'category_ids' are not names with a number each; correct it")
    return dict(ids)
