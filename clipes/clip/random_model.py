"""A model of open_clip with random weights: whether its tower, its tokenizer and the memory are there."""

from __future__ import annotations

import torch

from clipes.device.inference import loading

from .architecture import model_config, open_clip_name
from .download import without_open_clips_log
from .tokenizer import load_tokenizer
from .towers import vision_tower
from .weights import CLIP, text_encoder


def random_clip(name: str) -> CLIP:
    """open_clip's model ``name`` as it is before any weights are loaded, the same each time, in float32 on the CPU.

    Raises ModelError for an unknown name, a tower that is not supported, and a tokenizer that is not there.
    """
    import open_clip

    name = open_clip_name(name)
    model_config(name, None)
    tokenize = load_tokenizer(name)
    with loading(), without_open_clips_log(), torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        model = open_clip.create_model(name, load_weights=False, pretrained_text=False)
    model.eval().requires_grad_(False).float()
    return CLIP(vision_tower(model), text_encoder(model, tokenize))
