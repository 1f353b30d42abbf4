"""Plots of an analysis of templates: their order by sharpness, and the paper's figure, mean IoU against sharpness.

matplotlib (``pip install clipes[plot]``) is imported when a plot is drawn. Its global settings and its windows are not
touched.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from clipes.drawing.figure import GREY, INK
from clipes.drawing.panels import drawing, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Placement = tuple[tuple[float, float], str, str]  # of a name: offset from its dot in points, and both alignments

_BLUE, _ORANGE, _FAINT = "#0072B2", "#D55E00", "#E4E4E4"  # Okabe and Ito's first two
_ROWS_PER_COLUMN = 100  # templates in the first plot
_NAME_LENGTH = 46  # of a template that are shown
_MAX_ROWS = 30  # above which the axis is written at the top, too
_MIN_LINE = 10  # points from its dot from which on a name needs a line
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

    Raises ValueError for another suffix, :class:`clipes.drawing.figure.PlotError` without matplotlib.
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
                f"{shorten(templates[i], _NAME_LENGTH)}  {place:>2}" for i, place in zip(column, rank, strict=True)
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
        _place_names(axis, np.stack([x, y], 1), {int(i): shorten(templates[i], _NAME_LENGTH) for i in named}, stand_out)


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
    axis.tick_params(
        axis="x",
        which="both",
        top=len(rows) > _MAX_ROWS,
        labeltop=len(rows) > _MAX_ROWS,
    )
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
    """Write the names beside their dots, each at the nearest place where it covers no dot and no other name."""
    from matplotlib.patheffects import Normal, Stroke
    from matplotlib.text import Text

    figure: Any = axis.figure
    renderer = figure.canvas.get_renderer()
    inside, pixels = axis.get_window_extent(renderer), figure.dpi / 72  # of a point
    dots = axis.transData.transform(points)
    placed: list[Any] = []  # names' boxes
    lines = np.empty((0, 2))  # points of the lines that lead to them
    arrow = {"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
    for index, name in names.items():
        look: Any = {"color": _ORANGE, "fontweight": "bold"} if stand_out[index] else {"color": INK}
        text = axis.annotate(
            name, points[index], (0, 0), textcoords="offset points", fontsize=8, arrowprops=arrow, zorder=4, **look
        )
        text.set_parse_math(False)
        text.set_path_effects([Stroke(linewidth=2, foreground="white"), Normal()])  # legible upon lines

        def put(place: Placement, text: Any = text) -> tuple[Any, bool]:
            lined = _put(text, place)
            text.update_positions(renderer)
            return Text.get_window_extent(text, renderer), lined  # an annotation's own holds its line, too

        def cost(place: Placement, put: Any = put, own: int = index, lines: Any = lines) -> int:
            box, lined = put(place)
            outside = not _within(np.array([box.min, box.max]), inside).all()
            # Without a line, a name near another dot would seem to be that one's.
            room = np.where(np.arange(len(dots)) == own, 3, 4 if lined else _MIN_LINE)[:, None] * pixels
            penalty = 100 * outside + 3 * int(_within(dots, box, room).sum()) + 5 * int(_within(lines, box).any())
            penalty += 10 * sum(box.overlaps(other) for other in placed)
            if lined:
                line = _line(dots[own], box)
                apart = np.linalg.norm(line[:, None] - np.delete(dots, own, axis=0), axis=2)
                penalty += int((apart < 3 * pixels).any(0).sum())
                penalty += 5 * sum(bool(_within(line, other).any()) for other in placed)
            return int(penalty)

        box, lined = put(min(_placements(), key=cost))
        placed.append(box.padded(2 * pixels))
        lines = np.concatenate([lines, _line(dots[index], box)]) if lined else lines


def _within(points: Any, box: Any, room: Any = 0) -> Any:
    """Whether each of the points (n, 2) lies in a box, or closer to it than ``room``: bool (n,)."""
    return ((points > box.min - room) & (points < box.max + room)).all(1)


def _line(dot: Any, box: Any) -> Any:
    """Points (40, 2) of the line from beside a dot to the middle of its name."""
    return dot + np.linspace(0.1, 1, 40)[:, None] * (box.get_points().mean(0) - dot)


def _put(text: Any, place: Placement) -> bool:
    """Move the name to a placement; returns whether a line leads to it."""
    text.xyann, sideways, upright = place
    text.set(ha=sideways, va=upright)
    lined = bool(max(map(abs, text.xyann)) >= _MIN_LINE)
    text.arrow_patch.set_visible(lined)
    return lined


def _placements() -> Iterator[Placement]:
    """Yield the placements of a name around its dot, the nearest first."""
    straight, slanted = ((1, 0), (-1, 0), (0, 1), (0, -1)), ((1, 1), (-1, 1), (1, -1), (-1, -1))
    between = ((1, 0.5), (-1, 0.5), (1, -0.5), (-1, -0.5), (0.5, 1), (-0.5, 1), (0.5, -1), (-0.5, -1))
    for distance in (6, 10, 16, 24, 36, 50, 70, 95, 125):
        for right, up in (*straight, *slanted, *between):
            sideways = "center" if right == 0 else "left" if right > 0 else "right"
            upright = "center" if up == 0 else "bottom" if up > 0 else "top"
            yield (distance * right, distance * up), sideways, upright
