"""TagCLIP's scores against their slow statements, on random weights, pictures and texts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import reference_tags
import torch
from models import make_clip
from torch.nn import functional as F

from clipes.clip.open_clip_vision import vision_encoder
from clipes.clip.visible import visible_features
from clipes.config import TAGCLIP_CODE, TagClipConfig
from clipes.tags.dense_scores import boxes_above_mean, propagated_scores, tagclip_dense
from clipes.tags.recheck import rechecked, regions

CLASSES, WORDS = 5, 3
PATCH = 8


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def pictures(*grids: tuple[int, int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(3, h * PATCH, w * PATCH, generator=generator) for h, w in grids]


@pytest.fixture(scope="module")
def model():
    return make_clip(seed=5, layers=4, ls_init=0.3)


@pytest.mark.parametrize("boxes", ["paper", "exact"])
@pytest.mark.parametrize(("blocks", "votes"), [(1, 1), (2, 3), (9, 2)])
def test_dense_scores(model, blocks, votes, boxes):
    vision, text, grids = vision_encoder(model), unit(CLASSES + WORDS, 2, 24), [(5, 3), (4, 4), (2, 7)]
    config = TagClipConfig(blocks=blocks, votes=votes, boxes=boxes)
    images = pictures(*grids)
    with torch.inference_mode():
        found = tagclip_dense(vision, vision.encode(images, config.needs), text, config)
        scale = float(model.logit_scale.exp())
        for image, grid, got in zip(images, grids, found, strict=True):
            depth = min(blocks, len(vision.blocks) - 1)
            want = reference_tags.tagclip_dense(model.visual, image, text, scale, grid, depth, votes, boxes)
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


def test_a_batch_encoded_without_votes_is_refused(model):
    vision = vision_encoder(model)
    encoded = vision.encode(torch.stack(pictures((3, 3))))
    with pytest.raises(ValueError, match="encoded for other settings"):
        tagclip_dense(vision, encoded, unit(4, 1, 24), TagClipConfig())


def test_a_class_token_sees_only_what_is_visible(model):
    vision = vision_encoder(model)
    image = torch.stack(pictures((4, 4)))
    visible = torch.rand(1, 16, generator=torch.Generator().manual_seed(1)) > 0.5
    with torch.inference_mode():
        got = visible_features(vision, image, visible)[0]
        want = reference_tags.seen_feature(model.visual, image[0], visible[0])
        everything = visible_features(vision, image, torch.ones_like(visible))[0]
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(got, everything, atol=1e-2)


def test_the_second_look_at_each_class(model):
    """Against crops made one at a time, with a grid other than the model's own."""
    vision, text, grid = vision_encoder(model), unit(CLASSES + WORDS, 1, 24), (6, 5)
    dense = torch.rand(30, CLASSES + WORDS, generator=torch.Generator().manual_seed(8))
    (image,) = pictures(grid)
    config, scale = TagClipConfig(recheck=0.3), float(model.logit_scale.exp())
    best = dense[:, :CLASSES].amax(0)
    least = best.min() + 0.3 * (best.max() - best.min())
    with torch.inference_mode():
        got = rechecked(vision, image, dense, text, CLASSES, config)
        for label in range(CLASSES):
            if best[label] <= least:
                assert got[label] == best[label]
                continue
            scores = dense[:, label]
            region = ((scores - scores.min()) / (scores.max() - scores.min())).reshape(grid) > 0.5
            places = region.nonzero()
            (top, left), (bottom, right) = places.amin(0).tolist(), (places.amax(0) + 1).tolist()
            crop = image[None, :, top * PATCH : bottom * PATCH, left * PATCH : right * PATCH]
            crop = F.interpolate(crop, (32, 32), mode="bilinear", align_corners=False)[0]
            seen = F.interpolate(region[top:bottom, left:right][None, None].float(), (4, 4))[0, 0].flatten() > 0
            again = reference_tags.shares(reference_tags.seen_feature(model.visual, crop, seen), text, scale)[label]
            torch.testing.assert_close(got[label], (best[label] + again) / 2, rtol=1e-4, atol=1e-6)
        assert (got != best).sum() >= 2
        assert torch.equal(rechecked(vision, image, dense, text, CLASSES, replace(config, recheck=None)), best)


def test_quirks_of_the_code():
    """Class 0 is best in the last row, which the clipped box leaves out; then a word is better than all."""
    dense = torch.zeros(9, 4)
    dense[8, 0], dense[0, 1], dense[4, 2], dense[:, 3] = 0.9, 0.8, 0.5, 0.95
    dense[0, 3] = 0.0
    code = replace(TAGCLIP_CODE, recheck=0.5)

    def labels(config):
        return [region.label for region in regions(dense, (3, 3), 3, 2, config)]

    assert labels(code) == []
    assert labels(replace(code, stop_at_empty=False)) == [1, 2]
    assert labels(TagClipConfig()) == [0, 1]
    assert [region.box for region in regions(dense, (3, 3), 3, 2, TagClipConfig())] == [(2, 2, 3, 3), (0, 0, 1, 1)]
    dense[0, 3], dense[0, 1] = 1.9, 0.96
    assert labels(TagClipConfig(recheck_over="all")) == [1]
    assert labels(TagClipConfig()) == [0, 1]


def test_maps_of_many_classes_need_no_affinity_of_their_own():
    """Each class alone gives what it gives among 700 others, whose boxes are found in parts."""
    generator = torch.Generator().manual_seed(0)
    shares, affinity = torch.rand(12, 701, generator=generator), torch.rand(12, 12, generator=generator)
    together = propagated_scores(shares, affinity, (3, 4))[1]
    for label in (0, 255, 256, 700):
        alone = propagated_scores(shares[:, label : label + 1], affinity, (3, 4))[1]
        torch.testing.assert_close(together[:, label], alone[:, 0])


def test_boxes_hold_every_patch_above_the_mean():
    maps = torch.rand(6, 20, generator=torch.Generator().manual_seed(2))
    scaled = (maps - maps.amin(1, keepdim=True)) / (maps.amax(1, keepdim=True) - maps.amin(1, keepdim=True))
    assert (boxes_above_mean(maps, (4, 5)) >= (scaled > scaled.mean(1, keepdim=True) + 1 / 255)).all()
    assert boxes_above_mean(torch.zeros(1, 20), (4, 5)).sum() == 0
