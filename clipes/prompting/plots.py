"""Plots of an analysis of templates: their order by sharpness, and the paper's figure, mean IoU against sharpness.

matplotlib (the extra ``plot``) is imported when a plot is drawn. Its global settings and its windows are not
touched.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from clipes.drawing.figure import GREY, INK, drawing, fit_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BLUE, _ORANGE, _FAINT = "#0072B2", "#D55E00", "#E4E4E4"  # Okabe and Ito's first two
_ROWS_PER_COLUMN = 100  # templates in the first plot
_NAME_WIDTH = 3.1  # inches of a template that are shown
_MAX_ROWS = 30  # above which the axis is written at the top, too
_GAPS = (6, 10, 16, 24, 36, 50, 70, 95, 125)  # points between a dot and its name, to be tried in this order
_DIRECTIONS = np.array(
    [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1), (0.5, 1), (-0.5, 1), (0.5, -1), (-0.5, -1)]
)
_DOTS_PER_INCH = 200


def plot_sharpness(
    path: str | os.PathLike[str],
    templates: Sequence[str],
    sharpness: ArrayLike,
    over_best: ArrayLike,
    title: str,
    marked: Collection[str] = (),
) -> None:
    """Draw T templates in the order of their sharpness, each a dot and a bar; ``marked`` ones stand out.

    Takes sharpness (T,) and the intervals (T, 2) of the differences from the lowest, which are the bars: a template is
    worse than the best if its bar does not reach the dashed line. (The intervals of the sharpness itself say less about
    the order: they are wider, because images differ more than templates do.) The axis is logarithmic where the values
    differ by more than five times. ``path`` is a .png, .svg or .pdf, written atomically.

    Raises ValueError for another suffix, :class:`clipes.drawing.optional.PlotError` without matplotlib.
    """
    values = np.asarray(sharpness, float)
    best, ends = values.min(), values.min() + np.asarray(over_best, float)
    order = np.argsort(values, kind="stable")
    columns = np.array_split(order, -(-len(order) // _ROWS_PER_COLUMN))
    ranks = np.split(1 + np.arange(len(order)), np.cumsum([len(column) for column in columns])[:-1])
    with drawing(path, (7.2 * len(columns), 1.3 + 0.165 * len(columns[0])), _DOTS_PER_INCH) as figure:
        axes = figure.subplots(1, len(columns), squeeze=False)[0]
        for axis, column, rank in zip(axes, columns, ranks, strict=True):
            _share_scale(axis, np.append(values, ends))
            axis.set_ylim(len(columns[0]) - 0.4, -0.6)
            axis.axvline(best, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
            names = [
                f"{fit_text(templates[i], _NAME_WIDTH, 8)}  {place:>2}" for i, place in zip(column, rank, strict=True)
            ]
            _draw_rows(axis, names, values[column], ends[column], [templates[i] in marked for i in column])
        figure.suptitle(title, color=INK, fontsize=12, fontweight="bold", parse_math=False)
        bars = "bars: difference from the best, 95 % of bootstrap draws of the images"
        figure.supxlabel(_caption(templates, marked, bars), color=INK, fontsize=9)


def plot_miou(
    path: str | os.PathLike[str],
    templates: Sequence[str],
    sharpness: ArrayLike,
    miou: ArrayLike,
    title: str,
    marked: Collection[str] = (),
) -> None:
    """Draw mean IoU against sharpness, a dot per template: the paper's figure.

    Arguments and errors as in :func:`plot_sharpness`, with mIoU (T,) in [0, 1]. Names are written beside the ``marked``
    templates and those of the highest and the lowest mIoU and sharpness.
    """
    x, y = np.asarray(sharpness, float), np.asarray(miou, float)
    stand_out = np.array([template in marked for template in templates])
    named = dict.fromkeys([*np.flatnonzero(stand_out), y.argmax(), y.argmin(), x.argmin(), x.argmax()])
    with drawing(path, (7.2, 5.4), _DOTS_PER_INCH) as figure:
        axis = figure.subplots()
        _share_scale(axis, x)
        axis.scatter(x[~stand_out], y[~stand_out], s=24, color=_BLUE, alpha=0.8, linewidth=0, zorder=2)
        axis.scatter(x[stand_out], y[stand_out], s=46, color=_ORANGE, marker="D", linewidth=0, zorder=3)
        axis.set_title(title, color=INK, fontsize=12, fontweight="bold", pad=10, parse_math=False)
        axis.set_xlabel(_caption(templates, marked), color=INK, fontsize=9)
        axis.set_ylabel("mean IoU", color=INK, fontsize=9)
        axis.margins(y=0.12)
        figure.draw_without_rendering()  # from here on the axes stay where they are
        figure.set_layout_engine("none")
        _place_names(
            axis, np.stack([x, y], 1), {int(i): fit_text(templates[i], _NAME_WIDTH, 8) for i in named}, stand_out
        )


def _caption(templates: Sequence[str], marked: Collection[str], *parts: str) -> str:
    shown = ["orange: the paper's"] if set(templates) & set(marked) else []
    return "\n".join(["; ".join(["sharpness, lower is better", *shown]), *parts])


def _draw_rows(axis: Axes, names: Sequence[str], values: Any, ends: Any, stand_out: Sequence[bool]) -> None:
    """One column of templates: name and rank, a faint guide, interval, dot."""
    rows = np.arange(len(names))
    colours = [_ORANGE if out else _BLUE for out in stand_out]
    axis.hlines(rows, axis.get_xlim()[0], values, color=_FAINT, linewidth=0.5, zorder=1)
    axis.hlines(rows, *ends.T, color=colours, alpha=0.4, linewidth=2.4, zorder=2)
    axis.scatter(values, rows, s=22, color=colours, linewidth=0, zorder=3)
    axis.set_yticks(rows, names)
    for label, out in zip(axis.get_yticklabels(), stand_out, strict=True):
        label.set(color=_ORANGE if out else INK, fontweight="bold" if out else "normal", parse_math=False)
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", which="both", top=len(rows) > _MAX_ROWS, labeltop=len(rows) > _MAX_ROWS)
    axis.grid(visible=False, axis="y")


def _share_scale(axis: Axes, values: Any) -> None:
    """Set the common style and scale of an axis: logarithmic if the values differ by more than five times."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    low, high = values.min(), values.max()
    if 0 < 5 * low < high:
        axis.set_xscale("log")
        axis.set_xlim(low / (high / low) ** 0.04, high * (high / low) ** 0.04)
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
    else:
        room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        axis.set_xlim(low - room, high + room)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color(GREY)
    axis.tick_params(axis="both", labelsize=8, color=GREY, labelcolor=INK)
    axis.grid(color=_FAINT, linewidth=0.6)
    axis.set_axisbelow(True)


