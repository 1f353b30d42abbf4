"""Sentences to text features (CLIP-ES section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def text_features(encode: Callable[[Sequence[str]], Tensor], sentences: Sequence[Sequence[str]]) -> Tensor:
    """One unit feature per class: its sentences' unit features, averaged and normalised again.

    Takes ``encode``, which turns n sentences into unit features (n, E), and the sentences of each of K
    classes. Returns (K, E) float32; every sentence is encoded once, in batches of 256.
    """
    distinct = list(dict.fromkeys(sentence for group in sentences for sentence in group))
    batches = [encode(distinct[start : start + 256]) for start in range(0, len(distinct), 256)]
    place = {sentence: index for index, sentence in enumerate(distinct)}
    features = torch.cat(batches) if batches else torch.zeros(0, encode(["a"]).shape[1])
    means = [features[[place[sentence] for sentence in group]].mean(0) for group in sentences]
    return F.normalize(torch.stack(means), dim=-1) if means else features
