"""The head of an image tower: from the last tokens to an image feature."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from clipes.config import Pool

from .transformer import Norm, Trace


@dataclass(frozen=True)
class Head:
    """What turns the last block's tokens into an image feature: ``ln_post``, projection (D, E), logit scale."""

    ln_post: Norm
    projection: Tensor
    logit_scale: float  # already exponentiated
    norm_after_pool: bool = False


def image_features(head: Head, trace: Trace, pool: Pool) -> Tensor:
    """Image features (B, E), not normalised, from the last block's output tokens."""
    if head.norm_after_pool:
        return head.ln_post(pool_tokens(trace.output, trace.real, pool)) @ head.projection
    return pool_tokens(head.ln_post(trace.output), trace.real, pool) @ head.projection


def pool_tokens(tokens: Tensor, real: Tensor, pool: Pool) -> Tensor:
    """(B, S, D) to (B, D): the mean of the patch tokens that are ``real`` (B, S), or the class token."""
    if pool == "cls":
        return tokens[:, 0]
    return tokens[:, 1:].masked_fill(~real[:, 1:, None], 0).sum(1) / real[:, 1:].sum(1, keepdim=True)
