"""Lists of words as users give them, checked: errors name the entry at fault and the cure."""

from __future__ import annotations

import difflib
import os
import re
import reprlib
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clipes.io import structured

LONGEST = 1000
"""Letters that a name or a template may have; CLIP reads 77 tokens."""

_MAX_WORDS = 10  # of a name that is looked for in another name
_NO_LISTS = (".csv", ".jsonl", ".pbtxt", ".prototxt", ".toml", ".tsv", ".xml")  # their lines are no entries
_WORD = re.compile(r"\w+")


def normalised(word: str) -> str:
    """Return ``word`` without the differences that CLIP's tokenizer ignores: letter case, composed, full-width letters.

    >>> normalised("Cafe\\u0301"), normalised("\\uff24\\uff2f\\uff27")
    ('café', 'dog')
    """
    return unicodedata.normalize("NFKC", word).casefold()


def unique_strings(values: object, what: str, at_least: int = 1) -> tuple[str, ...]:
    """Return ``values`` as strings that differ even when normalised; error messages begin with ``what``.

    Raises ValueError for fewer than ``at_least`` and for repeats, and errors as :func:`strings`.
    """
    words = strings(values, what)
    if len(words) < at_least:
        raise ValueError(f"{what}: the list is empty; give at least one")
    seen: dict[str, str] = {}
    for word in words:
        if normalised(word) in seen:
            raise ValueError(f"{what}: {word!r} repeats {seen[normalised(word)]!r}; remove one")
        seen[normalised(word)] = word
    return words


def strings(values: object, what: str) -> tuple[str, ...]:
    """Return ``values`` as strings of visible text.

    Raises TypeError for one string, something without an order, or an entry of another type; ValueError for a blank
    entry, stray white space, or characters that are no text.
    """
    words = as_tuple(values, what)
    for number, word in enumerate(words, start=1):
        if not isinstance(word, str):
            raise TypeError(f"{what}: entry {number} is {reprlib.repr(word)}, not a string")
        tidy = " ".join(word.split())
        if not tidy:
            raise ValueError(f"{what}: entry {number} is blank; remove it")
        if word != tidy:
            raise ValueError(f"{what}: entry {number}, {word!r}, has stray white space; write {tidy!r}")
        if len(word) > LONGEST:
            raise ValueError(
                f"{what}: entry {number}, {reprlib.repr(word)}, has {len(word)} letters; {LONGEST} is most"
            )
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in word):
            raise ValueError(f"{what}: entry {number}, {reprlib.repr(word)}, holds a control character; remove it")
    return words


def as_tuple(values: object, what: str) -> tuple[Any, ...]:
    """Return ``values`` as a tuple, NumPy's strings as Python's; TypeError for one string and for what has no order."""
    # A set is refused, because its order and so the ids would change from run to run.
    if isinstance(values, str | bytes | Mapping | set | frozenset) or not isinstance(values, Iterable):
        cure = f"; write [{values!r}]" if isinstance(values, str) else ""
        raise TypeError(f"{what}: expected a list of strings, got {reprlib.repr(values)}{cure}")
    return tuple(str(value) if isinstance(value, str) else value for value in values)


def read_data(path: str | os.PathLike[str]) -> Any:
    """Return what a `.json` or `.yaml` file holds, or the lines of a text file, less blank ones and those after a `#`.

    Raises FileNotFoundError; ValueError, with the path, for a file of another format, text that is not UTF-8, or data
    that are broken or have a key twice; ImportError for YAML without PyYAML.
    """
    path = Path(path)
    if not os.path.isfile(path):  # unlike Path.is_file, no error for a name that is too long
        raise FileNotFoundError(f"no such file: {path}; give a .json file, or a text file with one entry a line")
    suffix = path.suffix.lower()
    if suffix in structured.SUFFIXES:
        return structured.read_structured(path)
    if suffix in _NO_LISTS:
        raise ValueError(
            f"{path}: a {suffix} file is no list of entries; save it as .json, .yaml, or .txt with one a line"
        )
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    return [line for line in lines if line and not line.startswith("#")]


def read_words(path: str | os.PathLike[str], what: str) -> tuple[str, ...]:
    """Return the distinct strings of a file: a JSON list, or one per line.

    Raises errors as :func:`unique_strings`, with the path.
    """
    try:
        return unique_strings(read_data(path), what)
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from error
    except ValueError as error:
        named = str(error).startswith(f"{path}:")
        raise error if named else ValueError(f"{path}: {error}") from error


def contained(word: str, names: Iterable[str]) -> list[str]:
    """Return those of ``names`` that ``word`` equals or contains as whole words, sorted.

    Letter case, spaces and plurals make no difference.

    >>> contained("tree houses", ["House", "treehouse", "horse"]), contained("seaplane", ["plane"])
    (['House', 'treehouse'], [])
    """
    return contained_in(name_forms(names), word)


def name_forms(names: Iterable[str]) -> dict[str, list[str]]:
    """Index names by their singular and plural forms without spaces, for :func:`contained_in`."""
    forms: dict[str, list[str]] = {}
    for name in names:
        for form in _singulars("".join(_WORD.findall(normalised(name)))):
            forms.setdefault(form, []).append(name)
    return forms


def contained_in(forms: Mapping[str, list[str]], word: str) -> list[str]:
    """Return the names indexed in ``forms`` that ``word`` contains, sorted; see :func:`contained`."""
    words = _WORD.findall(normalised(word))
    parts = ("".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, min(i + _MAX_WORDS, len(words)) + 1))
    runs = {form for part in parts for form in _singulars(part)}
    return sorted({name for run in runs for name in forms.get(run, ())})


def _singulars(word: str) -> set[str]:
    """The word and every word that it may be the plural of: buses, {"buses", "buse", "bus"}."""
    forms = {word.removesuffix("s"), word.removesuffix("es")} if len(word) > 3 else set()
    return {word, *forms} - {""}


def check_keys(data: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Raise ValueError for the first key that is not ``known``, with similar keys."""
    for key in data:
        if key not in known:
            raise unknown_name(f"key in {where}:", str(key), known, "leave it out")


def unknown_name(kind: str, name: str, known: Iterable[str], cure: str) -> ValueError:
    """Return the error for a name that is not ``known``, with a similar name and all known names."""
    by_key = {word.casefold(): word for word in known}
    choices = f"choose one of {', '.join(by_key.values())}, or {cure}"
    return ValueError(" ".join(filter(None, (f"unknown {kind} {name!r};", suggestion(name, by_key), choices))))


def suggestion(word: str, known: Mapping[str, str]) -> str:
    """Return ``did you mean 'boat'?`` for the :func:`nearest` of ``known``, or an empty string."""
    near = nearest(word, known)
    return f"did you mean {near!r}?" if near else ""


def nearest(word: str, known: Mapping[str, str]) -> str | None:
    """Return the name for the most similar key of ``known``, which maps casefolded words to names; None without any."""
    near = difflib.get_close_matches(word.casefold(), known, n=1)
    return known[near[0]] if near else None
