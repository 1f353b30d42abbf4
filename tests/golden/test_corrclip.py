"""CorrCLIP's scope and map correction, by the numbers of its code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import arrays, same
from golden_model import model

from clipes.cams.scope import in_scope, joined_regions
from clipes.clip.mlp import linear
from clipes.clip.transformer import merge_heads, project_qkv
from clipes.config import EncodeRequest
from clipes.regions import region_ids
from clipes.regions.vote import mode_vote

GOLDEN = arrays("after", "corrclip")
CASES = sorted(key.removesuffix("_similarity_features") for key in GOLDEN if key.endswith("_similarity_features"))
MEAN, STD = ((122.771, 116.746, 104.094), (68.501, 66.632, 70.323))


def nearest(regions, shape):
    """Ids on the patch grid, by the pixel at the top left of each patch; the code takes the lowest id for none."""
    rows, columns = (np.arange(count) * side // count for count, side in zip(shape, regions.shape, strict=True))
    ids = region_ids(regions, regions.shape, int(regions.min()))
    return torch.from_numpy(ids[rows[:, None], columns].ravel().astype(np.int64))


def scope(case, join):
    """The softmax of four times the similarity (N, N) within the regions."""
    vectors, regions = torch.from_numpy(GOLDEN[f"{case}_similarity_features"]), GOLDEN[f"{case}_regions"]
    ids = nearest(regions, GOLDEN[f"{case}_shape"])
    similarity = vectors @ vectors.T
    if join:
        ids = joined_regions(vectors, ids, 0.2)
    allowed = in_scope(similarity[None], ids[None], torch.ones(1, len(ids), dtype=torch.bool))[0]
    return (4 * similarity).masked_fill(~allowed, -torch.inf).softmax(-1)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tag", ["", "_nomerge"])
def test_scope(case, tag):
    found = scope(case, join=not tag)
    for key, want in ((f"{case}_P{tag}", found), (f"{case}_P_rows{tag}", found[::7])):
        if key in GOLDEN:
            np.testing.assert_allclose(want, GOLDEN[key], rtol=0, atol=1e-5)
            return
    assert f"{case}_main_features{tag}" not in GOLDEN


@pytest.mark.parametrize("case", [case for case in CASES if f"{case}_clusters" in GOLDEN])
def test_regions_that_are_joined(case):
    ids = nearest(GOLDEN[f"{case}_regions"], GOLDEN[f"{case}_shape"])
    joined = joined_regions(torch.from_numpy(GOLDEN[f"{case}_similarity_features"]), ids, 0.2)
    of_region = [int(joined[ids == index][0]) for index in ids.unique().tolist() if index]
    want = GOLDEN[f"{case}_clusters"]
    same(case, np.unique(of_region, return_inverse=True)[1], np.unique(want, return_inverse=True)[1])
    assert set(joined[ids == 0].tolist()) <= {0}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tag", ["", "_nomerge"])
def test_features_of_the_picture(case, tag):
    if f"{case}_main_features{tag}" not in GOLDEN:
        pytest.skip("not among the golden numbers")
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))
    pixels = (torch.from_numpy(GOLDEN["a_input" if case == "a" else "b_input"]) - mean) / std
    vision = model().vision
    with torch.inference_mode():
        encoded = vision.encode(pixels[None], EncodeRequest(tokens=1), "bicubic")
        block, head, tokens = vision.blocks[-1], vision.head, encoded.tokens[-1]
        value = merge_heads(project_qkv(block, block.ln_1(tokens))[2])[:, 1:]
        maps = value.mT.reshape(1, -1, *encoded.grids[0])
        size = tuple(GOLDEN[f"{case}_shape"].tolist())
        maps = torch.nn.functional.interpolate(maps, size, mode="bilinear", align_corners=False)
        mixed = linear(scope(case, not tag) @ maps.flatten(2)[0].T, block.out_weight, block.out_bias)
        features = torch.nn.functional.normalize(head.ln_post(mixed) @ head.projection, dim=-1)
    np.testing.assert_allclose(features, GOLDEN[f"{case}_main_features{tag}"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", ["map", "tie", "whole"])
def test_map_correction(case):
    labels, regions = GOLDEN[f"{case}_labels"], GOLDEN[f"{case}_regions"]
    ids = region_ids(regions, labels.shape, int(regions.min()))
    same(case, mode_vote(labels, ids, 255), GOLDEN[f"{case}_corrected"])
