"""The words that the text encoder gets: class names, their prompts and synonyms, background words, templates.

CLIP-ES's class-related background set, its synonyms and its prompt are decided here; `clipes.clip.text` encodes them.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, get_args

from clipes.config import Fuse
from clipes.datasets.respelled import label_spelling

from . import class_file
from .attributes import ATTRIBUTE_CENTRES, enrich
from .class_file import ClassSet, Synonyms
from .shipped import background_words, shipped, template_list
from .unknown import no_list, unknown_labels
from .words import contained_in, name_forms, normalised, strings, unknown_name

_LISTED_WORDS = 5


@dataclass(frozen=True)
class Vocabulary:
    """K classes, their names, M background words, T templates; made by `load_vocabulary`."""

    name: str  # a shipped set's name, the stem of the file it was read from, or "custom"
    class_names: tuple[str, ...]  # (K,) in the data set's order; a class's id in a mask is its position + 1
    prompt_names: tuple[tuple[str, ...], ...]  # (K,) per class, one or more names to put into the templates
    synonyms: tuple[tuple[Synonyms, ...], ...]  # (K,) per class, further names by the WordNet sense they have
    background_names: tuple[str, ...]  # (M,) words for what may surround the classes; may be empty
    templates: tuple[str, ...]  # (T,) each with one {}
    fuse: Fuse = "sentence"  # how the names of a class become one: see `sentences`
    preset: str = "voc12"  # whose settings belong to it, of `clipes.config.PRESETS`
    category_ids: tuple[int, ...] = ()  # (K,) the data set's own ids, or none; masks hold positions
    numbers_from: int = 0  # the whole number, 0 or 1, that stands for the first class in files of labels
    description: str = field(default="", compare=False)
    attributes: tuple[tuple[str, ...], ...] = ()  # (K,) sentences about each class, which enrich its text, or none
    attribute_centres: int = ATTRIBUTE_CENTRES  # of k-means over these sentences; see `clipes.clip.attributes`

    def ids(self, labels: Iterable[str]) -> tuple[int, ...]:
        """Return the ids 1..K of `labels`, in the order given, repeats dropped.

        A label that is spelled as no class is matches one in another form of Unicode (NFC, NFD).

        >>> load_vocabulary("voc12").ids(["person", "dog", "person"])
        (15, 12)
        >>> load_vocabulary("voc12").ids(["aeroplan"])
        Traceback (most recent call last):
        ValueError: unknown class 'aeroplan' in voc12; did you mean 'aeroplane'?

        Raises:
            ValueError: Labels that are not classes (all are named), or one label without a background word.
            TypeError: `labels` is one string, has no order, or holds something else than strings.
        """
        if isinstance(labels, str):
            raise TypeError(no_list(labels, self.class_names, self._suggested))
        wanted = dict.fromkeys(self.spelled(labels))
        if len(wanted) == 1 and not self.background_names:
            only = f"{next(iter(wanted))!r} is the only label and there is no background word"
            raise ValueError(f"{only}, so the softmax has nothing to decide; give background words")
        return tuple(self._positions[label] for label in wanted)

    def spelled(self, labels: Iterable[str], what: str = "labels") -> tuple[str, ...]:
        """Return the classes that `labels` are, in their own form of Unicode; errors as `ids` for others."""
        wanted = self._spelled(strings(labels, what))
        if unknown := [label for label in dict.fromkeys(wanted) if label not in self._positions]:
            raise ValueError(unknown_labels(unknown, self.name, self.class_names, self._suggested))
        return wanted

    def names(self) -> tuple[tuple[str, ...], ...]:
        """Return (K,) tuples: the class's prompt names, then its synonyms."""
        pairs = zip(self.prompt_names, self.synonyms, strict=True)
        return tuple((*prompts, *(name for one in synonyms for name in one.names)) for prompts, synonyms in pairs)

    def sentences(self) -> list[list[list[str]]]:
        """Return K + M entries, the classes and then the background words: each one or more rows of sentences.

        A row becomes one feature, the mean of its sentences' features. `fuse` decides which rows a class has:

        - `"sentence"`: one row; in each template all names of the class, joined by commas (CLIP-ES);
        - `"features"`: one row, with a sentence for every template and name;
        - `"max"`: a row for every name; in each picture the likeliest name counts.

        >>> own = load_vocabulary({"dog": ["dog", "puppy"]}, background=["grass"])
        >>> own.sentences()
        [[['a clean origami dog,puppy.']], [['a clean origami grass.']]]
        >>> replace(own, fuse="features").sentences()[0]
        [['a clean origami dog.', 'a clean origami puppy.']]
        >>> replace(own, fuse="max").sentences()[0]
        [['a clean origami dog.'], ['a clean origami puppy.']]
        """
        rows = [self._rows(names) for names in self.names()]
        return [*rows, *([self._fill_templates([word])] for word in self.background_names)]

    @property
    def fingerprint(self) -> str:
        """A SHA-256 of the class names and of all that is encoded."""
        about = [self.attributes, self.attribute_centres] if self.attributes else []
        return hashlib.sha256(json.dumps([self.class_names, self.sentences(), *about]).encode()).hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a class file, atomically, that `load_vocabulary` and `--classes` read.

        The vocabulary that is read back differs only in its name, which is the file's stem. Raises ValueError if
        `path` does not end in .json, OSError if it cannot be written.
        """
        class_file.write_class_set(path, self._class_set)

    def to_dict(self) -> dict[str, Any]:
        """The content of the class file that :meth:`save` writes, as JSON types."""
        return class_file.class_set_data(self._class_set)

    @property
    def numbered_names(self) -> tuple[str, ...]:
        """The names that whole numbers in files of labels stand for, counted from 0; may begin with the background.

        >>> load_vocabulary({0: "background", 1: "cat"}).numbered_names, load_vocabulary(["cat"]).numbered_names
        (('background', 'cat'), ('cat',))
        """
        return ("background", *self.class_names) if self.numbers_from else self.class_names

    @property
    def _class_set(self) -> ClassSet:
        own = ("background", "left_out")
        values = {name: getattr(self, name) for name in ClassSet._fields if name not in own}
        return ClassSet(**values, background=self.background_names)

    def _rows(self, names: tuple[str, ...]) -> list[list[str]]:
        if self.fuse not in get_args(Fuse):
            raise unknown_name("fuse", str(self.fuse), get_args(Fuse), "leave it out")
        if self.fuse == "max":
            return [self._fill_templates([name]) for name in names]
        return [self._fill_templates([",".join(names)] if self.fuse == "sentence" else names)]

    def _fill_templates(self, names: Iterable[str]) -> list[str]:
        return [template.replace("{}", name) for template in self.templates for name in names]

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.class_names, start=1)}

    @cached_property
    def _spelled(self) -> Callable[[tuple[str, ...]], tuple[str, ...]]:
        return label_spelling(self.class_names)

    @cached_property
    def _suggested(self) -> dict[str, str]:
        """The class that is suggested for a casefolded name: one whose synonym it is (sofa: couch), or its own."""
        named = zip(self.class_names, self.names(), strict=True)
        known = {other.casefold(): name for name, names in named for other in names}
        return known | {name.casefold(): name for name in self.class_names}


def load_vocabulary(
    classes: str | os.PathLike[str] | Iterable[str] | Mapping[str, str | Iterable[str]],
    background: str | Iterable[str] | None = None,
    templates: str | Iterable[str] | None = None,
    fuse: Fuse | None = None,
    attributes: str | os.PathLike[str] | Mapping[str, Iterable[str]] | None = None,
    attribute_centres: int | None = None,
) -> Vocabulary:
    """Return the vocabulary of a shipped class set, of a file, or of names.

    >>> own = load_vocabulary({"duck": ["duck", "mallard"], "bridge": "bridge"}, templates="a photo of a {}.")
    >>> own.class_names, own.prompt_names
    (('duck', 'bridge'), (('duck', 'mallard'), ('bridge',)))
    >>> "bridge" in own.background_names  # one of VOC's words, but a class here
    False

    Args:
        classes: A set's name (`class_set_names`); names; a mapping of names to one or more prompt names; or a
            file's path: `.json` with any of these or a class set in the format of `prompts/README.md`, else
            text with one name per line, blank lines and lines that begin with `#` ignored. Names may be numbered:
            a mapping of ids to names (a run's `classes.json`) or of names to ids, lines such as `1: cat`; ids are 1
            to K. A background at the head of names, or of id 0, is left out, with a warning. A run's `run.json` gives
            the run's own classes and words.
        background: A set's name, or words. Default: the class set's own; for names VOC's, less any
            word that equals or contains a name of a class. Other words that do are kept, with a warning.
        templates: One template, several, or a set's name. Default: the class set's own, else the paper's
            `a clean origami {}.`
        fuse: How the names of a class become one, `"sentence"`, `"features"` or `"max"`; see
            `Vocabulary.sentences`. Default: the class set's own, else `"sentence"`, as in the paper.
        attributes: Sentences about classes, as a mapping or a `.json` or `.yaml` file of one; they enrich the classes'
            texts, see `clipes.clip.attributes`. Default: the class set's own, if it has any.
        attribute_centres: How many centres k-means gives these sentences, at most one for each. Default: 112.

    Raises:
        ValueError: An unknown set; an empty list; a blank or repeated name; a prompt of digits alone; ids that a mask
            cannot have; a template without exactly one `{}`; attributes of what is no class, or none of a class
            that is named; a file that breaks any of these rules.
        TypeError: A value or an entry of another type than the above.
        FileNotFoundError: `classes` is a path where there is no file.
    """
    class_set = class_file.read_class_set(classes, class_set_names())
    if fuse is not None and fuse not in get_args(Fuse):
        raise unknown_name("fuse", str(fuse), get_args(Fuse), "leave it out")
    values = class_set._asdict()
    left_out = values.pop("left_out")
    values["templates"] = class_set.templates if templates is None else template_list(templates)
    values["fuse"] = fuse or class_set.fuse
    default = values.pop("background")
    words = default if background is None else background_words(background)
    vocabulary = enrich(Vocabulary(**values, background_names=words or ()), attributes, attribute_centres)
    if left_out:
        _warn_left_out(vocabulary, left_out)
    _warn_identical_prompts(vocabulary)
    if words is None:
        return replace(vocabulary, background_names=_default_background(vocabulary))
    _warn_of_overlaps(vocabulary)
    return vocabulary


def class_set_names() -> tuple[str, ...]:
    """Return the names of the shipped class sets.

    >>> class_set_names()
    ('coco14', 'coco14-wordnet', 'scenes', 'scenes-wordnet', 'voc12', 'voc12-wordnet')
    """
    return tuple(name for name, data in shipped().items() if "classes" in data)


def background_set_names() -> tuple[str, ...]:
    """Return the names of the shipped sets of background words."""
    return tuple(shipped()["backgrounds"])


def template_set_names() -> tuple[str, ...]:
    """Return the names of the shipped sets of templates."""
    return tuple(shipped()["templates"])


def stuff_words() -> tuple[str, ...]:
    """Return the nouns of stuff and scenery from which `clipes background` suggests words."""
    return tuple(shipped()["stuff"])


def overlaps(vocabulary: Vocabulary) -> dict[str, list[str]]:
    """Return the background words that equal or contain a name of a class, each with those names.

    >>> own = load_vocabulary({"house": ["house", "home"]}, background=[])
    >>> overlaps(replace(own, background_names=("tree house", "mobile home", "sky")))
    {'tree house': ['house'], 'mobile home': ['home']}
    """
    # A prompt may be a list of names: "person with clothes,people,human".
    prompts = [part.strip() for names in vocabulary.names() for name in names for part in name.split(",")]
    forms = name_forms(dict.fromkeys((*vocabulary.class_names, *prompts)))
    clashes = {word: contained_in(forms, word) for word in vocabulary.background_names}
    return {word: names for word, names in clashes.items() if names}


def _default_background(classes: Vocabulary) -> tuple[str, ...]:
    words = background_words("voc12")
    clashes = overlaps(replace(classes, background_names=words))
    return tuple(word for word in words if word not in clashes)


def _warn_left_out(vocabulary: Vocabulary, names: tuple[str, ...]) -> None:
    ids = f"1 to {len(vocabulary.class_names)}" if len(vocabulary.class_names) > 1 else "1"
    warnings.warn(
        f"{', '.join(map(repr, names))} among the classes of {vocabulary.name} is no class, as every mask has a "
        f"background, 0; it is left out, and the classes keep their ids, {ids}",
        stacklevel=3,
    )


def _warn_identical_prompts(vocabulary: Vocabulary) -> None:
    owners: dict[tuple[str, ...], str] = {}
    for class_name, names in zip(vocabulary.class_names, vocabulary.names(), strict=True):
        first = owners.setdefault(tuple(map(normalised, names)), class_name)
        if first is not class_name:
            warnings.warn(
                f"the classes {first!r} and {class_name!r} of {vocabulary.name} have the same names in the prompts, so "
                "that nothing tells them apart; give one of them others",
                stacklevel=3,
            )


def _warn_of_overlaps(vocabulary: Vocabulary) -> None:
    clashes = [f"{word!r} ({', '.join(map(repr, names))})" for word, names in overlaps(vocabulary).items()]
    if clashes:
        more = f" and {len(clashes) - _LISTED_WORDS} more" if len(clashes) > _LISTED_WORDS else ""
        warnings.warn(
            f"background words that name a class of {vocabulary.name} compete with it: "
            f"{', '.join(clashes[:_LISTED_WORDS])}{more}; leave them out",
            stacklevel=3,
        )
