"""Conversion of open_clip's vision models to :class:`VisionEncoder`.

Parameters are read by name, so that both open_clip's ``nn.MultiheadAttention`` blocks and the ``Attention`` module of
its main branch are accepted. Any other structure is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast, get_args

from torch import Tensor, nn

from clipes.device.pixels import Interpolation

from .head import Head
from .transformer import Activation, Block, Norm
from .vision import VisionEncoder

SUPPORTED = "plain CLIP ViTs (ViT-B-32, ViT-B-16, ViT-L-14, ViT-H-14, …; `clipes models` lists them)"


class ModelError(ValueError):
    """A model that cannot be loaded: unknown, without weights, of another structure, or with wrong weights."""


def unsupported_reason(config: Mapping[str, Any]) -> str | None:
    """Why a model of open_clip's configuration ``config`` cannot be used, or None if it can."""
    vision = config.get("vision_cfg", {})
    custom = ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")
    size, patch = vision.get("image_size", 224), vision.get("patch_size", 16)
    if "multimodal_cfg" in config:
        return "CoCa pools the image with attention"
    if vision.get("timm_model_name"):
        name = vision["timm_model_name"]
        return f"its image tower is timm's {name} (SigLIP, EVA and the like have another structure)"
    if isinstance(vision.get("layers", 12), list | tuple):
        return "its image tower is a ResNet, which has no attention maps"
    if vision.get("attentional_pool"):
        return "it pools the image with attention"
    if vision.get("pool_type", "tok") not in ("tok", "avg"):
        return f"its pooling is {vision['pool_type']!r}"
    if vision.get("block_type") == "custom" or any(vision.get(name) for name in custom):
        return "its attention blocks have a form of their own"
    if isinstance(size, list | tuple) and len(set(size)) > 1:
        return f"its native image is not square ({size})"
    if isinstance(patch, list | tuple) and len(set(patch)) > 1:
        return f"its patches are not square ({patch})"
    if (config.get("text_cfg", {}).get("tokenizer_kwargs") or {}).get("trust_remote_code"):
        return "its tokenizer asks to run code of its own (trust_remote_code)"
    if vision.get("act_kwargs"):
        return f"its activation has settings of its own ({vision['act_kwargs']})"
    return None


def vision_encoder(model: Any) -> VisionEncoder:
    """The vision side of an open_clip ``CLIP`` module as frozen tensors (shared, not copied)."""
    visual = model.visual
    state = _state(visual)
    preprocess = getattr(visual, "preprocess_cfg", None) or {}
    return VisionEncoder(
        patch_size=state["conv1.weight"].shape[-1],
        patch_weight=state["conv1.weight"],
        class_embedding=state["class_embedding"],
        positional_embedding=state["positional_embedding"],
        ln_pre=_norm(visual.ln_pre) if "ln_pre.weight" in state else None,
        blocks=tuple(_block(block) for block in visual.transformer.resblocks),
        head=Head(
            ln_post=_norm(visual.ln_post),
            projection=state["proj"],
            logit_scale=float(model.logit_scale.detach().exp()),
            norm_after_pool=bool(getattr(visual, "final_ln_after_pool", False)),
        ),
        mean=tuple(preprocess.get("mean", (0.48145466, 0.4578275, 0.40821073))),
        std=tuple(preprocess.get("std", (0.26862954, 0.26130258, 0.27577711))),
        interpolation=_interpolation(preprocess.get("interpolation")),
    )


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in module.state_dict().items()}


def _interpolation(name: str | None) -> Interpolation:
    if name in (None, "random"):  # training with both
        return "bicubic"
    if name in get_args(Interpolation):
        return cast(Interpolation, name)
    raise ModelError(
        f"the interpolation {name!r} is not supported; clipes resizes {' or '.join(get_args(Interpolation))}"
    )


def _norm(layer: Any) -> Norm:
    return Norm(layer.weight.detach(), layer.bias.detach(), layer.eps)


def _activation(layer: Any) -> Activation:
    if type(layer).__name__ == "QuickGELU":
        return "quick_gelu"
    if isinstance(layer, nn.GELU) and layer.approximate == "none":
        return "gelu"
    raise ModelError(f"the activation {layer} is not supported; clipes knows GELU and QuickGELU")


BLOCK_PARAMETERS = {
    *(f"{norm}.{kind}" for norm in ("ln_1", "ln_2") for kind in ("weight", "bias")),
    *(f"attn.{name}" for name in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")),
    *(f"mlp.{layer}.{kind}" for layer in ("c_fc", "c_proj") for kind in ("weight", "bias")),
}


def _unknown_layers(block: nn.Module) -> set[str]:
    """Names of layers without parameters that may change the result."""
    known = (nn.Identity, nn.Dropout)  # dropout has no effect in evaluation mode
    return {
        name
        for name, layer in block.named_modules()
        if not any(True for _ in layer.parameters()) and not isinstance(layer, known) and name != "mlp.gelu"
    }


def _block(block: Any) -> Block:
    state = _state(block)
    other = (BLOCK_PARAMETERS ^ state.keys()) - {"ls_1.gamma", "ls_2.gamma"} | _unknown_layers(block)
    if other:
        names = ", ".join(sorted(other))
        raise ModelError(f"the attention blocks have another form ({names}); clipes reads {SUPPORTED}")
    return Block(
        heads=block.attn.num_heads,
        activation=_activation(block.mlp.gelu),
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
