"""Whether an image's files are still those that its row was written for."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

from clipes.io.atomic import owned
from clipes.io.images import TarMember
from clipes.io.masks import check_size, read_ids
from clipes.io.retry import LastingTrouble, retried

from .layout import Kind
from .row import Row


def checksum(path: Path | TarMember) -> str:
    """SHA-256 of a file's bytes. ValueError for what is no file, OSError where it cannot be read."""
    if isinstance(path, Path) and not path.is_file():  # a named pipe would be waited for
        raise ValueError(f"{path}: not a file")
    file, read = (path.tar, path.read) if isinstance(path, TarMember) else (path, path.read_bytes)
    return hashlib.sha256(retried(read, file.parent)).hexdigest()


def is_intact(files: Mapping[Kind, Path | TarMember], row: Row, classes: Callable[[], int]) -> bool:
    """Whether the mask has the checksum of its row, and the other files have its sizes. ``classes`` is asked how
    many there are where the mask was edited, as :func:`is_edited` needs to know.

    Raises :class:`clipes.io.retry.LastingTrouble` where that cannot be decided, because the folder does not answer.
    """
    try:
        if not all(has_size(path, row, kind) for kind, path in files.items() if kind != "mask"):
            return False
        return checksum(files["mask"]) == row.checksum or is_edited(files["mask"], row, classes())
    except LastingTrouble:
        raise
    except (ValueError, OSError):
        return False


def size_of(path: Path | TarMember) -> int:
    """The number of bytes of a file. OSError for one that does not exist."""
    return path.size if isinstance(path, TarMember) else path.stat().st_size


def has_size(path: Path | TarMember, row: Row, kind: Kind) -> bool:
    """Whether a file exists and has the size that its row says; older rows say none."""
    if isinstance(path, Path) and not path.is_file():
        return False
    size = size_of(path)
    expected, _ = (row.saved or {}).get(kind, (size, ""))
    return size == expected


def verified(path: Path | TarMember, row: Row, kind: Kind) -> Path | TarMember:
    """``path``, the file of a row. ValueError for one that has changed since the row was written."""
    _, expected = (row.saved or {}).get(kind, (0, ""))
    if expected and (isinstance(path, TarMember) or path.is_file()) and checksum(path) != expected:
        raise ValueError(f"{path} has changed since the run wrote it; start the run again, which makes it again")
    return path


def is_edited(path: Path | TarMember, row: Row, classes: int) -> bool:
    """Whether other software has saved the mask of a row again, whole; it is kept, with a warning.

    Raises ValueError for a mask that is broken or of another size.
    """
    if isinstance(path, TarMember) or owned(path, "mask"):
        return False
    ids = read_ids(path, classes)
    if row.size is not None:
        check_size(ids.shape, path, row.size, "its record")
    warnings.warn(
        f"{path} was edited since the run wrote it, and is kept; delete it to have it made again", stacklevel=2
    )
    return True
