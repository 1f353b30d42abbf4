"""The ids in a mask: background, classes, the ignore value, their palette and their names in ``classes.json``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NO_CLASS = frozenset({"background", "bg", "void", "ignore", "ignored", "unlabeled", "unlabelled"})
_IGNORE = frozenset({"ignore", "ignored"})
_WIDEST = 65534  # 0..65534 are ids in a 16-bit mask; 65535 is its ignore value


def ignore_index(classes: int) -> int:
    """Return the mask value that means "not decided" in a data set of `classes` classes.

    255 for up to 254 classes (masks are uint8), 65535 above (masks are uint16).
    Raises ValueError for less than 1 class or more than 65534.

    >>> ignore_index(20), ignore_index(254), ignore_index(255)
    (255, 255, 65535)
    """
    if not 1 <= classes <= _WIDEST:
        raise ValueError(f"a mask has 1 to {_WIDEST} classes (background not counted), not {classes}")
    return 255 if classes <= 254 else 65535


def valid_mask(ids: NDArray[Any], name: str, classes: int) -> NDArray[np.bool_]:
    """Return where `ids` holds a class rather than the ignore value: bool, of the shape of `ids`.

    Raises TypeError for an array that is not of integers, ValueError for a value that is neither; both messages begin
    with `name`.
    """
    ignore = ignore_index(classes)
    if ids.dtype.kind not in "ui":
        raise TypeError(f"{name} holds {ids.dtype}, not class ids; pass an integer array such as uint8")
    valid: NDArray[np.bool_] = ids != ignore
    wrong = valid & ((ids < 0) | (ids > classes))
    if wrong.any():
        raise ValueError(
            f"{name} holds {ids[wrong][0]}, but {classes} classes allow 0..{classes} and {ignore} (ignore)"
            "; map its values or pass the right number of classes"
        )
    return valid


def voc_palette() -> NDArray[np.uint8]:
    """Return the colours of PASCAL VOC, (256, 3) uint8 RGB: 0 black for background, 255 ivory for ignore.

    >>> voc_palette()[[0, 1, 15, 255]].tolist()
    [[0, 0, 0], [128, 0, 0], [192, 128, 128], [224, 224, 192]]
    """
    index = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for level in range(8):  # three bits of the index at a time give the next lower bit of red, green and blue
        for channel in range(3):
            palette[:, channel] |= (((index >> (3 * level + channel)) & 1) << (7 - level)).astype(np.uint8)
    return palette


def is_background(name: str) -> bool:
    """Whether a name in a list of classes is that of the background or of ignored pixels, which are no classes.

    >>> is_background("__background__"), is_background("Void"), is_background("backgammon")
    (True, True, False)
    """
    return _plain(name) in _NO_CLASS


def split_background(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names at the head of a list that are no classes, and the classes, whose ids are then 1 to K.

    In a list that begins with the background, the ids count from 0; labelme's begins with `__ignore__`, too, whose id
    is -1. Raises ValueError for such a name elsewhere: the ids of the classes after it would change without it.

    >>> split_background(["__ignore__", "_background_", "cat", "dog"])
    (('__ignore__', '_background_'), ('cat', 'dog'))
    """
    head = int(bool(names) and is_background(names[0]))
    if len(names) > 1 and _plain(names[0]) in _IGNORE and is_background(names[1]):
        head = 2
    for number, name in enumerate(names[head:], start=head + 1):
        if is_background(name):
            after = names[number : number + 1]
            shift = f" (the ids after it are one lower then: {after[0]!r} is {number - head})" if after else ""
            raise ValueError(
                f"class names: entry {number}, {name!r}, is no class: in a mask 0 is the background and "
                f"{ignore_index(max(len(names), 1))} is ignored; remove it{shift}"
            )
    if head and head == len(names):
        raise ValueError(f"class names: {names[-1]!r} is the background, and no class is named; add the classes")
    return tuple(names[:head]), tuple(names[head:])


def _plain(name: str) -> str:
    return re.sub(r"[\s_<>\[\]-]+", "", name).casefold()


def class_table(class_names: Iterable[str]) -> dict[str, str]:
    """What ``classes.json`` holds: id to name."""
    return {str(index): name for index, name in enumerate(("background", *class_names))}


def read_class_names(masks: Path, given: Sequence[str] | None) -> tuple[str, ...]:
    """Return the class names given, or those of the run whose masks they are, without the background.

    They are in its ``run.json``. Masks without that have a ``classes.json`` beside them.

    Raises ValueError when there are neither, when they disagree, and for a file that is no such table.
    """
    folder = masks if masks.is_dir() else masks.parent
    file, names = folder / MANIFEST, _names_of_run(folder / MANIFEST)
    if names is None:
        file, names = folder / CLASSES, _names_of_table(folder / CLASSES)
    if names is None:
        if not given:
            raise ValueError(f"no class names: there is no {file}; give the classes (--classes)")
        return split_background(given)[1]
    if given is not None and split_background(given)[1] != names:
        raise ValueError(f"the classes given are not those of {file}; leave them out, or remove that file")
    return names


CLASSES, MANIFEST = "classes.json", "run.json"


def _names_of_run(file: Path) -> tuple[str, ...] | None:
    """The names that the record of a run holds; None where it is missing, broken, or of a version that held none."""
    if not file.is_file():  # a named pipe would wait for ever
        return None
    try:
        return tuple(map(str, json.loads(file.read_text(encoding="utf-8"))["settings"]["class_names"]))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _names_of_table(file: Path) -> tuple[str, ...] | None:
    if not file.is_file():
        return None
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
        names = tuple(table[str(index)] for index in range(1, len(table)))
        if not names or not all(isinstance(name, str) for name in names):
            raise ValueError("names are missing")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f'{file} is no table of ids and names, {{"0": "background", "1": ...}}: {error}') from error
    return names
