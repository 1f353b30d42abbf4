"""Paths: names that every file system takes, and which files a source of images would match."""

from __future__ import annotations

import glob
import os
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

MAX_NAME = 250
"""The longest name of a file that is written, in bytes; most file systems end at 255."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_PLAIN = re.compile(r"(?:[\w-][\w.-]*/)*[\w-][\w.-]*", re.ASCII)


def check_name(name: str, suffix: str = "") -> None:
    """Raise ValueError if ``name`` and ``suffix`` cannot be a relative path below any folder; the message is a cause.

    Refused are control characters, empty parts, ``.`` and ``..``, absolute paths, what a file system cannot encode,
    and parts of more than ``MAX_NAME`` bytes.
    """
    if len(name) + len(suffix) <= MAX_NAME and _PLAIN.fullmatch(name):
        return  # most names, which a million of are checked at a start
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


def check_inside(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> None:
    """Raise ValueError if a link leads ``path`` out of ``folder``."""
    parent = os.path.dirname(path)
    if _has_link(os.fspath(parent), os.fspath(folder)) and not resolved(parent).is_relative_to(resolved(folder)):
        raise ValueError(f"{path} leads out of the output folder through a link; remove the link")


def resolved(path: str | os.PathLike[str]) -> Path:
    """The absolute path without links; a link that leads back to itself stays, where ``Path.resolve`` may raise."""
    return Path(os.path.realpath(path))


def _has_link(inner: str, folder: str) -> bool:
    """Whether a part of ``inner`` below ``folder`` is a link, or ``inner`` is not written as a path below it.

    It costs a look at each of these parts, where resolving both looks at every folder from the root on.
    """
    if inner == folder:
        return False
    base = f"{folder.rstrip(os.sep)}{os.sep}"
    parts = inner.removeprefix(base).split(os.sep)
    if not inner.startswith(base) or os.pardir in parts:
        return True
    places = (f"{base}{os.sep.join(parts[:count])}" for count in range(1, len(parts) + 1))
    return any(map(os.path.islink, places))


def split_pattern(source: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder that a pattern begins with, and its other parts; there are none in a path without wildcards.

    A part that exists as it is written, such as a folder called ``photos [2024]``, is no pattern.
    """
    base = Path()
    for place, part in enumerate(source.parts):
        if glob.has_magic(part) and not os.path.lexists(base / part):
            return base, source.parts[place:]
        base /= part
    return base, ()


def spellings(name: str) -> tuple[str, ...]:
    """A name as it is written, and in the composed and the decomposed form of Unicode."""
    return name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))


def as_spelled(path: str) -> str:
    """The path as the disk spells it, if it does not exist as written, but in another form of Unicode; else ``path``.

    macOS writes an accent as a character of its own (NFD), most others as a part of the letter (NFC).
    """
    if path.isascii() or os.path.lexists(path):
        return path
    found = ""
    for part in Path(path).parts:
        found = next((place for one in spellings(part) if os.path.lexists(place := os.path.join(found, one))), "")
        if not found:
            return path
    return found


def list_sources(source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> tuple[str, ...]:
    """The sources that one or several are. Raises ValueError for none."""
    if isinstance(source, str | os.PathLike):
        return (os.fspath(source),)
    if not source:
        raise ValueError("no source is given; give a folder of images, or another source")
    return tuple(os.fspath(one) for one in source)


def source_text(source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> str:
    """A source for a message; of several the first and their number."""
    first, *others = list_sources(source)
    return f"{first} and {len(others)} more" if others else first


def source_would_match(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> Callable[[Path], bool]:
    """Return a function that says whether a resolved path would be among the images of a folder or a pattern.

    Several images may come from a pattern without quotation marks, which matches their suffixes in their folders.
    """
    sources = list_sources(source)
    if len(sources) == 1:
        return _would_match(Path(sources[0].removeprefix("folders:")))
    folders = [_would_match(Path(one)) for one in sources if os.path.isdir(one)]
    files = {(resolved(Path(one).parent), Path(one).suffix) for one in sources if not os.path.isdir(one)}
    return lambda path: (path.parent, path.suffix) in files or any(matches(path) for matches in folders)


def _would_match(source: Path) -> Callable[[Path], bool]:
    if source.is_dir():
        root = resolved(source)
        return lambda path: path.is_relative_to(root)
    fixed, rest = split_pattern(source)
    if not rest:
        return lambda path: False
    base = resolved(fixed)
    if "**" in rest:
        return lambda path: path.is_relative_to(base) and path.match(rest[-1])
    pattern = os.sep.join((glob.escape(str(base)), *rest))
    return lambda path: path.match(pattern)


def existing_folders(source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> tuple[Path, ...]:
    """The folders, absolute, in which the images of a source, or of several, are looked for, as far as they exist."""
    found = (source_folder(one) or split_pattern(Path(one))[0] for one in list_sources(source))
    folders = (Path(os.path.abspath(path.parent if path.is_file() else path)) for path in found)
    return tuple(dict.fromkeys(folder for folder in folders if folder.is_dir()))


def source_folder(source: str) -> Path | None:
    """The folder that a source is, ROOT of ``voc:``, ``coco:``, ``folders:``, that of ``coco:``'s FILE, or None."""
    if os.path.isdir(source):
        return Path(source)
    kind, _, root = source.partition(":")
    while kind in ("voc", "coco", "folders") and root:
        if os.path.isdir(root):
            return Path(root)
        if os.path.isfile(root):
            return Path(root).parent
        root = root.rpartition(":")[0]
    return None
