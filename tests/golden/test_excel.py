"""ExCEL's training-free maps by the numbers of its code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from golden import arrays
from golden_model import model, voc_texts
from torch import Tensor

from clipes.cams.patch_text import second_stream, surgery_maps
from clipes.clip.attributes import with_attributes
from clipes.clip.pairs import Pairs
from clipes.config import EncodeRequest, PatchTextConfig

GOLDEN = arrays("after", "excel")
CLASSES = 20
PAPER = PatchTextConfig(competitors="all")
PICTURES = range(sum(key.endswith("_labels") for key in GOLDEN))


def test_texts() -> None:
    plain = voc_texts(("a clean origami {}.",))
    np.testing.assert_allclose(plain.numpy(), GOLDEN["text_plain"], rtol=0, atol=5e-6)


def test_texts_with_attributes() -> None:
    plain, centres = (torch.from_numpy(GOLDEN[key]) for key in ("text_plain", "attribute_centres"))
    enriched = with_attributes(plain[:CLASSES, None], centres, share=0.9)[:, 0]
    np.testing.assert_allclose(torch.cat([enriched, plain[CLASSES:]]), GOLDEN["text_attributes"], rtol=0, atol=5e-6)


def raw_maps(number: int, text: Tensor, config: PatchTextConfig) -> Tensor:
    vision, labels = model().vision, GOLDEN[f"{number}_labels"].tolist()
    pixels = torch.from_numpy(GOLDEN[f"{number}_input"].astype(np.float32))
    label_mask = torch.zeros(1, CLASSES, dtype=torch.bool)
    label_mask[0, labels] = True
    with torch.inference_mode():
        encoded = vision.encode(pixels[None], EncodeRequest(tokens=config.blocks))
        last = encoded.last_block
        blocks = vision.blocks[-config.blocks :]
        features = second_stream(blocks, vision.head, encoded.tokens, last, config)
        if config == PAPER and f"{number}_features" in GOLDEN:
            np.testing.assert_allclose(features[0], GOLDEN[f"{number}_features"], rtol=0, atol=1e-5)
        maps = surgery_maps(features, text[:, None], label_mask, Pairs([labels]), config, last)
    return maps.reshape(-1, *encoded.grids[0])


@pytest.mark.parametrize(
    ("key", "text", "config"),
    [
        ("raw_plain", "text_plain", PAPER),
        ("raw_attributes", "text_attributes", PAPER),
        ("raw_plain_channelnorm", "text_plain", replace(PAPER, norm="token")),
        ("raw_plain_perhead", "text_plain", replace(PAPER, heads="own")),
    ],
)
@pytest.mark.parametrize("number", PICTURES)
def test_maps(number: int, key: str, text: str, config: PatchTextConfig) -> None:
    got = raw_maps(number, torch.from_numpy(GOLDEN[text]), config)
    np.testing.assert_allclose(got, GOLDEN[f"{number}_{key}"], rtol=0, atol=5e-5)
