"""The plot of ``speed/growth.py``'s points: small multiples, images/s upwards, both axes logarithmic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

COLOURS = {
    "clipes float32": "#1f4e79",
    "clipes bf16": "#d1751c",
    "clipes fp16": "#d1751c",
    "bundled model": "#2f7d4f",
}
GREY = "#5a5a5a"


def draw_growth(panels: list[dict[str, Any]], heading: str, path: Path) -> None:
    """Write the PNG; ``heading`` says what was measured."""
    figure = Figure(figsize=(10.5, 6.4), dpi=140, layout="constrained")
    figure.suptitle(heading, fontsize=10, x=0.01, ha="left", color=GREY)
    for axes, panel in zip(figure.subplots(2, 3).flat, panels, strict=True):
        _draw(axes, panel)
    figure.savefig(path)


def _draw(axes: Axes, panel: dict[str, Any]) -> None:
    values = sorted({x for points in panel["series"].values() for x, _ in points})
    for name, points in panel["series"].items():
        xs, rates = zip(*points, strict=True)
        axes.plot(xs, rates, marker="o", markersize=4, linewidth=1.6, color=COLOURS[name], label=name)
    if values[0] > 0:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    ticks = values if len(values) < 7 else [x for x in values if f"{x:g}"[0] == "1"]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.2g}" if x % 1 else f"{x:,.0f}"))
    axes.set_yscale("log")
    rates = [rate for points in panel["series"].values() for _, rate in points]
    low, high = min(rates), max(rates)
    if high < 4 * low:  # less than a decade: room around the line, so that small changes look small
        middle = (low * high) ** 0.5
        low, high = middle / 2, middle * 2
    axes.set_ylim(low / 1.3, high * 1.3)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.set_xlabel(panel["axis"])
    axes.set_ylabel("images/s")
    axes.grid(True, color="#e3e3e3", linewidth=0.7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
