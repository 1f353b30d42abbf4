"""The affinity of ExCEL's training-free path, by the numbers of its code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from golden import arrays
from golden_model import model

from clipes.cams.affinity import spread_cams
from clipes.cams.boxes import box_masks
from clipes.clip.pairs import Pairs
from clipes.config import RECIPES

GOLDEN = arrays("after", "excel")
EXCEL = RECIPES["excel-voc12"].config.affinity
PICTURES = range(sum(key.endswith("_labels") for key in GOLDEN))


def compare(number, tag, attention, config, key):
    raw = torch.from_numpy(GOLDEN[f"{number}_raw_{tag}"]).double()
    spread = spread_cams(raw.flatten(1), attention, Pairs([range(len(raw))]), [raw.shape[1:]], config)
    sure = GOLDEN[f"{number}_margin_{tag}"] > 1e-5  # the last bit decides no box
    np.testing.assert_allclose(spread.reshape(raw.shape)[sure], GOLDEN[key][sure], rtol=0, atol=1e-5)


@pytest.mark.parametrize("tag", ["plain", "attributes"])
@pytest.mark.parametrize("number", PICTURES)
def test_boxes(number, tag):
    boxes = box_masks(torch.from_numpy(GOLDEN[f"{number}_raw_{tag}"]).double(), EXCEL.box_threshold)
    sure = GOLDEN[f"{number}_margin_{tag}"] > 1e-5
    np.testing.assert_array_equal(boxes[sure], GOLDEN[f"{number}_boxes_{tag}"][sure])


@pytest.mark.parametrize("tag", ["plain", "attributes"])
@pytest.mark.parametrize("number", [number for number in PICTURES if f"{number}_attention" in GOLDEN])
def test_from_the_attention(number, tag):
    attention = torch.from_numpy(GOLDEN[f"{number}_attention"])[None]
    compare(number, tag, attention, EXCEL, f"{number}_refined_{tag}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "change"),
    [("", {}), ("_wholeboxes", {"boxes": "exact"}), ("_evenlayers", {"oldest_block": "equal"})],
)
@pytest.mark.parametrize("number", PICTURES)
def test_from_the_picture(number, variant, change):
    config = replace(EXCEL, **change)
    pixels = torch.from_numpy(GOLDEN[f"{number}_input"].astype(np.float32))
    with torch.inference_mode():
        attention = model().vision.encode(pixels[None], config.needs).attention[config.attention]
    for tag in ("plain",) if variant else ("plain", "attributes"):
        compare(number, tag, attention, config, f"{number}_refined_{tag}{variant}")
