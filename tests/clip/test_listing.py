"""clipes.list_models: the sizes are those of the models that are built."""

from __future__ import annotations

import open_clip
from models import build, clip_config

import clipes
from clipes.clip.bundled import TINY_FOLDER
from clipes.clip.listing import RECOMMENDED, _info
from clipes.clip.weights import load_clip


def test_sizes_are_those_of_the_model() -> None:
    config = clip_config(image=40, patch=8, width=32, layers=3)
    model = build(config)
    found = _info("small", ("a",), config)
    assert (found.patch, found.grid, found.blocks, found.width) == (8, (5, 5), 3, 32)
    assert found.parameters == sum(value.numel() for value in model.parameters())


def test_the_bundled_model_comes_first() -> None:
    first = clipes.list_models()[0]
    vision = load_clip("tiny", device="cpu").vision
    model = open_clip.create_model(f"local-dir:{TINY_FOLDER}")
    assert (first.name, first.tags, first.patch) == ("tiny", (), vision.patch_size)
    assert (first.blocks, first.grid) == (len(vision.blocks), (14, 14))
    assert first.parameters == sum(value.numel() for value in model.parameters())


def test_the_recommended_one_is_there() -> None:
    name, tag = RECOMMENDED
    (found,) = (model for model in clipes.list_models() if model.name == name)
    assert tag in found.tags and found.parameters == 149_620_737 and found.reason is None
    assert all(model.reason for model in clipes.list_models(unsupported=True))
