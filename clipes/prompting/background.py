"""Background words for the user's images (CLIP-ES section 3.3, the class-related background set): suggested and judged.

A background word helps where the surroundings in a picture would otherwise be taken for its labels. No truth is needed
to judge it: the softmax over the labels and the word says how much of the labels' probability it takes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clipes.clip.attributes import vocabulary_features
from clipes.clip.text import text_features
from clipes.clip.weights import CLIP
from clipes.config import Config
from clipes.datasets import Sample
from clipes.evaluation.accumulate import Progress
from clipes.io.keyed_cache import KeyedCache
from clipes.vocabulary import Vocabulary, load_vocabulary, overlaps, stuff_words
from clipes.vocabulary.words import contained, normalised, unique_strings

from .competition import closest, closest_classes, compete_alone, compete_together
from .feature_pass import FeaturePass

MIN_CLASSES = 10
"""With fewer classes, their pairs say too little about how close different things are, and VOC's pairs count too."""

REPEAT_COSINE = 0.99
"""Cosine above which the model cannot tell two words apart. High, because CLIP-ES keeps river, sea and ocean."""


@dataclass(frozen=True)
class BackgroundWord:
    """What one word does to the labels of the sampled images."""

    word: str
    wins: int  # images to which it is closer than each of their labels is
    p_pairwise: float  # probability that it takes when it alone competes with the labels, mean over the images
    takes_from: str  # the class that loses most by that, summed over the images
    near: str  # the class whose text feature is closest to the word's
    similarity: float  # their cosine
    reason: str  # what speaks against the word; empty if nothing does
    p_joint: float | None  # its probability beside the labels and all chosen words, mean; None if it is not chosen
    gain: float | None  # what the labels' probability would gain without this word alone, mean; None likewise


@dataclass(frozen=True)
class BackgroundTable:
    """Words judged by ``images`` images, the most frequent winners first."""

    words: tuple[str, ...]  # the chosen or judged words, in the order of the rows
    rows: tuple[BackgroundWord, ...]
    images: int
    failed: tuple[str, ...]  # reasons why sampled images could not be read or encoded; each begins with the path
    unlabelled: int  # images without a label, which are not sampled
    near_limit: float  # cosine to a class above which a word is its near-synonym
    near_pair: tuple[str, str] | None  # two classes, of the set or of VOC, with this cosine; None: the limit was given
    kept: float  # probability that the labels keep beside all chosen words, mean over the images


class _EncodedImages(NamedTuple):
    features: Tensor  # (B, E) float64, unit
    present: Tensor  # (B, K) bool
    failed: tuple[str, ...]
    unlabelled: int


def suggest_background(
    clip: CLIP,
    vocabulary: Vocabulary,
    samples: Iterable[Sample],
    config: Config,
    *,
    count: int = 25,
    sample: int = 200,
    candidates: Sequence[str] | None = None,
    near: float | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: Progress = lambda items, total, unit: items,
) -> BackgroundTable:
    """Choose background words for the images of ``samples``: those that win most often against the labels.

    A word wins in an image if its cosine to the image feature is above that of each of the image's labels (see
    :func:`clipes.prompting.competition.compete_alone`); the mean probability that it takes from them decides between
    equals, then the order of ``candidates``. Of the words that win at least once the first ``count`` are chosen, less

    - names of classes: words that equal or contain a class's name, prompt or synonym, or are the end of one (``table``
      of ``dining table``);
    - near-synonyms of classes: words whose cosine to a class's text feature is above ``near``. By default that is the
      largest cosine between two different classes, because things this close may still differ, and a word that is
      closer is as good as a name of the class. For a set of fewer than :data:`MIN_CLASSES` classes, the largest cosine
      between two of VOC's classes, in the same templates, counts if it is larger;
    - repeats: words whose cosine to a word chosen before is above :data:`REPEAT_COSINE`.

    The sample is the ``sample`` labelled images whose ids have the smallest SHA-256, so it depends on the ids alone.
    They are encoded one by one, so that no number depends on a batch size. The templates and the fusion of
    ``vocabulary`` are used, its background words are not.

    Args:
        samples: images with labels of ``vocabulary``; those without labels are left out.
        config: the method's settings, of which those of images and of pooling are used.
        count, sample: how many words, and how many images, at most.
        candidates: words to choose from; by default :func:`clipes.vocabulary.vocabulary.stuff_words`.
        near: the cosine above which a word is a near-synonym of a class; 1: none is.
        folder: image features are cached here, so that the same images are encoded once; None: nothing is cached.
        progress: wraps the images in a progress bar; called with an iterable, its length and a unit.

    Raises:
        ValueError: no image with labels, or none that can be read; an unknown label; a blank or repeated candidate;
            ``count`` or ``sample`` below 1, ``near`` outside [-1, 1].
    """
    _check(near, count=count, sample=sample)
    words = unique_strings(stuff_words() if candidates is None else candidates, "candidates")
    rivals = replace(vocabulary, background_names=words)
    return _table(clip, rivals, _encode(clip, rivals, samples, config, sample, folder, progress), near, count)


