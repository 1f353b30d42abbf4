"""Lists of words as users give them: what is wrong with one is named, with its cure."""

from __future__ import annotations

import difflib
import re
import reprlib
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

_WORD = re.compile(r"\w+")


def normalised(word: str) -> str:
    """What CLIP's tokenizer makes one of: letter case, composed and full-width letters.

    >>> normalised("Cafe\\u0301"), normalised("\\uff24\\uff2f\\uff27")
    ('café', 'dog')
    """
    return unicodedata.normalize("NFKC", word).casefold()


def distinct(values: object, what: str, at_least: int = 1) -> tuple[str, ...]:
    """Return ``values`` as strings that differ even when normalised; ``what`` they are begins each message.

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
    words = listed(values, what)
    for number, word in enumerate(words, start=1):
        if not isinstance(word, str):
            raise TypeError(f"{what}: entry {number} is {reprlib.repr(word)}, not a string")
        tidy = " ".join(word.split())
        if not tidy:
            raise ValueError(f"{what}: entry {number} is blank; remove it")
        if word != tidy:
            raise ValueError(f"{what}: entry {number}, {word!r}, has stray white space; write {tidy!r}")
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in word):
            raise ValueError(f"{what}: entry {number}, {reprlib.repr(word)}, holds a control character; remove it")
    return words


def listed(values: object, what: str) -> tuple[Any, ...]:
    """Return ``values`` as a tuple; TypeError for one string and for what has no order."""
    # A set is refused because its order, and with it the ids, would change from run to run.
    if isinstance(values, str | bytes | Mapping | set | frozenset) or not isinstance(values, Iterable):
        cure = f"; write [{values!r}]" if isinstance(values, str) else ""
        raise TypeError(f"{what}: expected a list of strings, got {reprlib.repr(values)}{cure}")
    return tuple(values)


def contained(word: str, names: Iterable[str]) -> list[str]:
    """Return those of ``names`` that ``word`` equals or holds as whole words, as they are normalised.

    >>> contained("tree house", ["House", "tree house", "horse"]), contained("seaplane", ["plane"])
    (['House', 'tree house'], [])
    """
    whole = f" {' '.join(_WORD.findall(normalised(word)))} "
    parts = {name: " ".join(_WORD.findall(normalised(name))) for name in names}
    return [name for name, part in parts.items() if part and f" {part} " in whole]


def check_keys(data: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Raise ValueError for the first key that is not ``known``, with near ones."""
    for key in data:
        if key not in known:
            raise unknown_name(f"key in {where}:", str(key), known, "leave it out")


def unknown_name(kind: str, name: str, known: Iterable[str], cure: str) -> ValueError:
    """The error for a name that is none of ``known``, with near ones and all there are."""
    by_key = {word.casefold(): word for word in known}
    choices = f"choose one of {', '.join(by_key.values())}, or {cure}"
    return ValueError(" ".join(filter(None, (f"unknown {kind} {name!r};", hint(name, by_key), choices))))


def hint(word: str, known: Mapping[str, str]) -> str:
    """``did you mean 'boat'?`` for the nearest of ``known``, casefolded words to what they mean; or nothing."""
    near = difflib.get_close_matches(word.casefold(), known, n=1)
    return f"did you mean {known[near[0]]!r}?" if near else ""
