"""Whether an image's files are still those that its row was written for."""

from __future__ import annotations

import hashlib
import os
import stat
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeAlias

from clipes.io.atomic import owned
from clipes.io.images import TarMember
from clipes.io.masks import check_size, read_ids
from clipes.io.retry import LastingTrouble, retried

from .layout import Kind
from .row import Row

AnyFile: TypeAlias = str | os.PathLike[str] | TarMember
"""A file, or one inside a .tar. A string is the quickest: a start checks a million masks."""

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # a named pipe is not waited for
_BLOCK = 1 << 20  # bytes read at a time


def checksum(path: AnyFile) -> str:
    """SHA-256 of a file's bytes. ValueError for what is no file, OSError where it cannot be read."""
    if isinstance(path, TarMember):
        return hashlib.sha256(retried(path.read, path.tar)).hexdigest()
    name = os.fspath(path)
    return retried(partial(_file_checksum, name), name)


def _file_checksum(name: str) -> str:
    file = os.open(name, _FLAGS)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise ValueError(f"{name}: not a file")
        found = hashlib.sha256()
        while data := os.read(file, _BLOCK):
            found.update(data)
        return found.hexdigest()
    finally:
        os.close(file)


def are_there(row: Row, kinds: Iterable[Kind], place: Callable[[Kind], AnyFile]) -> bool:
    """Whether an image's files of some kinds have the sizes of its row; ``place`` and errors as of `is_intact`."""
    try:
        return all(has_size(place(kind), row, kind) for kind in kinds)
    except LastingTrouble:
        raise
    except (ValueError, OSError):
        return False


def is_intact(row: Row, kinds: Iterable[Kind], place: Callable[[Kind], AnyFile], classes: Callable[[], int]) -> bool:
    """Whether the mask has the checksum of its row, and the files of the other ``kinds`` have its sizes.

    ``place`` says where a file is, or raises ValueError. ``classes`` is asked how many there are where the mask was
    edited, as :func:`is_edited` needs to know.

    Raises :class:`clipes.io.retry.LastingTrouble` where that cannot be decided, because the folder does not answer.
    """
    if not are_there(row, kinds, place):
        return False
    try:
        mask = place("mask")
        return checksum(mask) == row.checksum or is_edited(mask, row, classes())
    except LastingTrouble:
        raise
    except (ValueError, OSError):
        return False


def size_of(path: AnyFile) -> int:
    """The number of bytes of a file. ValueError for what is no file, OSError for one that does not exist."""
    if isinstance(path, TarMember):
        return path.size
    name = os.fspath(path)
    about = retried(partial(os.stat, name), name)
    if not stat.S_ISREG(about.st_mode):
        raise ValueError(f"{name}: not a file")
    return about.st_size


def has_size(path: AnyFile, row: Row, kind: Kind) -> bool:
    """Whether a file exists and has the size that its row says; older rows say none.

    Raises :class:`clipes.io.retry.LastingTrouble` where its folder does not answer.
    """
    try:
        size = size_of(path)
    except LastingTrouble:
        raise
    except (ValueError, OSError):
        return False
    expected, _ = (row.saved or {}).get(kind, (size, ""))
    return size == expected


def verified(path: Path | TarMember, row: Row, kind: Kind) -> Path | TarMember:
    """``path``, the file of a row. ValueError for one that has changed since the row was written."""
    _, expected = (row.saved or {}).get(kind, (0, ""))
    if expected and (isinstance(path, TarMember) or path.is_file()) and checksum(path) != expected:
        raise ValueError(f"{path} has changed since the run wrote it; start the run again, which makes it again")
    return path


def is_edited(file: AnyFile, row: Row, classes: int) -> bool:
    """Whether other software has saved the mask of a row again, whole; it is kept, with a warning.

    Raises ValueError for a mask that is broken or of another size.
    """
    if isinstance(file, TarMember) or owned(path := Path(file), "mask"):
        return False
    ids = read_ids(path, classes)
    if row.size is not None:
        check_size(ids.shape, path, row.size, "its record")
    warnings.warn(
        f"{path} was edited since the run wrote it, and is kept; delete it to have it made again", stacklevel=2
    )
    return True
