"""Several sources of maps as one, and the class token's attention as a factor of maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clipes.config import Rule


def join_maps(maps: Sequence[Tensor], rule: Rule) -> Tensor:
    """The mean of maps (P, N) in [0, 1], or their geometric mean, which is 0 where one of them is."""
    stacked = torch.stack(list(maps))
    if rule == "mean":
        return stacked.mean(0)
    return stacked.log().mean(0).exp()


def times_attention(maps: Tensor, attention: Tensor, exponent: float) -> Tensor:
    """Maps (P, N) of no negative values times the class token's attention (P, N), to the power of ``exponent``.

    Exponent 1 in MCTformer V2 (Xu et al., CVPR 2022), 1/2 in MCTformer+.
    """
    return (maps * attention) ** exponent
