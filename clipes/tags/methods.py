"""The methods of tagging by their settings: what the encoder gave of a batch, and the texts, to scores of all classes.

Axes: B images, K classes, M background words, V names of each, E embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from clipes.cams.probabilities import name_logits
from clipes.clip.head import image_features
from clipes.clip.vision import Encoded, VisionEncoder
from clipes.config import BankTagsConfig, GlobalTagsConfig, Positions, TagClipConfig, TagsConfig
from clipes.device.inference import inference
from clipes.device.matmul_precision import matmul_precision
from clipes.device.pixels import to_host

from .bank import bank_scores, unit_patches
from .bank_file import PatchBank
from .dense_scores import all_shares, tagclip_dense
from .recheck import rechecked


@dataclass(frozen=True, eq=False)
class TagInput:
    """What the scores of a batch of images are made of.

    Attributes:
        vision: the encoder.
        encoded: what it computed, with the needs of the method.
        text: (K + M, V, E), unit text features.
        num_classes: K.
        pixels: the normalised pixels (3, h * p, w * p) of an image of the batch, made again when they are asked for.
        positions: how positional embeddings were resampled.
        bank: the fitted classifier, for the method that has one.
    """

    vision: VisionEncoder
    encoded: Encoded
    text: Tensor
    num_classes: int
    pixels: Callable[[int], Tensor]
    positions: Positions = "bilinear"
    bank: PatchBank | None = None


@inference()
def tag_scores(given: TagInput, config: TagsConfig) -> list[NDArray[np.float32]]:
    """The scores (K,) float32 in [0, 1] of each image of a batch.

    Raises FloatingPointError for a score that is not finite, ValueError for a batch encoded for other settings.
    """
    given.encoded.check(config.needs)
    with matmul_precision(given.vision.device, given.vision.dtype):
        scores = [one.float() for one in TAGGERS[type(config)](given, config)]
    found = to_host(scores)
    if not all(np.isfinite(one).all() for one in found):
        raise FloatingPointError(
            "a tag's score is not finite; if the precision is lower, load with precision='fp32', else look at the "
            "weights"
        )
    return found


def _tagclip(given: TagInput, config: TagClipConfig) -> Sequence[Tensor]:
    dense = tagclip_dense(given.vision, given.encoded, given.text, config)
    return [
        rechecked(given.vision, given.pixels(image), scores, given.text, given.num_classes, config, given.positions)
        for image, scores in enumerate(dense)
    ]


def _global(given: TagInput, config: GlobalTagsConfig) -> Sequence[Tensor]:
    head = given.vision.head
    features = image_features(head, given.encoded.last_block, config.pool)
    if config.score == "softmax":
        return list(all_shares(features, given.text, head.logit_scale)[:, : given.num_classes])
    if head.logit_bias is None:
        raise ValueError(
            "the score 'sigmoid' is for models that were trained with it, such as SigLIP, and this one has no bias of "
            "its logits; choose 'softmax' (--global-score softmax)"
        )
    logits = name_logits(features, given.text[: given.num_classes], head.logit_scale).amax(-1)
    return list((logits + head.logit_bias).sigmoid())


def _bank(given: TagInput, config: BankTagsConfig) -> Sequence[Tensor]:
    if given.bank is None:
        raise ValueError("the method 'bank' needs its fitted classifier, in TagInput.bank")
    device, classes = given.text.device, given.text[: given.num_classes]
    weight, bias = given.bank.weight.to(device), given.bank.bias.to(device)
    features = F.normalize(image_features(given.vision.head, given.encoded.last_block, "cls"), dim=-1)
    patches = unit_patches(given.vision, given.encoded, config)
    return [
        bank_scores(one, feature, classes, weight, bias, config) for one, feature in zip(patches, features, strict=True)
    ]


TAGGERS: dict[type, Callable[[TagInput, Any], Sequence[Tensor]]] = {
    TagClipConfig: _tagclip,
    GlobalTagsConfig: _global,
    BankTagsConfig: _bank,
}
"""The function of each method's settings: to scores (K,) in [0, 1] of each image of a batch."""
