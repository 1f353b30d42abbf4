"""The models that can be loaded, with their sizes, and why others cannot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from .architecture import matching_tags, refusal
from .bundled import TINY_FOLDER

RECOMMENDED = ("ViT-B-16", "openai")
"""The paper's model: its settings, the presets voc12 and coco14, were chosen with it."""


class ModelInfo(NamedTuple):
    """A model of open_clip, or the bundled one; nothing of it is loaded.

    Attributes:
        name: what :func:`clipes.load` takes as ``model``.
        tags: what it takes as ``pretrained``, apart from a file; empty for the bundled model, which brings its weights.
        patch, grid: the side of a patch in pixels, and of the native image in patches.
        blocks, width: of the vision side.
        parameters: of both sides; None where the text side is another library's. In float32 four bytes each.
        reason: why it is not supported; None if it is.
    """

    name: str
    tags: tuple[str, ...]
    patch: int | None
    grid: int | None
    blocks: int | None
    width: int | None
    parameters: int | None
    reason: str | None = None


def list_models(unsupported: bool = False) -> list[ModelInfo]:
    """The models that :func:`clipes.load` takes by name: the bundled one, and those of open_clip that have weights.

    With ``unsupported``, those of open_clip that cannot be used, each with the reason. Nothing is downloaded.

    >>> next(model for model in list_models() if model.name == "ViT-B-16").tags[0]
    'openai'
    """
    import open_clip

    found = [] if unsupported else [_tiny()]
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        reason = refusal(config)
        tags = matching_tags(name, config) if reason is None else tuple(open_clip.list_pretrained_tags_by_model(name))
        if tags and (reason is not None) == unsupported:
            found.append(_info(name, tags, config) if reason is None else _unsupported(name, tags, reason))
    return found


def _tiny() -> ModelInfo:
    text = (TINY_FOLDER / "open_clip_config.json").read_text(encoding="utf-8")
    return _info("tiny", (), json.loads(text)["model_cfg"])


def _info(name: str, tags: tuple[str, ...], config: Mapping[str, Any]) -> ModelInfo:
    vision = config["vision_cfg"]
    size, patch = (_side(vision.get(key, default)) for key, default in (("image_size", 224), ("patch_size", 16)))
    blocks, width = vision.get("layers", 12), vision.get("width", 768)
    return ModelInfo(name, tags, patch, size // patch, blocks, width, _parameters(config))


def _unsupported(name: str, tags: tuple[str, ...], reason: str) -> ModelInfo:
    return ModelInfo(name, tags, None, None, None, None, None, reason)


def _side(value: Any) -> int:
    return int(value[0] if isinstance(value, list | tuple) else value)


def _parameters(config: Mapping[str, Any]) -> int | None:
    import open_clip
    import torch

    if config["text_cfg"].get("hf_model_name"):
        return None
    parts = {name: config[name] for name in ("embed_dim", "vision_cfg", "text_cfg")}
    with torch.device("meta"):  # without memory or values
        model = open_clip.CLIP(**parts)
    return int(sum(value.numel() for value in model.parameters()))
