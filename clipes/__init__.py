"""Segmentation masks from image-level labels, with a frozen CLIP and no training.

>>> import clipes
>>> generator = clipes.load()                               # the bundled model; or ("ViT-B-16", "openai", ...)
>>> scene = next(clipes.scenes.draw_scenes(1, seed=7))
>>> result = generator(scene.image, scene.labels)
>>> result.mask.shape == scene.mask.shape
True

Axes, in every shape of this package: B images, P pairs of an image and one of its labels, C labels of an image,
K classes of the data set, M backgrounds, V names of each, T templates, D width, E embedding, A heads, L blocks,
H x W pixels, h x w patches of p x p pixels, N = h * w, S = 1 + N tokens. Sizes are (height, width).

Names are imported when they are first used, so that ``import clipes`` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from clipes._version import __version__

if TYPE_CHECKING:
    from clipes import scenes
    from clipes.config import COCO14, SCENES, VOC12, Config, CrfConfig, ParConfig
    from clipes.crf import dense_crf
    from clipes.generator import MaskGenerator, load
    from clipes.losses import confidence_guided_loss
    from clipes.metrics import confusion_matrix, mean_iou
    from clipes.par import pixel_adaptive_refinement
    from clipes.result import PseudoMask
    from clipes.sharpness import prompt_sharpness
    from clipes.thesaurus import synonyms

__all__ = [
    "COCO14",
    "SCENES",
    "VOC12",
    "Config",
    "CrfConfig",
    "MaskGenerator",
    "ParConfig",
    "PseudoMask",
    "__version__",
    "confidence_guided_loss",
    "confusion_matrix",
    "dense_crf",
    "load",
    "mean_iou",
    "pixel_adaptive_refinement",
    "prompt_sharpness",
    "scenes",
    "synonyms",
]

_HOMES = {
    "COCO14": "config",
    "SCENES": "config",
    "VOC12": "config",
    "Config": "config",
    "CrfConfig": "config",
    "ParConfig": "config",
    "MaskGenerator": "generator",
    "PseudoMask": "result",
    "confidence_guided_loss": "losses",
    "confusion_matrix": "metrics",
    "dense_crf": "crf",
    "load": "generator",
    "mean_iou": "metrics",
    "pixel_adaptive_refinement": "par",
    "prompt_sharpness": "sharpness",
    "synonyms": "thesaurus",
}


def __getattr__(name: str) -> Any:
    if name == "scenes":
        return importlib.import_module("clipes.scenes")
    if name in _HOMES:
        return getattr(importlib.import_module(f"clipes.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'clipes' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
