"""The senses of names in WordNet, ranked by how well they agree with a set of classes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .wordnet import Sense, WordNet, open_wordnet

if TYPE_CHECKING:  # they load torch
    from torch import Tensor

    from clipes.generator import MaskGenerator

    Encode = Callable[[Sequence[str]], NDArray[np.float32] | Tensor]  # n sentences to (n, E), unit

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
    senses = database.senses(name)
    if generator is None or not senses:
        return senses
    from clipes.clip.text import encode_sentences

    return rank_senses([senses], generator.class_names, partial(encode_sentences, generator.clip.text), database)[0]


def rank_senses(
    senses: Sequence[tuple[Sense, ...]], class_names: Sequence[str], encode: Encode, wordnet: WordNet
) -> list[tuple[Sense, ...]]:
    """Rank the senses of each of several names; the formula is in :func:`synonyms`.

    ``encode`` turns n sentences into unit features (n, E). With fewer than 3 classes the order stays as it is.
    """
    if len(class_names) < 3:  # nothing to agree with, or no spread
        return list(senses)
    classes = [_photo(_spelled(name, wordnet)) for name in class_names]
    glosses = [_photo(f"{sense.matched}, {sense.gloss}") for row in senses for sense in row]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* is cut$")  # the beginning of a long gloss is enough
        features = np.asarray(encode([*classes, *glosses]))
    names, texts = features[: len(classes)], features[len(classes) :]
    similarity = names @ names.T
    others = (similarity.sum(1) - similarity.diagonal()) / (len(names) - 1)
    agreement = iter((texts @ names.mean(0)).tolist())
    spread = float(others.std())
    scored = [[replace(s, score=next(agreement) - r * spread) for r, s in enumerate(row)] for row in senses]
    return [tuple(sorted(row, key=lambda sense: -(sense.score or 0.0))) for row in scored]


def _photo(name: str) -> str:
    return f"a photo of a {' '.join(name.split()[:_MAX_PROMPT_WORDS])}."


def _spelled(name: str, wordnet: WordNet) -> str:
    """The name as WordNet spells it (dining table for ``diningtable``), else as it is."""
    senses = wordnet.senses(name)
    return senses[0].matched if senses and not senses[0].head else name
