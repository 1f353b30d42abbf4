"""TagCLIP's vote and its propagation of patch probabilities (DMAR), by the numbers of its code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from golden import arrays
from golden_model import model

from clipes.cams.affinity import affinity_matrix
from clipes.cams.boxes import boxed
from clipes.cams.dense import dense_features
from clipes.cams.propagation import propagate
from clipes.cams.scaling import min_max
from clipes.config import AttentionAffinityConfig, EncodeRequest

GOLDEN = arrays("after", "tagclip")
PICTURES = range(sum(key.endswith("_input") for key in GOLDEN))
MEAN, STD = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
VOC = AttentionAffinityConfig(
    last_blocks=4, skip_last=True, votes=4, sinkhorn_iterations=0, symmetric=False, boxes="none", hops=1
)
STUFF = replace(VOC, last_blocks=12)


def grid_of(number):
    height, width = GOLDEN[f"{number}_input"].shape[1:]
    return height // 16, width // 16


def unpacked(bits, shape):
    return np.unpackbits(bits, axis=1)[:, : int(np.prod(shape))].reshape(-1, *shape).astype(bool)


def boxes_above_mean(scores, grid):
    """The boxes of each class's scores (N, K), min-max scaled, above their mean, at 256 levels: (K, N)."""
    maps = min_max(scores.T).reshape(-1, *grid)
    levels, least = (maps * 255).to(torch.uint8), (maps.mean((1, 2)) * 255).floor()
    return boxed(levels > least[:, None, None]).flatten(1)


def dmar(probabilities, affinity, grid):
    """Scores (N, K) before and after the class-wise box masks, from (N, K) probabilities and (N, N) affinity."""
    before = propagate(probabilities.T, affinity).T
    inside = boxes_above_mean(before, grid)
    return before, propagate(probabilities.T * inside, affinity).T


@pytest.mark.parametrize("number", PICTURES)
def test_boxes(number):
    inside = boxes_above_mean(torch.from_numpy(GOLDEN[f"{number}_S_before"]), grid_of(number))
    sure, want = GOLDEN[f"{number}_margin_boxes"] > 1e-5, unpacked(GOLDEN[f"{number}_boxes"], inside.shape[1:])
    np.testing.assert_array_equal(inside[sure], want[sure])


@pytest.mark.parametrize("number", [number for number in PICTURES if f"{number}_affinity" in GOLDEN])
def test_from_the_affinity(number):
    probabilities, affinity = (torch.from_numpy(GOLDEN[f"{number}_{key}"]) for key in ("P", "affinity"))
    before, after = dmar(probabilities, affinity, grid_of(number))
    sure = GOLDEN[f"{number}_margin_boxes"] > 1e-5
    np.testing.assert_allclose(before, GOLDEN[f"{number}_S_before"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(after[:, sure], GOLDEN[f"{number}_S"][:, sure], rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("number", PICTURES)
def test_from_the_picture(number):
    clip, text = model(), torch.from_numpy(GOLDEN["text"])
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))
    pixels = (torch.from_numpy(GOLDEN[f"{number}_input"]) / 255 - mean) / std
    with torch.inference_mode():
        encoded = clip.vision.encode(pixels[None], VOC.needs | STUFF.needs | EncodeRequest(tokens=1))
        block, head, tokens = clip.vision.blocks[-1], clip.vision.head, encoded.tokens[-1]
        features = dense_features(block, head, tokens, encoded.grids, "identity", True, 5.0)
        probabilities = (head.logit_scale * torch.nn.functional.normalize(features[0], dim=-1) @ text.T).softmax(-1)
    # The code rounds resized positions to float16, except for the keys that end in _float32 and hold some columns.
    np.testing.assert_allclose(probabilities[:, ::4], GOLDEN[f"{number}_P_float32"], rtol=0, atol=1e-5)
    rows, votes = GOLDEN[f"{number}_sure_rows"].astype(bool), (encoded.votes[0] >= VOC.votes).numpy()
    wrong = votes != unpacked(GOLDEN[f"{number}_vote"], votes.shape[1:])
    assert wrong[rows].mean() <= 1e-4, "where no vote hangs on the last bits"
    for config, prefix in ((VOC, ""), (STUFF, "stuff_")):
        attention = encoded.attention[config.attention]
        affinity = affinity_matrix(attention, encoded.grids, config, encoded.votes)[0]
        _, after = dmar(probabilities.double(), affinity, encoded.grids[0])
        best = GOLDEN[f"{number}_{prefix}scores_before"]
        np.testing.assert_allclose(after.amax(0)[: len(best)], best, rtol=0, atol=1e-5)
        if not prefix:
            sure = GOLDEN[f"{number}_margin_boxes_float32"][::4] > 1e-5
            cells = np.ix_(GOLDEN[f"{number}_sure_rows_float32"].astype(bool), sure)
            np.testing.assert_allclose(after[:, ::4][cells], GOLDEN[f"{number}_S_float32"][cells], rtol=0, atol=1e-5)
