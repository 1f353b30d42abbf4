"""WordNet's nouns: the senses of a class name. Only this file imports nltk, whose reader it uses, when it is needed."""

from __future__ import annotations

import difflib
import os
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

from clipes.vocabulary.words import normalised

_DEBIAN = "/usr/share/wordnet"
_NEEDED = ("index.noun", "data.noun", "noun.exc")
_OPTIONAL = ("lexnames", "index.verb", "verb.exc", "index.adj")  # the words that may stand before a noun
# Debian's package lacks this file, which nltk needs. From lexnames(5WN) of WordNet 3.0.
_LEXNAMES = """adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute noun.body
noun.cognition noun.communication noun.event noun.feeling noun.food noun.group noun.location noun.motive noun.object
noun.person noun.phenomenon noun.plant noun.possession noun.process noun.quantity noun.relation noun.shape noun.state
noun.substance noun.time verb.body verb.change verb.cognition verb.communication verb.competition verb.consumption
verb.contact verb.creation verb.emotion verb.motion verb.perception verb.possession verb.social verb.stative
verb.weather adj.ppl"""
_GAPS = re.compile(r"[\s_-]+")
_MARKS = re.compile(r"[\s_.'\u2019-]+")
_KEY = re.compile(r"(?P<lemma>[^%\s]+)%(?P<kind>[1-5])(:\d\d){2}:[^:\s]*:(\d\d)?")
_PREPOSITIONS = frozenset(("at", "by", "for", "from", "in", "of", "on", "to", "with", "without"))
_MAX_LETTERS = 100  # WordNet's longest noun has 71
_MIN_HALF = 3  # letters of either half of "diningtable": with one or two, "ipad" would be "i pad"


class WordNetMissing(FileNotFoundError):
    """There is no WordNet in the places that were searched."""


@dataclass(frozen=True)
class Sense:
    """One meaning of a name: a noun synset of WordNet."""

    key: str  # the sense key of its first lemma, "dining_table%1:06:00::"
    synset: str  # nltk's name of it, "dining_table.n.01"
    gloss: str  # the definition, without examples
    lemmas: tuple[str, ...]  # its words, with spaces, in WordNet's order
    hypernyms: tuple[str, ...]  # what it is a kind of, the nearest first: "table", "furniture", ...
    matched: str  # WordNet's spelling of the name that was looked up
    head: bool = False  # whether `matched` is only the name's head noun: "ball" of "sports ball"
    score: float | None = None  # the rank by `clipes.prompting.synonyms`, where a generator was given


def open_wordnet(folder: str | os.PathLike[str] | None = None) -> WordNet:
    """Return the WordNet of `folder`, or the first that is found; each is read once.

    If `folder` is given, only that is searched. Otherwise the folder that the environment variable CLIPES_WORDNET
    names, if it is set; else nltk's data folders (`corpora/wordnet` or `wordnet31`, unpacked or zipped), then Debian's
    `/usr/share/wordnet`.

    Raises:
        WordNetMissing: There is none; the message says how to get it.
        ValueError: Its files are broken or incomplete.
    """
    named = os.environ.get("CLIPES_WORDNET") or None if folder is None else folder
    places = _usual_places() if named is None else [Path(named)]
    for place in places:
        if (place.suffix == ".zip" and place.is_file()) or (place / "data.noun").is_file():
            return _open(str(place.resolve()))
    shown = ", ".join(map(str, places)) if len(places) < 3 else f"nltk's data folders and {_DEBIAN}"
    raise WordNetMissing(
        f"no WordNet in {shown}; get it by `python -m nltk.downloader wordnet` or `apt install wordnet-base`, or name "
        "the folder that holds data.noun (wordnet=, --wordnet or CLIPES_WORDNET); class files that were built once "
        "need no WordNet"
    )


