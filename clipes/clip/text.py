"""Sentences to text features (CLIP-ES section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .text_cache import load_or_encode

_TOGETHER = 256


@dataclass(frozen=True)
class TextTower:
    """The text side of a CLIP. ``fingerprint`` is a hash of all of the model's weights and of its structure."""

    tokenize: Callable[[Sequence[str]], Tensor]  # n sentences to (n, L) int64; a warning for each that is cut
    encode: Callable[[Tensor], Tensor]  # (n, L) int64 to (n, E) float32, unit
    fingerprint: str


def encode_sentences(tower: TextTower, sentences: Sequence[str]) -> Tensor:
    """The unit features (n, E) float32 of n >= 1 sentences; each distinct one is encoded once, in batches of 256.

    What was encoded is kept on disk: see :mod:`clipes.clip.text_cache`.
    """
    distinct = list(dict.fromkeys(sentences))
    tokens = torch.cat([tower.tokenize(distinct[i : i + _TOGETHER]) for i in range(0, len(distinct), _TOGETHER)])
    batches = torch.split(tokens, _TOGETHER)
    features = load_or_encode(lambda: torch.cat([tower.encode(batch) for batch in batches]), tower, tokens)
    place = {sentence: index for index, sentence in enumerate(distinct)}
    return features[[place[sentence] for sentence in sentences]]


def text_features(tower: TextTower, sentences: Sequence[Sequence[Sequence[str]]]) -> Tensor:
    """The features of a vocabulary: (K + M, V, E) float32, unit.

    Takes :meth:`clipes.vocabulary.vocabulary.Vocabulary.sentences`: K + M entries of one or more rows. A row becomes
    one feature,
    its sentences' unit features averaged and normalised again; entries of fewer than V rows repeat their first.
    """
    rows = [row for entry in sentences for row in entry]
    encoded = encode_sentences(tower, [sentence for row in rows for sentence in row])
    means = [part.mean(0) for part in torch.split(encoded, [len(row) for row in rows])]
    features = F.normalize(torch.stack(means), dim=-1)
    most = max(map(len, sentences))
    found = torch.split(features, [len(entry) for entry in sentences])
    return torch.stack([torch.cat([part, part[:1].expand(most - len(part), -1)]) for part in found])
