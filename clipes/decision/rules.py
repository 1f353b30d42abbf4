"""The rules of ``Config.mask``: the scores each starts from, and the row and the ignored pixels it ends with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from clipes.config import AgreementConfig, ArgmaxConfig, ConfidenceConfig
from clipes.scores import score_maps, score_maps_constant

from .agreement import agreement


class Rule(NamedTuple):
    """How a choice of ``Config.mask`` decides. Axes: C labels of an image, H x W pixels.

    Attributes:
        backgrounds: how many scores of an image it needs, each against another background.
        scores: from maps (C, H, W) and ``config.mask`` to that many scores (C + 1, H, W) before the refinement.
        rows: from those scores after the refinement, ``config.mask`` and ``config.effective_ignore_below`` to each
            pixel's row (H, W) int64, and to the ignored pixels (H, W) bool or None; of an ignored pixel the row of its
            highest score.
    """

    backgrounds: int
    scores: Callable[[Tensor, Any], list[Tensor]]
    rows: Callable[[Sequence[Tensor], Any, float | None], tuple[Tensor, Tensor | None]]


def mean_scores(scores: Sequence[Tensor]) -> Tensor:
    """The mean (C + 1, H, W) of an image's scores against each background."""
    return scores[0] if len(scores) == 1 else torch.stack(list(scores)).mean(0)


def _one_background(maps: Tensor, config: ConfidenceConfig | ArgmaxConfig) -> list[Tensor]:
    return [score_maps(maps, config.background_power)]


def _confident(scores: Sequence[Tensor], config: ConfidenceConfig, below: float | None) -> tuple[Tensor, Tensor | None]:
    confidence, row = scores[0].max(0)
    return row, None if below is None else confidence < below


def _highest(scores: Sequence[Tensor], config: ArgmaxConfig, below: float | None) -> tuple[Tensor, None]:
    return scores[0].max(0).indices, None


def _two_backgrounds(maps: Tensor, config: AgreementConfig) -> list[Tensor]:
    score = score_maps if config.background == "power" else score_maps_constant
    return [score(maps, level) for level in config.levels]


def _agreed(scores: Sequence[Tensor], config: AgreementConfig, below: float | None) -> tuple[Tensor, Tensor]:
    much, little = scores
    row = agreement(much, little, -1, config.conflict)
    ignored = row < 0
    return torch.where(ignored, mean_scores(scores).argmax(0), row), ignored


DECISIONS: dict[type, Rule] = {
    ConfidenceConfig: Rule(1, _one_background, _confident),
    AgreementConfig: Rule(2, _two_backgrounds, _agreed),
    ArgmaxConfig: Rule(1, _one_background, _highest),
}
"""The rule of each type of ``Config.mask``."""
