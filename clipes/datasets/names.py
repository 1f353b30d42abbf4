"""Labels that are names or indices of classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .sample import DatasetError, clean_labels


def to_names(values: Iterable[Any], class_names: Sequence[str] | None, where: str) -> tuple[str, ...]:
    """Return names of classes: strings as they are; whole numbers, also as digits, as indices from 0 in `class_names`.

    Raises DatasetError for a number without `class_names` or beyond them, and for anything else.

    >>> to_names(["dog", 0, "1"], ["cat", "fox"], "labels.json")
    ('dog', 'cat', 'fox')
    """
    return clean_labels([_name(value, class_names, where) for value in values], where)


def _name(value: Any, class_names: Sequence[str] | None, where: str) -> Any:
    if isinstance(value, str):
        text = value.strip()
        if (class_names is not None and text in class_names) or not (text.isascii() and text.isdigit()):
            return value
        value = int(text[:20])
    if not isinstance(value, int) or isinstance(value, bool):
        return value  # clean_labels refuses it
    if class_names is None:
        raise DatasetError(f"{where}: the label {value} is the index of a class, but no classes are given; give them")
    if not 0 <= value < len(class_names):
        raise DatasetError(f"{where}: the label {value} is not an index of {len(class_names)} classes, counted from 0")
    return class_names[value]
