"""The result of a comparison: a row of figures for each preset, and how much the presets agree."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipes.config import RECIPES, Config
from clipes.device.peak import Cost
from clipes.evaluation.accumulate import Problem
from clipes.evaluation.bootstrap import CONFIDENCE, DRAWS, bootstrap_miou, interval
from clipes.evaluation.metrics import ClassCounts, intersection_over_union, mean_over_occurring
from clipes.evaluation.result import number

from .counts import Counts

LEAST = 10
"""Pictures below which no interval is given: their bootstrap says too little."""

NOTE = (
    "mIoU and boundary IoU over background and classes that occur, ignored pixels missed; intervals: the middle "
    f"{CONFIDENCE:.0%} of {DRAWS:,} bootstrap draws of the pictures, the same draws for all presets"
)


@dataclass(frozen=True)
class PresetFigures:
    """A preset's figures over all pictures; None for what is not known, such as those that need truth.

    Attributes:
        preset: its name.
        miou, miou_low, miou_high: mean IoU and the ends of its interval.
        gain, gain_low, gain_high: difference of the mIoU from the first preset's, and the ends of its interval.
        boundary_iou: mean boundary IoU.
        miou_decided: mean IoU on the pixels that the masks do not ignore.
        ignored: share of all pixels that the masks ignore.
        foreground: share of all pixels that the masks give a class.
        seconds: mean time of a picture's maps, affinity and decision, encoding apart.
        peak_bytes: most memory meanwhile: of a GPU what torch had allocated, else all that the process had.
    """

    preset: str
    miou: float | None
    miou_low: float | None
    miou_high: float | None
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    boundary_iou: float | None
    miou_decided: float | None
    ignored: float
    foreground: float
    seconds: float
    peak_bytes: int | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """What :func:`clipes.comparison.compare` found. Axes: P presets, K classes.

    Attributes:
        rows: the figures of each preset, in the order given.
        presets: the settings of each.
        class_names: K names.
        class_iou: (P, K+1) float64, background first; nan for a class that does not occur, and without truth.
        agreement: (P, P) float64: the mean IoU of two presets' masks, pixels that either ignores left out.
        images: how many pictures were compared.
        encodings: how many times each picture was encoded.
        encoding_seconds, encoding_peak_bytes: mean time of a picture's encodings, and the most memory meanwhile.
        without_truth: pictures that have no truth file and were left out.
        failed: pictures that could not be compared, with the reason.
        page: the page to open.
    """

    rows: tuple[PresetFigures, ...]
    presets: dict[str, Config]
    class_names: tuple[str, ...]
    class_iou: NDArray[np.float64]
    agreement: NDArray[np.float64]
    images: int
    encodings: int
    encoding_seconds: float
    encoding_peak_bytes: int | None
    without_truth: int
    failed: tuple[Problem, ...]
    page: Path

    @property
    def judged(self) -> bool:
        """Whether there is truth."""
        return self.rows[0].miou is not None

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON holds it."""
        names = ("background", *self.class_names)
        class_iou = {
            name: {row.preset: number(iou) for row, iou in zip(self.rows, column, strict=True)}
            for name, column in zip(names, self.class_iou.T, strict=True)
            if not np.isnan(column).all()
        }
        return {
            "note": NOTE,
            "images": self.images,
            "rows": [asdict(row) for row in self.rows],
            "agreement": {
                row.preset: dict(zip(self.presets, values, strict=True))
                for row, values in zip(self.rows, self.agreement.tolist(), strict=True)
            },
            "class_iou": class_iou,
            "encoding": {
                "times": self.encodings,
                "seconds": self.encoding_seconds,
                "peak_bytes": self.encoding_peak_bytes,
            },
            "without_truth": self.without_truth,
            "failed": [problem._asdict() for problem in self.failed],
            "presets": {
                name: {**_origin(name, config), "config": config.to_dict()} for name, config in self.presets.items()
            },
        }


def _origin(name: str, config: Config) -> dict[str, str]:
    recipe = RECIPES.get(name)
    if recipe is None or recipe.config != config:
        return {}
    return {"sentence": recipe.sentence, "source": recipe.source, "published": recipe.published}


def figures(presets: dict[str, Config], counts: Counts, costs: dict[str, Cost], images: int) -> list[PresetFigures]:
    """The row of each preset from what was counted of ``images`` pictures, at least one."""
    judged = bool(counts.images)
    totals = [ClassCounts(*rows[:4]) for rows in counts.truth]
    miou = [total.miou for total in totals]
    ends = gains = np.full((len(presets), 2), np.nan)
    if len(counts.images) >= LEAST:
        draws = bootstrap_miou(counts.images)
        ends, gains = interval(draws), interval(draws - draws[:, :1])
    rows = []
    for index, name in enumerate(presets):
        first = index == 0
        pixels, ignored, foreground = counts.pixels[index].tolist()
        boundary = mean_over_occurring(intersection_over_union(*counts.truth[index, 4:])) if judged else np.nan
        rows.append(
            PresetFigures(
                preset=name,
                miou=number(miou[index]),
                miou_low=number(ends[index, 0]),
                miou_high=number(ends[index, 1]),
                gain=None if first else number(miou[index] - miou[0]),
                gain_low=None if first else number(gains[index, 0]),
                gain_high=None if first else number(gains[index, 1]),
                boundary_iou=number(boundary),
                miou_decided=number(totals[index].miou_decided),
                ignored=ignored / pixels,
                foreground=foreground / pixels,
                seconds=costs[name].seconds / images,
                peak_bytes=costs[name].peak_bytes,
            )
        )
    return rows
