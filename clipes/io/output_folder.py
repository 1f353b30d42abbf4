"""What is made of a run in a folder of its own: there as a whole or not at all, and in nothing else's place."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from .atomic import HOST, is_alive, write_json
from .paths import source_would_match

Kind = Literal["export", "report"]

_TEMPORARY = re.compile(r"\.clipes-(export|report)-(?P<host>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{16}")


def mark_of(kind: Kind) -> str:
    """The name of the file that says that a folder is of this kind, and what was made."""
    return f".clipes-{kind}"


def place_of(out: str | os.PathLike[str] | None, run: str | os.PathLike[str], ending: str) -> Path:
    """The absolute path of ``out``; without one, the run's with ``-ENDING`` behind its name."""
    if out is not None:
        return Path(os.path.abspath(out))
    beside = Path(os.path.abspath(run))
    return beside.with_name(f"{beside.name}-{ending}")


def check_place(out: Path, kind: Kind, run: Path, sources: Sequence[str], overwrite: bool) -> None:
    """Refuse a folder that is not ours to write: in the run's or among the images of ``sources``, around them, through
    links too, or with files.

    Raises ValueError. An empty folder will do, and with ``overwrite`` an earlier one of this kind with nothing new
    beside its files and folders; into these folders it does not look.
    """
    place = out.resolve()
    if place.is_relative_to(run.resolve()):
        raise ValueError(f"{out} is in the run's folder ({run}); choose another folder for the {kind}")
    for source in sources:
        if source_would_match(Path(source))(place / "0.jpg"):
            raise ValueError(f"{out} would be among the files of {source}; choose another folder for the {kind}")
    for folder in (run, *map(_folder_of, sources)):
        if folder is not None and folder.resolve().is_relative_to(place):
            raise ValueError(f"{out} holds {folder}, which it would replace; choose another folder for the {kind}")
    _check_free(out, kind, overwrite)


@contextmanager
def beside(out: Path, kind: Kind) -> Iterator[Path]:
    """Yield a new, empty folder beside ``out``, removed at the end unless :func:`settle` has moved it.

    What a killed process of this machine left there is removed, too.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    _sweep(out.parent)
    new = _hidden(out, kind)
    new.mkdir()
    try:
        yield new
    finally:
        shutil.rmtree(new, ignore_errors=True)


def settle(new: Path, out: Path, kind: Kind, about: Mapping[str, Any], overwrite: bool) -> None:
    """Mark the folder ``new`` with ``about``, and make it ``out``, in the place of what is there.

    Raises ValueError, as :func:`check_place`, for what has come there meanwhile.
    """
    write_json(new / mark_of(kind), {**about, "entries": sorted(os.listdir(new))})
    if hasattr(os, "sync"):
        os.sync()  # all files at once, before the folder's name says that they are there
    _check_free(out, kind, overwrite)
    old = _hidden(out, kind)
    if out.is_dir():
        os.rename(out, old)
    try:
        os.rename(new, out)
    except BaseException:
        if old.is_dir():
            os.rename(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _check_free(out: Path, kind: Kind, overwrite: bool) -> None:
    """Refuse what is at ``out`` unless it is an empty folder or, with ``overwrite``, an earlier one of this kind."""
    if out.is_symlink():
        raise ValueError(f"{out} is a link, which is not written over; give the folder itself, or another")
    if not os.path.lexists(out) or (out.is_dir() and not os.listdir(out)):
        return
    if not out.is_dir() or not (out / mark_of(kind)).is_file():
        raise ValueError(f"{out} exists and is no earlier {kind}; choose another folder, or move it away")
    if not overwrite:
        raise ValueError(f"{out} holds an earlier {kind}; choose another folder, or replace it with --overwrite")
    if others := sorted(set(os.listdir(out)) - {mark_of(kind), *_entries(out / mark_of(kind))}):
        raise ValueError(f"{out} holds {others[0]!r}, which no {kind} wrote; move it away, or choose another folder")


def _hidden(out: Path, kind: Kind) -> Path:
    return out.parent / f".clipes-{kind}-{HOST}-{os.getpid()}-{secrets.token_hex(8)}"


def _entries(mark: Path) -> list[str]:
    try:
        found = json.loads(mark.read_text(encoding="utf-8"))["entries"]
        return [str(name) for name in found]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{mark} is not of ours: {error}; choose another folder") from error


def _sweep(folder: Path) -> None:
    for name in os.listdir(folder):
        match = _TEMPORARY.fullmatch(name)
        if match and match["host"] == HOST and os.name == "posix" and not is_alive(int(match["process"])):
            with suppress(OSError):
                shutil.rmtree(folder / name)


def _folder_of(source: str) -> Path | None:
    """The folder that a source is, voc:'s and coco:'s ROOT; None for lists, patterns and files."""
    root = re.sub("^(voc|coco):", "", source)
    while root and not os.path.isdir(root):
        root = root.rpartition(":")[0] if root != source else ""
    return Path(root) if root else None
