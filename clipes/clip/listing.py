"""The models that can be loaded, with their sizes, and why others cannot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cache
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
        patch: the side of a patch in pixels.
        grid: (h, w) of the native image, in patches.
        blocks, width: of the vision side.
        parameters: of both sides; None where the text side is another library's. In float32 four bytes each.
        reason: why it is not supported; None if it is.
    """

    name: str
    tags: tuple[str, ...]
    patch: int | None
    grid: tuple[int, int] | None
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
    shape, parameters = _sizes(json.dumps(config, sort_keys=True))
    return ModelInfo(name, tags, *shape, parameters)


class TowerShape(NamedTuple):
    """The sizes of an image tower, as in :class:`ModelInfo`."""

    patch: int
    grid: tuple[int, int]
    blocks: int
    width: int


def tower_shape(visual: Any) -> TowerShape:
    """The sizes of open_clip's module of an image tower that can be read."""
    if hasattr(visual, "trunk"):
        trunk = visual.trunk
        embed = trunk.patch_embed
        return TowerShape(embed.feat_ratio(), tuple(embed.grid_size), len(trunk.blocks), trunk.embed_dim)
    blocks = len(visual.transformer.resblocks)
    return TowerShape(visual.patch_size[0], tuple(visual.grid_size), blocks, visual.conv1.out_channels)


def _unsupported(name: str, tags: tuple[str, ...], reason: str) -> ModelInfo:
    return ModelInfo(name, tags, None, None, None, None, None, reason)


@cache
def _sizes(config: str) -> tuple[TowerShape, int | None]:
    """Those of the image tower of a configuration, in JSON, and the number of parameters of both sides."""
    visual, parameters = _on_meta(json.loads(config))
    return tower_shape(visual), parameters


def _on_meta(config: Mapping[str, Any]) -> tuple[Any, int | None]:
    """The image tower of a configuration, without memory or values, and the number of parameters of both sides."""
    import open_clip
    import torch
    from open_clip.model import _build_vision_tower

    with torch.device("meta"), _nothing_in_place():
        if config["text_cfg"].get("hf_model_name"):
            return _build_vision_tower(config["embed_dim"], config["vision_cfg"], config.get("quick_gelu", False)), None
        kind = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
        kind = open_clip.CoCa if "multimodal_cfg" in config else kind
        names = {"embed_dim", "vision_cfg", "text_cfg", "multimodal_cfg"} & config.keys()
        model = kind(**{name: config[name] for name in names})
    return model.visual, int(sum(value.numel() for value in model.parameters()))


def _nothing_in_place() -> AbstractContextManager[object]:
    """In the block no function changes a tensor in place: a module without values needs no initialisation, which takes
    most of the time that it is built in.
    """
    from torch.overrides import TorchFunctionMode

    class NothingInPlace(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = getattr(func, "__name__", "")
            if name.endswith("_") and not name.endswith("__"):
                return args[0] if args else (kwargs or {}).get("tensor")  # as torch.nn.init names it
            return func(*args, **(kwargs or {}))

    return NothingInPlace()
