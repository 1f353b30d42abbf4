"""The instances of a mask, against their slow statement and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import reference_regions
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

import clipes
from clipes.regions import instances, region_ids

IGNORE = 255
MASKS = arrays(np.uint8, (5, 6), elements=st.sampled_from([0, 1, 1, 2, 2, IGNORE]))
REGIONS = arrays(np.int32, (5, 6), elements=st.integers(0, 4))


def same(found, wanted, mask):
    """``wanted`` is a list of sets of places."""
    assert len(found) == len(wanted) == len(found.boxes) == len(found.areas)
    ids = np.zeros(mask.shape, int)
    for number, places in enumerate(wanted, start=1):
        rows, columns = np.array(sorted(places)).T
        ids[rows, columns] = number
        assert found.class_ids[number - 1] == mask[rows[0], columns[0]] and found.areas[number - 1] == len(places)
        box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert found.boxes[number - 1].tolist() == box
        place, pixels = found.crop(number - 1)
        np.testing.assert_array_equal(pixels, (ids == number)[place])
        assert pixels.sum() == len(places)
    np.testing.assert_array_equal(found.ids, ids)


@settings(max_examples=40)
@given(MASKS, REGIONS)
def test_by_regions(mask, regions):
    regions = region_ids(regions, mask.shape)
    found = instances(mask, regions, ignore=IGNORE)
    assert found.ids.dtype == np.int32
    same(found, reference_regions.instances(mask, regions, IGNORE), mask)


@settings(max_examples=20)
@given(MASKS)
def test_without_regions_they_are_the_connected_parts(mask):
    confidence = np.arange(mask.size).reshape(mask.shape) / mask.size
    found = instances(mask, confidence=confidence)
    parts = [
        set(zip(*map(np.ndarray.tolist, np.nonzero(labelled == number)), strict=True))
        for index in (1, 2)
        for labelled, count in [ndimage.label(mask == index)]
        for number in range(1, count + 1)
    ]
    same(found, parts, mask)
    for number in range(1, len(found) + 1):
        assert found.scores[number - 1] == pytest.approx(confidence[found.ids == number].mean())
    assert instances(mask).scores is None
    same(instances(mask, np.zeros(mask.shape, int)), parts, mask)


def test_two_that_touch_and_one_that_is_hidden_in_the_middle():
    mask = np.array([[1, 1, 1, 1, 2, 1, 1]])
    assert instances(mask).ids.tolist() == [[1, 1, 1, 1, 3, 2, 2]]
    regions = np.array([[1, 1, 2, 2, 3, 2, 2]])
    assert instances(mask, regions).ids.tolist() == [[1, 1, 2, 2, 3, 2, 2]]
    masks = [regions == number for number in (1, 2, 3)]
    assert instances(mask, masks).ids.tolist() == [[1, 1, 2, 2, 3, 2, 2]]


def test_a_region_that_reaches_a_little_into_another_class_makes_no_instance_of_it():
    mask = np.array([[1, 1, 1, 2, 2, 2], [1, 1, 2, 2, 2, 2]])
    regions = np.array([[1, 1, 2, 2, 2, 2], [1, 1, 2, 2, 2, 0]])
    assert instances(mask, regions).ids.tolist() == mask.tolist()


@pytest.mark.parametrize("size", [(1, 500), (500, 1), (1, 1), (255, 257)])
def test_one_region_for_each_pixel_one_for_all_and_none(size):
    mask = np.full(size, 7, np.uint8)
    each = np.arange(1, mask.size + 1).reshape(size)
    assert instances(mask, each).ids.tolist() == each.tolist()
    for regions in (None, np.zeros(size, int), np.ones(size, int)):
        found = instances(mask, regions)
        assert found.areas.tolist() == [mask.size] and found.boxes.tolist() == [[0, 0, size[1], size[0]]]


def test_masks_without_a_class_and_of_many_classes():
    for mask in (np.zeros((3, 4), np.uint8), np.full((3, 4), 255, np.uint8)):
        found = instances(mask, np.ones((3, 4), int), np.ones((3, 4)))
        assert len(found) == 0 and not found.ids.any() and found.boxes.shape == (0, 4) and found.scores.size == 0
    found = instances(np.array([[300, 255, 65535]], np.uint16), ignore=65535)
    assert found.ids.tolist() == [[2, 1, 0]] and found.class_ids.tolist() == [255, 300]


def test_refused():
    mask = np.ones((2, 3), np.uint8)
    with pytest.raises(TypeError, match=r"the mask is \(2, 3\) of float64; give ids"):
        instances(mask / 2)
    with pytest.raises(ValueError, match=r"2 x 2 pixels .* but the picture has 2 x 3"):
        instances(mask, np.ones((2, 2), int))
    with pytest.raises(ValueError, match=r"the confidence: 3 x 2 pixels .* but the mask has 2 x 3"):
        instances(mask, confidence=np.ones((3, 2)))


def test_segments_of_a_result(tiny):
    scene = clipes.scenes.draw_scene(seed=7)
    result = tiny(scene.image, scene.labels)
    wholes = result.segments()
    halves = np.repeat([[1, 2]], 56, axis=1) * np.ones((112, 1), int)
    for parts in (result.segments(instances=True), result.segments(regions=halves)):
        assert [label for label in dict.fromkeys(part.label for part in parts)] == [one.label for one in wholes]
        for whole in wholes:
            own = [part for part in parts if part.label == whole.label]
            np.testing.assert_array_equal(np.sum([part.mask for part in own], axis=0), whole.mask)
            mean = sum(part.confidence * part.area for part in own) / whole.area
            assert mean == pytest.approx(whole.confidence) and {part.class_id for part in own} == {whole.class_id}
    found = instances(result.mask, halves, result.map_confidence)
    confidences = {(part.class_id, part.bbox): part.confidence for part in parts}
    assert confidences.keys() == {
        (c, tuple(b)) for c, b in zip(found.class_ids.tolist(), found.boxes.tolist(), strict=True)
    }
    assert sorted(confidences.values()) == pytest.approx(sorted(found.scores))
    with pytest.raises(ValueError, match="but the picture has 112 x 112"):
        result.segments(regions=halves[:3])
