"""Background words compete with an image's labels in the softmax (CLIP-ES equation 1): what each takes from them.

Axes: B images, K classes, M words, V names of a class, E embedding. All features are unit vectors.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from clipes.cams.probabilities import name_logits

TIE = 1e-6
"""Cosines that differ by no more are equal: the rounding of float32."""


class Alone(NamedTuple):
    """The result of each word that competes alone with the labels of B images."""

    wins: Tensor  # (M,) int64, images to which the word is closer than each of their labels
    share: Tensor  # (M,) probability that it takes from the labels, mean over the images
    taken: Tensor  # (M, K) the same from each class, summed over the images


class Together(NamedTuple):
    """The result of all words that compete at once with the labels of B images."""

    share: Tensor  # (M,) the word's probability, mean over the images
    gain: Tensor  # (M,) what the labels' probability would gain without the word, mean over the images
    kept: float  # the labels' probability, mean over the images


def compete_alone(features: Tensor, classes: Tensor, words: Tensor, present: Tensor, logit_scale: float) -> Alone:
    """Let each word compete alone with the labels of each image.

    Takes the features of B images (B, E), K classes (K, V, E) and M words (M, E); ``present`` (B, K) bool, at least
    one label for each image; and the logit scale. Of a class's V names the closest counts. A word wins where its
    cosine is above that of every label by more than :data:`TIE`; its probability is that of the softmax over [the
    image's labels, the word]. Of what a word takes, each label loses its share among the labels.

    >>> sky, cat = torch.eye(2)
    >>> pictures, labelled = torch.stack([sky, cat]), torch.ones(2, 1, dtype=torch.bool)
    >>> result = compete_alone(pictures, cat[None, None], sky[None], labelled, logit_scale=2.0)
    >>> result.wins.tolist(), round(float(result.share), 3)  # the mean of 1 / (1 + exp(-2)) and 1 / (1 + exp(2))
    ([1], 0.5)
    """
    labels = _label_logits(features, classes, present, logit_scale)
    logits = logit_scale * features @ words.T
    wins = (logits > labels.amax(1, keepdim=True) + logit_scale * TIE).sum(0)
    share = torch.sigmoid(logits - labels.logsumexp(1, keepdim=True))
    return Alone(wins, share.mean(0), share.T @ labels.softmax(1))


def compete_together(features: Tensor, classes: Tensor, words: Tensor, present: Tensor, logit_scale: float) -> Together:
    """Let all words compete at once, as they do in the method; arguments as in :func:`compete_alone`.

    >>> sky, cat = torch.eye(2)
    >>> result = compete_together(
    ...     cat[None], cat[None, None], torch.stack([sky, cat]), torch.ones(1, 1, dtype=torch.bool), logit_scale=2.0
    ... )
    >>> [round(share, 3) for share in result.share.tolist()], round(result.kept, 3)  # exp(0), exp(2); exp(2)
    ([0.063, 0.468], 0.468)
    >>> [round(gain, 3) for gain in result.gain.tolist()]  # to 1/2, and to 1 / (1 + exp(-2))
    [0.032, 0.412]
    """
    labels = _label_logits(features, classes, present, logit_scale).logsumexp(1, keepdim=True)
    logits = torch.cat([labels, logit_scale * features @ words.T], 1)  # (B, 1 + M)
    probabilities = logits.softmax(1)
    kept = probabilities[:, 0]
    words_left_out = torch.arange(1, logits.shape[1], device=logits.device)[:, None]
    without = [logits.index_fill(1, index, -torch.inf).softmax(1)[:, 0] for index in words_left_out]
    gain = torch.stack([(labels_kept - kept).mean() for labels_kept in without]) if without else kept.new_zeros(0)
    return Together(probabilities[:, 1:].mean(0), gain, float(kept.mean()))


def closest(classes: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """The largest cosine of each of M words (M, E) to K classes (K, V, E), over all their names, and the class's index.

    >>> sky, cat = torch.eye(2)
    >>> closest(torch.stack([sky, cat])[:, None], torch.tensor([[0.6, 0.8]]))
    (tensor([0.8000]), tensor([1]))
    """
    values, indices = (classes @ words.T).amax(1).max(0)
    return values, indices


def closest_classes(classes: Tensor) -> tuple[float, int, int]:
    """The largest cosine between two of K >= 2 classes (K, V, E), over all their names, and their indices.

    >>> closest_classes(torch.tensor([[[1.0, 0.0]], [[0.6, 0.8]], [[0.0, 1.0]]]))  # 0.6 and 0.8
    (0.800000011920929, 1, 2)
    """
    cosines = torch.einsum("ive,jwe->ijvw", classes, classes).amax((2, 3))
    apart = torch.ones_like(cosines, dtype=torch.bool).triu(1)
    first, second = divmod(int(cosines.masked_fill(~apart, -torch.inf).argmax()), len(classes))
    return float(cosines[first, second]), first, second


def _label_logits(features: Tensor, classes: Tensor, present: Tensor, logit_scale: float) -> Tensor:
    """Logits (B, K); -inf for classes that are not labels of the image."""
    return name_logits(features, classes, logit_scale).amax(-1).masked_fill(~present, -torch.inf)
