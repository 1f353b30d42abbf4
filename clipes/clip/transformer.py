"""The transformer arithmetic that the encoder and the CAM share: plain functions over frozen weights.

Axes: B images, N patches, S tokens (those before the patches, the patches, padding), D width, A heads, d = D / A.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from clipes import kernels

from .layout import CLASS_TOKEN_FIRST, Layout
from .mlp import Mlp, linear
from .norm import Norm, normed


@dataclass(frozen=True)
class Block:
    """One residual attention block, its parts in the order of the computation; None: the block has no such part.

    Matrices may have a lower precision than the rest; products are computed in the matrix's dtype.

    Attributes:
        heads: A.
        ln_1: before the attention.
        in_proj_weight, in_proj_bias: (3D, D) and (3D,), those of queries, keys and values one below the other.
        ln_context: of the heads' context, before the projection that joins them (EVA-02).
        out_weight, out_bias: that projection, (D, D) and (D,).
        ln_attended: after it (EVA-02-E, which has no ``ln_1``).
        ls_1: (D,) the layer scale before the residual connection.
        ln_2: before the MLP.
        mlp: the feed-forward part.
        ln_fed: after it (EVA-02-E, which has no ``ln_2``).
        ls_2: (D,) as ``ls_1``.
    """

    heads: int
    ln_1: Norm | None
    in_proj_weight: Tensor
    in_proj_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor
    ls_1: Tensor | None
    ln_2: Norm | None
    mlp: Mlp
    ls_2: Tensor | None
    ln_context: Norm | None = None
    ln_attended: Norm | None = None
    ln_fed: Norm | None = None

    def attention_input(self, x: Tensor) -> Tensor:
        """What the attention reads of the block's input tokens (..., D)."""
        return normed(self.ln_1, x)


@dataclass(frozen=True)
class BlockActivations:
    """Everything that a block computed, kept for the closed-form gradient. Dtype: that of the block's input tokens."""

    normed: Tensor  # (B, S, D) what the attention reads, the output of ln_1
    query: Tensor  # (B, A, S, d)
    key: Tensor
    value: Tensor
    attention: Tensor  # (B, A, S, S), rows sum to 1
    context: Tensor  # (B, A, S, d) attention @ value
    after_attention: Tensor  # (B, S, D) after the attention's residual connection
    hidden: Tensor  # (B, S, 4D) of the MLP, before the activation
    output: Tensor  # (B, S, D)
    token_mask: Tensor  # (B, S) bool, False on padding
    layout: Layout = CLASS_TOKEN_FIRST

    @property
    def patch_mask(self) -> Tensor:
        """(B, N) bool, False on padding."""
        return self.token_mask[:, self.layout.patches]

    def to(self, dtype: torch.dtype) -> BlockActivations:
        """The same in another floating-point dtype."""
        values: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(self)}
        floats = {k: x.to(dtype) for k, x in values.items() if isinstance(x, Tensor) and x.is_floating_point()}
        return BlockActivations(**{**values, **floats})


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(..., S, D) to (..., A, S, d)."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads).transpose(-2, -3)


def merge_heads(x: Tensor) -> Tensor:
    """(..., A, S, d) to (..., S, D)."""
    return x.transpose(-2, -3).flatten(-2)


def layer_scale(x: Tensor, scale: Tensor | None) -> Tensor:
    """``x`` times the layer scale; ``x`` itself if the block has none."""
    return x if scale is None else x * scale


def project_qkv(block: Block, read: Tensor, layout: Layout = CLASS_TOKEN_FIRST) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value, each (B, A, S, d); queries and keys turned by rotary positions, where there are any."""
    q, k, v = (
        split_heads(part, block.heads)
        for part in linear(read, block.in_proj_weight, block.in_proj_bias).chunk(3, dim=-1)
    )
    return (q, k, v) if layout.rotation is None else (layout.rotation(q), layout.rotation(k), v)


def mlp_and_residual(block: Block, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The rest of a block: from the heads' context (B, A, S, d) to ``after_attention``, ``hidden`` and ``output``."""
    after_attention = x + attended(block, context)
    hidden = block.mlp.hidden(normed(block.ln_2, after_attention))
    fed = layer_scale(normed(block.ln_fed, block.mlp.output(hidden)), block.ls_2)
    return after_attention, hidden, after_attention + fed


def attended(block: Block, context: Tensor) -> Tensor:
    """What the attention adds to the tokens: the heads' context (B, A, S, d), joined, (B, S, D)."""
    return layer_scale(normed(block.ln_attended, joined(block, context)), block.ls_1)


def joined(block: Block, context: Tensor) -> Tensor:
    """The projection (B, S, D) of the heads' context (B, A, S, d), before ``ln_attended``."""
    return linear(normed(block.ln_context, merge_heads(context)), block.out_weight, block.out_bias)


