"""The transformer arithmetic that the encoder and the CAM share: plain functions over frozen weights.

Axes: B images, S = 1 + N tokens (class token first), D width, A heads, d = D / A.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Activation = Literal["gelu", "quick_gelu"]


@dataclass(frozen=True)
class Norm:
    """Layer normalisation over the last axis: ``weight`` and ``bias`` (D,)."""

    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)

    def backward(self, x: Tensor, grad: Tensor) -> Tensor:
        """Gradient with respect to the input ``x`` for the output's gradient ``grad``; shapes broadcast."""
        centred = x - x.mean(-1, keepdim=True)
        rstd = (centred.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        x_hat = centred * rstd
        g = grad * self.weight
        return rstd * (g - g.mean(-1, keepdim=True) - x_hat * (g * x_hat).mean(-1, keepdim=True))


@dataclass(frozen=True)
class Block:
    """One pre-norm residual attention block. Layer scales ``ls_1``, ``ls_2`` are (D,) or None."""

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
    """What the last block leaves behind for a gradient by hand. All of the block's own dtype."""

    normed: Tensor  # (B, S, D) output of ln_1
    query: Tensor  # (B, A, S, d)
    key: Tensor
    value: Tensor
    attention: Tensor  # (B, A, S, S), rows sum to 1
    context: Tensor  # (B, A, S, d) attention @ value
    middle: Tensor  # (B, S, D) after the attention's residual
    hidden: Tensor  # (B, S, 4D) before the activation
    output: Tensor  # (B, S, D)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(..., S, D) to (..., A, S, d)."""
    return x.reshape(*x.shape[:-1], heads, -1).transpose(-2, -3)


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


def project_qkv(block: Block, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value, each (B, A, S, d)."""
    q, k, v = F.linear(normed, block.in_proj_weight, block.in_proj_bias).chunk(3, dim=-1)
    return split_heads(q, block.heads), split_heads(k, block.heads), split_heads(v, block.heads)


def finish(block: Block, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From the heads' context (B, A, S, d) to the block's ``middle``, ``hidden`` and ``output``."""
    attended = F.linear(merge_heads(context), block.out_weight, block.out_bias)
    middle = x + scaled(attended, block.ls_1)
    hidden = F.linear(block.ln_2(middle), block.fc_weight, block.fc_bias)
    fed = F.linear(activate(hidden, block.activation), block.proj_weight, block.proj_bias)
    return middle, hidden, middle + scaled(fed, block.ls_2)


def run_block(block: Block, x: Tensor) -> Tensor:
    """The block's output (B, S, D), no attention map kept."""
    context = F.scaled_dot_product_attention(*project_qkv(block, block.ln_1(x)))
    return finish(block, x, context)[2]


def run_block_with_map(block: Block, x: Tensor) -> tuple[Tensor, Tensor]:
    """The block's output (B, S, D) and its head-averaged attention (B, S, S) in float32 (or wider).

    One head at a time: never more than one head's map is held.
    """
    q, k, v = project_qkv(block, block.ln_1(x))
    context = torch.empty_like(v)
    wide = torch.promote_types(x.dtype, torch.float32)
    mean = x.new_zeros((x.shape[0], x.shape[1], x.shape[1]), dtype=wide)
    for head in range(block.heads):
        attention = attention_map(q[:, head], k[:, head])
        mean += attention
        context[:, head] = attention @ v[:, head]
    return finish(block, x, context)[2], mean / block.heads


def attention_map(query: Tensor, key: Tensor) -> Tensor:
    """Softmax attention (..., S, S) of queries and keys (..., S, d)."""
    return torch.softmax((query * query.shape[-1] ** -0.5) @ key.mT, dim=-1)


def trace_block(block: Block, x: Tensor) -> Trace:
    """The block's forward pass with everything kept that the CAM's closed form needs."""
    normed = block.ln_1(x)
    query, key, value = project_qkv(block, normed)
    attention = attention_map(query, key)
    context = attention @ value
    middle, hidden, output = finish(block, x, context)
    return Trace(normed, query, key, value, attention, context, middle, hidden, output)
