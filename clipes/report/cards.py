"""Cards of images with scores: a small picture, and for some classes a gauge of score and threshold."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from clipes.evaluation.accumulate import available_cpus
from clipes.io.images import TarMember

from .single import data_uri
from .thumbnails import TILE, open_small

GAUGES = 6
"""The largest number of gauges on a card."""


class Gauge(NamedTuple):
    """A class's score and threshold on an image; ``kind`` is the CSS class of its bar, ``note`` stands beside it."""

    name: str
    score: float
    threshold: float
    kind: str = ""
    note: str = ""


class Card(NamedTuple):
    """An image on a page.

    Attributes:
        name: the image as the table names it.
        place: its file.
        gauges: the classes that matter, the most important first.
        line: what stands beside the name.
        labels: further labels.
    """

    name: str
    place: Path | TarMember
    gauges: tuple[Gauge, ...]
    line: str = ""
    labels: tuple[str, ...] = ()


def cards_html(cards: Iterable[Card], top: float, folder: Path) -> str:
    """A list of cards. Gauges end at the score ``top``, above 0; pictures are links to their files from a page in
    ``folder``.
    """
    cards = list(cards)
    with ThreadPoolExecutor(available_cpus(), thread_name_prefix="clipes-report") as pool:
        items = "".join(pool.map(lambda card: _card(card, top, folder), cards))
    return f'<ul class="scored">{items}</ul>'


def _card(card: Card, top: float, folder: Path) -> str:
    gauges = "".join(_gauge(gauge, top) for gauge in card.gauges[:GAUGES])
    left = len(card.gauges) - GAUGES
    more = f'<span class="quiet">and {left} more</span>' if left > 0 else ""
    chips = "".join(f'<span class="chip">{escape(label)}</span>' for label in card.labels)
    line = f'<span class="line"><b>{escape(_shown(card.name))}</b><small>{escape(card.line)}</small></span>'
    return f"""<li class="card">{_picture(card, folder)}{line}
<span class="gauges">{gauges}</span>{more}<span class="chips">{chips}</span></li>"""


def _picture(card: Card, folder: Path) -> str:
    """The picture, with a link to its file; why there is none, where it cannot be read any more."""
    try:
        uri = data_uri(open_small(card.place, TILE))
    except (ValueError, OSError, MemoryError) as error:
        return f'<span class="why">{escape(_shown(str(error) or "out of memory"))}</span>'
    image = f'<img src="{uri}" alt="{escape(_shown(card.name))}">'
    if isinstance(card.place, TarMember):
        return f'<span class="small">{image}</span>'
    return f'<a class="small" href="{_link(card.place, folder)}">{image}</a>'


def _link(place: Path, folder: Path) -> str:
    """The address of a file from a page in ``folder``; that of the file itself where there is no way (other drives)."""
    try:
        return quote(os.fsencode(Path(os.path.relpath(place, folder)).as_posix()))
    except ValueError:
        return escape(Path(os.path.abspath(place)).as_uri())


def _gauge(gauge: Gauge, top: float) -> str:
    score, at = (100 * min(value / top, 1) for value in (gauge.score, gauge.threshold))
    note = f"<em>{escape(gauge.note)}</em>" if gauge.note else "<span></span>"
    title = escape(f"{gauge.name}: score {gauge.score:.3f}, threshold {gauge.threshold:.3f}")
    return f"""<span class="gauge {gauge.kind}" title="{title}"><span>{escape(gauge.name)}</span>{note}
<span class="scale"><i style="width: {score:.1f}%"></i><u style="left: {at:.1f}%"></u></span>
<small>{gauge.score:.2f}</small></span>"""


def _shown(text: str) -> str:
    """A text whose bytes that are no UTF-8, of a file's name, are replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")
