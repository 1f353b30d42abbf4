"""Who writes masks to a folder: a lease for each writer, so that masks of two settings never mix.

A lease is a small hidden file in the folder. Writers of the same settings share the folder; a writer that changes the
settings (``finalize`` in place, ``--overwrite``) must be alone. A lease is stale when its owner is dead. On the owner's
machine this is known from the process's start. On any other machine it is known from the lease's counter, which its
owner raises every few seconds: no clock is compared, and no lock of the file system is needed.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from clipes.io.atomic import MACHINE_ID, PROCESS_NAME, is_alive
from clipes.io.retry import check_there, retried

BEAT_SECONDS = 5.0
"""How often an owner raises the counter of its lease."""

PATIENCE_SECONDS = 4 * BEAT_SECONDS
"""How long a lease of another machine is watched before it counts as stale."""

LEASE_FILE = re.compile(rf"\.clipes-{PROCESS_NAME}-[0-9a-f]{{16}}\.lease")
"""The names of leases."""


class FolderInUse(ValueError):
    """Another process writes masks to the folder."""


@dataclass(frozen=True)
class Owner:
    """What a lease says of its owner.

    Attributes:
        host, pid: the machine's name and the process's number there.
        started: when the process started, as its machine counts; None where that is not known.
        does: what it does, such as ``clipes generate``.
        digest: of the settings of its masks.
        alone: whether no other writer may be in the folder.
    """

    host: str
    pid: int
    started: str | None
    does: str
    digest: str
    alone: bool = False

    def suits(self, other: Owner) -> bool:
        """Whether both may write at the same time."""
        return not (self.alone or other.alone) and self.digest == other.digest

    def __str__(self) -> str:
        return f"{self.does} (process {self.pid} on {self.host})"


def take_lease(
    folder: Path,
    digest: str,
    does: str = "clipes generate",
    *,
    alone: bool = False,
    check: Callable[[], None] = lambda: None,
) -> Lease:
    """Claim ``folder``, which exists, for masks whose settings have ``digest``. Close the lease at the end.

    ``does`` is what this process does, for messages. With ``alone`` every other writer is refused, not only those of
    other settings. ``check`` becomes :attr:`Lease.check`. While others are watched the lease beats already.

    Raises :class:`FolderInUse` while another process writes to the folder and does not suit; OSError where the folder
    cannot be written to.
    """
    owner = Owner(socket.gethostname(), os.getpid(), process_start(os.getpid()), does, digest, alone)
    lease = Lease(folder, owner, check)
    try:
        for other in conflicts(folder, owner, lease.path.name):
            raise FolderInUse(f"{folder}: {other} writes masks there; wait until it ends, or stop it")
    except BaseException:
        lease.close()
        raise
    return lease


class Lease:
    """A lease that this process holds. Made by :func:`take_lease`; use it in a ``with``, or close it.

    Attributes:
        path: its file.
        check: asked with every beat; it raises ValueError where the folder is no longer as this writer needs it.
        fault: why the folder must not be written to any more, as the last beat found; None while all is well.
    """

    def __init__(self, folder: Path, owner: Owner, check: Callable[[], None]) -> None:
        self._folder, self._owner, self.check = folder, owner, check
        self.path = folder / f".clipes-{MACHINE_ID}-{owner.pid}-{secrets.token_hex(8)}.lease"
        self.fault: Exception | None = None
        self._beats = 0
        retried(partial(self._write, os.O_WRONLY | os.O_CREAT))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="clipes-lease", daemon=True)
        self._thread.start()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the lease back; a second call does nothing."""
        self._ended.set()
        self._thread.join()
        with suppress(OSError):
            self.path.unlink()

    def verify(self) -> None:
        """Raise what is wrong, if the lease was taken away or ``check`` raised since it was taken.

        OSError where the folder does not answer for long.
        """
        retried(self._look)
        if self.fault:
            raise self.fault

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS) and not self.fault:
            with suppress(OSError):  # a passing trouble of the file system: the next beat tries again
                self._look()

    def _look(self) -> None:
        """Beat, and ask ``check``; a fault is kept. OSError where the folder does not answer, or is not there."""
        try:
            self._write(os.O_WRONLY)
            self.check()
        except FileNotFoundError as error:
            check_there(self._folder)  # a share that is gone may come back
            removed = f"{self._folder}: {error.filename or self.path} was removed while masks were written"
            self.fault = FolderInUse(f"{removed}; start again to continue")
        except ValueError as error:
            self.fault = error

    def _write(self, flags: int) -> None:
        """Write the lease in place: who deletes it must be noticed."""
        self._beats += 1
        data = json.dumps({**asdict(self._owner), "beat": self._beats}).encode("ascii")
        file = os.open(self.path, flags, 0o666)
        try:
            os.write(file, data)
            os.fsync(file)
        finally:
            os.close(file)


