"""How often each class has which score, with the threshold: counted image by image, drawn as small charts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

_LEVELS = 1000  # of a score
_BARS = 40
CHARTS = 60
"""The largest number of charts on a page; the classes with the most labels have them."""


class ScoreCounts:
    """Counts of the scores of K classes over all images.

    Attributes:
        scores: (2, K, levels) int64: how many images have a score of this level, without and with the label.
        thresholds: (K, levels) int64: the same of thresholds.
        near: (K,) int64: how many images have a score near its threshold.
        images: how many were counted.
    """

    def __init__(self, classes: int) -> None:
        self.scores = np.zeros((2, classes, _LEVELS), np.int64)
        self.thresholds = np.zeros((classes, _LEVELS), np.int64)
        self.near = np.zeros(classes, np.int64)
        self.images = 0

    def add(
        self,
        scores: NDArray[np.float64],
        thresholds: NDArray[np.float64],
        chosen: NDArray[np.bool_],
        near: NDArray[np.bool_],
    ) -> None:
        """Count an image: its scores (K,), thresholds (K,), which classes are labels, which are near."""
        place = np.arange(len(scores))
        self.scores[chosen.astype(int), place, _level(scores)] += 1
        self.thresholds[place, _level(thresholds)] += 1
        self.near += near
        self.images += 1

    @property
    def top(self) -> float:
        """The end of the axis: a score that none is above, at least 0.05."""
        levels = np.flatnonzero(self.scores.any((0, 1)))
        highest = (levels[-1] + 1) / _LEVELS if len(levels) else 1.0
        return float(max(0.05, np.ceil(20 * highest) / 20))

    @property
    def labelled(self) -> NDArray[np.int64]:
        """How many images have each class as a label (K,)."""
        counts: NDArray[np.int64] = self.scores[1].sum(-1)
        return counts

    def threshold(self, label: int) -> tuple[float, float, float]:
        """The threshold below which a tenth, half and nine tenths of a class's thresholds lie: one, where all agree."""
        summed = np.cumsum(self.thresholds[label])
        found = (int(np.searchsorted(summed, share * summed[-1])) for share in (0.1, 0.5, 0.9))
        low, middle, high = ((level + 0.5) / _LEVELS for level in found)
        return low, middle, high


def _level(values: NDArray[np.float64]) -> NDArray[np.int64]:
    levels: NDArray[np.int64] = np.minimum(values * _LEVELS, _LEVELS - 1).astype(np.int64)
    return levels


def charts_html(counts: ScoreCounts, class_names: Sequence[str]) -> str:
    """A chart for each of the classes with the most labels."""
    order = np.argsort(-counts.labelled, kind="stable")[:CHARTS].tolist()
    return f'<div class="charts">{"".join(_chart(counts, label, class_names[label]) for label in order)}</div>'


def _chart(counts: ScoreCounts, label: int, name: str) -> str:
    labelled = int(counts.labelled[label])
    low, middle, high = counts.threshold(label)
    scale = _BARS / counts.top
    band = f'<rect class="band" x="{scale * low:.2f}" y="0" width="{scale * (high - low):.2f}" height="100"/>'
    line = f'<line x1="{scale * middle:.2f}" x2="{scale * middle:.2f}" y1="0" y2="100"/>'
    about = escape(f"{name}: the scores of {counts.images:,} images, {labelled:,} of them with the label")
    return f"""<figure><figcaption><b>{escape(name)}</b><small>{labelled:,}</small></figcaption>
<svg viewBox="0 0 {_BARS} 100" preserveAspectRatio="none" role="img" aria-label="{about}">{band * (high > low)}
{"".join(_bars(counts, label))}{line}</svg><p class="axis"><span>0</span><span>{counts.top:.2g}</span></p></figure>"""


def _bars(counts: ScoreCounts, label: int) -> Iterator[str]:
    """Bars of logarithmic height; the part of the images with the label stands below, in its own colour."""
    width = counts.top / _BARS
    place = np.minimum((np.arange(_LEVELS) + 0.5) / _LEVELS / width, _BARS - 1).astype(int)
    without, with_label = (np.bincount(place, row, _BARS).astype(int) for row in counts.scores[:, label])
    heights = 100 * np.log1p(without + with_label) / np.log1p(max(1, int((without + with_label).max())))
    for bar in np.flatnonzero(heights).tolist():
        every, some = int(without[bar] + with_label[bar]), int(with_label[bar])
        title = f"{bar * width:.3f} to {(bar + 1) * width:.3f}: {every:,} images, {some:,} with the label"
        shape = f'x="{bar + 0.06:.2f}" width="0.88"'
        height = heights[bar] * some / every
        yield f"<g><title>{title}</title>"
        yield f'<rect class="rest" {shape} y="{100 - heights[bar]:.1f}" height="{heights[bar]:.1f}"/>'
        if some:
            yield f'<rect {shape} y="{100 - height:.1f}" height="{height:.1f}"/>'
        yield "</g>"
