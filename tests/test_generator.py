"""The whole path: parity with the float64 statement, batches, sizes, precision, errors."""

from dataclasses import replace

import numpy as np
import open_clip
import pytest
import reference
import torch
from models import make_clip, text_encoder
from PIL import Image

import clipes
from clipes.clip.open_clip_vision import vision_encoder
from clipes.clip.vision import VisionEncoder
from clipes.clip.weights import CLIP
from clipes.config import (
    CHOICES,
    AttentionAffinityConfig,
    ConfidenceConfig,
    Config,
    GradCamConfig,
    ImageConfig,
    ParConfig,
)
from clipes.generator import MaskGenerator
from clipes.io.images import patch_grid
from clipes.scenes import draw_scene
from clipes.vocabulary import load_vocabulary

NAMES = ["cat", "dog", "bus", "tree"]


def make_generator(model, config=clipes.VOC12, width=24, dtype=torch.float32, **vocabulary) -> MaskGenerator:
    words = load_vocabulary(NAMES, vocabulary.get("background", ["sky", "grass"]))
    return MaskGenerator(CLIP(vision_encoder(model).to(dtype=dtype), text_encoder(width)), words, config)


@pytest.fixture(scope="module")
def model():
    return make_clip(seed=0)


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(draw_scene(seed, (height, width)).image)


@pytest.fixture(scope="module")
def base():
    """A randomly initialised ViT-B/16 of full size."""
    torch.manual_seed(0)
    return open_clip.create_model("ViT-B-16-quickgelu", load_weights=False).eval()


@pytest.mark.parametrize(
    ("size", "labels"), [((97, 211), ["dog", "cat", "bus"]), ((150, 75), ["tree"]), ((16, 16), NAMES)]
)
def test_parity_with_the_float64_statement(base, size, labels):
    """A full-size ViT-B/16: initial maps within 1e-4 on the grid, refined maps at full size within 5e-4."""
    generator = make_generator(base, width=512)
    image = picture(*size)
    h, w = patch_grid(size, 16, 4096)
    resized = np.asarray(image.resize((w * 16, h * 16), Image.Resampling.BICUBIC), np.float64) / 255
    mean, std = generator.clip.vision.mean, generator.clip.vision.std
    pixels = torch.from_numpy((resized - mean) / std).permute(2, 0, 1)
    text = generator._text_features.double()
    own = text[[NAMES.index(name) for name in labels]]
    initial, refined = reference.cams_of_image(base, pixels, own, text[len(NAMES) :])

    grid_maps = make_generator(base, replace(clipes.VOC12, affinity=None), width=512).compute_cams(
        pixels[None].float(), [[NAMES.index(name) + 1 for name in labels]]
    )
    assert (grid_maps[0].double() - initial.reshape(-1, h, w)).abs().max() < 1e-4
    result = generator(image, labels)
    for found, cam in zip(result.cams, refined, strict=True):
        assert np.abs(found - reference.upsample(cam.reshape(h, w).numpy(), size)).max() < 5e-4


@pytest.mark.parametrize("affinity", [None, *(kind() for kind in CHOICES["affinity"].values() if kind)])
@pytest.mark.parametrize("source", [kind() for kind in CHOICES["map"].values()])
def test_a_batch_without_a_label_has_no_maps(model, source, affinity):
    generator = make_generator(model, replace(clipes.VOC12, map=source, affinity=affinity))
    pixels = torch.zeros(2, 3, 16, 24)
    assert [tuple(maps.shape) for maps in generator.compute_cams(pixels, [[], []])] == [(0, 2, 3)] * 2
    assert [len(maps) for maps in generator.compute_cams(list(pixels), [[], [2, 1]])] == [0, 2]


@pytest.mark.parametrize(
    "config",
    [clipes.VOC12, replace(clipes.VOC12, affinity=None, refine=ParConfig()), clipes.config.SCENES],
    ids=["voc12", "no affinity", "scenes"],
)
def test_an_image_is_encoded_once_and_decided_for_many_labels(model, monkeypatch, config):
    generator, image = make_generator(model, config), picture(45, 70)
    asked = [["dog"], ["tree", "cat", "tree"], [], NAMES]
    expected = [generator(image, labels) for labels in asked]
    features = generator.encode(image)
    monkeypatch.setattr(VisionEncoder, "encode", lambda *arguments: pytest.fail("encoded again"))
    for labels, other in zip(asked, expected, strict=True):
        result = generator.decide(features, labels)
        assert result.labels == other.labels
        for name in ("class_ids", "patch_cams", "cams", "scores", "mask", "confidence"):
            assert getattr(result, name).tobytes() == getattr(other, name).tobytes(), name
    with pytest.raises(ValueError, match="unknown class 'cow'"):
        generator.decide(features, ["cow"])


def test_features_without_attention_are_refused(model):
    features = make_generator(model, replace(clipes.VOC12, affinity=None)).encode(picture(45, 70))
    with pytest.raises(ValueError, match="encoded for other settings, without what these need; encode with the same"):
        make_generator(model).decide(features, ["dog"])


