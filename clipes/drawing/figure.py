"""A figure of one result: picture, the map of each label, mask and confidence, side by side, for a paper or a slide.

matplotlib (``pip install clipes[plot]``) is imported when a figure is drawn. It is used through objects alone:
neither its global settings nor its windows are touched.
"""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipes.ids import ignore_index, voc_palette
from clipes.io.atomic import atomic

from .overlay import IGNORED, colours_of, outline_mask

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Figure  # result.py names it, too

SUFFIXES = (".png", ".svg", ".pdf")
WIDTH, _THINNEST = 6.9, 3  # inches: the text of a page of two columns, and what the colour bars need

MAPS, CONFIDENCE = "inferno", "viridis"  # both perceptually uniform, and not to be taken for each other
INK, GREY = "#222222", "#767676"
_TITLE, _SMALL = 8, 7  # points
_LINE, _ENTRY = 0.14, 0.15  # inches: a line of a title, a row of the legend
_GAP, _MARGIN, _NARROWEST = 0.06, 0.03, 0.75  # inches: between panels, around them, of a panel's title
_LEAST, _HIGHEST = 0.85, 2.4  # inches: of a panel, its mean side at least, its height at most
_LONGEST = 20  # times its shorter side: pictures beyond are squeezed, for they would be lines
_BAR, _BLOCK, _BARS = 1.2, 1.45, 0.42  # inches: a colour bar's width, with the room beside it, its height with text
_NAME, _MOST_LETTERS = 1.8, 200  # of a name in the legend: inches, and letters looked at
_FINEST = 1200  # pixels of a panel's longer side; larger pictures are averaged
_DOTS_PER_INCH, _MOST_DOTS = 300, 60_000  # matplotlib's limit is 2^16 a side


class PlotError(ImportError):
    """matplotlib is not there; the message says how to get it."""


