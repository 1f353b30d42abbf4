"""Paths: names that every file system takes, and which files a source of images would match."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path

MAX_NAME = 250
"""The longest name of a file that is written, in bytes; most file systems end at 255."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def check_name(name: str, suffix: str = "") -> None:
    """Raise ValueError if ``name`` and ``suffix`` cannot be a relative path below any folder; the message is a cause.

    Refused are control characters, empty parts, ``.`` and ``..``, absolute paths, what a file system cannot encode,
    and parts of more than ``MAX_NAME`` bytes.
    """
    if _CONTROL.search(name):
        raise ValueError("it holds a control character")
    parts = name.split("/")
    if not {"", ".", ".."}.isdisjoint(parts) or os.path.isabs(name):
        raise ValueError("it is no relative path free of '.' and '..'")
    try:
        longest = max(len(part.encode("utf-8", "surrogateescape")) for part in (*parts[:-1], f"{parts[-1]}{suffix}"))
    except UnicodeEncodeError as error:
        raise ValueError(f"it cannot be the name of a file: {error.reason}") from error
    if longest > MAX_NAME:
        raise ValueError(f"a part of it would be {longest} bytes long, above {MAX_NAME}")


def inside(path: Path, folder: str | os.PathLike[str]) -> Path:
    """Return ``path``; raise ValueError if a link leads it out of ``folder``."""
    if not path.parent.resolve().is_relative_to(Path(folder).resolve()):
        raise ValueError(f"{path} leads out of the output folder through a link; remove the link")
    return path


def source_would_match(source: Path) -> Callable[[Path], bool]:
    """Return a function that says whether a resolved path would be among the images of a folder or a pattern."""
    if source.is_dir():
        root = source.resolve()
        return lambda path: path.is_relative_to(root)
    if source.exists() or not glob.has_magic(str(source)):
        return lambda path: False
    fixed = list(takewhile(lambda part: not glob.has_magic(part), source.parts))
    base, rest = Path(*fixed).resolve(), source.parts[len(fixed) :]
    if "**" in rest:
        return lambda path: path.is_relative_to(base) and path.match(rest[-1])
    pattern = os.sep.join((glob.escape(str(base)), *rest))
    return lambda path: path.match(pattern)


def source_folder(source: str) -> Path | None:
    """The folder that a source is, the ROOT of ``voc:`` and ``coco:``, the folder of ``coco:``'s FILE; else None."""
    if os.path.isdir(source):
        return Path(source)
    kind, _, root = source.partition(":")
    while kind in ("voc", "coco") and root:
        if os.path.isdir(root):
            return Path(root)
        if os.path.isfile(root):
            return Path(root).parent
        root = root.rpartition(":")[0]
    return None
