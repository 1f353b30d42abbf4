"""From the maps on the patch grid to masks: upsampling, background score, refinement by colours, decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipes.config import Config, CrfConfig, PamrConfig, ParConfig, RefineConfig
from clipes.device.inference import inference
from clipes.device.pixels import pixels_of, to_host
from clipes.ids import ignore_index
from clipes.refine import REFINERS
from clipes.scores import decide, score_before, score_maps, upsample


class Decision(NamedTuple):
    """What is decided about one image, as arrays.

    Attributes:
        patch_cams: (C, h, w) float32 in [0, 1], the maps that were given.
        cams: (C, H, W) float32 in [0, 1], the maps at the image's size.
        scores: (C + 1, H, W) float32, row 0 the background; columns sum to 1.
        mask: (H, W), 0 background, class ids, or the ignore value: uint8, or uint16 above 254 classes.
        confidence: (H, W) float32, the winning score.
        map_confidence: (H, W) float32, the score of the winning class before the refinement.
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
) -> list[Decision]:
    """The second half of the path, without the network: from each image's maps on its patch grid (C, h, w) to its mask.

    Raises ValueError, as the refinements do, for settings that do not suit a picture's size; FloatingPointError for
    a score that is not finite.
    """
    cams = [upsample(m, (i.height, i.width)) for m, i in zip(patch_cams, images, strict=True)]
    scores = refine_scores(images, [score_maps(c, config.mask.background_power) for c in cams], config.refine)
    if not torch.stack([score.isfinite().all() for score in scores]).all():
        raise FloatingPointError("a score is not finite; look at the maps and at the refinement's settings")
    ignore = ignore_index(num_classes)
    mask_dtype = torch.uint8 if ignore == 255 else torch.int32  # torch has no arithmetic for uint16
    flat = torch.tensor([i for ids in class_ids for i in ids], dtype=torch.int64).to(scores[0].device)
    on_device = []
    for ids, coarse, fine, score in zip(
        torch.split(flat, [len(ids) for ids in class_ids]), patch_cams, cams, scores, strict=True
    ):
        mask, confidence = decide(score, ids, ignore, config.effective_ignore_below)
        before = confidence if config.refine is None else score_before(fine, score, config.mask.background_power)
        on_device.append(Decision(coarse, fine, score, mask.to(mask_dtype), confidence, before))
    arrays = to_host([tensor for decision in on_device for tensor in decision])  # one transfer for all
    width = len(Decision._fields)
    decisions = [Decision(*arrays[start : start + width]) for start in range(0, len(arrays), width)]
    return decisions if ignore == 255 else [d._replace(mask=d.mask.astype(np.uint16)) for d in decisions]


# Bytes per pixel, and per pixel and label: the CRF's lattice, the neighbours' weights, each label's maps and scores.
_BYTES = {type(None): (40, 16), ParConfig: (200, 16), PamrConfig: (360, 16), CrfConfig: (220, 30)}


def decision_memory(pixels: Sequence[int], labels: Sequence[int], config: Config) -> int:
    """About how many bytes of CPU memory :func:`decide_batch` takes for images of so many pixels and labels."""
    plain, per_label = _BYTES[type(config.refine)]
    return sum((plain + per_label * label) * pixel for pixel, label in zip(pixels, labels, strict=True))


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
