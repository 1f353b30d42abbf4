"""The softmax in which an image's labels and all background words compete (CLIP-ES section 3.2, equation 1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from clipes.clip.pairs import Pairs


def label_probabilities(features: Tensor, text: Tensor, label_mask: Tensor, logit_scale: float) -> Tensor:
    """Softmax over [the image's labels, all backgrounds] (equation 1).

    A class's logit is the highest of its names' logits. Takes image features (B, E), unit text features (K + M, V, E)
    of V names of each class and background word, and ``label_mask`` (B, K) bool, the labels of each image. Returns
    (B, K + M) in [0, 1]; classes that are not labels of the image get 0.
    """
    return label_softmax(name_logits(features, text, logit_scale).amax(-1), label_mask)


def name_logits(features: Tensor, text: Tensor, logit_scale: float) -> Tensor:
    """Logits (B, K + M, V) of image features (B, E) and unit text features (K + M, V, E)."""
    return (logit_scale * F.normalize(features, dim=-1) @ text.flatten(0, 1).T).reshape(-1, *text.shape[:2])


def label_softmax(logits: Tensor, label_mask: Tensor) -> Tensor:
    """Softmax of logits (B, K + M) over each image's labels, ``label_mask`` (B, K) bool, and all background words."""
    allowed = F.pad(label_mask, (0, logits.shape[1] - label_mask.shape[1]), value=True)
    return logits.masked_fill(~allowed, -torch.inf).softmax(-1)


def label_shares(features: Tensor, text: Tensor, num_classes: int, pairs: Pairs, scale: float) -> Tensor:
    """The softmax probability of each pair's label at every token, over [the image's labels, all background words].

    A class's logit is the highest of its names'. Classes that are not labels of the image do not take part, and their
    logits are never computed.

    Args:
        features: unit features (B, N, E) of the images' patches.
        text: unit text features (K + M, V, E) of ``num_classes`` = K classes and of M background words.
        pairs: the image and the label of every map.
        scale: factor of the cosines.

    Returns:
        (P, N) in [0, 1].
    """
    words = _logits(features, text[num_classes:].expand(len(features), -1, -1, -1), scale)  # (B, M, N)
    labels = _logits(features, pairs.pad_per_image(text[pairs.label]), scale)  # (B, C, N)
    absent = pairs.pad_per_image(torch.ones_like(pairs.image, dtype=torch.bool)).logical_not()
    labels = labels.masked_fill(absent[..., None], -torch.inf)
    total = torch.cat([labels, words], 1).logsumexp(1)  # (B, N)
    return (pairs.unpad(labels) - pairs.gather_images(total)).exp()


def _logits(features: Tensor, text: Tensor, scale: float) -> Tensor:
    """The highest logit (B, C, N) of the names of each of an image's C texts, (B, C, V, E)."""
    cosines = text.flatten(1, 2) @ features.mT
    return (scale * cosines).reshape(*text.shape[:3], features.shape[1]).amax(2)
