"""timm's ``VisionTransformer`` and ``Eva`` in open_clip's ``TimmModel`` as :class:`VisionEncoder`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .attention_pool import AttentionPool, pool_query
from .errors import ModelError
from .head import Head
from .mlp import Mlp
from .rotary import RotaryPositions
from .stem import PatchLayer
from .tower_weights import SUPPORTED, TowerWeights, colours, logit_bias
from .transformer import Block
from .vision import VisionEncoder


def timm_vision_encoder(model: Any) -> VisionEncoder:
    """The vision side of an open_clip ``CustomTextCLIP`` with a ViT of timm, as frozen tensors.

    Raises ModelError for another structure.
    """
    visual, trunk = model.visual, model.visual.trunk
    weights = TowerWeights(visual)
    weights.layer("trunk", ("VisionTransformer", "Eva"))
    prefix = _prefix(weights)
    encoder = VisionEncoder(
        stem=_stem(weights, trunk),
        prefix=prefix,
        native_grid=tuple(trunk.patch_embed.grid_size),
        positions=_positions(weights, len(prefix), trunk.no_embed_class),
        ln_pre=weights.optional_norm("trunk.norm_pre"),
        blocks=tuple(
            _block(weights, f"trunk.blocks.{index}", block.attn.num_heads) for index, block in enumerate(trunk.blocks)
        ),
        head=_head(weights, trunk, model),
        rotary=_rotary(weights) if getattr(trunk, "rope", None) is not None else None,
        **colours(visual),
    )
    weights.check_all_read()
    return encoder


def _prefix(weights: TowerWeights) -> Tensor:
    """The class token and registers after it, (R, D)."""
    token, registers = (weights.optional(f"trunk.{name}") for name in ("cls_token", "reg_token"))
    if token is None and registers is not None:
        raise ModelError(f"it has registers and no class token; clipes reads {SUPPORTED}")
    found = [one[0] for one in (token, registers) if one is not None]
    return torch.cat(found) if found else weights("trunk.pos_embed")[0, :0]


def _positions(weights: TowerWeights, prefix: int, of_patches_alone: bool) -> Tensor:
    """(R + N, D), 0 for tokens that have no position."""
    positions = weights("trunk.pos_embed")[0]
    return torch.cat([positions.new_zeros(prefix, positions.shape[1]), positions]) if of_patches_alone else positions


def _stem(weights: TowerWeights, trunk: Any) -> tuple[PatchLayer, ...]:
    embed = "trunk.patch_embed"
    kind = type(weights.layer(embed, ("PatchEmbed", "HybridEmbed"))).__name__
    if kind == "PatchEmbed":
        return (PatchLayer(weights(f"{embed}.proj.weight"), weights.optional(f"{embed}.proj.bias")),)
    weights.layer(f"{embed}.backbone", ("ConvStem",))
    layers = [f"{embed}.backbone.{index}" for index in range(len(trunk.patch_embed.backbone))]
    return tuple(_convolution(weights, layer) for layer in layers)


def _convolution(weights: TowerWeights, name: str) -> PatchLayer:
    """A convolution with what follows it: a batch normalisation is folded into its weight and bias."""
    conv = weights.layer(f"{name}.conv", ("Conv2d",))
    if conv.kernel_size != conv.stride or any(conv.padding) or len(set(conv.stride)) > 1 or conv.groups > 1:
        raise ModelError(f"its convolution {name} has windows that overlap; clipes reads {SUPPORTED}")
    weight, bias = weights(f"{name}.conv.weight"), weights.optional(f"{name}.conv.bias")
    if f"{name}.bn.weight" not in weights:
        return PatchLayer(weight, bias)
    norm = weights.layer(f"{name}.bn", ("BatchNormAct2d",))
    gain, shift, mean, variance = (
        weights(f"{name}.bn.{kind}").double() for kind in ("weight", "bias", "running_mean", "running_var")
    )
    weights(f"{name}.bn.num_batches_tracked")
    factor = gain / (variance + norm.eps).sqrt()
    shift = shift + factor * ((0 if bias is None else bias.double()) - mean)
    folded = (weight.double() * factor[:, None, None, None]).to(weight)
    return PatchLayer(folded, shift.to(weight), weights.activation(f"{name}.bn.act"))


def _rotary(weights: TowerWeights) -> RotaryPositions:
    rope = weights.layer("trunk.rope", ("RotaryEmbeddingCat",))
    kind = getattr(rope, "grid_type", "index")  # older versions of timm have that one alone
    if kind != "index" or rope.in_pixels or getattr(rope, "rotate_half", False):
        raise ModelError(f"its rotary positions are of another kind ({kind}); clipes reads {SUPPORTED}")
    count, reference = rope.dim // 4, rope.ref_feat_shape
    return RotaryPositions(
        bands=tuple(rope.temperature ** (-index / count) for index in range(count)),
        reference=None if reference is None else (reference[0], reference[1]),
        offset=rope.grid_offset,
        columns_first=rope.grid_indexing == "xy",
    )


def _block(weights: TowerWeights, name: str, heads: int) -> Block:
    """A block with its norms before attention and MLP, or, of EVA-02-E, after them."""
    kind = type(weights.layer(name, ("Block", "EvaBlock", "EvaBlockPostNorm"))).__name__
    attention = weights.layer(f"{name}.attn", ("Attention", "AttentionRope", "EvaAttention"))
    if getattr(attention, "num_kv_groups", 1) != 1 or getattr(attention, "rotate_half", False):
        raise ModelError(f"its {name} shares keys, or turns halves; clipes reads {SUPPORTED}")
    norms = weights.norm(f"{name}.norm1"), weights.norm(f"{name}.norm2")
    before, after = (norms, (None, None)) if kind != "EvaBlockPostNorm" else ((None, None), norms)
    weight, bias = _projections(weights, f"{name}.attn")
    return Block(
        heads=heads,
        ln_1=before[0],
        in_proj_weight=weight,
        in_proj_bias=bias,
        ln_context=weights.optional_norm(f"{name}.attn.norm"),
        out_weight=weights(f"{name}.attn.proj.weight"),
        out_bias=weights.bias(f"{name}.attn.proj"),
        ln_attended=after[0],
        ls_1=_layer_scale(weights, name, 1),
        ln_2=before[1],
        mlp=_mlp(weights, f"{name}.mlp"),
        ln_fed=after[1],
        ls_2=_layer_scale(weights, name, 2),
    )


def _projections(weights: TowerWeights, name: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of queries, keys and values: one layer, or three; EVA's keys have no bias."""
    parts = [f"{name}.qkv"] if f"{name}.qkv.weight" in weights else [f"{name}.{letter}_proj" for letter in "qkv"]
    weight, bias = weights.stacked(parts)
    if f"{name}.q_bias" in weights:
        query, value = weights(f"{name}.q_bias"), weights(f"{name}.v_bias")
        bias = torch.cat([query, torch.zeros_like(query), value])
    return weight, bias


