"""PAMR against the numbers of its authors' code."""

import numpy as np
import torch
from golden import arrays, close
from torch.nn import functional as F

from clipes.config import PamrConfig
from clipes.refine import pixel_adaptive_mask_refinement
from clipes.refine.pamr import refine_pamr_batch

GOLDEN = arrays("before", "pamr")


def resize(maps, size):
    """Maps (C, h, w), float64, bilinear with aligned corners."""
    return F.interpolate(torch.from_numpy(maps.astype(np.float64))[None], size, mode="bilinear", align_corners=True)[0]


def pamr(image, masks, **settings):
    fine = resize(masks, image.shape[:2]).numpy()
    return pixel_adaptive_mask_refinement(image, fine, PamrConfig(**settings))


def test_at_the_pictures_size():
    image, masks = GOLDEN["image"], GOLDEN["masks"]
    refined = pamr(image, masks)
    close("refined", refined, GOLDEN["refined"])
    close("refined_once", pamr(image, masks, iterations=1), GOLDEN["refined_once"])
    close("refined_dilation_1_2", pamr(image, masks, dilations=(1, 2)), GOLDEN["refined_dilation_1_2"])
    close("getam_use", refined / (refined.max((1, 2), keepdims=True) + 1e-5), GOLDEN["getam_use"])


def test_at_the_masks_size():
    """The picture is resized to the masks, so that its colours are no whole numbers."""
    masks = GOLDEN["masks_half"]
    picture = resize(np.moveaxis(GOLDEN["image"], -1, 0), masks.shape[1:])
    refined = refine_pamr_batch(picture[None], torch.from_numpy(masks)[None], PamrConfig())
    close("refined_at_mask_size", refined[0], GOLDEN["refined_at_mask_size"])


def test_a_picture_of_two_colours():
    size = GOLDEN["image"].shape
    picture = np.full(size, 90, np.uint8)
    picture[:, 30:] = 160
    close("two_tone_refined", pamr(picture, GOLDEN["masks"]), GOLDEN["two_tone_refined"])
