"""Which image towers can be read: by open_clip's configuration before anything is built, and by the built module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .open_clip_vision import vision_encoder
from .timm_vision import timm_vision_encoder
from .vision import VisionEncoder

_CUSTOM = ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")

_CONVOLUTIONAL = "is convolutional: it has no attention between patches"
_TIMM_REASONS = {
    "byobnet": _CONVOLUTIONAL,
    "convnext": _CONVOLUTIONAL,
    "fastvit": _CONVOLUTIONAL,
    "resnet": _CONVOLUTIONAL,
    "swin_transformer": "attends within windows, so that it has no attention between all patches",
    "vision_transformer_relpos": "adds learnt biases of relative positions to its attention",
    "vitamin": "begins with convolutional stages, and has gated blocks after them",
}
"""Why towers of a module of timm, ``timm.models.NAME``, are refused."""
_TIMM_READ = ("vision_transformer", "vision_transformer_hybrid", "eva")


def vision_tower(model: Any) -> VisionEncoder:
    """The vision side of open_clip's module of a whole model. Raises ModelError for a structure that is not read."""
    return timm_vision_encoder(model) if hasattr(model.visual, "trunk") else vision_encoder(model)


def unsupported_reason(config: Mapping[str, Any]) -> str | None:
    """Why a model of open_clip's configuration ``config`` cannot be used, or None if it can."""
    vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    if (text.get("tokenizer_kwargs") or {}).get("trust_remote_code"):
        return "its tokenizer asks to run code of its own (trust_remote_code)"
    return _timm_reason(vision) if vision.get("timm_model_name") else _open_clip_reason(vision)


def _open_clip_reason(vision: Mapping[str, Any]) -> str | None:
    """Why open_clip's own tower of these settings cannot be used, or None if it can."""
    patch = vision.get("patch_size", 16)
    if isinstance(vision.get("layers", 12), list | tuple):
        return "its image tower is a ResNet, which has no attention maps"
    if isinstance(vision.get("attentional_pool"), str):
        return f"it pools the image with attention twice ({vision['attentional_pool']!r})"
    if vision.get("pool_type", "tok") not in ("tok", "avg"):
        return f"its pooling is {vision['pool_type']!r}"
    if vision.get("block_type") == "custom" or any(vision.get(name) for name in _CUSTOM):
        return "its attention blocks have a form of their own"
    if isinstance(patch, list | tuple) and len(set(patch)) > 1:
        return f"its patches are not square ({patch})"
    return None


def _timm_reason(vision: Mapping[str, Any]) -> str | None:
    """Why a tower of timm cannot be used, by where timm defines it, or None if it can."""
    from timm.models import is_model, model_entrypoint

    name, pool = vision["timm_model_name"], vision.get("timm_pool", "avg")
    tower = f"its image tower, timm's {name},"
    architecture = name.partition(".")[0]
    if not is_model(architecture):
        return f"the installed timm has no {name}; update it: pip install -U timm"
    family = model_entrypoint(architecture).__module__.rpartition(".")[2]
    if family not in _TIMM_READ:
        return f"{tower} {_TIMM_REASONS.get(family, 'has a form that is not read')}"
    if pool not in ("token", "avg", "map", ""):
        return f"{tower} pools the image by {pool!r}"
    if vision.get("timm_proj") == "mlp":
        return f"{tower} has a projection of two layers"
    return None
