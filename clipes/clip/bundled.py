"""The bundled model: where it is, and which classes it has learnt. Nothing here loads torch."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from clipes.vocabulary import Vocabulary, load_vocabulary
from clipes.vocabulary.words import normalised

TINY_FOLDER = Path(__file__).with_name("tiny")
ABOUT = "tiny, a toy for drawings"

_CLASSES_SHOWN = 3


@cache
def _learnt() -> frozenset[str]:
    """The names, normalised, of the drawn things, and their synonyms."""
    sets = map(load_vocabulary, ("scenes", "scenes-wordnet"))
    return frozenset(normalised(name) for words in sets for names in words.names() for name in names)


def unlearnt_classes(vocabulary: Vocabulary) -> list[str]:
    """The classes of which the bundled model has learnt no name.

    >>> unlearnt_classes(load_vocabulary(["boat", "zebra"]))
    ['zebra']
    """
    named = zip(vocabulary.class_names, vocabulary.names(), strict=True)
    return [name for name, names in named if _learnt().isdisjoint(map(normalised, (name, *names)))]


def check_default_model(vocabulary: Vocabulary) -> None:
    """Raise ValueError for classes that the bundled model has never learnt, where it was not chosen by its name."""
    unknown = unlearnt_classes(vocabulary)
    if not unknown:
        return
    shown = ", ".join(map(repr, unknown[:_CLASSES_SHOWN]))
    more = f" and {len(unknown) - _CLASSES_SHOWN} more" if len(unknown) > _CLASSES_SHOWN else ""
    raise ValueError(
        "no model is named, and the bundled one is a toy for drawings of 16 things: it has never learnt "
        f"{shown}{more}, of the {len(vocabulary.class_names)} classes of {vocabulary.name}; name a model, such as "
        "--model ViT-B-16 --pretrained openai (clipes.load('ViT-B-16', 'openai', ...)), or --model tiny "
        "(clipes.load('tiny', ...)) to use the toy all the same"
    )
