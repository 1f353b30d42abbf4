"""Given labels against scores: which labels are doubtful, which classes seem to be missing, and by how much.

Axes: n images, K classes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipes.config import TagRuleConfig

from .rules import is_label, thresholds


class ScoredLabel(NamedTuple):
    """A class's score on an image, and its threshold there."""

    score: float
    threshold: float


class Doubts(NamedTuple):
    """Where labels and scores disagree.

    Attributes:
        size: (n,) float64, the largest distance of a score from its threshold on the wrong side; 0 where all agree.
        doubtful: (n, K) bool, labels that the rule does not choose.
        suggested: (n, K) bool, classes that it chooses and that are no labels.
    """

    size: NDArray[np.float64]
    doubtful: NDArray[np.bool_]
    suggested: NDArray[np.bool_]


def doubts(scores: NDArray[np.float64], given: NDArray[np.bool_], rule: TagRuleConfig) -> Doubts:
    """Compare the labels ``given`` (n, K) with those that the ``rule`` makes of the scores (n, K).

    >>> from clipes.config import FixedRuleConfig
    >>> found = doubts(np.array([[0.9, 0.1], [0.45, 0.2]]), np.array([[1, 0], [0, 1]], bool), FixedRuleConfig(0.4))
    >>> found.size.round(2).tolist(), found.doubtful[1].tolist(), found.suggested[1].tolist()
    ([0.0, 0.2], [False, True], [True, False])
    """
    chosen = is_label(scores, rule)
    wrong = chosen != given
    distance = np.where(wrong, np.abs(scores - thresholds(scores, rule)), 0.0)
    return Doubts(distance.max(-1, initial=0.0), wrong & given, wrong & chosen)
