"""Texts of classes, enriched by what sentences say about their attributes (ExCEL; its code)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def with_attributes(text: Tensor, centres: Tensor, share: float = 0.9) -> Tensor:
    """Each text plus the centres of attributes that are near to it, weighed by the softmax of their products.

    Args:
        text: unit text features (..., E) of the classes.
        centres: (K, E) centres of attributes' features, K at least 2; not of unit length.
        share: of the centres that count for a text, its nearest; ``int((1 - share) * K)`` are left out.

    Returns:
        Unit features (..., E).
    """
    products = text @ centres.T
    left_out = products.argsort(-1)[..., : int((1 - share) * len(centres))]
    weights = products.scatter(-1, left_out, -torch.inf).softmax(-1)
    return F.normalize(text + weights @ centres, dim=-1)
