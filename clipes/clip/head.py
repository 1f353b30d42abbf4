"""The head of the vision side: from the last block's tokens to an image feature."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from clipes.config import Pooling

from .transformer import BlockActivations, Norm


@dataclass(frozen=True)
class Head:
    """``ln_post``, the projection (D, E) and the logit scale, which turn tokens into an image feature and logits."""

    ln_post: Norm
    projection: Tensor
    logit_scale: float  # after the exponential
    norm_after_pool: bool = False


def image_features(head: Head, activations: BlockActivations, pool: Pooling) -> Tensor:
    """Image features (B, E), not normalised, from the last block's output tokens."""
    if head.norm_after_pool:
        return head.ln_post(pool_tokens(activations.output, activations.token_mask, pool)) @ head.projection
    return pool_tokens(head.ln_post(activations.output), activations.token_mask, pool) @ head.projection


def pool_tokens(tokens: Tensor, token_mask: Tensor, pool: Pooling) -> Tensor:
    """(B, S, D) to (B, D): the class token, or the mean of the patch tokens where ``token_mask`` (B, S) is True."""
    if pool == "cls":
        return tokens[:, 0]
    return tokens[:, 1:].masked_fill(~token_mask[:, 1:, None], 0).sum(1) / token_mask[:, 1:].sum(1, keepdim=True)
