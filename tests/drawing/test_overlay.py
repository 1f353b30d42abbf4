"""clipes.drawing.overlay: what must be seen on any picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from clipes.drawing.overlay import draw_maps, draw_mask, draw_overlay, outline_mask
from clipes.ids import voc_palette

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


def test_tint_outline_and_legend_are_optional() -> None:
    image = Image.new("RGB", (SIDE, SIDE), "white")
    plain = np.asarray(draw_overlay(image, _square(), [1], ["cat"], 20, alpha=0.25, outline=False, legend=False))
    assert plain.shape == (SIDE, SIDE, 3)
    assert plain[50, 50].tolist() == plain[100, 100].tolist() == pytest.approx([223.25, 191.25, 191.25], abs=1)
    assert (plain[49] == 255).all()
    for alpha in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"alpha is .*; it must be in \[0, 1\]"):
            draw_overlay(image, _square(), [1], ["cat"], 20, alpha=alpha)


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


def _pictures(rng: np.random.Generator, side: int = SIDE) -> dict[str, np.ndarray]:
    """Pictures on which an outline could be lost."""
    shape = (side, side, 3)
    flat = voc_palette()[rng.integers(1, 256)]
    return {
        "black": np.zeros(shape, np.uint8),
        "white": np.full(shape, 255, np.uint8),
        "dark as the line": np.full(shape, 32, np.uint8),
        "palette": np.broadcast_to(flat, shape).copy(),
        "noise": rng.integers(0, 256, shape, dtype=np.uint8),
        "checks": np.broadcast_to(255 * (np.indices(shape[:2]).sum(0) // 2 % 2)[..., None], shape).astype(np.uint8),
    }


@pytest.mark.parametrize("seed", range(8))
def test_every_border_has_white_and_dark_beside_it_on_random_pictures(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.choice([0, 0, 1, 15, 17, 223, 254, 255], (5, 5))  # some of them pale, one ignored
    mask = np.kron(ids, np.ones((40, 40), np.int64)).astype(np.uint8)
    borders = [(y, x) for y, x in np.ndindex(SIDE - 1, SIDE - 1) if len({*mask[y : y + 2, x : x + 2].flat}) > 1]
    assert len(borders) > 200
    for name, picture in _pictures(rng).items():
        drawn = np.asarray(draw_overlay(Image.fromarray(picture), mask, [], [], 254))[:SIDE]
        white, dark = (drawn == 255).all(-1), (drawn == 32).all(-1)
        for y, x in borders:
            beside = slice(max(0, y - 2), y + 4), slice(max(0, x - 2), x + 4)
            assert white[beside].any() and dark[beside].any(), (name, y, x)


@pytest.mark.parametrize("seed", range(4))
def test_lines_and_squares_have_exactly_the_palettes_colours(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.choice(np.arange(1, 255), 4, replace=False)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    corners = [(20, 30), (20, 130), (120, 30), (120, 130)]
    for (y, x), value in zip(corners, ids, strict=True):
        mask[y : y + 50, x : x + 50] = value
    for picture in _pictures(rng).values():
        drawn = np.asarray(draw_overlay(Image.fromarray(picture), mask, ids.tolist(), list("abcd"), 254))
        for (y, x), colour in zip(corners, voc_palette()[ids], strict=True):
            region = drawn[y : y + 50, x : x + 50]
            for edge in (region[0], region[-1], region[:, 0], region[:, -1]):
                assert (edge == colour).all()
            assert (drawn[SIDE:] == colour).all(-1).sum() >= 100


@pytest.mark.parametrize(("inner", "outer"), [(1, 9), (9, 1), (255, 9), (9, 255)])
def test_a_small_region_lies_above_a_large_one_whatever_their_ids(inner: int, outer: int) -> None:
    mask = np.full((SIDE, SIDE), outer, np.uint8)
    mask[100, 40:160] = mask[50, 50] = inner
    drawn = _drawn("grey", mask)
    if inner == 255:
        assert {*map(tuple, drawn[100, 40:160])} == {(64, 64, 64), tuple(voc_palette()[255])}
    else:
        assert (drawn[100, 40:160] == voc_palette()[inner]).all() and (drawn[50, 50] == voc_palette()[inner]).all()
    for row in (99, 101):
        assert (drawn[row, 40:160] == 255).all()
    assert (drawn[98, 40:160] == 32).all() and (drawn[102, 40:160] == 32).all()


def test_parts_of_one_class_have_their_own_places() -> None:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[20:180, 20:100] = 1  # large, below its neighbour
    mask[20:180, 100:160] = 2
    mask[90, 130] = 1  # small, above it
    drawn = _drawn("grey", mask)
    one, two = voc_palette()[[1, 2]].tolist()
    assert drawn[100, 99].tolist() == [255] * 3 and drawn[100, 100].tolist() == two
    assert drawn[90, 130].tolist() == one and drawn[90, 131].tolist() == [255] * 3


def test_large_pictures_get_thicker_lines_and_a_larger_legend() -> None:
    mask = np.zeros((1500, 2000), np.uint8)
    mask[400:900, 500:1000] = 3
    drawn = np.asarray(draw_overlay(Image.new("RGB", (2000, 1500)), mask, [3], ["bird"], 20))
    assert (drawn[600, 500:508] == voc_palette()[3]).all() and (drawn[600, 508] != voc_palette()[3]).any()
    assert (drawn[600, 492:500] == 255).all() and (drawn[600, 484:492] == 32).all()
    assert (drawn[1500:] == voc_palette()[3]).all(-1).sum() >= 28**2


def test_lines_on_enlarged_pixels_are_two_wide() -> None:
    mask = np.zeros((7, 5), np.uint8)
    mask[2:4, 1:3] = 1
    drawn = np.asarray(draw_overlay(Image.new("RGB", (5, 7)), mask, [1], ["x"], 20))
    assert (drawn[80, 27:29] == [128, 0, 0]).all() and drawn[80, 29].tolist() == [64, 0, 0]
    assert (drawn[80, 25:27] == 255).all() and (drawn[80, 23:25] == 32).all()


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


def test_the_background_lies_below_however_small_it_is() -> None:
    mask = np.full((SIDE, SIDE), 4, np.uint8)
    mask[90:110, 90:110] = 0
    drawn = _drawn("grey", mask)
    assert (drawn[89, 90:110] == voc_palette()[4]).all() and (drawn[90, 90:110] == 255).all()
    outlined = np.asarray(outline_mask(mask, (SIDE, SIDE)))  # three times as large
    assert (outlined[:270] == voc_palette()[4]).all() and (outlined[270:272, 270:330] == 255).all()


def test_an_outline_spares_ignored_pixels_and_small_pictures() -> None:
    mask = np.zeros((30, 40), np.uint8)
    mask[10:20, 10:20], mask[10:20, 20:40] = 8, 255
    drawn = np.asarray(outline_mask(mask, (40, 30)))
    assert (drawn[150:300, 300:] == voc_palette()[255]).all()
    narrow = np.zeros((8, 1200), np.uint8)
    narrow[:, 600:] = 3
    assert (np.asarray(outline_mask(narrow, (1200, 8))) == 255).all(-1).any(0).sum() == 1
