"""Shared by the commands: exit codes, and printing on the terminal."""

from __future__ import annotations

import errno
import sys
from collections.abc import Collection, Iterable, Sequence
from enum import Enum
from typing import Any

from clipes.io.retry import FULL, PASSING

from .progress import ProgressLines

DONE, WRONG_USE, FAILED, DISK_FULL, DEVICE_LOST, FILES_LOST, READ_ONLY = 0, 2, 3, 4, 5, 6, 7
INTERRUPTED, TERMINATED = 130, 143
EXIT_CODES = (
    "Exit codes: 0 done, 2 wrong use, 3 images failed (the others are done) or nothing was written, 4 disk full, "
    "5 GPU lost, 6 a file system does not answer, 7 a file system is read-only, 130 interrupted, 143 terminated."
)
FAILURES_SHOWN = 20


_CODES = {
    **dict.fromkeys(PASSING, FILES_LOST),
    **dict.fromkeys((*FULL, errno.EFBIG), DISK_FULL),
    errno.EROFS: READ_ONLY,
}
_CURES = {
    DISK_FULL: "make room and start again",
    FILES_LOST: "see that the disk or the network share works, and start again",
    READ_ONLY: "mount it for writing, or choose another folder, and start again",
}


class Verbosity(Enum):
    """How much is printed."""

    QUIET = -1
    NORMAL = 0
    VERBOSE = 1


_verbosity = Verbosity.NORMAL


def set_verbosity(quiet: bool, verbose: bool) -> None:
    """Choose how much this process prints."""
    global _verbosity
    _verbosity = Verbosity.QUIET if quiet else Verbosity.VERBOSE if verbose else Verbosity.NORMAL


def is_verbose() -> bool:
    """Whether each image is reported, and where an error arose."""
    return _verbosity is Verbosity.VERBOSE


def progress_bar(items: Any, total: int, unit: str) -> Any:
    """Iterate over ``items`` with a progress bar; where stderr is no terminal, with a line a minute."""
    from tqdm import tqdm

    hidden = _verbosity is not Verbosity.NORMAL or not sys.stderr
    if not hidden and not sys.stderr.isatty():
        return ProgressLines(items, total, unit, print_error)
    return tqdm(items, total=total, unit=f" {unit}", disable=hidden, smoothing=0.05)


def report_failures(reasons: Sequence[str], count: int | None = None) -> int:
    """Print the first :data:`FAILURES_SHOWN` reasons and the number of other failures; returns the exit code.

    ``count`` is the number of all failures, by default that of the reasons.
    """
    count, shown = len(reasons) if count is None else count, reasons[:FAILURES_SHOWN]
    for reason in shown:
        print_error(reason)
    if count > len(shown):
        print_error(f"and {count - len(shown)} more failed")
    return FAILED if count else DONE


def file_system_fault(error: Exception) -> tuple[int, str]:
    """The exit code of an error that a file system is to blame for, and what to do; WRONG_USE for any other."""
    code = _CODES.get(error.errno or 0, WRONG_USE) if isinstance(error, OSError) else WRONG_USE
    return code, _CURES.get(code, "")


def print_problems(count: int, what: str, first: Sequence[str]) -> None:
    """Print to stderr that there are ``count`` problems of a kind, unless it is 0, and the ``first`` of them."""
    if count:
        print_error(f"{count} {what}{', the first' if count > len(first) else ''}:")
    for line in first:
        print_error(f"  {line}")


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]], left: Collection[str] = ()) -> None:
    """Print rows of cells under their titles, aligned to the right, but to the left under the titles in ``left``."""
    lines = [titles, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = zip(titles, line, widths, strict=True)
        print("  ".join(f"{cell:{'<' if title in left else '>'}{width}}" for title, cell, width in cells).rstrip())


def print_error(text: str) -> None:
    """Print one line to stderr."""
    print(printable(text), file=sys.stderr)


def print_note(text: str) -> None:
    """Print one line to stderr that tells how the work goes, unless this process is to be quiet."""
    if _verbosity is not Verbosity.QUIET:
        print_error(text)


def short(text: object, max_width: int) -> str:
    """``text`` on one line of at most ``max_width`` characters; a longer one is cut and ends in an ellipsis."""
    line = printable(text)
    return line if len(line) <= max_width else f"{line[: max_width - 1]}…"


def printable(text: object) -> str:
    """``text`` on one line: control characters and undecodable bytes of file names are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))
