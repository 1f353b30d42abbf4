"""Decisions by the agreement of two backgrounds, against loops over pixels and through the whole path."""

from dataclasses import replace

import numpy as np
import pytest
import reference
import torch
from PIL import Image

from clipes.config import VOC12, AgreementConfig, ArgmaxConfig, CrfConfig, PamrConfig, ParConfig
from clipes.decision import agreement, agreement_of_labels, claims, decide_batch, decision_memory, label_with_band

CRF = CrfConfig(iterations=2)


def random_scores(rows, size, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(rows, *size, generator=generator, dtype=torch.float64) for _ in range(2)]


@pytest.mark.parametrize("conflict", ["background", "foreground"])
@pytest.mark.parametrize(("labels", "size"), [(1, (7, 11)), (2, (1, 30)), (20, (9, 4)), (0, (3, 5))])
def test_agreement_equals_the_loop(labels, size, conflict):
    """With a corner without scores, and ties."""
    much, little = random_scores(labels + 1, size, labels)
    much[0] *= 1.5
    much[:, :1, :2] = little[:, :1, :2] = 0
    much[:, :1, 2] = little[:, :1, 2] = 0.5
    rows = agreement(much, little, conflict=conflict).numpy()
    ids = list(range(1, labels + 1))
    np.testing.assert_array_equal(rows, reference.agreed(much.numpy(), little.numpy(), ids, conflict))
    assert rows[0, 0] == 255 and rows[0, 2] == 0


def test_labels_in_conflict():
    first, second = torch.tensor([3, 3, 0, 0, 3]), torch.tensor([3, 0, 0, 3, 7])
    assert agreement_of_labels(first, second, conflict="background").tolist() == [3, 0, 0, 255, 3]
    assert agreement_of_labels(first, second, conflict="foreground").tolist() == [3, 3, 0, 255, 3]
    assert agreement_of_labels(first, second, ignore=-1).tolist() == [3, 3, 0, -1, 3]


def test_a_band_is_open_above_and_closed_below():
    maps = torch.tensor([[[0.35, 0.36, 0.55, 0.56, 0.1]], [[0.1, 0.1, 0.1, 0.1, 0.9]]])
    assert label_with_band(maps, 0.45, (0.35, 0.55)).tolist() == [[0, 255, 255, 1, 2]]
    assert label_with_band(maps, 0.36).tolist() == [[0, 0, 1, 1, 2]]


def test_one_claim_counts_and_several_do_not():
    scores = torch.tensor([[[0.9, 0.5, 0.7, 0.1]], [[0.1, 0.5, 0.8, 0.1]]])
    assert claims(scores, 0.6, 0.7, 0.2).tolist() == [[0, 1, 255, 255]]
    assert claims(scores * 0.2, 0.6, 0.7, 0.2).eq(255).all(), "0.18 at most, and 0.2 is the least"


def pictures(sizes, labels, seed):
    generator = np.random.default_rng(seed)
    images = [Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]
    maps = [torch.from_numpy(generator.random((count, 3, 4)).astype(np.float32)) for count in labels]
    ids = [list(range(20, 20 - count, -1)) for count in labels]
    return images, ids, maps


def scores_against(cams, config, level):
    if config.background == "power":
        return reference.scores(cams, level)
    stacked = np.concatenate([np.full((1, *cams.shape[1:]), level), cams])
    return stacked / stacked.sum(0)


