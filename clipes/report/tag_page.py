"""The page of a table of tags: what to look at first, where nothing was found, and the scores of each class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipes.config import TagRuleConfig
from clipes.io.atomic import write_text
from clipes.io.images import TarMember
from clipes.tags.rules import is_label, is_near, thresholds

from .cards import Card, Gauge, cards_html
from .lowest import Lowest
from .score_charts import CHARTS, ScoreCounts, charts_html
from .single import metered, section, single_page, table, tiles

PICTURES, WITHOUT = 48, 24
"""The pictures on a page: of the images nearest to a threshold, and of those in which nothing was found."""

_CLASSES = 40  # rows of the table of classes that are shown at once


class TagPage:
    """Gathers a page from the scores of images, one by one; of each only counts are kept, and the cards that are shown.

    Args:
        class_names: K names.
        rule: what makes labels of scores.
    """

    def __init__(self, class_names: Sequence[str], rule: TagRuleConfig) -> None:
        self._names, self._rule = tuple(class_names), rule
        self._counts = ScoreCounts(len(self._names))
        self._first: Lowest[Card] = Lowest(PICTURES)
        self._empty: Lowest[Card] = Lowest(WITHOUT)
        self._known = self._without = self._near = 0

    def add_known(self) -> None:
        """Count an image whose labels were known."""
        self._known += 1

    def add(self, name: str, place: Path | TarMember, scores: ArrayLike) -> None:
        """Add an image with the scores (K,) of its classes."""
        values = np.asarray(scores, np.float64)
        at = np.broadcast_to(thresholds(values, self._rule), values.shape)
        chosen, near = is_label(values, self._rule), is_near(values, self._rule)
        self._counts.add(values, at, chosen, near)
        self._near += bool(near.any())
        gaps = np.abs(values - at) / np.maximum(at, 1e-9)
        self._first.offer(float(gaps.min()), lambda: self._card(name, place, values, at, chosen, near))
        if not chosen.any():
            self._without += 1
            best = float((values / np.maximum(at, 1e-9)).max())
            self._empty.offer(-best, lambda: self._card(name, place, values, at, chosen, near))

    def _card(
        self,
        name: str,
        place: Path | TarMember,
        scores: NDArray[np.float64],
        at: NDArray[np.float64],
        chosen: NDArray[np.bool_],
        near: NDArray[np.bool_],
    ) -> Card:
        shown = chosen | near
        shown[scores.argmax()] = True
        order = sorted(np.flatnonzero(shown).tolist(), key=lambda index: (not near[index], -scores[index]))
        gauges = (
            Gauge(
                self._names[index],
                float(scores[index]),
                float(at[index]),
                "label" if chosen[index] else "",
                "near" if near[index] else "",
            )
            for index in order
        )
        return Card(name, place, tuple(gauges), ", ".join(["no label"] * (not chosen.any())))

    def write(self, path: Path, name: str, about: str) -> None:
        """Write the page of a table of this name to an .html file, whole or not at all; ``about`` tells the run."""
        folder = Path(os.path.abspath(path)).parent
        sections = [self._tiles(), self._nearest(folder)]
        if self._without:
            sections.append(self._nothing(folder))
        if self._counts.images:
            sections += [self._charts(), self._classes()]
        style = ("report", "tags.css")
        write_text(path, single_page("clipes tag", name, about, sections, [style], heading=f"{name} · clipes tag"))

    def _tiles(self) -> str:
        tagged, labels = self._counts.images, int(self._counts.labelled.sum())
        values = [("images tagged", f"{tagged:,}")]
        values += [("with known labels", f"{self._known:,}")] * bool(self._known)
        values += [("near a threshold", f"{self._near:,}"), ("with nothing of the list", f"{self._without:,}")]
        values += [("labels per image", f"{labels / max(tagged, 1):.2f}")]
        used = int((self._counts.labelled > 0).sum())
        return tiles([*values, ("classes found", f"{used:,} of {len(self._names):,}")])

    def _nearest(self, folder: Path) -> str:
        cards = self._first.lowest_first()
        text = (
            f"{self._near:,} of {self._counts.images:,} images have a score within a tenth of its threshold: column "
            f"<code>near</code> of the table. Here are the {len(cards):,} nearest. The mark on a bar is the threshold; "
            "blue bars are labels. A picture opens its file."
        )
        return section("pictures", "Look at these first", text, cards_html(cards, self._counts.top, folder))

    def _nothing(self, folder: Path) -> str:
        cards = self._empty.lowest_first()
        shown = f" Here are {len(cards):,}, the most doubtful first." if len(cards) > 1 else ""
        text = f"No class of the list in {self._without:,} of the images: their masks are all background.{shown}"
        return section("nothing", "Nothing found", text, cards_html(cards, self._counts.top, folder))

    def _charts(self) -> str:
        few = len(self._names) <= CHARTS
        which = "Each class" if few else f"The {CHARTS} classes with the most labels"
        text = (
            f"{which}: how many images have which score, from 0 to {self._counts.top:.2g}; heights are logarithmic. "
            "Coloured are the images that get the label. The dashed line is the threshold"
        )
        differs = bool((self._counts.thresholds.astype(bool).sum(-1) > 1).any())
        text += ", its median where it differs by image; the band has the middle eight tenths." if differs else "."
        return section("scores", "Scores", text, charts_html(self._counts, self._names))

    def _classes(self) -> str:
        labelled, near = self._counts.labelled, self._counts.near
        most = int(labelled.max())
        rows = [
            (
                self._names[index],
                (metered(int(labelled[index]), most), f"{near[index]:,}", f"{self._counts.threshold(index)[1]:.3f}"),
            )
            for index in np.argsort(-labelled, kind="stable").tolist()
        ]
        text = "How many images get the label, how many have a score near its threshold, and the threshold (median)."
        body = table(("class", "labels", "near", "threshold"), rows, _CLASSES, "more classes")
        return section("classes", "Classes", text, body)
