"""The head of the vision side: from the last block's tokens to an image feature."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from clipes.config import Pooling

from .layout import Layout
from .transformer import BlockActivations, Norm


@dataclass(frozen=True)
class Head:
    """What turns tokens into an image feature and logits, in this order; None: the model has no such part.

    Attributes:
        ln_post: normalises each token.
        ln_pooled: normalises what was pooled of them.
        projection, bias: to the joint space, (D, E) and (E,).
        logit_scale: the factor of cosines, after the exponential.
    """

    ln_post: Norm | None
    projection: Tensor
    logit_scale: float
    ln_pooled: Norm | None = None
    bias: Tensor | None = None


def image_features(head: Head, activations: BlockActivations, pool: Pooling) -> Tensor:
    """Image features (B, E), not normalised, from the last block's output tokens."""
    return project(head, pool_tokens(normed(head, activations.output), activations, pool))


def token_features(head: Head, tokens: Tensor) -> Tensor:
    """Features (..., E), not normalised, of tokens (..., D) of the last block's output, each pooled alone."""
    return project(head, normed(head, tokens))


def normed(head: Head, tokens: Tensor) -> Tensor:
    """Tokens (..., D) as the head pools them."""
    return tokens if head.ln_post is None else head.ln_post(tokens)


def project(head: Head, pooled: Tensor) -> Tensor:
    """What was pooled, (..., D), in the joint space, (..., E)."""
    feature = (pooled if head.ln_pooled is None else head.ln_pooled(pooled)) @ head.projection
    return feature if head.bias is None else feature + head.bias


def pooled_rows(layout: Layout, pool: Pooling) -> slice:
    """The places of the tokens that are pooled. ValueError for a class token that the model does not have."""
    if pool == "patch":
        return layout.patches
    if not layout.prefix:
        raise ValueError("this model has no class token; pool its patches, pool='patch'")
    return slice(0, 1)


def pool_tokens(tokens: Tensor, activations: BlockActivations, pool: Pooling) -> Tensor:
    """(B, S, D) to (B, D): the class token, or the mean of the patch tokens that are no padding."""
    rows = pooled_rows(activations.layout, pool)
    if pool == "cls":
        return tokens[:, 0]
    mask = activations.token_mask[:, rows]
    return tokens[:, rows].masked_fill(~mask[..., None], 0).sum(1) / mask.sum(1, keepdim=True)
