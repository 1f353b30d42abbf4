"""The page of labels in doubt: the images whose given labels and scores disagree most, and the classes concerned."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from clipes.io.atomic import write_text
from clipes.io.images import TarMember
from clipes.tags.doubts import ScoredLabel

from .cards import Card, Gauge, cards_html
from .single import metered, section, single_page, table, tiles

PICTURES = 200
"""The pictures on a page."""

_CLASSES = 40


class Doubt(NamedTuple):
    """An image whose given labels and scores disagree.

    Attributes:
        name: the image as the table names it.
        place: its file.
        size: by how much they disagree.
        labels: the given labels.
        doubtful, suggested: the given labels that the scores speak against, and the classes that they speak for.
    """

    name: str
    place: Path | TarMember
    size: float
    labels: tuple[str, ...]
    doubtful: Mapping[str, ScoredLabel]
    suggested: Mapping[str, ScoredLabel]


def write_doubt_page(path: Path, name: str, about: str, doubts: Sequence[Doubt], compared: int) -> None:
    """Write the page of a table of this name to an .html file, whole or not at all.

    ``doubts`` are the images that disagree, the worst first, of ``compared``; ``about`` tells the run.
    """
    folder = Path(os.path.abspath(path)).parent
    sections = [_tiles(doubts, compared), _pictures(doubts, folder)]
    if doubts:
        sections.append(_classes(doubts))
    style = ("report", "tags.css")
    heading = f"{name} · clipes tag --check"
    write_text(path, single_page("clipes tag --check", name, about, sections, [style], heading=heading))


def _tiles(doubts: Sequence[Doubt], compared: int) -> str:
    share = len(doubts) / max(compared, 1)
    return tiles(
        [
            ("images compared", f"{compared:,}"),
            ("that disagree", f"{len(doubts):,}"),
            ("share", f"{share:.0%}"),
            ("labels in doubt", f"{sum(len(doubt.doubtful) for doubt in doubts):,}"),
            ("labels suggested", f"{sum(len(doubt.suggested) for doubt in doubts):,}"),
        ]
    )


def _pictures(doubts: Sequence[Doubt], folder: Path) -> str:
    shown = doubts[:PICTURES]
    parts = [part for doubt in shown for part in (doubt.doubtful, doubt.suggested)]
    top = max((value for part in parts for one in part.values() for value in one), default=0.0) or 1.0
    text = (
        f"{len(shown):,} of the {len(doubts):,} images that disagree, the worst first; all are in the table. Red: a "
        "given label that the scores speak against. Green: a class that they speak for and that is missing. The mark "
        "on a bar is the threshold. A score is no proof: look. A picture opens its file."
        if shown
        else "The scores agree with all given labels."
    )
    return section("pictures", "Images", text, cards_html(map(_card, shown), top, folder))


def _card(doubt: Doubt) -> Card:
    gauges = [
        Gauge(name, one.score, one.threshold, kind, note)
        for part, kind, note in ((doubt.doubtful, "doubtful", "given"), (doubt.suggested, "suggested", "missing"))
        for name, one in sorted(part.items(), key=lambda item: -abs(item[1].score - item[1].threshold))
    ]
    agreed = tuple(label for label in doubt.labels if label not in doubt.doubtful)
    return Card(doubt.name, doubt.place, tuple(gauges), f"{doubt.size:.2f}", agreed)


def _classes(doubts: Sequence[Doubt]) -> str:
    """Which classes are in doubt, and which are suggested, most often: labels may be wrong by a rule."""
    counts: dict[str, list[int]] = {}
    for doubt in doubts:
        for place, part in enumerate((doubt.doubtful, doubt.suggested)):
            for name in part:
                counts.setdefault(name, [0, 0])[place] += 1
    most = max(doubtful for doubtful, _ in counts.values())
    order = sorted(counts, key=lambda name: (-sum(counts[name]), name))
    rows = [(name, (metered(counts[name][0], most), f"{counts[name][1]:,}")) for name in order]
    text = "The classes that are concerned most often: where one stands out, the list or its words may be to blame."
    return section(
        "classes", "Classes", text, table(("class", "in doubt", "suggested"), rows, _CLASSES, "more classes")
    )