def judge_background(
    clip: CLIP,
    vocabulary: Vocabulary,
    samples: Iterable[Sample],
    config: Config,
    *,
    sample: int = 200,
    near: float | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: Progress = lambda items, total, unit: items,
) -> BackgroundTable:
    """The table of :func:`suggest_background` for the vocabulary's own background words, all of which stay chosen.

    A row's ``reason`` is what would keep the word from being suggested. Raises as :func:`suggest_background`, and
    ValueError if the vocabulary has no background word.
    """
    _check(near, sample=sample)
    if not vocabulary.background_names:
        raise ValueError("there is no background word to judge; give some, or call suggest_background")
    return _table(clip, vocabulary, _encode(clip, vocabulary, samples, config, sample, folder, progress), near, None)


def _check(near: float | None, **numbers: int) -> None:
    for name, value in numbers.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")
    if near is not None and not -1 <= near <= 1:
        raise ValueError(f"near is {near!r}; it is a cosine, in [-1, 1]")


def _table(
    clip: CLIP, vocabulary: Vocabulary, images: _EncodedImages, near: float | None, count: int | None
) -> BackgroundTable:
    """Judge the vocabulary's background words and choose ``count`` of them; with None, all."""
    names, words = vocabulary.class_names, vocabulary.background_names
    text = vocabulary_features(clip.text, vocabulary).double()
    classes, word_text = text[: len(names)], text[len(names) :, 0]
    scale = clip.vision.head.logit_scale
    pairwise = compete_alone(images.features, classes, word_text, images.present, scale)
    wins, shares, losers = pairwise.wins.tolist(), pairwise.share.tolist(), pairwise.taken.argmax(1).tolist()
    cosines, nearest = (values.tolist() for values in closest(classes, word_text))
    limit, pair = _near_limit(clip, vocabulary, classes) if near is None else (near, None)

    against = _naming_words(vocabulary)
    for m, word in enumerate(words):
        if cosines[m] > limit:
            against.setdefault(word, f"near-synonym of {names[nearest[m]]!r}")
        if not wins[m]:
            against.setdefault(word, "never wins")
    order = sorted(range(len(words)), key=lambda m: (-wins[m], -shares[m], m))
    accepted = _accept(order, words, word_text, against, len(words) if count is None else count)
    chosen = order if count is None else accepted
    joint = compete_together(images.features, classes, word_text[chosen], images.present, scale)
    joint_figures = dict(zip(chosen, zip(joint.share.tolist(), joint.gain.tolist(), strict=True), strict=True))
    return BackgroundTable(
        words=tuple(words[m] for m in chosen),
        rows=tuple(
            BackgroundWord(
                *(words[m], wins[m], shares[m], names[losers[m]], names[nearest[m]], cosines[m]),
                against.get(words[m], ""),
                *joint_figures.get(m, (None, None)),
            )
            for m in order
        ),
        images=len(images.features),
        failed=images.failed,
        unlabelled=images.unlabelled,
        near_limit=limit,
        near_pair=pair,
        kept=joint.kept,
    )


