"""Files that are whole or absent: masks and JSON, written beside their place and moved into it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def _place() -> str:
    """What tells processes of one number apart: the machine, and on Linux the container on it."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return socket.gethostname() + space


HOST = hashlib.sha256(_place().encode("utf-8", "surrogateescape")).hexdigest()[:8]
"""In the names of files that belong to a process: where it runs."""

_TEMPORARY = re.compile(r"\.clipes-(?P<host>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{16}\.tmp(\..*)?")
_STALE_SECONDS = 24 * 3600


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path to write to; it becomes `path` when the block ends well, else it vanishes.

    The temporary file lies in the same folder (made if need be), is hidden, and has the suffix of `path`.
    It is synced to disk before it takes the final name, so `path` is never half a file, and two writers
    never mix. Raises FileNotFoundError when the block wrote nothing, FileExistsError when `path` is there and
    no ordinary file.
    """
    path = Path(path)
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise FileExistsError(f"{path} is a folder, a link or a device, which is not written over; give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".clipes-{HOST}-{os.getpid()}-{secrets.token_hex(8)}.tmp{path.suffix}"
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def sweep(folder: str | os.PathLike[str]) -> int:
    """Remove the temporary files that dead runs left under `folder`; return how many.

    A file goes when its process on this machine has ended, or when it is a day old; files of a run that
    is still alive, here or on another machine, stay. Links to folders are not followed.
    """
    removed = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            match = _TEMPORARY.fullmatch(name)
            file = Path(parent, name)
            with suppress(FileNotFoundError, PermissionError):  # another run may be sweeping; another user's stay
                if match and _is_left_over(file, match["host"], int(match["process"])):
                    file.unlink()
                    removed += 1
    return removed


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path`, atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` to `path` as indented JSON, atomically; text outside ASCII is escaped.

    Raises ValueError for nan and infinities, which JSON lacks (use None), TypeError for what JSON cannot
    hold.
    """
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="ascii", newline="\n")


def _is_left_over(file: Path, host: str, process: int) -> bool:
    if time.time() - file.lstat().st_mtime > _STALE_SECONDS:
        return True
    return host == HOST and os.name == "posix" and not is_alive(process)


def is_alive(process: int) -> bool:
    """Whether a process of this machine is there (on POSIX)."""
    try:
        os.kill(process, 0)  # signal 0 only asks whether the process is there
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
