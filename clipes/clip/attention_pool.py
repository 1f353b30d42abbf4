"""Pooling by attention: a learnt query attends to the tokens (Lee et al., Set Transformer, 2019; SigLIP, PE, CoCa)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .mlp import Mlp, linear
from .norm import Norm, normed


@dataclass(frozen=True)
class AttentionPool:
    """One feature of all tokens: attention of one learnt query, then, but not in CoCa, a feed-forward part with its
    residual connection.

    The query of a head and the key's projection are both constant, so their product is a direction of the tokens'
    space: the logit of token x is ``query @ x``. The key's bias adds the same to all logits, which changes nothing.

    Attributes:
        query: (A, D), of each head the query times the projection of keys, divided by the square root of d.
        value_weight, value_bias: (F, D) and (F,), the projection of values, head by head, to the width F of the pool.
        out_weight, out_bias: (F, F) and (F,), what joins the heads.
        norm, mlp: the feed-forward part; ``mlp`` None: there is none.
        with_prefix: whether the tokens before the patches are pooled, too.
    """

    query: Tensor
    value_weight: Tensor
    value_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor
    norm: Norm | None
    mlp: Mlp | None
    with_prefix: bool

    @property
    def values_by_head(self) -> Tensor:
        """The projection of values as (A, F / A, D)."""
        return self.value_weight.reshape(len(self.query), -1, self.value_weight.shape[1])

    def shares(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The query's attention (B, A, R) to tokens (B, R, D) that are True in ``mask`` (B, R)."""
        logits: Tensor = self.query @ tokens.mT
        return logits.masked_fill(~mask[:, None], -torch.inf).softmax(-1)

    def context(self, mixed: Tensor) -> Tensor:
        """The values (B, F), heads side by side, of the tokens (B, A, D) that each head has mixed for itself."""
        return torch.einsum("baw,adw->bad", mixed, self.values_by_head).flatten(1) + self.value_bias

    def __call__(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Tokens (B, R, D) that are True in ``mask`` (B, R) to (B, F)."""
        return self.feed_forward(self.attended(self.context(self.shares(tokens, mask) @ tokens)))

    def alone(self, tokens: Tensor) -> Tensor:
        """Each of the tokens (..., D) pooled by itself, (..., F): all attention is its own."""
        return self.feed_forward(self.attended(linear(tokens, self.value_weight, self.value_bias)))

    def attended(self, context: Tensor) -> Tensor:
        """The joined heads (..., F) of their values (..., F)."""
        return linear(context, self.out_weight, self.out_bias)

    def feed_forward(self, attended: Tensor) -> Tensor:
        """The pooled feature (..., F) of the joined heads (..., F)."""
        return attended if self.mlp is None else attended + self.mlp(normed(self.norm, attended))


def pool_query(query: Tensor, key_weight: Tensor, heads: int) -> Tensor:
    """What :attr:`AttentionPool.query` is, from the projected query (F,) and the projection of keys (F, D).

    Of the dtype of ``key_weight``, computed in float64.
    """
    keys = key_weight.double().reshape(heads, -1, key_weight.shape[1])
    by_head: Tensor = query.double().reshape(heads, 1, -1) @ keys * keys.shape[1] ** -0.5
    return by_head[:, 0].to(key_weight)
