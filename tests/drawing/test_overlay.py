"""clipes.drawing.overlay: what must be seen on any picture, and what must not disturb."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from clipes.drawing import overlay
from clipes.drawing.colours import clear_palette
from clipes.drawing.overlay import LEAST, SMALL, draw_overlay

SIDE = 400


def _square(value: int = 1, dtype: type = np.uint8) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), dtype)
    mask[100:300, 100:300] = value
    return mask


def _drawn(colour: object, mask: np.ndarray, classes: int = 20, **options: object) -> np.ndarray:
    """The picture of one colour with ``mask`` on it."""
    image = Image.new("RGB", mask.shape[::-1], colour)  # type: ignore[arg-type]
    return np.asarray(draw_overlay(image, mask, [], [], classes, **options)).astype(int)  # type: ignore[arg-type]


def _light(drawn: np.ndarray) -> np.ndarray:
    return drawn @ [0.299, 0.587, 0.114]


def _changed(drawn: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where two pictures differ."""
    return (drawn != other).any(-1)


COLOURS = [tuple(colour) for colour in clear_palette()[[1, 3, 5, 8]].tolist()]


@pytest.mark.parametrize("colour", ["black", "white", "grey", "green", "sandybrown", *COLOURS], ids=str)
@pytest.mark.parametrize("value", [1, 3, 5, 8, 64])
def test_a_border_can_be_seen_on_any_picture(colour: object, value: int) -> None:
    """Its line is lighter or darker than both sides of it."""
    drawn = _light(_drawn(colour, _square(value), 100)[200])  # from left to right, through the middle
    for border in (100, 300):
        line = drawn[border - 1 : border + 1]
        for beside in (drawn[border - 5], drawn[border + 5]):
            assert np.abs(line - beside).max() > 40


def test_the_line_is_one_and_fine() -> None:
    for colour in ("black", "white", "grey"):
        lined, plain = _drawn(colour, _square(3)), _drawn(colour, _square(3), outline=False)
        changed = _changed(lined, plain)[200]
        assert set(np.flatnonzero(changed)) <= {98, 99, 100, 101, 298, 299, 300, 301}
        steps = np.sign(np.diff(_light(lined[200, 90:110])))
        assert len(set(steps[steps != 0].tolist()) | {0}) <= 3 and (np.diff(steps[steps != 0]) != 0).sum() <= 1


def test_a_region_takes_the_hue_of_its_class_whatever_the_picture_is() -> None:
    grey = _drawn("white", _square(1))[200, 200]
    assert grey.tolist() == pytest.approx(((255 + clear_palette()[1].astype(int)) / 2).tolist(), abs=1)
    for colour in ("red", "lime", "blue", "orange"):
        tint = _drawn(colour, _square(1))[200, 200]
        wanted = clear_palette()[1] / 2  # half of the picture, of which a quarter of the colour is left
        plain = np.array(Image.new("RGB", (1, 1), colour))[0, 0]
        light = plain @ [0.299, 0.587, 0.114]
        assert tint.tolist() == pytest.approx((wanted + (light + 0.25 * (plain - light)) / 2).tolist(), abs=1.5)


def test_tint_outline_and_legend_are_optional() -> None:
    image = Image.new("RGB", (SIDE, SIDE), "white")
    mask = _square()
    plain = np.asarray(draw_overlay(image, mask, [1], ["cat"], 20, alpha=0.25, outline=False))
    assert plain.shape == (SIDE, SIDE, 3)
    tint = (0.75 * 255 + 0.25 * clear_palette()[1]).tolist()
    assert plain[100, 100].tolist() == plain[200, 200].tolist() == pytest.approx(tint, abs=1)
    assert (plain[99] == 255).all()
    assert (np.asarray(draw_overlay(image, mask, [1], ["cat"], 20, alpha=0, outline=False)) == 255).all()
    full = np.asarray(draw_overlay(image, mask, [1], ["cat"], 20, alpha=1, outline=False))
    assert (full[mask == 1] == clear_palette()[1]).all()
    assert draw_overlay(image, mask, [1], ["cat"], 20, legend=True).height > SIDE
    for alpha in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"alpha is .*; it must be in \[0, 1\]"):
            draw_overlay(image, mask, [1], ["cat"], 20, alpha=alpha)


