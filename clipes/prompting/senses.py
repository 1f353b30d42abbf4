"""The senses of names in WordNet, ranked by how well they agree with a set of classes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .wordnet import Sense, WordNet, open_wordnet

if TYPE_CHECKING:  # they load torch
    from clipes.clip.text import TextEncoder
    from clipes.generator import MaskGenerator

_MAX_PROMPT_WORDS = 40  # CLIP reads 77 tokens


def synonyms(
    name: str, *, generator: MaskGenerator | None = None, wordnet: WordNet | str | None = None
) -> tuple[Sense, ...]:
    """Return the WordNet senses of a name, the likeliest meant first; `Sense.lemmas` are the synonyms.

    >>> [sense.lemmas for sense in synonyms("diningtable")]  # doctest: +SKIP
    [('dining table', 'board')]

    Without `generator` the order is WordNet's, the commonest first. With it, the senses are ranked by how well they
    agree with its K >= 3 classes in the space of its text features. With f the unit feature of a sentence, names t_k
    of the classes and a sense s with a gloss, of the name n, at place r = 0, 1, ... of WordNet's order:

        agreement(s) = mean over k of f("a photo of a n, gloss.") . f("a photo of a t_k.")
        score(s)     = agreement(s) - r * spread
        spread       = standard deviation over k of the mean over j != k of f("a photo of a t_k.") . f("... t_j.")

    A sense moves ahead of the one before it if it agrees better by more than the spread. WordNet's order counts, too,
    because a rare sense can agree well by chance.

    Args:
        name: As users write it; names in one word (diningtable) and plurals are found, see :meth:`WordNet.senses`.
        generator: Its classes and text features are used.
        wordnet: A database or its folder; by default the one that :func:`clipes.prompting.wordnet.open_wordnet` finds.

    Returns an empty tuple if WordNet does not know the name.

    Raises:
        ValueError: A blank name, or WordNet's files are broken.
        WordNetMissing: There is no WordNet; the message says how to get it.
    """
    database = wordnet if isinstance(wordnet, WordNet) else open_wordnet(wordnet)
    class_names, tower = (generator.class_names, generator.clip.text) if generator else ((), None)
    return ranked_senses([name], class_names, tower, database)[0]


def ranked_senses(
    names: Sequence[str], class_names: Sequence[str], tower: TextEncoder | None, wordnet: WordNet
) -> list[tuple[Sense, ...]]:
    """The senses of each of several names, ranked by the formula in :func:`synonyms`.

    They are in WordNet's order without a ``tower`` to encode texts, and with fewer than 3 classes.
    """
    senses = [wordnet.senses(name) for name in names]
    if tower is None or len(class_names) < 3 or not any(senses):  # nothing to agree with, or no spread
        return senses
    from clipes.clip.text import encode_sentences

    classes = [_photo(_spelled(name, wordnet)) for name in class_names]
    glosses = [_photo(f"{sense.matched}, {sense.gloss}") for row in senses for sense in row]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* is cut$")  # the beginning of a long gloss is enough
        features = np.asarray(encode_sentences(tower, [*classes, *glosses]))
    labels, texts = features[: len(classes)], features[len(classes) :]
    similarity = labels @ labels.T
    others = (similarity.sum(1) - similarity.diagonal()) / (len(labels) - 1)
    agreement = iter((texts @ labels.mean(0)).tolist())
    spread = float(others.std())
    scored = [[replace(s, score=next(agreement) - r * spread) for r, s in enumerate(row)] for row in senses]
    return [tuple(sorted(row, key=lambda sense: -(sense.score or 0.0))) for row in scored]


def _photo(name: str) -> str:
    return f"a photo of a {' '.join(name.split()[:_MAX_PROMPT_WORDS])}."


def _spelled(name: str, wordnet: WordNet) -> str:
    """The name as WordNet spells it (dining table for ``diningtable``), else as it is."""
    senses = wordnet.senses(name)
    return senses[0].matched if senses and not senses[0].head else name
