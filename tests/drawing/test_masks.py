"""clipes.drawing.masks: masks and maps alone, in their colours."""

from __future__ import annotations

import numpy as np

from clipes.drawing.colours import clear_palette
from clipes.drawing.masks import draw_maps, draw_mask, outline_mask
from clipes.ids import voc_palette

SIDE = 200


def test_a_mask_is_drawn_in_the_palette() -> None:
    drawn = np.asarray(draw_mask(np.array([[0, 1, 255]], np.uint8)))
    assert drawn.tolist() == [voc_palette()[[0, 1, 255]].tolist()]
    wide = np.asarray(draw_mask(np.array([[0, 1, 255, 65535]], np.uint16)))
    assert wide.tolist() == [voc_palette()[[0, 1, 255 % 254 + 1, 255]].tolist()]


def test_maps_glow_in_the_labels_colours() -> None:
    cams = np.zeros((2, 1, 3), np.float32)
    cams[0, 0, 1], cams[1, 0, 2] = 1, 0.5
    drawn = np.asarray(draw_maps(cams, [1, 302]))[0].astype(int)
    assert drawn[:2].tolist() == [[0, 0, 0], clear_palette()[1].tolist()]
    assert np.abs(2 * drawn[2] - clear_palette()[302 % 254 + 1]).max() <= 1
    assert np.asarray(draw_maps(np.zeros((0, 4, 5), np.float32), [])).shape == (4, 5, 3)


def test_an_outlined_mask_has_the_palettes_colours_and_white_lines() -> None:
    mask = np.zeros((30, 40), np.uint8)
    mask[10:20, 10:20], mask[:, 35:] = 8, 255
    drawn = np.asarray(outline_mask(mask, (40, 30)))
    assert drawn.shape == (450, 600, 3)
    assert (drawn[150:300, 150:300] == voc_palette()[8]).all(), "the region keeps all its pixels"
    assert (drawn[148:150, 150:300] == 255).all() and (drawn[:148] != 255).any(-1).all()
    assert (drawn[:, 525:] == voc_palette()[255]).all() and (drawn[:, 480:525] == 0).all(), "ignored has no line"
    wide = mask.astype(np.uint16)
    wide[wide == 255] = 65535
    wide[wide == 8] = 300
    many = np.asarray(outline_mask(wide, (40, 30)))
    assert (many[:, 525:] == voc_palette()[255]).all() and (many[200, 200] == voc_palette()[300 % 254 + 1]).all()
    assert outline_mask(np.full((1, 4000), 3, np.uint8), (1200, 1)).size == (1200, 1)


def test_an_outline_spares_ignored_pixels_and_small_pictures() -> None:
    mask = np.zeros((30, 40), np.uint8)
    mask[10:20, 10:20], mask[10:20, 20:40] = 8, 255
    drawn = np.asarray(outline_mask(mask, (40, 30)))
    assert (drawn[150:300, 300:] == voc_palette()[255]).all()
    narrow = np.zeros((8, 1200), np.uint8)
    narrow[:, 600:] = 3
    assert (np.asarray(outline_mask(narrow, (1200, 8))) == 255).all(-1).any(0).sum() == 1


def test_the_background_lies_below_however_small_it_is() -> None:
    mask = np.full((SIDE, SIDE), 4, np.uint8)
    mask[90:110, 90:110] = 0
    outlined = np.asarray(outline_mask(mask, (SIDE, SIDE)))  # three times as large
    assert (outlined[:270] == voc_palette()[4]).all() and (outlined[270:272, 270:330] == 255).all()


def test_colours_go_round_beyond_254_classes() -> None:
    mask = np.full((SIDE, SIDE), 300, np.uint16)
    assert (np.asarray(draw_mask(mask)) == voc_palette()[300 % 254 + 1]).all()
