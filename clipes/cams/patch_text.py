"""Maps from patches and texts without a gradient (Yang et al., ExCEL, CVPR 2025; its code).

Axes: B images, P pairs of an image and a label, S tokens, A heads, K classes, M background words, V names.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from clipes.clip.head import Head, token_features
from clipes.clip.pairs import Pairs
from clipes.clip.transformer import Block, BlockActivations, attended, project_qkv
from clipes.config import PatchTextConfig

from .dense import self_attention
from .scaling import masked_min_max


def second_stream(
    blocks: Sequence[Block],
    head: Head,
    tokens: Sequence[Tensor],
    last_block: BlockActivations,
    config: PatchTextConfig,
) -> Tensor:
    """Features (B, S, E) of a stream of self-attention that runs beside the last blocks.

    The stream begins with the tokens that enter the first of ``blocks``. Each block adds the projected values of its
    original tokens, mixed by the mean of the softmaxes of q-q, k-k and v-v. There is no MLP. At the end the class token
    is that of the original stream.

    Args:
        blocks, head: the last blocks, and the projection head.
        tokens: (B, S, D), what enters each of the blocks in the original stream.
        last_block: what the last block computed in the original stream; the features of its padding are 0.
        config: how heads are mixed, and which axis of the features has unit length.
    """
    output, token_mask = last_block.output, last_block.token_mask
    x = tokens[0].to(output.dtype)
    for block, original in zip(blocks, tokens, strict=True):
        projections = project_qkv(block, block.attention_input(original), last_block.layout)
        context = _mix(projections, config, token_mask).to(x.dtype)
        x = x + attended(block, context)
    x = torch.cat([output[:, :1], x[:, 1:]], 1)
    features = token_features(head, x) * token_mask[..., None]
    return F.normalize(features, dim=1 if config.norm == "channel" else 2)


def _mix(projections: tuple[Tensor, Tensor, Tensor], config: PatchTextConfig, token_mask: Tensor) -> Tensor:
    """The values (B, A, S, d) mixed by self-attention, a head's maps at a time."""
    value = projections[2]
    maps = (self_attention(projections, head, token_mask) / 3 for head in range(value.shape[1]))
    if config.heads == "sum":
        return reduce(torch.add, maps)[:, None] @ value
    return torch.stack([one @ value[:, head] for head, one in enumerate(maps)], 1)


def surgery_maps(
    features: Tensor,
    text: Tensor,
    label_mask: Tensor,
    pairs: Pairs,
    config: PatchTextConfig,
    last_block: BlockActivations,
) -> Tensor:
    """Feature surgery: cosines of tokens and texts, less what all texts have in common.

    The class token weighs the texts, w_c = p_c / mean(p) with its softmax p; the map of class c is F (w_c T_c - mean_j
    w_j T_j), over the competitors j.

    Args:
        features: (B, S, E) of :func:`second_stream`.
        text: unit text features (K + M, V, E), the classes first; of a class's V names the one nearest to the class
            token counts.
        label_mask: (B, K) bool, the labels of each image.
        pairs: the image and label of every map.
        config: the softmax's factor, and the competitors besides the background words.
        last_block: which tokens are patches, and which are padding.

    Returns:
        (P, N) in [0, 1], min-max scaled over the class token and the patches; 0 on padding.
    """
    logits, best_name = torch.einsum("be,kve->bkv", features[:, 0], text).max(-1)  # (B, K + M)
    allowed = label_mask if config.competitors == "labels" else torch.ones_like(label_mask)
    allowed = F.pad(allowed, (0, len(text) - label_mask.shape[1]), value=True)
    shares = (config.temperature * logits).masked_fill(~allowed, -torch.inf).softmax(-1)
    weights = shares * allowed.sum(-1, keepdim=True)  # the mean share of the competitors is 1 / their number
    index = torch.arange(len(text), device=text.device)
    weighted = weights[..., None] * text[index, best_name]  # (B, K + M, E)
    common = weighted.sum(1, keepdim=True) / allowed.sum(-1)[:, None, None]
    directions = weighted[pairs.image, pairs.label] - common[pairs.image, 0]  # (P, E)
    maps = pairs.unpad(pairs.pad_per_image(directions) @ features.mT)
    return masked_min_max(maps, pairs.gather_images(last_block.token_mask))[:, last_block.layout.patches]
