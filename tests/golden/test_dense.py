"""Other attention in the last block: SCLIP, NACLIP, ClearCLIP, MaskCLIP, by the numbers of their code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import arrays
from golden_model import model, voc_texts
from numpy.typing import NDArray
from torch.nn import functional as F

from clipes.cams.dense import dense_features, distance_bias
from clipes.cams.tiles import join_windows, windows
from clipes.config import EncodeRequest, Positions
from clipes.vocabulary import load_vocabulary

MEAN, STD = np.array([122.771, 116.746, 104.094]), np.array([68.501, 66.632, 70.323])
VARIANTS = {
    "sclip": ("qq+kk", True),
    "naclip": ("kk+distance", False),
    "kk": ("kk", False),
    "clearclip": ("qq", False),
    "maskclip": ("identity", False),
    "maskclip_residual": ("identity", True),
    "vanilla": ("qk", True),
}
GOLDEN = arrays("after", "dense")


def pixels(picture: str) -> torch.Tensor:
    normalised = (GOLDEN[f"{picture}_input"] - MEAN[:, None, None]) / STD[:, None, None]
    return torch.from_numpy(normalised.astype(np.float32))


def features(image: torch.Tensor, variant: str, positions: Positions = "bicubic") -> torch.Tensor:
    vision = model().vision
    with torch.inference_mode():
        encoded = vision.encode(image[None], EncodeRequest(tokens=1), positions)
        return dense_features(vision.blocks[-1], vision.head, encoded.tokens[-1], encoded.grids, *VARIANTS[variant])[0]


def test_texts() -> None:
    names = list(load_vocabulary("voc12").class_names)
    np.testing.assert_allclose(voc_texts("imagenet", names)[:20], GOLDEN["text"], rtol=0, atol=5e-6)


def near(got: object, want: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(np.asarray(got), want, rtol=0, atol=1e-5)


def features_cases() -> list[tuple[str, str]]:
    names = [(picture, variant) for picture in "abc" for variant in VARIANTS]
    return [(picture, variant) for picture, variant in names if f"{picture}_{variant}" in GOLDEN]


@pytest.mark.parametrize(("picture", "variant"), features_cases())
def test_features(picture: str, variant: str) -> None:
    got = features(pixels(picture), variant)
    near(got, GOLDEN[f"{picture}_{variant}"])
    if f"{picture}_cos_{variant}" in GOLDEN:
        near(got @ torch.from_numpy(GOLDEN["text"][:5]).T, GOLDEN[f"{picture}_cos_{variant}"])
    if f"{picture}_{variant}_bilinear" in GOLDEN:
        near(features(pixels(picture), variant, "bilinear"), GOLDEN[f"{picture}_{variant}_bilinear"])


def test_omega() -> None:
    grid = tuple(side // 16 for side in GOLDEN["c_input"].shape[1:])
    near(distance_bias([grid], 5.0, torch.zeros(1))[0], GOLDEN["c_omega_naclip"])


def pixel_map(image: torch.Tensor, variant: str) -> torch.Tensor:
    h, w = (side // 16 for side in image.shape[1:])
    cosines = (features(image, variant) @ torch.from_numpy(GOLDEN["text"][:3]).T).T.reshape(1, -1, h, w)
    return F.interpolate(cosines, image.shape[1:], mode="bilinear", align_corners=False)[0]


@pytest.mark.parametrize("variant", ["sclip", "naclip"])
def test_maps_at_the_pictures_size(variant: str) -> None:
    near(pixel_map(pixels("c"), variant), GOLDEN[f"c_logits_{variant}"])


def test_a_sliding_window() -> None:
    """SCLIP's code: windows of 224 pixels, 112 apart, the last one shifted inside; means of maps at their size."""
    image = pixels("e")
    shape = image.shape[1], image.shape[2]
    places = windows(shape, 224, 112)
    parts = [image[:, top : top + height, left : left + width] for top, left, height, width in places]
    near(join_windows([pixel_map(part, "sclip") for part in parts], places, shape), GOLDEN["e_slide_sclip"])
