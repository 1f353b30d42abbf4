"""A figure of one result: picture, the map of each label, mask and confidence, side by side, for a paper or a slide.

matplotlib (``pip install clipes[plot]``) is imported when a figure is drawn. Only its objects are used, not pyplot, so
that no global setting changes and no window opens.
"""

from __future__ import annotations

import os
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
from .text import cut_text, plain_text, text_width

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Figure  # re-exported for result.py

SUFFIXES = (".png", ".svg", ".pdf")
WIDTH = 6.9  # inches: the text width of a page with two columns
_MIN_WIDTH = 3  # inches: the width of two colour bars

MAPS, CONFIDENCE = "inferno", "viridis"  # perceptually uniform, and easy to tell apart
INK, GREY = "#222222", "#767676"
_TITLE_SIZE, _SMALL_SIZE = 8, 7  # points
_TITLE_LINE, _LEGEND_ROW = 0.14, 0.15  # heights in inches
_GAP, _MARGIN = 0.06, 0.03  # inches: between the panels, and around them
_MIN_CELL = 0.75  # inches: the smallest width of a panel's title
_MIN_SIDE, _MAX_HEIGHT = 0.85, 2.4  # inches of a panel; the first is the geometric mean of its sides
_MAX_ASPECT = 20  # flatter pictures are distorted to this ratio, because they would look like lines
_BAR_WIDTH, _BAR_STEP, _BAR_HEIGHT = 1.2, 1.45, 0.42  # inches of a colour bar: alone, with its gap, with its text
_NAME_WIDTH = 1.8  # inches of a name in the legend
_MAX_PIXELS = 1200  # of a panel's longer side; larger pictures are averaged
_DOTS_PER_INCH, _MAX_DOTS = 300, 60_000  # matplotlib's limit is 2^16 per side


class PlotError(ImportError):
    """matplotlib cannot be imported; the message says how to install it."""


