"""The image feature of a part of a picture: what makes the feature sees only some of the patches."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from clipes.config import Positions

from .head import Head, project, token_features
from .layout import Layout
from .norm import normed
from .transformer import mlp_and_residual, project_qkv
from .vision import VisionEncoder


def visible_features(
    vision: VisionEncoder, pixels: Tensor, visible: Tensor, positions: Positions = "bilinear"
) -> Tensor:
    """Image features (B, E), not normalised, by a class token that attends to itself and to ``visible`` patches.

    In every block; the patches attend to all tokens. That is the class-wise second look of TagCLIP (AAAI 2024). Where
    the model pools its tokens by attention, or has no class token, the visible patches alone are pooled, too.

    Args:
        vision: the encoder.
        pixels: (B, 3, h * p, w * p), normalised.
        visible: (B, h * w) bool; where none is visible to what pools them, all are.
        positions: as in :meth:`clipes.clip.vision.VisionEncoder.encode`.
    """
    x, layout = vision.embed(pixels, positions)
    allowed = torch.ones(len(x), 1, x.shape[1], x.shape[1], dtype=torch.bool, device=x.device)
    allowed[:, 0, : layout.prefix, layout.patches] = visible[:, None]
    for block in vision.blocks:
        x = x.to(block.in_proj_weight.dtype)
        query, key, value = project_qkv(block, block.attention_input(x), layout)
        context = F.scaled_dot_product_attention(query, key, value, allowed)
        x = mlp_and_residual(block, x, context)[2]
    if vision.head.attention is None and layout.prefix:
        return token_features(vision.head, x[:, 0])
    return _pooled(vision.head, x, visible | ~visible.any(1, keepdim=True), layout)


def _pooled(head: Head, x: Tensor, visible: Tensor, layout: Layout) -> Tensor:
    """The features (B, E) of the visible of the last block's tokens (B, S, D), and of those before the patches."""
    tokens = normed(head.ln_post, x)
    if head.attention is None:
        shares = visible / visible.sum(1, keepdim=True)
        return project(head, (shares[:, None].to(x) @ tokens[:, layout.patches])[:, 0])
    before = layout.prefix if head.attention.with_prefix else 0
    mask = F.pad(visible, (before, 0), value=True)
    return project(head, head.attention(tokens[:, layout.prefix - before :], mask))
