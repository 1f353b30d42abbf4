"""GETAM: attention times its gradient, twice (Sun et al. 2021; ReLU per head, then the mean, as its code).

A label's score is its softmax probability, as for Softmax-GradCAM; GETAM's own is a trained classifier's logit. Of the
gradient at the attention only the class token's row is formed: the gradient at that token's context times the values.
Axes: as in :mod:`clipes.cams.gradcam`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from clipes.clip.head import Head, image_features, pooled_rows
from clipes.clip.pairs import Pairs
from clipes.clip.transformer import Block, BlockActivations, run_block_keeping_all
from clipes.config import Pooling

from .backward import block_vjp, context_gradient, feature_gradient
from .head_backward import head_vjp
from .probabilities import label_softmax, name_logits
from .scaling import masked_min_max


def attention_times_gradient(attention: Tensor, gradient: Tensor) -> Tensor:
    """One block's part of the map: mean of relu(A G) over the heads, times mean of relu(G).

    Takes the class token's attention to the patches (..., A, N) and the gradient there; returns (..., N), 0 or more.
    """
    return (attention * gradient).relu().mean(-2) * gradient.relu().mean(-2)


def getam_maps(
    blocks: Sequence[Block],
    head: Head,
    tokens: Sequence[Tensor],
    last_block: BlockActivations,
    text: Tensor,
    label_mask: Tensor,
    pairs: Pairs,
    pool: Pooling,
) -> Tensor:
    """Maps of all pairs: the sum over ``blocks``, the last ones, of :func:`attention_times_gradient`.

    With ``pool="patch"`` the last block adds nothing, because the class token's output is not read.

    Args:
        blocks, head: the blocks that count, and the projection head.
        tokens: (B, S, D), what enters each of the blocks.
        last_block: what the last of them computed.
        text: unit text features (K + M, V, E), the classes first; only the most likely of a class's V names counts.
        label_mask: (B, K) bool, the labels of each image.
        pairs: the image and label of every map.
        pool: how the image feature is pooled.

    Returns:
        (P, N) in [0, 1], min-max scaled; 0 on padding.
    """
    gather, patch_mask = pairs.gather_images, last_block.patch_mask
    layout, patches = last_block.layout, last_block.layout.patches
    grad = _output_gradient(head, last_block, text, label_mask, pairs, pool)
    total = torch.zeros(len(pairs), patch_mask.shape[1], dtype=grad.dtype, device=grad.device)
    for index in reversed(range(len(blocks))):
        block, x = blocks[index], tokens[index]
        last = index == len(blocks) - 1
        activations = last_block if last else run_block_keeping_all(block, x, layout).to(grad.dtype)
        grad_attended, grad_context = context_gradient(block, activations, pairs, grad)
        gradient = (gather(activations.value[:, :, patches]) @ grad_context[:, :, 0, :, None])[..., 0]  # (P, A, N)
        total += attention_times_gradient(gather(activations.attention[:, :, 0, patches]), gradient)
        if index:
            grad = block_vjp(block, x.to(grad.dtype), activations, pairs, grad_attended, grad_context)
    # Scaled by the maximum first, because the values are far below the 1e-7 in the min-max scaling.
    return masked_min_max(
        total / total.amax(-1, keepdim=True).clamp_min(torch.finfo(total.dtype).tiny), gather(patch_mask)
    )


def _output_gradient(
    head: Head, last_block: BlockActivations, text: Tensor, label_mask: Tensor, pairs: Pairs, pool: Pooling
) -> Tensor:
    """The gradient of each pair's probability at the last block's output (P, S, D), but for a positive factor.

    The factor, which underflows where a probability is near 1, does not change the maps.
    """
    features = image_features(head, last_block, pool)
    logits, best_name = name_logits(features, text, head.logit_scale).max(-1)
    gather = pairs.gather_images
    grad_feature = feature_gradient(
        gather(features),
        gather(label_softmax(logits, label_mask)),
        pairs.label,
        text,
        gather(best_name),
        head.logit_scale,
    )
    direction = F.normalize(grad_feature, dim=-1, eps=torch.finfo(grad_feature.dtype).tiny)
    rows = pooled_rows(head, last_block.layout, pool)
    grad = direction.new_zeros(len(pairs), *last_block.output.shape[1:])
    grad[:, rows] = head_vjp(head, last_block, rows, pairs, direction, pool)
    return grad * gather(last_block.token_mask)[..., None]