def _near_limit(clip: CLIP, vocabulary: Vocabulary, classes: Tensor) -> tuple[float, tuple[str, str]]:
    """Return the largest cosine between two classes (K, V, E), and their names."""
    sets = [(vocabulary, classes)]
    if len(classes) < MIN_CLASSES:
        others = load_vocabulary("voc12", background=[], templates=vocabulary.templates)
        sets.append((others, text_features(clip.text, others.sentences()).double()))
    pairs = [(closest_classes(text), one.class_names) for one, text in sets if len(text) > 1]
    (cosine, first, second), names = max(pairs, key=lambda pair: pair[0][0])
    return cosine, (names[first], names[second])


def _accept(
    order: Sequence[int], words: Sequence[str], word_text: Tensor, against: dict[str, str], count: int
) -> list[int]:
    """Return the first ``count`` words in ``order`` without a reason ``against`` them.

    Adds to ``against`` the words that repeat an accepted one, and those after the first ``count``.
    """
    accepted: list[int] = []
    for m in order:
        cosines = (word_text[accepted] @ word_text[m]).tolist()
        repeated = [words[other] for other, cosine in zip(accepted, cosines, strict=True) if cosine > REPEAT_COSINE]
        if repeated:
            against.setdefault(words[m], f"the same to the model as {repeated[0]!r}")
        elif len(accepted) == count:
            against.setdefault(words[m], f"after the first {count}")
        if words[m] not in against:
            accepted.append(m)
    return accepted


def _naming_words(vocabulary: Vocabulary) -> dict[str, str]:
    """The background words that name a class, and how."""
    reasons = {word: f"names {names[0]!r}" for word, names in overlaps(vocabulary).items()}
    parts = [part.strip() for names in vocabulary.names() for name in names for part in name.split(",")]
    forms = {name: normalised(name) for name in (*vocabulary.class_names, *parts)}
    for word in vocabulary.background_names:
        for name, form in forms.items():
            if form.endswith(normalised(word)) and contained(name, [word]):
                reasons.setdefault(word, f"the end of {name!r}")
    return reasons


def _encode(
    clip: CLIP,
    vocabulary: Vocabulary,
    samples: Iterable[Sample],
    config: Config,
    count: int,
    folder: str | os.PathLike[str] | None,
    progress: Progress,
) -> _EncodedImages:
    """The features and the labels of ``count`` sampled images, each encoded by itself."""
    samples = list(samples)
    labelled = sorted((sample for sample in samples if sample.labels), key=_digest)
    if not labelled:
        raise ValueError("no image has a label, so that there is nothing to win against; give images with labels")
    chosen = labelled[:count]
    class_ids = [vocabulary.ids(sample.labels) for sample in chosen]
    cache = KeyedCache(None if folder is None else Path(folder), "features", ignore_write_errors=True)
    features = FeaturePass(clip, chosen, config, cache)
    with closing(features.run()) as steps:
        for _ in progress(steps, len(chosen), "images"):
            pass
    failed = tuple(problem.reason for problem in features.problems())
    if not features.encoded.any():
        raise ValueError(f"none of {len(chosen)} images could be read; the first: {failed[0]}")
    present = np.array([np.isin(np.arange(len(vocabulary.class_names)) + 1, ids) for ids in class_ids])
    unit = F.normalize(torch.from_numpy(features.features[features.encoded]).double(), dim=-1)
    present_of_encoded = torch.from_numpy(present[features.encoded])
    return _EncodedImages(unit, present_of_encoded, failed, len(samples) - len(labelled))


def _digest(sample: Sample) -> bytes:
    return hashlib.sha256(sample.id.encode("utf-8", "surrogateescape")).digest()
