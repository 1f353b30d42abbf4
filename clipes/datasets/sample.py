"""The samples of a data set, and the raw samples and rows of labels that readers yield."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from clipes.io.images import TarMember
from clipes.io.kinds import IMAGE_SUFFIXES

AnyPath: TypeAlias = str | os.PathLike[str]
AnySource: TypeAlias = AnyPath | Sequence[AnyPath]
AnyImage: TypeAlias = Path | TarMember
Unlabelled: TypeAlias = Literal["refuse", "skip", "tag"]

TAG = "tag"
"""In place of a labels file: the labels of all images are to be found by CLIP."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MAX_NAME_BYTES = 250  # bytes; most file systems end at 255


class DatasetError(ValueError):
    """Images or labels that do not make a data set; the message names the file and the line."""


class RegionPlace(NamedTuple):
    """Where the regions of an image are: a file or folder, and what it says of the image where it is of many."""

    path: Path
    entry: str | None = None


@dataclass(frozen=True)
class Sample:
    """One image and its labels.

    `id` is its relative path without the suffix, with forward slashes (`cats/a`), unique in its data set,
    never absolute and free of `..`; its mask is called `f"{id}.png"`. `origin` says where the labels were
    read (`labels.csv, line 7`), for messages; empty when they were passed as a list. `regions` is where the image's
    regions are, if it has any. `unlabelled` is whether its labels are not known, so that CLIP is to find them.
    """

    id: str
    image: AnyImage
    labels: tuple[str, ...]
    origin: str = field(default="", compare=False)
    regions: RegionPlace | None = field(default=None, kw_only=True)
    unlabelled: bool = field(default=False, kw_only=True)


class RawSample(NamedTuple):
    """An image as a reader yields it.

    `name` is its id with the image's suffix. `labels` is None where the source has none; `origin` says where they
    were read. `listed` says where a list or table names the image, which may not exist; it is empty for an image that
    was found on the disk.
    """

    name: str
    image: AnyImage
    labels: tuple[str, ...] | None = None
    origin: str = ""
    listed: str = ""


class LabelRow(NamedTuple):
    """The name of an image as a labels file spells it, its labels, and where they were read: `labels.csv, line 7`."""

    image: str
    labels: tuple[str, ...]
    origin: str


def without_suffix(name: str) -> str:
    """Return `name` without an image suffix; `2007.v2` keeps its dot."""
    stem, suffix = posixpath.splitext(name)
    return stem if suffix.lower() in IMAGE_SUFFIXES else name


def check_text(name: str, where: str) -> None:
    """Raise DatasetError for a name with a NUL or another control character."""
    if _CONTROL.search(name):
        raise DatasetError(f"{where}: {name!r} holds a control character; rename the image")


def check_id(sample_id: str, where: str) -> None:
    """Raise DatasetError for an id that cannot name a mask inside the output folder."""
    check_text(sample_id, where)
    parts = sample_id.split("/")
    if not {"", ".", ".."}.isdisjoint(parts) or os.path.isabs(sample_id):
        raise DatasetError(
            f"{where}: the id {sample_id!r} is not a relative path without '.' and '..'; rename the image"
        )
    try:
        longest = max(len(part.encode("utf-8", "surrogateescape")) for part in (*parts[:-1], f"{parts[-1]}.png"))
    except UnicodeEncodeError as error:
        raise DatasetError(f"{where}: {sample_id!r} cannot be the name of a file: {error.reason}") from error
    if longest > _MAX_NAME_BYTES:
        shown = f"{sample_id[:40]}..."
        raise DatasetError(
            f"{where}: a part of {shown!r} would be {longest} bytes long, above {_MAX_NAME_BYTES}; shorten it"
        )


def clean_labels(labels: Iterable[str], where: str) -> tuple[str, ...]:
    """Return the labels without surrounding space or repeats, in order.

    Raises DatasetError for a blank label and for what is not a string.
    """
    labels = list(labels)
    if not all(isinstance(label, str) for label in labels):
        raise DatasetError(f"{where}: {labels!r} is not a list of strings")
    stripped = [label.strip() for label in labels]
    if "" in stripped:
        raise DatasetError(f"{where}: label {stripped.index('') + 1} of {len(stripped)} is blank; remove it")
    return tuple(dict.fromkeys(stripped))
