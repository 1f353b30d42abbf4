"""Texts of classes, enriched by what sentences say about their attributes (ExCEL; its code)."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor
from torch.nn import functional as F

from clipes.vocabulary import Vocabulary

from .text import TextEncoder, encode_sentences, text_features

_STEPS = 50  # of k-means; it has settled long before


def vocabulary_features(encoder: TextEncoder, vocabulary: Vocabulary) -> Tensor:
    """The unit text features (K + M, V, E) float32 of classes and background words.

    Those of the classes are enriched by the vocabulary's attributes, where it has any: by the centres of all sentences,
    whichever class they are about. Background words stay as they are.
    """
    features = text_features(encoder, vocabulary.sentences())
    sentences = [sentence for of_class in vocabulary.attributes for sentence in of_class]
    if not sentences:
        return features
    centres = attribute_centres(encode_sentences(encoder, sentences), vocabulary.attribute_centres)
    classes, words = features.tensor_split([len(vocabulary.class_names)])
    return torch.cat([with_attributes(classes, centres), words])


def attribute_centres(features: Tensor, count: int) -> Tensor:
    """The centres (K, E) of k-means over sentences' features (n, E); not of unit length.

    K is ``count``, or the number of distinct features where there are fewer, which then are the centres.
    The first centres are drawn by k-means++ from a fixed seed, so that the same features give the same centres.
    """
    distinct: Tensor = torch.unique(features, dim=0)
    if len(distinct) <= count:
        return distinct
    rows = features.double().cpu().numpy()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One of the clusters is empty")  # its centre stays where it was
        centres, _ = kmeans2(rows, count, iter=_STEPS, minit="++", seed=np.random.default_rng(0))
    return torch.from_numpy(centres).to(features)


def with_attributes(text: Tensor, centres: Tensor, share: float = 0.9) -> Tensor:
    """Each text plus the centres of attributes that are near to it, weighed by the softmax of their products.

    Args:
        text: unit text features (..., E) of the classes.
        centres: (K, E) centres of attributes' features; not of unit length.
        share: of the centres that count for a text, its nearest; ``int((1 - share) * K)`` are left out.

    Returns:
        Unit features (..., E).
    """
    products = text @ centres.T
    left_out = products.argsort(-1)[..., : int((1 - share) * len(centres))]
    weights = products.scatter(-1, left_out, -torch.inf).softmax(-1)
    return F.normalize(text + weights @ centres, dim=-1)
