"""The vote of an image's regions on its decided rows."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipes.config import VoteConfig
from clipes.regions.vote import vote
from clipes.scores import ids_of_rows

_IGNORED = -1


def voted_rows(
    rows: Tensor, ignored: Tensor | None, ids: Tensor, regions: NDArray[np.int32], config: VoteConfig
) -> Tensor:
    """The row of each pixel after the vote; those of ignored pixels as they were.

    Args:
        rows: (H, W) int64, 0 for the background, else the place of a label among ``ids``, from 1.
        ignored: (H, W) bool, or None.
        ids: (C,) the labels' ids. The vote is that of the ids, so that it does not depend on their order.
        regions: (H, W), 0 for none.
        config: the vote.
    """
    mask = ids_of_rows(rows, ids)
    if ignored is not None:
        mask = mask.masked_fill(ignored, _IGNORED)
    voted = torch.from_numpy(vote(mask.cpu().numpy(), regions, _IGNORED, config)).to(rows.device)
    for row, index in enumerate((0, *ids.tolist())):
        rows = rows.masked_fill(voted == index, row)
    return rows