@pytest.mark.parametrize(("pixels", "outlined"), [(LEAST - 1, False), (LEAST, True)])
@pytest.mark.parametrize("around", [0, 2])
def test_specks_have_no_line(pixels: int, outlined: bool, around: int) -> None:
    mask = np.full((SIDE, SIDE), around, np.uint8)
    mask[200, 200 : 200 + pixels] = 1
    lined, plain = _drawn("grey", mask), _drawn("grey", mask, outline=False)
    assert _changed(lined, plain).any() == outlined
    assert (plain[200, 200 : 200 + pixels] != plain[100, 100]).any(-1).all(), "but they are tinted"


@pytest.mark.parametrize("hole", [0, 255])
def test_specks_in_a_region_have_no_line(hole: int) -> None:
    mask = _square()
    mask[150::20, 150:290:10] = np.where(mask[150::20, 150:290:10] == 1, hole, 0)
    lined, plain = _drawn("grey", mask), _drawn("grey", mask, outline=False)
    assert not _changed(lined, plain)[105:295, 105:295].any()


def test_regions_that_touch_have_one_line_between_them() -> None:
    mask = np.ones((SIDE, SIDE), np.uint8)
    mask[:, 250:] = 5
    lined, plain = _drawn("black", mask), _drawn("black", mask, outline=False)
    assert set(np.flatnonzero(_changed(lined, plain)[200])) <= {248, 249, 250, 251}
    red, green, blue = lined[200, 250] - plain[200, 250]
    assert blue > 50 and red > 0 < green, "it is a lighter shade of the smaller region's yellow"


def test_no_line_runs_along_the_pictures_edge() -> None:
    mask = np.full((SIDE, SIDE), 3, np.uint8)
    assert not _changed(_drawn("grey", mask), _drawn("grey", mask, outline=False)).any()


@pytest.mark.parametrize("colour", ["black", "white", "grey", "red"])
def test_ignored_pixels_keep_the_picture_below_a_quiet_hatch(colour: str) -> None:
    drawn, plain = _drawn(colour, _square(255)), _drawn(colour, np.zeros((SIDE, SIDE), np.uint8))
    inside = _changed(drawn, plain)[110:290, 110:290]
    assert 0.1 < inside.mean() < 0.25
    assert 20 < np.abs(drawn - plain).max() < 90
    assert not _changed(drawn, plain)[:95].any() and not _changed(drawn, plain)[95:305, :95].any()
    assert (_drawn(colour, _square(65535, np.uint16), 300) == drawn).all()


def test_without_regions_the_picture_is_as_it_was() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    drawn = draw_overlay(Image.fromarray(noise), np.zeros((SIDE, SIDE), np.uint8), [], [], 20, legend=True)
    assert (np.asarray(drawn) == noise).all()


def test_the_background_and_the_mask_are_left_as_they_were() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    mask = _square()
    drawn = np.asarray(draw_overlay(Image.fromarray(noise), mask, [], [], 20))
    assert (drawn[:95] == noise[:95]).all() and (mask == _square()).all()


def test_the_legend_is_below_the_picture_and_names_every_label() -> None:
    image = Image.new("RGB", (500, 400), "grey")
    mask = np.zeros((400, 500), np.uint8)
    none = draw_overlay(image, mask, [], [], 20, legend=True)
    one = draw_overlay(image, mask, [12], ["dog"], 20, legend=True)
    assert none.size == (500, 400) and one.width == 500 and one.height > 410
    assert (np.asarray(one)[:400] == 128).all()
    legend = np.asarray(one)[400:]
    assert (legend == clear_palette()[12]).all(-1).sum() > 80  # the square
    assert (legend.max(-1) < 60).sum() > 40  # the name
    mask[0, 0] = 255
    more = np.asarray(draw_overlay(image, mask, [12], ["dog"], 20, legend=True))[400:]
    assert (more == 128).all(-1).sum() > 40, "the hatched square"
    assert (more.max(-1) < 60).sum() > (legend.max(-1) < 60).sum() + 40


