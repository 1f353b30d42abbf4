"""From scores of all classes to an image's labels. Numbers only: no image and no model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipes.config import FixedRuleConfig, PerClassRuleConfig, RelativeRuleConfig, TagRuleConfig

NEAR = 0.1
"""A score is near its threshold if they differ by less than this share of the threshold."""


def thresholds(scores: ArrayLike, rule: TagRuleConfig) -> NDArray[np.float64]:
    """The threshold of each score (..., K) of one or more images: a class is a label above it.

    Raises ValueError for a rule with thresholds of another number of classes.
    """
    values = np.asarray(scores, np.float64)
    if isinstance(rule, PerClassRuleConfig) and len(rule.thresholds) != values.shape[-1]:
        raise ValueError(
            f"{len(rule.thresholds)} thresholds for {values.shape[-1]} classes; give one for each, in their order, or "
            "let `clipes tag --calibrate` fit them"
        )
    found: NDArray[np.float64] = np.broadcast_to(_RULES[type(rule)](values, rule), values.shape)
    return found


def is_label(scores: ArrayLike, rule: TagRuleConfig) -> NDArray[np.bool_]:
    """Which classes are labels of each image, for scores (..., K).

    By a relative rule the best class of an image is one even where all its scores are alike, unless it is below
    ``rule.least``.
    """
    values = np.asarray(scores, np.float64)
    chosen: NDArray[np.bool_] = values > thresholds(values, rule)
    if isinstance(rule, RelativeRuleConfig):
        first = np.arange(values.shape[-1]) == values.argmax(-1)[..., None]
        chosen = (chosen | (first & ~chosen.any(-1, keepdims=True))) & (values >= rule.least)
    return chosen


def is_near(scores: ArrayLike, rule: TagRuleConfig) -> NDArray[np.bool_]:
    """Which scores (..., K) are so near to their threshold that a look at the image is worth it."""
    least = thresholds(scores, rule)
    gap: NDArray[np.float64] = np.abs(np.asarray(scores, np.float64) - least)
    near: NDArray[np.bool_] = gap < NEAR * least
    return near


def _relative(scores: NDArray[np.float64], rule: RelativeRuleConfig) -> NDArray[np.float64]:
    least, most = scores.min(-1, keepdims=True), scores.max(-1, keepdims=True)
    found: NDArray[np.float64] = np.maximum(least + rule.part * (most - least), rule.least)
    return found


def _fixed(scores: NDArray[np.float64], rule: FixedRuleConfig) -> NDArray[np.float64]:
    return np.full(scores.shape[-1], rule.threshold)


def _per_class(scores: NDArray[np.float64], rule: PerClassRuleConfig) -> NDArray[np.float64]:
    return np.array(rule.thresholds, np.float64)


_RULES: dict[type, Callable[[NDArray[np.float64], Any], NDArray[np.float64]]] = {
    RelativeRuleConfig: _relative,
    FixedRuleConfig: _fixed,
    PerClassRuleConfig: _per_class,
}
"""The thresholds of scores (..., K) by each rule's settings, (..., 1), (K,) or (..., K)."""
