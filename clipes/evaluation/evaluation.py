"""Masks judged against the truth: which files belong together, and one figure for all of them.

Pixels are added up over all images before anything is divided. Pixels that the truth ignores never count.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipes.ids import read_class_names

from .accumulate import Problem, Progress, add_up, match_files, read_pair
from .metrics import (
    ClassCounts,
    boundary_counts,
    class_counts,
    intersection_over_union,
    mean_over_occurring,
)

AnyPath = str | os.PathLike[str]

IGNORED_NOTE = "mIoU, boundary IoU and pixel accuracy count a pixel that the mask ignores as missed"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How well masks agree with the truth. Axes: K classes, the background apart.

    Attributes:
        class_names: K names.
        pixels: counts per class, background first, over all images.
        boundary: (2, K+1) int64, intersection and union of the boundaries:
            :func:`clipes.evaluation.metrics.boundary_counts`.
        images: how many masks were compared.
        missing: names of truth files without a mask.
        extra: names of masks without a truth file; they count in nothing.
        mis_sized: name and reason of masks of another size than their truth.
        failed: name and reason of pairs of which a file cannot be read or holds other values than ids.
    """

    class_names: tuple[str, ...]
    pixels: ClassCounts
    boundary: NDArray[np.int64]
    images: int
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    mis_sized: tuple[Problem, ...] = ()
    failed: tuple[Problem, ...] = ()

    @property
    def truths(self) -> int:
        """How many truth files there are."""
        return self.images + len(self.missing) + len(self.mis_sized) + len(self.failed)

    @property
    def coverage(self) -> float:
        """The share of the truth files that a mask was compared with."""
        return self.images / self.truths

    @property
    def miou(self) -> float:
        """The mean IoU of the classes that occur, background among them; ignored pixels count as missed."""
        return self.pixels.miou

    @property
    def miou_decided(self) -> float:
        """The mean IoU on the pixels that the masks do not ignore."""
        return self.pixels.miou_decided

    @property
    def pixel_accuracy(self) -> float:
        """The share of the pixels whose class is right; ignored pixels count as missed."""
        return self.pixels.pixel_accuracy

    @property
    def ignored_share(self) -> float:
        """The share of the pixels that the masks ignore."""
        return self.pixels.ignored_share

    @property
    def class_iou(self) -> NDArray[np.float64]:
        """(K+1,) float64, the terms of `miou`; nan for a class that does not occur."""
        return self.pixels.iou

    @property
    def class_boundary_iou(self) -> NDArray[np.float64]:
        """(K+1,) float64, the terms of `boundary_iou`; nan for a class without a boundary."""
        return intersection_over_union(*self.boundary)

    @property
    def boundary_iou(self) -> float:
        """The mean boundary IoU (Cheng et al. 2021) of the classes that have one; ignored pixels are missed."""
        return mean_over_occurring(self.class_boundary_iou)

    def table(self) -> list[dict[str, Any]]:
        """A row per class: ``id``, ``name``, ``iou``, ``boundary_iou`` (None where nan), ``truth_pixels``,
        ``mask_pixels``, ``ignored_pixels``.
        """
        names = ("background", *self.class_names)
        columns = zip(names, self.class_iou, self.class_boundary_iou, *self.pixels, strict=True)
        return [
            {
                "id": index,
                "name": name,
                "iou": number(iou),
                "boundary_iou": number(boundary),
                "truth_pixels": int(truth),
                "mask_pixels": int(mask),
                "ignored_pixels": int(ignored),
            }
            for index, (name, iou, boundary, truth, mask, _, ignored) in enumerate(columns)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Everything, as JSON holds it: None for nan, ``classes`` for the table."""
        figures = ("miou", "miou_decided", "boundary_iou", "pixel_accuracy", "ignored_share", "coverage")
        return {
            "note": IGNORED_NOTE,
            "images": self.images,
            **{name: number(getattr(self, name)) for name in figures},
            "classes": self.table(),
            "missing": list(self.missing),
            "extra": list(self.extra),
            "mis_sized": [problem._asdict() for problem in self.mis_sized],
            "failed": [problem._asdict() for problem in self.failed],
        }


def evaluate(
    masks: AnyPath,
    truth: AnyPath,
    class_names: Sequence[str] | None = None,
    *,
    workers: int | None = None,
    progress: Progress = lambda items, total, unit: items,
) -> Evaluation:
    """Judge the PNG masks of a folder against the truth files of the same relative names, or one file against one.

    Files are palette, 8-bit or 16-bit grey PNGs of ids: 0 background, 1..K classes, 255 (65535 above 254 classes)
    ignore; colours mean nothing. Hidden files are left out, and, beside a ``classes.json``, the folders
    ``confidence`` and ``cams``. A file that cannot be judged is reported, and the others are judged.

    Args:
        masks, truth: two folders or two files.
        class_names: K names, the background apart; None: those of the ``classes.json`` beside the masks.
        workers: processes, at most one for 16 files; None: one per core. The result is the same. Where processes
            are not forked (macOS, Windows), a script needs its ``if __name__ == "__main__":``.
        progress: wraps the files in a progress bar; called with an iterable, its length and a unit.

    Raises:
        FileNotFoundError: ``masks`` or ``truth`` is not there.
        ValueError: no mask has the name of a truth file; no class names, or others than in ``classes.json``.
        ChildProcessError: a worker was killed.
    """
    masks, truth = Path(masks), Path(truth)
    pairs = match_files(masks, truth)
    names = read_class_names(masks, class_names)
    tasks = ((name or masks.name, masks / name, truth / name) for name in pairs.names)
    shape = (6, len(names) + 1)
    tally = add_up(partial(_judge_masks, len(names)), tasks, len(pairs.names), shape, workers, progress)
    return Evaluation(
        class_names=names,
        pixels=ClassCounts(*tally.counts[:4]),
        boundary=tally.counts[4:],
        images=tally.images,
        missing=tuple(pairs.missing),
        extra=tuple(pairs.extra),
        mis_sized=tuple(tally.mis_sized),
        failed=tuple(tally.failed),
    )


def number(value: float) -> float | None:
    """Return ``value``, None for nan, which JSON lacks."""
    return None if np.isnan(value) else float(value)


def _judge_masks(classes: int, mask_file: Path, truth_file: Path) -> NDArray[np.int64]:
    """(6, K+1): the fields of ClassCounts, then the boundaries' intersection and union."""
    mask, truth = read_pair(classes, mask_file, truth_file)
    return np.concatenate([class_counts(mask, truth, classes), boundary_counts(mask, truth, classes)])
