"""Weights in the names of transformers' ``CLIPModel`` and ``SiglipModel`` in those of open_clip."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from .errors import ModelError

ANCHOR = "vision_model.embeddings.patch_embedding.weight"
"""A name that both have."""

_CLIP = {
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    ANCHOR: "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.": "visual.ln_pre.",
    "vision_model.post_layernorm.": "visual.ln_post.",
    "vision_model.encoder.layers.": "visual.transformer.resblocks.",
    "visual_projection.weight": "visual.proj",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.": "ln_final.",
    "text_model.encoder.layers.": "transformer.resblocks.",
    "text_projection.weight": "text_projection",
}
_SIGLIP = {
    "vision_model.embeddings.patch_embedding.": "visual.trunk.patch_embed.proj.",
    "vision_model.embeddings.position_embedding.weight": "visual.trunk.pos_embed",
    "vision_model.post_layernorm.": "visual.trunk.norm.",
    "vision_model.encoder.layers.": "visual.trunk.blocks.",
    "vision_model.head.probe": "visual.trunk.attn_pool.latent",
    "vision_model.head.attention.out_proj.": "visual.trunk.attn_pool.proj.",
    "vision_model.head.layernorm.": "visual.trunk.attn_pool.norm.",
    "vision_model.head.mlp.": "visual.trunk.attn_pool.mlp.",
    "text_model.embeddings.token_embedding.weight": "text.token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "text.positional_embedding",
    "text_model.final_layer_norm.": "text.ln_final.",
    "text_model.encoder.layers.": "text.transformer.resblocks.",
    "text_model.head.": "text.text_projection.",
}
"""The beginnings of names."""

_OPEN_CLIP_BLOCK = {
    ".self_attn.out_proj.": ".attn.out_proj.",
    ".self_attn.in_proj.": ".attn.in_proj_",
    ".layer_norm1.": ".ln_1.",
    ".layer_norm2.": ".ln_2.",
    ".mlp.fc1.": ".mlp.c_fc.",
    ".mlp.fc2.": ".mlp.c_proj.",
}
_TIMM_BLOCK = {
    ".self_attn.out_proj.": ".attn.proj.",
    ".self_attn.in_proj.": ".attn.qkv.",
    ".layer_norm1.": ".norm1.",
    ".layer_norm2.": ".norm2.",
}
"""The middles of names of a block's weights."""


def from_transformers(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The weights of a ``CLIPModel`` or a ``SiglipModel`` by open_clip's names. Names that neither has stay.

    Transformers has q, k and v of a block as three layers, and CLIP's projections transposed. ModelError for a file
    without one of the three.
    """
    joined = _with_joined_projections(state, path)
    if "vision_model.head.probe" in state:
        return _siglip(joined)
    renamed = {_renamed(name, _CLIP, _OPEN_CLIP_BLOCK): value for name, value in joined.items()}
    transposed = {"visual.proj", "text_projection"}
    return {name: value.T.contiguous() if name in transposed else value for name, value in renamed.items()}


def _siglip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The queries, keys and values of the pooling are one layer in transformers, and two in timm."""
    found = {}
    for name, value in state.items():
        if name.startswith("vision_model.head.attention.in_proj_"):
            kind, pool = name.rpartition("_")[2], "visual.trunk.attn_pool"
            found[f"{pool}.q.{kind}"], found[f"{pool}.kv.{kind}"] = value.tensor_split([len(value) // 3])
            continue
        new = _renamed(name, _SIGLIP, _TIMM_BLOCK if name.startswith("vision_model.") else _OPEN_CLIP_BLOCK)
        found[new] = value[None] if new == "visual.trunk.pos_embed" else value
    return found


def _renamed(name: str, beginnings: Mapping[str, str], middles: Mapping[str, str]) -> str:
    beginning = next((one for one in beginnings if name.startswith(one)), None)
    if beginning is not None:
        name = beginnings[beginning] + name.removeprefix(beginning)
    for part, other in middles.items():
        name = name.replace(part, other)
    return name


def _with_joined_projections(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The three layers of each block as one, ``self_attn.in_proj``; without the indices of positions."""
    joined = {}
    for name, value in state.items():
        if name.endswith("embeddings.position_ids") or ".self_attn.k_proj." in name or ".self_attn.v_proj." in name:
            continue
        if ".self_attn.q_proj." not in name:
            joined[name] = value
            continue
        parts = [name.replace(".q_proj.", f".{letter}_proj.") for letter in "qkv"]
        missing = [part for part in parts if part not in state]
        if missing:
            raise ModelError(f"{path} lacks {missing[0]}; get the file again")
        joined[name.replace(".q_proj.", ".in_proj.")] = torch.cat([state[part] for part in parts])
    return joined
