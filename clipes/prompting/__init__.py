"""Choosing what CLIP is told, by images or by WordNet: prompt sharpness, background words, synonyms.

It writes vocabularies; making masks with them is for :mod:`clipes.generator`."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .background import suggest_background
    from .senses import synonyms
    from .sharpness import prompt_sharpness

__all__ = ["prompt_sharpness", "suggest_background", "synonyms"]

_HOMES = {"prompt_sharpness": "sharpness", "suggest_background": "background", "synonyms": "senses"}


def __getattr__(name: str) -> Any:
    """Imported when first used: WordNet needs no torch."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
