"""Sentences about the attributes of classes, which enrich their texts: :mod:`clipes.clip.attributes` encodes them."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .words import read_data, unique_strings

if TYPE_CHECKING:
    from .vocabulary import Vocabulary

ATTRIBUTE_CENTRES = 112
"""ExCEL's number of centres for the 400 sentences of VOC's classes."""


def enrich(vocabulary: Vocabulary, attributes: object, centres: int | None) -> Vocabulary:
    """A vocabulary with other attributes, a mapping or a file of one, and another number of centres, where given.

    Raises ValueError for what is no mapping of classes to lists of sentences, naming the file; errors as
    :func:`.words.read_data` for a file that cannot be read.
    """
    if isinstance(attributes, str | os.PathLike):
        data, where = read_data(attributes), f"{os.fspath(attributes)}: "
        try:
            vocabulary = replace(vocabulary, attributes=_checked(data, vocabulary))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{where}{error}") from error
    elif attributes is not None:
        vocabulary = replace(vocabulary, attributes=_checked(attributes, vocabulary))
    if centres is None:
        return vocabulary
    if not vocabulary.attributes:
        raise ValueError(f"attribute_centres is {centres}, and there are no attributes; give both, or none")
    return replace(vocabulary, attribute_centres=centre_count(centres))


def _checked(data: object, vocabulary: Vocabulary) -> tuple[tuple[str, ...], ...]:
    if not isinstance(data, Mapping) or not data:
        example = '{"dog": ["an animal with fur", "it has a tail"]}'
        raise ValueError(f"attributes: expected classes and their sentences, {example}, got {reprlib.repr(data)}")
    named = dict(zip(vocabulary.spelled(list(data), "attributes: classes"), data.values(), strict=True))
    if len(named) < len(data):
        raise ValueError("attributes: a class is there twice, in two forms of Unicode; join its sentences")
    return attributes_of_classes(named, vocabulary.class_names)


def attributes_of_classes(given: Mapping[str, object], class_names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """(K,) the sentences about each class, none for a class that is not in ``given``.

    Raises ValueError for a class with an empty list, for a blank and for a repeated sentence; TypeError for what is no
    list of texts.
    """
    found = {name: unique_strings(said, f"attributes of {name!r}") for name, said in given.items()}
    return tuple(found.get(name, ()) for name in class_names)


def centre_count(given: object) -> int:
    """``given`` if it can be the number of centres, else ValueError."""
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise ValueError(f"attribute_centres is {reprlib.repr(given)}; it must be a whole number of at least 1")
    return given