CONFIGS = [
    AgreementConfig(),
    AgreementConfig(levels=(0.5, 1.5), conflict="foreground"),
    AgreementConfig("constant", (0.6, 0.3)),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_decisions_equal_the_loop(config):
    """Without a refinement, whose statements are compared elsewhere."""
    images, ids, maps = pictures([(13, 21), (8, 5)], [2, 5], 3)
    decisions = decide_batch(images, ids, maps, 20, replace(VOC12, refine=None, mask=config))
    for image, own, coarse, found in zip(images, ids, maps, decisions, strict=True):
        cams = [reference.upsample(cam, (image.height, image.width)) for cam in coarse.double().numpy()]
        stacked = np.array(cams).reshape(len(own), image.height, image.width)
        much, little = (scores_against(stacked, config, level) for level in config.levels)
        mean = (much + little) / 2
        np.testing.assert_array_equal(found.mask, reference.agreed(much, little, own, config.conflict))
        np.testing.assert_allclose(found.scores, mean, rtol=0, atol=1e-6)
        rows = np.where(found.mask == 255, mean.argmax(0), 0)
        for row, index in enumerate(own, start=1):
            rows[found.mask == index] = row
        np.testing.assert_allclose(found.confidence, np.take_along_axis(mean, rows[None], 0)[0], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(found.map_confidence, found.confidence)


@pytest.mark.parametrize("refine", [CRF, ParConfig(iterations=2), PamrConfig(iterations=2)])
@pytest.mark.parametrize("config", CONFIGS)
def test_each_background_is_refined_alone(config, refine):
    """By the refinement that a decision against this background alone goes through."""
    images, ids, maps = pictures([(17, 21), (24, 10), (6, 6)], [2, 3, 0], 4)
    both = replace(VOC12, refine=refine, mask=config)
    found = decide_batch(images, ids, maps, 20, both)
    if config.background == "constant":
        return
    alone = [decide_batch(images, ids, maps, 20, replace(both, mask=ArgmaxConfig(level))) for level in config.levels]
    plain = decide_batch(images, ids, maps, 20, replace(both, refine=None))
    for own, one, much, little, before in zip(ids, found, *alone, plain, strict=True):
        np.testing.assert_array_equal(one.mask, reference.agreed(much.scores, little.scores, own, config.conflict))
        np.testing.assert_allclose(one.scores, (much.scores + little.scores) / 2, rtol=0, atol=1e-6)
        shown = [0, *own]
        sure = one.mask != 255
        rows = np.searchsorted(np.sort(shown), np.where(sure, one.mask, 0))
        rows = np.argsort(shown)[rows]
        expected = np.take_along_axis(before.scores, rows[None], 0)[0]
        np.testing.assert_allclose(one.map_confidence[sure], expected[sure], rtol=0, atol=1e-6)


@pytest.mark.parametrize("refine", [CRF, ParConfig(iterations=2), PamrConfig(iterations=2), None])
def test_a_batch_equals_its_singles(refine):
    images, ids, maps = pictures([(17, 21), (24, 10), (6, 6)], [2, 3, 0], 5)
    config = replace(VOC12, refine=refine, mask=AgreementConfig())
    for number, decision in enumerate(decide_batch(images, ids, maps, 20, config)):
        one = slice(number, number + 1)
        (single,) = decide_batch(images[one], ids[one], maps[one], 20, config)
        for name in decision._fields:
            np.testing.assert_array_equal(getattr(single, name), getattr(decision, name))


@pytest.mark.parametrize("config", CONFIGS)
def test_without_labels_all_is_background(config):
    images, ids, maps = pictures([(6, 7)], [0], 8)
    (decision,) = decide_batch(images, ids, maps, 20, replace(VOC12, mask=config))
    assert not decision.mask.any() and (decision.confidence == 1).all()


def test_more_than_254_classes():
    images, _, _ = pictures([(9, 7)], [1], 6)
    maps = torch.tensor([[[0.0, 0.2, 0.99]]])
    (decision,) = decide_batch(images, [[300]], [maps], 300, replace(VOC12, refine=None, mask=AgreementConfig()))
    assert decision.mask.dtype == np.uint16
    assert set(np.unique(decision.mask)) == {0, 300, 65535}


def test_memory_grows_with_the_backgrounds():
    one, two = (decision_memory([1000], [5], replace(VOC12, mask=mask)) for mask in (ArgmaxConfig(), AgreementConfig()))
    assert one < two < 2 * one
