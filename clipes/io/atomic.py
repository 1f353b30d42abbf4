"""Files and folders that are complete or absent: written under a temporary name beside their place, then renamed.

A temporary name is ``.clipes-MACHINE-PID-RANDOM.tmp`` and a suffix. It names the process that writes, so that
:func:`remove_stale` can remove what a killed process left behind.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

from .paths import list_sources, resolved, source_folder, source_text, source_would_match
from .retry import check_there, retried

AnyPath = str | os.PathLike[str]
FolderKind = Literal["export", "report", "comparison"]

SOFTWARE = {"mask": "clipes run", "figure": "clipes show"}
"""What the field "Software" of a kind of file says."""

_TAGS = {
    "mask": b"tEXtSoftware\0" + SOFTWARE["mask"].encode(),
    "figure": SOFTWARE["figure"].encode(),
    "classes": b'\n  "classes": [\n    {"',  # json.dump breaks the line after the brace
}
"""What :func:`owned` looks for in a kind of file."""


def _process_space() -> str:
    """The space in which a process id is unique: the machine, and on Linux the container on it."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return socket.gethostname() + space


MACHINE_ID = hashlib.sha256(_process_space().encode("utf-8", "surrogateescape")).hexdigest()[:8]
"""This machine in the names of files that belong to a process."""

PROCESS_NAME = r"(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)"
"""A process in the name of a file, as a regular expression; see :func:`is_dead`."""

_TEMPORARY = re.compile(rf"\.clipes-{PROCESS_NAME}-[0-9a-f]{{16}}\.tmp(?P<suffix>\..*)?")
_REPLACED = ".old"  # the suffix of a folder that holds the one that is being replaced, under its own name
_ENDS = 1 << 16  # bytes at a file's ends that hold its "Software": PNG and SVG begin with it, PDF ends with it


def _temporary(path: Path, suffix: str) -> Path:
    return path.parent / f".clipes-{MACHINE_ID}-{os.getpid()}-{secrets.token_hex(8)}.tmp{suffix}"


@contextmanager
def atomic(path: AnyPath) -> Iterator[Path]:
    """Yield a temporary path to write to. It is renamed to `path` when the block succeeds, else deleted.

    The temporary file lies in the same folder (made if need be), is hidden, and has the suffix of `path`. It is synced
    to disk before it is renamed, so that `path` is never half a file and two writers never mix.

    Raises FileNotFoundError when the block wrote nothing, FileExistsError when `path` exists and is not an ordinary
    file.
    """
    path = Path(path)
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise FileExistsError(f"{path} is a folder, a link or a device, which is not written over; give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path, path.suffix)
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())  # never again after an error: the system may have dropped what was not written
        retried(partial(_rename, temporary, path))
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _rename(temporary: Path, path: Path) -> None:
    try:
        os.replace(temporary, path)
    except FileNotFoundError:
        check_there(path.parent)  # a share that is gone may come back
        raise


def write_bytes(path: AnyPath, data: bytes) -> None:
    """Write `data` to `path`, atomically; all of it again after a passing trouble (:mod:`clipes.io.retry`)."""

    def write() -> None:
        with atomic(path) as temporary:
            temporary.write_bytes(data)

    retried(write)


def write_text(path: AnyPath, text: str) -> None:
    """Write `text` to `path` in UTF-8, atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: AnyPath, value: Any) -> None:
    """Write `value` to `path` as indented JSON, atomically; text outside ASCII is escaped.

    Raises ValueError for nan and infinities, which JSON lacks (use None), TypeError for what JSON cannot hold.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


# --- files of dead processes


def remove_stale(root: AnyPath, *, recursive: bool = True) -> int:
    """Remove the temporary files and folders that dead processes left under `root`; return how many.

    They are stale when their process ran on this machine and is dead; their age says nothing where a clock is wrong. A
    folder that a process was replacing when it was killed gets its name back. Links to folders are not followed.
    """
    removed = 0
    for parent, folders, files in os.walk(root):
        for name in (*files, *folders):
            match = _TEMPORARY.fullmatch(name)
            if match is None or not is_dead(match):
                continue
            with suppress(FileNotFoundError, PermissionError):  # another process removes it too, or another user's
                _remove(Path(parent, name), match["suffix"])
                removed += 1
        folders[:] = [name for name in folders if recursive and not _TEMPORARY.fullmatch(name)]
    return removed


def is_dead(process: re.Match[str]) -> bool:
    """Whether the process of a match of ``PROCESS_NAME`` ran on this machine and has ended (on POSIX)."""
    return process["machine"] == MACHINE_ID and os.name == "posix" and not is_alive(int(process["pid"]))


def is_alive(pid: int) -> bool:
    """Whether this machine has a process with this number (on POSIX)."""
    try:
        os.kill(pid, 0)  # signal 0 only asks whether the process exists
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _remove(path: Path, suffix: str | None) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    if suffix == _REPLACED:
        _restore(path)
    shutil.rmtree(path)


