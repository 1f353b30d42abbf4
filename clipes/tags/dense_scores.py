"""TagCLIP's scores of patches: probabilities, propagated by attention on which enough blocks agree (DMAR in its code).

Axes: N = h * w patches, K classes, M background words.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clipes.cams.boxes import boxed
from clipes.cams.dense import dense_features
from clipes.cams.probabilities import name_logits
from clipes.cams.propagation import propagate
from clipes.cams.scaling import min_max
from clipes.clip.vision import Encoded, VisionEncoder
from clipes.config import Boxes, TagClipConfig

_MAPS = 256
"""Maps whose regions are found together: their memory does not grow with the number of classes."""


def patch_probabilities(vision: VisionEncoder, encoded: Encoded, text: Tensor) -> list[Tensor]:
    """The softmax over all classes and words at each patch of each image, in which every patch keeps its own value.

    Takes what was encoded with one block's input tokens, and unit text features (K + M, V, E). Returns (N, K + M) for
    each image; a class's logit is the highest of its names'.
    """
    block, head = vision.blocks[-1], vision.head
    features = dense_features(block, head, encoded.tokens[-1], encoded.grids, "identity", True, layout=encoded.layout)
    return [
        all_shares(of_image[: h * w], text, head.logit_scale)
        for of_image, (h, w) in zip(features, encoded.grids, strict=True)
    ]


def all_shares(features: Tensor, text: Tensor, scale: float) -> Tensor:
    """The softmax (R, K + M) of features (R, E) against unit text features (K + M, V, E): all classes and words
    compete.
    """
    return name_logits(features, text, scale).amax(-1).softmax(-1)


def voted_attention(attention: Tensor, votes: Tensor, least: int) -> Tensor:
    """The mean attention (N, N) where at least so many blocks are above their mean, else 0."""
    return attention * (votes >= least)


def propagated_scores(
    probabilities: Tensor, affinity: Tensor, grid: tuple[int, int], boxes: Boxes = "exact"
) -> tuple[Tensor, Tensor]:
    """Scores (N, K + M) before and after the boxes, from probabilities (N, K + M) and the affinity (N, N).

    The probabilities are propagated once; each class is then propagated again from inside the boxes of its scores.
    Rows of the affinity do not sum to 1, as in the code. In place of an affinity for each class, which the code makes,
    the probabilities outside of the boxes are 0: the same product in (K + M) N numbers instead of (K + M) N^2.
    """
    maps = probabilities.T
    before = propagate(maps, affinity)
    inside = torch.cat([boxes_above_mean(part, grid, boxes) for part in torch.split(before, _MAPS)])
    return before.T, propagate(maps * inside, affinity).T


def boxes_above_mean(scores: Tensor, grid: tuple[int, int], boxes: Boxes = "exact") -> Tensor:
    """Which patches lie in a box of the regions of each map (P, N) above its mean, at 256 levels: (P, N) bool."""
    maps = min_max(scores).reshape(-1, *grid)
    levels, least = (maps * 255).to(torch.uint8), (maps.mean((1, 2)) * 255).floor()
    return boxed(levels > least[:, None, None], boxes).flatten(1)


def tagclip_dense(vision: VisionEncoder, encoded: Encoded, text: Tensor, config: TagClipConfig) -> list[Tensor]:
    """The scores (N, K + M) of each image of a batch, after the boxes; what it reads of the encoder: ``config.needs``.

    Raises ValueError for a batch that was encoded without it.
    """
    encoded.check(config.needs)
    if encoded.votes is None:
        raise ValueError("no votes were kept; encode with what config.needs names")
    probabilities = patch_probabilities(vision, encoded, text)
    attentions = encoded.attention[config.attention]
    found = []
    for image, (h, w) in enumerate(encoded.grids):
        own = slice(h * w)
        affinity = voted_attention(attentions[image, own, own], encoded.votes[image, own, own], config.votes)
        shares = probabilities[image].to(affinity.dtype)
        found.append(propagated_scores(shares, affinity, (h, w), config.boxes)[1])
    return found
