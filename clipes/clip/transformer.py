"""The transformer arithmetic that the encoder and the CAM share: plain functions over frozen weights.

Axes: B images, S = 1 + N tokens (class token first, padded to the most of an image), D width, A heads, d = D / A.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from clipes.kernels import usable

from .pairs import Pairs

Activation = Literal["gelu", "quick_gelu"]


@dataclass(frozen=True)
class Norm:
    """Layer normalisation over the last axis: ``weight`` and ``bias`` (D,)."""

    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)

    def backward(self, x: Tensor, grad: Tensor, pairs: Pairs) -> Tensor:
        """Gradient (P, R, D) at the input ``x`` (B, R, D) for each pair's ``grad`` (P, R, D) at the output; both
        ``R`` may be 1."""
        centred = x - x.mean(-1, keepdim=True)
        rstd = (centred.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        x_hat, rstd = pairs.each(centred * rstd), pairs.each(rstd)
        g = grad * self.weight
        return rstd * (g - g.mean(-1, keepdim=True) - x_hat * (g * x_hat).mean(-1, keepdim=True))


@dataclass(frozen=True)
class Block:
    """One pre-norm residual attention block. Layer scales ``ls_1``, ``ls_2`` are (D,) or None.

    Matrices may be of a lower floating type than the rest: products are computed in theirs.
    """

    heads: int
    activation: Activation
    ln_1: Norm
    in_proj_weight: Tensor  # (3D, D): q, k, v stacked
    in_proj_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor
    ls_1: Tensor | None
    ln_2: Norm
    fc_weight: Tensor
    fc_bias: Tensor
    proj_weight: Tensor
    proj_bias: Tensor
    ls_2: Tensor | None


@dataclass(frozen=True)
class Trace:
    """What the last block leaves behind for a gradient by hand, of the floating type of the tokens it was given."""

    normed: Tensor  # (B, S, D) output of ln_1
    query: Tensor  # (B, A, S, d)
    key: Tensor
    value: Tensor
    attention: Tensor  # (B, A, S, S), rows sum to 1
    context: Tensor  # (B, A, S, d) attention @ value
    middle: Tensor  # (B, S, D) after the attention's residual
    hidden: Tensor  # (B, S, 4D) before the activation
    output: Tensor  # (B, S, D)
    real: Tensor  # (B, S) bool, which tokens are no padding


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(..., S, D) to (..., A, S, d)."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads).transpose(-2, -3)


def merge_heads(x: Tensor) -> Tensor:
    """(..., A, S, d) to (..., S, D)."""
    return x.transpose(-2, -3).flatten(-2)


def activate(x: Tensor, activation: Activation) -> Tensor:
    """GELU (exact) or OpenAI's QuickGELU, ``x * sigmoid(1.702 x)``."""
    return x * torch.sigmoid(1.702 * x) if activation == "quick_gelu" else F.gelu(x)


def activation_slope(x: Tensor, activation: Activation) -> Tensor:
    """Derivative of :func:`activate` at ``x``."""
    if activation == "quick_gelu":
        gate = torch.sigmoid(1.702 * x)
        return gate * (1 + 1.702 * x * (1 - gate))
    normal_cdf = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    return normal_cdf + x * torch.exp(-0.5 * x.square()) / math.sqrt(2 * math.pi)


def scaled(x: Tensor, scale: Tensor | None) -> Tensor:
    """Layer scale, where the block has one."""
    return x if scale is None else x * scale


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias``, computed in the weight's floating type and returned in that of ``x``."""
    return F.linear(x.to(weight.dtype), weight, bias).to(x.dtype)


def project_qkv(block: Block, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value, each (B, A, S, d)."""
    q, k, v = linear(normed, block.in_proj_weight, block.in_proj_bias).chunk(3, dim=-1)
    return split_heads(q, block.heads), split_heads(k, block.heads), split_heads(v, block.heads)


def finish(block: Block, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From the heads' context (B, A, S, d) to the block's ``middle``, ``hidden`` and ``output``."""
    attended = linear(merge_heads(context), block.out_weight, block.out_bias)
    middle = x + scaled(attended, block.ls_1)
    hidden = linear(block.ln_2(middle), block.fc_weight, block.fc_bias)
    fed = linear(activate(hidden, block.activation), block.proj_weight, block.proj_bias)
    return middle, hidden, middle + scaled(fed, block.ls_2)


def run_block(block: Block, x: Tensor, real: Tensor | None = None) -> Tensor:
    """The block's output (B, S, D), no attention map kept. Tokens are ``real`` (B, S) bool or padding; None: all."""
    query, key, value = project_qkv(block, block.ln_1(x))
    if x.device.type == "cpu" and x.dtype == torch.bfloat16:  # for which torch's is slower
        context = attend_by_head(query, key, value, real)
    else:
        context = F.scaled_dot_product_attention(query, key, value, None if real is None else real[:, None, None])
    return finish(block, x, context)[2]


def run_block_with_map(block: Block, x: Tensor, total: Tensor, share: float, real: Tensor | None = None) -> Tensor:
    """As :func:`run_block`; ``share`` times the sum of the heads' attention from patch to patch is added to ``total``
    (B, N, N) float32, in place. No more than one head's map is held.

    Rows of padding are garbage, columns of padding get nothing.
    """
    query, key, value = project_qkv(block, block.ln_1(x))
    if usable(x) and x.dtype != torch.float64:
        from clipes.kernels.attention import add_head_mean, attend

        lengths = None if real is None else real.sum(1, dtype=torch.int32)
        context, lse = attend(query, key, value, lengths)
        add_head_mean(total, query, key, lse, share, lengths)
    else:
        context = attend_by_head(query, key, value, real, total, share)
    return finish(block, x, context)[2]


def attend_by_head(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    real: Tensor | None = None,
    total: Tensor | None = None,
    share: float = 1.0,
) -> Tensor:
    """Attention (B, A, S, d), a head at a time; the heads' maps go to ``total`` as in :func:`run_block_with_map`."""
    context = torch.empty_like(value.transpose(1, 2)).transpose(1, 2)  # as merge_heads likes it
    for head in range(value.shape[1]):
        attention = attention_map(query[:, head], key[:, head], real)
        context[:, head] = attention @ value[:, head]
        if total is not None:
            total.add_(attention[:, 1:, 1:], alpha=share)
    return context


def attention_map(query: Tensor, key: Tensor, real: Tensor | None = None) -> Tensor:
    """Softmax attention (B, ..., S, S) of queries and keys (B, ..., S, d), all of it on ``real`` tokens (B, S)."""
    logits = (query * query.shape[-1] ** -0.5) @ key.mT
    if real is not None:
        logits = logits.masked_fill(~real.reshape(len(real), *[1] * (logits.ndim - 2), -1), -torch.inf)
    return torch.softmax(logits, dim=-1)


def trace_block(block: Block, x: Tensor, real: Tensor | None = None) -> Trace:
    """The block's forward pass with everything kept that the CAM's closed form needs."""
    normed = block.ln_1(x)
    query, key, value = project_qkv(block, normed)
    attention = attention_map(query, key, real)
    context = attention @ value
    middle, hidden, output = finish(block, x, context)
    real = x.new_ones(x.shape[:2], dtype=torch.bool) if real is None else real
    return Trace(normed, query, key, value, attention, context, middle, hidden, output, real)
