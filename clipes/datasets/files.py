"""Images that are files: a single one, or those of a folder, a glob pattern, a .txt list or a table."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from clipes.io.kinds import IMAGE_SUFFIXES, UNREAD_SUFFIXES, read_instead
from clipes.io.paths import as_spelled, split_pattern
from clipes.io.tempdb import temporary_database, transaction
from clipes.io.walk import walk_files

from .sample import DatasetError, LabelRow, RawSample, check_text
from .table_format import DEFAULT_FORMAT, TableFormat
from .tables import READERS, read_lines, read_table
from .unread import is_unread

_SUFFIXES = IMAGE_SUFFIXES | UNREAD_SUFFIXES


def find_files(source: Path, table: TableFormat = DEFAULT_FORMAT) -> Iterator[RawSample]:
    """Yield the images of `source`, in the order of a list or table, otherwise sorted by path.

    Among those of a folder or a pattern are files of kinds that are not read, which the catalogue counts.
    """
    source = Path(as_spelled(str(source)))
    if source.is_dir():
        return (RawSample(name, source / name) for name in walk_files(source, _SUFFIXES))
    if source.is_file() and source.suffix.lower() == ".txt":
        return _relative(source.parent, lambda: _listed(source))
    if source.is_file() and source.suffix.lower() in READERS:
        return _relative(source.parent, lambda: read_table(source, table))
    if source.is_file() and is_unread(source.name):
        cure = read_instead([source.suffix])
        raise DatasetError(f"{source}: an image of a kind that is not read, {source.suffix}; {cure}")
    if source.is_file() and not _is_image(source):
        raise DatasetError(f"{source}: neither an image by its suffix, a .txt list nor a table; name it in a list")
    if source.is_file():
        return iter([RawSample(source.name, source)])
    base, rest = split_pattern(source)
    if rest:
        return _globbed(base, rest)
    raise FileNotFoundError(f"no such image, folder or list: {source}")


def _is_image(path: Path) -> bool:
    hidden = path.name.startswith(".")
    exists = os.path.lexists(path) and not os.path.isdir(path)  # a broken link is an image that cannot be read
    return exists and not hidden and path.suffix.lower() in _SUFFIXES


def _globbed(base: Path, rest: tuple[str, ...]) -> Iterator[RawSample]:
    """Yield the images below `base` that match the parts `rest` of a pattern, named relative to `base`."""
    pattern = os.path.join(glob.escape(str(base)) if base.parts else "", *rest)
    paths = (path for path in glob.iglob(pattern, recursive=True) if _is_image(Path(path)))
    with _Sorted(paths) as ordered:
        for image in _relative(Path(), lambda: (LabelRow(path, (), "") for path in ordered), base):
            yield image._replace(labels=None, listed="")


class _Sorted:
    """Paths in the order of their parts, each once, sorted on disk."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.database = temporary_database()
        self.database.execute("CREATE TABLE path (parts BLOB PRIMARY KEY) WITHOUT ROWID")
        parts = ((os.fsencode(Path(path)).replace(os.fsencode(os.sep), b"\0"),) for path in paths)
        with transaction(self.database, "the list of images"):
            self.database.executemany("INSERT OR IGNORE INTO path VALUES (?)", parts)

    def __iter__(self) -> Iterator[str]:
        for (parts,) in self.database.execute("SELECT parts FROM path ORDER BY parts"):
            yield os.fsdecode(parts.replace(b"\0", os.fsencode(os.sep)))

    def __enter__(self) -> _Sorted:
        return self

    def __exit__(self, *error: object) -> None:
        self.database.close()


def _listed(source: Path) -> Iterator[LabelRow]:
    """Yield the images that a list file names."""
    for line, content in enumerate(read_lines(source), start=1):
        name = content.strip()
        if name and not name.startswith("#"):
            yield LabelRow(name, (), f"{source}, line {line}")


def _relative(folder: Path, rows: Callable[[], Iterable[LabelRow]], base: Path | None = None) -> Iterator[RawSample]:
    """Yield the images of rows, whose paths are relative to `folder`.

    They are named relative to `base` (None: `folder`), or to the folder that contains them all if one lies outside.
    """
    base_path = os.path.join(folder, "")  # strings, because a Path for each would take most of the time
    root = os.path.abspath(folder if base is None else base)
    if base is not None or any(os.path.isabs(row.image) or ".." in row.image for row in rows()):
        root = _common_folder(base_path, (row.image for row in rows()), root)
    start = len(os.path.join(root, ""))
    for row in rows():
        check_text(row.image, row.origin or row.image)
        path = os.path.join(base_path, row.image)
        name = os.path.abspath(path)[start:].replace(os.sep, "/")
        yield RawSample(name, Path(path), row.labels, row.origin, row.origin)


def _common_folder(base_path: str, names: Iterable[str], root: str) -> str:
    """Return `root`, or the folder that contains all images if one lies outside; names are relative to `base_path`."""
    inside, outside, common, last = os.path.join(root, ""), False, "", ""
    for name in names:
        parent = os.path.dirname(os.path.abspath(os.path.join(base_path, name.replace("\0", ""))))
        if parent == last:
            continue
        last = parent
        common = os.path.commonpath([common, parent]) if common else parent
        outside = outside or not os.path.join(parent, "").startswith(inside)
    return common if outside else root
