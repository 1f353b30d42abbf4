"""PIAA: a Gaussian classifier of patches, in closed form, fitted to the surest patches of the user's own pictures.

The classes share a covariance, so that the classifier is linear: ``W = P mu``, ``b = log(1 / C) - mu P mu / 2`` with
the precision matrix P (linear discriminant analysis). Axes: n patches of all pictures, C classes, E embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from clipes.cams.dense import dense_features
from clipes.cams.probabilities import name_logits
from clipes.clip.vision import Encoded, VisionEncoder
from clipes.config import BankTagsConfig

_PATCHES = 2**14
"""Patches whose shares are in memory together."""


class Round(NamedTuple):
    """A fitted classifier and what it was fitted to.

    Attributes:
        kept: (n,) int64, the class that a patch was kept for; -1 where it was not kept.
        weight, bias: (E, C) and (C,), float32: the logits of a patch f are ``f @ weight + bias``.
        means: (C, E) of the kept patches of each class; the text where there is none.
        precision: (E, E).
    """

    kept: Tensor
    weight: Tensor
    bias: Tensor
    means: Tensor
    precision: Tensor


def patch_shares(patches: Tensor, text: Tensor, scale: float) -> Tensor:
    """The softmax (n, C) over the classes of unit patches (n, E) against unit text features (C, V, E)."""
    return name_logits(patches, text, scale).amax(-1).softmax(-1)


class Judged(NamedTuple):
    """What a softmax over the classes says of n patches.

    Attributes:
        labels: (n,) int64, the class of the highest share.
        shares: (n,) float32, that share.
        entropies: (n,) float32, of all shares, in nats.
    """

    labels: Tensor
    shares: Tensor
    entropies: Tensor


def judged(patches: Tensor, shares: Callable[[Tensor], Tensor]) -> Judged:
    """What ``shares`` says of patches (n, E), which it takes in parts: (n, C) is never in memory as a whole."""
    parts = [shares(part) for part in torch.split(patches, _PATCHES)]
    best, labels = zip(*(part.max(-1) for part in parts), strict=True)
    return Judged(torch.cat(labels), torch.cat(best), torch.cat([torch.special.entr(part).sum(-1) for part in parts]))


def judged_by_text(patches: Tensor, text: Tensor, scale: float) -> Judged:
    """What the texts (C, V, E) say of patches (n, E), all of unit length."""
    return judged(patches, lambda part: patch_shares(part, text, scale))


def surest(found: Judged, count: int) -> Tensor:
    """The class (n,) that each patch is kept for, -1 for none: of those of a class the ``count`` of lowest entropy."""
    kept = torch.full_like(found.labels, -1)
    for label in torch.unique(found.labels).tolist():
        members = (found.labels == label).nonzero()[:, 0]
        best = members[found.entropies[members].topk(min(count, len(members)), largest=False).indices]
        kept[best] = label
    return kept


def fit_bank(patches: Tensor, text: Tensor, config: BankTagsConfig) -> tuple[Round, Round]:
    """Fit the classifier to patches (n, E) and texts (C, V, E) of unit length, and again to the patches it is sure of.

    In the second round the kept patches go to the class of their highest share, and a class keeps those whose share is
    at least the mean plus the standard deviation of its own. A class with one patch has no deviation and loses it, as
    in the code.
    """
    found = judged_by_text(patches, text, config.text_scale)
    first = fit_round(patches, found, surest(found, config.patches), text)
    found = judged(patches, lambda part: (config.temperature * (part @ first.weight + first.bias)).softmax(-1))
    return first, fit_round(patches, found, surer(found, first.kept), text)


def surer(found: Judged, kept: Tensor) -> Tensor:
    """Of the patches that are ``kept`` (n,), not -1, those whose highest share is high for its class.

    Each belongs to the class of that share now. The others become -1, and so does the only patch of a class.
    """
    own = found.labels.masked_fill(kept < 0, -1)
    again = torch.full_like(kept, -1)
    for label in torch.unique(own[own >= 0]).tolist():
        members = (own == label).nonzero()[:, 0]
        if len(members) > 1:
            high = found.shares[members]
            again[members[high >= high.mean() + high.std()]] = label
    return again


def fit_round(patches: Tensor, found: Judged, kept: Tensor, text: Tensor) -> Round:
    """The classifier of the patches (n, E) that are ``kept`` for a class (n,), that of their highest share.

    A class's mean is weighted by the shares. The covariance is that of the kept patches around the mean of their class,
    plus its trace on the diagonal, as in the code. Raises ValueError where fewer than two patches are kept.
    """
    chosen = kept >= 0
    own, labels, shares = patches[chosen].double(), kept[chosen], found.shares[chosen].double()
    if len(own) < 2:
        raise ValueError(f"{len(own)} patches are kept of all pictures, too few for a classifier; give more pictures")
    means = F.normalize(text.mean(1), dim=-1).double()
    totals = own.new_zeros(len(means)).index_add_(0, labels, shares)
    sums = torch.zeros_like(means).index_add_(0, labels, shares[:, None] * own)
    means = torch.where(totals[:, None] > 0, sums / totals.clamp_min(1e-300)[:, None], means)
    precision = _precision(own - means[labels])
    weight = precision @ means.T
    bias = -torch.log(torch.tensor(float(len(means)))).item() - (means * weight.T).sum(-1) / 2
    return Round(kept, weight.float(), bias.float(), means.float(), precision.float())


def _precision(centred: Tensor) -> Tensor:
    """The regularised precision matrix (E, E) of patches around the means of their classes."""
    covariance = torch.cov(centred.T)
    size = len(covariance)
    scatter = (len(centred) - 1) * covariance
    eye = torch.eye(size, dtype=covariance.dtype, device=covariance.device)
    inverse: Tensor = torch.linalg.pinv(scatter + covariance.trace() * eye, hermitian=True)
    return size * inverse


def bank_scores(
    patches: Tensor, feature: Tensor, text: Tensor, weight: Tensor, bias: Tensor, config: BankTagsConfig
) -> Tensor:
    """The scores (C,) of one picture; they sum to 1.

    Takes its unit patches (N, E), the unit feature (E,) of its class token, unit text features (C, V, E), and the
    classifier. A patch's logits are divided by ``config.divisor``; of each class the best patch counts.
    """
    best = ((patches @ weight + bias) / config.divisor).softmax(-1).amax(0)
    whole = patch_shares(feature[None], text, config.class_scale)[0]
    share = config.class_weight
    return (1 - share) * (config.patch_scale * best).softmax(-1) + share * whole


def unit_patches(vision: VisionEncoder, encoded: Encoded, config: BankTagsConfig) -> list[Tensor]:
    """The unit features (N, E) of each image's patches, with ``config.attention`` in the last block."""
    block, head = vision.blocks[-1], vision.head
    features = dense_features(
        block, head, encoded.tokens[-1], encoded.grids, config.attention, config.residual, layout=encoded.layout
    )
    return [own[: h * w] for own, (h, w) in zip(features, encoded.grids, strict=True)]
