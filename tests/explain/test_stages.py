"""Every stage, kept: the last is the generator's own, bit for bit, those between agree with the slow statements."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference
import torch
from models import make_clip, text_encoder
from PIL import Image
from scipy import ndimage

from clipes.cams.boxes import region_boxes
from clipes.clip.open_clip_vision import vision_encoder
from clipes.clip.weights import CLIP
from clipes.config import (
    SCENES,
    VOC12,
    AttentionAffinityConfig,
    Config,
    FeatureAffinityConfig,
    GradCamConfig,
    ImageConfig,
    ParConfig,
)
from clipes.explain.stages import trace_stages
from clipes.generator import MaskGenerator
from clipes.scenes import draw_scene
from clipes.vocabulary import load_vocabulary

NAMES = ["cat", "dog", "bus", "tree"]
SIZES = [(45, 70), (37, 16), (8, 8), (5, 91)]


@pytest.fixture(scope="module")
def model():
    return make_clip(seed=3, layers=4)


def generator_of(model, config=VOC12, background=("sky", "grass", "road")) -> MaskGenerator:
    words = load_vocabulary(NAMES, list(background))
    return MaskGenerator(CLIP(vision_encoder(model), text_encoder(24)), words, config)


def picture(size=(45, 70), seed=3_104_000) -> Image.Image:
    image = Image.fromarray(draw_scene(seed, (max(size[0], 8), max(size[1], 8))).image)
    return image.crop((0, 0, size[1], size[0]))


def same(one, other) -> None:
    """Two results, bit for bit."""
    assert one.labels == other.labels and one.num_classes == other.num_classes
    for name in ("class_ids", "patch_cams", "cams", "scores", "mask", "confidence", "map_confidence"):
        found, expected = getattr(one, name), getattr(other, name)
        assert found.dtype == expected.dtype and np.array_equal(found, expected), name
    assert np.array_equal(np.asarray(one.image), np.asarray(other.image))


# Each pair of values of two parameters occurs at least once.
CASES = [
    ("caa", "crf", (45, 70), []),
    ("caa", "crf", (37, 16), ["dog"]),
    ("initial", "crf", (8, 8), ["tree", "cat", "tree"]),
    ("initial", "crf", (5, 91), NAMES),
    ("initial", "par", (45, 70), ["dog"]),
    ("initial", "par", (37, 16), []),
    ("caa", "par", (8, 8), NAMES),
    ("caa", "par", (5, 91), ["tree", "cat", "tree"]),
    ("initial", "none", (37, 16), ["tree", "cat", "tree"]),
    ("caa", "none", (45, 70), ["tree", "cat", "tree"]),
    ("initial", "none", (45, 70), NAMES),
    ("caa", "none", (37, 16), NAMES),
    ("caa", "none", (8, 8), []),
    ("initial", "none", (5, 91), []),
    ("caa", "none", (8, 8), ["dog"]),
    ("initial", "none", (5, 91), ["dog"]),
]
STAGES = {"caa": AttentionAffinityConfig(), "initial": None, "crf": VOC12.refine, "par": ParConfig(), "none": None}


@pytest.mark.parametrize(("affinity", "refine", "size", "labels"), CASES)
def test_results_are_the_generators(model, affinity, refine, size, labels):
    config = Config(affinity=STAGES[affinity], refine=STAGES[refine])
    stages, image = trace_stages(generator_of(model, config), picture(size), labels), picture(size)
    same(stages.result, generator_of(model, config)(image, labels))
    same(stages.propagated, generator_of(model, replace(config, refine=None))(image, labels))
    initial = generator_of(model, replace(config, affinity=None, refine=None))(image, labels)
    if config.affinity is None:
        same(stages.initial, initial)
    else:  # it was encoded without attention maps, by products that round differently
        np.testing.assert_allclose(stages.initial.patch_cams, initial.patch_cams, rtol=0, atol=2e-5)
        np.testing.assert_allclose(stages.initial.scores, initial.scores, rtol=0, atol=2e-5)
    assert (stages.affinity is None) == (config.affinity is None)
    assert stages.labels == tuple(dict.fromkeys(labels)) and stages.config == config


@pytest.mark.parametrize(
    "config",
    [
        replace(VOC12, map=GradCamConfig(pool="cls")),
        replace(VOC12, image=ImageConfig(max_patches=20)),
        replace(VOC12, mask=replace(VOC12.mask, ignore_below=0.6, background_power=2.0)),
        SCENES,
        replace(VOC12, affinity=AttentionAffinityConfig(votes=2, radius=3, boxes="none")),
        replace(VOC12, affinity=FeatureAffinityConfig()),
    ],
    ids=["cls", "shrunk", "ignore", "scenes", "near", "features"],
)
def test_settings_reach_every_stage(model, config):
    generator, image = generator_of(model, config), picture((61, 83))
    stages = trace_stages(generator, image, ["bus", "cat"])
    same(stages.result, generator(image, ["bus", "cat"]))
    same(stages.propagated, generator_of(model, replace(config, refine=None))(image, ["bus", "cat"]))
    assert stages.grid == stages.result.patch_cams.shape[1:] and np.prod(stages.grid) <= config.image.max_patches


def test_the_bundled_models_own(tiny):
    scene = draw_scene(3_104_001, (66, 91))
    same(trace_stages(tiny, scene.image, scene.labels).result, tiny(scene.image, scene.labels))


def test_the_picture_that_the_encoder_sees(model):
    image = picture((45, 70))
    stages = trace_stages(generator_of(model), image, ["cat"])
    assert stages.grid == (6, 9) and stages.patch_size == 8
    assert np.array_equal(stages.resized, np.asarray(image.resize((72, 48), Image.Resampling.BICUBIC)))


@pytest.mark.parametrize("pool", ["patch", "cls"])
def test_probabilities_are_of_the_labels_and_the_background(model, pool):
    """In the order given, other classes left out; by the slow statement."""
    generator = generator_of(model, replace(VOC12, map=GradCamConfig(pool=pool)))
    stages = trace_stages(generator, picture(), ["tree", "dog"])
    assert stages.words == ("tree", "dog", "sky", "grass", "road")
    assert stages.probabilities.dtype == np.float32 and stages.probabilities.sum() == pytest.approx(1, abs=1e-6)
    visual, block = model.visual, model.visual.transformer.resblocks[-1]
    mean, std = generator.clip.vision.mean, generator.clip.vision.std
    pixels = torch.from_numpy((stages.resized / 255 - mean) / std).permute(2, 0, 1)
    x, _ = reference.encode(visual, pixels)
    output, _ = reference.block_from_normed(block, x, reference.layer_norm(x, block.ln_1))
    text = generator._text_features.double()[[3, 1, 4, 5, 6]]
    expected = reference.probabilities(visual, output, text, float(model.logit_scale.exp()), pool)
    assert np.abs(stages.probabilities - expected.detach().numpy()).max() < 1e-5
    assert len(set(expected.tolist())) == 5


@pytest.mark.parametrize("blocks", [2, 8])
def test_attention_is_the_mean_of_the_last_blocks(model, blocks):
    generator = generator_of(model, replace(VOC12, affinity=AttentionAffinityConfig(last_blocks=blocks)))
    stages = trace_stages(generator, picture(), ["cat", "bus"])
    mean, std = generator.clip.vision.mean, generator.clip.vision.std
    pixels = torch.from_numpy((stages.resized / 255 - mean) / std).permute(2, 0, 1)
    x, maps = reference.encode(model.visual, pixels)
    block = model.visual.transformer.resblocks[-1]
    maps.append(reference.block_from_normed(block, x, reference.layer_norm(x, block.ln_1))[1])
    expected = torch.stack(maps[-blocks:]).mean(0)[1:, 1:].detach().numpy()
    assert stages.affinity.attention.dtype == np.float32
    assert np.abs(stages.affinity.attention - expected).max() < 1e-6
    assert np.array_equal(stages.affinity.attention_of(2, 5), stages.affinity.attention[2 * 9 + 5].reshape(6, 9))


@pytest.mark.parametrize(("rounds", "steps"), [(3, 2), (0, 1), (1, 3)])
def test_the_affinity_is_the_matrix_of_the_statement(model, rounds, steps):
    affinity = AttentionAffinityConfig(sinkhorn_iterations=rounds, hops=steps, box_threshold=0.3, boxes="exact")
    stages = trace_stages(generator_of(model, replace(VOC12, affinity=affinity)), picture(), ["cat", "bus"])
    affinity = stages.affinity
    expected = reference.affinity(torch.from_numpy(affinity.attention).double(), rounds).numpy()
    assert affinity.matrix.dtype == np.float64
    np.testing.assert_allclose(affinity.matrix, expected, rtol=0, atol=1e-12)
    power = np.linalg.matrix_power(expected, steps)
    rows = np.array([[affinity.affinity_of(r, c) for c in range(9)] for r in range(6)])
    np.testing.assert_allclose(rows, power.reshape(6, 9, 6, 9), rtol=0, atol=1e-12)
    for index in (0, 1):  # what a patch collects is its refined value, but for the scaling
        given = affinity.inside[index] * stages.initial.patch_cams[index]
        collected = torch.from_numpy((rows * given).sum((2, 3))).flatten()
        refined = reference.min_max(collected).numpy().reshape(6, 9)
        np.testing.assert_allclose(stages.propagated.patch_cams[index], refined, rtol=0, atol=1e-6)


@pytest.mark.parametrize("boxes", ["paper", "exact"])
@pytest.mark.parametrize("threshold", [0.0, 0.4, 0.7])
def test_boxes_are_those_of_the_regions(model, boxes, threshold):
    affinity = AttentionAffinityConfig(box_threshold=threshold, boxes=boxes)
    stages = trace_stages(generator_of(model, replace(VOC12, affinity=affinity)), picture((80, 91)), NAMES)
    affinity, (h, w) = stages.affinity, stages.grid
    for cam, above, found, inside in zip(
        stages.initial.patch_cams, affinity.above, affinity.boxes, affinity.inside, strict=True
    ):
        levels = (cam * 255).astype(np.uint8)
        assert np.array_equal(above, levels > int(threshold * levels.max()))
        assert np.array_equal(inside, reference.box_mask(cam.astype(np.float64), threshold, boxes) > 0)
        union = np.zeros((h, w), bool)
        for top, left, bottom, right in found:
            assert 0 <= top < bottom <= h and 0 <= left < right <= w
            union[top:bottom, left:right] = True
        assert np.array_equal(union, inside)
        if boxes == "exact":
            regions = ndimage.find_objects(ndimage.label(above, np.ones((3, 3)))[0])
            assert sorted(found) == sorted((r.start, c.start, r.stop, c.stop) for r, c in regions)


def test_boxes_that_keep_no_patch_are_left_out():
    """By hand: regions in the last row, in the last column, and one that reaches into both."""
    cam = torch.zeros(1, 6, 7)
    cam[0, 5, 1] = cam[0, 0, 6] = cam[0, 1, 1] = 1
    cam[0, 4, 5] = cam[0, 5, 6] = 1
    full = [(0, 6, 1, 7), (1, 1, 2, 2), (4, 5, 6, 7), (5, 1, 6, 2)]
    assert sorted(region_boxes(cam, 0.4, "exact")[0]) == full
    assert sorted(region_boxes(cam, 0.4)[0]) == [(1, 1, 2, 2), (4, 5, 5, 6)]
    assert region_boxes(torch.zeros(2, 3, 3), 0.4) == [[], []] and region_boxes(torch.zeros(0, 3, 3), 0.4) == []
    assert region_boxes(torch.ones(1, 1, 1), 0.4) == [[(0, 0, 1, 1)]]


@pytest.mark.parametrize("place", [(6, 0), (0, 9), (-1, 0), (0, -1)])
def test_a_patch_outside_the_grid_is_refused(model, place):
    affinity = trace_stages(generator_of(model), picture(), ["cat"]).affinity
    for method in (affinity.attention_of, affinity.affinity_of):
        with pytest.raises(ValueError, match=rf"patch {place[0]},{place[1]} is outside the grid; rows are 0..5, col"):
            method(*place)


def test_errors_are_the_generators(model, tmp_path):
    with pytest.raises(ValueError, match="unknown class 'dag' in custom; did you mean 'dog'"):
        trace_stages(generator_of(model), picture(), ["dag"])
    with pytest.raises(FileNotFoundError, match="no such image"):
        trace_stages(generator_of(model), tmp_path / "no.png", ["dog"])
    with pytest.raises(ValueError, match="'dog' is the only label and there is no background word"):
        trace_stages(generator_of(model, background=()), picture(), ["dog"])


def test_no_background_word_and_no_label(model):
    generator = generator_of(model, background=())
    assert trace_stages(generator, picture(), ["dog", "cat"]).words == ("dog", "cat")
    assert trace_stages(generator, picture(), []).probabilities.shape == (0,)
