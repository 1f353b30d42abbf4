"""A table of labels that comes through a pipe: ``--labels <(...)``, ``/dev/stdin``, a named pipe."""

from __future__ import annotations

import json
import os
import stat
import time

from .sample import AnyPath, DatasetError
from .table_format import TableFormat

_PASSED = ("/dev/", "/proc/")
"""How the path of what another process or the shell passes begins."""

_WRITER_SECONDS = 10.0
"""How long to wait for a process that opens a pipe for writing."""


class PipedTable(str):
    """The path of a pipe, with the text that was read from it: a pipe gives its content once, to one process.

    It pickles with its text; JSON holds the path alone.
    """

    text: str = ""

    def suffix(self, table: TableFormat) -> str:
        """The suffix of a file of this content: ``.json``, ``.jsonl`` or ``.csv``, whose reader finds the delimiter."""
        if not self.text.lstrip().startswith(("[", "{")):
            return ".csv"
        try:
            content = json.loads(self.text)
        except (ValueError, RecursionError):
            return ".jsonl"  # whose reader says what is wrong in which line
        return ".jsonl" if isinstance(content, dict) and table.image_column in content else ".json"


def is_pipe(path: AnyPath) -> bool:
    """Whether a path is no ordinary file or folder, but a pipe or a device, or what the shell passes as one."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    passed = os.fspath(path).startswith(_PASSED)  # /dev/stdin may be an ordinary file
    return not stat.S_ISDIR(mode) and (passed or not stat.S_ISREG(mode))


def read_pipe(path: AnyPath) -> str:
    """The path as a text; of a pipe as a :class:`PipedTable`, which is read to its end unless that was done.

    Raises DatasetError for a device, which may have no end (``/dev/zero``, a terminal), and for bytes that are not
    UTF-8, a ``cls_labels.npy`` among them.
    """
    path = os.fspath(path)
    if isinstance(path, PipedTable) or not is_pipe(path):
        return path
    mode = os.stat(path).st_mode
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise DatasetError(f"{path}: a device or a terminal, not a table of labels; give a file or a pipe")
    content = _content(path)
    if content.startswith(b"\x93NUMPY"):
        raise DatasetError(f"{path}: a cls_labels.npy, which cannot be read from a pipe; give its file")
    table = PipedTable(path)
    try:
        table.text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: byte 0x{content[error.start]:02x} is not UTF-8; give UTF-8") from error
    return table


def _content(path: str) -> bytes:
    """All bytes of a pipe. A named one that no process has opened for writing is waited for, but not for ever."""
    deadline = time.monotonic() + _WRITER_SECONDS
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb", buffering=0) as file:
        first = file.read(1)
        while first == b"" and not path.startswith(_PASSED) and stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
            if time.monotonic() > deadline:
                raise DatasetError(f"{path}: a pipe that nothing writes to; start what writes it, or give a file")
            time.sleep(0.05)
            first = file.read(1)
        os.set_blocking(file.fileno(), True)
        return (first or b"") + file.readall()
