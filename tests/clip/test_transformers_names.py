"""Weights of transformers' ``SiglipModel`` give its own features; for its ``CLIPModel`` see test_checkpoint.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from models import randomise
from safetensors.torch import save_file
from torch import Tensor
from towers import few_blocks

from clipes.clip.checkpoint import read_checkpoint
from clipes.clip.errors import ModelError
from clipes.clip.head import image_features
from clipes.clip.towers import vision_tower

transformers = pytest.importorskip("transformers")

SIDE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {"vocab_size": 60, "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}


@pytest.fixture(scope="module")
def siglip() -> Any:
    """A small random ``SiglipModel``."""
    config = transformers.SiglipConfig(
        text_config={**SIDE, **TEXT, "projection_size": 32}, vision_config={**SIDE, "image_size": 32, "patch_size": 8}
    )
    return randomise(transformers.SiglipModel(config))


def of_open_clip() -> Any:
    """open_clip's SigLIP 2 of the same sizes."""
    config = open_clip.get_model_config("ViT-B-32-SigLIP2-256")
    config["text_cfg"].update(width=32, heads=2, layers=2, mlp_ratio=2, vocab_size=60, context_length=16)
    sizes = {"embed_dim": 32, "num_heads": 2, "mlp_ratio": 2, "img_size": 32, "patch_size": 8}
    with few_blocks(**sizes):
        parts = {name: config[name] for name in ("vision_cfg", "text_cfg", "init_logit_bias")}
        return open_clip.CustomTextCLIP(embed_dim=32, **parts).eval().requires_grad_(False)


def feature(found: Any) -> Tensor:
    return found if isinstance(found, Tensor) else found.pooler_output


def test_a_siglip_of_transformers(siglip: Any, tmp_path: Path) -> None:
    save_file(siglip.state_dict(), tmp_path / "model.safetensors")
    model, state = of_open_clip(), read_checkpoint(tmp_path / "model.safetensors").state
    state = {name: value.reshape(model.state_dict()[name].shape) for name, value in state.items()}
    model.load_state_dict(state)  # strict
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = torch.randint(0, 60, (3, 16), generator=torch.Generator().manual_seed(1))
    images = feature(siglip.get_image_features(pixel_values=pixels))
    encoder = vision_tower(model)
    ours = image_features(encoder.head, encoder.encode(pixels).last_block, "patch")
    torch.testing.assert_close(ours, images, rtol=0, atol=1e-5 * float(images.abs().max()))
    texts = feature(siglip.get_text_features(input_ids=tokens))
    torch.testing.assert_close(model.encode_text(tokens), texts, rtol=0, atol=1e-5 * float(texts.abs().max()))


def test_a_siglip_without_one_of_its_projections(siglip: Any, tmp_path: Path) -> None:
    state = siglip.state_dict()
    del state["vision_model.encoder.layers.1.self_attn.v_proj.bias"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"lacks vision_model\.encoder\.layers\.1\.self_attn\.v_proj\.bias; get"):
        read_checkpoint(tmp_path / "model.safetensors")
