"""Exports a run's masks to the formats of other tools: COCO, PASCAL VOC, YOLO, Hugging Face.

It reads the run's files and never imports torch. Nothing here computes or changes a mask.
"""

from __future__ import annotations

import os
import re
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from clipes.datasets.tar import is_tar
from clipes.evaluation.accumulate import Progress
from clipes.ids import MANIFEST
from clipes.io.atomic import check_target, publish, staging_folder, target_path
from clipes.io.paths import existing_folders, list_sources, source_text
from clipes.regions.folder import FoundRegions
from clipes.store.store import Store, open_run

from . import huggingface, voc, yolo
from .coco import CocoError, CocoWriter
from .huggingface import HuggingFaceWriter
from .pictures import PictureMode, PictureReader
from .voc import VocWriter
from .walk import ExportCounts, FormatWriter, count_masks, find_run_regions, notes_on_older, write_all
from .yolo import YoloWriter

__all__ = ["CocoError", "ExportResult", "Target", "export"]

Target = Literal["coco", "voc", "yolo", "huggingface"]

_KEPT = {"coco": None, "voc": voc.KEPT, "yolo": yolo.KEPT, "huggingface": huggingface.KEPT}


@dataclass(frozen=True)
class ExportResult:
    """The counts of an export.

    Attributes:
        to: the format.
        images: number of images written.
        pixels: number of pixels of their masks.
        ignored_pixels: how many of these are undecided.
        failed: number of images left out because they could not be read or their id cannot be written.
        problems: why, for the first 20 of them.
        without_mask: number of images without a mask, because the run skipped them or failed on them.
        turned: number of pictures whose EXIF orientation is not upright. Unless ``images`` is "none", they were saved
            upright.
        converted: number of pictures saved in another format, because the other tool does not read theirs.
        notes: further remarks for the user.
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
    instances: bool = False,
    regions: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Progress = lambda items, total, unit: items,
) -> ExportResult:
    """Write the masks of a run into a new folder in another tool's format; docs/export.md describes each format.

    Args:
        folder: the run's folder, with masks as files or in .tar shards.
        to: ``"coco"``, ``"voc"``, ``"yolo"`` or ``"huggingface"``.
        out: the new folder, which is created atomically. None: the name of ``folder`` with ``-coco`` (or another
            format) appended. It must not exist or be empty; with ``overwrite`` it may be an earlier export.
        source: where the images are, as for ``clipes generate``. None: the source that the run was started with.
        images: ``"copy"``; ``"link"``: symbolic links, except for pictures that must be turned or converted;
            ``"none"``: no pictures, which Hugging Face does not allow.
        split: name of the split, used for its list, file or folder.
        polygons: (COCO) polygons instead of RLE.
        instances: (COCO) one annotation per instance instead of per class: :func:`clipes.regions.instances`.
        regions: (COCO) instances by the regions of this folder or file, as :func:`clipes.regions.folder.find_regions`
            finds them; 0 is no region. One of another size, or without them, is an image that cannot be read.
        progress: called with an iterable of images, its length and a unit; wraps it in a progress bar.

    An image whose mask or picture cannot be read is counted as failed, and the others are written. If all fail, ``out``
    is not created. Memory does not grow with the number of images.

    Raises FileNotFoundError if the run or its source does not exist; ValueError for a run without masks, wrong
    arguments, or an ``out`` that is not an export; CocoError without pycocotools; OSError if writing fails.
    """
    _check(to, images, split, polygons or instances or regions is not None)
    target = target_path(out, folder, to)
    with open_run(folder) as run:
        place = run.source(source)
        _check_links(images, place)
        masks = count_masks(run)
        check_target(target, "export", run.folder, [place], overwrite)
        form, files = "JPEG" if to == "voc" else "PNG", run.images(place)
        pictures = PictureReader(files, images, _KEPT[to], form, existing_folders(place))
        found = None if regions is None else find_run_regions(run, Path(regions), files)
        count, each = ExportCounts(), instances or found is not None
        with ExitStack() as stack:
            root = stack.enter_context(staging_folder(target))
            writer = stack.enter_context(closing(_writer(to, root, run, split, place, polygons, each)))
            write_all(run, progress(run.rows("ok"), masks, "images"), pictures, found, writer, count)
            writer.finish()
            run.check_unchanged()
            report = _report(to, run, count, writer, found)
            if report.images:
                about = {"run": run.digest, "split": split, **asdict(report)}
                publish(root, target, "export", about, overwrite)
    return report


def _check_links(images: PictureMode, source: str | tuple[str, ...]) -> None:
    if images == "link" and any(map(is_tar, list_sources(source))):
        raise ValueError(
            f"the pictures of {source_text(source)} are inside .tar files, which nothing can link to; copy them"
        )


def _report(
    to: Target, run: Store, count: ExportCounts, writer: FormatWriter, regions: FoundRegions | None
) -> ExportResult:
    counts = run.counts()
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
        notes=(*writer.notes(), *(regions.notes if regions else ()), *notes_on_older(run)),
    )


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
        raise ValueError(f"polygons, instances and regions are for COCO; leave them out of an export to {to}")


def _writer(
    to: Target, root: Path, run: Store, split: str, source: str | tuple[str, ...], polygons: bool, instances: bool
) -> FormatWriter:
    names = run.class_names
    if to == "coco":
        ids = _category_ids(run)
        return CocoWriter(root, names, split, polygons=polygons, instances=instances, category_ids=ids, source=source)
    if to == "voc":
        return VocWriter(root, names, split)
    return (YoloWriter if to == "yolo" else HuggingFaceWriter)(root, names, split)


def _category_ids(run: Store) -> dict[str, int]:
    """COCO's category ids by class name, from the run's manifest; empty if the source is not COCO."""
    ids = run.manifest.get("category_ids") or {}
    numbers = list(ids.values()) if isinstance(ids, dict) else [None]
    if not all(type(number) is int for number in numbers) or len(set(numbers)) < len(numbers):
        raise ValueError(f"{run.folder / MANIFEST}: its 'category_ids' are not names with a number each; correct it")
    return dict(ids)