class WordNet:
    """The nouns of one WordNet database; made by :func:`open_wordnet`."""

    def __init__(self, folder: str, version: str, reader: Any):
        self.folder = folder
        self.version = version  # "3.0"; "?" if the files do not say
        self._reader = reader
        self._spellings: dict[str, list[str]] = {}  # lemmas by their letters without spaces and hyphens
        for lemma in reader.all_lemma_names("n"):
            self._spellings.setdefault(letters(lemma), []).append(lemma)

    def senses(self, name: str) -> tuple[Sense, ...]:
        """Return the senses of `name`, the commonest first; none if WordNet does not know it.

        Tried in this order: the name and its singular, whatever their case, spaces, hyphens and underscores; a modifier
        in its base form (potted plant: pot plant); its head noun (`Sense.head` is then true). A name in one word is
        split where both parts are words (diningtable). Raises ValueError for a blank name,
        TypeError for a name that is not a string.
        """
        words = _words(name)
        if sum(map(len, words)) > _MAX_LETTERS:
            return ()
        with _reading(self.folder):
            parts = [words] if len(words) > 1 else self._halves(words[0])
            compounds = (form for part in parts for form in self._base_forms(part))
            heads = (head for part in parts for head in _heads(part))
            for known in chain([self._lemmas(words)], map(self._lemmas, compounds)):
                if known:
                    return self._senses_of(known, head=False)
            return next((self._senses_of(known, head=True) for known in map(self._lemmas, heads) if known), ())

    def sense(self, key: str) -> Sense:
        """Return the sense with the sense key of any of its lemmas.

        Raises ValueError for a key of another form, one that is not of a noun, and one that WordNet does not have.
        """
        match = _KEY.fullmatch(key.casefold())
        if not match or match["kind"] != "1":
            raise ValueError(f"{key!r} is not the sense key of a noun; it looks like dining_table%1:06:00::")
        with _reading(self.folder):
            synsets = self._reader.synsets(match["lemma"], "n")
            keys = {lemma.key(): synset for synset in synsets for lemma in synset.lemmas()}
            if match[0] in keys:
                return _sense(keys[match[0]], _spaced(match["lemma"]), head=False)
        own = [known for known in keys if known.startswith(f"{match['lemma']}%")]
        cure = f"its senses of {_spaced(match['lemma'])!r} are {', '.join(own)}" if own else "it has no such noun"
        raise ValueError(f"WordNet {self.version} has no sense {key!r}; {cure}")

    def near(self, name: str, count: int = 3) -> tuple[str, ...]:
        """Return up to `count` lemmas that are spelled like `name`, the most similar first."""
        spelled = letters("".join(_words(name)))[:_MAX_LETTERS]
        # Only words of a similar length, because comparing all 117,000 would take a second.
        candidates = (other for other in self._spellings if abs(len(other) - len(spelled)) < 3)
        matches = difflib.get_close_matches(spelled, candidates, count, cutoff=0.75)
        return tuple(_spaced(self._spellings[other][0]) for other in matches)

    def _lemmas(self, words: list[str]) -> list[str]:
        """Return WordNet's spellings of a name, then of its singular."""
        name = "_".join(words)
        forms = [letters(name), *(letters("".join([*words[:-1], last])) for last in self._singulars(words[-1]))]
        known = [lemma for form in dict.fromkeys(forms) for lemma in self._spellings.get(form, ())]
        return sorted(
            known, key=lambda lemma: lemma != name
        )  # of "hotdog" and "hot_dog", the spelling of the user first

    def _singulars(self, word: str) -> Iterator[str]:
        irregular = self._reader.morphy(word, "n")
        if irregular:
            yield irregular
        for ending, replacement in self._reader.MORPHOLOGICAL_SUBSTITUTIONS["n"]:
            stem = word.removesuffix(ending) + replacement
            # Not "gas": "ga".
            if word.endswith(ending) and not word.endswith("ss") and len(stem) >= _MIN_HALF:
                yield stem

    def _halves(self, word: str) -> list[list[str]]:
        """Return the splits of a word into two, the longer second word first: sportsball, [["sports", "ball"]]."""
        cuts = range(_MIN_HALF, len(word) - _MIN_HALF + 1)
        return [[word[:i], word[i:]] for i in cuts if self._is_word(word[:i]) and self._lemmas([word[i:]])]

    def _is_word(self, word: str) -> bool:
        return word in self._spellings or any(self._reader.morphy(word, kind) for kind in "nva")

    def _base_forms(self, words: list[str]) -> Iterator[list[str]]:
        base = self._reader.morphy(words[-2], "v") if len(words) > 1 else None
        if base:
            yield [*words[:-2], base, words[-1]]

    def _senses_of(self, lemmas: list[str], head: bool) -> tuple[Sense, ...]:
        senses: dict[str, Sense] = {}
        for lemma in lemmas:
            for synset in self._reader.synsets(lemma, "n"):
                if any(name.casefold() == lemma for name in synset.lemma_names()):  # not those of the lemma's singular
                    senses.setdefault(synset.name(), _sense(synset, _spaced(lemma), head))
        return tuple(senses.values())


