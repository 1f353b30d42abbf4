"""The folder of a run: what its files are called and where they lie.

``run.json``, ``classes.json``, ``records/*.jsonl``; the masks ``ID.png`` and beside them ``confidence/ID.png`` and
``cams/ID.npz``, or instead ``masks-*.tar`` with the members of all kinds.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from clipes.ids import CLASSES, MANIFEST
from clipes.io.atomic import PROCESS_NAME
from clipes.io.paths import check_inside, check_name

Kind = Literal["mask", "confidence", "cams", "patches"]
"""The kinds of files that an image can have; ``patches`` in a .tar alone."""

RECORDS = "records"

SAVED: dict[Kind, str] = {"confidence": ".png", "cams": ".npz"}
"""The kinds that are optional: the folders beside the masks, and the suffixes of their files."""

MEMBERS = {
    "mask": "png",
    "confidence": "confidence.png",
    "cams": "cams.npz",
    "patches": "patches.npz",
    "about": "json",
}
"""What the members of an image in a .tar end in; ``about`` holds id, labels and size."""

RESERVED = (MANIFEST, CLASSES, RECORDS, *SAVED)
"""The names in the folder that no mask may have."""

_WRITER = rf"\d{{8}}T\d{{6}}\.\d{{6}}-{PROCESS_NAME}-[0-9a-f]{{8}}"  # when, where and in which process it began

RECORD_FILE = re.compile(rf"{_WRITER}\.jsonl")
"""The names of records, one a worker."""

HAND_FILE = re.compile(rf"{_WRITER}\.hand")
"""The names of files that say what a worker has in hand, beside its record."""

MANIFEST_COPY = f"{RECORDS}/{MANIFEST}"
"""A second ``run.json``, with the same bytes, from which ``clipes repair`` writes the first again."""

DAMAGED = ".damaged"
"""What follows the name of a file that ``clipes repair`` has set aside."""

TAR_FILE = re.compile(rf"masks-{_WRITER}-\d{{6}}\.tar")
"""The names of .tar files, which have that of their worker's record."""


class FilePaths:
    """The paths of the files of many images in ``folder``, asked within a moment: each folder is looked at once."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = os.fspath(Path(folder))
        self._inside: set[str] = set()

    def get(self, image_id: str, kind: Kind = "mask") -> str:
        """The file of an image: ``FOLDER/ID.png``, ``FOLDER/confidence/ID.png`` or ``FOLDER/cams/ID.npz``.

        Raises ValueError for an id that cannot be a file's name in the folder, or that a link leads out of it.
        """
        check_id(image_id)
        name = f"{image_id}.png" if kind == "mask" else f"{kind}/{image_id}{SAVED[kind]}"
        path = os.path.join(self._folder, name)
        if (parent := os.path.dirname(path)) not in self._inside:
            check_inside(path, self._folder)
            self._inside.add(parent)
        return path


def file_path(folder: str | os.PathLike[str], image_id: str, kind: Kind = "mask") -> Path:
    """The file of one image; see :meth:`FilePaths.get`."""
    return Path(FilePaths(folder).get(image_id, kind))


def check_id(image_id: str) -> None:
    """Raise ValueError for an id that is no relative path, or whose mask would have too long a name."""
    try:
        check_name(image_id, ".png")
    except ValueError as error:
        raise ValueError(f"the id {image_id[:80]!r} cannot name a mask: {error}; rename the image") from error


def member_name(image_id: str, kind: str) -> str:
    """The name of an image's member in a .tar, of one of the kinds of ``MEMBERS``."""
    return f"{tar_key(image_id)}.{MEMBERS[kind]}"


def tar_key(image_id: str) -> str:
    """The key of an image's members. WebDataset ends a key at the first dot of the name, so dots are escaped.

    >>> tar_key("cats.v2/photo.1")
    'cats.v2/photo%2E1'
    """
    folder, slash, name = image_id.rpartition("/")
    return f"{folder}{slash}{name.replace('%', '%25').replace('.', '%2E')}"
