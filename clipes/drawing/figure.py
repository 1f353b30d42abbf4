"""The figure of one result: picture, the map of each label, mask and confidence; and what all figures share.

matplotlib (the extra ``plot``) is imported when a figure is drawn. Only its objects are used, not pyplot, and
its default settings, not the user's: no global setting changes and no window opens.
"""

from __future__ import annotations

import os
import textwrap
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipes.ids import ignore_index, voc_palette
from clipes.io.atomic import atomic

from .colours import IGNORED, colours_of
from .masks import outline_mask
from .optional import require_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Figure  # re-exported for result.py
    from matplotlib.image import AxesImage

SUFFIXES = (".png", ".svg", ".pdf")
WIDTH, _MIN_WIDTH = 6.9, 3  # inches: the text width of a page with two columns, the width of two colour bars
MAPS, CONFIDENCE = "inferno", "viridis"  # perceptually uniform, and easy to tell apart
INK, GREY = "#222222", "#767676"
_TITLE_SIZE, SMALL_SIZE = 8, 7  # points
NAME_WIDTH = 1.8  # inches of a name in a legend
_MAX_NAME = 200  # characters: a longer name is cut to this before it is measured
_MIN_CELL, _MIN_SIDE, _MAX_HEIGHT = 0.8, 0.9, 2.4  # inches: of a title, of a panel's geometric mean, of a panel
_MAX_ASPECT = 20  # flatter pictures are distorted to this ratio, because they would look like lines
_MAX_PIXELS = 1200  # of a panel's longer side; larger pictures are averaged
_DOTS_PER_INCH, _MAX_DOTS = 300, 50_000  # matplotlib's limit is 2^16 per side
_TICKS = {"color": GREY, "labelcolor": INK, "labelsize": SMALL_SIZE, "major.size": 2, "major.pad": 2}
_STYLE: dict[str, Any] = {
    "pdf.fonttype": 42,  # TrueType
    "text.parse_math": False,  # names may contain $ and backslashes
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.labelsize": SMALL_SIZE,
    "axes.titlesize": _TITLE_SIZE,
    "axes.titlepad": 3,
    "figure.constrained_layout.w_pad": 0.02,
    "figure.constrained_layout.wspace": 0,
    "figure.constrained_layout.hspace": 0,
    "legend.fontsize": SMALL_SIZE,
    "legend.frameon": False,
    **{f"{axis}.{name}": value for axis in ("xtick", "ytick") for name, value in _TICKS.items()},
}

Mark = Callable[["Axes"], None]
"""Draws on a panel."""


class Panel(NamedTuple):
    """A map (h, w) or a picture (h, w, 3) uint8 of the full image, of any resolution, and the marks drawn on it."""

    title: str
    values: NDArray[Any]
    marks: tuple[Mark, ...] = ()
    most: float = 1.0  # the value drawn in the brightest colour; 0 is drawn in the darkest
    colours: str = MAPS
    smooth: bool = True  # whether matplotlib may interpolate between pixels


def check_plot(path: str | os.PathLike[str]) -> Path:
    """Check that a plot can be written to ``path`` and return it as a Path.

    Raises ValueError unless its suffix is one of :data:`SUFFIXES`, :class:`clipes.drawing.optional.PlotError` without
    matplotlib.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"a plot is {', '.join(SUFFIXES)}, not {path.name!r}; end its name in one of them")
    require_matplotlib()
    return path


@contextmanager
def _style() -> Iterator[None]:
    """Draw with matplotlib's default settings and those of this module."""
    import matplotlib.style

    with warnings.catch_warnings(), matplotlib.style.context(["default", _STYLE]):
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # a box is drawn, which says enough
        yield


@contextmanager
def drawing(path: str | os.PathLike[str], size: tuple[float, float], dots: float = 180) -> Iterator[Figure]:
    """Yield an empty figure of ``size`` inches with ``dots`` per inch; write it to ``path`` if the block succeeds.

    Raises what :func:`check_plot` raises.
    """
    path = check_plot(path)
    with _style():
        figure = _new_figure(*size, dots)
        yield figure
        save_figure(path, figure)