def test_a_generator_says_what_it_is(model):
    generator = make_generator(model, replace(clipes.VOC12, affinity=None))
    assert repr(generator) == (
        "MaskGenerator(ViT of 3 blocks, patches of 8, torch.float32, cpu; 4 classes, 2 background words; no affinity, "
        "refine crf)"
    )


def test_result_holds_what_it_promises(model):
    result = make_generator(model)(picture(45, 70), ["bus", "cat", "bus"])
    assert result.labels == ("bus", "cat")
    assert result.class_ids.tolist() == [3, 1]
    assert result.size == (45, 70)
    assert (result.cams.shape, result.cams.dtype) == ((2, 45, 70), np.float32)
    assert (result.scores.shape, result.scores.dtype) == ((3, 45, 70), np.float32)
    assert (result.mask.shape, result.mask.dtype) == ((45, 70), np.uint8)
    assert result.cams.min() >= 0 and result.cams.max() <= 1
    np.testing.assert_allclose(result.scores.sum(0), 1, atol=2e-6)
    np.testing.assert_array_equal(result.confidence, result.scores.max(0))
    assert set(np.unique(result.mask)) <= {0, 1, 3, 255}
    np.testing.assert_array_equal(result.mask == 255, result.confidence < 0.95)
    assert np.asarray(result.image).shape == (45, 70, 3)


def test_the_mask_is_the_argmax_of_the_scores(model):
    result = make_generator(model)(picture(60, 40), ["bus", "cat", "tree"])
    decided = result.mask != 255
    np.testing.assert_array_equal(result.mask[decided], np.array([0, 3, 1, 4])[result.scores.argmax(0)][decided])


def test_a_mixed_batch_equals_its_singles(model):
    """On a CPU in float32: to 1e-4 on the maps, the same masks but where two scores tie within that; with the CPU's
    own batch size of 1, the same bits."""
    generator = make_generator(model)
    sizes = [(40, 64), (64, 40), (33, 64), (8, 8), (40, 64), (100, 31)]
    images = [picture(*size, seed) for seed, size in enumerate(sizes)]
    labels = [["cat"], ["dog", "bus"], NAMES, ["tree", "cat"], ["bus", "tree", "dog"], []]
    singles = [generator(image, row) for image, row in zip(images, labels, strict=True)]
    for one, many in zip(singles, generator.generate(images, labels), strict=True):
        np.testing.assert_array_equal(many.cams, one.cams)
        np.testing.assert_array_equal(many.mask, one.mask)
    for batch_size in (2, 3, 6):
        for one, many in zip(singles, generator.generate(images, labels, batch_size), strict=True):
            np.testing.assert_allclose(many.cams, one.cams, rtol=0, atol=1e-4)
            ordered = np.sort(one.scores, 0)
            clear = ordered[-1] - ordered[-2] > 1e-3 if len(ordered) > 1 else np.ones(one.size, bool)
            np.testing.assert_array_equal(many.mask[clear], one.mask[clear])


def test_generate_is_lazy_and_keeps_order(model):
    seen = []

    def images():
        for seed in range(5):
            seen.append(seed)
            yield picture(16 + 8 * seed, 16, seed)

    results = make_generator(model).generate(images(), [["cat", "dog"]] * 5, 2)
    assert next(results).size == (16, 16)
    assert seen == [0, 1]
    assert [result.size[0] for result in results] == [24, 32, 40, 48]


def test_no_label_is_all_background(model):
    result = make_generator(model)(picture(20, 30), [])
    assert (result.mask == 0).all() and (result.confidence == 1).all()
    assert result.cams.shape == (0, 20, 30) and result.segments() == []


def test_labels_in_another_order_give_the_same_mask(model):
    generator = make_generator(model, dtype=torch.float64)
    one = generator(picture(40, 50), ["cat", "bus", "tree"])
    other = generator(picture(40, 50), ["tree", "cat", "bus"])
    np.testing.assert_allclose(other.cams[[1, 2, 0]], one.cams, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(other.mask, one.mask)


def test_settings_reach_the_result(model):
    images, labels = [picture(64, 64, seed) for seed in range(4)], [["cat", "bus", "tree"]] * 4
    base = list(make_generator(model).generate(images, labels))

    def differs(**parts):
        results = make_generator(model, replace(clipes.VOC12, **parts)).generate(images, labels)
        return any((r.scores != b.scores).any() or (r.mask != b.mask).any() for r, b in zip(results, base, strict=True))

    assert differs(affinity=None)
    assert differs(map=GradCamConfig(pool="cls"))
    assert differs(image=ImageConfig(max_patches=16))
    assert differs(mask=ConfidenceConfig(background_power=2))
    assert differs(mask=ConfidenceConfig(ignore_below=0.9))
    for change in (
        {"last_blocks": 1},
        {"sinkhorn_iterations": 1},
        {"box_threshold": 0.95},
        {"boxes": "exact"},
        {"hops": 1},
    ):
        assert differs(affinity=AttentionAffinityConfig(**change)), change


def test_ignored_pixels_are_those_of_low_confidence(model):
    result = make_generator(model, replace(clipes.VOC12, mask=ConfidenceConfig(ignore_below=0.6)))(
        picture(50, 50), ["cat", "dog"]
    )
    np.testing.assert_array_equal(result.mask == 255, result.confidence < 0.6)


def test_a_huge_picture_is_shrunk_for_the_model_only(model):
    config = Config(image=ImageConfig(max_patches=12))
    result = make_generator(model, config)(picture(120, 300), ["cat", "dog"])
    assert result.size == (120, 300)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float64])
