"""A sheet of panels side by side: a row for each picture, a titled column for each thing shown of it."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

GAP = 8
"""Pixels between panels."""


def draw_sheet(titles: Sequence[str], rows: Sequence[Sequence[Image.Image]], side: int = 168) -> Image.Image:
    """Panels scaled to ``side`` x ``side`` pixels on white, ``titles`` above their columns.

    Titles may have several lines, the first of them in black and the others in grey. Raises ValueError for a row that
    has not one panel for each title.
    """
    if wrong := [len(row) for row in rows if len(row) != len(titles)]:
        raise ValueError(f"a row has {wrong[0]} panels, and there are {len(titles)} titles; give one panel for each")
    size = max(12, side // 10)
    line = round(1.25 * size)
    head = max(title.count("\n") + 1 for title in titles) * line + GAP + 2
    sheet = Image.new("RGB", (len(titles) * (side + GAP) - GAP, head + len(rows) * (side + GAP) - GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size)
    for column, title in enumerate(titles):
        middle = column * (side + GAP) + side / 2
        for number, text in enumerate(title.split("\n")):
            colour = "#606468" if number else "black"
            draw.text((middle, 2 + number * line), text, fill=colour, font=font, anchor="ma")
    for place, row in enumerate(rows):
        for column, panel in enumerate(row):
            scaled = panel.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
            sheet.paste(scaled, (column * (side + GAP), head + place * (side + GAP)))
    return sheet
