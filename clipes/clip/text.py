"""Sentences to text features (CLIP-ES section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .text_cache import load_or_encode

_BATCH_SIZE = 256


@dataclass(frozen=True)
class TextEncoder:
    """The text side of a CLIP. ``fingerprint`` is a hash of all weights and of the structure of the model."""

    tokenize: Callable[[Sequence[str]], Tensor]  # n sentences to (n, L) int64; warns of sentences that are cut
    encode: Callable[[Tensor], Tensor]  # (n, L) int64 to (n, E) float32, unit
    fingerprint: str


def encode_sentences(encoder: TextEncoder, sentences: Sequence[str]) -> Tensor:
    """The unit features (n, E) float32 of n >= 1 sentences. Repeated sentences are encoded once, in batches of 256.

    Features are cached on disk, see :mod:`clipes.clip.text_cache`.
    """
    unique = list(dict.fromkeys(sentences))
    batches = [unique[i : i + _BATCH_SIZE] for i in range(0, len(unique), _BATCH_SIZE)]
    tokens = torch.cat([encoder.tokenize(batch) for batch in batches])

    def encode() -> Tensor:
        return torch.cat([encoder.encode(batch) for batch in torch.split(tokens, _BATCH_SIZE)])

    features = load_or_encode(encode, encoder.fingerprint, tokens)
    row = {sentence: index for index, sentence in enumerate(unique)}
    return features[[row[sentence] for sentence in sentences]]


def text_features(encoder: TextEncoder, sentences: Sequence[Sequence[Sequence[str]]]) -> Tensor:
    """The features of a vocabulary: (K + M, V, E) float32, unit.

    Takes :meth:`clipes.vocabulary.vocabulary.Vocabulary.sentences`: K + M entries of one or more rows. A row becomes
    one feature, the mean of its sentences' unit features, normalised. Entries of fewer than V rows repeat their first.
    """
    rows = [row for entry in sentences for row in entry]
    encoded = encode_sentences(encoder, [sentence for row in rows for sentence in row])
    means = [part.mean(0) for part in torch.split(encoded, [len(row) for row in rows])]
    features = F.normalize(torch.stack(means), dim=-1)
    most_rows = max(map(len, sentences))
    entries = torch.split(features, [len(entry) for entry in sentences])
    return torch.stack([torch.cat([entry, entry[:1].expand(most_rows - len(entry), -1)]) for entry in entries])