def _sense(synset: Any, matched: str, head: bool) -> Sense:
    lemmas = synset.lemmas()
    # nltk removes quoted examples, but not the separators between them.
    gloss = synset.definition().split("; ;")[0].strip(" :;,")
    names = tuple(_spaced(lemma.name()) for lemma in lemmas)
    return Sense(lemmas[0].key(), synset.name(), gloss, names, tuple(_hypernyms(synset)), matched, head)


def _hypernyms(synset: Any) -> Iterator[str]:
    # nltk's order is not fixed. The longest path is the most specific: dog, canine rather than domestic animal.
    while above := synset.hypernyms() + synset.instance_hypernyms():
        synset = min(above, key=lambda other: (-other.max_depth(), other.name()))
        yield _spaced(synset.lemma_names()[0])


def _words(name: str) -> list[str]:
    if not isinstance(name, str):
        raise TypeError(f"a name is a string, not {name!r}")
    words = [word for word in _GAPS.split(normalised(name)) if word]
    if not words:
        raise ValueError(f"the name {name!r} is blank; give a noun")
    return words


def _heads(words: list[str]) -> Iterator[list[str]]:
    """Yield the possible head nouns, the longest first: big red ball, [red ball], [ball]; cup of tea, [cup]."""
    stop = next((i for i, word in enumerate(words) if i and word in _PREPOSITIONS), len(words))
    return (words[start:stop] for start in range(0 if stop < len(words) else 1, stop))


def letters(name: str) -> str:
    """Return ``name`` without letter case, spaces, hyphens, dots and apostrophes, to compare spellings.

    >>> letters("Hot-dog") == letters("hot dog") == letters("hotdog")
    True
    """
    return _MARKS.sub("", normalised(name))


def _spaced(lemma: str) -> str:
    return lemma.replace("_", " ")


def _usual_places() -> list[Path]:
    import nltk.data

    corpora = [Path(folder, "corpora") for folder in nltk.data.path]
    names = ("wordnet", "wordnet.zip", "wordnet31", "wordnet31.zip")
    return [*(corpus / name for name in names for corpus in corpora), Path(_DEBIAN)]


@cache
def _open(place: str) -> WordNet:
    with _reading(place):
        folder = zipfile.Path(place, f"{Path(place).stem}/") if place.endswith(".zip") else Path(place)
        present = [name for name in (*_NEEDED, *_OPTIONAL) if (folder / name).is_file()]
        files = {name: (folder / name).read_bytes() for name in present}
        files.setdefault("lexnames", "\n".join(f"{n:02} {x} 0" for n, x in enumerate(_LEXNAMES.split())).encode())
        for name in _NEEDED:
            if not files.get(name, b"").endswith(b"\n"):
                raise ValueError(f"{name} is cut short" if name in files else f"there is no {name}")
        version = re.search(rb"WordNet (\d+\.\d+) Copyright", files["data.noun"][:4096])
        return WordNet(place, version[1].decode() if version else "?", _reader(files))


def _reader(files: dict[str, bytes]) -> Any:
    """Return nltk's reader over `files`. Other files are empty, so that other parts of speech cost nothing."""
    from nltk.corpus.reader.wordnet import WordNetCorpusReader
    from nltk.data import PathPointer, SeekableUnicodeStreamReader

    class Files(PathPointer):  # type: ignore[misc]
        def __init__(self, name: str = ""):
            self.name = name

        def join(self, fileid: str) -> Files:
            return Files(fileid)

        def open(self, encoding: str | None = None) -> Any:
            return SeekableUnicodeStreamReader(BytesIO(files.get(self.name, b"")), "utf-8")

        def file_size(self) -> int:
            return len(files.get(self.name, b""))

    class Nouns(WordNetCorpusReader):  # type: ignore[misc]
        def open(self, file: str) -> Any:  # nltk's own allows no folder outside nltk.data.path
            return self.root.join(file).open()

        def map_wn(self, version: str = "wordnet") -> None:  # for other languages; needs index.sense
            return None

    return Nouns(Files(), omw_reader=False)


@contextmanager
def _reading(place: str) -> Iterator[None]:
    """Turn every error of nltk on broken files into a ValueError that names them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a synset that is not there is an error, not a warning
            yield
    except MemoryError:
        raise
    except Exception as error:  # nltk's and zipfile's readers raise nearly anything on broken bytes
        raise ValueError(
            f"the WordNet files in {place} are broken: {str(error) or type(error).__name__}; download them again"
        ) from error
