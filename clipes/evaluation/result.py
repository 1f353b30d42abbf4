"""The result of an evaluation: figures over all images and per class.

Pixels are added up over all images before anything is divided. Pixels that the truth ignores never count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .accumulate import Problem
from .metrics import ClassCounts, intersection_over_union, mean_over_occurring

IGNORED_NOTE = "mIoU, boundary IoU and pixel accuracy count a pixel that the mask ignores as missed"
SWEEP_NOTE = "a sweep uses the truth: its best value is an upper bound, not a result"


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """How well V variants of masks agree with the truth. Axes: K classes, the background apart.

    The figures are those of the first variant: of the masks as they were written, unless this is a sweep.

    Attributes:
        class_names: K names.
        counts: (V, 6, K+1) int64, background first, over all images: the fields of
            :class:`clipes.evaluation.metrics.ClassCounts`, then the intersection and the union of the boundaries
            (:func:`clipes.evaluation.metrics.boundary_counts`; 0 in a sweep).
        images: how many masks were compared.
        missing: names of truth files without a mask.
        extra: names of masks without a truth file; they count in nothing.
        mis_sized: name and reason of masks of another size than their truth.
        failed: name and reason of pairs of which a file cannot be read or holds other values than ids.
        setting, values: of a sweep, the setting that varies and its V values; empty for masks as they were written.
        sweeps: what other settings would have given: :data:`SWEEP_NOTE`.
    """

    class_names: tuple[str, ...]
    counts: NDArray[np.int64]
    images: int
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    mis_sized: tuple[Problem, ...] = ()
    failed: tuple[Problem, ...] = ()
    setting: str = ""
    values: tuple[float, ...] = ()
    sweeps: tuple[Evaluation, ...] = ()

    def __repr__(self) -> str:
        figures = (
            f"mIoU {self.miou:.3f}, boundary IoU {self.boundary_iou:.3f}, pixel accuracy {self.pixel_accuracy:.3f}"
        )
        return f"Evaluation({self.images} of {self.truths} truth files judged: {figures})"

    @property
    def variants(self) -> tuple[ClassCounts, ...]:
        """The pixels per class of each of V variants."""
        return tuple(ClassCounts(*counts[:4]) for counts in self.counts)

    @property
    def pixels(self) -> ClassCounts:
        """The pixels per class."""
        return self.variants[0]

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
        return intersection_over_union(*self.counts[0, 4:])

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

    def sweep_table(self) -> list[dict[str, float | None]]:
        """Of a sweep, a row per value: the setting by its name, ``miou``, ``miou_decided``, ``ignored_share``."""
        figures = ("miou", "miou_decided", "ignored_share")
        return [
            {self.setting: value, **{name: number(getattr(counts, name)) for name in figures}}
            for value, counts in zip(self.values, self.variants, strict=True)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Everything, as JSON holds it: None for nan; ``classes`` for the table, ``rows`` for that of a sweep."""
        problems = {name: [one._asdict() for one in getattr(self, name)] for name in ("mis_sized", "failed")}
        if self.setting:
            return {"images": self.images, "rows": self.sweep_table(), **problems}
        figures = ("miou", "miou_decided", "boundary_iou", "pixel_accuracy", "ignored_share", "coverage")
        sweeps = {sweep.setting: sweep.as_dict() for sweep in self.sweeps}
        return {
            "note": IGNORED_NOTE,
            "images": self.images,
            **{name: number(getattr(self, name)) for name in figures},
            "classes": self.table(),
            "missing": list(self.missing),
            "extra": list(self.extra),
            **problems,
            **({"sweep": {"note": SWEEP_NOTE, **sweeps}} if sweeps else {}),
        }


def number(value: float) -> float | None:
    """Return ``value``, None for nan, which JSON lacks."""
    return None if np.isnan(value) else float(value)
