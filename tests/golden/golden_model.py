"""The random model and the pictures that golden numbers of networks were made with; they are not in this repository.

They are in the folder that the environment variable ``CLIPES_GOLDEN`` names: ``after/model``, ``after/cases.json`` and
``after/pictures``, or ``parity/model`` and ``parity/cases.json`` beside that folder.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from golden import FOLDER
from PIL import Image
from torch import Tensor

from clipes.clip.text import text_features
from clipes.clip.weights import CLIP, load_clip
from clipes.vocabulary import load_vocabulary

_PLACES = (FOLDER / "after", FOLDER.parent / "parity")


def _found(name: str) -> Path:
    for place in _PLACES:
        if (place / name).exists():
            return place / name
    pytest.skip(f"no {name}: CLIPES_GOLDEN does not name a folder with the random model's")


@cache
def model() -> CLIP:
    """The random ViT, float32 on the CPU; the test is skipped where it is not."""
    return load_clip(f"local-dir:{_found('model')}", device="cpu", precision="fp32")


def picture(number: int) -> Image.Image:
    """A picture of the cases, RGB."""
    file = _found("cases.json")
    case = json.loads(file.read_text())["cases"][number]
    name = Path(case["image"]).name
    places = (file.parent / "pictures" / name, file.parent / case["image"])
    return Image.open(next(place for place in places if place.exists())).convert("RGB")


def voc_texts(templates: str | tuple[str, ...], classes: str | list[str] = "voc12") -> Tensor:
    """Unit features (names, E) of VOC's classes, and of CLIP-ES's background words."""
    vocabulary = load_vocabulary(classes, "voc12", templates)
    with torch.inference_mode():
        return text_features(model().text, vocabulary.sentences())[:, 0].to(model().vision.head.projection)