def _place_names(axis: Axes, points: Any, names: dict[int, str], stand_out: Any) -> None:
    """Write the names beside their dots, each at the nearest place where it covers no dot, line or other name."""
    from matplotlib.path import Path
    from matplotlib.patheffects import Normal, Stroke
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    figure: Any = axis.figure
    renderer = figure.canvas.get_renderer()
    inside, pixels = axis.get_window_extent(renderer), figure.dpi / 72  # per point
    dots = axis.transData.transform(points)
    boxes: list[Any] = []  # of the names that are placed
    lines: list[Any] = []  # from them to their dots
    arrow = {"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
    for index, name in names.items():
        look: Any = {"color": _ORANGE, "fontweight": "bold"} if stand_out[index] else {"color": INK}
        look |= {"ha": "center", "va": "center", "fontsize": 8, "arrowprops": arrow, "zorder": 4}
        text = axis.annotate(name, points[index], (0, 0), textcoords="offset points", **look)
        text.set_parse_math(False)
        text.set_path_effects([Stroke(linewidth=2, foreground="white"), Normal()])  # legible upon lines
        dot, half = dots[index], np.array(Text.get_window_extent(text, renderer).size) / 2  # without the line
        others = np.delete(dots, index, axis=0)

        def cost(offset: Any, dot: Any = dot, half: Any = half, others: Any = others) -> int:
            box, line = Bbox([dot + offset - half, dot + offset + half]), Path([dot, dot + offset])
            outside = not (inside.contains(*box.min) and inside.contains(*box.max))
            crossed = sum(line.intersects_bbox(other) for other in boxes)
            crossed += sum(other.intersects_bbox(box) for other in lines)
            along = dot + np.linspace(0, 1, 40)[:, None] * offset
            crossed += (np.linalg.norm(along[:, None] - others, axis=2) < 3 * pixels).any(0).sum()
            covered = box.padded(3 * pixels).count_contains(dots)
            return int(100 * outside + 10 * box.count_overlaps(boxes) + 5 * crossed + 3 * covered)

        offset = min((way * (half + gap * pixels) for gap in _GAPS for way in _DIRECTIONS), key=cost)
        text.xyann = tuple(offset / pixels)
        boxes.append(Bbox([dot + offset - half, dot + offset + half]).padded(2 * pixels))
        lines.append(Path([dot, dot + offset]))
