"""Panels side by side, with titles."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from clipes.drawing.sheet import GAP, draw_sheet

SIDE = 40
RED, BLUE = (200, 0, 0), (0, 0, 200)


def _panel(colour: tuple[int, int, int], size: tuple[int, int] = (7, 5)) -> Image.Image:
    return Image.new("RGB", size, colour)


def test_rows_and_columns() -> None:
    sheet = np.asarray(draw_sheet(("a", "b"), [[_panel(RED), _panel(BLUE)], [_panel(BLUE), _panel(RED)]], SIDE))
    head = len(sheet) - 2 * SIDE - GAP
    assert sheet.shape[1] == 2 * SIDE + GAP and 0 < head < SIDE
    for row, colours in enumerate([(RED, BLUE), (BLUE, RED)]):
        for column, colour in enumerate(colours):
            top, left = head + row * (SIDE + GAP), column * (SIDE + GAP)
            assert (sheet[top : top + SIDE, left : left + SIDE] == colour).all()
    assert (sheet[:, SIDE : SIDE + GAP] == 255).all(), "what is between them is white"
    assert (sheet[:head, :SIDE] < 128).any(), "there is a title"


def test_a_second_line_is_grey_and_has_room() -> None:
    one, two = (np.asarray(draw_sheet((title,), [[_panel(RED)]], SIDE)) for title in ("name", "name\nwhose"))
    lines = len(two) - len(one)
    assert lines > 0 and np.array_equal(one[-SIDE:], two[-SIDE:])
    assert two[: len(two) - SIDE].min() < 40 and two[len(one) - SIDE : len(two) - SIDE].min() > 80


def test_a_row_of_too_few_panels() -> None:
    with pytest.raises(ValueError, match="a row has 1 panels, and there are 2 titles; give one panel for each"):
        draw_sheet(("a", "b"), [[_panel(RED)]], SIDE)
