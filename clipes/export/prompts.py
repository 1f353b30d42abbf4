"""Prompts for SAM and its like, from a run's masks: one JSON file, an image in each line of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipes._version import __version__
from clipes.evaluation.accumulate import Progress
from clipes.io.atomic import atomic
from clipes.io.coco_rle import coco_rle
from clipes.io.paths import resolved
from clipes.regions import instances
from clipes.regions.prompts import prompt
from clipes.store.store import open_run

from .names import check_unicode
from .walk import ExportCounts, FormatWriter, Item, count_masks, find_run_regions, notes_on_older, write_all


@dataclass(frozen=True)
class PromptsResult:
    """The counts of a file of prompts.

    Attributes:
        images: number of images in it.
        prompts: number of their prompts.
        failed: number of images left out because they could not be read, or because JSON cannot hold their id.
        problems: why, for the first 20 of them.
        without_mask: number of images without a mask, because the run skipped them or failed on them.
        notes: further remarks for the user.
    """

    images: int
    prompts: int
    failed: int
    problems: tuple[str, ...]
    without_mask: int
    notes: tuple[str, ...]


def write_prompts(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    instances: bool = False,
    regions: str | os.PathLike[str] | None = None,
    progress: Progress = lambda items, total, unit: items,
) -> PromptsResult:
    """Write prompts for each label that an image's mask shows: :func:`clipes.regions.prompts.prompt`, and the mask.

    docs/regions.md describes the file. It appears, or is replaced, when all is written. Memory does not grow with the
    number of images, and the pictures are not read.

    Args:
        folder: the run's folder, with masks as files or in .tar shards.
        out: the file, which ends in ``.json``.
        instances: prompts for each instance instead of each label: :func:`clipes.regions.instances`.
        regions: instances by the regions of this folder or file, as for :func:`clipes.export.export`.
        progress: called with an iterable of images, its length and a unit; wraps it in a progress bar.

    Raises FileNotFoundError if the run or the regions do not exist; ValueError for a run without masks or of which none
    can be read, and for an ``out`` of another suffix or in the run's folder; OSError if writing fails.
    """
    out = Path(out)
    if out.suffix.lower() != ".json":
        raise ValueError(f"prompts are a JSON file, not {out.name!r}; end its name in .json")
    with open_run(folder) as run:
        if resolved(out).is_relative_to(resolved(run.folder)):
            raise ValueError(f"{out} is in the run's folder ({run.folder}); choose another place for the prompts")
        counts, total = ExportCounts(), run.counts()
        masks = count_masks(run)
        found = None if regions is None else find_run_regions(run, Path(regions))
        with atomic(out) as temporary:
            with closing(
                PromptsWriter(temporary, run.class_names, run.digest, instances or found is not None)
            ) as writer:
                write_all(run, progress(run.rows("ok"), masks, "images"), None, found, writer, counts)
                writer.finish()
            run.check_unchanged()
            if not counts.images:
                raise ValueError(f"{folder}: no mask of the run can be read: {counts.problems[0]}")
        notes = (*(found.notes if found else ()), *notes_on_older(run))
    return PromptsResult(
        images=counts.images,
        prompts=writer.prompts,
        failed=counts.failed,
        problems=tuple(counts.problems),
        without_mask=total.get("skipped", 0) + total.get("failed", 0),
        notes=notes,
    )


class PromptsWriter(FormatWriter):
    """An object with ``classes``, the run's settings and ``images``, of which each has its prompts.

    Attributes:
        prompts: how many prompts are written so far.
    """

    def __init__(self, path: Path, class_names: Sequence[str], digest: str, instances: bool) -> None:
        super().__init__()
        self.prompts = 0
        self._names, self._instances, self._images = class_names, instances, 0
        self._file = self._open.enter_context(open(path, "w", encoding="ascii", newline="\n"))  # noqa: SIM115
        about = {"description": "prompts from image-level labels", "version": f"clipes {__version__}", "run": digest}
        self._file.write(f'{{"info": {json.dumps(about)},\n"classes": {json.dumps(class_names)},\n"images": [\n')

    def check(self, item: Item) -> None:
        """As :class:`clipes.export.walk.FormatWriter` says."""
        check_unicode(item.id)

    def add(self, item: Item) -> None:
        """As :class:`clipes.export.walk.FormatWriter` says."""
        found = [self._prompt(item, class_id, pixels) for class_id, pixels in self._parts(item)]
        row = {"id": item.id, "size": list(item.mask.shape), "labels": item.labels, "prompts": found}
        self._file.write(",\n" * bool(self._images) + json.dumps(row))
        self._images += 1
        self.prompts += len(found)

    def finish(self) -> None:
        """As :class:`clipes.export.walk.FormatWriter` says."""
        self._file.write("\n]}\n")
        self.close()

    def _parts(self, item: Item) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        """Yield the class and the pixels (H, W) of each prompt."""
        if self._instances:
            found = instances(item.mask, item.regions, ignore=item.ignore)
            for number, class_id in enumerate(found.class_ids.tolist(), start=1):
                yield class_id, found.ids == number
            return
        for class_id in np.unique(item.mask).tolist():
            if class_id not in (0, item.ignore):
                yield class_id, item.mask == class_id

    def _prompt(self, item: Item, class_id: int, pixels: NDArray[np.bool_]) -> dict[str, Any]:
        box, inside, outside = prompt(pixels, item.mask == item.ignore)
        points = [inside] if outside is None else [inside, outside]
        row = {
            "label": self._names[class_id - 1],
            "class_id": class_id,
            "box": box,
            "points": points,
            "point_labels": [1, 0][: len(points)],
            "mask": coco_rle(pixels),
        }
        if item.confidence is not None:
            row["score"] = round(float(item.confidence[pixels].mean()) / 255, 4)
        return row