def test_many_labels_take_more_rows_and_all_are_there() -> None:
    image = Image.new("RGB", (500, 400), "grey")
    ids = list(range(1, 41))
    names = [f"class {i}" for i in ids]
    drawn = draw_overlay(image, np.zeros((400, 500), np.uint8), ids, names, 40, legend=True)
    legend = np.asarray(drawn)[400:].reshape(-1, 3)
    assert drawn.width == 500 and drawn.height > 500
    for colour in clear_palette()[ids]:
        assert (legend == colour).all(-1).sum() > 80


def test_a_long_name_widens_the_legend_but_not_without_end() -> None:
    image, mask = Image.new("RGB", (200, 200), "grey"), np.zeros((200, 200), np.uint8)
    assert draw_overlay(image, mask, [1], ["a rather long name of some one class"], 20, legend=True).width > 200
    wide = draw_overlay(image, mask, [1], ["n" * 5000], 20, legend=True)
    assert wide.width < 1000
    draw_overlay(image, mask, [1], ["two\nlines \t of 字 and \udcff"], 20, legend=True)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (1, 400), (400, 1), (3, 40), (112, 112), (192, 100)])
def test_small_pictures_are_at_least_twice_as_large(size: tuple[int, int]) -> None:
    mask = np.ones(size, np.uint8)
    drawn = draw_overlay(Image.new("RGB", size[::-1], "grey"), mask, [1], ["apple"], 20)
    zoom = max(1, SMALL // max(size))
    assert drawn.size == (zoom * size[1], zoom * size[0]) and (zoom >= 2 or max(size) > 192)


def test_an_enlarged_border_is_smooth_and_where_it_was() -> None:
    rows, columns = np.indices((120, 120))
    mask = (rows + columns < 120).astype(np.uint8)  # a diagonal
    drawn = _drawn("white", mask, outline=False)
    tinted = (drawn != 255).any(-1)
    edge = tinted.sum(1)[30:-30]  # of each row: it falls by one pixel, not by three at a time
    assert set(np.diff(edge).tolist()) <= {-2, -1, 0}
    assert abs(tinted.mean() - mask.mean()) < 0.01


def test_pixels_enlarged_more_keep_their_corners() -> None:
    mask = np.zeros((7, 5), np.uint8)
    mask[2:4, 1:3] = 1
    drawn = _drawn("white", mask, outline=False)
    zoom = SMALL // 7
    assert ((drawn != 255).any(-1) == (mask.repeat(zoom, 0).repeat(zoom, 1) == 1)).all()


def test_large_pictures_get_thicker_lines_and_a_larger_legend() -> None:
    mask = np.zeros((1500, 2000), np.uint8)
    mask[400:900, 500:1000] = 3
    image = Image.new("RGB", (2000, 1500))
    drawn, plain = (
        np.asarray(draw_overlay(image, mask, [3], ["bird"], 20, outline=outline, legend=True)).astype(int)
        for outline in (True, False)
    )
    assert 4 <= _changed(drawn, plain)[600, :600].sum() <= 7
    assert (drawn[1500:] == clear_palette()[3]).all(-1).sum() >= 28**2


@pytest.mark.parametrize("seed", range(4))
def test_random_masks_of_any_ids_are_drawn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.choice([0, 1, 15, 223, 254, 255], (60 + seed, 90)).astype(np.uint8)
    picture = Image.fromarray(rng.integers(0, 256, (*mask.shape, 3), dtype=np.uint8))
    assert draw_overlay(picture, mask, [], [], 254).size == (4 * 90, 4 * (60 + seed))
    wide = np.where(mask == 255, 65535, mask.astype(np.uint16) + 300).astype(np.uint16)
    assert draw_overlay(picture, wide, [300], ["the last"], 600, legend=True).width == 4 * 90


@pytest.mark.parametrize("seed", range(5))
def test_small_regions_join_the_nearest_as_over_the_whole_picture(seed: int) -> None:
    random = np.random.default_rng(seed)
    for _ in range(20):
        shape = random.integers(2, 60, 2)
        regions = ndimage.gaussian_filter(random.normal(size=(4, *shape)), (0, 2, 2)).argmax(0).astype(np.int32)
        small = random.random(shape) < random.random()
        small.flat[random.integers(small.size)] = False
        nearest = ndimage.distance_transform_edt(small, return_distances=False, return_indices=True)
        assert np.array_equal(overlay._filled(regions, small), regions[tuple(nearest)])
