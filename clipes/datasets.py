"""Which images there are: folders, globs, list files; each with the labels of its row of a table.

Nothing is decoded here: a sample holds the image's path, and whoever takes it opens it.
"""

from __future__ import annotations

import glob
import itertools
import os
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clipes.image import IMAGE_SUFFIXES, TarMember
from clipes.labels import AnyPath, DatasetError, LabelRow, Rows, clean_labels, read_rows, read_text


@dataclass(frozen=True)
class Sample:
    """One image and its labels.

    `id` is its relative path without the suffix, with forward slashes (`cats/a`), unique in its data set,
    never absolute and free of `..`; its mask is called `f"{id}.png"`. `origin` says where the labels were
    read (`labels.csv, line 7`), for messages; empty when they were passed as a list.
    """

    id: str
    image: Path | TarMember
    labels: tuple[str, ...]
    origin: str = field(default="", compare=False)


def find_samples(source: AnyPath, labels: AnyPath | Sequence[str]) -> list[Sample]:
    """Return the samples of `source`, in the order of a list file, otherwise sorted by path.

    `source` is an image, a folder (searched with its sub-folders; hidden files and other suffixes are left
    out), a glob pattern, or a .txt list: one image path per line, relative to the list, blank lines and `#`
    lines ignored. Ids are relative to the folder, to the pattern's fixed part or to the list's folder; when
    a list names images outside its folder, to the folder that contains them all.

    `labels` is a labels file (see :func:`read_rows`) or the names that every image has. A row belongs to
    the image whose relative path it is; otherwise to the image whose full path ends with it, when there is
    just one. The suffix may be left out. Rows without an image are fine.

    Raises FileNotFoundError for a missing source or labels file, and DatasetError for a source without
    images, images with one id, a missing image in a list, a malformed labels file, images without a row.
    """
    names, images = _named_images(Path(source))
    if isinstance(labels, str | os.PathLike):
        rows = _match(names, images, read_rows(labels))
    else:
        rows = [LabelRow(clean_labels(labels, "labels"), "")] * len(images)
    return [Sample(_without_suffix(name), path, *row) for name, path, row in zip(names, images, rows, strict=True)]


def find_images(source: AnyPath) -> dict[str, Path]:
    """The images of ``source`` by their ids; sources and errors as in :func:`find_samples`."""
    names, images = _named_images(Path(source))
    return {_without_suffix(name): path for name, path in zip(names, images, strict=True)}


def _named_images(source: Path) -> tuple[list[str], list[Path]]:
    base, images = _find_images(source)
    return _names(base, images), images


def _find_images(source: Path) -> tuple[Path, list[Path]]:
    """Return the folder that ids are relative to, and the images in order."""
    if source.is_dir():
        base, images = source, sorted(_walk(source, frozenset()))
    elif source.is_file() and source.suffix.lower() == ".txt":
        base, images = source.parent, list(_listed(source))
    elif source.is_file() and not _is_image(source):
        raise DatasetError(f"{source}: neither an image by its suffix nor a .txt list; name it in a list")
    elif source.is_file():
        base, images = source.parent, [source]
    elif glob.has_magic(str(source)):
        base = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), source.parts))
        images = sorted(path for path in map(Path, glob.glob(str(source), recursive=True)) if _is_image(path))
    else:
        raise FileNotFoundError(f"no such image, folder or list: {source}")
    if not images:
        raise DatasetError(f"{source}: no image found; known are {' '.join(sorted(IMAGE_SUFFIXES))}")
    return base, images


def _is_image(path: Path) -> bool:
    hidden = path.name.startswith(".")
    there = os.path.lexists(path) and not os.path.isdir(path)  # a broken link is an image that cannot be read
    return there and not hidden and path.suffix.lower() in IMAGE_SUFFIXES


def _walk(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    """Yield the images under `folder`; links are followed, except back into a folder above."""
    here = os.path.realpath(folder)
    if here in above:
        return
    for path in folder.iterdir():
        if _is_image(path):
            yield path
        elif path.is_dir() and not path.name.startswith("."):
            yield from _walk(path, above | {here})


def _listed(source: Path) -> Iterator[Path]:
    """Yield the images that a list file names, each once."""
    seen: set[Path] = set()
    for line, content in enumerate(read_text(source).split("\n"), start=1):
        name = content.strip()
        if not name or name.startswith("#"):
            continue
        path = source.parent / name
        if not os.path.isfile(path):  # unlike Path.is_file, no error for a name that is too long
            raise DatasetError(f"{source}, line {line}: no such image: {name!r} (looked for {path})")
        if path not in seen:
            seen.add(path)
            yield path


def _names(base: Path, images: Sequence[Path]) -> list[str]:
    """Return each path from `base`, or from a folder above all; DatasetError when only a suffix differs."""
    full = [os.path.abspath(path) for path in images]
    names = [Path(os.path.relpath(path, base)) for path in full]
    if any(name.parts[0] == ".." for name in names):
        common = os.path.commonpath([os.path.dirname(path) for path in full])
        names = [Path(os.path.relpath(path, common)) for path in full]
    ids: dict[str, Path] = {}
    for name, path in zip(names, images, strict=True):
        other = ids.setdefault(_without_suffix(name.as_posix()), path)
        if other is not path:
            raise DatasetError(f"{other} and {path} would both become one mask; rename or remove one")
    return [name.as_posix() for name in names]


def _without_suffix(name: str) -> str:
    """Return `name` less an image suffix; `2007.v2` keeps its dot."""
    stem, suffix = posixpath.splitext(name)
    return stem if suffix.lower() in IMAGE_SUFFIXES else name


def _match(names: Sequence[str], images: Sequence[Path], rows: Rows) -> list[LabelRow]:
    """Return the row of each image; DatasetError when one has none."""
    keys = [_lookup(name, rows) for name in names]
    taken = set(keys)
    claims: dict[str, list[int]] = {}
    for index, path in enumerate(images):
        if keys[index] is None:
            full = Path(os.path.abspath(path)).as_posix()
            starts = [0, *(i + 1 for i, letter in enumerate(full) if letter == "/")]
            key = next(filter(None, (_lookup(full[start:], rows) for start in starts)), None)
            if key is not None and key not in taken:
                claims.setdefault(key, []).append(index)
    for key, claimants in claims.items():
        if len(claimants) == 1:
            keys[claimants[0]] = key
    missing = [name for name, key in zip(names, keys, strict=True) if key is None]
    if missing:
        shared = [key for key, claimants in claims.items() if len(claimants) > 1]
        raise DatasetError(_unmatched(missing, shared, rows))
    return [rows[key] for key in keys if key is not None]


def _lookup(name: str, rows: Rows) -> str | None:
    """Return the spelling of `name`, with or without suffix, that has a row; DatasetError on two answers."""
    found = [key for key in dict.fromkeys([name, _without_suffix(name)]) if key in rows]
    if len({frozenset(rows[key].labels) for key in found}) > 1:
        origins = " and ".join(rows[key].origin for key in found)
        raise DatasetError(f"{origins}: different labels for {name!r}; remove one of the rows")
    return found[0] if found else None


def _unmatched(missing: list[str], shared: list[str], rows: Rows) -> str:
    names = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
    if shared:
        cure = f"{rows[shared[0]].origin}, {shared[0]!r}, fits several of them: write the folders too"
    else:
        key, row = next(iter(rows.items()))
        cure = f"add rows, or spell the names as they are ({row.origin} names {key!r})"
    return f"{len(missing)} image(s) without a row in the labels file: {names}; {cure}"
