"""The image feature of a part of a picture: the class token sees only some of the patches."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from clipes.config import Positions

from .head import token_features
from .transformer import mlp_and_residual, project_qkv
from .vision import VisionEncoder


def visible_features(
    vision: VisionEncoder, pixels: Tensor, visible: Tensor, positions: Positions = "bilinear"
) -> Tensor:
    """Image features (B, E), not normalised, by a class token that attends to itself and to ``visible`` patches.

    In every block; the patches attend to all tokens. That is the class-wise second look of TagCLIP (AAAI 2024).

    Args:
        vision: the encoder.
        pixels: (B, 3, h * p, w * p), normalised.
        visible: (B, h * w) bool.
        positions: as in :meth:`clipes.clip.vision.VisionEncoder.encode`.
    """
    x, layout = vision.embed(pixels, positions)
    allowed = torch.ones(len(x), 1, x.shape[1], x.shape[1], dtype=torch.bool, device=x.device)
    allowed[:, 0, 0, len(vision.prefix) :] = visible
    for block in vision.blocks:
        x = x.to(block.in_proj_weight.dtype)
        query, key, value = project_qkv(block, block.attention_input(x), layout)
        context = F.scaled_dot_product_attention(query, key, value, allowed)
        x = mlp_and_residual(block, x, context)[2]
    return token_features(vision.head, x[:, 0])
