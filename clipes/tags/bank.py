"""PIAA: a Gaussian classifier of patches, in closed form, fitted to the surest patches of the user's own pictures.

The classes share a covariance, so that the classifier is linear: ``W = P mu``, ``b = log(1 / C) - mu P mu / 2`` with
the precision matrix P (linear discriminant analysis). Axes: n patches of all pictures, C classes, E embedding.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from clipes.cams.dense import dense_features
from clipes.cams.probabilities import name_logits
from clipes.clip.vision import Encoded, VisionEncoder
from clipes.config import BankTagsConfig


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


def entropy(shares: Tensor) -> Tensor:
    """The entropy (n,) of shares (n, C), in nats."""
    found: Tensor = torch.special.entr(shares).sum(-1)
    return found


def surest(shares: Tensor, count: int) -> Tensor:
    """The class (n,) that each patch is kept for, -1 for none: of those of a class the ``count`` of lowest entropy.

    A patch belongs to the class of its highest share (n, C).
    """
    unsure, own = entropy(shares), shares.argmax(-1)
    kept = torch.full_like(own, -1)
    for label in torch.unique(own).tolist():
        members = (own == label).nonzero()[:, 0]
        best = members[unsure[members].topk(min(count, len(members)), largest=False).indices]
        kept[best] = label
    return kept


def fit_bank(patches: Tensor, text: Tensor, config: BankTagsConfig) -> tuple[Round, Round]:
    """Fit the classifier to patches (n, E) and texts (C, V, E) of unit length, and again to the patches it is sure of.

    In the second round the kept patches go to the class of their highest share, and a class keeps those whose share is
    at least the mean plus the standard deviation of its own. A class with one patch has no deviation and loses it, as
    in the code.
    """
    shares = patch_shares(patches, text, config.text_scale)
    kept = surest(shares, config.patches)
    first = fit_round(patches, shares, kept, text)
    shares = (config.temperature * (patches @ first.weight + first.bias)).softmax(-1)
    kept = surer(shares, kept)
    return first, fit_round(patches, shares, kept, text)


def surer(shares: Tensor, kept: Tensor) -> Tensor:
    """Of the patches that are ``kept`` (n,), not -1, those whose highest share (n, C) is high for its class.

    Each belongs to the class of that share now. The others become -1, and so does the only patch of a class.
    """
    own = shares.argmax(-1).masked_fill(kept < 0, -1)
    again = torch.full_like(kept, -1)
    for label in torch.unique(own[own >= 0]).tolist():
        members = (own == label).nonzero()[:, 0]
        if len(members) > 1:
            high = shares[members, label]
            again[members[high >= high.mean() + high.std()]] = label
    return again


def fit_round(patches: Tensor, shares: Tensor, kept: Tensor, text: Tensor) -> Round:
    """The classifier of the patches (n, E) that are ``kept`` for a class (n,), weighted by its share (n, C).

    The covariance is that of the kept patches around the mean of their class, plus its trace on the diagonal, as in
    the code. Raises ValueError where fewer than two patches are kept.
    """
    chosen = kept >= 0
    own, labels = patches[chosen].double(), kept[chosen]
    if len(own) < 2:
        raise ValueError(f"{len(own)} patches are kept of all pictures, too few for a classifier; give more pictures")
    weights = torch.zeros(len(own), shares.shape[1], dtype=own.dtype, device=own.device)
    rows = torch.arange(len(own), device=own.device)
    weights[rows, labels] = shares[chosen, labels].double()
    totals = weights.sum(0)
    means = (weights.T @ own) / totals.clamp_min(1e-300)[:, None]
    means = torch.where(totals[:, None] > 0, means, F.normalize(text.mean(1), dim=-1).double())
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
    block, head, mask = vision.blocks[-1], vision.head, encoded.last_block.token_mask
    features = dense_features(
        block, head, encoded.tokens[-1], encoded.grids, config.attention, config.residual, token_mask=mask
    )
    return [own[: h * w] for own, (h, w) in zip(features, encoded.grids, strict=True)]
