"""The decision of SCLIP and its successors: classes of several words, a least score, a least area."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def word_decision(
    cosines: Tensor, owners: Sequence[int], scale: float = 40.0, least: float = 0.0, least_area: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Scores of classes and the winner at each pixel, from the cosines of their words (SCLIP's code).

    Args:
        cosines: (W, H, W) of W words.
        owners: the class of each word, 0..C-1; 0 is the background.
        scale: factor of the cosines before the softmax over the words.
        least: where the highest score is below it, the winner is 0.
        least_area: a class but the background that wins no more than this share of the pixels that such classes win
            gets the score 0.

    Returns:
        Scores (C, H, W), the highest of each class's words, which do not sum to 1; and winners (H, W) int64.
    """
    shares = (scale * cosines).softmax(0)
    index = torch.tensor(owners, device=cosines.device)[:, None, None].expand_as(shares)
    scores = shares.new_zeros(max(owners) + 1, *shares.shape[1:]).scatter_reduce(0, index, shares, "amax")
    if least_area > 0:
        won = torch.bincount(scores.argmax(0).flatten(), minlength=len(scores))[1:].float()
        scores[1:] *= (won / won.sum().clamp_min(1) > least_area)[:, None, None]
    highest, winner = scores.max(0)
    return scores, winner.masked_fill(highest < least, 0)
