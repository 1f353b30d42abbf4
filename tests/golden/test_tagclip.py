"""TagCLIP's vote, propagation of probabilities (DMAR), second look (CWR) and labels, by the numbers of its code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from golden import arrays
from golden_model import model, voc_texts

from clipes.config import TAGCLIP_CODE, RelativeRuleConfig
from clipes.tags.dense_scores import boxes_above_mean, patch_probabilities, propagated_scores, tagclip_dense
from clipes.tags.recheck import rechecked, regions
from clipes.tags.rules import is_label
from clipes.vocabulary import load_vocabulary

GOLDEN = arrays("after", "tagclip")
PICTURES = range(sum(key.endswith("_input") for key in GOLDEN))
MEAN, STD = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
CLASSES = 20
STUFF = replace(TAGCLIP_CODE, blocks=11, recheck=0.1)
TEXT = torch.from_numpy(GOLDEN["text"])[:, None]


def grid_of(number):
    height, width = GOLDEN[f"{number}_input"].shape[1:]
    return height // 16, width // 16


def unpacked(bits, shape):
    return np.unpackbits(bits, axis=1)[:, : int(np.prod(shape))].reshape(-1, *shape).astype(bool)


@pytest.mark.parametrize("number", PICTURES)
def test_boxes(number):
    before = torch.from_numpy(GOLDEN[f"{number}_S_before"])
    inside = boxes_above_mean(before.T, grid_of(number), "paper")
    sure, want = GOLDEN[f"{number}_margin_boxes"] > 1e-5, unpacked(GOLDEN[f"{number}_boxes"], inside.shape[1:])
    np.testing.assert_array_equal(inside[sure], want[sure])


@pytest.mark.parametrize("number", [number for number in PICTURES if f"{number}_affinity" in GOLDEN])
def test_from_the_affinity(number):
    probabilities, affinity = (torch.from_numpy(GOLDEN[f"{number}_{key}"]) for key in ("P", "affinity"))
    before, after = propagated_scores(probabilities, affinity, grid_of(number), "paper")
    sure = GOLDEN[f"{number}_margin_boxes"] > 1e-5
    np.testing.assert_allclose(before, GOLDEN[f"{number}_S_before"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(after[:, sure], GOLDEN[f"{number}_S"][:, sure], rtol=0, atol=1e-6)


@pytest.mark.parametrize("prefix", ["", "stuff_"])
@pytest.mark.parametrize("number", PICTURES)
def test_labels(number, prefix):
    rule = RelativeRuleConfig(part=0.1 if prefix else 0.5)
    chosen = is_label(GOLDEN[f"{number}_{prefix}scores"], rule)
    np.testing.assert_array_equal(np.flatnonzero(chosen), GOLDEN[f"{number}_{prefix}labels"])


@pytest.mark.slow
def test_text():
    scenes = ("there is {} in the scene.", "this is {} in the scene.", "this is one {} in the scene.")
    templates = [scenes[0].format(f"{word} {{}}") for word in ("a", "the")]
    templates += [scenes[1].format(f"{word} {{}}") for word in ("a", "the", "one")]
    imagenet = load_vocabulary("voc12", None, "imagenet").templates
    names = list(load_vocabulary("voc12").class_names)
    np.testing.assert_allclose(voc_texts((*imagenet, *templates), names), GOLDEN["text"], rtol=0, atol=5e-6)


def pixels_of(number):
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))
    return (torch.from_numpy(GOLDEN[f"{number}_input"]) / 255 - mean) / std


@pytest.mark.slow
@pytest.mark.parametrize("number", PICTURES)
def test_from_the_picture(number):
    vision, pixels = model().vision, pixels_of(number)
    with torch.inference_mode():
        encoded = vision.encode(pixels[None], TAGCLIP_CODE.needs | STUFF.needs)
        probabilities = patch_probabilities(vision, encoded, TEXT)[0]
    # The code rounds resized positions to float16, except for the keys that end in _float32 and hold some columns.
    np.testing.assert_allclose(probabilities[:, ::4], GOLDEN[f"{number}_P_float32"], rtol=0, atol=1e-5)
    rows, votes = GOLDEN[f"{number}_sure_rows"].astype(bool), (encoded.votes[0] >= TAGCLIP_CODE.votes).numpy()
    wrong = votes != unpacked(GOLDEN[f"{number}_vote"], votes.shape[1:])
    assert wrong[rows].mean() <= 1e-4, "where no vote hangs on the last bits"
    for config, prefix in ((TAGCLIP_CODE, ""), (STUFF, "stuff_")):
        with torch.inference_mode():
            dense = tagclip_dense(vision, encoded, TEXT, config)[0]
            scores = rechecked(vision, pixels, dense, TEXT, CLASSES, config)
        before = GOLDEN[f"{number}_{prefix}scores_before"]
        np.testing.assert_allclose(dense.amax(0)[:CLASSES], before, rtol=0, atol=1e-5)
        np.testing.assert_allclose(scores, GOLDEN[f"{number}_{prefix}scores"], rtol=0, atol=1e-5)
        shown = list(regions(dense, grid_of(number), CLASSES, 14, config))
        assert [region.label for region in shown] == GOLDEN[f"{number}_{prefix}crop_classes"].tolist()
        for region, mask in zip(shown, GOLDEN[f"{number}_{prefix}crop_masks"], strict=True):
            np.testing.assert_array_equal(region.visible, mask)
        if not prefix:
            np.testing.assert_allclose(scores, GOLDEN[f"{number}_scores_float32"], rtol=0, atol=1e-6)
            sure = GOLDEN[f"{number}_margin_boxes_float32"][::4] > 1e-5
            cells = np.ix_(GOLDEN[f"{number}_sure_rows_float32"].astype(bool), sure)
            np.testing.assert_allclose(dense[:, ::4][cells], GOLDEN[f"{number}_S_float32"][cells], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "stop"), [("empty", True), ("empty", False), ("noempty", True)])
def test_second_look_from_stored_scores(name, stop):
    dense = torch.from_numpy(GOLDEN[f"{name}_S"])
    with torch.inference_mode():
        config = replace(TAGCLIP_CODE, stop_at_empty=stop)
        got = rechecked(model().vision, pixels_of(2), dense, TEXT, CLASSES, config)
    want = GOLDEN[f"{name}_scores" if stop else f"{name}_scores_patient"]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
