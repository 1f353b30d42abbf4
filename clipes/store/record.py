"""The record of a run: one row per image, appended by each worker to its own file.

``OUT/records/TIME-MACHINE-PID-RANDOM.jsonl`` is ASCII JSON, one object per line: first the header, which says what the
worker was started with, then a row for each image. Lines are never changed or removed. If an image has several rows,
the newest counts: that of the later start, as the headers number the starts; a clock may be wrong.

A line that cannot be read costs its image, not the run: it is passed over, and the image is made again. It may be
damage, or a row of a newer version, which is never changed or removed. ``clipes repair`` alone writes a record again,
without the damaged lines, and keeps the damaged file beside it.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from clipes.io.atomic import MACHINE_ID
from clipes.io.retry import retried

from .layout import RECORD_FILE, RECORDS
from .lease import owners
from .row import MAX_TIME, Row, json_object

Parsed = TypeVar("Parsed")

_BLOCK = 1 << 18  # bytes read at a time
_EPOCH = datetime.fromtimestamp(0, timezone.utc)


class Recorder:
    """Creates a file ``folder/records/*.jsonl``, writes its header and appends rows. Not thread-safe.

    ``header`` is a dict that JSON can hold. Its ``settings`` is the digest of the run's settings. ``clipes status``
    also reads ``total`` (number of images of the data set) and ``shard``. The recorder adds ``start`` (one more than
    those of earlier records), ``started``, ``machine`` and ``pid``.

    Workers that write at the same time share the number of their start, so that the times of their rows decide.

    Raises ValueError if ``records`` is a symbolic link, OSError if the file cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str], header: Mapping[str, Any]) -> None:
        if not isinstance(header.get("settings"), str):
            raise ValueError(f"the header's 'settings' is {header.get('settings')!r}; give the digest of the run")
        now, machine = max(datetime.now(timezone.utc), _EPOCH), socket.gethostname()
        records = Path(folder, RECORDS)
        refuse_special(records)
        retried(partial(records.mkdir, parents=True, exist_ok=True))
        start = 1 + max(_ended_starts(Path(folder)), default=0)
        about = {"start": start, "started": now.isoformat(), "machine": machine, "pid": os.getpid()}
        header_line = json.dumps({**header, **about}, allow_nan=False)
        stamp = now.strftime("%Y%m%dT%H%M%S.%f")
        self.path = records / f"{stamp}-{MACHINE_ID}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        flags = os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY | getattr(os, "O_BINARY", 0)
        self._file: int | None = retried(partial(os.open, self.path, flags, 0o666))
        self._size = 0
        try:
            self._append(header_line)
        except BaseException:
            os.close(self._file)
            os.unlink(self.path)
            raise

    def add(self, *rows: Row) -> None:
        """Append ``rows`` with the current time: all of them or, on failure, none.

        Raises OSError if they cannot be written for long, as on a full disk; the record stays valid, and ``add`` can be
        called again. Raises FileNotFoundError if the file was removed meanwhile.
        """
        now = max(round(time.time(), 3), 0.0)  # a clock may be before 1970
        if rows:
            self._append("\n".join(replace(row, time=now).to_json() for row in rows))

    def sync(self) -> None:
        """Wait until all rows are on the disk."""
        retried(partial(os.fsync, self._open_file()))  # of a row that is lost all the same, the image is made again

    def close(self) -> None:
        """Sync and close the file, after which no row can be added. A second call does nothing."""
        if self._file is not None:
            file, self._file = self._file, None
            try:
                retried(partial(os.fsync, file))
            finally:
                os.close(file)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _open_file(self) -> int:
        """The file's descriptor. Raises ValueError if it is closed."""
        if self._file is None:
            raise ValueError(f"{self.path} is closed; open another Recorder")
        return self._file

    def _append(self, line: str) -> None:
        data = line.encode("ascii") + b"\n"
        retried(partial(self._write, data))
        self._size += len(data)

    def _write(self, data: bytes) -> None:
        """Write ``data`` behind the last whole line, all of it or nothing; can be called again after an error."""
        file = self._open_file()
        try:
            found = os.fstat(file)
            if not found.st_nlink:
                removed = f"{self.path} was removed while it was written to; is another run in this folder?"
                raise FileNotFoundError(removed)
            try:
                if found.st_size > self._size:  # the rest of a line which could not even be cut off
                    os.ftruncate(file, self._size)
                written = os.write(file, data)
                while written < len(data):  # a write may be short on a full disk; writing the rest then raises ENOSPC
                    written += os.write(file, data[written:])
            except BaseException:  # also Ctrl-C between two writes
                os.ftruncate(file, self._size)
                raise
        except OSError as error:
            if error.errno == errno.ESTALE:
                self._reopen()
            raise

    def _reopen(self) -> None:
        """Open the file by its name again: the server has forgotten the descriptor. Where it is gone, it stays."""
        stale = self._open_file()
        with suppress(OSError):
            self._file = os.open(self.path, os.O_APPEND | os.O_WRONLY)
            os.close(stale)


@dataclass(frozen=True)
class Unreadable:
    """A complete line of a record that is neither a header nor a row that this version knows.

    Attributes:
        path: the record.
        number: of the line, from 1.
        reason: what is wrong with it.
        damaged: whether it is no JSON, or a row in the header's place; else a newer version may have written it.
    """

    path: Path
    number: int
    reason: str
    damaged: bool

    def __str__(self) -> str:
        return f"{self.path}, line {self.number}: {self.reason}"


@dataclass(frozen=True)
class Record:
    """One worker's record on disk: its file and its header. Created by :func:`read_records`.

    ``fault`` is its first line where that is no header; then it has no settings, and is of no run.
    """

    path: Path
    header: dict[str, Any]
    fault: Unreadable | None = None

    @property
    def settings(self) -> str:
        """The digest of the worker's settings."""
        return str(self.header.get("settings", ""))

    @property
    def start(self) -> int:
        """The number of this start in the folder; workers that start together may share it. 0 for older records."""
        return int(self.header.get("start", 0))

    @property
    def started(self) -> float:
        """When the worker started by its clock, in seconds since 1970."""
        return datetime.fromisoformat(self.header["started"]).timestamp()

    def rows(self) -> Iterator[Row]:
        """Yield the rows in the order in which they were written, without the lines that cannot be read."""
        return (item for item in self.items() if isinstance(item, Row))

    def items(self) -> Iterator[Row | Unreadable]:
        """The rows and what cannot be read of them; see :meth:`parsed`."""
        return self.parsed(Row.from_json)

    def parsed(self, parse: Callable[[bytes], Parsed]) -> Iterator[Parsed | Unreadable]:
        """Yield what ``parse`` makes of each line that follows the header, in order.

        An incomplete last line is left out: its worker was killed or is still writing it.
        """
        for number, line in _complete_lines(self.path):
            if number > 1:
                try:
                    yield parse(line)
                except ValueError as error:
                    yield _unreadable(self.path, number, line, error)


def read_records(folder: str | os.PathLike[str]) -> Iterator[Record]:
    """Yield the records of all workers of the run in ``folder``, in the order of their starts.

    A record with an incomplete header is left out: its worker was killed while it started. One whose first line is no
    header comes first, with a ``fault``. Raises ValueError for what is no ordinary file, such as a link or a pipe.
    """
    records = Path(folder, RECORDS)
    refuse_special(records)
    if not records.is_dir():
        return
    found = []
    for path in sorted(records.glob("[!.]*.jsonl")):
        refuse_special(path)
        number, line = next(_complete_lines(path), (0, b""))
        if number:
            found.append(_record(path, line))
    yield from sorted(found, key=lambda record: record.start)


def _ended_starts(folder: Path) -> Iterator[int]:
    """The starts of the records that no living process writes, as far as leases tell."""
    living = owners(folder)
    for record in read_records(folder):
        match = RECORD_FILE.fullmatch(record.path.name)
        if match is None or (match["machine"], match["pid"]) not in living:
            yield record.start


def _record(path: Path, line: bytes) -> Record:
    """The record whose first line is ``line``."""
    try:
        header = json_object(line)
        if not isinstance(header.get("settings"), str):
            raise ValueError("the header has no 'settings'")
        if not 0 <= datetime.fromisoformat(header["started"]).timestamp() < MAX_TIME:
            raise ValueError(f"started is {header['started']!r}")
        if type(header.get("start", 0)) is not int:
            raise ValueError(f"start is {header['start']!r}")
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        fault = _unreadable(path, 1, line, error)
        return Record(path, {}, replace(fault, damaged=fault.damaged or _is_row(line)))
    return Record(path, header)


def _complete_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that end in a line break, without it, and their numbers from 1."""
    number, rest, place = 0, b"", 0
    while block := retried(partial(_block, path, place), path):
        place += len(block)
        *lines, rest = (rest + block).split(b"\n")
        for number, line in enumerate(lines, start=number + 1):  # noqa: B020 the count goes on
            yield number, line


def _block(path: Path, place: int) -> bytes:
    """The bytes of a file from ``place``, reopened: an open file may be stale after an error."""
    with open(path, "rb", buffering=0) as file:
        file.seek(place)
        return file.read(_BLOCK)


def _is_row(line: bytes) -> bool:
    try:
        Row.from_json(line)
    except ValueError:
        return False
    return True


def _unreadable(path: Path, number: int, line: bytes, error: Exception) -> Unreadable:
    try:
        json_object(line)
    except ValueError:
        return Unreadable(path, number, str(error), damaged=True)
    return Unreadable(path, number, str(error), damaged=False)


def refuse_special(path: Path) -> None:
    """Raise ValueError for a link, and for a record that is no ordinary file: reading a pipe would wait forever."""
    if path.is_symlink():
        raise ValueError(f"{path} is a link, and records are never followed out of their folder; remove the link")
    if path.name == RECORDS and os.path.lexists(path) and not path.is_dir():
        raise ValueError(f"{path} is no folder, and no records can be in it; remove it or move it away")
    if path.name != RECORDS and not path.is_file():
        raise ValueError(f"{path} is a folder, a pipe or a device, not a record; remove it or move it away")
