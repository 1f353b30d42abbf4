"""Small seeded random CLIPs, in which nothing stands at its trivial value, and folders that hold them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor

from clipes.clip.text import TextEncoder

CONTEXT = 16
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def clip_config(
    *,
    image: int = 32,
    patch: int = 8,
    width: int = 32,
    layers: int = 3,
    head_width: int = 16,
    embed: int = 24,
    quick_gelu: bool = False,
    text_width: int = 16,
    **vision: Any,
) -> dict[str, Any]:
    """open_clip's configuration of a small CLIP; ``vision`` adds to (or overrides) its vision_cfg."""
    return {
        "embed_dim": embed,
        "quick_gelu": quick_gelu,
        "vision_cfg": {
            "image_size": image,
            "patch_size": patch,
            "width": width,
            "layers": layers,
            "head_width": head_width,
            **vision,
        },
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": 49408,
            "width": text_width,
            "heads": max(1, text_width // 64),
            "layers": 1,
        },
    }


def build(cfg: dict[str, Any], seed: int = 0) -> Any:
    """An open_clip CLIP of a configuration, randomised, in eval mode."""
    return randomise(open_clip.CLIP(**json.loads(json.dumps(cfg))), seed)


def make_clip(
    seed: int = 0,
    *,
    image: int = 32,
    patch: int = 8,
    width: int = 32,
    layers: int = 3,
    head_width: int = 16,
    embed: int = 24,
    quick_gelu: bool = False,
    pool_type: str = "tok",
    ls_init: float | None = None,
    no_ln_pre: bool = False,
    final_ln_after_pool: bool = False,
) -> Any:
    """A small random open_clip CLIP in eval mode."""
    cfg = clip_config(
        image=image,
        patch=patch,
        width=width,
        layers=layers,
        head_width=head_width,
        embed=embed,
        quick_gelu=quick_gelu,
        pool_type=pool_type,
        ls_init_value=ls_init,
        no_ln_pre=no_ln_pre,
        final_ln_after_pool=final_ln_after_pool,
    )
    return build(cfg, seed)


def randomise(model: Any, seed: int = 0) -> Any:
    """Draw every parameter at random: gains around 1, biases and embeddings away from 0, weights such that
    activations keep their size and attention is neither flat nor a single peak."""
    generator = torch.Generator().manual_seed(seed)

    def normal(like: Tensor, spread: float, centre: float = 0.0) -> Tensor:
        return centre + spread * torch.randn(like.shape, generator=generator)

    with torch.no_grad():
        for name, value in model.named_parameters():
            if name == "logit_scale":
                value.fill_(3.0)
            elif name.endswith("gamma"):
                value.copy_(normal(value, 0.2, 0.5))
            elif value.ndim == 1 and name.endswith("weight"):
                value.copy_(normal(value, 0.2, 1.0))
            elif name.endswith("bias"):
                value.copy_(normal(value, 0.2))
            elif name.endswith("embedding"):
                value.copy_(normal(value, 0.5))
            elif name.endswith(("in_proj_weight", "qkv.weight")):
                value.copy_(normal(value, 1.5 * value.shape[-1] ** -0.5))
            else:
                fan_in = value[0].numel() if name.endswith("weight") else value.shape[0]
                value.copy_(normal(value, fan_in**-0.5))
        for name, value in model.named_buffers():
            if name.endswith("running_mean"):
                value.copy_(normal(value, 0.2))
            elif name.endswith("running_var"):
                value.copy_(normal(value, 0.2, 1.0).abs())
    return model.eval().requires_grad_(False)


def text_encoder(width: int) -> TextEncoder:
    """A text side whose unit features depend on the sentence alone: seeded by its characters, one token each."""

    def tokenize(sentences: Sequence[str]) -> Tensor:
        return torch.tensor([list(sentence.encode().ljust(120, b"\0")) for sentence in sentences])

    def encode(tokens: Tensor) -> Tensor:
        seeds = (tokens * torch.arange(1, tokens.shape[1] + 1)).sum(1).tolist()
        rows = [torch.randn(width, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.nn.functional.normalize(torch.stack(rows), dim=-1)

    return TextEncoder(tokenize, encode, f"seeded {width}")


def save_folder(model: Any, path: Path, cfg: dict[str, Any]) -> Path:
    """Write ``open_clip_config.json`` and ``open_clip_model.safetensors``, as ``local-dir:`` reads them.

    ``cfg`` is the model's configuration; mean and standard deviation are :data:`MEAN` and :data:`STD`.
    """
    path.mkdir(parents=True, exist_ok=True)
    whole = {"model_cfg": cfg, "preprocess_cfg": {"mean": list(MEAN), "std": list(STD)}}
    (path / "open_clip_config.json").write_text(json.dumps(whole), encoding="utf-8")
    save_file(whole_state(model), path / "open_clip_model.safetensors")
    return path


def whole_state(model: Any) -> dict[str, Tensor]:
    """The state dict as contiguous tensors of their own."""
    return {name: value.detach().clone().contiguous() for name, value in model.state_dict().items()}
