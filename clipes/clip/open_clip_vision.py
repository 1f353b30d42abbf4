"""open_clip's own vision transformers as :class:`VisionEncoder`.

Both open_clip's ``nn.MultiheadAttention`` blocks and the ``Attention`` module of its main branch are read.
"""

from __future__ import annotations

from typing import Any

from .head import Head
from .stem import PatchLayer
from .tower_weights import TowerWeights, colours
from .transformer import Block
from .vision import VisionEncoder


def vision_encoder(model: Any) -> VisionEncoder:
    """The vision side of an open_clip ``CLIP`` module as frozen tensors (shared, not copied).

    Raises ModelError for another structure.
    """
    visual = model.visual
    weights = TowerWeights(visual)
    ln_post, norm_after_pool = weights.norm("ln_post"), bool(getattr(visual, "final_ln_after_pool", False))
    encoder = VisionEncoder(
        stem=(PatchLayer(weights("conv1.weight")),),
        prefix=weights("class_embedding")[None],
        native_grid=visual.grid_size,
        positions=weights("positional_embedding"),
        ln_pre=weights.optional_norm("ln_pre"),
        blocks=tuple(
            _block(weights, f"transformer.resblocks.{index}", block.attn.num_heads)
            for index, block in enumerate(visual.transformer.resblocks)
        ),
        head=Head(
            ln_post=None if norm_after_pool else ln_post,
            ln_pooled=ln_post if norm_after_pool else None,
            projection=weights("proj"),
            logit_scale=float(model.logit_scale.detach().exp()),
        ),
        **colours(visual),
    )
    weights.check_all_read()
    return encoder


def _block(weights: TowerWeights, name: str, heads: int) -> Block:
    return Block(
        heads=heads,
        ln_1=weights.norm(f"{name}.ln_1"),
        in_proj_weight=weights(f"{name}.attn.in_proj_weight"),
        in_proj_bias=weights(f"{name}.attn.in_proj_bias"),
        out_weight=weights(f"{name}.attn.out_proj.weight"),
        out_bias=weights(f"{name}.attn.out_proj.bias"),
        ls_1=weights.optional(f"{name}.ls_1.gamma"),
        ln_2=weights.norm(f"{name}.ln_2"),
        mlp=weights.mlp(f"{name}.mlp.gelu", f"{name}.mlp.c_fc", f"{name}.mlp.c_proj"),
        ls_2=weights.optional(f"{name}.ls_2.gamma"),
    )
