"""Pages of one HTML file, with their style and their pictures in it and without a script."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from io import BytesIO
from string import Template

from PIL import Image

from clipes._version import __version__

Style = tuple[str, str]
"""The wing and the name of a style sheet."""

COMMON: Style = ("report", "style.css")

_NUMBER = ' class="number"'


def single_page(
    command: str,
    title: str,
    about: str,
    sections: Iterable[str],
    styles: Iterable[Style],
    *,
    heading: str | None = None,
    columns: int = 1,
) -> str:
    """The HTML of a page.

    ``title`` and ``about`` are texts, ``sections`` are HTML, one with the id ``pictures``; ``heading`` is that of the
    browser's window, by default the command.
    """
    parts = (files(f"clipes.{wing}").joinpath(name).read_text(encoding="utf-8") for wing, name in (COMMON, *styles))
    return Template(files("clipes.report").joinpath("single.html").read_text(encoding="utf-8")).substitute(
        style="\n".join(parts),
        columns=columns,
        command=escape(command),
        heading=escape(heading or command),
        title=escape(title),
        about=escape(about),
        sections="\n".join(sections),
        made=escape(f"clipes {__version__}, {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}"),
    )


def data_uri(picture: Image.Image) -> str:
    """A picture as a JPEG within a page."""
    file = BytesIO()
    picture.save(file, format="JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def tiles(values: Iterable[tuple[str, str]]) -> str:
    """Names and values as the row of figures at the head of a page."""
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in values)
    return f'<section aria-label="Figures"><dl id="tiles">{items}</dl></section>'


def section(name: str, title: str, text: str, body: str) -> str:
    """A section with a heading; ``text`` and ``body`` are HTML."""
    heading = f'<h2 id="{name}-title">{escape(title)}</h2>'
    return f"""<section id="{name}" aria-labelledby="{name}-title" tabindex="-1">{heading}
<p class="quiet">{text}</p>{body}</section>"""


def table(heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], first: int, rest: str) -> str:
    """A table: of each row a name, which is text, and cells, which are HTML, under ``heads``.

    Rows after the ``first`` are behind a summary that ends in ``rest``: "more classes".
    """
    titles = "".join(f'<th scope="col"{_NUMBER if place else ""}>{head}</th>' for place, head in enumerate(heads))

    def part(some: Sequence[tuple[str, Sequence[str]]]) -> str:
        lines = (
            f"<tr><td>{escape(name)}</td>" + "".join(f"<td{_NUMBER}>{cell}</td>" for cell in cells) + "</tr>"
            for name, cells in some
        )
        return f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'

    more = rows[first:]
    behind = f"<details><summary>{len(more):,} {rest}</summary>{part(more)}</details>" if more else ""
    return part(rows[:first]) + behind


def metered(value: int, most: int) -> str:
    """A count for a cell of a table, with a bar that is full at ``most``."""
    bar = f'<i class="meter"><i style="width: {100 * value / max(most, 1):.1f}%"></i></i>'
    return f'<span>{bar}<span class="value">{value:,}</span></span>'
