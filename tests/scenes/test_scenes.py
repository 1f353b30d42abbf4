"""The drawn scenes: exact masks, honest labels, the promised statistics, any size."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from PIL import Image

from clipes.scenes import GROUNDS, THINGS, Scene, draw_scene, draw_scenes

USUAL = {
    "boat": ("water", 0.85),
    "fish": ("water", 0.85),
    "train": ("railroad", 0.85),
    "kite": ("sky", 0.8),
    "balloon": ("sky", 0.8),
    "bird": ("sky", 0.8),
    "car": ("road", 0.75),
    "snowman": ("snow", 0.8),
    "house": ("grass", 0.65),
    "tree": ("grass", 0.65),
    "flower": ("grass", 0.65),
    "mushroom": ("grass", 0.65),
    "cat": ("carpet", 0.6),
    "umbrella": ("sand", 0.55),
}


@pytest.fixture(scope="module")
def many() -> list[Scene]:
    return list(draw_scenes(1500, seed=11, size=(40, 40)))


def same(one: Scene, other: Scene) -> bool:
    pixels = np.array_equal(one.image, other.image) and np.array_equal(one.mask, other.mask)
    return pixels and one.labels == other.labels and one.grounds == other.grounds


def check(scene: Scene, size: tuple[int, int]) -> None:
    assert scene.image.shape == (*size, 3) and scene.image.dtype == np.uint8
    assert scene.mask.shape == size and scene.mask.dtype == np.uint8
    counts = np.bincount(scene.mask.ravel(), minlength=len(THINGS) + 1)
    assert len(counts) == len(THINGS) + 1
    assert scene.labels == tuple(name for name, count in zip(THINGS, counts[1:], strict=True) if count)
    assert all(count == 0 or count >= 0.012 * scene.mask.size for count in counts[1:])
    assert scene.grounds == tuple(name for name in GROUNDS if name in scene.grounds)
    assert 1 <= len(scene.grounds) <= 3


def test_names() -> None:
    assert list(THINGS) == sorted(THINGS) and len(THINGS) == 16
    assert list(GROUNDS) == sorted(GROUNDS) and len(GROUNDS) == 10


def test_same_arguments_same_bytes() -> None:
    first, second = (list(draw_scenes(4, seed=3, size=(60, 80))) for _ in range(2))
    assert all(same(one, other) for one, other in zip(first, second, strict=True))
    assert not same(first[0], first[1])
    assert not np.array_equal(draw_scene(3).image, draw_scene(4).image)


def test_a_scene_does_not_depend_on_the_count() -> None:
    few, more = draw_scenes(2, seed=8), islice(draw_scenes(1000, seed=8), 2)
    assert all(same(one, other) for one, other in zip(few, more, strict=True))
    assert same(draw_scene(8), next(draw_scenes(5, seed=8)))


@pytest.mark.parametrize("size", [(8, 8), (8, 21), (33, 9), (112, 112), (97, 211), (211, 97), (40, 300), (300, 448)])
def test_truth_is_exact_at_any_size(size: tuple[int, int]) -> None:
    for scene in draw_scenes(12, seed=5, size=size):
        check(scene, size)
        assert scene.labels


def test_a_very_long_picture_is_still_drawn() -> None:
    for scene in draw_scenes(5, seed=5, size=(8, 500)):
        check(scene, (8, 500))


def test_every_scene_is_honest(many: list[Scene]) -> None:
    for scene in many:
        check(scene, (40, 40))
        assert 1 <= len(scene.labels) <= 4


@pytest.mark.parametrize("size", [(112, 112), (97, 150)])
def test_double_size_is_the_same_scene(size: tuple[int, int]) -> None:
    double = (2 * size[0], 2 * size[1])
    for small, large in zip(draw_scenes(25, 21, size), draw_scenes(25, 21, double), strict=True):
        assert small.labels == large.labels
        assert small.grounds == large.grounds
        assert float((small.mask != large.mask[::2, ::2]).mean()) < 0.04
        halved = np.asarray(Image.fromarray(large.image).reduce(2), dtype=np.float64)
        assert float(np.abs(halved - small.image).mean()) < 12


def test_everything_occurs(many: list[Scene]) -> None:
    for thing in THINGS:
        assert sum(thing in scene.labels for scene in many) > 0.06 * len(many)
    for ground in GROUNDS:
        assert sum(ground in scene.grounds for scene in many) > 0.05 * len(many)


def test_number_of_things(many: list[Scene]) -> None:
    shares = np.bincount([len(scene.labels) for scene in many], minlength=5) / len(many)
    assert shares[1:] == pytest.approx([0.34, 0.37, 0.22, 0.06], abs=0.07)


def test_things_are_usually_on_their_grounds(many: list[Scene]) -> None:
    for thing, (ground, usual) in USUAL.items():
        places = [ground in scene.grounds for scene in many if thing in scene.labels]
        assert np.mean(places) == pytest.approx(usual, abs=0.13), thing


def test_grounds_are_seen_without_their_things(many: list[Scene]) -> None:
    for thing, (ground, _) in USUAL.items():
        alone = [thing not in scene.labels for scene in many if ground in scene.grounds]
        assert np.mean(alone) > 0.2, thing


def test_colour_does_not_give_the_thing_away() -> None:
    hues: dict[int, list[np.ndarray]] = {}
    for scene in draw_scenes(250, seed=2, size=(48, 48)):
        for number in np.unique(scene.mask[scene.mask > 0]):
            hues.setdefault(int(number), []).append(scene.image[scene.mask == number].mean(axis=0))
    means = {number: np.mean(colours, axis=0) for number, colours in hues.items()}
    total = hits = 0
    for number, colours in hues.items():
        for colour in colours:
            nearest = min(means, key=lambda other: float(np.abs(means[other] - colour).sum()))
            hits += nearest == number
            total += 1
    assert hits / total < 0.3


@pytest.mark.parametrize("size", [(7, 40), (40, 7), (0, 0), (-8, 8)])
def test_too_small(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 8 pixels"):
        draw_scene(0, size)


def test_negative_numbers() -> None:
    with pytest.raises(ValueError, match="count must not be negative, got -1"):
        draw_scenes(-1)
    with pytest.raises(ValueError, match="seed must not be negative, got -2"):
        draw_scene(-2)
    assert list(draw_scenes(0)) == []