def test_other_precisions_stay_close(precision):
    """bfloat16 before the last block moves maps by less than 0.15 and masks on less than 10 % of the pixels."""
    model = make_clip(seed=1)
    image, labels = picture(64, 48), ["cat", "bus"]
    exact = make_generator(model)(image, labels)
    other = make_generator(model, dtype=precision)(image, labels)
    limit, share = (1e-4, 0.001) if precision == torch.float64 else (0.15, 0.1)
    assert np.abs(other.cams - exact.cams).max() < limit
    assert (other.mask != exact.mask).mean() <= share


def test_more_than_254_classes_make_16_bit_masks(model, tmp_path):
    names = [f"thing {index}" for index in range(300)]
    words = load_vocabulary(names, ["sky"])
    generator = MaskGenerator(CLIP(vision_encoder(model), text_encoder(24)), words, clipes.VOC12)
    result = generator(picture(32, 32), ["thing 299", "thing 3"])
    assert result.mask.dtype == np.uint16 and set(np.unique(result.mask)) <= {0, 300, 4, 65535}
    result.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "mask.png")), result.mask)


def test_errors_teach(model, tmp_path):
    generator = make_generator(model)
    with pytest.raises(ValueError, match=r"unknown class 'dogg' in .*did you mean 'dog'\?"):
        generator(picture(16, 16), ["dogg"])
    with pytest.raises(TypeError, match="list"):
        generator(picture(16, 16), "dog")
    with pytest.raises(FileNotFoundError, match=r"no such image: .*none\.jpg"):
        generator(tmp_path / "none.jpg", ["dog"])
    with pytest.raises(ValueError, match="batch_size is 0; it must be a whole number of at least 1"):
        list(generator.generate([], [], 0))
    with pytest.raises(ValueError, match=r"longer|shorter"):
        list(generator.generate(iter([picture(16, 16)] * 2), [["dog", "cat"]]))
    for one in (picture(16, 16), np.zeros((16, 16, 3), np.uint8)):
        with pytest.raises(TypeError, match="call the generator for one"):
            generator.generate(one, [["dog"]])
    with pytest.raises(TypeError, match="config is 'voc12'; give a clipes"):
        make_generator(model, "voc12")
    for ids in ([], [[0]], [[5]]):
        with pytest.raises(ValueError, match=r"give each image ids of 1\.\.4"):
            generator.compute_cams(torch.zeros(1, 3, 16, 16), ids)
    with pytest.raises(TypeError, match="call the generator for one"):
        list(generator.generate("dog.jpg", [["dog"]]))
    with pytest.raises(ValueError, match="2 images but 1 lists of labels"):
        list(generator.generate([picture(16, 16)] * 2, [["dog", "cat"]]))
    with pytest.raises(ValueError, match="'dog' is the only label and there is no background word"):
        make_generator(model, background=[])(picture(16, 16), ["dog"])


def test_two_labels_need_no_background(model):
    result = make_generator(model, background=[])(picture(40, 40), ["dog", "cat"])
    assert result.cams.max() > 0.5


def test_maps_that_are_not_finite_are_refused(model):
    broken = make_clip(seed=0)
    broken.visual.transformer.resblocks[0].mlp.c_fc.weight.data[0, 0] = torch.inf
    with pytest.raises(FloatingPointError, match="precision='fp32'"):
        make_generator(broken)(picture(16, 16), ["dog", "cat"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "ViT-B-16", "pretrained": "openai"}, "no classes given for ViT-B-16"),
        ({"device": "abacus"}, "unknown device 'abacus'"),
        ({"device": "meta"}, "device 'meta' is not supported"),
        ({"device": "cuda:99"}, "CUDA devices"),
        ({"precision": "fp12"}, "unknown precision 'fp12'; it is one of fp32, bf16, fp16"),
        ({"precision": "fp16", "device": "cpu"}, "use 'bf16' or 'fp32'"),
        ({"classes": "voc13"}, "voc12"),
    ],
)
def test_load_refuses_what_does_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        clipes.load(**arguments)


def test_load_takes_the_bundled_model_by_default():
    generator = clipes.load(device="cpu")
    assert generator.class_names == clipes.scenes.THINGS
    assert set(generator.background_names) == set(clipes.scenes.GROUNDS)
    assert generator.config == clipes.config.SCENES
