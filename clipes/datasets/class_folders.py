"""A folder for each class: `ROOT/cat/1.jpg` is an image of a cat."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clipes.io.kinds import IMAGE_SUFFIXES, UNREAD_SUFFIXES
from clipes.io.paths import as_spelled
from clipes.io.walk import walk_files

from .sample import DatasetError, RawSample, clean_labels


def read_class_folders(given: str) -> Iterator[RawSample]:
    """Yield the images below the folder `given`, sorted by path; each has one label, the name of the first folder.

    Folders below that are searched, too. Raises FileNotFoundError where there is no such folder, DatasetError for an
    image that lies in no folder of a class.
    """
    root = Path(as_spelled(given))
    if not root.is_dir():
        raise FileNotFoundError(f"folders: no such folder: {given!r}; write folders:ROOT, with ROOT/cat/1.jpg in it")
    for name in walk_files(root, IMAGE_SUFFIXES | UNREAD_SUFFIXES):
        label, slash, _ = name.partition("/")
        if not slash:
            raise DatasetError(
                f"{root / name}: lies in no folder of a class, such as {root / 'cat' / name}; move it, or give "
                "a labels file and the folder itself as the source"
            )
        yield RawSample(name, root / name, clean_labels([label], str(root / label)), str(root / label))
