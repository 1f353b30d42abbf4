"""Regions in the path of one picture: given or computed, they vote on the decided mask."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import clipes
from clipes.config import ArgmaxConfig, ConfidenceConfig, GivenRegionsConfig, ModeVoteConfig, SeplVoteConfig, SlicConfig
from clipes.decision import decide_batch
from clipes.decision.votes import voted_rows
from clipes.io.coco_rle import coco_rle
from clipes.regions import region_ids, regions_of
from clipes.regions.vote import vote

SCENE = clipes.scenes.draw_scene(seed=7)
HALVES = np.repeat([[1, 2]], 56, axis=1) * np.ones((112, 1), int)


def test_the_mask_is_the_vote_of_the_regions_on_the_mask_without(tiny):
    plain = tiny(SCENE.image, SCENE.labels)
    for config in (ModeVoteConfig(), SeplVoteConfig()):
        result = plain.decide(replace(tiny.config, vote=config), HALVES)
        np.testing.assert_array_equal(result.mask, vote(plain.mask, HALVES, 255, config))
        np.testing.assert_array_equal(result.scores, plain.scores)
        ids = [0, *result.class_ids.tolist()]
        decided = result.mask != 255
        rows = np.vectorize(lambda index, ids=ids: ids.index(index))(np.where(decided, result.mask, 0))
        of_class = np.take_along_axis(result.scores, rows[None], 0)[0]
        np.testing.assert_array_equal(result.confidence[decided], of_class[decided])
        np.testing.assert_array_equal(result.confidence[~decided], plain.confidence[~decided])
    assert (plain.mask == 255).any() and (result.mask != plain.mask).any()
    assert plain.regions is None and result.regions.tolist() == HALVES.tolist()
    np.testing.assert_array_equal(tiny(SCENE.image, SCENE.labels, HALVES).mask, plain.decide(tiny.config, HALVES).mask)


def test_every_form_of_regions_gives_the_same(tiny, tmp_path):
    want = tiny(SCENE.image, SCENE.labels, HALVES).mask
    masks = [HALVES == 1, HALVES == 2]
    Image.fromarray(HALVES.astype(np.uint8)).save(tmp_path / "a.png")
    forms = [masks, list(map(coco_rle, masks)), tmp_path / "a.png", lambda image: HALVES[: image.height]]
    features = tiny.encode(SCENE.image)
    for form in forms:
        np.testing.assert_array_equal(tiny.decide(features, SCENE.labels, form).mask, want)


def test_batches_take_regions_picture_by_picture(tiny):
    regions = [None, HALVES]
    alone = [tiny(SCENE.image, SCENE.labels, one).mask for one in regions]
    together = tiny.generate([SCENE.image] * 2, [SCENE.labels] * 2, 2, iter(regions))
    for result, mask in zip(together, alone, strict=True):
        np.testing.assert_array_equal(result.mask, mask)
    with pytest.raises(ValueError, match="shorter"):
        list(tiny.generate([SCENE.image] * 2, [SCENE.labels] * 2, regions=[HALVES]))


def test_superpixels_by_the_settings(tiny):
    pytest.importorskip("skimage", reason="scikit-image, the extra `regions`, is not installed")
    config = replace(tiny.config, regions=SlicConfig(segments=40))
    plain = tiny(SCENE.image, SCENE.labels)
    result = plain.decide(config)
    np.testing.assert_array_equal(result.regions, regions_of(Image.fromarray(SCENE.image), config.regions))
    np.testing.assert_array_equal(result.mask, vote(plain.mask, result.regions, 255, config.vote))
    np.testing.assert_array_equal(
        clipes.MaskGenerator(tiny.clip, tiny.vocabulary, config)(SCENE.image, SCENE.labels).mask, result.mask
    )
    np.testing.assert_array_equal(result.decide(tiny.config).mask, plain.mask)
    assert (result.decide(replace(config, vote=None)).mask == plain.mask).all()


def test_given_regions_are_kept_for_another_decision(tiny):
    config = replace(tiny.config, regions=GivenRegionsConfig(unsegmented=2))
    with pytest.raises(ValueError, match="take regions that come with each picture, and there are none; give regions"):
        clipes.MaskGenerator(tiny.clip, tiny.vocabulary, config)(SCENE.image, SCENE.labels)
    result = tiny(SCENE.image, SCENE.labels).decide(config, HALVES)
    assert result.regions.max() == 1 and not result.regions[:, 56:].any()
    other = replace(config, mask=ArgmaxConfig())
    np.testing.assert_array_equal(result.decide(other).mask, result.decide(other, HALVES).mask)


def test_regions_of_another_picture_are_refused(tiny):
    with pytest.raises(ValueError, match=r"100 x 112 pixels .* but the picture has 112 x 112"):
        tiny(SCENE.image, SCENE.labels, HALVES[:100])
    with pytest.raises(TypeError, match="holds float64, not ids"):
        tiny(SCENE.image, SCENE.labels, HALVES / 2)


def test_the_order_of_the_labels_does_not_matter():
    """Two labels with as many pixels of a region each: the smaller id, not the first label."""
    rows = torch.tensor([[1, 1, 2, 2]])
    for ids, want in (([7, 3], 2), ([3, 7], 1)):
        found = voted_rows(rows, None, torch.tensor(ids), np.ones((1, 4), np.int32), ModeVoteConfig())
        assert found.tolist() == [[want] * 4]


def test_images_of_more_than_254_classes_and_without_labels():
    maps, image = torch.tensor([[[1.0, 0.9, 0.0, 0.0]]]), Image.new("RGB", (4, 1))
    config = replace(clipes.VOC12, refine=None, mask=ConfidenceConfig(ignore_below=0.6))
    regions = region_ids(np.array([[1, 1, 1, 0]]), (1, 4))
    for ids, found in (([300], maps), ([], maps[:0])):
        (decision,) = decide_batch([image], [ids], [found], 300, config, [regions])
        assert decision.mask.tolist() == [[300 if ids else 0] * 3 + [0]] and decision.mask.dtype == np.uint16
