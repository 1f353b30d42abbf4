"""Upsampling, scores and decision against loops over pixels."""

import numpy as np
import pytest
import reference
import torch

from clipes.config import ArgmaxConfig, ConfidenceConfig
from clipes.decision import DECISIONS
from clipes.scores import ids_of_rows, score_maps, score_maps_constant, score_of_rows, upsample


def decide(scores, ids, below):
    """The ids, 255 where ignored, and the confidence that the rule for ``below`` gives."""
    config = ArgmaxConfig() if below is None else ConfidenceConfig(ignore_below=below)
    rows, ignored = DECISIONS[type(config)].rows([scores], config, below)
    mask = ids_of_rows(rows, ids)
    return mask if ignored is None else mask.masked_fill(ignored, 255), score_of_rows(scores, rows)


@pytest.mark.parametrize(
    ("grid", "size"), [((3, 4), (37, 21)), ((1, 1), (5, 9)), ((2, 7), (16, 56)), ((6, 1), (41, 3))]
)
def test_upsample_equals_the_loop(grid, size):
    cams = torch.rand(2, *grid, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = upsample(cams, size).numpy()
    for cam, expected in zip(found, (reference.upsample(c, size) for c in cams.numpy()), strict=True):
        np.testing.assert_allclose(cam, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("labels", [1, 2, 20])
def test_scores_and_decision_equal_the_loop(labels, power):
    cams = torch.rand(labels, 7, 11, generator=torch.Generator().manual_seed(labels), dtype=torch.float64) ** 2
    ids = list(range(20, 20 - labels, -1))
    stacked = score_maps(cams, power)
    expected = reference.scores(cams.numpy(), power)
    np.testing.assert_allclose(stacked.numpy(), expected, rtol=0, atol=1e-12)
    for below in (None, 0.0, 0.4, 1.0):
        mask, confidence = decide(stacked, torch.tensor(ids), below)
        np.testing.assert_array_equal(mask.numpy(), reference.decision(expected, ids, below))
        np.testing.assert_allclose(confidence.numpy(), expected.max(0), rtol=0, atol=1e-12)


def test_a_constant_background():
    cams = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    found = score_maps_constant(cams, 0.35)
    for row, column in np.ndindex(4, 5):
        stacked = [0.35, *cams[:, row, column].tolist()]
        np.testing.assert_allclose(found[:, row, column], np.array(stacked) / sum(stacked), rtol=0, atol=1e-12)


def test_scores_sum_to_one_at_the_extremes():
    cams = torch.tensor([[[0.0, 1.0]], [[0.0, 1.0]]])
    assert score_maps(cams).tolist() == [[[1.0, 0.0]], [[0.0, 0.5]], [[0.0, 0.5]]]


def test_without_labels_all_is_background():
    scores = score_maps(upsample(torch.zeros(0, 2, 3), (5, 6)))
    assert scores.shape == (1, 5, 6)
    mask, confidence = decide(scores, torch.zeros(0, dtype=torch.int64), None)
    assert mask.unique().tolist() == [0]
    assert confidence.unique().tolist() == [1.0]


def test_a_tie_goes_to_the_earlier_row():
    scores = torch.tensor([[[0.5]], [[0.5]]])
    assert decide(scores, torch.tensor([9]), None)[0].item() == 0
