"""The record of a run: a line for every image, appended by each worker to a file of its own.

``OUT/records/TIME-MACHINE-PID-RANDOM.jsonl`` is ASCII JSON, one object a line: first the header, which says what the
worker was started with, then a row for each image. Lines are never changed or removed; of several rows of one image
the newest counts.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, get_args

from clipes.io.atomic import MACHINE_ID

from .layout import RECORDS

Status = Literal["ok", "skipped", "failed"]


@dataclass(frozen=True)
class Row:
    """How one image ended.

    Attributes:
        id: the image's, and its mask's file name without ``.png``.
        status: "ok" (the mask is written), "skipped" or "failed".
        reason: why it was skipped or failed.
        labels: the class names given for it, in order.
        size: (H, W) in pixels, where it is known.
        seconds: the time it took.
        checksum: SHA-256 of the bytes of the mask's PNG, 64 hexadecimal digits.
        shard: the .tar in the folder of the masks that holds the mask; None where it is a file of its own.
        time: when the row was written, seconds since 1970; :meth:`Recorder.add` sets it.
    """

    id: str
    status: Status
    reason: str = ""
    labels: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    seconds: float | None = None
    checksum: str | None = None
    shard: str | None = None
    time: float = 0.0

    def __post_init__(self) -> None:
        if self.status not in get_args(Status):
            raise ValueError(f"{self.id!r}: the status is {self.status!r}; it is one of {', '.join(get_args(Status))}")

    def to_json(self) -> str:
        """The row as one line of ASCII JSON, without what is as the default.

        Raises ValueError for nan and infinities, which JSON lacks.

        >>> Row("a/b", "ok", labels=("dog",), size=(4, 6)).to_json()
        '{"id": "a/b", "status": "ok", "labels": ["dog"], "size": [4, 6]}'
        """
        given = {name: value for name, value in vars(self).items() if value != _DEFAULTS[name]}
        return json.dumps(given, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Row:
        """The row that :meth:`to_json` wrote. Raises ValueError for anything else."""
        value = _object(text)
        wrong = [name for name, item in value.items() if not _FITS.get(name, lambda item: False)(item)]
        if wrong or not {"id", "status"} <= set(value):
            what = f"{wrong[0]} is {value[wrong[0]]!r}" if wrong else "id or status is missing"
            raise ValueError(f"no row of a record: {what}")
        for name in ("labels", "size"):
            if value.get(name) is not None:
                value[name] = tuple(value[name])
        return cls(**value)


_DEFAULTS = {item.name: item.default for item in fields(Row)}


_END_OF_TIME = 2.5e11  # the year 9892: datetime goes as far as 9999


def _number(item: object) -> bool:
    """Whether it is a number, and neither nan nor too large for a float."""
    return isinstance(item, int | float) and not isinstance(item, bool) and abs(item) <= sys.float_info.max


_FITS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("id", "status", "reason", "checksum", "shard"), lambda item: isinstance(item, str)),
    "labels": lambda item: isinstance(item, list) and all(isinstance(label, str) for label in item),
    "size": lambda item: isinstance(item, list) and len(item) == 2 and all(type(side) is int for side in item),
    "seconds": _number,
    "time": lambda item: _number(item) and 0 <= item < _END_OF_TIME,
}


def _object(text: str | bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"broken JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return value


class Recorder:
    """Opens a new file ``folder/records/*.jsonl``, writes its header, appends rows. Not for several threads.

    ``header`` is what JSON can hold, with ``settings``, the digest of the run's settings. ``clipes status`` also reads
    ``total`` (images of the data set) and ``shard``. ``started``, ``machine`` and ``pid`` are set here.

    Raises ValueError where ``records`` is a link, OSError where the file cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str], header: Mapping[str, Any]) -> None:
        if not isinstance(header.get("settings"), str):
            raise ValueError(f"the header's 'settings' is {header.get('settings')!r}; give the digest of the run")
        now, machine = datetime.now(timezone.utc), socket.gethostname()
        first = json.dumps(
            {**header, "started": now.isoformat(), "machine": machine, "pid": os.getpid()}, allow_nan=False
        )
        records = Path(folder, RECORDS)
        _refuse_link(records)
        records.mkdir(parents=True, exist_ok=True)
        stamp = now.strftime("%Y%m%dT%H%M%S.%f")
        self.path = records / f"{stamp}-{MACHINE_ID}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        flags = os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY | getattr(os, "O_BINARY", 0)
        self._file: int | None = os.open(self.path, flags, 0o666)
        self._size = 0
        try:
            self._append(first)
        except BaseException:
            os.close(self._file)
            os.unlink(self.path)
            raise

    def add(self, *rows: Row) -> None:
        """Append ``rows``, with the present time: all of them or, where that fails, none.

        Raises OSError where it cannot be written (a full disk); the record stays whole and can be added to again.
        FileNotFoundError where somebody has removed the record.
        """
        now = round(time.time(), 3)
        if rows:
            self._append("\n".join(replace(row, time=now).to_json() for row in rows))

    def sync(self) -> None:
        """Return when all rows are on the disk."""
        os.fsync(self._open())

    def close(self) -> None:
        """Sync and close; nothing more can be added. A second call does nothing."""
        if self._file is not None:
            file, self._file = self._file, None
            try:
                os.fsync(file)
            finally:
                os.close(file)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> int:
        if self._file is None:
            raise ValueError(f"{self.path} is closed; open another Recorder")
        return self._file

    def _append(self, line: str) -> None:
        file, data = self._open(), line.encode("ascii") + b"\n"
        if not os.fstat(file).st_nlink:
            raise FileNotFoundError(f"{self.path} was removed while it was written to; is another run in this folder?")
        try:
            written = os.write(file, data)
            while written < len(data):  # a full disk takes a part, and says so only when asked for the rest
                written += os.write(file, data[written:])
        except BaseException:  # Ctrl-C between two parts, too
            os.ftruncate(file, self._size)
            raise
        self._size += len(data)


@dataclass(frozen=True)
class Record:
    """One worker's record on disk: its file and its header. Made by :func:`read_records`."""

    path: Path
    header: dict[str, Any]

    @property
    def settings(self) -> str:
        """The digest of the settings that the worker ran with."""
        return str(self.header["settings"])

    @property
    def started(self) -> float:
        """When the worker began, seconds since 1970."""
        return _seconds(self.header["started"])

    def rows(self) -> Iterator[Row]:
        """The rows in the order in which they were written, one in memory at a time.

        A last line without its end, of a worker that was killed or writes just now, is left out. Raises ValueError
        with file and line for any other that is broken.
        """
        for number, line in _lines(self.path):
            if number > 1:
                try:
                    yield Row.from_json(line)
                except ValueError as error:
                    raise _broken(self.path, number, error) from error


def read_records(folder: str | os.PathLike[str]) -> Iterator[Record]:
    """The records of all workers of the run in ``folder``, in the order in which they began; none if there are none.

    A record whose header is not whole, of a worker that was killed at once, is left out. Raises ValueError with file
    and line for a header that is broken, and for links, which are not followed.
    """
    records = Path(folder, RECORDS)
    _refuse_link(records)
    if not records.is_dir():
        return
    for path in sorted(records.glob("[!.]*.jsonl")):
        _refuse_link(path)
        number, line = next(_lines(path), (0, b""))
        if number:
            yield Record(path, _header(path, line))


def _seconds(started: Any) -> float:
    return datetime.fromisoformat(started).timestamp()


def _header(path: Path, line: bytes) -> dict[str, Any]:
    try:
        header = _object(line)
        if not isinstance(header.get("settings"), str):
            raise ValueError("the header has no 'settings'")
        if not 0 <= _seconds(header.get("started")) < _END_OF_TIME:
            raise ValueError(f"started is {header['started']!r}")
    except (ValueError, TypeError, OverflowError) as error:
        raise _broken(path, 1, error) from error
    return header


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The whole lines of a file and their numbers from 1."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n"):
                yield number, line


def _broken(path: Path, number: int, error: Exception) -> ValueError:
    return ValueError(f"{path}, line {number}: {error}; move the file away, and its images are done again")


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise ValueError(f"{path} is a link, and records are never followed out of their folder; remove the link")