def check_plot(path: str | os.PathLike[str]) -> Path:
    """Check that a plot can be written to ``path`` and return it as a Path.

    Raises ValueError unless its suffix is one of :data:`SUFFIXES`, PlotError without matplotlib.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"a plot is {', '.join(SUFFIXES)}, not {path.name!r}; end its name in one of them")
    _require_matplotlib()
    return path


def _require_matplotlib() -> None:
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise PlotError(f"plots need matplotlib ({error}): pip install clipes[plot]") from error


def save_figure(path: str | os.PathLike[str], figure: Figure, software: str | None = None) -> None:
    """Write ``figure`` to the .png, .svg or .pdf ``path`` atomically; a .pdf embeds its fonts as TrueType.

    ``software`` is the name of the program in the file's metadata. Raises what :func:`check_plot` raises, and OSError
    if the file cannot be written.
    """
    path = check_plot(path)
    kind = path.suffix.lower().removeprefix(".")
    metadata = {"Software" if kind == "png" else "Creator": software} if software else None
    with atomic(path) as temporary:
        _write(temporary, figure, format=kind, metadata=metadata)


def figure_png(figure: Figure) -> bytes:
    """``figure`` as a PNG file with half its dots per inch, for a screen."""
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
    """Draw picture, label maps, mask and confidence in panels of one size, with colour bars and a legend.

    Args:
        image: the RGB picture.
        labels: the C class names of the image.
        class_ids: their ids in the mask.
        cams: (C, H, W) in [0, 1].
        mask: (H, W) of class ids.
        confidence: (H, W) in [0, 1].
        classes: number of classes of the data set, which decides the mask's ignore value.
        width: inches, the largest width of the figure.

    The figure has 300 dots per inch and text of 7 and 8 points. The mask's colours are those of its file's palette. A
    picture with a side above 1,200 pixels is reduced to 1,200; one flatter than 20:1 is distorted to that ratio.

    Raises ValueError for a width below 3 inches, :class:`PlotError` without matplotlib.
    """
    if not _MIN_WIDTH <= width < np.inf:
        raise ValueError(f"a figure {width} inches wide has no room for its text; give {_MIN_WIDTH} or more")
    _require_matplotlib()
    panels = _panels(image, labels, cams, mask, confidence)
    bars = {"label maps": MAPS, "confidence": CONFIDENCE} if labels else {"confidence": CONFIDENCE}
    entries = _legend_entries(labels, class_ids, mask, classes)
    grid = _grid(len(panels), image.width / image.height, width)
    titles = [_wrapped(panel.title, grid.cell) for panel in panels]
    head = max(title.count("\n") + 1 for title in titles) * _TITLE_LINE + 0.02
    step = head + grid.high + _GAP
    names = [cut_text(name, _NAME_WIDTH, _SMALL_SIZE) for name, _ in entries]
    legend = _Legend(names, grid.width, len(bars) * _BAR_STEP)
    canvas = _Canvas(grid.width, grid.rows * step + max(_BAR_HEIGHT, legend.height) + _MARGIN)
    for number, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        row, column = divmod(number, grid.columns)
        x, y = grid.left + column * (grid.cell + _GAP) + grid.cell / 2, row * step + head
        canvas.write(x, y - 0.05, title, _TITLE_SIZE, ha="center", va="baseline")
        canvas.show((x - grid.wide / 2, y, grid.wide, grid.high), panel)
    foot = grid.rows * step
    for number, (title, colours) in enumerate(bars.items()):
        _draw_bar(canvas, _MARGIN + 0.05 + number * _BAR_STEP, foot, title, colours)
    for (_, colour), name, (x, y) in zip(entries, legend.names, legend.positions(), strict=True):
        canvas.show((x, foot + y + 0.02, 0.1, 0.1), _Panel(name, colour[None, None], smooth=False))
        canvas.write(x + 0.15, foot + y + 0.105, name, _SMALL_SIZE, ha="left", va="baseline")
    return canvas.figure


@dataclass(frozen=True)
class _Panel:
    """The content of a panel: RGB (H, W, 3), or values (H, W) in [0, 1] with the name of a colour map."""

    title: str
    values: NDArray[Any]
    colours: str | None = None
    smooth: bool = True  # whether matplotlib may interpolate between pixels


def _panels(
    image: Image.Image,
    labels: Sequence[str],
    cams: NDArray[np.float32],
    mask: NDArray[Any],
    confidence: NDArray[np.float32],
) -> list[_Panel]:
    size = _shown_size(image.size)
    maps = [_Panel(label, _resized(cam, size), MAPS) for label, cam in zip(labels, cams, strict=True)]
    return [
        _Panel("picture", np.asarray(image.resize(size, Image.Resampling.BOX))),
        *maps,
        _Panel("mask", np.asarray(outline_mask(mask, size)), smooth=False),
        _Panel("confidence", _resized(confidence, size), CONFIDENCE),
    ]


def _legend_entries(
    labels: Sequence[str], class_ids: Sequence[int], mask: NDArray[Any], classes: int
) -> list[tuple[str, NDArray[np.uint8]]]:
    """The legend's names and colours: all labels, and "background" and "ignored" if the mask has such pixels."""
    classes_shown = [*zip(labels, colours_of(class_ids), strict=True)]
    background = [("background", voc_palette()[0])] if (mask == 0).any() else []
    ignored = [("ignored", voc_palette()[IGNORED])] if (mask == ignore_index(classes)).any() else []
    return [*background, *classes_shown, *ignored]


@dataclass(frozen=True)
class _Grid:
    """The layout of the panels, in inches: cells ``cell`` wide, each with a picture ``wide`` x ``high`` at its centre.

    A cell is wider than its picture if the picture's title needs the space.
    """

    rows: int
    columns: int
    wide: float
    high: float
    cell: float
    left: float  # x of the first column's left edge
    width: float  # of the figure