def run_block(block: Block, x: Tensor, layout: Layout = CLASS_TOKEN_FIRST) -> Tensor:
    """The block's output (B, S, D); no attention map is kept."""
    query, key, value = project_qkv(block, block.attention_input(x), layout)
    if x.device.type == "cpu" and x.dtype == torch.bfloat16:  # torch's own attention is slower there
        context = attend_by_head(query, key, value, layout)
    else:
        mask = None if layout.token_mask is None else layout.token_mask[:, None, None]
        context = F.scaled_dot_product_attention(query, key, value, mask)
    return mlp_and_residual(block, x, context)[2]


Totals = Sequence[tuple[Tensor, float]]
"""Sums of attention (B, N, N), each with the weight by which a block's heads are added to it."""


def run_block_with_map(block: Block, x: Tensor, totals: Totals, layout: Layout = CLASS_TOKEN_FIRST) -> Tensor:
    """As :func:`run_block`; also adds to each of ``totals`` its weight times the heads' patch-to-patch attention.

    The totals, float32, are changed in place. At most one head's map is in memory. Padding: rows hold meaningless
    values, columns are not changed.
    """
    query, key, value = project_qkv(block, block.attention_input(x), layout)
    context = _attend_by_kernel(query, key, value, layout, totals)
    if context is None:
        context = attend_by_head(query, key, value, layout, totals)
    return mlp_and_residual(block, x, context)[2]


def _attend_by_kernel(query: Tensor, key: Tensor, value: Tensor, layout: Layout, totals: Totals) -> Tensor | None:
    """As :func:`attend_by_head`, on a GPU without a map in memory; None where the kernels do not run."""
    if kernels.usable(query, "attention") and query.dtype != torch.float64:
        with kernels.fallback("attention"):
            from clipes.kernels.attention import add_head_mean, attend

            lengths = None if layout.token_mask is None else layout.token_mask.sum(1, dtype=torch.int32)
            context, lse = attend(query, key, value, lengths)
            for total, weight in totals:
                add_head_mean(total, query, key, lse, weight, lengths, layout.prefix)
            return context
    return None


def attend_by_head(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout = CLASS_TOKEN_FIRST,
    totals: Totals = (),
) -> Tensor:
    """Attention (B, A, S, d), a head at a time; the maps are added to ``totals`` as in :func:`run_block_with_map`."""
    context = torch.empty_like(value.transpose(1, 2)).transpose(1, 2)  # this layout lets merge_heads copy nothing
    for head in range(value.shape[1]):
        attention = attention_map(query[:, head], key[:, head], layout.token_mask)
        context[:, head] = attention @ value[:, head]
        for total, weight in totals:
            total.add_(attention[:, layout.patches, layout.patches], alpha=weight)
    return context


def attention_map(query: Tensor, key: Tensor, token_mask: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Softmax attention (B, ..., S, S) of queries and keys (B, ..., S, d); keys outside ``token_mask`` (B, S) get 0.

    ``bias``, if given, is added to the logits.
    """
    logits = (query * query.shape[-1] ** -0.5) @ key.mT
    if bias is not None:
        logits = logits + bias
    if token_mask is not None:
        logits = logits.masked_fill(~token_mask.reshape(len(token_mask), *[1] * (logits.ndim - 2), -1), -torch.inf)
    return torch.softmax(logits, dim=-1)


def class_attention(block: Block, x: Tensor, layout: Layout = CLASS_TOKEN_FIRST) -> Tensor:
    """The class token's attention to the patches (B, N), averaged over the heads, for input tokens x (B, S, D)."""
    read, width = block.attention_input(x), x.shape[-1]
    of_class, of_all = (
        split_heads(linear(tokens, block.in_proj_weight[rows], block.in_proj_bias[rows]), block.heads)
        for tokens, rows in ((read[:, :1], slice(0, width)), (read, slice(width, 2 * width)))
    )
    keys = of_all if layout.rotation is None else layout.rotation(of_all)  # the class token has no place
    return attention_map(of_class, keys, layout.token_mask).mean(1)[:, 0, layout.patches]


def run_block_keeping_all(block: Block, x: Tensor, layout: Layout = CLASS_TOKEN_FIRST) -> BlockActivations:
    """The block's forward pass with every intermediate result kept, as the CAM's closed form needs them."""
    read = block.attention_input(x)
    query, key, value = project_qkv(block, read, layout)
    attention = attention_map(query, key, layout.token_mask)
    context = attention @ value
    after, hidden, output = mlp_and_residual(block, x, context)
    mask = x.new_ones(x.shape[:2], dtype=torch.bool) if layout.token_mask is None else layout.token_mask
    return BlockActivations(read, query, key, value, attention, context, after, hidden, output, mask, layout)
