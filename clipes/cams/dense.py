"""Dense features: patch tokens in CLIP's joint space, with another attention in the last block, without a gradient.

Axes: B images, P pairs of an image and a label, S tokens, N of them patches, A heads, d = D / A, E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from clipes.clip.head import Head, token_features
from clipes.clip.layout import CLASS_TOKEN_FIRST, Layout
from clipes.clip.transformer import Block, attention_map, joined, merge_heads, mlp_and_residual, project_qkv
from clipes.config import DenseAttention

from .scope import in_scope


def dense_features(
    block: Block,
    head: Head,
    x: Tensor,
    grids: Sequence[tuple[int, int]],
    attention: DenseAttention,
    residual: bool,
    sigma: float = 5.0,
    layout: Layout = CLASS_TOKEN_FIRST,
    regions: Tensor | None = None,
) -> Tensor:
    """Unit features (B, N, E) of the patches, from the tokens that enter the last block.

    Args:
        block, head: the last block and the projection head.
        x: (B, S, D) the tokens that enter the block.
        grids: (h, w) of each image.
        attention: ``"qk"``, CLIP's own; ``"qq"`` and ``"kk"``, the softmax of a projection with itself; ``"qq+kk"``,
            the sum of both (SCLIP); ``"kk+distance"``, with a Gaussian of the distance between patches added
            to the logits (NACLIP); ``"identity"``, each token keeps its own value (MaskCLIP).
        residual: whether the block's residual connection and MLP are kept.
        sigma: the Gaussian's standard deviation, in patches.
        layout: which of the tokens are patches.
        regions: (B, N) int64, 0 for none, if patches are to attend within these alone, and not to the class token.
    """
    token_mask = layout.token_mask
    query, key, value = project_qkv(block, block.attention_input(x), layout)
    context = torch.empty_like(value)
    bias = distance_bias(grids, sigma, x, layout.prefix) if attention == "kk+distance" else None
    of_themselves = {"qq": [query], "kk": [key], "qq+kk": [query, key], "kk+distance": [key]}
    if regions is not None and attention != "identity":
        products = [(query, key)] if attention == "qk" else [(one, one) for one in of_themselves[attention]]
        outside = scope_bias(products, regions, layout)
        bias = outside if bias is None else bias + outside
    for index in range(block.heads):  # one head's maps at a time
        if attention == "identity":
            context[:, index] = value[:, index]
        elif attention == "qk":
            context[:, index] = attention_map(query[:, index], key[:, index], token_mask, bias) @ value[:, index]
        else:
            maps = self_attention(of_themselves[attention], index, token_mask, bias)
            context[:, index] = maps @ value[:, index]
    tokens = mlp_and_residual(block, x, context)[2] if residual else joined(block, context)
    return F.normalize(token_features(head, tokens[:, layout.patches]), dim=-1)


def self_attention(
    projections: Sequence[Tensor], head: int, token_mask: Tensor | None, bias: Tensor | None = None
) -> Tensor:
    """The sum (B, S, S) of one head's softmax attention of each of the ``projections`` (B, A, S, d) with itself.

    ``bias`` (B, S, S) is added to the logits.
    """
    return reduce(torch.add, (attention_map(p[:, head], p[:, head], token_mask, bias) for p in projections))


def scope_bias(products: Sequence[tuple[Tensor, Tensor]], regions: Tensor, layout: Layout) -> Tensor:
    """What keeps patches within their ``regions`` (B, N), added to logits: (B, S, S), 0 or minus infinity.

    Where a patch is in none, the sum over the heads of the ``products``, pairs of projections (B, A, S, d), is their
    similarity. The class token attends to all, and no patch to it.
    """
    patches, before = layout.patches, layout.prefix
    joined = [(merge_heads(one)[:, patches], merge_heads(other)[:, patches]) for one, other in products]
    similarity = reduce(torch.add, (one @ other.mT for one, other in joined))
    mask = layout.token_mask
    patch_mask = torch.ones_like(regions, dtype=torch.bool) if mask is None else mask[:, patches]
    inside = F.pad(in_scope(similarity, regions, patch_mask), (before, 0, before, 0))
    inside[:, :before] = True
    inside |= ~F.pad(patch_mask, (before, 0), value=True)[..., None]  # a row without any entry is no softmax
    return torch.zeros_like(similarity[:, :1, :1]).masked_fill(~inside, -torch.inf)


def distance_bias(grids: Sequence[tuple[int, int]], sigma: float, like: Tensor, prefix: int = 1) -> Tensor:
    """exp(-distance^2 / (2 sigma^2)) of each two patches of each image, (B, S, S), of dtype and device of ``like``.

    0 in the rows and columns of the ``prefix`` tokens before the patches, and on padding.
    """
    length = prefix + max(h * w for h, w in grids)
    bias = torch.zeros(len(grids), length, length, dtype=like.dtype, device=like.device)
    for one, (h, w) in zip(bias, grids, strict=True):
        rows, columns = (torch.arange(side, dtype=like.dtype, device=like.device) for side in (h, w))
        down, across = (torch.exp(-((at[:, None] - at) ** 2) / (2 * sigma**2)) for at in (rows, columns))
        one[prefix : prefix + h * w, prefix : prefix + h * w] = torch.kron(down, across)
    return bias
