"""The files below a folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator


def walk_files(folder: str | os.PathLike[str], suffixes: Collection[str], skip: Collection[str] = ()) -> Iterator[str]:
    """Yield the relative names, with forward slashes, of the files below ``folder`` that have one of ``suffixes``.

    Each folder is sorted by name. Suffixes are given in lower case and match any case. Hidden files and folders are
    left out, as are the folders named in ``skip`` directly below ``folder``. Links are followed, except back into a
    folder above. Raises OSError for a folder that cannot be read.
    """
    return _walk(os.fspath(folder), "", suffixes, skip, frozenset())


def _walk(
    folder: str, prefix: str, suffixes: Collection[str], skip: Collection[str], parents: frozenset[str]
) -> Iterator[str]:
    resolved = os.path.realpath(folder)
    if resolved in parents:
        return
    with os.scandir(folder) as scanned:
        entries = sorted(scanned, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.startswith(".") or (not prefix and entry.name in skip):
            continue
        matches = os.path.splitext(entry.name)[1].lower() in suffixes
        if matches and entry.is_file(follow_symlinks=False):
            yield prefix + entry.name
        elif os.path.isdir(entry.path):
            yield from _walk(entry.path, f"{prefix}{entry.name}/", suffixes, skip, parents | {resolved})
        elif matches:  # a link, which may be broken: the reader reports that
            yield prefix + entry.name
