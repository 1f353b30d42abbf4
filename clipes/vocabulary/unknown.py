"""The errors for labels that are no classes: near names, several classes in one, an empty cell, the background."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clipes.ids import is_background

from .words import nearest, suggestion

_LISTED_CLASSES = 20
_EMPTY = frozenset({"nan", "none", "null", "na", "n/a", "<na>", "-", "?"})
_SEPARATORS = (";", ",", "|", "/", "\\", "+", "&", "\t", ":", " ")


def unknown_labels(labels: Sequence[str], vocabulary: str, classes: Sequence[str], known: Mapping[str, str]) -> str:
    """Return the error for labels that are not among the ``classes`` of a ``vocabulary``.

    ``known`` maps casefolded names to the classes that they are suggested for.
    """
    hints = {label: _hint(label, classes, known) for label in labels}
    if len(labels) == 1 and hints[labels[0]]:
        return f"unknown class {labels[0]!r} in {vocabulary}; {hints[labels[0]]}"
    listed = ", ".join(f"{label!r} ({near})" if near else f"{label!r}" for label, near in hints.items())
    shown = ", ".join(classes[:_LISTED_CLASSES])
    more = ", …" if len(classes) > _LISTED_CLASSES else ""
    return f"unknown class{'es' * (len(labels) > 1)} {listed} in {vocabulary}; its classes are {shown}{more}"


def no_list(labels: str, classes: Sequence[str], known: Mapping[str, str]) -> str:
    """Return the error for labels that were given as one string, with a list that can be given instead."""
    parts = [labels] if labels in classes else (split_classes(labels, known) or ("", []))[1]
    if not parts and (near := nearest(labels, known)):
        parts = [near]
    example = f"{parts}" if parts else f"a list of classes, such as {list(classes[:2])}"
    return f"labels: expected a list of strings, got {labels!r}; write {example}"


def split_classes(label: str, known: Mapping[str, str]) -> tuple[str, list[str]] | None:
    """Return the separator and the classes of a label that is several joined; None for any other.

    >>> split_classes("boat, fish", {"boat": "boat", "fish": "fish"})
    (',', ['boat', 'fish'])
    """
    for separator in _SEPARATORS:
        parts = [part.strip(" '\"[](){}") for part in label.split(separator)]
        parts = [part for part in parts if part]
        if len(parts) > 1 and all(part.casefold() in known for part in parts):
            return separator, [known[part.casefold()] for part in parts]
    return None


def _hint(label: str, classes: Sequence[str], known: Mapping[str, str]) -> str:
    if is_background(label):
        return "every mask has a background, which is no class; leave this label out"
    if label.casefold() in _EMPTY:
        return "it stands for an empty cell; leave the cell empty where an image has no label (pandas: na_rep='')"
    if found := split_classes(label, known):
        separator, names = found
        return (
            f"these are several classes: write {names}, on the command line {','.join(names)}, or say of a table "
            f"--label-separator {separator!r} (in Python table=TableFormat(separator={separator!r}))"
        )
    return suggestion(label, known)
