"""What is counted of a pair of mask and truth: the mask as it was written, or variants of it by one setting."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipes.ids import ignore_index
from clipes.io.cams_npz import read_cams
from clipes.io.masks import check_size, read_ids, read_png

from .accumulate import Counted
from .metrics import boundary_counts, class_counts

THRESHOLDS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
POWERS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)


class Pair(NamedTuple):
    """A mask (H, W) and its truth (H, W): ids 0..classes and the ignore value."""

    mask: NDArray[Any]
    truth: NDArray[Any]
    truth_file: Path
    classes: int


@dataclass(frozen=True)
class Judge:
    """V variants of each mask that are compared with the truth.

    Attributes:
        setting: the setting that varies; empty for the mask as it was written, where V is 1.
        values: V values of the setting; empty for the mask as it was written.
        folder, suffix: where a file for each mask lies that the variants are made from: ``masks/FOLDER/NAME.SUFFIX``;
            empty if only the mask is needed.
        count: takes a pair and that file (else the mask's), returns (V, 6, K+1) int64: the fields of
            :class:`clipes.evaluation.metrics.ClassCounts`, then intersection and union of the boundaries, or 0.
    """

    setting: str
    values: tuple[float, ...]
    folder: str
    suffix: str
    count: Callable[[Pair, Path], NDArray[np.int64]]

    @property
    def variants(self) -> int:
        """V."""
        return max(1, len(self.values))


def judge_files(
    judges: Sequence[Judge], classes: int, mask_file: Path, truth_file: Path, sources: Sequence[Path | None]
) -> list[Counted]:
    """Read a mask and its truth once and count by each judge from its own of the ``sources``.

    Returns (V, 6, K+1) for each judge, or the error of a file that cannot be read or differs in size, or None for a
    judge whose source is None.
    """
    try:
        mask, truth = read_pair(classes, mask_file, truth_file)
    except (ValueError, OSError, MemoryError) as error:
        error = error.with_traceback(None)
        return [None if source is None else error for source in sources]
    pair = Pair(mask, truth, truth_file, classes)
    return [
        None if source is None else _count(judge, pair, source) for judge, source in zip(judges, sources, strict=True)
    ]


def read_pair(classes: int, mask: Path, truth: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the ids of two mask files: (H, W) integers, 0..classes or the ignore value.

    Raises ValueError, naming the file, for one that is not a PNG, is broken, holds colours or other values;
    SizeError when they differ in size.
    """
    ids, true_ids = read_ids(mask, classes), read_ids(truth, classes)
    check_size(ids.shape, mask, true_ids.shape, truth)
    return ids, true_ids


def _count(judge: Judge, pair: Pair, source: Path) -> Counted:
    try:
        return judge.count(pair, source)
    except (ValueError, OSError, MemoryError) as error:
        return error.with_traceback(None)


def _count_as_written(pair: Pair, source: Path) -> NDArray[np.int64]:
    parts = [count(pair.mask, pair.truth, pair.classes) for count in (class_counts, boundary_counts)]
    return np.concatenate(parts)[None]


def _count_thresholds(pair: Pair, source: Path) -> NDArray[np.int64]:
    """Ignore the pixels that are less confident than each threshold."""
    confidence = read_png(source, ("L",), "is not 8-bit grey, the confidence in 255ths")
    check_size(confidence.shape, source, pair.truth.shape, pair.truth_file)
    ignore = np.uint16(ignore_index(pair.classes))
    return _stack(pair, [np.where(confidence < 255 * threshold, ignore, pair.mask) for threshold in THRESHOLDS])


def _count_powers(pair: Pair, source: Path) -> NDArray[np.int64]:
    """Take the arg max of the scores of saved CAMs, with the background at each power."""
    import torch

    from clipes.scores import ids_of_rows, score_maps, upsample

    if multiprocessing.parent_process():  # the other CPUs work on other files
        torch.set_num_threads(1)
    class_ids, maps, size = read_cams(source, pair.classes)
    check_size(size, source, pair.truth.shape, pair.truth_file)
    cams = upsample(torch.from_numpy(maps), size)
    ids = torch.from_numpy(class_ids)
    return _stack(pair, [ids_of_rows(score_maps(cams, power).argmax(0), ids).numpy() for power in POWERS])


def _stack(pair: Pair, masks: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """(V, 6, K+1) without boundaries, whose figures would take ten times as long as the others."""
    counts = np.stack([class_counts(mask, pair.truth, pair.classes) for mask in masks])
    return np.pad(counts, ((0, 0), (0, 2), (0, 0)))


AS_WRITTEN = Judge("", (), "", "", _count_as_written)

SWEEPS = (
    Judge("ignore_below", THRESHOLDS, "confidence", ".png", _count_thresholds),
    Judge("background_power", POWERS, "cams", ".npz", _count_powers),
)
"""Judges of what other settings would have given.

The first needs the confidence, grey, in 255ths. It can ignore more pixels than the masks do, not fewer. The second
needs the CAMs of :mod:`clipes.io.cams_npz`. It is the arg max of the scores, without refinement by the picture's
colours, and loads torch.
"""
