"""The gradient through the head, in closed form; with pooling by attention, too.

There, heads h pool the tokens x_s: the shares a_hs are the softmax over s of q_h x_s, the mixed tokens m_h are the sum
over s of a_hs x_s, and their values V_h m_h + b_h are joined by W and fed forward. With g the gradient at the values
and u_h = g_h V_h,

    gradient at x_s = sum over h of a_hs (u_h + (u_h (x_s - m_h)) q_h):

what a token adds to the mixture, and what its share does. Neither keys nor values of single tokens are formed.

Axes: as in :mod:`clipes.cams.gradcam`; A heads of the pool.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clipes.clip.attention_pool import AttentionPool
from clipes.clip.head import Head, pool_tokens
from clipes.clip.norm import normed, normed_vjp
from clipes.clip.pairs import Pairs
from clipes.clip.transformer import BlockActivations
from clipes.config import Pooling

from .backward import feed_forward_vjp, linear_vjp


def attention_pool_vjp(pool: AttentionPool, tokens: Tensor, mask: Tensor, pairs: Pairs, grad: Tensor) -> Tensor:
    """The gradient (P, R, D) at tokens (B, R, D), True in ``mask`` (B, R), from ``grad`` (P, 1, F) at the pooled
    feature.
    """
    shares = pool.shares(tokens, mask)
    mixed = shares @ tokens
    attended = pool.attended(pool.context(mixed))[:, None]
    if pool.mlp is not None:
        hidden = pool.mlp.hidden(normed(pool.norm, attended))
        grad = grad + normed_vjp(pool.norm, attended, feed_forward_vjp(pool.mlp, hidden, pairs, grad), pairs)
    by_head = linear_vjp(grad, pool.out_weight).reshape(len(grad), len(pool.query), -1)  # (P, A, d)
    directions = torch.einsum("pad,adw->paw", by_head, pool.values_by_head)
    gather, of_token = pairs.gather_images, directions.mT  # (P, D, A)
    along = gather(tokens) @ of_token - (gather(mixed) * directions).sum(-1)[:, None]  # (P, R, A)
    share = gather(shares).mT
    return share @ directions + (share * along) @ pool.query


def head_vjp(
    head: Head, activations: BlockActivations, rows: slice, pairs: Pairs, grad_feature: Tensor, pool: Pooling
) -> Tensor:
    """Gradient (P, R, D) at the block's output tokens ``rows``; where their mean is pooled, as if it were their sum."""
    grad, tokens = (grad_feature @ head.projection.T)[:, None], activations.output[:, rows]  # (P, 1, D), (B, R, D)
    if head.ln_pooled is not None:
        pooled = pool_tokens(head, normed(head.ln_post, activations.output), activations, pool)
        grad = head.ln_pooled.backward(pooled[:, None], grad, pairs)
    if head.attention is not None:
        mask = activations.token_mask[:, rows]
        grad = attention_pool_vjp(head.attention, normed(head.ln_post, tokens), mask, pairs, grad)
    return normed_vjp(head.ln_post, tokens, grad, pairs).expand(-1, tokens.shape[1], -1)