def check_plot(path: str | os.PathLike[str]) -> Path:
    """``path`` itself; ValueError unless its suffix is one of :data:`SUFFIXES`, PlotError without matplotlib."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"a plot is {', '.join(SUFFIXES)}, not {path.name!r}; end its name in one of them")
    _import()
    return path


def _import() -> None:
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise PlotError(f"plots need matplotlib ({error}): pip install clipes[plot]") from error


def save_figure(path: str | os.PathLike[str], figure: Figure, software: str | None = None) -> None:
    """Write ``figure`` to the .png, .svg or .pdf ``path``, whole or not at all; a .pdf embeds its fonts as TrueType.

    ``software`` is what its text says made it. Raises as :func:`check_plot`, OSError where it cannot be written.
    """
    path = check_plot(path)
    kind = path.suffix.lower().removeprefix(".")
    metadata = {"Software" if kind == "png" else "Creator": software} if software else None
    with atomic(path) as temporary:
        _write(temporary, figure, format=kind, metadata=metadata)


def figure_png(figure: Figure) -> bytes:
    """``figure`` as a PNG file of half its dots, for a screen."""
    file = BytesIO()
    _write(file, figure, format="png", dpi=figure.dpi / 2)
    return file.getvalue()


def _write(file: Path | BytesIO, figure: Figure, **options: Any) -> None:
    import matplotlib

    with warnings.catch_warnings(), matplotlib.rc_context({"pdf.fonttype": 42}):
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # a box is drawn, which says enough
        figure.savefig(file, **options)


def draw_figure(
    image: Image.Image,
    labels: Sequence[str],
    class_ids: Sequence[int],
    cams: NDArray[np.float32],
    mask: NDArray[Any],
    confidence: NDArray[np.float32],
    classes: int,
    width: float = WIDTH,
) -> Figure:
    """The RGB ``image``, maps (C, H, W) of its C labels, mask (H, W) and confidence (H, W) in panels of one size.

    The figure is at most ``width`` inches wide, with 300 dots each; its text has 7 and 8 points. Maps and confidence
    lie in [0, 1], for which each has its colour bar. The mask's colours are its file's palette, named in a legend.
    Pictures of more than 1,200 pixels a side are reduced to that, those beyond 20:1 squeezed.

    Raises ValueError for a width below 3 inches, :class:`PlotError` without matplotlib.
    """
    if not _THINNEST <= width < np.inf:
        raise ValueError(f"a figure {width} inches wide has no room for its text; give {_THINNEST} or more")
    _import()
    panels = _panels(image, labels, cams, mask, confidence)
    bars = {"label maps": MAPS, "confidence": CONFIDENCE} if labels else {"confidence": CONFIDENCE}
    entries = _entries(labels, class_ids, mask, classes)
    grid = _grid(len(panels), image.width / image.height, width)
    titles = [_wrapped(panel.title, grid.cell) for panel in panels]
    head = max(title.count("\n") + 1 for title in titles) * _LINE + 0.02
    step = head + grid.high + _GAP
    legend = _Legend([cut_text(name, _NAME, _SMALL) for name, _ in entries], grid.width, len(bars) * _BLOCK)
    sheet = _Sheet(grid.width, grid.rows * step + max(_BARS, legend.height) + _MARGIN)
    for number, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        row, column = divmod(number, grid.columns)
        x, y = grid.left + column * (grid.cell + _GAP) + grid.cell / 2, row * step + head
        sheet.write(x, y - 0.05, title, _TITLE, ha="center", va="baseline")
        sheet.show((x - grid.wide / 2, y, grid.wide, grid.high), panel)
    foot = grid.rows * step
    for number, (title, colours) in enumerate(bars.items()):
        _draw_bar(sheet, _MARGIN + 0.05 + number * _BLOCK, foot, title, colours)
    for (_, colour), name, (x, y) in zip(entries, legend.names, legend.places(), strict=True):
        sheet.show((x, foot + y + 0.02, 0.1, 0.1), _Panel(name, colour[None, None], smooth=False))
        sheet.write(x + 0.15, foot + y + 0.105, name, _SMALL, ha="left", va="baseline")
    return sheet.figure


@dataclass(frozen=True)
class _Panel:
    """What is shown: RGB (H, W, 3), or values (H, W) in [0, 1] and the name of their colours."""

    title: str
    values: NDArray[Any]
    colours: str | None = None
    smooth: bool = True  # whether pixels may be mixed


def _panels(
    image: Image.Image,
    labels: Sequence[str],
    cams: NDArray[np.float32],
    mask: NDArray[Any],
    confidence: NDArray[np.float32],
) -> list[_Panel]:
    size = _fine(image.size)
    maps = [_Panel(label, _averaged(cam, size), MAPS) for label, cam in zip(labels, cams, strict=True)]
    return [
        _Panel("picture", np.asarray(image.resize(size, Image.Resampling.BOX))),
        *maps,
        _Panel("mask", np.asarray(outline_mask(mask, size)), smooth=False),
        _Panel("confidence", _averaged(confidence, size), CONFIDENCE),
    ]


def _entries(
    labels: Sequence[str], class_ids: Sequence[int], mask: NDArray[Any], classes: int
) -> list[tuple[str, NDArray[np.uint8]]]:
    """The legend's names and colours: all labels, background and ignored where they occur."""
    named = [*zip(labels, colours_of(class_ids), strict=True)]
    background = [("background", voc_palette()[0])] if (mask == 0).any() else []
    ignored = [("ignored", voc_palette()[IGNORED])] if (mask == ignore_index(classes)).any() else []
    return [*background, *named, *ignored]


@dataclass(frozen=True)
class _Grid:
    """Cells as wide as a title needs, ``cell`` inches; in the middle of each a picture, ``wide`` x ``high``."""

    rows: int
    columns: int
    wide: float
    high: float
    cell: float
    left: float  # where the first column begins
    width: float  # of the whole figure


