"""clipes.overlay: what must be seen on any picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from clipes.overlay import draw_maps, draw_mask, draw_overlay
from clipes.writer import voc_palette

SIDE = 200


def _square(value: int = 1, dtype: type = np.uint8) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), dtype)
    mask[50:150, 50:150] = value
    return mask


def _drawn(colour: object, mask: np.ndarray, classes: int = 20) -> np.ndarray:
    """The picture of one colour with ``mask`` on it, without its legend."""
    image = Image.new("RGB", mask.shape[::-1], colour)  # type: ignore[arg-type]
    return np.asarray(draw_overlay(image, mask, [], [], classes)).astype(int)


PALETTE = [tuple(colour) for colour in voc_palette()[[1, 15, 19]].tolist()]


@pytest.mark.parametrize("colour", ["black", "white", "grey", *PALETTE], ids=str)
@pytest.mark.parametrize("value", [1, 15, 19, 64])
def test_a_border_can_be_seen_on_any_picture(colour: object, value: int) -> None:
    drawn = _drawn(colour, _square(value), 100)
    steps = np.abs(np.diff(drawn[100], axis=0)).max(-1)  # from left to right, through the middle
    for border in (50, 150):
        assert steps[border - 4 : border + 4].max() > 120
    background = _drawn(colour, np.zeros((SIDE, SIDE), np.uint8))[0, 0]
    assert (drawn[:40] == background).all()
    assert (drawn[60:140, 60:140] == drawn[100, 100]).all()


def test_a_region_is_tinted_halfway_and_edged_in_its_colour() -> None:
    drawn = _drawn("white", _square(1))
    assert drawn[100, 100].tolist() == pytest.approx([191.5, 127.5, 127.5], abs=1)
    assert drawn[100, 50].tolist() == drawn[149, 100].tolist() == [128, 0, 0]
    assert drawn[100, 49].tolist() == [255, 255, 255]
    assert drawn[100, 48].tolist() == [32, 32, 32]


def test_regions_that_touch_are_parted_by_white() -> None:
    mask = np.ones((SIDE, SIDE), np.uint8)
    mask[:, 100:] = 9
    row = _drawn("black", mask)[100]
    assert row[99].tolist() == [255, 255, 255]
    assert row[100].tolist() == voc_palette()[9].tolist()


def test_a_thin_region_keeps_its_colour() -> None:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:, 100] = 3
    assert _drawn("white", mask)[100, 100].tolist() == voc_palette()[3].tolist()


def test_ignored_pixels_are_striped() -> None:
    drawn = _drawn("grey", _square(255))
    assert len(np.unique(drawn[60:140, 60:140].reshape(-1, 3), axis=0)) == 2
    many = _drawn("grey", _square(65535, np.uint16), 300)
    assert (many == drawn).all()


def test_without_regions_the_picture_is_as_it_was() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    drawn = draw_overlay(Image.fromarray(noise), np.zeros((SIDE, SIDE), np.uint8), [], [], 20)
    assert (np.asarray(drawn) == noise).all()


def test_the_legend_is_below_the_picture_and_names_every_label() -> None:
    image = Image.new("RGB", (300, 200), "grey")
    mask = np.zeros((200, 300), np.uint8)
    none = draw_overlay(image, mask, [], [], 20)
    one = draw_overlay(image, mask, [12], ["dog"], 20)
    assert none.size == (300, 200) and one.width == 300 and one.height > 210
    assert (np.asarray(one)[:200] == 128).all()
    legend = np.asarray(one)[200:]
    assert (legend == voc_palette()[12]).all(-1).sum() > 80  # the square
    assert (legend.max(-1) < 60).sum() > 40  # the name
    mask[0, 0] = 255
    assert (np.asarray(draw_overlay(image, mask, [12], ["dog"], 20))[200:] == voc_palette()[255]).all(-1).sum() > 40


def test_many_labels_take_more_rows_and_all_are_there() -> None:
    image = Image.new("RGB", (300, 200), "grey")
    ids = list(range(1, 41))
    drawn = draw_overlay(image, np.zeros((200, 300), np.uint8), ids, [f"class {i}" for i in ids], 40)
    legend = np.asarray(drawn)[200:].reshape(-1, 3)
    assert drawn.width == 300 and drawn.height > 300
    for colour in voc_palette()[ids]:
        assert (legend == colour).all(-1).sum() > 80


def test_a_long_name_widens_the_legend_but_not_without_end() -> None:
    image, mask = Image.new("RGB", (200, 200), "grey"), np.zeros((200, 200), np.uint8)
    assert draw_overlay(image, mask, [1], ["a rather long name of some one class"], 20).width > 200
    wide = draw_overlay(image, mask, [1], ["n" * 5000], 20)
    assert wide.width < 1000
    draw_overlay(image, mask, [1], ["two\nlines \t of 字 and \udcff"], 20)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (1, 400), (400, 1), (3, 40)])
def test_tiny_pictures_are_enlarged(size: tuple[int, int]) -> None:
    mask = np.ones(size, np.uint8)
    drawn = draw_overlay(Image.new("RGB", size[::-1], "grey"), mask, [1], ["apple"], 20)
    zoom = max(1, 192 // max(size))
    assert drawn.width >= zoom * size[1] and drawn.height > zoom * size[0]
    assert max(drawn.size) >= 150


def test_colours_go_round_beyond_254_classes() -> None:
    mask = np.full((SIDE, SIDE), 300, np.uint16)
    colour = voc_palette()[300 % 254 + 1]
    assert (np.asarray(draw_mask(mask)) == colour).all()
    drawn = draw_overlay(Image.new("RGB", (SIDE, SIDE)), mask, [300], ["the last"], 300)
    assert (np.asarray(drawn)[SIDE:] == colour).all(-1).any()
    assert (np.asarray(drawn)[100, 100] == colour // 2).all()


def test_a_mask_is_drawn_in_the_palette() -> None:
    drawn = np.asarray(draw_mask(np.array([[0, 1, 255]], np.uint8)))
    assert drawn.tolist() == [voc_palette()[[0, 1, 255]].tolist()]
    wide = np.asarray(draw_mask(np.array([[0, 1, 255, 65535]], np.uint16)))
    assert wide.tolist() == [voc_palette()[[0, 1, 255 % 254 + 1, 255]].tolist()]


def test_maps_glow_in_the_labels_colours() -> None:
    cams = np.zeros((2, 1, 3), np.float32)
    cams[0, 0, 1], cams[1, 0, 2] = 1, 0.5
    dark, red, green = np.asarray(draw_maps(cams, [1, 2]))[0].tolist()
    assert dark == [0, 0, 0]
    assert red[0] > 150 and red[1:] == [0, 0]
    assert 75 < green[1] < 110 and green[::2] == [0, 0]
    assert np.asarray(draw_maps(np.zeros((0, 4, 5), np.float32), [])).shape == (4, 5, 3)
