"""What other thresholds and background powers would have given, judged by the truth."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipes.ids import ignore_index, read_class_names
from clipes.io.cams_npz import read_maps
from clipes.io.masks import check_size, read_png

from .accumulate import Judge, Problem, Progress, add_up, find_files, match_files, read_pair
from .evaluation import AnyPath, number
from .metrics import ClassCounts, class_counts

THRESHOLDS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
POWERS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
SWEEP_NOTE = "a sweep uses the truth: its best value is an upper bound, not a result"


@dataclass(frozen=True, eq=False)
class Sweep:
    """What other values of one setting would have given, judged by the truth: :data:`SWEEP_NOTE`.

    Attributes:
        setting: ``ignore_below`` or ``background_power``.
        counts: value of the setting to the counts over all images.
        images: how many images could be judged.
        mis_sized, failed: as in :class:`Evaluation`.
    """

    setting: str
    counts: dict[float, ClassCounts]
    images: int
    mis_sized: tuple[Problem, ...]
    failed: tuple[Problem, ...]

    def table(self) -> list[dict[str, float | None]]:
        """A row per value: the setting by its name, ``miou``, ``miou_decided``, ``ignored_share``."""
        figures = ("miou", "miou_decided", "ignored_share")
        return [
            {self.setting: value, **{name: number(getattr(counts, name)) for name in figures}}
            for value, counts in self.counts.items()
        ]

    def as_dict(self) -> dict[str, Any]:
        """Everything, as JSON holds it."""
        return {
            "images": self.images,
            "rows": self.table(),
            "mis_sized": [problem._asdict() for problem in self.mis_sized],
            "failed": [problem._asdict() for problem in self.failed],
        }


def sweep(
    masks: AnyPath,
    truth: AnyPath,
    class_names: Sequence[str] | None = None,
    *,
    workers: int | None = None,
    progress: Progress = lambda items, total, unit: items,
) -> tuple[Sweep, ...]:
    """Judge what :data:`THRESHOLDS` of ``ignore_below`` and :data:`POWERS` of ``background_power`` would have given.

    The first needs ``masks/confidence/NAME.png``, grey, the confidence in 255ths; it can ignore more pixels than the
    masks do, not fewer. The second needs ``masks/cams/NAME.npz``, see :mod:`clipes.io.cams_npz`; it is the arg max of
    the scores, without refinement by the picture's colours, and loads torch. A sweep is left out when its files are not
    there.

    Arguments and errors as in :func:`evaluate`, and ValueError when there are files for neither.
    """
    masks, truth = Path(masks), Path(truth)
    paired = match_files(masks, truth).names
    names = read_class_names(masks, class_names)
    sweeps = []
    for setting, values, folder, suffix, judge in _SWEEPS:
        there = set(find_files(masks / folder, suffix)) if (masks / folder).is_dir() else set()
        chosen = [name for name in paired if name[:-4] + suffix in there]
        if not chosen:
            continue
        tasks = ((name, masks / name, truth / name, masks / folder / (name[:-4] + suffix)) for name in chosen)
        shape = (len(values), 4, len(names) + 1)
        tally = add_up(partial(judge, len(names)), tasks, len(chosen), shape, workers, progress)
        counts = {value: ClassCounts(*part) for value, part in zip(values, tally.counts, strict=True)}
        sweeps.append(Sweep(setting, counts, tally.images, tuple(tally.mis_sized), tuple(tally.failed)))
    if not sweeps:
        raise ValueError(
            f"{masks} holds no confidence and no maps of its masks to sweep over; "
            "run `clipes generate` with --save-confidence or --save-cams"
        )
    return tuple(sweeps)


def _judge_thresholds(classes: int, mask_file: Path, truth_file: Path, confidence_file: Path) -> NDArray[np.int64]:
    """(THRESHOLDS, 4, K+1): the mask with what is less confident than each threshold ignored."""
    mask, truth = read_pair(classes, mask_file, truth_file)
    confidence = read_png(confidence_file, ("L",), "is not 8-bit grey, the confidence in 255ths")
    check_size(confidence.shape, confidence_file, truth.shape, truth_file)
    ignore = np.uint16(ignore_index(classes))
    masks = (np.where(confidence < 255 * threshold, ignore, mask) for threshold in THRESHOLDS)
    return np.stack([class_counts(mask, truth, classes) for mask in masks])


def _judge_powers(classes: int, mask_file: Path, truth_file: Path, cams_file: Path) -> NDArray[np.int64]:
    """(POWERS, 4, K+1): the arg max of the maps' scores with the background at each power."""
    import torch

    from clipes.scores import decide, score_maps, upsample

    if multiprocessing.parent_process():  # the other cores are busy with other files
        torch.set_num_threads(1)
    _, truth = read_pair(classes, mask_file, truth_file)
    class_ids, maps, size = read_maps(cams_file, classes)
    check_size(size, cams_file, truth.shape, truth_file)
    cams = upsample(torch.from_numpy(maps), size)
    ids, ignore = torch.from_numpy(class_ids), ignore_index(classes)
    masks = (decide(score_maps(cams, power), ids, ignore, None)[0].numpy() for power in POWERS)
    return np.stack([class_counts(mask, truth, classes) for mask in masks])


_SWEEPS: tuple[tuple[str, tuple[float, ...], str, str, Judge], ...] = (
    ("ignore_below", THRESHOLDS, "confidence", ".png", _judge_thresholds),
    ("background_power", POWERS, "cams", ".npz", _judge_powers),
)