def _mlp(weights: TowerWeights, name: str) -> Mlp:
    """Two layers, or, of EVA-02, a first one that is gated."""
    gated = type(weights.layer(name, ("Mlp", "SwiGLU"))).__name__ == "SwiGLU"
    first = [f"{name}.fc1_g", f"{name}.fc1_x"] if gated else [f"{name}.fc1"]
    weight, bias = weights.stacked(first)
    return Mlp(
        activation=weights.activation(f"{name}.act"),
        fc_weight=weight,
        fc_bias=bias,
        proj_weight=weights(f"{name}.fc2.weight"),
        proj_bias=weights.bias(f"{name}.fc2"),
        gated=gated,
        norm=weights.optional_norm(f"{name}.norm"),
    )


def _layer_scale(weights: TowerWeights, name: str, number: int) -> Tensor | None:
    own = weights.optional(f"{name}.ls{number}.gamma")
    return weights.optional(f"{name}.gamma_{number}") if own is None else own


def _head(weights: TowerWeights, trunk: Any, model: Any) -> Head:
    """The projection is the trunk's own, or open_clip's after it, or there is none."""
    if trunk.global_pool not in ("token", "avg", "map"):
        raise ModelError(f"its pooling is {trunk.global_pool!r}; clipes reads {SUPPORTED}")
    projection = next((name for name in ("trunk.head", "head.proj") if f"{name}.weight" in weights), None)
    positions = weights("trunk.pos_embed")
    eye = torch.eye(positions.shape[-1], dtype=positions.dtype, device=positions.device)
    return Head(
        ln_post=weights.optional_norm("trunk.norm"),
        attention=_attention_pool(weights, trunk) if trunk.global_pool == "map" else None,
        ln_pooled=weights.optional_norm("trunk.fc_norm"),
        projection=weights(f"{projection}.weight").T if projection else eye,
        bias=weights.optional(f"{projection}.bias"),
        logit_scale=float(model.logit_scale.detach().exp()),
        logit_bias=logit_bias(model),
    )


def _attention_pool(weights: TowerWeights, trunk: Any) -> AttentionPool:
    name = "trunk.attn_pool"
    layer = weights.layer(name, ("AttentionPoolLatent",))
    if layer.latent_len != 1 or layer.pool != "token":
        raise ModelError(f"its pooling has {layer.latent_len} queries; clipes reads {SUPPORTED}")
    latent, key_and_value = weights(f"{name}.latent")[0, 0].double(), weights(f"{name}.kv.weight")
    query = weights(f"{name}.q.weight").double() @ latent + weights.bias(f"{name}.q").double()
    key, value = key_and_value.chunk(2)
    return AttentionPool(
        query=pool_query(query, key, layer.num_heads),
        value_weight=value,
        value_bias=weights.bias(f"{name}.kv").chunk(2)[1],
        out_weight=weights(f"{name}.proj.weight"),
        out_bias=weights.bias(f"{name}.proj"),
        norm=weights.norm(f"{name}.norm"),
        mlp=_mlp(weights, f"{name}.mlp"),
        with_prefix=type(trunk).__name__ == "Eva" or getattr(trunk, "pool_include_prefix", False),
    )