def _restore(replaced: Path) -> None:
    """Give the folder inside `replaced` its name back, unless its replacement has it."""
    for name in os.listdir(replaced):
        place = replaced.parent / name
        if not os.path.lexists(place) or (place.is_dir() and not os.listdir(place)):
            os.rename(replaced / name, place)


# --- whose a file is


def owned(path: Path, kind: Literal["mask", "figure", "classes"] | FolderKind) -> bool:
    """Whether clipes wrote `path`, a file or folder of this kind. Nothing else is replaced or deleted.

    A folder has a marker file, a picture names the software that wrote it, and a class file has our layout. An empty
    file counts as ours: a full disk or a crash leaves such, and nothing is lost with it.
    """
    if path.is_symlink():
        return False
    if kind == "export" or kind == "report" or kind == "comparison":
        return marker(path, kind).is_file()
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        head = file.read(_ENDS)
        if not head or has_mark(head, kind):
            return True
        file.seek(-min(_ENDS, path.stat().st_size), os.SEEK_END)
        return has_mark(file.read(), kind)


def has_mark(data: bytes, kind: Literal["mask", "figure", "classes"]) -> bool:
    """Whether the first or the last bytes of a file say that clipes wrote it."""
    return _TAGS[kind] in data[:_ENDS] or _TAGS[kind] in data[-_ENDS:]


def marker(folder: Path, kind: FolderKind) -> Path:
    """The file that says that a folder is of this kind, and what was written into it."""
    return folder / f".clipes-{kind}"


# --- folders


def target_path(out: AnyPath | None, run: AnyPath, ending: str) -> Path:
    """The absolute path of `out`; without one, the run's with ``-ENDING`` behind its name."""
    if out is not None:
        return Path(os.path.abspath(out))
    folder = Path(os.path.abspath(run))
    return folder.with_name(f"{folder.name}-{ending}")


def check_target(
    out: Path, kind: FolderKind, run: Path | None, sources: Sequence[str | tuple[str, ...]], overwrite: bool
) -> None:
    """Raise ValueError if `out` must not be written: a folder inside, around or equal to the run's or the images'.

    Links are resolved. `out` may be an empty folder and, with `overwrite`, an earlier one of this kind whose top level
    holds nothing else.
    """
    place = resolved(out)
    if run is not None and place.is_relative_to(resolved(run)):
        raise ValueError(f"{out} is in the run's folder ({run}); choose another folder for the {kind}")
    for source in sources:
        if source_would_match(source)(place / "0.jpg"):
            raise ValueError(
                f"{out} would be among the files of {source_text(source)}; choose another folder for the {kind}"
            )
    for folder in (run, *(source_folder(one) for source in sources for one in list_sources(source))):
        if folder is not None and resolved(folder).is_relative_to(place):
            raise ValueError(f"{out} holds {folder}, which it would replace; choose another folder for the {kind}")
    _check_replaceable(out, kind, overwrite)


@contextmanager
def staging_folder(out: Path) -> Iterator[Path]:
    """Yield a new, empty folder beside `out`; it is deleted at the end unless :func:`publish` has renamed it.

    What killed processes left beside `out` is removed first.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(out.parent, recursive=False)
    staging = _temporary(out, "")
    staging.mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def publish(staging: Path, out: Path, kind: FolderKind, about: Mapping[str, Any], overwrite: bool) -> None:
    """Write the marker with `about` into `staging` and rename it to `out`, in place of what is there.

    Raises ValueError, as :func:`check_target`, for files that have appeared at `out` meanwhile.
    """
    write_json(marker(staging, kind), {**about, "entries": sorted(os.listdir(staging))})
    if hasattr(os, "sync"):
        os.sync()  # all files at once, before the folder's name says that they exist
    _check_replaceable(out, kind, overwrite)
    replaced = _temporary(out, _REPLACED)
    try:
        if out.is_dir():  # killed after this rename, remove_stale finds the folder under its own name
            replaced.mkdir()
            os.rename(out, replaced / out.name)
        os.rename(staging, out)
    except BaseException:
        if replaced.is_dir():
            _restore(replaced)
            os.rmdir(replaced)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def _check_replaceable(out: Path, kind: FolderKind, overwrite: bool) -> None:
    """Raise ValueError unless `out` is absent, an empty folder or, with `overwrite`, an earlier one of this kind."""
    if out.is_symlink():
        raise ValueError(f"{out} is a link, which is not written over; give the folder itself, or another")
    if not os.path.lexists(out) or (out.is_dir() and not os.listdir(out)):
        return
    if not out.is_dir() or not owned(out, kind):
        raise ValueError(f"{out} exists and is no earlier {kind}; choose another folder, or move it away")
    if not overwrite:
        raise ValueError(f"{out} holds an earlier {kind}; choose another folder, or replace it with --overwrite")
    mark = marker(out, kind)
    if others := sorted(set(os.listdir(out)) - {mark.name, *_entries(mark)}):
        raise ValueError(f"{out} holds {others[0]!r}, which no {kind} wrote; move it away, or choose another folder")


def _entries(mark: Path) -> list[str]:
    try:
        return [str(name) for name in json.loads(mark.read_text(encoding="utf-8"))["entries"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{mark} was not written by clipes: {error}; choose another folder") from error
