"""The row of an image in the record of a run, and its line of JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, cast, get_args

from clipes.label_rules import LEAST_FOREGROUND

Status = Literal["ok", "skipped", "failed"]
_STATUSES = get_args(Status)


@dataclass(frozen=True)
class Row:
    """The outcome of one image.

    Attributes:
        id: the image's id, which is its mask's file name without ``.png``.
        status: "ok" (the mask is written), "skipped" or "failed".
        reason: why the image was skipped or failed.
        labels: the image's class names, in the source's order.
        size: (H, W) in pixels, if known.
        seconds: how long the image took.
        checksum: SHA-256 of the bytes of the mask's PNG, 64 hexadecimal digits.
        saved: for each other file of the image, ``"confidence"`` or ``"cams"``, its number of bytes and its SHA-256.
        shard: name of the .tar in the output folder that contains the mask; None if the mask is a separate file.
        confidence: the mean over the pixels of classes of the score before the CRF or PAR, in [0, 1]; None if there are
            none.
        missing: those of the labels that no pixel of the mask has.
        foreground: the share of the mask's pixels that show a class, in [0, 1]; None where there is no mask, and in
            records of older versions.
        regions: SHA-256 of what the image's regions were read from, 64 hexadecimal digits; None if none were.
        scores: of tags, in [0, 1]: of the labels, where CLIP found them; of all classes, in a run of `clipes tag`.
        time: when the row was written, in seconds since 1970; set by :meth:`Recorder.add`.
    """

    id: str
    status: Status
    reason: str = ""
    labels: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    seconds: float | None = None
    checksum: str | None = None
    saved: Mapping[str, tuple[int, str]] | None = None
    shard: str | None = None
    confidence: float | None = None
    missing: tuple[str, ...] = ()
    foreground: float | None = None
    regions: str | None = None
    scores: Mapping[str, float] | None = None
    time: float = 0.0

    def __post_init__(self) -> None:
        if self.status not in _STATUSES:
            raise ValueError(f"{self.id!r}: the status is {self.status!r}; it is one of {', '.join(_STATUSES)}")

    @property
    def little_foreground(self) -> bool:
        """Whether the image has labels, and the mask shows classes at less than 1 % of its pixels."""
        return bool(self.labels) and self.foreground is not None and self.foreground < LEAST_FOREGROUND

    @property
    def suspect(self) -> bool:
        """Whether the mask does not fit the labels of its image, by the rules of :mod:`clipes.label_rules`."""
        return bool(self.missing) or self.little_foreground

    def is_done(self, labels: tuple[str, ...] | None, masks: bool = True) -> bool:
        """Whether the image is done with these labels (None: those that CLIP found); without ``masks``: at all."""
        if self.status != "ok" or not masks:
            return self.status == "ok"
        return self.checksum is not None and (self.scores is not None if labels is None else self.labels == labels)

    @property
    def nothing_found(self) -> bool:
        """Whether CLIP looked for labels and found none of the list; the mask is all background."""
        return self.scores == {}

    def to_json(self) -> str:
        """The row as one line of ASCII JSON, without the attributes that have their default value.

        Raises ValueError for nan and infinities, which JSON cannot hold.

        >>> Row("a/b", "ok", labels=("dog",), size=(4, 6)).to_json()
        '{"id": "a/b", "status": "ok", "labels": ["dog"], "size": [4, 6]}'
        """
        changed = {name: value for name, value in vars(self).items() if value != _DEFAULTS[name]}
        return json.dumps(changed, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Row:
        """The row that :meth:`to_json` wrote. Raises ValueError for anything else."""
        value = json_object(text)
        wrong = [name for name, item in value.items() if not _VALIDATORS.get(name, lambda item: False)(item)]
        if wrong or not {"id", "status"} <= set(value):
            what = f"{wrong[0]} is {value[wrong[0]]!r}" if wrong else "id or status is missing"
            raise ValueError(f"no row of a record: {what}")
        return cls._from_object(value)

    @classmethod
    def from_checked_json(cls, text: str | bytes) -> Row:
        """The row of a line that :meth:`from_json` has accepted before: a third of its time."""
        return cls._from_object(json.loads(text))

    @classmethod
    def _from_object(cls, value: dict[str, Any]) -> Row:
        for name in ("labels", "size", "missing"):
            if value.get(name) is not None:
                value[name] = tuple(value[name])
        if value.get("saved") is not None:
            value["saved"] = {kind: (size, checksum) for kind, (size, checksum) in value["saved"].items()}
        return cls(**value)


_DEFAULTS = {item.name: item.default for item in fields(Row)}


MAX_TIME = 2.5e11  # the year 9892; datetime ends with 9999


def _is_finite(item: object) -> bool:
    """Whether ``item`` is an int or float that a float can hold, and not nan or an infinity."""
    return isinstance(item, int | float) and not isinstance(item, bool) and abs(item) <= sys.float_info.max


def _is_share(item: object) -> bool:
    return _is_finite(item) and 0 <= cast(float, item) <= 1


def _are_texts(item: object) -> bool:
    return isinstance(item, list) and all(isinstance(text, str) for text in item)


def _is_file_sum(item: object) -> bool:
    return isinstance(item, list) and len(item) == 2 and type(item[0]) is int and isinstance(item[1], str)


_VALIDATORS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("id", "status", "reason", "checksum", "shard", "regions"), lambda item: isinstance(item, str)),
    **dict.fromkeys(("labels", "missing"), _are_texts),
    "size": lambda item: isinstance(item, list) and len(item) == 2 and all(type(side) is int for side in item),
    "saved": lambda item: isinstance(item, dict) and all(map(_is_file_sum, item.values())),
    "seconds": _is_finite,
    **dict.fromkeys(("confidence", "foreground"), _is_share),
    "scores": lambda item: isinstance(item, dict) and all(map(_is_share, item.values())),
    "time": lambda item: _is_finite(item) and 0 <= item < MAX_TIME,
}


def json_object(text: str | bytes) -> dict[str, Any]:
    """The object that a line of JSON holds. ValueError for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"broken JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return value