def conflicts(folder: Path, owner: Owner, own_name: str = "") -> Iterator[Owner]:
    """The living writers of ``folder`` that do not suit ``owner``; stale leases are removed.

    A lease of another machine is watched for up to :data:`PATIENCE_SECONDS`.
    """
    for name in sorted(os.listdir(folder)):
        match = LEASE_FILE.fullmatch(name)
        if match is None or name == own_name or not _is_ordinary(folder / name):
            continue
        other = read_owner(folder / name)
        suits = other is not None and owner.suits(other)
        if is_held(folder / name, patience=0 if suits else None):
            if suits:
                continue
            yield other or Owner("?", int(match["pid"]), None, "another process", "")
        else:
            (folder / name).unlink(missing_ok=True)


def owners(folder: Path) -> dict[tuple[str, str], Owner | None]:
    """The leases of ``folder`` by machine and number of the process; on other machines it may be dead."""
    matches = [match for name in os.listdir(folder) if (match := LEASE_FILE.fullmatch(name))]
    held = [match for match in matches if _is_ordinary(folder / match[0]) and is_held(folder / match[0], patience=0)]
    return {(match["machine"], match["pid"]): read_owner(folder / match[0]) for match in held}


def read_owner(path: Path) -> Owner | None:
    """What a lease says; None for one that is being written or was removed."""
    value = _read(path)
    try:
        return Owner(**{name: value[name] for name in Owner.__dataclass_fields__})
    except (KeyError, TypeError):
        return None


def is_held(path: Path, patience: float | None = None) -> bool:
    """Whether the owner of a lease lives; one of another machine is watched for ``patience`` seconds."""
    match = LEASE_FILE.fullmatch(path.name)
    owner = read_owner(path)
    if match and match["machine"] == MACHINE_ID and os.name == "posix":
        if not is_alive(int(match["pid"])):
            return False
        started = process_start(int(match["pid"]))
        if owner is not None and None not in (owner.started, started):
            return owner.started == started
    return _beats_on(path, PATIENCE_SECONDS if patience is None else patience)


def _beats_on(path: Path, patience: float) -> bool:
    """Whether the counter of a lease rises while it is watched; with no patience, whether the lease exists."""
    first, end = _read(path).get("beat"), time.monotonic() + patience
    while patience and time.monotonic() < end:
        time.sleep(min(BEAT_SECONDS, patience) / 4)
        if not path.exists():
            return False
        if _read(path).get("beat") != first:
            return True
    return not patience and path.exists()


def process_start(pid: int) -> str | None:
    """When a process of this machine started: the same number later is another process. None where Linux's /proc lacks.

    The boot is part of it, because the start is counted from there.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return f"{boot} {fields[19]}"
    except (OSError, IndexError):
        return None


def _is_ordinary(path: Path) -> bool:
    """Whether a name is that of an ordinary file: a pipe would be waited for, and nothing else is a lease."""
    return path.is_file() and not path.is_symlink()


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
