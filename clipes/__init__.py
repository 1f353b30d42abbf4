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
    from clipes import config, scenes
    from clipes.clip.listing import list_models
    from clipes.config import COCO14, RECIPES, VOC12, Config
    from clipes.evaluation import evaluate
    from clipes.generator import MaskGenerator, load
    from clipes.result import PseudoMask
    from clipes.runs.api import run
    from clipes.store.store import open_run

__all__ = [
    "COCO14",
    "RECIPES",
    "VOC12",
    "Config",
    "MaskGenerator",
    "PseudoMask",
    "__version__",
    "config",
    "evaluate",
    "list_models",
    "load",
    "open_run",
    "run",
    "scenes",
]

_HOMES = {
    "COCO14": "config",
    "RECIPES": "config",
    "VOC12": "config",
    "Config": "config",
    "MaskGenerator": "generator",
    "PseudoMask": "result",
    "evaluate": "evaluation",
    "list_models": "clip.listing",
    "load": "generator",
    "open_run": "store.store",
    "run": "runs.api",
}
_MODULES = ("config", "scenes")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"clipes.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"clipes.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'clipes' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