def _grid(count: int, aspect: float, width: float) -> _Grid:
    """The layout of ``count`` panels with as few rows as possible, and the panels spread evenly over the rows."""
    aspect = min(max(aspect, 1 / _MAX_ASPECT), _MAX_ASPECT)
    available = width - 2 * _MARGIN
    min_cell = min(max(_MIN_SIDE * aspect**0.5, _MIN_CELL), available)
    rows = -(-count // int((available + _GAP) / (min_cell + _GAP)))
    columns = -(-count // rows)
    wide = min((available + _GAP) / columns - _GAP, _MAX_HEIGHT * aspect)
    cell = max(wide, _MIN_CELL)
    used = columns * (cell + _GAP) - _GAP
    figure_width = max(used + 2 * _MARGIN, _MIN_WIDTH)
    return _Grid(rows, columns, wide, wide / aspect, cell, (figure_width - used) / 2, figure_width)


class _Canvas:
    """A matplotlib figure whose parts are placed in inches from its upper left corner."""

    def __init__(self, width: float, height: float) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        dots = min(_DOTS_PER_INCH, _MAX_DOTS / max(width, height))
        self.figure = Figure(figsize=(width, height), dpi=dots, facecolor="white")
        self.figure.set_layout_engine("none")  # overrides the user's matplotlib settings
        FigureCanvasAgg(self.figure)
        self._size = np.array([width, height])

    def show(self, box: tuple[float, float, float, float], panel: _Panel) -> None:
        """Draw the panel in a thin frame; ``box`` is x, y, width and height."""
        (x, y), (width, height) = np.array(box).reshape(2, 2) / self._size
        axis = self.figure.add_axes((x, 1 - y - height, width, height), label=panel.title)
        kind = "antialiased" if panel.smooth else "nearest"
        look: dict[str, Any] = {"cmap": panel.colours, "vmin": 0, "vmax": 1, "interpolation": kind}
        axis.imshow(panel.values, aspect="auto", origin="upper", **look)
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set(visible=True, color=GREY, linewidth=0.4)

    def write(self, x: float, y: float, text: str, size: float, **look: Any) -> None:
        """Write text at x, y; ``look`` holds matplotlib's ``ha`` and ``va``, the alignment."""
        x, y = (x, y) / self._size
        plain: dict[str, Any] = {"usetex": False, "parse_math": False}  # names may contain $ and backslashes
        self.figure.text(x, 1 - y, text, fontsize=size, color=INK, linespacing=1.15, **look, **plain)


def _draw_bar(canvas: _Canvas, x: float, y: float, title: str, colours: str) -> None:
    canvas.write(x + _BAR_WIDTH / 2, y + 0.105, title, _SMALL_SIZE, ha="center", va="baseline")
    canvas.show((x, y + 0.15, _BAR_WIDTH, 0.08), _Panel(title, np.linspace(0, 1, 256)[None], colours))
    for value in (0, 0.5, 1):
        canvas.write(x + value * _BAR_WIDTH, y + 0.34, f"{value:g}", _SMALL_SIZE, ha="center", va="baseline")


class _Legend:
    """The layout of the legend: names in columns, right of the colour bars, or below them if the space is too narrow.

    ``width`` is the figure's, ``left`` the right edge of the colour bars, both in inches.
    """

    def __init__(self, names: Sequence[str], width: float, left: float) -> None:
        self.names = names
        self._step = max((text_width(name, _SMALL_SIZE) for name in names), default=0) + 0.3
        fits_right = width - left >= max(self._step, 0.35 * width)
        self._x, self._y = (left, 0.0) if fits_right else (_MARGIN, _BAR_HEIGHT)
        self._columns = max(1, int((width - self._x) / self._step))
        self.height = self._y + -(-len(names) // self._columns) * _LEGEND_ROW

    def positions(self) -> list[tuple[float, float]]:
        """x, y of each name in inches from the footer's upper left corner."""
        cells = (divmod(number, self._columns) for number in range(len(self.names)))
        return [(self._x + column * self._step, self._y + row * _LEGEND_ROW) for row, column in cells]


def _shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """The size in pixels at which a picture is shown."""
    scale = min(1, _MAX_PIXELS / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _resized(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BOX))


def _wrapped(title: str, width: float) -> str:
    """``title`` in one or two lines of at most ``width`` inches; the second is cut if it is too long."""
    words = plain_text(title).split()
    for count in range(len(words), 0, -1):
        first, rest = " ".join(words[:count]), " ".join(words[count:])
        if text_width(first, _TITLE_SIZE) <= width:
            return f"{first}\n{cut_text(rest, width, _TITLE_SIZE)}" if rest else first
    return cut_text(title, width, _TITLE_SIZE)
