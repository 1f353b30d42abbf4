"""The folder that an export goes to: whole or absent, and nobody else's."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from clipes.preflight import finder
from clipes.writer import HOST, is_alive, write_json

MARK = ".clipes-export"
"""The file that marks a folder as an export, with what was exported."""

_TEMPORARY = re.compile(r"\.clipes-export-(?P<host>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{16}")


def check_place(out: Path, run: Path, source: str, overwrite: bool) -> None:
    """Refuse a folder that is not ours to write: that of the run or the source, through links too, or with files.

    Raises ValueError. An empty folder will do, and with ``overwrite`` an earlier export to which nothing was added.
    """
    place = out.resolve()
    for folder, what in ((run, "the run's folder"), (_source_folder(source), "the source's folder")):
        if folder is not None and (_within(place, folder.resolve()) or _within(folder.resolve(), place)):
            raise ValueError(f"{out} is in {what}, or holds it ({folder}); choose another folder for the export")
    if finder(Path(source))(place):
        raise ValueError(f"{out} would be among the images of {source}; choose another folder for the export")
    if out.is_symlink():
        raise ValueError(f"{out} is a link, which is not written over; give the folder itself, or another")
    if not os.path.lexists(out) or (out.is_dir() and not os.listdir(out)):
        return
    if not out.is_dir() or not (out / MARK).is_file():
        raise ValueError(f"{out} exists and is no earlier export; choose another folder, or move it away")
    if not overwrite:
        raise ValueError(f"{out} holds an earlier export; choose another folder, or replace it with --overwrite")
    if others := sorted(set(os.listdir(out)) - {MARK, *_entries(out / MARK)}):
        raise ValueError(f"{out} holds {others[0]!r}, which no export wrote; move it away before --overwrite")


@contextmanager
def beside(out: Path) -> Iterator[Path]:
    """Yield a new, empty folder beside ``out``, removed at the end unless :func:`settle` has moved it.

    What a killed export left there is removed, too.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    _sweep(out.parent)
    new = _hidden(out)
    new.mkdir()
    try:
        yield new
    finally:
        shutil.rmtree(new, ignore_errors=True)


def settle(new: Path, out: Path, about: Mapping[str, Any]) -> None:
    """Mark the folder ``new`` as an export, with ``about``, and make it ``out``, in the place of what is there."""
    write_json(new / MARK, {**about, "entries": sorted(os.listdir(new))})
    if hasattr(os, "sync"):
        os.sync()  # all files at once, before the folder's name says that they are there
    old = _hidden(out)
    if out.is_dir():
        os.rename(out, old)
    try:
        os.rename(new, out)
    except BaseException:
        if old.is_dir():
            os.rename(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _hidden(out: Path) -> Path:
    return out.parent / f".clipes-export-{HOST}-{os.getpid()}-{secrets.token_hex(8)}"


def _entries(mark: Path) -> list[str]:
    try:
        found = json.loads(mark.read_text(encoding="utf-8"))["entries"]
        return [str(name) for name in found]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{mark} is not of an export: {error}; choose another folder") from error


def _sweep(folder: Path) -> None:
    for name in os.listdir(folder):
        match = _TEMPORARY.fullmatch(name)
        if match and match["host"] == HOST and os.name == "posix" and not is_alive(int(match["process"])):
            with suppress(OSError):
                shutil.rmtree(folder / name)


def _source_folder(source: str) -> Path | None:
    """The folder that a source is, voc:'s and coco:'s ROOT; None for lists, patterns and files."""
    root = re.sub("^(voc|coco):", "", source)
    while root and not os.path.isdir(root):
        root = root.rpartition(":")[0] if root != source else ""
    return Path(root) if root else None


def _within(path: Path, folder: Path) -> bool:
    return path.is_relative_to(folder)
