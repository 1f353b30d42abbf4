"""Scores to labels: thresholds by each rule, and thresholds fitted to labelled images."""

from __future__ import annotations

import numpy as np
import pytest
import reference_tags

from clipes.config import FixedRuleConfig, PerClassRuleConfig, RelativeRuleConfig
from clipes.tags.calibrate import average_precisions, best_threshold, calibrate, f1_scores
from clipes.tags.rules import is_label, is_near, thresholds

SCORES = np.array([[0.9, 0.1, 0.6], [0.2, 0.2, 0.2], [0.05, 0.0, 0.1]])


def test_relative():
    rule = RelativeRuleConfig(part=0.5)
    assert thresholds(SCORES, rule)[:, 0].tolist() == pytest.approx([0.5, 0.2, 0.05])
    assert is_label(SCORES, rule).tolist() == [[True, False, True], [True, False, False], [False, False, True]]
    assert is_label(SCORES[0], rule).tolist() == [True, False, True]
    assert is_label(SCORES, RelativeRuleConfig(least=0.15)).sum(1).tolist() == [2, 1, 0]


def test_fixed_and_per_class():
    assert is_label(SCORES, FixedRuleConfig(0.55)).sum(1).tolist() == [2, 0, 0]
    each = PerClassRuleConfig((0.95, 0.05, 0.15))
    assert is_label(SCORES, each).tolist() == [[False, True, True], [False, True, True], [False] * 3]
    with pytest.raises(ValueError, match="2 thresholds for 3 classes; give one for each"):
        thresholds(SCORES, PerClassRuleConfig((0.5, 0.5)))


def test_near():
    assert is_near(np.array([0.549, 0.551, 0.449, 0.45]), FixedRuleConfig(0.5)).tolist() == [True, False, False, True]


@pytest.mark.parametrize("seed", range(5))
def test_the_best_threshold(seed):
    random = np.random.default_rng(seed)
    scores, shown = random.random(30).round(1 + seed % 2), random.random(30) > 0.7
    threshold = best_threshold(scores, shown)
    got = f1_scores(scores[:, None] > threshold, shown[:, None])[0]
    assert got == pytest.approx(reference_tags.best_f1(scores, shown))


def test_calibrated_thresholds_part_the_classes():
    random = np.random.default_rng(0)
    shown = random.random((60, 3)) > 0.6
    shown[:, 2] = False
    scores = np.where(shown, 0.5, 0.2) + 0.1 * random.random((60, 3))
    found = calibrate(scores, shown)
    assert found.f1[:2].tolist() == [1, 1] and found.images.tolist() == shown.sum(0).tolist()
    assert found.thresholds[2] == found.shared and 0.3 < found.shared < 0.5
    assert found.mean_f1 < 1 or np.isnan(found.f1[2])


def test_cross_validation_says_that_chance_is_chance():
    """On pure noise the fitted images look better than unseen ones."""
    random = np.random.default_rng(1)
    scores, shown = random.random((40, 8)), random.random((40, 8)) > 0.9
    found = calibrate(scores, shown)
    fitted = np.nanmean(f1_scores(scores > found.thresholds, shown))
    assert found.mean_f1 < fitted - 0.05


def test_too_little_to_calibrate():
    with pytest.raises(ValueError, match="3 images of known labels, with 1 labels; thresholds need at least 5"):
        calibrate(np.zeros((3, 2)), np.eye(3, 2, dtype=bool)[:, ::-1] & np.array([[True], [False], [False]]))
    with pytest.raises(ValueError, match="6 images of known labels, with 0 labels"):
        calibrate(np.zeros((6, 2)), np.zeros((6, 2), bool))


def test_average_precision():
    """Images in the order 2, 0, 1: hits at places 1 and 3."""
    scores, shown = np.array([[0.5, 0], [0.1, 0], [0.9, 0]]), np.array([[0, 0], [1, 0], [1, 0]], bool)
    first, second = average_precisions(scores, shown)
    assert first == pytest.approx((1 + 2 / 3) / 2) and np.isnan(second)
