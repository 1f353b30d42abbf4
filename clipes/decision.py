"""From the maps on the patch grid to masks: upsampling, background score, refinement by colours, decision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipes.config import Config, CrfConfig, ParConfig
from clipes.device.pixels import pixels_of, to_host
from clipes.ids import ignore_index
from clipes.refine.crf import refine_crf
from clipes.refine.par import refine_par
from clipes.result import PseudoMask
from clipes.scores import decide, score_maps, upsample


def decide_masks(
    images: Sequence[Image.Image],
    class_ids: Sequence[Sequence[int]],
    patch_cams: Sequence[Tensor],
    class_names: Sequence[str],
    config: Config,
) -> list[PseudoMask]:
    """The second half of the path, from each image's maps on its patch grid (C, h, w) to its mask; no network.

    Raises ValueError, as the refinements do, for settings that do not suit a picture's size; FloatingPointError for
    a score that is not finite.
    """
    with torch.inference_mode():
        cams = [upsample(m, (i.height, i.width)) for m, i in zip(patch_cams, images, strict=True)]
        scores = refine_scores(images, [score_maps(c, config.mask.background_power) for c in cams], config.refine)
    if not torch.stack([score.isfinite().all() for score in scores]).all():
        raise FloatingPointError("a score is not finite; look at the maps and at the refinement's settings")
    ignore = ignore_index(len(class_names))
    kind = torch.uint8 if ignore == 255 else torch.int32
    found = []
    flat = torch.tensor([i for ids in class_ids for i in ids], dtype=torch.int64).to(scores[0].device)
    numbers = torch.split(flat, [len(ids) for ids in class_ids])
    for number, coarse, cam, score in zip(numbers, patch_cams, cams, scores, strict=True):
        winner, winning = decide(score, number, ignore, config.ignore_below)
        found += [coarse, cam, score, winner.to(kind), winning]
    arrays, results = iter(to_host(found)), []
    for image, ids in zip(images, class_ids, strict=True):
        maps, full, shares, mask, confidence = (next(arrays) for _ in range(5))
        result = PseudoMask(
            labels=tuple(class_names[i - 1] for i in ids),
            class_ids=np.array(ids, dtype=np.int64),
            patch_cams=maps,
            cams=full,
            scores=shares,
            mask=mask if ignore == 255 else mask.astype(np.uint16),
            confidence=confidence,
            image=image,
            class_count=len(class_names),
        )
        results.append(result)
    return results


def refine_scores(
    images: Sequence[Image.Image], scores: list[Tensor], config: CrfConfig | ParConfig | None
) -> list[Tensor]:
    """Scores (C + 1, H, W) of each image, refined by its colours as ``config`` says; images without a label stay."""
    labelled = [index for index, score in enumerate(scores) if len(score) > 1]
    if config is None or not labelled:
        return scores
    pictures = [pixels_of(images[index], scores[index].device) for index in labelled]
    given = [scores[index] for index in labelled]
    if isinstance(config, CrfConfig):
        refined = refine_crf(pictures, given, config)
    else:
        pairs = zip(pictures, given, strict=True)
        refined = [refine_par(picture.permute(2, 0, 1)[None], score[None], config)[0] for picture, score in pairs]
    found = dict(zip(labelled, refined, strict=True))
    return [found.get(index, score) for index, score in enumerate(scores)]
