"""The ids in a mask: background, classes, the ignore value, their palette and their names in ``classes.json``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def class_table(class_names: Iterable[str]) -> dict[str, str]:
    """What ``classes.json`` holds: id to name."""
    return {str(index): name for index, name in enumerate(("background", *class_names))}


def read_class_names(masks: Path, given: Sequence[str] | None) -> tuple[str, ...]:
    """Return the class names given, or those of the ``classes.json`` beside the masks, the background apart.

    Raises ValueError when there are neither, when they disagree, and for a file that is no such table.
    """
    file = (masks if masks.is_dir() else masks.parent) / "classes.json"
    if not file.is_file():
        if not given:
            raise ValueError(f"no class names: there is no {file}; give the classes (--classes)")
        return tuple(given)
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
        names = tuple(table[str(index)] for index in range(1, len(table)))
        if not names or not all(isinstance(name, str) for name in names):
            raise ValueError("names are missing")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f'{file} is no table of ids and names, {{"0": "background", "1": ...}}: {error}') from error
    if given is not None and tuple(given) != names:
        raise ValueError(f"the classes given are not those of {file}; leave them out, or remove that file")
    return names


CLASSES = "classes.json"
