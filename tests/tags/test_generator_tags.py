"""Images without labels: tagged, and masked by their tags, from one encoding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import clipes
from clipes import config
from clipes.clip.vision import VisionEncoder
from clipes.tags.images import tags_of_scores


@pytest.fixture(scope="module")
def scenes():
    return [clipes.scenes.draw_scene(seed=seed) for seed in (7, 3, 11)]


@pytest.fixture(scope="module")
def generator():
    return clipes.load("tiny", device="cpu")


def test_the_best_come_first_and_scores_are_rounded():
    tags = tags_of_scores([0.1234567, 0.9, 0.31], ["a", "b", "c"], config.FixedRuleConfig(0.3))
    assert tags.labels == ("b", "c") and tags.near == ("c",)
    assert tags.scores == {"a": 0.123457, "b": 0.9, "c": 0.31} and tags.chosen == {"b": 0.9, "c": 0.31}


@pytest.mark.parametrize(
    "method", [config.TagClipConfig(), config.GlobalTagsConfig(), config.GlobalTagsConfig("patch")]
)
def test_each_method_finds_a_thing(generator, method):
    scene = clipes.scenes.draw_scene(seed=7)
    one = clipes.MaskGenerator(generator.clip, generator.vocabulary, replace(generator.config, tags=method))
    tags = one.tag(scene.image)
    assert tags.labels[0] in scene.labels
    assert list(tags.scores) == list(generator.class_names) and all(0 <= score <= 1 for score in tags.scores.values())


def test_masks_without_labels_are_those_of_the_tags(generator, scenes):
    results = list(generator.generate([scene.image for scene in scenes]))
    for scene, result in zip(scenes, results, strict=True):
        tags = generator.tag(scene.image)
        assert result.labels == tags.labels and result.tags == tags.chosen
        given = generator(scene.image, tags.labels)
        assert given.tags is None
        np.testing.assert_allclose(result.patch_cams, given.patch_cams, rtol=0, atol=1e-4)
        assert (result.mask != given.mask).mean() < 1e-3
        assert np.array_equal(generator(scene.image).mask, result.mask)


def test_some_labels_are_given(generator, scenes):
    images = [scene.image for scene in scenes]
    found, given, nothing = generator.generate(images, [None, scenes[1].labels, []], batch_size=3)
    assert found.tags and found.labels == tuple(found.tags)
    assert given.labels == tuple(scenes[1].labels) and given.tags is None
    assert np.array_equal(given.mask, generator(images[1], scenes[1].labels).mask)
    assert nothing.labels == () and nothing.tags is None


def test_each_image_is_encoded_once(generator, scenes, monkeypatch):
    encode, calls = VisionEncoder.encode, []

    def counted(*given):
        calls.append(1)
        return encode(*given)

    monkeypatch.setattr(VisionEncoder, "encode", counted)
    list(generator.generate([scene.image for scene in scenes]))
    assert len(calls) == len(scenes)


def test_nothing_of_the_list_is_there(generator, scenes):
    strict = replace(generator.config, tag_rule=config.FixedRuleConfig(1.0))
    result = clipes.MaskGenerator(generator.clip, generator.vocabulary, strict)(scenes[0].image)
    assert result.labels == () and result.tags == {} and not result.mask.any()


def test_maps_of_several_views(generator, scenes):
    views = replace(generator.config, views=config.ViewsConfig(scales=(1.0, 1.5)))
    several = clipes.MaskGenerator(generator.clip, generator.vocabulary, views)
    result = several(scenes[0].image)
    assert result.tags == generator.tag(scenes[0].image).chosen
    assert np.array_equal(result.mask, several(scenes[0].image, result.labels).mask)


def test_a_classifier_that_is_not_there(generator, scenes):
    def with_bank(**settings):
        method = replace(generator.config, tags=config.BankTagsConfig(**settings))
        return clipes.MaskGenerator(generator.clip, generator.vocabulary, method)

    with pytest.raises(ValueError, match="'bank' needs the file of its classifier; name one"):
        with_bank().tag(scenes[0].image)
    with pytest.raises(FileNotFoundError, match=r"there is no bank 'nothing\.npz'"):
        with_bank(file="nothing.npz").tag(scenes[0].image)
