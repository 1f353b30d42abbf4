"""Pooling by attention: a learnt query attends to the tokens (Lee et al., Set Transformer, 2019; SigLIP, PE)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .mlp import Mlp, linear
from .norm import Norm


@dataclass(frozen=True)
class AttentionPool:
    """One feature of all tokens: attention of one learnt query, then a feed-forward part with its residual connection.

    The query of a head and the key's projection are both constant, so their product is a direction of the tokens'
    space: the logit of token x is ``query @ x``. The key's bias adds the same to all logits, which changes nothing.

    Attributes:
        query: (A, D), of each head the query times the projection of keys, divided by the square root of d.
        value_weight, value_bias: (D, D) and (D,), the projection of values, head by head.
        out_weight, out_bias: (D, D) and (D,), what joins the heads.
        norm, mlp: the feed-forward part.
        with_prefix: whether the tokens before the patches are pooled, too.
    """

    query: Tensor
    value_weight: Tensor
    value_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor
    norm: Norm
    mlp: Mlp
    with_prefix: bool

    @property
    def values_by_head(self) -> Tensor:
        """The projection of values as (A, d, D)."""
        return self.value_weight.reshape(len(self.query), -1, self.value_weight.shape[1])

    def shares(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The query's attention (B, A, R) to tokens (B, R, D) that are True in ``mask`` (B, R)."""
        logits: Tensor = self.query @ tokens.mT
        return logits.masked_fill(~mask[:, None], -torch.inf).softmax(-1)

    def context(self, mixed: Tensor) -> Tensor:
        """The values (B, D), heads side by side, of the tokens (B, A, D) that each head has mixed for itself."""
        return torch.einsum("baw,adw->bad", mixed, self.values_by_head).flatten(1) + self.value_bias

    def __call__(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Tokens (B, R, D) that are True in ``mask`` (B, R) to (B, D)."""
        return self.feed_forward(self.attended(self.context(self.shares(tokens, mask) @ tokens)))

    def alone(self, tokens: Tensor) -> Tensor:
        """Each of the tokens (..., D) pooled by itself: all attention is its own."""
        return self.feed_forward(self.attended(linear(tokens, self.value_weight, self.value_bias)))

    def attended(self, context: Tensor) -> Tensor:
        """The joined heads (..., D) of their values (..., D)."""
        return linear(context, self.out_weight, self.out_bias)

    def feed_forward(self, attended: Tensor) -> Tensor:
        """The pooled feature (..., D) of the joined heads (..., D)."""
        return attended + self.mlp(self.norm(attended))
