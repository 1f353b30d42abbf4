"""Class lists that number their classes: a background at their head, maps between ids and names, numbered lines.

The ids of a mask are 0 for the background and 1 to K for the classes. A list that says the same keeps its ids; any
other numbering is refused, because its owner would read other classes out of the masks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from clipes.ids import is_background, split_background

_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?")
_ID_FIRST = re.compile(r"([+-]?\d+)(?:\s*[:;,=\t.)]\s*|(?P<weak>\s+))(\S.*)")
_ID_LAST = re.compile(r"(.*?\S)(?:\s*[:;,=\t]\s*|(?P<weak>\s+))([+-]?\d+)")
_LABELMAP = re.compile(r"([^:]+):(?:\d+,\d+,\d+)?:[^:]*:[^:]*")  # CVAT's, which `clipes export --format voc` writes
_COLOURS = re.compile(r"(?:\d{1,3}[\s,;]+){3}\D.*|.*\D(?:[\s,;]+\d{1,3}){3,4}")
_IGNORED_IDS = (-1, 255, 65535)


class NumberedNames(NamedTuple):
    """The names of the ids 1 to K, and the names beside them that are no classes."""

    names: tuple[str, ...]
    left_out: tuple[str, ...]


def is_number(word: object) -> bool:
    """Whether a word is a number alone, which tells CLIP nothing about a picture.

    >>> is_number("12"), is_number("7 up")
    (True, False)
    """
    return isinstance(word, str) and _NUMBER.fullmatch(word.strip()) is not None


def read_id_map(table: Mapping[Any, Any]) -> NumberedNames | None:
    """Return the classes of a mapping from ids to names, or from names to ids, by their ids; None for any other.

    Raises ValueError for ids that the masks cannot have: other than 1 to K, 0 being the background.

    >>> read_id_map({"1": "balloon", "0": "background", "2": "boat"})
    NumberedNames(names=('balloon', 'boat'), left_out=('background',))
    >>> read_id_map({"boat": 2, "balloon": 1})
    NumberedNames(names=('balloon', 'boat'), left_out=())
    """
    if not table:
        return None
    if all(_id(key) is not None for key in table) and all(isinstance(name, str) for name in table.values()):
        return _by_id([(_id(key), name) for key, name in table.items()])
    if all(isinstance(name, str) and _id(value) is not None for name, value in table.items()):
        return _by_id([(_id(value), name) for name, value in table.items()])
    return None


def read_numbered_lines(lines: object) -> NumberedNames | None:
    """Return the classes of lines with ids (`1: balloon`, `1 balloon`, `balloon,1`) or of a labelmap; None for others.

    An id and a space count as such only where the ids are 0 or 1 to K, because a name may begin with a number; after
    names also only where these differ, because `type 1` and `type 2` are names.
    Raises ValueError as :func:`read_id_map`, and for lines with colours.
    """
    if not isinstance(lines, list | tuple) or not lines or not all(isinstance(line, str) for line in lines):
        return None
    if all(_COLOURS.fullmatch(line) for line in lines):
        raise ValueError(f"the lines have colours beside the names, such as {lines[0]!r}; leave the names, one a line")
    if all(match := [_LABELMAP.fullmatch(line) for line in lines]):
        left_out, names = split_background([one[1].strip() for one in match if one and one[1].strip() != "ignored"])
        return NumberedNames(names, left_out)
    if all(match := [_ID_FIRST.fullmatch(line) for line in lines]):
        found = [(int(one[1]), one[3].strip()) for one in match if one]
        weak = any(one and one["weak"] for one in match)
        return _by_id(found) if not weak or _are_ids(found) else None
    if all(match := [_ID_LAST.fullmatch(line) for line in lines]):
        found = [(int(one[3]), one[1].strip()) for one in match if one]
        weak = any(one and one["weak"] for one in match)
        differ = len(found) > 1 and len({name for _, name in found}) == len(found)
        return _by_id(found) if not weak or (differ and _are_ids(found)) else None
    return None


def _are_ids(numbered: Sequence[tuple[int, str]]) -> bool:
    """Whether the numbers are 0 or 1 to K, in any order."""
    ids = sorted(number for number, _ in numbered)
    return ids in (list(range(len(ids))), list(range(1, len(ids) + 1)))


def classes_of_other_tools(data: Any) -> Any:
    """Return the classes in the data of another tool's file, any other data as they are.

    Known are YOLO's `names`, whose numbers count from 0 and are no ids of masks, the `id2label` of Hugging Face's
    transformers, and COCO's `categories`.

    >>> classes_of_other_tools({"path": "x", "names": {0: "cat", 1: "dog"}})
    ['cat', 'dog']
    """
    if not isinstance(data, dict):
        return data
    names, categories = data.get("names"), data.get("categories")
    if isinstance(names, dict) and [_id(number) for number in names] == list(range(len(names))):
        return list(names.values())
    if isinstance(names, list) and len(data) > 1:
        return names
    if isinstance(categories, list) and all(
        isinstance(one, dict) and {"id", "name"} <= one.keys() for one in categories
    ):
        return [{"id": one["id"], "name": one["name"]} for one in categories]
    return data["id2label"] if isinstance(data.get("id2label"), dict) else data


def _id(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,9}", value.strip()):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _by_id(pairs: Iterable[tuple[int | None, str]]) -> NumberedNames:
    """The names by their ids; ValueError for ids that no mask has."""
    names: dict[int, str] = {}
    for number, name in pairs:
        if number is not None and names.setdefault(number, name) != name:
            raise ValueError(f"class ids: {names[number]!r} and {name!r} both have the id {number}; change one")
    left_out = [names.pop(number) for number in (0, *_IGNORED_IDS) if number in names and is_background(names[number])]
    ordered = [names[number] for number in sorted(names)]
    listed = ", ".join(map(repr, ordered[:3])) + (", …" if len(ordered) > 3 else "")
    as_list = f"give the names as a list, [{listed}], whose ids are 1 to {len(names)}"
    if not names:
        raise ValueError("class ids: no class is named beside the background; add the classes")
    if 0 in names:
        raise ValueError(f"class ids: 0 is {names[0]!r}, but in a mask 0 is the background; {as_list}")
    for number, name in names.items():
        if is_background(name):
            raise ValueError(
                f"class ids: {name!r} has the id {number}, but in a mask 0 is the background; remove it, and number "
                f"the {len(names) - 1} classes from 1"
            )
    if sorted(names) != list(range(1, len(names) + 1)):
        wrong = next(number for number in sorted(names) if not 1 <= number <= len(names))
        raise ValueError(
            f"class ids: {names[wrong]!r} has the id {wrong}, but masks number {len(names)} class(es) from 1 to "
            f"{len(names)}; number them so, or {as_list}"
        )
    return NumberedNames(tuple(ordered), tuple(left_out))
