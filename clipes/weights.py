"""From an open_clip model to our frozen towers: the only file that knows open_clip, imported on use."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from clipes.cam import Head
from clipes.encoder import Encoder
from clipes.transformer import Activation, Block, Norm

TINY = "tiny"
"""The name of the bundled model."""


def vision_encoder(model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> Encoder:
    visual = model.visual
    state = {name: value.detach() for name, value in visual.state_dict().items()}
    blocks = visual.transformer.resblocks
    return Encoder(
        patch_size=state["conv1.weight"].shape[-1],
        patch_weight=state["conv1.weight"],
        patch_bias=state.get("conv1.bias"),
        class_embedding=state["class_embedding"],
        positional_embedding=state["positional_embedding"],
        ln_pre=None if isinstance(visual.ln_pre, nn.Identity) else _norm(visual.ln_pre),
        blocks=tuple(_block(block) for block in blocks),
        head=Head(
            ln_post=_norm(visual.ln_post),
            projection=state["proj"],
            logit_scale=float(model.logit_scale.detach().exp()),
            norm_after_pool=visual.final_ln_after_pool,
        ),
        mean=mean,
        std=std,
    )


def _norm(layer: nn.LayerNorm) -> Norm:
    return Norm(layer.weight.detach(), layer.bias.detach(), layer.eps)


def _block(block: nn.Module) -> Block:
    state = {name: value.detach() for name, value in block.state_dict().items()}
    heads = getattr(block.attn, "num_heads", None) or getattr(block.attn, "heads", None)
    return Block(
        heads=heads,
        activation="quick_gelu" if type(block.mlp.gelu).__name__ == "QuickGELU" else "gelu",
        ln_1=_norm(block.ln_1),
        in_proj_weight=state["attn.in_proj_weight"],
        in_proj_bias=state["attn.in_proj_bias"],
        out_weight=state["attn.out_proj.weight"],
        out_bias=state["attn.out_proj.bias"],
        ls_1=state.get("ls_1.gamma"),
        ln_2=_norm(block.ln_2),
        fc_weight=state["mlp.c_fc.weight"],
        fc_bias=state["mlp.c_fc.bias"],
        proj_weight=state["mlp.c_proj.weight"],
        proj_bias=state["mlp.c_proj.bias"],
        ls_2=state.get("ls_2.gamma"),
    )