def _grid(count: int, aspect: float, width: float) -> _Grid:
    """As few rows as there can be with panels that are not too small, all about equally long."""
    aspect = min(max(aspect, 1 / _LONGEST), _LONGEST)
    room = width - 2 * _MARGIN
    least = min(max(_LEAST * aspect**0.5, _NARROWEST), room)
    rows = -(-count // int((room + _GAP) / (least + _GAP)))
    columns = -(-count // rows)
    wide = min((room + _GAP) / columns - _GAP, _HIGHEST * aspect)
    cell = max(wide, _NARROWEST)
    taken = columns * (cell + _GAP) - _GAP
    whole = max(taken + 2 * _MARGIN, _THINNEST)
    return _Grid(rows, columns, wide, wide / aspect, cell, (whole - taken) / 2, whole)


class _Sheet:
    """A figure on which things are placed in inches from its left upper corner."""

    def __init__(self, width: float, height: float) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        dots = min(_DOTS_PER_INCH, _MOST_DOTS / max(width, height))
        self.figure = Figure(figsize=(width, height), dpi=dots, facecolor="white")
        self.figure.set_layout_engine("none")  # whatever the settings say
        FigureCanvasAgg(self.figure)
        self._size = np.array([width, height])

    def show(self, box: tuple[float, float, float, float], panel: _Panel) -> None:
        """The panel in a thin frame, at x, y with width and height."""
        (x, y), (width, height) = np.array(box).reshape(2, 2) / self._size
        axis = self.figure.add_axes((x, 1 - y - height, width, height), label=panel.title)
        kind = "antialiased" if panel.smooth else "nearest"
        look: dict[str, Any] = {"cmap": panel.colours, "vmin": 0, "vmax": 1, "interpolation": kind}
        axis.imshow(panel.values, aspect="auto", origin="upper", **look)
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set(visible=True, color=GREY, linewidth=0.4)

    def write(self, x: float, y: float, text: str, size: float, **look: Any) -> None:
        """Text with its alignment as matplotlib's ``ha`` and ``va``."""
        x, y = (x, y) / self._size
        plain: dict[str, Any] = {"usetex": False, "parse_math": False}  # names hold what they hold
        self.figure.text(x, 1 - y, text, fontsize=size, color=INK, linespacing=1.15, **look, **plain)


def _draw_bar(sheet: _Sheet, x: float, y: float, title: str, colours: str) -> None:
    sheet.write(x + _BAR / 2, y + 0.105, title, _SMALL, ha="center", va="baseline")
    sheet.show((x, y + 0.15, _BAR, 0.08), _Panel(title, np.linspace(0, 1, 256)[None], colours))
    for value in (0, 0.5, 1):
        sheet.write(x + value * _BAR, y + 0.34, f"{value:g}", _SMALL, ha="center", va="baseline")


class _Legend:
    """Names in columns: right of the colour bars, which end at ``left`` inches, or below them for want of room."""

    def __init__(self, names: Sequence[str], width: float, left: float) -> None:
        self.names = names
        self._step = max((text_width(name, _SMALL) for name in names), default=0) + 0.3
        beside = width - left >= max(self._step, 0.35 * width)
        self._x, self._y = (left, 0.0) if beside else (_MARGIN, _BARS)
        self._columns = max(1, int((width - self._x) / self._step))
        self.height = self._y + -(-len(names) // self._columns) * _ENTRY

    def places(self) -> list[tuple[float, float]]:
        """x, y of each, from the footer's left upper corner."""
        cells = (divmod(number, self._columns) for number in range(len(self.names)))
        return [(self._x + column * self._step, self._y + row * _ENTRY) for row, column in cells]


def _fine(size: tuple[int, int]) -> tuple[int, int]:
    """The size in pixels at which a picture is shown."""
    part = min(1, _FINEST / max(size))
    return max(1, round(size[0] * part)), max(1, round(size[1] * part))


def _averaged(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BOX))


def _wrapped(title: str, width: float) -> str:
    """One or two lines of at most ``width`` inches."""
    words = plain_text(title).split()
    for count in range(len(words), 0, -1):
        first, rest = " ".join(words[:count]), " ".join(words[count:])
        if text_width(first, _TITLE) <= width:
            return f"{first}\n{cut_text(rest, width, _TITLE)}" if rest else first
    return cut_text(title, width, _TITLE)


def cut_text(text: str, width: float, size: float) -> str:
    """As much of ``text`` as goes on a line of ``width`` inches."""
    text = " ".join(plain_text(text[:_MOST_LETTERS]).split())
    if text_width(text, size) <= width:
        return text
    return next(cut for n in range(len(text) - 1, -1, -1) if text_width(cut := f"{text[:n]}…", size) <= width or n == 0)


def plain_text(text: str) -> str:
    """``text`` without control characters and the marks that turn text round."""
    return "".join("\ufffd" if unicodedata.category(c)[0] == "C" else " " if c.isspace() else c for c in text)


def text_width(text: str, size: float) -> float:
    """Inches of a line of text of ``size`` points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        return float(text_to_path.get_text_width_height_descent(text, FontProperties(size=size), False)[0]) / 72
