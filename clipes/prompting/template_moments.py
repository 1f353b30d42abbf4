"""Each image's label probabilities by each of many templates, from image features and text features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipes.cams.gradcam import label_probabilities
from clipes.clip.head import Head

from .sharpness import Moments, label_moments

_BLOCK = 1024  # images whose probabilities are computed at once


def template_moments(
    head: Head,
    text: Sequence[Tensor],
    features: NDArray[np.float32],
    class_ids: Sequence[Sequence[int]],
    class_count: int,
) -> Moments:
    """Variance and mean of each image's label probabilities by each template: two (T, N) float64.

    Takes the text features of T templates, (K + M, V, E) each, image features (N, E), and each image's ids 1..K of
    ``class_count`` = K classes.
    """
    parts = []
    for start in range(0, len(features), _BLOCK):
        block = class_ids[start : start + _BLOCK]
        image = torch.tensor([i for i, ids in enumerate(block) for _ in ids])
        label = torch.tensor([number - 1 for ids in block for number in ids])
        present = torch.zeros(len(block), class_count, dtype=torch.bool)
        present[image, label] = True
        on_device = torch.from_numpy(features[start : start + _BLOCK]).to(head.projection)
        present = present.to(head.projection.device)
        rows = []
        with torch.inference_mode():
            for one in text:
                probabilities = label_probabilities(on_device, one, present, head.logit_scale)
                rows.append(probabilities.cpu()[image, label].numpy())
        parts.append(label_moments(np.stack(rows), np.array([len(ids) for ids in block])))
    return Moments(*(np.concatenate(moments, axis=1) for moments in zip(*parts, strict=True)))
