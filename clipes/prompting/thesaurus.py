"""Synonyms of class names from WordNet: which words of a sense may stand for the class.

CLIP-ES (section 3.3) merges synonyms from WordNet into the sentence of a class. It does not say how they are chosen.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from clipes.clip.text import TextEncoder, text_features
from clipes.vocabulary import Vocabulary
from clipes.vocabulary.class_file import Synonyms
from clipes.vocabulary.words import unknown_name

from .senses import ranked_senses
from .wordnet import Sense, WordNet, letters, open_wordnet

IN_PROMPT = "its prompt says so already"
_MAX_LEMMA_WORDS = 10


class Synonym(NamedTuple):
    """A word that may stand for a class, and the key of the sense it has."""

    name: str
    sense: str


@dataclass(frozen=True)
class Choice:
    """The synonyms chosen for one class."""

    class_name: str
    sense: Sense | None  # whose lemmas are the candidates; None: WordNet has none, or the class had synonyms already
    note: str  # why there is no sense; empty if there is one
    keys: tuple[str, ...]  # of the senses of the candidates
    candidates: tuple[Synonym, ...]
    dropped: dict[str, str] = field(default_factory=dict)  # candidate to the reason

    @property
    def taken(self) -> tuple[Synonym, ...]:
        """The candidates that were not dropped."""
        return tuple(synonym for synonym in self.candidates if synonym.name not in self.dropped)

    @property
    def synonyms(self) -> tuple[Synonyms, ...]:
        """The taken ones as vocabulary synonyms; a sense of which all are dropped is kept, without names."""
        return tuple(Synonyms(key, tuple(name for name, sense in self.taken if sense == key)) for key in self.keys)


@dataclass(frozen=True)
class Notes:
    """The choices of :func:`with_synonyms`, class by class."""

    choices: tuple[Choice, ...]  # (K,)
    min_similarity: float | None  # lemmas less similar to their class were dropped; None: not compared
    similarity: str  # where that number comes from, or why there is none


def with_synonyms(
    vocabulary: Vocabulary,
    *,
    tower: TextEncoder | None = None,
    senses: Mapping[str, str] | None = None,
    without: Collection[str] = (),
    min_similarity: float | None = None,
    wordnet: WordNet | None = None,
) -> tuple[Vocabulary, Notes]:
    """Return the vocabulary with synonyms from WordNet, and for each class what was taken and dropped, and why.

    A class gets the lemmas of its first sense, ranked as in :func:`synonyms`, or of the sense chosen in `senses`. A
    class that has synonyms already keeps them, unless it is in `senses`; they, too, must be similar enough. A class of
    which WordNet knows only the head noun (sports ball: ball) gets none, because the head noun names more than the
    class.

    A lemma is dropped, whatever its letter case, spaces and hyphens, if
    - a prompt of its class contains it already ("bird" in "bird avian");
    - it is or contains a name of another class ("microwave oven" beside the class oven), or is a synonym that two
      classes share, so it cannot tell them apart ("bike" of bicycle and motorcycle);
    - it is, is part of or contains a background word ("railroad train");
    - it is in `without`;
    - its own commonest sense is another ("soul" of person), because the tokenizer sees no senses;
    - with `tower`: its cosine similarity to its class is below `min_similarity`. The features of lemma and prompt names
      in the vocabulary's templates, averaged, are compared. Default: the mean similarity of two different classes of
      the set, because a lemma should be closer to its class than another class is.

    Args:
        tower: The text side of a CLIP; without it WordNet's order decides and nothing is compared.
        senses: Class name to sense key.
        min_similarity: -1..1; needs `tower`.

    Raises:
        ValueError: `senses` names something that is not a class or a sense; a word of `without` is not a lemma of any
            class; `min_similarity` without tower or out of range.
        WordNetMissing: There is no WordNet.
    """
    senses = senses or {}
    for name in senses:
        if name not in vocabulary.class_names:
            raise unknown_name("class in senses", name, vocabulary.class_names, "leave it out")
    if min_similarity is not None and (tower is None or not -1 <= min_similarity <= 1):
        cure = "it is a cosine, -1..1" if tower else "give a model, too, whose text features are compared"
        raise ValueError(f"min_similarity is {min_similarity}; {cure}")
    wordnet = wordnet or open_wordnet()
    ranked = ranked_senses(vocabulary.class_names, vocabulary.class_names, tower, wordnet)
    rows = zip(vocabulary.class_names, vocabulary.synonyms, ranked, strict=True)
    choices = tuple(_choice(name, own, row, senses.get(name), wordnet) for name, own, row in rows)
    _drop_named(choices, without)
    _drop_clashes(choices, vocabulary)
    _drop_ambiguous(choices, wordnet)
    threshold, similarity = min_similarity, "no model given: no lemma was compared with its class"
    if tower:
        threshold, similarity = _drop_dissimilar(choices, vocabulary, tower, min_similarity)
    notes = Notes(choices, threshold, similarity)
    return replace(vocabulary, synonyms=tuple(choice.synonyms for choice in choices)), notes


def _choice(
    name: str, own: tuple[Synonyms, ...], ranked: tuple[Sense, ...], key: str | None, wordnet: WordNet
) -> Choice:
    if key is None and own:
        candidates = tuple(Synonym(word, group.sense) for group in own for word in group.names)
        return Choice(name, None, "its own synonyms are kept", tuple(group.sense for group in own), candidates)
    sense = ranked[0] if key is None and ranked and not ranked[0].head else None
    if key is not None:
        sense = wordnet.sense(key)
    if sense:
        return Choice(name, sense, "", (sense.key,), tuple(Synonym(lemma, sense.key) for lemma in sense.lemmas))
    note = f"WordNet knows only its head noun, {ranked[0].matched!r}" if ranked else "WordNet does not know it"
    return Choice(name, None, f"{note}; choose a sense for it, or leave it without", (), ())


def _drop_named(choices: tuple[Choice, ...], without: Collection[str]) -> None:
    unused = {letters(word): word for word in without}
    words = set(unused)
    for choice, synonym in _pairs(choices):
        if letters(synonym.name) in words:
            choice.dropped[synonym.name] = "left out by hand"
            unused.pop(letters(synonym.name), None)
    if unused:
        shown = ", ".join(map(repr, unused.values()))
        raise ValueError(f"without {shown}: no synonym of any class is spelled so; leave it out")


def _drop_clashes(choices: tuple[Choice, ...], vocabulary: Vocabulary) -> None:
    # A prompt may be a list of names: "person with clothes,people,human".
    prompts = [[part for prompt in names for part in prompt.split(",")] for names in vocabulary.prompt_names]
    in_prompts = [set().union(*map(_word_runs, parts)) for parts in prompts]
    owners: dict[str, list[Choice]] = {}
    for choice, parts in zip(choices, prompts, strict=True):
        for word in {letters(part) for part in (choice.class_name, *parts)}:
            owners.setdefault(word, []).append(choice)
    users: dict[str, list[Choice]] = {}
    for choice, synonym in _pairs(choices):
        users.setdefault(letters(synonym.name), []).append(choice)
    background_parts = {run: word for word in vocabulary.background_names for run in _word_runs(word)}
    background = {letters(word): word for word in vocabulary.background_names}
    for choice, own in zip(choices, in_prompts, strict=True):
        for synonym in choice.candidates:
            word, runs = letters(synonym.name), _word_runs(synonym.name)
            named = [other.class_name for run in runs for other in owners.get(run, ()) if other is not choice]
            shared = [other.class_name for other in users[word] if other is not choice]
            contained = [background[run] for run in runs if run in background]
            surrounding = [background_parts[word]] if word in background_parts else contained
            if word in own:
                choice.dropped.setdefault(synonym.name, IN_PROMPT)
            elif named or shared:
                choice.dropped.setdefault(synonym.name, f"belongs to the class {min(named or shared)!r}, too")
            elif surrounding:
                choice.dropped.setdefault(synonym.name, f"has to do with the background word {min(surrounding)!r}")


def _word_runs(name: str) -> set[str]:
    """All runs of neighbouring words of a name, without spaces: hot dog, {"hot", "dog", "hotdog"}."""
    words = name.replace("-", " ").split()
    ends = range(len(words) + 1)
    return {letters("".join(words[i:j])) for i in ends for j in ends[i + 1 : i + 1 + _MAX_LEMMA_WORDS]}


def _drop_ambiguous(choices: tuple[Choice, ...], wordnet: WordNet) -> None:
    for choice, synonym in _pairs(choices):
        if choice.sense is None:  # the class had its synonyms already
            continue
        commonest = wordnet.senses(synonym.name)[0]
        if commonest.synset != choice.sense.synset:
            gloss = textwrap.shorten(commonest.gloss, 60, placeholder=" ...")
            choice.dropped.setdefault(synonym.name, f"means more often: {gloss}")


def _drop_dissimilar(
    choices: tuple[Choice, ...], vocabulary: Vocabulary, tower: TextEncoder, min_similarity: float | None
) -> tuple[float | None, str]:
    """Drop synonyms that are less similar to their class than the threshold; return it and where it comes from."""
    bare = replace(vocabulary, fuse="features", synonyms=((),) * len(choices), background_names=())
    classes = text_features(tower, bare.sentences())[:, 0]
    threshold, origin = min_similarity, "as given"
    if threshold is None:
        count = len(choices)
        if count < 2:
            return None, "one class has no other to compare with: no lemma was compared with it"
        similarity = classes @ classes.T
        threshold = float((similarity.sum() - similarity.trace()) / (count * (count - 1)))
        origin = "the mean similarity of two different classes of the set"
    for choice, feature in zip(choices, classes, strict=True):
        taken = [synonym.name for synonym in choice.taken]
        rows = [[[template.replace("{}", name) for template in vocabulary.templates]] for name in taken]
        for name, other in zip(taken, text_features(tower, rows)[:, 0] if rows else (), strict=True):
            if (value := float(feature @ other)) < threshold:
                choice.dropped[name] = f"similarity {value:.3f}, below {threshold:.3f}"
    return threshold, origin


def _pairs(choices: tuple[Choice, ...]) -> list[tuple[Choice, Synonym]]:
    return [(choice, synonym) for choice in choices for synonym in choice.candidates]
