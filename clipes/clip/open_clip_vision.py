"""open_clip's own vision transformers as :class:`VisionEncoder`.

Both open_clip's ``nn.MultiheadAttention`` blocks and the ``Attention`` module of its main branch are read.
"""

from __future__ import annotations

from typing import Any

from .attention_pool import AttentionPool, pool_query
from .errors import ModelError
from .head import Head
from .stem import PatchLayer
from .tower_weights import SUPPORTED, TowerWeights, colours, logit_bias
from .transformer import Block
from .vision import VisionEncoder


def vision_encoder(model: Any) -> VisionEncoder:
    """The vision side of an open_clip ``CLIP`` module as frozen tensors (shared, not copied).

    Raises ModelError for another structure.
    """
    visual = model.visual
    weights = TowerWeights(visual)
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
        head=_head(weights, visual, model),
        **colours(visual),
    )
    weights.check_all_read()
    return encoder


def _head(weights: TowerWeights, visual: Any, model: Any) -> Head:
    """CoCa normalises what its pool reads, and ``ln_post`` comes after it."""
    attention = getattr(visual, "attn_pool", None)
    after = attention is not None or bool(getattr(visual, "final_ln_after_pool", False))
    ln_post = weights.norm("ln_post")
    return Head(
        ln_post=(weights.norm("attn_pool.ln_k") if attention is not None else None) if after else ln_post,
        attention=None if attention is None else _attention_pool(weights, visual),
        ln_pooled=ln_post if after else None,
        projection=weights("proj"),
        logit_scale=float(model.logit_scale.detach().exp()),
        logit_bias=logit_bias(model),
    )


def _attention_pool(weights: TowerWeights, visual: Any) -> AttentionPool:
    """CoCa's pool; of its queries the first makes the image's feature, the others are for captions."""
    name, heads = "attn_pool.attn", visual.attn_pool.attn.num_heads
    if visual.pool_type != "tok":
        raise ModelError(f"its pooling is {visual.pool_type!r} of {visual.attn_pool_type!r}; clipes reads {SUPPORTED}")
    if f"{name}.in_proj_weight" in weights:
        projections = weights(f"{name}.in_proj_weight").chunk(3)
    else:
        projections = tuple(weights(f"{name}.{letter}_proj_weight") for letter in "qkv")
    latent = weights.norm("attn_pool.ln_q")(weights("attn_pool.query")[0])
    biases = weights(f"{name}.in_proj_bias").chunk(3)
    return AttentionPool(
        query=pool_query(projections[0].double() @ latent.double() + biases[0].double(), projections[1], heads),
        value_weight=projections[2],
        value_bias=biases[2],
        out_weight=weights(f"{name}.out_proj.weight"),
        out_bias=weights(f"{name}.out_proj.bias"),
        norm=None,
        mlp=None,
        with_prefix=True,
    )


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
