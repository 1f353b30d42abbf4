"""From the maps on the patch grid to masks: upsampling, background score, refinement by colours, decision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from clipes.config import Config, CrfConfig, PamrConfig, ParConfig, RefineConfig
from clipes.device.inference import inference
from clipes.device.pixels import pixels_of, to_host
from clipes.ids import ignore_index
from clipes.refine import REFINERS
from clipes.scores import ids_of_rows, score_of_rows, upsample

from .rules import DECISIONS, mean_scores
from .votes import voted_rows


class Decision(NamedTuple):
    """What is decided about one image, as arrays.

    Attributes:
        patch_cams: (C, h, w) float32 in [0, 1], the maps that were given.
        cams: (C, H, W) float32 in [0, 1], the maps at the image's size.
        scores: (C + 1, H, W) float32, row 0 the background; columns sum to 1. Their mean where the decision needs them
            against several backgrounds.
        mask: (H, W), 0 background, class ids, or the ignore value: uint8, or uint16 above 254 classes.
        confidence: (H, W) float32, of ``scores`` that of the mask's class; the highest where the pixel is ignored.
        map_confidence: (H, W) float32, the same class's score before the refinement.
    """

    patch_cams: Any
    cams: Any
    scores: Any
    mask: Any
    confidence: Any
    map_confidence: Any


@inference()
def decide_batch(
    images: Sequence[Image.Image],
    class_ids: Sequence[Sequence[int]],
    patch_cams: Sequence[Tensor],
    num_classes: int,
    config: Config,
    regions: Sequence[NDArray[np.int32] | None] | None = None,
) -> list[Decision]:
    """The second half of the path, without the network: from each image's maps on its patch grid (C, h, w) to its mask.

    ``regions`` are ids (H, W) of each image's regions, 0 for none, which vote as ``config.vote`` says; or None.

    Raises ValueError, as the refinements do, for settings that do not suit a picture's size; FloatingPointError for
    a score that is not finite.
    """
    rule = DECISIONS[type(config.mask)]
    cams = [upsample(m, (i.height, i.width)) for m, i in zip(patch_cams, images, strict=True)]
    refined = _refine_each([rule.scores(c, config.mask) for c in cams], images, config.refine)
    scores = [mean_scores(of_image) for of_image in refined]
    if not torch.stack([score.isfinite().all() for score in scores]).all():
        raise FloatingPointError("a score is not finite; look at the maps and at the refinement's settings")
    ignore = ignore_index(num_classes)
    mask_dtype = torch.uint8 if ignore == 255 else torch.int32  # torch has no arithmetic for uint16
    flat = torch.tensor([i for ids in class_ids for i in ids], dtype=torch.int64).to(scores[0].device)
    on_device = []
    of_images = torch.split(flat, [len(ids) for ids in class_ids])
    regions = [None] * len(images) if regions is None else regions
    for ids, coarse, fine, each, score, own in zip(of_images, patch_cams, cams, refined, scores, regions, strict=True):
        rows, ignored = rule.rows(each, config.mask, config.effective_ignore_below)
        if own is not None and config.vote is not None:
            rows = voted_rows(rows, ignored, ids, own, config.vote)
        mask = ids_of_rows(rows, ids)
        if ignored is not None:
            mask = mask.masked_fill(ignored, ignore)
        confidence = score_of_rows(score, rows)
        before = confidence
        if config.refine is not None:
            before = score_of_rows(mean_scores(rule.scores(fine, config.mask)), rows)
        on_device.append(Decision(coarse, fine, score, mask.to(mask_dtype), confidence, before))
    arrays = to_host([tensor for decision in on_device for tensor in decision])  # one transfer for all
    width = len(Decision._fields)
    decisions = [Decision(*arrays[start : start + width]) for start in range(0, len(arrays), width)]
    return decisions if ignore == 255 else [d._replace(mask=d.mask.astype(np.uint16)) for d in decisions]


def _refine_each(
    scores: Sequence[list[Tensor]], images: Sequence[Image.Image], config: RefineConfig | None
) -> list[list[Tensor]]:
    """The scores of each image against each background, refined together."""
    of_image = [image for image, each in zip(images, scores, strict=True) for _ in each]
    refined = iter(refine_scores(of_image, [one for each in scores for one in each], config))
    return [list(islice(refined, len(each))) for each in scores]


def _par_bytes(config: ParConfig) -> int:
    """Float64 distances and float32 weights of the neighbours, on a quarter of the pixels at half resolution."""
    own = 130 + 96 * len(config.dilations)
    return 30 + own // 4 if config.resolution == "half" else 30 + own


# Bytes per pixel: the CRF's lattice, the neighbours' weights; and per pixel and label: maps and scores.
_BYTES: dict[type, tuple[Callable[[Any], int], int]] = {
    type(None): (lambda config: 40, 16),
    CrfConfig: (lambda config: 220, 30),
    ParConfig: (_par_bytes, 16),
    PamrConfig: (lambda config: 170 + 32 * len(config.dilations), 16),
}


_REGION_BYTES = 200  # per pixel: superpixels' colours in float64, pairs of regions and pixels


def decision_memory(pixels: Sequence[int], labels: Sequence[int], config: Config) -> int:
    """About how many bytes of CPU memory :func:`decide_batch` takes for images of so many pixels and labels."""
    of_pixel, per_label = _BYTES[type(config.refine)]
    plain, times = of_pixel(config.refine), DECISIONS[type(config.mask)].backgrounds
    plain += 0 if config.regions is None else _REGION_BYTES
    return sum((plain + per_label * label * times) * pixel for pixel, label in zip(pixels, labels, strict=True))


def refine_scores(images: Sequence[Image.Image], scores: list[Tensor], config: RefineConfig | None) -> list[Tensor]:
    """Scores (C + 1, H, W) of each image, refined by its colours as ``config`` says.

    Images without a label are not changed, nor any if ``config`` is None.
    """
    labelled = [index for index, score in enumerate(scores) if len(score) > 1]
    if config is None or not labelled:
        return scores
    pictures = [pixels_of(images[index], scores[index].device) for index in labelled]
    refined = REFINERS[type(config)](pictures, [scores[index] for index in labelled], config)
    by_index = dict(zip(labelled, refined, strict=True))
    return [by_index.get(index, score) for index, score in enumerate(scores)]