def _new_figure(width: float, height: float, dots: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dots, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(path: str | os.PathLike[str], figure: Figure, software: str | None = None) -> None:
    """Write ``figure`` to the .png, .svg or .pdf ``path`` atomically; a .pdf embeds its fonts as TrueType.

    ``software`` is the name of the program in the file's metadata. Raises what :func:`check_plot` raises, and OSError
    if the file cannot be written.
    """
    path = check_plot(path)
    kind = path.suffix.lower().removeprefix(".")
    metadata = {"Software" if kind == "png" else "Creator": software} if software else None
    with _style(), atomic(path) as temporary:
        figure.savefig(temporary, format=kind, metadata=metadata)


def figure_png(figure: Figure) -> bytes:
    """``figure`` as a PNG file with half its dots per inch, for a screen."""
    file = BytesIO()
    with _style():
        figure.savefig(file, format="png", dpi=figure.dpi / 2)
    return file.getvalue()


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
        confidence: (H, W) in [0, 1], that before the CRF or PAR.
        classes: number of classes of the data set, which decides the mask's ignore value.
        width: inches, the largest width of the figure.

    The figure has 300 dots per inch and text of 7 and 8 points. The mask's colours are those of its file's palette. A
    picture with a side above 1,200 pixels is reduced to 1,200; one flatter than 20:1 is distorted to that ratio.

    Raises ValueError for a width below 3 inches, :class:`clipes.drawing.optional.PlotError` without matplotlib.
    """
    if not _MIN_WIDTH <= width < np.inf:
        raise ValueError(f"a figure {width} inches wide has no room for its text; give {_MIN_WIDTH} or more")
    require_matplotlib()
    picture = _reduced(image)
    panels = [
        Panel("picture", picture),
        *(Panel(label, _reduced(Image.fromarray(cam))) for label, cam in zip(labels, cams, strict=True)),
        Panel("mask", np.asarray(outline_mask(mask, picture.shape[1::-1])), smooth=False),
        Panel("confidence", _reduced(Image.fromarray(confidence)), colours=CONFIDENCE),
    ]
    aspect = float(np.clip(image.width / image.height, 1 / _MAX_ASPECT, _MAX_ASPECT))
    legend = [*zip(labels, colours_of(class_ids), strict=True)]
    if (mask == 0).any():
        legend.insert(0, ("background", voc_palette()[0]))
    if (mask == ignore_index(classes)).any():
        legend.append(("ignored", voc_palette()[IGNORED]))
    with _style():
        figure = _draw_grid(panels, aspect, width, ["label maps", "confidence"] if labels else ["confidence"])
        add_legend(figure, legend)
        fit_height(figure, figure.axes[: len(panels)], aspect, _MAX_HEIGHT)
    return figure


def fit_text(text: str, width: float, size: float, lines: int = 1) -> str:
    """``text`` of ``size`` points in at most ``lines`` lines of ``width`` inches; a longer one ends in an ellipsis.

    Each control or direction character is replaced by U+FFFD, and white space by a single space.
    """
    plain = ("\ufffd" if unicodedata.category(c)[0] == "C" else c for c in text[:_MAX_NAME])
    text = " ".join("".join(plain).split())
    for length in range(len(text), 0, -1):
        wrapped = textwrap.wrap(text, length)
        if len(wrapped) > lines:
            wrapped[lines - 1 :] = [f"{wrapped[lines - 1][: max(1, length - 1)]}…"]
        if all(text_width(line, size) <= width for line in wrapped):
            return "\n".join(wrapped)
    return text[:1]


def text_width(text: str, size: float) -> float:
    """The width in inches of a line of text of ``size`` points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    return float(text_to_path.get_text_width_height_descent(text, FontProperties(size=size), False)[0]) / 72


def _reduced(image: Image.Image) -> NDArray[Any]:
    """The pixels of an image, averaged if it is larger than needed."""
    small = image.copy()
    small.thumbnail((_MAX_PIXELS, _MAX_PIXELS), Image.Resampling.BOX, reducing_gap=None)
    return np.asarray(small)


def _draw_grid(panels: Sequence[Panel], aspect: float, width: float, bars: Sequence[str]) -> Figure:
    """Panels in as few rows as possible, evenly spread, with a row of colour bars below them."""
    min_cell = min(max(_MIN_SIDE * aspect**0.5, _MIN_CELL), width)
    rows = -(-len(panels) // int(width / min_cell))
    columns = -(-len(panels) // rows)
    cell = max(min(width / columns, _MAX_HEIGHT * aspect), _MIN_CELL)
    tall = min(cell / aspect, _MAX_HEIGHT)
    size = max(columns * cell, _MIN_WIDTH), rows * (tall + 0.3) + 1  # the height is adapted later
    figure = _new_figure(*size, min(_DOTS_PER_INCH, _MAX_DOTS / max(size)))
    grid = figure.add_gridspec(rows + 1, 2 * columns, height_ratios=[*[tall] * rows, 0.09])
    shown = []
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        axis = figure.add_subplot(grid[row, 2 * column : 2 * column + 2])
        shown.append(show_panel(axis, panel, cell - 0.1))
    step = 2 * columns // len(bars)
    for number, (name, mapped) in enumerate(zip(bars, (shown[1], shown[-1])[-len(bars) :], strict=True)):
        axis = figure.add_subplot(grid[-1, number * step : (number + 1) * step], box_aspect=1 / 15, title=name)
        figure.colorbar(mapped, cax=axis, orientation="horizontal", ticks=[0, 0.5, 1], format="%g")
    return figure


def show_panel(axis: Axes, panel: Panel, width: float, **options: Any) -> AxesImage:
    """Show the panel below its title of at most ``width`` inches."""
    options |= {"cmap": panel.colours, "vmin": 0, "vmax": panel.most, "aspect": "auto"}
    shown = axis.imshow(panel.values, interpolation="antialiased" if panel.smooth else "nearest", **options)
    axis.set(xticks=[], yticks=[])
    axis.set_title(fit_text(panel.title, width, _TITLE_SIZE, lines=2))
    axis.spines[:].set_linewidth(0.4)
    for mark in panel.marks:
        mark(axis)
    return shown


def add_legend(figure: Figure, entries: Sequence[tuple[str, NDArray[np.uint8]]]) -> None:
    """Add a legend below all else: a square of each colour with its name, in as many columns as the widest allows."""
    from matplotlib.patches import Patch

    if not entries:
        return
    names = [fit_text(name, NAME_WIDTH, SMALL_SIZE) for name, _ in entries]
    most = int(figure.get_figwidth() / (max(text_width(name, SMALL_SIZE) for name in names) + 0.4))
    columns = -(-len(names) // -(-len(names) // most))  # the same number of names in each, if possible
    squares = [Patch(facecolor=tuple(colour / 255), edgecolor=GREY, linewidth=0.4) for _, colour in entries]
    look: Any = {"handlelength": 1, "handleheight": 1, "ncols": columns}
    legend = figure.legend(squares, [" "] * len(names), loc="outside lower center", **look)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)  # a name given to legend() must not begin with _


def fit_height(figure: Figure, panels: Sequence[Any], aspect: float, highest: float = np.inf) -> None:
    """Set the figure's height so that its panels, of ``aspect`` (width over height), fill their cells; fix the layout.

    The panels get their aspect after the titles' heights are known: constrained layout does not measure a title that
    lies within its panel's cell.
    """
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * panels[0].get_position().size
    grid: Any = panels[0].get_subplotspec().get_gridspec()
    ratios = grid.get_height_ratios() or [1] * grid.nrows
    missing = min(width / aspect, highest) - height
    figure.set_figheight(figure.get_figheight() + missing * sum(ratios) / ratios[0])
    for axis in panels:
        axis.set_box_aspect(1 / aspect)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
