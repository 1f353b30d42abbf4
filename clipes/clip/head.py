"""The head of the vision side: from the last block's tokens to an image feature."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from clipes.config import Pooling

from .attention_pool import AttentionPool
from .layout import Layout
from .norm import Norm, normed
from .transformer import BlockActivations


@dataclass(frozen=True)
class Head:
    """What turns tokens into an image feature and logits, in this order; None: the model has no such part.

    Attributes:
        ln_post: normalises each token.
        attention: pools the tokens. Without it the caller chooses: the class token, or the mean of the patches.
        ln_pooled: normalises what was pooled of them.
        projection, bias: to the joint space, (D, E) and (E,), or (F, E) from a pool of width F.
        logit_scale: the factor of cosines, after the exponential.
        logit_bias: what is added to them, of models that were trained with a sigmoid.
    """

    ln_post: Norm | None
    projection: Tensor
    logit_scale: float
    attention: AttentionPool | None = None
    ln_pooled: Norm | None = None
    bias: Tensor | None = None
    logit_bias: float | None = None


def image_features(head: Head, activations: BlockActivations, pool: Pooling) -> Tensor:
    """Image features (B, E), not normalised, from the last block's output tokens.

    ``pool`` counts where the model has no attention to pool by. ValueError for a class token that it does not have.
    """
    return project(head, pool_tokens(head, normed(head.ln_post, activations.output), activations, pool))


def token_features(head: Head, tokens: Tensor) -> Tensor:
    """Features (..., E), not normalised, of tokens (..., D) of the last block's output, each pooled alone."""
    tokens = normed(head.ln_post, tokens)
    return project(head, tokens if head.attention is None else head.attention.alone(tokens))


def project(head: Head, pooled: Tensor) -> Tensor:
    """What was pooled, (..., D), in the joint space, (..., E)."""
    feature = normed(head.ln_pooled, pooled) @ head.projection
    return feature if head.bias is None else feature + head.bias


def pooled_rows(head: Head, layout: Layout, pool: Pooling) -> slice:
    """The places of the tokens that are pooled. ValueError for a class token that the model does not have."""
    if head.attention is not None:
        return slice(0, None) if head.attention.with_prefix else layout.patches
    if pool == "patch":
        return layout.patches
    if not layout.prefix:
        raise ValueError("this model has no class token; pool its patches, pool='patch'")
    return slice(0, 1)


def averages(head: Head, pool: Pooling) -> bool:
    """Whether the feature is the mean of the patches."""
    return head.attention is None and pool == "patch"


def pool_tokens(head: Head, tokens: Tensor, activations: BlockActivations, pool: Pooling) -> Tensor:
    """Tokens (B, S, D), after ``ln_post``, to (B, D) or (B, F): those of :func:`pooled_rows` that are no padding."""
    rows = pooled_rows(head, activations.layout, pool)
    mask = activations.token_mask[:, rows]
    if head.attention is not None:
        return head.attention(tokens[:, rows], mask)
    if pool == "cls":
        return tokens[:, 0]
    return tokens[:, rows].masked_fill(~mask[..., None], 0).sum(1) / mask.sum(1, keepdim=True)
